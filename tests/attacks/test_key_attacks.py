"""Attacks on keys: changes of them that are forged, stretched or replayed, expired keys, lying tokens, and PINs that leak."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from certify import signers
from certify.errors import CheckpointError, KeyValidityError, RevokedKeyError, UntrustedKeyError, VerificationError
from certify.inputs import write_file
from certify.keyring import CLOCK_SKEW, KeyRing
from certify.keys import PublicKey, SigningKey
from certify.rotation import rotate_key
from certify.statement import Run
from certify.times import format_time
from certify.trust import Trust, TrustedIssuer, TrustedLog
from certify.verifier import verify
from certify.workspace import Workspace
from ledger.checkpoint import Checkpoint
from ledger.errors import SignerError
from ledger.log_key import LogKey
from ledger.merkle import EMPTY_ROOT
from ledger.pkcs11 import Ed25519TokenKey, TokenKey, TokenReference
from tests.cases import (
    NOW,
    Case,
    certificate,
    day,
    key_record,
    operator,
    request,
    revocation,
    rotation,
    stamp,
    training,
)
from tests.tokens import PIN, new_key, new_reference, tokens

OLD = operator().key
NEW = SigningKey.generate("ed25519")
THIRD = SigningKey.generate("ed25519")


def accept(case: Case, trust: Trust | None = None) -> None:
    verify(case.data(), trust or case.trust(), now=NOW)


def refuse(case: Case, error: type[VerificationError], match: str, trust: Trust | None = None) -> None:
    with pytest.raises(error, match=match) as caught:
        accept(case, trust)
    assert type(caught.value) is error


# -- changes of keys ---------------------------------------------------------------------------------------------------


def test_rotation_signed_by_the_new_key_alone() -> None:
    """Whoever has a log's ear would take over an issuer."""
    case = Case()
    case.say(rotation(OLD, NEW), NEW)
    case.say(training(), NEW)
    refuse(case, UntrustedKeyError, "1 signatures, expected 2")
    case = Case()
    case.say(rotation(OLD, NEW), NEW, THIRD)
    refuse(case, UntrustedKeyError, "not one of the trusted")


def windowed(*changes: tuple[SigningKey, SigningKey, str | None], last: SigningKey) -> Case:
    """Rotations with the ends given, then a case by ``last`` on days 10 to 20."""
    case = Case()
    for old, new, end in changes:
        case.say(rotation(old, new, successor=key_record(new, not_after=end)), old, new)
    trained, asked = case.say(training(), last), case.say(request(), last)
    envelope = case.say(certificate(trained, asked), last)
    case.removed[envelope.digest] = (1, 4)
    return case


def test_window_widened_afterwards() -> None:
    """A key's end, once logged, stands: neither the key itself nor the one before it moves it."""
    accept(windowed((OLD, NEW, stamp(30)), last=NEW))
    refuse(windowed((OLD, NEW, stamp(15)), last=NEW), KeyValidityError, "expired on")
    again = windowed((OLD, NEW, stamp(15)), (OLD, NEW, stamp(90)), last=NEW)
    refuse(again, KeyValidityError, "was rotated or revoked")
    itself = windowed((OLD, NEW, stamp(15)), (NEW, NEW, stamp(90)), last=NEW)
    with pytest.raises(VerificationError):
        accept(itself)


def test_each_key_of_a_chain_has_its_own_window_within_what_trust_says() -> None:
    """Keys that are changed every year need ends of their own; only the verifier's end binds them all."""
    yearly = windowed((OLD, NEW, stamp(8)), (NEW, THIRD, stamp(40)), last=THIRD)
    accept(yearly)
    refuse(yearly, KeyValidityError, "expired on", yearly.trust(not_after=day(15)))


def test_expired_key_that_hands_over() -> None:
    """The change is dated day 5, after the key's end."""
    case = windowed((OLD, NEW, stamp(3)), (NEW, THIRD, None), last=THIRD)
    refuse(case, KeyValidityError, "expired on")


