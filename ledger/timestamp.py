"""RFC 3161 time stamps on checkpoints: somebody besides the log and its witnesses says when a tree existed.

What is stamped is the SHA-256 (or SHA-512) of the checkpoint's note *text*: origin, size and root, a newline after each. Not the
whole note, because cosignatures are added to it later; and the root is what commits to the entries::

    example.com/log
    3
    q3LbtDN1tXJs0IVRzJcVtZ4aEd0u1VIyyHCxxbSpYBs=

What is kept is the authority's whole reply (``TimeStampResp``, a ``.tsr`` file), so that others can check it as well::

    openssl ts -verify -in reply.tsr -data checkpoint-text -CAfile root.pem

Signature, certificates and purpose are checked by rfc3161-client, at the time that the token states: a certificate that has run
out since is fine. Revocation lists are not looked at, nor is the token's copy of the certificate's hash (RFC 5816).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256, sha512
from itertools import pairwise
from typing import TYPE_CHECKING

from ledger.errors import TimestampError

if TYPE_CHECKING:  # importing them takes 50 ms, and most that is verified has no time stamp
    from cryptography.x509 import Certificate, Name
    from rfc3161_client import TimeStampResponse
    from rfc3161_client.tsp import TimeStampTokenInfo

MAX_TIMESTAMP_SIZE = 1 << 16
"""Bytes of a reply. Common authorities send 1 to 8 KB."""
MAX_ACCURACY = timedelta(days=1)
_HASHES = {"2.16.840.1.101.3.4.2.1": sha256, "2.16.840.1.101.3.4.2.3": sha512}
_STATUS = ("granted", "granted with changes", "rejected", "waiting", "revocation warning", "revocation notice")


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A token. Whether to believe it is for :func:`verify` to say.

    ``imprint`` is the hash of what it is over.
    ``time`` is what the authority states, without fractions of a second; ``latest`` the end of that second, and of the accuracy
    that it claims. ``signer`` names the certificate that it says it is signed with; ``names`` are subject and issuer of all its
    certificates, the signer's first.
    """

    data: bytes
    imprint: bytes
    time: datetime
    latest: datetime
    policy: str
    nonce: int | None
    signer: str
    names: "tuple[tuple[Name, Name], ...]"

    def issued_under(self, roots: "Sequence[Certificate]") -> bool:
        """Whether the names in its certificates lead to one of ``roots``: whose token it claims to be, nothing more."""
        reached = set(self.names[0])
        for _ in self.names:
            reached |= {issuer for subject, issuer in self.names if subject in reached}
        return any(root.subject in reached for root in roots)


def read(data: bytes, text: bytes | None) -> Timestamp:
    """An authority's reply, if it grants one token over ``text`` by one signer. Its signature is *not* checked.

    ``text`` None: over whatever it is, to show what it says. Raises TimestampError.
    """
    response = _decode(data)
    try:
        info = response.tst_info
        if text is not None:
            _check_imprint(info, text)
        time, latest = info.gen_time, _latest(info)
        certificates = _certificates(response)
        return Timestamp(
            data,
            info.message_imprint.message,
            time,
            latest,
            info.policy.dotted_string,
            info.nonce,
            certificates[0].subject.rfc4514_string(),
            tuple((certificate.subject, certificate.issuer) for certificate in certificates),
        )
    except TimestampError:
        raise
    except Exception as error:  # whatever a parser of somebody else's bytes may come upon
        raise TimestampError(f"not a time-stamp token: {error}") from error


def verify(
    data: bytes, text: bytes, *, roots: "Sequence[Certificate]", policy: str | None = None, nonce: int | None = None
) -> Timestamp:
    """The token over ``text`` in an authority's reply, if its signature leads to one of ``roots``, by certificates that were
    valid at its time and made for time stamping alone; ``policy`` (an OID) and ``nonce`` where they matter.

    Raises TimestampError.
    """
    from cryptography.x509 import ObjectIdentifier
    from rfc3161_client import VerifierBuilder

    stamp = read(data, text)
    try:
        verifier = VerifierBuilder(
            policy_id=ObjectIdentifier(policy) if policy is not None else None, roots=list(roots), nonce=nonce
        ).build()
        verifier.verify_message(_decode(data), text)
    except Exception as error:  # as above
        raise TimestampError(f"the token of {stamp.signer} does not verify: {error}") from error
    return stamp


