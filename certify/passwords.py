"""Where the password of the key files comes from: the environment, a file it names, or a prompt.

``CERTIFY_PASSWORD`` holds the password, ``CERTIFY_PASSWORD_FILE`` names a file (mode 0600) whose first line it is. Otherwise the
person at the terminal is asked; without a terminal there is none, and an encrypted key is refused with a clear error.
"""

import getpass
import os
import sys
from pathlib import Path

from certify.errors import InputError
from ledger.keyfile import read_private


def from_environment() -> bytes | None:
    """The password that the environment gives, if any."""
    if (value := os.environ.get("CERTIFY_PASSWORD")) is not None:
        return value.encode()
    if file := os.environ.get("CERTIFY_PASSWORD_FILE"):
        return from_file(Path(file))
    return None


def from_file(path: Path) -> bytes:
    """The first line of a file that only its owner can read."""
    return read_private(path).split(b"\n", 1)[0].rstrip(b"\r")


def obtain(prompt: str, *, confirm: bool = False) -> bytes | None:
    """From the environment, else from the terminal, else None. ``confirm`` asks twice, for a new password."""
    password = from_environment()
    if password is None and sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass(prompt + ": ").encode()
        if confirm and getpass.getpass("again: ").encode() != password:
            raise InputError("the two passwords differ")
    return password