def test_revoked_key_used_after_revocation() -> None:
    case = Case()
    trained = case.say(training())
    case.say(revocation(OLD))
    case.say(certificate(trained, case.say(request())))
    refuse(case, KeyValidityError, "rotated or revoked at entry 2")


def test_revoked_key_whose_revocation_is_left_out_of_the_bundle() -> None:
    case = Case()
    trained = case.say(training())
    case.say(revocation(OLD))
    asked = case.say(request())
    envelope = case.say(certificate(trained, asked))
    case.removed[envelope.digest] = (1, 4)
    case.shown.remove(2)
    accept(case)  # the limit that SPEC.md states
    refuse(case, RevokedKeyError, "no quorum of witnesses", case.trust(revoked=day(50)))


def test_rotation_replayed_in_another_log() -> None:
    """The owner of both keys handed over in one log only; in another the old key may still be the one."""
    case = Case()
    replayed = rotation(OLD, NEW, log="example.com/other")
    case.say(replayed, OLD, NEW)
    trained, asked = case.say(training(), NEW), case.say(request(), NEW)
    envelope = case.say(certificate(trained, asked), NEW)
    case.removed[envelope.digest] = (1, 4)
    refuse(case, CheckpointError, "is made for log 'example.com/other'")


# -- expired keys ------------------------------------------------------------------------------------------------------


def two_keys(case: Case, end: int) -> Trust:
    """Trust in an old key until a day, and in a new one: no rotation needs to be shown."""
    trust = case.trust(not_after=day(end))
    return replace(trust, issuers=(*trust.issuers, TrustedIssuer(trust.issuers[0].name, NEW.public)))


def test_expired_key_backdates_after_a_later_entry() -> None:
    """The training claims day 2 to be within the old key's time, but stands after a request dated day 10."""
    case = Case()
    asked = case.say(request(), NEW)
    trained = case.say(training(), OLD)
    envelope = case.say(certificate(trained, asked), NEW)
    case.removed[envelope.digest] = (1, 4)
    refuse(case, KeyValidityError, "signed or logged it too late", two_keys(case, 5))


def test_key_that_signed_in_time_counts_after_it_expired() -> None:
    case = Case()
    trained = case.say(training(), OLD)
    asked = case.say(request(), NEW)
    envelope = case.say(certificate(trained, asked), NEW)
    case.removed[envelope.digest] = (1, 4)
    accept(case, two_keys(case, 5))


def ring_with(*issuers: TrustedIssuer) -> tuple[KeyRing, Case]:
    case = Case()
    return KeyRing(replace(case.trust(), issuers=issuers), NOW), case


def test_another_issuers_dates_end_nobodys_key() -> None:
    """Else anybody in trust.toml could have another's statements refused, by a date far ahead."""
    ring, case = ring_with(TrustedIssuer("Clinic", OLD.public, not_after=day(5)), TrustedIssuer("Hospital", NEW.public))
    later, earlier = request(), training()
    ring.admit(1, case.sign(later, NEW), later)
    assert ring.admit(2, case.sign(earlier, OLD), earlier).issuer == "Clinic"


@pytest.mark.parametrize("late", [timedelta(0), CLOCK_SKEW, CLOCK_SKEW + timedelta(seconds=1)])
def test_expiry_allows_for_clocks_that_differ(late: timedelta) -> None:
    ring, case = ring_with(TrustedIssuer("Clinic", OLD.public, not_after=day(5)), TrustedIssuer("Clinic", NEW.public))
    other, earlier = training(run=Run("0" * 32, stamp(1), format_time(day(5) + late))), training()
    ring.admit(1, case.sign(other, NEW), other)
    if late > CLOCK_SKEW:
        with pytest.raises(KeyValidityError, match="too late"):
            ring.admit(2, case.sign(earlier, OLD), earlier)
    else:
        assert ring.admit(2, case.sign(earlier, OLD), earlier).key == OLD.public


# -- tokens that lie ---------------------------------------------------------------------------------------------------


