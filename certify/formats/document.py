"""Documents: JSON in one form, and DSSE signatures over documents that are never in the log.

Sorted, ASCII, with a line feed at the end: the same case gives the same bytes. Signatures too, where the key is in a file and is
ECDSA (RFC 6979) or Ed25519; a token or a key service draws its own randomness, as ML-DSA does. ::

    {
      "predicateType": "https://slsa.dev/provenance/v1"
    }
"""

import json
from base64 import b64encode
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from certify.envelope import PAYLOAD_TYPE, pae
from certify.keys import SigningKey, StatementSigner

Json = dict[str, Any]


def pretty(value: Json) -> bytes:
    """For people and programs."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def compact(value: Json) -> bytes:
    """On one line, without its end: what is signed, or one of many lines."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=True, allow_nan=False).encode()


def envelope(payload: bytes, signature: bytes, keyid: str) -> Json:
    """A DSSE envelope. Unlike one for the log, of any size."""
    return {
        "payload": b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": keyid, "sig": b64encode(signature).decode()}],
    }


def signed(payload: bytes, key: StatementSigner) -> Json:
    """A payload in a DSSE envelope, signed now. Raises SignerError where the key is elsewhere and does not answer."""
    message = pae(PAYLOAD_TYPE, payload)
    signature = _sign(message, key)
    key.public.verify(signature, message)
    return envelope(payload, signature, key.public.keyid)


def _sign(message: bytes, key: StatementSigner) -> bytes:
    if isinstance(key, SigningKey) and isinstance(key.key, EllipticCurvePrivateKey):
        try:
            return key.public.canonical(key.key.sign(message, ECDSA(SHA256(), deterministic_signing=True)))
        except UnsupportedAlgorithm:  # an OpenSSL before 3.2
            pass
    return key.sign(message)
