"""SoftHSM tokens for tests: one folder a process, away from any real token."""

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from ledger.pkcs11 import TokenKey, TokenReference, generate

PIN = "1234"
_LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
_numbers = itertools.count(100)


@cache
def tokens() -> Path:
    """The folder. Sets the environment that the library reads when it is first loaded, so that it is never another."""
    pytest.importorskip("PyKCS11", reason="needs the package PyKCS11: pip install 'unlearning-ledger[hsm]'")
    library = next((path for path in _LIBRARIES if Path(path).exists()), None)
    if library is None or shutil.which("softhsm2-util") is None:
        pytest.skip("needs SoftHSM: apt install softhsm2")
    folder = Path(tempfile.mkdtemp(prefix="softhsm."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ |= {"SOFTHSM2_CONF": str(conf), "PYKCS11LIB": library}
    make_token("Clinic")
    make_token("Other")
    return folder


def make_token(label: str) -> None:
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "56785678"]
    subprocess.run(command, check=True, capture_output=True)


def new_key(algorithm: str = "ecdsa-p256", label: str = "Clinic") -> TokenKey:
    """A key in a token, under a number of its own."""
    tokens()
    return generate(TokenReference(next(_numbers), label), algorithm, lambda: PIN)


def new_reference(algorithm: str = "ecdsa-p256", label: str = "Clinic") -> str:
    return new_key(algorithm, label).reference.format()
