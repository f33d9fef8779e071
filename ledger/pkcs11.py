"""Private keys that stay in a PKCS#11 token: an HSM, a smart card, SoftHSM. PKCS #11 2.40, and CKM_EDDSA of 3.0.

A key is named as securesystemslib's HSMSigner names it: its CKA_ID as a number, and the label of its token::

    hsm:2?label=Log+keys

The library that speaks to the token is never part of such a name, which may come from a file that others can write. It is what
the environment says: ``PYKCS11LIB=/usr/lib/softhsm/libsofthsm2.so``, an absolute path.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, Hash

from ledger.errors import MissingExtraError, SignerError

SCHEME = "hsm"
MODULE = "PYKCS11LIB"
DEFAULT_ID = 2
"""What a name without a number means: the slot for signatures of PIV cards (9c)."""

_P256 = bytes.fromhex("06082a8648ce3d030107")
_ED25519 = bytes.fromhex("06032b6570")
_ED25519_NAME = b"\x13\x0cedwards25519"  # CKA_EC_PARAMS as PKCS #11 3.0 first had it
_LOST = {"CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED", "CKR_USER_NOT_LOGGED_IN", "CKR_KEY_HANDLE_INVALID"}
"""What a token says that was taken out and put in again. It is asked once more."""
_ADVICE = {
    "CKR_PIN_INCORRECT": "the PIN is wrong, and tokens lock themselves after a few wrong ones",
    "CKR_PIN_LEN_RANGE": "the PIN is wrong: it has a length that this token never takes",
    "CKR_PIN_LOCKED": "the token has locked itself after wrong PINs: its security officer can unlock it",
    "CKR_TOKEN_NOT_PRESENT": "the token is not there: plug it in",
    "CKR_DEVICE_REMOVED": "the token was taken out",
    "CKR_MECHANISM_INVALID": "the token does not have this kind of key: Ed25519 needs PKCS #11 3.0 (CKM_EDDSA)",
}

Result = TypeVar("Result")
TokenPublic = EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class TokenReference:
    """Where a key is. ``label`` None: in the only token there is."""

    id: int
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> "TokenReference":
        """Raises SignerError, without repeating the text: people have put PINs into such names."""
        scheme, colon, rest = text.partition(":")
        path, _, query = rest.partition("?")
        fields = parse_qsl(query, keep_blank_values=True)
        number = path.isascii() and path.isdigit() and len(path) < 10
        if not (scheme == SCHEME and colon and (number or not path)) or text != text.strip() or not text.isprintable():
            raise SignerError("not a key in a token: expected like 'hsm:2?label=Log+keys'")
        if [name for name, _ in fields] not in ([], ["label"]) or (query and not fields) or ("", "") in fields:
            raise SignerError("a key in a token has no other field than its token's label, like 'hsm:2?label=Log+keys'")
        return cls(int(path) if path else DEFAULT_ID, fields[0][1] if fields else None)

    def format(self) -> str:
        return f"{SCHEME}:{self.id}" + (f"?{urlencode({'label': self.label})}" if self.label is not None else "")

    @property
    def id_bytes(self) -> bytes:
        return self.id.to_bytes((self.id.bit_length() + 7) // 8 or 1, "big")


class TokenKey:
    """A private key in a token: ECDSA P-256 or Ed25519. It connects when it is first used; threads may share it.

    ``pin`` is asked when the token wants it, and the answer is kept in memory only. A wrong one is not tried again: tokens lock
    themselves after a few.
    """

    def __init__(self, reference: TokenReference, pin: Callable[[], str]) -> None:
        self.reference = reference
        self._pin = pin
        self._known_pin: str | None = None
        self._lock = threading.Lock()
        self._session: Any = None
        self._private: Any = None
        self._each_time = False
        self._public: TokenPublic | None = None

    def public_key(self) -> TokenPublic:
        """As the token gives it."""
        with self._lock:
            if self._public is None:
                self._public = _guarded(self.reference, self._read_public)
            return self._public

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature, or an ECDSA one over SHA-256 in DER. Check it: tokens may err. Raises SignerError."""
        public = self.public_key()
        with self._lock:
            try:
                return _guarded(self.reference, lambda: self._sign(public, message))
            except _LostError:
                self._session = None
                return _guarded(self.reference, lambda: self._sign(public, message))

    def close(self) -> None:
        with self._lock:
            if self._session is not None:
                session, self._session = self._session, None
                _guarded(self.reference, session.closeSession)

    def _connect(self) -> Any:
        if self._session is None:
            from PyKCS11 import CKF_RW_SESSION, CKF_SERIAL_SESSION

            library, slot = _find_token(self.reference)
            session = library.openSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
            pin = self._known_pin if self._known_pin is not None else self._pin()
            self._known_pin = None  # until it is known to be right
            try:
                _login(session, pin)
            except BaseException:
                session.closeSession()
                raise
            self._known_pin, self._session, self._private = pin, session, None
        return self._session

    def _find(self, kind: int) -> Any:
        from PyKCS11 import CKA_CLASS, CKA_ID

        session = self._connect()
        found = session.findObjects([(CKA_CLASS, kind), (CKA_ID, tuple(self.reference.id_bytes))])
        if len(found) != 1:
            raise SignerError(
                f"{len(found) or 'no'} keys at {self.reference.format()}, expected one: see 'pkcs11-tool -O'"
            )
        return found[0]

    def _read_public(self) -> TokenPublic:
        from PyKCS11 import CKA_EC_PARAMS, CKA_EC_POINT, CKO_PUBLIC_KEY

        parameters, point = self._connect().getAttributeValue(self._find(CKO_PUBLIC_KEY), [CKA_EC_PARAMS, CKA_EC_POINT])
        return _public(bytes(parameters or ()), bytes(point or ()), self.reference)

    def _sign(self, public: TokenPublic, message: bytes) -> bytes:
        from PyKCS11 import CKM_ECDSA, CKM_EDDSA

        if isinstance(public, Ed25519PublicKey):
            return self._operate(CKM_EDDSA, message)
        digest = Hash(SHA256())
        digest.update(message)
        raw = self._operate(CKM_ECDSA, digest.finalize())
        half = len(raw) // 2  # r and s, each as long as the curve's order
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def _operate(self, mechanism: int, data: bytes) -> bytes:
        from PyKCS11 import (
            CKA_ALWAYS_AUTHENTICATE,
            CKO_PRIVATE_KEY,
            CKU_CONTEXT_SPECIFIC,
            Mechanism,
            PyKCS11Error,
            ckbytelist,
        )

        session = self._connect()
        if self._private is None:
            self._private = self._find(CKO_PRIVATE_KEY)
            (self._each_time,) = session.getAttributeValue(self._private, [CKA_ALWAYS_AUTHENTICATE])
        if not self._each_time:
            return bytes(session.sign(self._private, data, Mechanism(mechanism, None)))
        # The PIN belongs between C_SignInit and C_Sign, which PyKCS11 only has as one call.
        if code := session.lib.C_SignInit(session.session, Mechanism(mechanism, None).to_native(), self._private):
            raise PyKCS11Error(code)
        session.login(self._known_pin, CKU_CONTEXT_SPECIFIC)
        signature = ckbytelist()
        for _ in ("its size", "the signature"):
            if code := session.lib.C_Sign(session.session, ckbytelist(data), signature):
                raise PyKCS11Error(code)
        return bytes(signature)


