"""Statement keys that are held elsewhere: in a PKCS#11 token, or by a cloud's key service through securesystemslib.

A signer reference says where, in ``certify.toml``; the public half lies in ``keys/issuer.pub``, and every signature is checked
against it before it is used::

    issuer_key = "hsm:2?label=Clinic"                                         # PIN from CERTIFY_PIN or a prompt
    issuer_key = "awskms:alias/clinic"                                        # credentials as each cloud's library
    issuer_key = "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"      # finds them
    issuer_key = "azurekms://clinic.vault.azure.net/keys/issuer/0123abcd"

ECDSA P-256 everywhere, Ed25519 in tokens that have it. No reference holds a secret or the path of a library.
"""

import getpass
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from certify import passwords
from certify.errors import MissingExtra, StatementKeyError
from certify.keys import Algorithm, PublicKey
from ledger import pkcs11
from ledger.errors import SignerError
from ledger.pkcs11 import Ed25519TokenKey, TokenKey, TokenReference

CLOUDS = {"awskms": "boto3", "gcpkms": "google-cloud-kms", "azurekms": "azure-identity azure-keyvault-keys"}
"""Schemes, and the packages that each needs beside securesystemslib."""
SCHEMES = (pkcs11.SCHEME, *CLOUDS)
MAX_REFERENCE = 500
_P256 = "ecdsa-sha2-nistp256"


def check_reference(text: str) -> str:
    """``text``, if it names a key held elsewhere. Raises SignerError, without repeating it: it may hold a secret."""
    scheme, _, rest = text.partition(":")
    if len(text) > MAX_REFERENCE or scheme not in SCHEMES:
        raise SignerError(f"not a key held elsewhere: expected one of {', '.join(f'{scheme}:…' for scheme in SCHEMES)}")
    if scheme == pkcs11.SCHEME:
        return TokenReference.parse(text).format()
    if not rest or not text.isascii() or not text.isprintable() or any(c in text for c in " ?#@\\"):
        raise SignerError(f"not a key of {scheme}: expected its name alone, without a query, a password or spaces")
    if scheme == "azurekms" and not _is_azure(text):
        raise SignerError("expected like azurekms://NAME.vault.azure.net/keys/KEY/VERSION")
    return text


def _is_azure(text: str) -> bool:
    """Credentials go to the host that is named, so it has to be Azure's."""
    parts = urlsplit(text)
    host, path = parts.netloc, parts.path.split("/")
    return host.endswith(".vault.azure.net") and path[:2] == ["", "keys"] and len(path) == 4


def pin_for(what: str, *names: str) -> Callable[[], str]:
    """Asks for the PIN of ``what`` when it is needed: in the environment variables ``names``, ``CERTIFY_PIN``, in the file that
    ``CERTIFY_PIN_FILE`` names, at the terminal. Raises SignerError where there is none.
    """

    def ask() -> str:
        for name in (*names, "CERTIFY_PIN"):
            if pin := os.environ.get(name):
                return pin
        if file := os.environ.get("CERTIFY_PIN_FILE"):
            return passwords.from_file(Path(file)).decode(errors="replace")
        if sys.stdin is not None and sys.stdin.isatty() and (pin := getpass.getpass(f"PIN of {what}: ")):
            return pin
        raise SignerError(f"no PIN for {what}: set CERTIFY_PIN or CERTIFY_PIN_FILE, or run this at a terminal")

    return ask


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A statement key held elsewhere. ``sign`` goes there, and returns nothing that ``public`` does not verify."""

    reference: str
    public: PublicKey
    call: Callable[[bytes], bytes] = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Raises SignerError."""
        try:
            signature = self.public.canonical(self.call(message))
            self.public.verify(signature, message)
        except StatementKeyError as error:
            raise SignerError(
                f"{self.reference} returned a signature that is not of key {self.public.keyid[:16]}: nothing was signed. Is it "
                f"another key, or another token of the same label?"
            ) from error
        return signature


def open_key(reference: str, public: PublicKey) -> HeldKey:
    """The key at ``reference``, whose public half is known. Nothing is asked for before the first signature."""
    if check_reference(reference).startswith(f"{pkcs11.SCHEME}:"):
        return HeldKey(reference, public, _token_key(reference).sign)
    return HeldKey(reference, public, _cloud_signer(reference, public))