def test_token_that_returns_another_keys_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught before anything is logged, whether the token errs or somebody pointed the reference elsewhere."""
    monkeypatch.setenv("CERTIFY_PIN", PIN)
    mine, other = new_reference(), new_reference()
    with Workspace.init(
        tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None, issuer_key=mine
    ) as workspace:
        pass
    config = tmp_path / "ledger" / "certify.toml"
    write_file(config, config.read_text().replace(mine, other).encode())
    with Workspace(tmp_path / "ledger") as workspace:
        with pytest.raises(SignerError, match="not of key"):
            workspace.append(workspace.sign(training(log="example.com/ledger")))
        with pytest.raises(SignerError, match="not of key"):
            rotate_key(workspace)
        assert workspace.log.size() == 0
        assert not (tmp_path / "ledger" / "keys" / "next").exists()


@pytest.mark.parametrize(
    "signature", [b"", b"\x30\x00", bytes(64), encode_dss_signature(0, 0), encode_dss_signature(1, 2**256 - 1)]
)
def test_token_that_returns_garbage(signature: bytes) -> None:
    key = signers.HeldKey("hsm:2", OLD.public, lambda message: signature)
    with pytest.raises(SignerError, match="not of key"):
        key.sign(b"message")


def test_log_token_that_returns_another_keys_signature() -> None:
    """A log whose token errs signs no checkpoint, rather than one that nobody can verify."""
    mine, other = new_key("ed25519"), new_key("ed25519")
    key = LogKey("example.com/log", Ed25519TokenKey(mine.reference, lambda: PIN))
    assert key.sign(Checkpoint("example.com/log", 0, EMPTY_ROOT), 0)
    object.__setattr__(key, "ed25519", Ed25519TokenKey(other.reference, lambda: PIN))
    with pytest.raises(SignerError, match="signature of another key"):
        key.sign(Checkpoint("example.com/log", 0, EMPTY_ROOT), 0)


def test_high_s_from_a_token_is_brought_into_the_one_form() -> None:
    """Else somebody could log a second, equally valid envelope that says the same."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(OLD.sign(b"message"))
    high = encode_dss_signature(r, order - s)
    key = signers.HeldKey("hsm:2", OLD.public, lambda message: high)
    assert decode_dss_signature(key.sign(b"message")) == (r, s)


# -- references and PINs -----------------------------------------------------------------------------------------------

HOSTILE = [
    "hsm:2?module-path=/tmp/evil.so",
    "hsm:2?label=Clinic&module-path=/tmp/evil.so",
    "hsm:2?label=Clinic&pin-value=7391",
    "hsm:2?pin=7391",
    "hsm:7391two?label=Clinic",
    "hsm:2?label=a&label=b",
    "hsm:-1",
    "hsm:٣",
    "hsm:9999999999",
    "hsm:2 ",
    "hsm:2\n",
    "pkcs11:token=Clinic?module-path=/tmp/evil.so",
    "file:/etc/passwd?encrypted=false",
    "file2:/etc/passwd",
    "envvar:HOME",
    "gnupg:",
    "sigstore:",
    "hv:key",
    "awskms:alias/x?endpoint=http://evil",
    "awskms:",
    "azurekms://evil.example/keys/k/1",
    "azurekms://evil.example#.vault.azure.net/keys/k/1",
    "azurekms://me:7391@clinic.vault.azure.net/keys/k/1",
    "azurekms://clinic.vault.azure.net/keys/k",
    "azurekms://clinic.vault.azure.net.evil.example/keys/k/1",
    "gcpkms:projects/p#f",
    "x" * 600,
    "",
]


@pytest.mark.parametrize("reference", HOSTILE)
def test_hostile_reference(reference: str) -> None:
    """certify.toml may be written by others than who holds the PIN: it names a key, never a library, a host or a file."""
    with pytest.raises(SignerError) as caught:
        signers.check_reference(reference)
    assert "7391" not in str(caught.value) and "evil" not in str(caught.value)