class Ed25519TokenKey(TokenKey):
    """A key in a token that can sign for a log."""

    def public_key(self) -> Ed25519PublicKey:
        public = super().public_key()
        if not isinstance(public, Ed25519PublicKey):
            raise SignerError(
                f"{self.reference.format()} is an ECDSA key, expected an Ed25519 one: logs sign with nothing else"
            )
        return public


def generate(reference: TokenReference, algorithm: str, pin: Callable[[], str]) -> TokenKey:
    """A new key pair in the token, not extractable. ``algorithm``: ``ecdsa-p256`` or ``ed25519``."""
    kinds = {"ecdsa-p256": ("CKM_EC_KEY_PAIR_GEN", _P256), "ed25519": ("CKM_EC_EDWARDS_KEY_PAIR_GEN", _ED25519)}
    if algorithm not in kinds:
        raise SignerError(f"tokens make {' and '.join(kinds)} keys, not {algorithm}")
    key = TokenKey(reference, pin)
    _guarded(reference, lambda: _generate(key, *kinds[algorithm]))
    return key


def _generate(key: TokenKey, mechanism: str, parameters: bytes) -> None:
    import PyKCS11 as p

    session = key._connect()
    identity = tuple(key.reference.id_bytes)
    if session.findObjects([(p.CKA_ID, identity)]):
        raise SignerError(f"there is a key at {key.reference.format()} already: give another number")
    public = [
        (p.CKA_TOKEN, True),
        (p.CKA_PRIVATE, False),
        (p.CKA_VERIFY, True),
        (p.CKA_ID, identity),
        (p.CKA_EC_PARAMS, tuple(parameters)),
    ]
    private = [
        (p.CKA_TOKEN, True),
        (p.CKA_PRIVATE, True),
        (p.CKA_SENSITIVE, True),
        (p.CKA_EXTRACTABLE, False),
        (p.CKA_SIGN, True),
        (p.CKA_ID, identity),
    ]
    session.generateKeyPair(public, private, mecha=p.Mechanism(getattr(p, mechanism), None))


