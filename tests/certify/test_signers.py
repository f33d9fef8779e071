"""Keys held elsewhere: in SoftHSM tokens, and behind securesystemslib's signers with the clouds' own libraries replaced.

No cloud is called here: what is replaced is each cloud's client, and it signs as that service says it does.
"""

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certify import issuer, signers
from certify.envelope import PAYLOAD_TYPE, Envelope, pae, sign
from certify.errors import MissingExtra, WorkspaceError
from certify.keyring import KeyRing
from certify.keys import PublicKey, SigningKey
from certify.rotation import revoke_key, rotate_key
from certify.statement import Run, Statement
from certify.times import format_time, now
from certify.trust import Trust
from certify.workspace import Workspace
from ledger.checkpoint import Checkpoint
from ledger.errors import MissingExtraError, SignerError
from ledger.log_key import LogKey
from ledger.merkle import EMPTY_ROOT
from ledger.pkcs11 import Ed25519TokenKey, TokenKey, TokenReference, generate
from ledger.signed_checkpoint import open_checkpoint
from tests.cases import training
from tests.tokens import PIN, new_key, new_reference, tokens

ORIGIN = "example.com/ledger"


@pytest.fixture(autouse=True)
def pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTIFY_PIN", PIN)


def make(path: Path, **held: str) -> Workspace:
    return Workspace.init(path, origin=ORIGIN, issuer="Clinic", password=None, **held)


def dated_now() -> Statement:
    """A training statement of this moment."""
    time = format_time(now())
    return training(log=ORIGIN, run=Run(token_hex(16), time, time))


def admitted(workspace: Workspace) -> list[str]:
    """Who signed each entry of the log, as a verifier with its trust file sees it."""
    ring = KeyRing(Trust.load(workspace.path / "trust.toml"), now())
    return [ring.admit(one.index, one.envelope, one.statement).key.keyid for one in workspace.statements()]


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
def test_envelope_signed_in_a_token(algorithm: str) -> None:
    key = signers.connect(new_reference(algorithm))
    assert key.public.algorithm == algorithm
    for i in range(16):  # half of all ECDSA signatures have the higher s
        envelope = Envelope.parse(sign(b'{"i":%d}' % i, [key]).data)
        assert envelope.verify([key.public]) == [key.public]


