"""Attacks by whoever hands over a bundle, with time stamps that show less than they seem to; and by authorities that are asked.

Each token is genuine in all but one thing, and the same token without that thing is accepted.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import HashAlgorithm

from certify import seen, timestamping
from certify.bundle import MAX_TIMESTAMPS, Bundle
from certify.errors import BundleError, RevokedKeyError, TimestampError
from certify.trust import TrustedAuthority
from certify.verifier import Report, verify
from ledger import timestamp
from ledger.checkpoint import Checkpoint
from ledger.errors import TimestampError as TokenError
from tests.authority import Authority, soon, tlv
from tests.cases import NOW, day, operator, usual_case

CASE = usual_case()
TEXT = timestamping.checkpoint_text(CASE.note())
REVOKED = CASE.trust(revoked=day(50))
"""What attacks are after: a revoked key that counts, because a time stamp says that its statements are older."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The attacker's own authority, with names of its own; ``twin`` has the names of the trusted one."""
    return Authority(tmp_path_factory.mktemp("own"), title="Own Time")


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("twin"))


def bundle(*tokens: bytes) -> Bundle:
    return replace(CASE.bundle(), timestamps={sha256(token).hexdigest(): token for token in tokens})


def accept(authority: Authority, *tokens: bytes, now: datetime = NOW) -> Report:
    """By somebody who believes ``authority`` alone."""
    believed = TrustedAuthority("Example Time", (authority.root,))
    return verify(bundle(*tokens).to_bytes(), replace(REVOKED, authorities=(believed,)), now=now)


def refuse(authority: Authority, token: bytes, match: str, error: type[Exception] = TimestampError, **how: Any) -> None:
    with pytest.raises(error, match=match) as caught:
        accept(authority, token, **how)
    assert type(caught.value) is error


def test_without_any_of_these_it_is_accepted(authority: Authority) -> None:
    assert accept(authority, authority.stamp(TEXT, at=day(30))).grade == "attested"
    with pytest.raises(RevokedKeyError):
        accept(authority)


# -- of something else -------------------------------------------------------------------------------------------------