def _find_token(reference: TokenReference) -> tuple[Any, int]:
    """The loaded library, and the slot of the one token that the reference fits."""
    from PyKCS11 import CKF_TOKEN_INITIALIZED

    library = _library()
    slots = []
    for slot in library.getSlotList(tokenPresent=True):
        token = library.getTokenInfo(slot)
        if token.flags & CKF_TOKEN_INITIALIZED and reference.label in (None, str(token.label).rstrip(" \0")):
            slots.append(slot)
    if len(slots) != 1:
        what = f"labelled {reference.label!r}" if reference.label is not None else "of any label"
        raise SignerError(
            f"{len(slots) or 'no'} tokens {what} are there, expected one: plug it in, or name it by its label"
        )
    return library, slots[0]


def _library() -> Any:
    path = os.environ.get(MODULE, "")
    if not path:
        raise SignerError(f"set {MODULE} to the PKCS#11 library of the token, like /usr/lib/softhsm/libsofthsm2.so")
    if not Path(path).is_absolute() or not Path(path).is_file():
        raise SignerError(f"{MODULE} is {path!r}, expected the absolute path of a PKCS#11 library")
    from PyKCS11 import PyKCS11Lib

    with _loading:
        if path not in _libraries:
            _libraries[path] = PyKCS11Lib().load(path)
        return _libraries[path]


_libraries: dict[str, Any] = {}
_loading = threading.Lock()


def _login(session: Any, pin: str) -> None:
    from PyKCS11 import CKR_USER_ALREADY_LOGGED_IN, PyKCS11Error

    try:
        session.login(pin)
    except PyKCS11Error as error:
        if error.value != CKR_USER_ALREADY_LOGGED_IN:  # by another key of the same token
            raise


class _LostError(SignerError):
    """The token forgot our session."""


def _guarded(reference: TokenReference, call: Callable[[], Result]) -> Result:
    """PKCS#11's errors as this package's own, which say what to do."""
    try:
        from PyKCS11 import PyKCS11Error
    except ImportError as error:
        raise MissingExtraError("expected the package PyKCS11: pip install 'unlearning-ledger[hsm]'") from error
    try:
        return call()
    except PyKCS11Error as error:
        name = str(error).split(" ")[0]
        kind = _LostError if name in _LOST else SignerError
        raise kind(f"{reference.format()}: {_ADVICE.get(name, 'the token refused')} ({name})") from error


def _public(parameters: bytes, point: bytes, reference: TokenReference) -> TokenPublic:
    """From CKA_EC_PARAMS and CKA_EC_POINT. The point is a DER octet string, or, from some tokens, the bytes alone."""
    size = {_P256: 65, _ED25519: 32, _ED25519_NAME: 32}.get(parameters)
    if size is None:
        raise SignerError(f"{reference.format()} is on another curve, expected P-256 or Ed25519")
    if len(point) == size + 2 and point[:2] == bytes([0x04, size]):
        point = point[2:]
    try:
        if parameters == _P256:
            return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
        return Ed25519PublicKey.from_public_bytes(point)
    except ValueError as error:
        raise SignerError(f"{reference.format()} has a public key that cannot be read") from error
