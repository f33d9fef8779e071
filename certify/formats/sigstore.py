"""Sigstore bundle v0.3 around a signed statement: the same payload and signature, in the wrapping that sigstore's tools know.

::

    {"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{…},
     "verificationMaterial":{"publicKey":{"hint":"<key id>"},"tlogEntries":[]}}

The key is named, not given: whoever verifies has it already. ``tlogEntries`` is empty, because our log is not Rekor. Sigstore's
clients verify ECDSA P-256; other keys are wrapped all the same, for whoever knows them.
"""

import re

from certify.envelope import Envelope
from certify.errors import StatementError
from certify.formats.document import Json, compact, envelope, pretty
from certify.formats.source import Source

_KEYID = re.compile(r"[0-9a-f]{64}")
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def of_certificate(source: Source) -> bytes:
    """The certificate as a file. Raises StatementError where it cannot be wrapped."""
    return pretty(wrap(source.envelope))


def of_statement(statement: Envelope) -> bytes:
    """Any statement on one line."""
    return compact(wrap(statement))


def wrap(statement: Envelope) -> Json:
    """A logged envelope in a bundle. Raises StatementError for two signatures, or for one that does not name its key."""
    keyid = keyid_of(statement)
    return wrapped(envelope(statement.payload, statement.signatures[0].sig, keyid), hint=keyid)


def keyid_of(statement: Envelope) -> str:
    """The id of the one key that signed, as the envelope has it: a hint, until somebody verifies. Raises StatementError."""
    if len(statement.signatures) != 1:
        raise StatementError(
            f"statement {statement.digest[:16]} has {len(statement.signatures)} signatures, expected the one that a sigstore "
            f"bundle holds"
        )
    keyid = statement.signatures[0].keyid
    if keyid is None or not _KEYID.fullmatch(keyid):
        raise StatementError(
            f"statement {statement.digest[:16]} names no key, expected a key id (SHA-256) to name it by"
        )
    return keyid


def wrapped(dsse: Json, *, hint: str) -> Json:
    """A DSSE envelope of one signature in a bundle."""
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": dsse,
    }