def test_token_of_an_earlier_checkpoint(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log was stamped before the backdated statements were in it."""
    earlier = replace(CASE, entries=CASE.entries[:2], shown=[])
    token = authority.stamp(timestamping.checkpoint_text(earlier.note()), at=day(30))
    refuse(authority, token, "a token over .*, this checkpoint is")
    monkeypatch.setattr(timestamp, "_check_imprint", lambda *_: None)
    monkeypatch.setattr("rfc3161_client.verify._Verifier.verify_message", lambda *_: True)
    assert accept(authority, token)


def test_token_of_another_logs_checkpoint_of_the_same_tree(authority: Authority) -> None:
    """Same size, same root, another origin."""
    text = Checkpoint.parse(TEXT.decode())
    for other in (replace(text, origin="other.example/log"), replace(text, root=bytes(32)), replace(text, size=99)):
        refuse(authority, authority.stamp(other.format(), at=day(30)), "this checkpoint is")


def test_token_of_the_whole_note_or_the_root(authority: Authority) -> None:
    for data in (CASE.note(), TEXT[:-1], Checkpoint.parse(TEXT.decode()).root):
        refuse(authority, authority.stamp(data, at=day(30)), "this checkpoint is")


def test_hash_that_is_not_accepted(authority: Authority) -> None:
    """SHA-384, which nobody asked for; weaker ones go the same way."""
    query = timestamping_query(TEXT)
    sha384 = query.replace(bytes.fromhex("0609608648016503040201"), bytes.fromhex("0609608648016503040202"))
    digest = sha256(TEXT).digest()
    longer = sha384.replace(b"\x04\x20" + digest, b"\x04\x30" + digest + bytes(16))
    fixed = tlv(0x30, longer[2:].replace(b"\x30\x31\x30\x0d", b"\x30\x41\x30\x0d"))
    refuse(authority, timestamp.in_order(authority.reply(fixed)), "expected SHA-256 or SHA-512")


def timestamping_query(text: bytes) -> bytes:
    from rfc3161_client import TimestampRequestBuilder

    return TimestampRequestBuilder(data=text, hash_algorithm=HashAlgorithm.SHA256).build().as_bytes()


# -- by somebody else --------------------------------------------------------------------------------------------------


def test_authority_of_ones_own(authority: Authority, own: Authority) -> None:
    """It counts for nothing, so that the key stays revoked."""
    refuse(authority, own.stamp(TEXT, at=day(30)), "nor does a time stamp", RevokedKeyError)
    assert accept(own, own.stamp(TEXT, at=day(30)))


def test_authority_of_ones_own_with_the_trusted_ones_names(authority: Authority, twin: Authority) -> None:
    token = twin.stamp(TEXT, at=day(30))
    refuse(authority, token, "not by Example Time: .* does not verify")
    assert accept(twin, token)


def test_genuine_certificate_around_somebody_elses_signature(authority: Authority, twin: Authority) -> None:
    """The token names the trusted signer and has its certificate, and is signed with another key."""
    info = authority.info(timestamp._decode(authority.stamp(TEXT)), day(30))
    signed = authority.sign(info, "-nocerts", "-certfile", "signer.pem")
    assert accept(authority, signed)
    forged = twin.sign(info, "-nocerts", "-certfile", str(authority.folder / "signer.pem"))
    refuse(authority, forged, "0 certificates of its signer")
    theirs, ours = (one.signer.serial_number.to_bytes(20, "big") for one in (authority, twin))
    assert forged.count(ours) == 1
    refuse(authority, forged.replace(ours, theirs), "does not verify")


def test_two_signers(authority: Authority, own: Authority) -> None:
    """A trusted signature beside one's own."""
    refuse(authority, authority.stamp(TEXT, at=day(30), with_signer=own), "2 signers, expected one")
    refuse(authority, own.stamp(TEXT, at=day(30), with_signer=authority), "2 signers, expected one")


def test_another_token_of_an_unknown_authority_does_not_help(authority: Authority, own: Authority) -> None:
    report = accept(authority, authority.stamp(TEXT, at=day(40)), own.stamp(TEXT, at=day(20)))
    assert "All was logged by 2026-02-10T00:00:01Z" in "\n".join(report.limits)


# -- by a certificate that is not for this -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how, match",
    [
        ({"purposes": None}, "does not verify"),
        ({"critical": False}, "does not verify"),
        ({"purposes": [ExtendedKeyUsageOID.CODE_SIGNING]}, "does not verify"),
        ({"purposes": [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING]}, "does not verify"),
        ({"last": day(29)}, "does not verify"),
        ({"first": day(31)}, "does not verify"),
    ],
    ids=["no-usage", "usage-not-critical", "for-code", "for-time-and-code", "expired-at-the-time", "not-valid-yet"],
)
def test_certificate_that_is_not_for_this(tmp_path: Path, how: dict[str, Any], match: str) -> None:
    made = Authority(tmp_path / "made")
    info = made.info(timestamp._decode(made.stamp(TEXT)), day(30))
    made.renew()
    assert accept(made, made.sign(info))
    made.renew(**how)
    refuse(made, made.sign(info), match)


def test_certificate_that_ran_out_later_is_fine(tmp_path: Path) -> None:
    made = Authority(tmp_path / "made", last=day(31))
    assert accept(made, made.stamp(TEXT, at=day(30)))


# -- of another time ---------------------------------------------------------------------------------------------------