def connect(reference: str) -> HeldKey:
    """The key at ``reference``, its public half fetched from there. Believe it on first use, as ``certify init`` does."""
    reference = check_reference(reference)
    if reference.startswith(f"{pkcs11.SCHEME}:"):
        key = _token_key(reference)
        return HeldKey(reference, PublicKey.of(key.public_key()), key.sign)
    reference, pem = _import(reference)
    return open_key(reference, PublicKey.from_pem(pem))


def log_key(reference: str) -> Ed25519TokenKey:
    """The log's key at ``reference``: in a token, and Ed25519, as C2SP logs sign with nothing else beside ML-DSA-44."""
    if not check_reference(reference).startswith(f"{pkcs11.SCHEME}:"):
        raise SignerError(
            "a log's key is in a file or in a token ('hsm:…'): key services do not sign notes with Ed25519"
        )
    parsed = TokenReference.parse(reference)
    return Ed25519TokenKey(parsed, pin_for(_token(parsed), "CERTIFY_LOG_PIN"))


def generate(reference: str, algorithm: Algorithm) -> HeldKey:
    """A new key in a token. Key services make theirs with their own tools."""
    if not check_reference(reference).startswith(f"{pkcs11.SCHEME}:"):
        raise SignerError(
            "keys are made here in files and in tokens ('hsm:…'): make others with the service's own tools"
        )
    parsed = TokenReference.parse(reference)
    key = pkcs11.generate(parsed, algorithm, pin_for(_token(parsed)))
    return HeldKey(parsed.format(), PublicKey.of(key.public_key()), key.sign)


def _token_key(reference: str) -> TokenKey:
    parsed = TokenReference.parse(reference)
    return TokenKey(parsed, pin_for(_token(parsed)))


def _token(reference: TokenReference) -> str:
    return f"the token {reference.label!r}" if reference.label is not None else "the token"


# -- clouds, through securesystemslib ----------------------------------------------------------------------------------


def _library() -> Any:
    try:
        import securesystemslib.signer as library
    except ImportError as error:
        raise MissingExtra("expected the package securesystemslib: pip install 'unlearning-ledger[hsm]'") from error
    return library


def _asked(reference: str, call: Callable[[], Any]) -> Any:
    """The clouds' many errors as this package's own. Their text is left out: it can hold credentials."""
    from securesystemslib.exceptions import UnsupportedLibraryError

    try:
        return call()
    except UnsupportedLibraryError as error:
        packages = CLOUDS[reference.partition(":")[0]]
        raise MissingExtra(
            f"expected the packages {packages} beside securesystemslib: pip install {packages}"
        ) from error
    except Exception as error:
        raise SignerError(
            f"{reference}: {type(error).__module__}.{type(error).__name__}; nothing was signed"
        ) from error


def _cloud_signer(reference: str, public: PublicKey) -> Callable[[bytes], bytes]:
    signer: list[Any] = []  # made when first needed: making one may look for credentials

    def sign(message: bytes) -> bytes:
        library = _library()
        if not signer:
            known = library.SSlibKey.from_crypto(public.key, scheme=_P256)
            signer.append(_asked(reference, lambda: library.Signer.from_priv_key_uri(reference, known)))
        return bytes.fromhex(_asked(reference, lambda: signer[0].sign(message)).signature)

    return sign


def _import(reference: str) -> tuple[str, str]:
    """The reference as securesystemslib writes it, and the public key (PEM)."""
    library = _library()
    scheme, _, name = reference.partition(":")
    if scheme == "awskms":
        uri, key = _asked(reference, lambda: library.AWSSigner.import_(name, _P256))
    elif scheme == "gcpkms":
        uri, key = _asked(reference, lambda: library.GCPSigner.import_(name))
    else:
        parts = urlsplit(reference)
        vault, name = parts.netloc.split(".")[0], parts.path.split("/")[2]
        uri, key = _asked(reference, lambda: library.AzureSigner.import_(vault, name))
        if uri != reference:
            raise SignerError(f"the newest version of this key is {uri}: give that one")
    if key.scheme != _P256:
        raise SignerError(f"{reference} is a key for {key.scheme}, expected ECDSA P-256 with SHA-256")
    return uri, key.keyval["public"]