def _decode(data: bytes) -> "TimeStampResponse":
    from rfc3161_client import decode_timestamp_response

    if len(data) > MAX_TIMESTAMP_SIZE:
        raise TimestampError(f"a time stamp has {len(data):,} bytes, expected at most {MAX_TIMESTAMP_SIZE:,}")
    try:
        response = decode_timestamp_response(data)
        status, words = response.status, response.status_string
    except Exception as error:
        raise TimestampError(f"not a reply of a time-stamping authority: {error}") from error
    if status:
        what = _STATUS[status] if status < len(_STATUS) else "unknown"
        said = ", ".join(words)[:200]
        raise TimestampError(f"the authority's status is {what!r}{f' ({said})' if said else ''}, expected 'granted'")
    return response


def _check_imprint(info: "TimeStampTokenInfo", text: bytes) -> None:
    imprint = info.message_imprint
    hash_ = _HASHES.get(imprint.hash_algorithm.dotted_string)
    if hash_ is None:
        raise TimestampError(f"a token over hash {imprint.hash_algorithm.dotted_string}, expected SHA-256 or SHA-512")
    expected = hash_(text).digest()
    if imprint.message != expected:
        raise TimestampError(f"a token over {imprint.message.hex()[:128]}, this checkpoint is {expected.hex()}")


def _latest(info: "TimeStampTokenInfo") -> datetime:
    accuracy = timedelta()
    if info.accuracy is not None:
        seconds = min(info.accuracy.seconds or 0, 10**9)
        accuracy = timedelta(
            seconds=seconds, milliseconds=info.accuracy.millis or 0, microseconds=info.accuracy.micros or 0
        )
    if accuracy > MAX_ACCURACY:
        raise TimestampError(f"the authority claims an accuracy of {accuracy}, expected at most {MAX_ACCURACY}")
    whole = -(-accuracy // timedelta(seconds=1))
    return info.gen_time + timedelta(seconds=whole + 1)


def _certificates(response: "TimeStampResponse") -> "tuple[Certificate, ...]":
    """The token's certificates, the signer's first."""
    from cryptography.x509 import load_der_x509_certificate

    signed = response.signed_data
    signers = list(signed.signer_infos)
    if len(signers) != 1:
        raise TimestampError(f"a token with {len(signers)} signers, expected one")
    found = list(map(load_der_x509_certificate, sorted(signed.certificates)))
    own = [item for item in found if (item.issuer, item.serial_number) == (signers[0].issuer, signers[0].serial_number)]
    if len(own) != 1:
        raise TimestampError(f"a token with {len(own)} certificates of its signer, expected one")
    return (own[0], *(item for item in found if item != own[0]))


# -- DER ---------------------------------------------------------------------------------------------------------------


def in_order(data: bytes) -> bytes:
    """A reply with its token's certificates sorted, as DER asks of a set and not every authority does.

    They are not part of what is signed. Bytes that are no such reply come back as they are, for :func:`read` to refuse.
    """
    try:
        at = 0
        for position in (1, 1, 0):  # from the reply to its token, to the token's content, to the signed data in that
            at = _children(data, at)[position]
        for child in _children(data, at):
            if data[child] == 0xA0:  # certificates
                start, end = _content(data, child)
                places = [*_children(data, child), end]
                parts = sorted(data[a:b] for a, b in pairwise(places))
                return data[:start] + b"".join(parts) + data[end:]
    except IndexError:
        pass
    return data


def _content(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at ``at`` begins and ends."""
    length = data[at + 1]
    start = at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[at + 2 : start], "big")
    if start + length > len(data):
        raise IndexError
    return start, start + length


def _children(data: bytes, at: int) -> list[int]:
    """Where the elements within the element at ``at`` begin."""

    def walk() -> Iterator[int]:
        place, end = _content(data, at)
        while place < end:
            yield place
            _, place = _content(data, place)

    return list(walk())