def test_time_in_the_future(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    token = authority.stamp(TEXT, at=day(30))
    refuse(authority, token, "in the future", now=day(30) - timedelta(minutes=6))
    assert accept(authority, token, now=day(30) - timedelta(minutes=4))


def test_forged_time(authority: Authority) -> None:
    """The stated time is set back within a genuine token, and so are all other places where it may stand."""
    token = authority.stamp(TEXT, at=day(60))
    late, early = (day(number).strftime("%Y%m%d%H%M%SZ").encode() for number in (60, 30))
    assert token.count(late) == 1
    refuse(authority, token.replace(late, early), "does not verify")
    refuse(authority, token, "nor does a time stamp", RevokedKeyError)


def test_every_bit_flipped(authority: Authority) -> None:
    """Of what is stated; of the rest some. The time never changes."""
    token = authority.stamp(TEXT, at=day(30))
    when = timestamp.verify(token, TEXT, roots=[authority.root]).time
    stated = token.index(day(30).strftime("%Y%m%d%H%M%SZ").encode())
    for place in (*range(stated - 60, stated + 15), *range(0, len(token), 7)):
        for bit in (1, 16, 128):
            changed = bytearray(token)
            changed[place] ^= bit
            try:
                found = timestamp.verify(bytes(changed), TEXT, roots=[authority.root])
            except TokenError:
                continue
            assert found.time == when
            assert not stated - 60 <= place < stated + 15


def test_accuracy_of_years(authority: Authority) -> None:
    """It would let the authority say any time at all; who claims so is not counted."""
    response = timestamp._decode(authority.stamp(TEXT))
    info = authority.info(response, day(30))
    end = info.index(day(30).strftime("%Y%m%d%H%M%SZ").encode()) + 15
    for seconds, fine in (
        (b"\x02\x01\x3c", True),
        (b"\x02\x04\x7f\xff\xff\xff", False),
        (b"\x02\x09" + b"\x7f" * 9, False),
    ):
        head = 3 if info[1] == 0x81 else 2
        token = authority.sign(tlv(0x30, info[head:end] + tlv(0x30, seconds) + info[end:]))
        if fine:
            assert accept(authority, token)
        else:
            refuse(authority, token, "accuracy")


# -- of another form ---------------------------------------------------------------------------------------------------


def test_more_bytes(authority: Authority) -> None:
    token = authority.stamp(TEXT, at=day(30))
    for data in (token + b"\0", token + token, b"\0" + token, token[:-1], b"", token[9:]):
        refuse(authority, data, "not a reply")


def test_status_that_is_not_granted(authority: Authority) -> None:
    token = authority.stamp(TEXT, at=day(30))
    place = token.index(b"\x30\x03\x02\x01\x00") + 4
    for status in (1, 2, 3, 4, 5, 99):
        refuse(authority, token[:place] + bytes([status]) + token[place + 1 :], "expected 'granted'")
    refuse(authority, tlv(0x30, b"\x30\x03\x02\x01\x02"), "rejected")
    refuse(authority, tlv(0x30, b"\x30\x03\x02\x01\x00"), "not a time-stamp token")


def test_signature_over_something_that_is_no_token(authority: Authority) -> None:
    """The authority's key has signed a document; or a token's info under another type."""
    for data in (TEXT, b"", tlv(0x30, b"")):
        refuse(authority, authority.sign(data), "not a time-stamp token|not a reply")
    info = authority.info(timestamp._decode(authority.stamp(TEXT)), day(30))
    authority.write("info", info)
    authority.openssl(
        "cms", "-sign", "-binary", "-nodetach", "-md", "sha256", "-in", "info", "-outform", "DER", "-out", "token",
        "-signer", "signer.pem", "-inkey", "signer.key",
    )  # fmt: skip
    data = (authority.folder / "token").read_bytes()
    refuse(authority, tlv(0x30, tlv(0x30, b"\x02\x01\x00") + data), "not a time-stamp token")


def test_huge_and_many(authority: Authority) -> None:
    huge = bundle(bytes(timestamp.MAX_TIMESTAMP_SIZE + 1))
    with pytest.raises(BundleError, match="expected at most 65,536"):
        verify(huge.to_bytes(), REVOKED, now=NOW)
    many = bundle(*(bytes([number]) for number in range(MAX_TIMESTAMPS + 1)))
    with pytest.raises(BundleError, match="17 time stamps, expected at most 16"):
        verify(many.to_bytes(), REVOKED, now=NOW)


def test_token_under_another_name(authority: Authority) -> None:
    token = authority.stamp(TEXT, at=day(30))
    for name in ("0" * 64, sha256(token).hexdigest().upper(), "x"):
        renamed = replace(CASE.bundle(), timestamps={name: token})
        with pytest.raises(BundleError):
            verify(renamed.to_bytes(), REVOKED, now=NOW)


def test_malformed_certificates_beside_the_signers(tmp_path: Path) -> None:
    """They are read late by the library, and are nobody's to rely on: never a traceback."""
    made = Authority(tmp_path / "made")
    made.send_along(made.root)
    token = timestamp.in_order(made.reply(timestamping_query(TEXT)))
    when = timestamp.verify(token, TEXT, roots=[made.root]).time
    believed = replace(CASE.trust(), authorities=(TrustedAuthority("Example Time", (made.root,)),))
    for place in range(len(token)):
        for bit in (1, 8):
            changed = bytearray(token)
            changed[place] ^= bit
            try:
                found, _ = seen.by_timestamps({"name": bytes(changed)}, TEXT, believed, when)
            except TimestampError:
                continue
            assert found is None or found.time == when + timedelta(seconds=1)


def test_garbage_of_nobody_is_refused_too() -> None:
    """Nothing rides along unchecked, whatever trust.toml says."""
    with pytest.raises(TimestampError, match="not a reply"):
        verify(bundle(b"garbage").to_bytes(), CASE.trust(), now=NOW)


def test_the_check_is_what_refuses(authority: Authority, twin: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    token = twin.stamp(TEXT, at=day(30))
    monkeypatch.setattr(seen.timestamp, "verify", lambda data, text, **_: timestamp.read(data, text))
    assert accept(authority, token)


# -- by an authority that is asked -------------------------------------------------------------------------------------


def ask(authority: Authority, answer: Any, match: str, **how: Any) -> None:
    pytest.importorskip("httpx")
    with authority.serve(answer) as url, pytest.raises(TokenError, match=match):
        timestamping.ask(url, TEXT, **how)


def test_reply_played_back(authority: Authority) -> None:
    """An old, genuine reply over the same checkpoint: its nonce is of the question before."""
    old: list[bytes] = []

    def answer(_: bytes) -> tuple[int, bytes]:
        if not old:
            old.append(authority.reply(timestamping_query(TEXT)))
        return 200, old[0]

    ask(authority, answer, "its nonce is not the one that was sent")


def test_reply_over_something_else(authority: Authority) -> None:
    ask(authority, lambda _: (200, authority.stamp(b"something else")), "this checkpoint is")


def test_reply_by_a_twin(authority: Authority, twin: Authority) -> None:
    trust = replace(CASE.trust(), authorities=(TrustedAuthority("Example Time", (authority.root,)),))
    ask(twin, None, "does not verify", trust=trust)


def test_reply_of_another_day(authority: Authority) -> None:
    for clock in (soon(-3600), soon(3600)):
        ask(authority, None, "one of them is wrong", clock=clock)


def test_reply_that_is_none(authority: Authority) -> None:
    ask(authority, lambda _: (200, b""), "not a reply")
    ask(authority, lambda _: (200, b"<html>"), "not a reply")
    ask(authority, lambda _: (200, bytes(1 << 20)), "more than 65,536 bytes")
    ask(authority, lambda _: (302, b""), "answers 302")
    ask(authority, lambda _: (500, b""), "answers 500")
    ask(authority, lambda _: (200, tlv(0x30, b"\x30\x03\x02\x01\x02")), "rejected")


def test_another_operators_case(authority: Authority) -> None:
    """A token over another case's checkpoint, in this one."""
    other = usual_case(operator("Other", origin="other.example/log"))
    token = authority.stamp(timestamping.checkpoint_text(other.note()), at=datetime(2026, 1, 25, tzinfo=UTC))
    refuse(authority, token, "this checkpoint is")