def test_openssl_verifies_what_a_token_signed(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    key = signers.connect(new_reference())
    envelope = sign(b'{"some":"payload"}', [key])
    for name, data in (
        ("message", pae(PAYLOAD_TYPE, envelope.payload)),
        ("signature", envelope.signatures[0].sig),
        ("key.pub", key.public.pem().encode()),
    ):
        (tmp_path / name).write_bytes(data)
    command = [openssl, "dgst", "-sha256", "-verify", "key.pub", "-signature", "signature", "message"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == b"Verified OK\n"


def test_ledger_with_both_keys_in_a_token(tmp_path: Path) -> None:
    issuer_key, log_key = new_reference(), new_reference("ed25519")
    with make(tmp_path / "ledger", issuer_key=issuer_key, log_key=log_key) as workspace:
        workspace.append(workspace.sign(dated_now()))
        assert admitted(workspace) == [signers.connect(issuer_key).public.keyid]
    assert sorted(path.name for path in (tmp_path / "ledger" / "keys").iterdir()) == [
        "issuer.pub",
        "log.seen",
        "vault.json",
    ]
    with Workspace(tmp_path / "ledger") as workspace:
        workspace.append(workspace.sign(dated_now()))
        assert open_checkpoint(workspace.log.checkpoint(), log_keys=workspace.log_keys()).checkpoint.origin == ORIGIN


def test_log_key_in_a_token_beside_an_ml_dsa_key_in_a_file(tmp_path: Path) -> None:
    token = new_key("ed25519")
    held = Ed25519TokenKey(token.reference, lambda: PIN)
    key = LogKey.generate(ORIGIN, post_quantum=True, held=held)
    key.save(tmp_path / "log.pem", None)
    loaded = LogKey.load(tmp_path / "log.pem", ORIGIN, None, held=held)
    note = loaded.sign(Checkpoint(ORIGIN, 0, EMPTY_ROOT), 7)
    assert open_checkpoint(note, log_keys=key.verifier_keys).checkpoint.size == 0
    LogKey.generate(ORIGIN, held=held).save(tmp_path / "none.pem", None)
    assert not (tmp_path / "none.pem").exists()  # there is nothing of it to save
    assert LogKey.load(tmp_path / "none.pem", ORIGIN, None, held=held).verifier_keys == key.verifier_keys[:1]


def test_rotation_from_file_to_token_and_on(tmp_path: Path) -> None:
    first, second = new_reference(), new_reference("ed25519")
    with make(tmp_path / "ledger") as workspace:
        keys = [workspace.issuer_key.public.keyid]
        for held in (first, second, None):
            workspace.append(workspace.sign(dated_now()))
            keys.append(rotate_key(workspace, held=held)[1].keyid)
            assert issuer.reference(workspace.path) == held
            assert workspace.issuer_key.public.keyid == keys[-1]
        assert admitted(workspace) == [key for key in keys[:3] for _ in ("training", "rotation")]
        with pytest.raises(WorkspaceError, match="ended key"):
            rotate_key(workspace, held=first)
        revoke_key(workspace, "retired")
    with Workspace(tmp_path / "ledger") as workspace, pytest.raises(WorkspaceError, match="was revoked"):
        _ = workspace.issuer_key


def test_revoked_token_key_signs_no_longer(tmp_path: Path) -> None:
    with make(tmp_path / "ledger", issuer_key=new_reference()) as workspace:
        revoke_key(workspace, "compromised")
        with pytest.raises(WorkspaceError, match="was revoked"):
            _ = workspace.issuer_key


@pytest.mark.parametrize(
    ("reference", "pin", "match"),
    [
        ("hsm:77?label=Clinic", PIN, "no keys at hsm:77"),
        ("hsm:2?label=Nowhere", PIN, "no tokens labelled 'Nowhere'"),
        ("hsm:2", PIN, "2 tokens of any label"),
        ("hsm:2?label=Other", "999999", "CKR_PIN_INCORRECT"),
        ("hsm:2?label=Other", "1", "the PIN is wrong"),
    ],
)
def test_what_is_missing_is_said(reference: str, pin: str, match: str) -> None:
    tokens()
    with pytest.raises(SignerError, match=match):
        TokenKey(TokenReference.parse(reference), lambda: pin).public_key()


def test_no_pin_is_an_error_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = new_reference()
    monkeypatch.delenv("CERTIFY_PIN")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SignerError, match="set CERTIFY_PIN"):
        signers.connect(reference)


def test_pin_of_the_log_and_pin_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTIFY_PIN", "wrong")
    monkeypatch.setenv("CERTIFY_LOG_PIN", PIN)
    assert signers.log_key(new_reference("ed25519")).public_key()
    monkeypatch.delenv("CERTIFY_PIN")
    (tmp_path / "pin").write_text(PIN + "\n")
    (tmp_path / "pin").chmod(0o600)
    monkeypatch.setenv("CERTIFY_PIN_FILE", str(tmp_path / "pin"))
    assert signers.connect(new_reference()).public


def test_wrong_pin_is_tried_once_and_asked_anew() -> None:
    pins = iter(["0000", PIN])
    made = new_key(label="Other")
    made.close()  # who is logged in by another session needs no PIN
    key = TokenKey(made.reference, lambda: next(pins))
    with pytest.raises(SignerError, match="PIN"):
        key.public_key()
    assert key.sign(b"message")
    key.close()


def test_pin_that_was_changed_meanwhile_is_tried_once() -> None:
    """Else a service that goes on with the old one would lock the token."""
    made = new_key(label="Other")
    made.close()
    key = TokenKey(made.reference, lambda: PIN)
    assert key.sign(b"message")
    key.close()
    key._known_pin = "0000"
    with pytest.raises(SignerError, match="the PIN is wrong"):
        key.sign(b"message")
    assert key.sign(b"message")
    key.close()


def test_log_does_not_take_an_ecdsa_key(tmp_path: Path) -> None:
    with pytest.raises(SignerError, match="expected an Ed25519 one"):
        make(tmp_path / "ledger", log_key=new_reference())
    assert not (tmp_path / "ledger").exists()
    with pytest.raises(SignerError, match="in a file or in a token"):
        signers.log_key("awskms:alias/log")


def test_key_that_is_there_is_not_overwritten() -> None:
    key = new_key()
    with pytest.raises(SignerError, match="there is a key at"):
        generate(key.reference, "ed25519", lambda: PIN)
    with pytest.raises(SignerError, match="not ml-dsa-65"):
        generate(key.reference, "ml-dsa-65", lambda: PIN)


def test_key_that_wants_its_pin_each_time() -> None:
    """CKA_ALWAYS_AUTHENTICATE, as the slot for signatures of PIV cards has it."""
    import PyKCS11 as p

    key = new_key("ed25519")
    session, number = key._connect(), (250,)
    public = [
        (p.CKA_TOKEN, True),
        (p.CKA_PRIVATE, False),
        (p.CKA_ID, number),
        (p.CKA_EC_PARAMS, tuple(b"\x06\x03\x2b\x65\x70")),
    ]
    private = [(p.CKA_TOKEN, True), (p.CKA_PRIVATE, True), (p.CKA_SIGN, True), (p.CKA_ID, number)]
    session.generateKeyPair(
        public, [*private, (p.CKA_ALWAYS_AUTHENTICATE, True)], mecha=p.Mechanism(p.CKM_EC_EDWARDS_KEY_PAIR_GEN, None)
    )
    each_time = TokenKey(TokenReference(250, "Clinic"), lambda: PIN)
    for message in (b"one", b"two"):
        PublicKey.of(each_time.public_key()).verify(each_time.sign(message), message)
    assert each_time._each_time


def test_token_taken_out_and_put_in_again() -> None:
    key = new_key("ed25519")
    assert key.sign(b"before")
    key._session.closeSession()  # what the token forgets
    PublicKey.of(key.public_key()).verify(key.sign(b"after"), b"after")
    key.close()
    key.close()
    assert key.sign(b"after")


@pytest.mark.parametrize("code", ["CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT", "CKR_DEVICE_ERROR"])
def test_token_unplugged_in_the_middle(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is logged, and all goes on when the token is back. SoftHSM cannot be unplugged: its answer is replaced."""
    import PyKCS11

    with make(tmp_path / "ledger", issuer_key=new_reference()) as workspace:
        workspace.append(workspace.sign(dated_now()))
        with monkeypatch.context() as unplugged:

            def removed(*_: object) -> None:
                raise PyKCS11.PyKCS11Error(getattr(PyKCS11, code))

            unplugged.setattr(PyKCS11.Session, "sign", removed)
            with pytest.raises(SignerError, match=code):
                workspace.sign(dated_now())
            with pytest.raises(SignerError, match=code):
                rotate_key(workspace)
        assert workspace.log.size() == 1
        workspace.append(workspace.sign(dated_now()))
        assert len(admitted(workspace)) == 2


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PyKCS11", None)
    with pytest.raises(MissingExtraError, match=r"unlearning-ledger\[hsm\]"):
        TokenKey(TokenReference(2), lambda: PIN).public_key()
    monkeypatch.setitem(__import__("sys").modules, "securesystemslib.signer", None)
    with pytest.raises(MissingExtra, match=r"unlearning-ledger\[hsm\]"):
        signers.connect("awskms:alias/clinic")


@pytest.mark.parametrize(
    ("scheme", "name"), [("awskms", "a"), ("gcpkms", "projects/p"), ("azurekms", "//v.vault.azure.net/keys/k/1")]
)
def test_missing_cloud_libraries_say_what_to_install(scheme: str, name: str) -> None:
    pytest.importorskip("securesystemslib")
    missing = [package for package in ("boto3", "google.cloud.kms", "azure.identity") if _there(package)]
    if missing:
        pytest.skip("a cloud's library is installed")
    with pytest.raises(MissingExtra, match="pip install"):
        signers.connect(f"{scheme}:{name}")


def _there(package: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


# -- references --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["hsm:2", "hsm:7?label=Clinic", "hsm:0?label=a%26b+c", "hsm:300?label=%C3%A9"])
def test_reference_round_trip(text: str) -> None:
    assert TokenReference.parse(text).format() == text
    assert signers.check_reference(text) == text


def test_reference_without_number_is_the_slot_for_signatures() -> None:
    assert TokenReference.parse("hsm:") == TokenReference(2)
    assert TokenReference(300).id_bytes == b"\x01\x2c"
    assert TokenReference(0).id_bytes == b"\0"


# -- clouds ------------------------------------------------------------------------------------------------------------


class Service:
    """What a cloud's key service does, whoever it is: one P-256 key, and digests signed with it."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.asked: list[str] = []

    def sign(self, name: str, digest: bytes) -> bytes:
        self.asked.append(name)
        return self.key.sign(digest, ec.ECDSA(Prehashed(SHA256())))


def aws(service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    import securesystemslib.signer._aws_signer as module
    from cryptography.hazmat.primitives import serialization

    class Client:
        def get_public_key(self, KeyId: str) -> dict[str, Any]:
            return {"PublicKey": service.spki, "SigningAlgorithms": ["ECDSA_SHA_256"]}

        def sign(self, KeyId: str, Message: bytes, MessageType: str, SigningAlgorithm: str) -> dict[str, bytes]:
            assert (MessageType, SigningAlgorithm) == ("DIGEST", "ECDSA_SHA_256")
            return {"Signature": service.sign(KeyId, Message)}

    fakes = {
        "AWS_IMPORT_ERROR": None,
        "boto3": SimpleNamespace(client=lambda name: Client()),
        "BotoCoreError": OSError,
        "ClientError": OSError,
        "serialization": serialization,
    }
    for name, value in fakes.items():
        monkeypatch.setattr(module, name, value, raising=False)
    return "awskms:alias/clinic"


def gcp(service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    import securesystemslib.signer._gcp_signer as module

    class Client:
        def get_public_key(self, request: dict[str, Any]) -> Any:
            return SimpleNamespace(algorithm=12, public_key=SimpleNamespace(data=service.pem))

        def asymmetric_sign(self, request: dict[str, Any]) -> Any:
            return SimpleNamespace(signature=service.sign(request["name"], request["digest"]["sha256"]))

    kms = SimpleNamespace(
        KeyManagementServiceClient=Client, PublicKey=SimpleNamespace(PublicKeyFormat=SimpleNamespace(PEM=1))
    )
    fakes = {"GCP_IMPORT_ERROR": None, "kms": kms, "KEYTYPES_AND_SCHEMES": {12: ("ecdsa", "ecdsa-sha2-nistp256")}}
    for name, value in fakes.items():
        monkeypatch.setattr(module, name, value, raising=False)
    return "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"


def azure(service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    import securesystemslib.signer._azure_signer as module
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    numbers = service.key.public_key().public_numbers()
    place = "//clinic.vault.azure.net/keys/issuer/0123abcd"
    jwk = SimpleNamespace(
        kty="EC", crv="P-256", x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"), kid="https:" + place
    )

    class Crypto:
        def __init__(self, key: str, credential: object) -> None:
            self.name = key

        def sign(self, algorithm: str, digest: bytes) -> Any:
            r, s = decode_dss_signature(service.sign(self.name, digest))
            return SimpleNamespace(signature=r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    curves = SimpleNamespace(p_256="P-256", p_384="P-384", p_521="P-521")
    fakes = {
        "AZURE_IMPORT_ERROR": None,
        "HttpResponseError": OSError,
        "DefaultAzureCredential": object,
        "KeyClient": lambda vault_url, credential: SimpleNamespace(get_key=lambda name: SimpleNamespace(key=jwk)),
        "KeyCurveName": curves,
        "CryptographyClient": Crypto,
        "ec": ec,
        "encode_dss_signature": encode_dss_signature,
        "Encoding": Encoding,
        "PublicFormat": PublicFormat,
        "KEYTYPES_AND_SCHEMES": {"P-256": ("ecdsa", "ecdsa-sha2-nistp256")},
        "SIGNATURE_ALGORITHMS": {"ecdsa-sha2-nistp256": "ES256"},
    }
    for name, value in fakes.items():
        monkeypatch.setattr(module, name, value, raising=False)
    return "azurekms:" + place


CLOUDS = pytest.mark.parametrize("cloud", [aws, gcp, azure])


@CLOUDS
def test_ledger_whose_issuer_signs_in_a_cloud(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("securesystemslib")
    service = Service()
    reference = cloud(service, monkeypatch)
    with make(tmp_path / "ledger", issuer_key=reference) as workspace:
        for _ in range(8):  # half of them have the higher s
            Envelope.parse(workspace.sign(dated_now()).data).verify([PublicKey.of(service.key.public_key())])
        workspace.append(workspace.sign(dated_now()))
        assert admitted(workspace) == [sha256(service.spki).hexdigest()]
    assert len(service.asked) == 9 and reference.partition(":")[2] in service.asked[0]


@CLOUDS
def test_cloud_that_signs_with_another_key(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("securesystemslib")
    service = Service()
    key = signers.connect(cloud(service, monkeypatch))
    service.key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SignerError, match="not of key"):
        key.sign(b"message")


@CLOUDS
def test_clouds_errors_are_ours_and_say_nothing_secret(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("securesystemslib")
    service = Service()
    key = signers.connect(cloud(service, monkeypatch))

    def fail(name: str, digest: bytes) -> bytes:
        raise RuntimeError("denied for token SECRET")

    monkeypatch.setattr(service, "sign", fail)
    with pytest.raises(SignerError, match="nothing was signed") as caught:
        key.sign(b"message")
    assert "SECRET" not in str(caught.value)


def test_key_file_needs_no_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CERTIFY_PIN")
    with make(tmp_path / "ledger") as workspace:
        assert isinstance(workspace.issuer_key, SigningKey)
        assert os.environ.get("CERTIFY_PIN") is None