@pytest.mark.parametrize("module", ["", "libsofthsm2.so", "./evil.so", "/nowhere/evil.so", "/"])
def test_library_is_an_absolute_path_that_the_environment_gives(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one would be searched for, in folders that others can write to."""
    pytest.importorskip("PyKCS11")
    monkeypatch.setenv("PYKCS11LIB", module)
    with pytest.raises(SignerError, match="PYKCS11LIB"):
        TokenKey(TokenReference(2), lambda: PIN).public_key()


def certify(folder: Path, *arguments: str, expect: int, **environment: str) -> str:
    """All that a command prints, on both channels."""
    done = subprocess.run(
        [sys.executable, "-m", "certify", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_pin_is_never_printed(tmp_path: Path) -> None:
    """Right or wrong, in messages or --json, nor written into the ledger."""
    pytest.importorskip("PyKCS11")
    tokens()
    reference = new_reference()
    wrong = "73917391"
    for extra in ([], ["--json"]):
        text = certify(
            tmp_path, "init", "a", "--no-password", "--issuer-key", reference, *extra, expect=55, CERTIFY_PIN=wrong
        )
        assert "CKR_PIN_INCORRECT" in text and wrong not in text
    secret = f"{reference}&pin={wrong}"
    assert wrong not in certify(tmp_path, "init", "a", "--no-password", "--issuer-key", secret, expect=55)
    printed = certify(
        tmp_path, "init", "a", "--no-password", "--issuer-key", reference, "--json", expect=0, CERTIFY_PIN=PIN
    )
    printed += certify(tmp_path, "key", "show", "-l", "a", "--json", expect=0)
    assert f'"{PIN}"' not in printed and json.loads(printed[: printed.index("}") + 1])["keyid"]
    written = [path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.suffix in (".toml", ".pub", ".json")]
    assert written and not any(b'"1234"' in data or b"pin" in data.lower() for data in written)


def test_pin_is_not_in_a_keys_representation() -> None:
    key = new_key()
    key.sign(b"message")
    assert PIN not in repr(key) + repr(signers.HeldKey("hsm:2", PublicKey.of(key.public_key()), key.sign))


# -- logs with several keys --------------------------------------------------------------------------------------------


def test_old_bundles_of_a_log_whose_key_has_changed() -> None:
    """Several [[log]] tables of one origin are alternatives: each names all the keys that its checkpoints carry."""
    case = windowed(last=OLD)
    name = case.operator.log_key.name
    new = LogKey.generate(name, post_quantum=True)
    trust = case.trust()
    both = replace(trust, logs=(TrustedLog(name, new.verifier_keys), *trust.logs))
    accept(case, both)  # an old bundle
    after = replace(case, operator=replace(case.operator, log_key=new))
    accept(after, both)  # a new one
    refuse(after, CheckpointError, "not one of a trusted log", trust)
    only_new = replace(both, logs=both.logs[:1])
    refuse(case, CheckpointError, "not one of a trusted log", only_new)


def test_signatures_of_alternatives_do_not_add_up() -> None:
    """One key of each table is not all the keys of one."""
    case = windowed(last=OLD)
    name = case.operator.log_key.name
    a, b = LogKey.generate(name, post_quantum=True), LogKey.generate(name, post_quantum=True)
    assert a.mldsa44 is not None
    mixed = replace(case, operator=replace(case.operator, log_key=LogKey(name, a.ed25519, b.mldsa44)))
    trust = replace(case.trust(), logs=(TrustedLog(name, a.verifier_keys), TrustedLog(name, b.verifier_keys)))
    accept(replace(case, operator=replace(case.operator, log_key=a)), trust)
    refuse(mixed, CheckpointError, "not one of a trusted log", trust)


def test_trust_file_with_two_keys_of_one_log(tmp_path: Path) -> None:
    old, new = LogKey.generate("a.example/l"), LogKey.generate("a.example/l", post_quantum=True)
    tables = "".join(
        f'[[log]]\norigin = "a.example/l"\nkeys = {json.dumps([key.format() for key in keys.verifier_keys])}\n'
        for keys in (old, new)
    )
    issuer = f'[[issuer]]\nname = "Clinic"\npublic_key = """\n{OLD.public.pem()}"""\n'
    trust = Trust.parse(f"version = 1\n{tables}{issuer}".encode())
    assert [log.keys for log in trust.logs] == [old.verifier_keys, new.verifier_keys]
