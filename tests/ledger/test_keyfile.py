"""Private key files: who may read them, what opens them, and that OpenSSL does too."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import KeyFileError, LedgerError
from ledger.keyfile import is_encrypted, load_keys, save_keys, write_private
from ledger.log_key import LogKey

NAME = "example.com/log"
PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.key"


def openssl(*arguments: str | Path) -> bytes:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the openssl command")
    return subprocess.run([program, *arguments], check=True, capture_output=True).stdout


@pytest.mark.parametrize("post_quantum", [False, True])
@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_log_key_round_trip(file: Path, post_quantum: bool, password: bytes | None) -> None:
    key = LogKey.generate(NAME, post_quantum=post_quantum)
    key.save(file, password)
    assert file.stat().st_mode & 0o7777 == 0o600
    assert is_encrypted(file) == (password is not None)
    assert LogKey.load(file, NAME, password).verifier_keys == key.verifier_keys


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o610, 0o602])
def test_key_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    LogKey.generate(NAME).save(file, b"password")
    file.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}, expected 0600"):
        LogKey.load(file, NAME, b"password")


def test_key_file_is_never_readable_by_others_whatever_the_umask(file: Path) -> None:
    before = os.umask(0)
    try:
        write_private(file, b"secret")
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("password", [None, b"", b"wrong", b"x" * 5000])
def test_wrong_password_is_refused(file: Path, password: bytes | None) -> None:
    LogKey.generate(NAME, post_quantum=True).save(file, b"right")
    with pytest.raises(KeyFileError):
        LogKey.load(file, NAME, password)


@pytest.mark.parametrize("password", [b"", b"x" * 5000])
def test_unusable_password_is_refused_before_a_file_is_made(file: Path, password: bytes) -> None:
    with pytest.raises(KeyFileError, match="password"):
        LogKey.generate(NAME).save(file, password)
    assert not file.exists()


def test_existing_file_is_never_overwritten(file: Path) -> None:
    file.write_bytes(b"something dear")
    with pytest.raises(KeyFileError, match="exists already"):
        LogKey.generate(NAME).save(file, None)
    assert file.read_bytes() == b"something dear"


def test_missing_folder_or_file_is_refused(file: Path) -> None:
    for call in (lambda: load_keys(file, None), lambda: load_keys(file.parent, None)):
        with pytest.raises(KeyFileError):
            call()
    with pytest.raises(KeyFileError, match="cannot create"):
        write_private(file.parent / "none" / "log.key", b"")


def test_key_file_with_other_keys_is_refused(file: Path) -> None:
    save_keys(file, [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()], None)
    with pytest.raises(KeyFileError, match="one Ed25519 key"):
        LogKey.load(file, NAME, None)


def test_openssl_reads_our_encrypted_key(file: Path) -> None:
    key = LogKey.generate(NAME)
    key.save(file, b"password")
    der = openssl("pkey", "-in", file, "-passin", "pass:password", "-pubout", "-outform", "DER")
    assert der.endswith(key.verifier_keys[0].public)


def test_openssl_scrypt_key_loads(file: Path) -> None:
    plain = file.with_suffix(".pem")
    openssl("genpkey", "-algorithm", "ed25519", "-out", plain)
    openssl("pkcs8", "-topk8", "-scrypt", "-in", plain, "-out", file, "-passout", "pass:password")
    file.chmod(0o600)
    der = openssl("pkey", "-in", plain, "-pubout", "-outform", "DER")
    assert is_encrypted(file)
    assert der.endswith(LogKey.load(file, NAME, b"password").verifier_keys[0].public)
    with pytest.raises(KeyFileError):
        LogKey.load(file, NAME, b"wrong")


@st.composite
def garbage(draw: st.DrawFn) -> bytes:
    """PEM blocks with pieces replaced, and anything else."""
    data = draw(st.sampled_from([PEM, PEM * 2, PEM.replace(b"PRIVATE", b"EC PRIVATE"), b"-----BEGIN PRIVATE KEY-----"]))
    data = draw(st.just(data) | st.just(data.replace(b" PRIVATE", b" ENCRYPTED PRIVATE")))
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(max_size=10)) + data[at + draw(st.integers(0, 10)) :]


@given(st.binary() | garbage(), st.sampled_from([None, b"password"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_key_file_is_refused(file: Path, data: bytes, password: bytes | None) -> None:
    file.unlink(missing_ok=True)
    write_private(file, data)
    with suppress(LedgerError):
        load_keys(file, password)
