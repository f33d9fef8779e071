"""Where a ledger is: a folder, or a URL that stands for the folder that was connected to it (:mod:`certify.connect`).

For each URL there is a small file in the user's data folder, which holds the path::

    ~/.local/share/unlearning-ledger/connected/https%3A%2F%2Flog.example%2Fledger
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from certify.errors import WorkspaceError
from certify.inputs import read_file, write_file
from ledger.http import checked_url, is_url

_MAX_NAME = 200
_MAX_PATH = 4096
_BROKEN_URL = re.compile(r"(https?):/+(.+)", re.IGNORECASE)
"""What pathlib makes of a URL: it takes two slashes for one."""


def folder_of(ledger: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of a ledger. Raises WorkspaceError for a URL that nothing was connected to."""
    url = _url(ledger)
    if url is None:
        return Path(ledger)
    note = _note(url, environment)
    if not note.exists():
        raise WorkspaceError(f"nothing is connected to {url} yet: certify connect {url} --help")
    return Path(os.fsdecode(read_file(note, _MAX_PATH)))


def remember(url: str, folder: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Let ``url`` stand for ``folder``, unless it stands for another that is still there. Returns the one it stands for."""
    note = _note(checked_url(url), environment)
    if note.exists():
        known = Path(os.fsdecode(read_file(note, _MAX_PATH)))
        if known != folder and (known / "certify.toml").exists():
            return known
    note.parent.mkdir(parents=True, exist_ok=True)
    write_file(note, os.fsencode(folder))
    return folder


def default_folder(origin: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where a connected ledger is kept, if nobody says otherwise: by the log's origin."""
    return _data(environment) / "ledgers" / quote(origin, safe="")[:_MAX_NAME]


def _url(ledger: str | os.PathLike[str]) -> str | None:
    text = os.fspath(ledger)
    match = _BROKEN_URL.fullmatch(text)
    if match is None or (not is_url(ledger) and Path(text).exists()):
        return None
    return checked_url(f"{match[1].lower()}://{match[2]}")


def _note(url: str, environment: Mapping[str, str]) -> Path:
    name = quote(url, safe="")
    if len(name) > _MAX_NAME:
        raise WorkspaceError(f"expected a shorter URL, got one of {len(url)} characters")
    return _data(environment) / "connected" / name


def _data(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_DATA_HOME")
    home = Path(environment.get("HOME") or Path.home())
    return (Path(base) if base and Path(base).is_absolute() else home / ".local" / "share") / "unlearning-ledger"
