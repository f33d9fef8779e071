"""RFC 3161 tokens, with openssl as the authority and as the judge."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from ledger import timestamp
from ledger.checkpoint import Checkpoint
from ledger.errors import TimestampError
from tests.authority import POLICY, Authority

TEXT = Checkpoint("example.com/log", 3, bytes(range(32))).format()
WHEN = datetime(2026, 1, 31, tzinfo=UTC)


def query() -> bytes:
    return TimestampRequestBuilder(data=TEXT, hash_algorithm=HashAlgorithm.SHA256).build().as_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def token(authority: Authority) -> bytes:
    return authority.stamp(TEXT, at=WHEN)


def test_a_token_verifies_and_openssl_agrees(authority: Authority) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    data = authority.stamp(TEXT)
    stamp = timestamp.verify(data, TEXT, roots=[authority.root], policy=POLICY)
    assert before <= stamp.time <= datetime.now(UTC)
    assert (stamp.data, stamp.policy, stamp.signer) == (data, POLICY, "CN=Example Time Signer")
    assert authority.accepts(data, TEXT)
    assert not authority.accepts(data, TEXT + b"\n")


@pytest.mark.parametrize("hash_algorithm", list(HashAlgorithm))
def test_sha256_and_sha512(authority: Authority, hash_algorithm: HashAlgorithm) -> None:
    data = authority.stamp(TEXT, hash_algorithm=hash_algorithm)
    assert timestamp.verify(data, TEXT, roots=[authority.root]).data == data


def test_the_time_is_the_authoritys(authority: Authority, token: bytes) -> None:
    stamp = timestamp.verify(token, TEXT, roots=[authority.root])
    assert (stamp.time, stamp.latest) == (WHEN, WHEN + timedelta(seconds=1))


def test_accuracy_and_fractions_are_counted_upward(tmp_path: Path) -> None:
    authority = Authority(tmp_path, more="accuracy = secs:2, millisecs:500\nclock_precision_digits = 3")
    data = authority.stamp(TEXT)
    stamp = timestamp.verify(data, TEXT, roots=[authority.root])
    assert stamp.latest - stamp.time == timedelta(seconds=4)  # 2.5 seconds, upward, and the second that was cut
    assert authority.accepts(data, TEXT)


def test_certificates_in_any_order_are_put_into_ders(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    in_der = []
    for chain in ((authority.root, other.root), (other.root, authority.root)):
        authority.send_along(*chain)
        sent = authority.reply(query())
        data = timestamp.in_order(sent)
        in_der.append(sent == data)
        assert timestamp.verify(data, TEXT, roots=[authority.root])
        assert authority.accepts(sent, TEXT)
        assert authority.accepts(data, TEXT)
        assert timestamp.in_order(data) == data
        if sent != data:
            with pytest.raises(TimestampError, match="not a reply"):
                timestamp.verify(sent, TEXT, roots=[authority.root])
    assert not all(in_der)


def test_whose_token_it_claims_to_be(authority: Authority, token: bytes, tmp_path: Path) -> None:
    other = Authority(tmp_path, title="Other Time")
    stamp = timestamp.read(token, TEXT)
    assert stamp.issued_under([other.root, authority.root])
    assert stamp.issued_under([authority.signer])
    assert not stamp.issued_under([other.root])


def test_a_signer_can_be_the_root(authority: Authority, token: bytes) -> None:
    """Not without its own root: OpenSSL wants chains to end in a self-signed certificate."""
    with pytest.raises(TimestampError, match="does not verify"):
        timestamp.verify(token, TEXT, roots=[authority.signer])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_the_typed_error(data: bytes) -> None:
    with pytest.raises(TimestampError):
        timestamp.read(data, TEXT)
    assert sorted(timestamp.in_order(data)) == sorted(data)


def test_what_is_too_long_is_not_even_parsed(token: bytes) -> None:
    with pytest.raises(TimestampError, match="expected at most 65,536"):
        timestamp.read(token + bytes(timestamp.MAX_TIMESTAMP_SIZE), TEXT)


@given(data=st.data())
def test_any_change_is_refused_or_changes_nothing_that_counts(
    authority: Authority, token: bytes, data: st.DataObject
) -> None:
    changed = bytearray(token)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(token) - 1))] = data.draw(st.integers(0, 255))
    try:
        stamp = timestamp.verify(bytes(changed), TEXT, roots=[authority.root])
    except TimestampError:
        return
    assert stamp.issued_under([authority.root])
    assert (stamp.time, stamp.latest, stamp.policy) == (WHEN, WHEN + timedelta(seconds=1), POLICY)
