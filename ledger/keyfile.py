"""Private keys on disk: PEM files of PKCS#8 blocks, encrypted, readable by their owner alone.

A file may hold several keys, one block each: the log's Ed25519 key and, beside it, its ML-DSA-44 key. Encryption is
OpenSSL's PBES2 as the cryptography package writes it (AES-256-CBC, PBKDF2 with 2,048 rounds), so the password has to carry
the strength; files that ``openssl pkcs8 -topk8 -scrypt`` rewrote load as well.
"""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger.errors import KeyFileError

MAX_KEY_FILE_SIZE = 1 << 20
MAX_PASSWORD_SIZE = 1023
"""What OpenSSL takes."""
_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----\r?\n?", re.DOTALL)


def write_private(path: Path, data: bytes) -> None:
    """Create ``path`` with mode 0600, complete and on disk or not at all; never over an existing file."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{path} exists already: move it away or name another file") from error
    except OSError as error:
        raise KeyFileError(f"cannot create {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """The bytes of a secret file that nobody but its owner can read."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # no waiting at a pipe
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{path} is not a regular file")
            if status.st_mode & 0o077:
                raise KeyFileError(
                    f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, expected 0600: others can read this secret; "
                    f"run 'chmod 600 {path}' and think about who may have a copy"
                )
            if status.st_size > MAX_KEY_FILE_SIZE:
                raise KeyFileError(f"{path} has {status.st_size:,} bytes: not a key file")
            return file.read()
    except FileNotFoundError as error:
        raise KeyFileError(f"no key file at {path}") from error
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error


def save_keys(path: Path, keys: Sequence[PrivateKeyTypes], password: bytes | None) -> None:
    """Write private keys into a new file; ``password`` None leaves them unencrypted."""
    if password == b"":
        raise KeyFileError("the password is empty: give one, or ask for an unencrypted key file explicitly")
    if password is not None and len(password) > MAX_PASSWORD_SIZE:
        raise KeyFileError(f"the password has {len(password)} bytes, expected at most {MAX_PASSWORD_SIZE}")
    encryption: KeySerializationEncryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    write_private(path, b"".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption) for key in keys))


def is_encrypted(path: Path) -> bool:
    """Whether the key file needs a password."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in read_private(path)


def load_keys(path: Path, password: bytes | None) -> list[PrivateKeyTypes]:
    """The private keys in a file. ``password`` is ignored where a block isn't encrypted."""
    data = read_private(path)
    blocks = [(match.group(0), b"ENCRYPTED" in match.group(1)) for match in _BLOCK.finditer(data)]
    if not blocks:
        raise KeyFileError(f"{path} holds no PEM private key")
    keys: list[PrivateKeyTypes] = []
    for block, encrypted in blocks:
        if encrypted and not password:
            raise KeyFileError(f"{path} is encrypted: a password is needed")
        try:
            keys.append(load_pem_private_key(block, password if encrypted else None))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            reason = "wrong password or damaged file" if encrypted else "damaged or unsupported key"
            raise KeyFileError(f"cannot open {path}: {reason}") from error
    return keys
