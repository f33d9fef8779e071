"""The folder of reference strings: what is in it, and how files come in. Nothing gets its name before it is whole and checked.

Ceremony files are known by SHA-256, so that where they are downloaded from needs no trust, and neither does the way.
Those that EZKL makes for development go by a name that cannot be mistaken. ::

    kzg1.srs                  516 bytes, what verifiers need; kept beside every other ceremony file
    kzg11.srs                 the ceremony's: fetch(11, folder), or bring_in(path, folder)
    kzg11.development.srs     whoever made it can forge: develop(11, folder)

A file is written under a hidden name in the same folder, synced, and renamed; what fails leaves nothing behind.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Literal

from circuits import child
from circuits.errors import ProverError, SrsError
from circuits.srs import (
    CEREMONY,
    FOLDERS_VARIABLE,
    MAX_LOGROWS,
    Srs,
    file_name,
    folders_of,
    load,
    parse,
    reduced,
    require_ceremony,
    size_of,
)

MIRRORS = (
    "https://kzg.ezkl.xyz/kzg{logrows}.srs",
    "https://trusted-setup-halo2kzg.s3.eu-central-1.amazonaws.com/perpetual-powers-of-tau-raw-{logrows}",
)
"""Where ezkl 23.0.5 gets the files (the address stands in its binary), and where versions before it did (src/pfsys/srs.rs)."""

SCHEMES = ("https", "http", "file")
_CHUNK = 1 << 16
_PATIENCE = 30.0  # seconds without a byte
_SPOT_CHECKS = 16


class FetchError(SrsError):
    """No mirror gave the file: there is no network, or what came is not the file."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file found under the name of a reference string. ``kind`` is told by its bytes, never by its name.

    ``used`` is False where a folder before this one has a file of that name. ``note`` says what is wrong with it, if anything.
    """

    logrows: int
    path: Path
    size: int
    kind: Literal["ceremony", "development", "unusable"]
    used: bool
    digest: str = ""
    note: str = ""


def destination(environment: Mapping[str, str]) -> Path:
    """The folder that files go to: the first that is looked into. Raises SrsError when the variable names none."""
    folders = folders_of(environment)
    if not folders:
        raise SrsError(f"expected a folder in {FOLDERS_VARIABLE}, got {environment.get(FOLDERS_VARIABLE)!r}")
    return folders[0]


def stored(folders: Sequence[Path]) -> Iterator[Stored]:
    """Every file with the name of a reference string, by logrows; each is read and hashed."""
    for logrows in range(1, MAX_LOGROWS + 1):
        for name in (file_name(logrows), file_name(logrows, development=True)):
            found = [folder / name for folder in folders if (folder / name).is_file()]
            for path in found:
                yield _look_at(path, logrows, used=path is found[0])


def _look_at(path: Path, logrows: int, *, used: bool) -> Stored:
    try:
        srs, size = load(path), path.stat().st_size
        if srs.logrows != logrows:
            return Stored(logrows, path, size, "unusable", used, srs.digest, f"it is of logrows {srs.logrows}")
    except (SrsError, OSError) as reason:
        return Stored(logrows, path, path.stat().st_size, "unusable", used, note=str(reason).removeprefix(f"{path}: "))
    if not srs.development:
        return Stored(logrows, path, size, "ceremony", used, srs.digest)
    note = "not the ceremony's, in spite of its name" if path.name == file_name(logrows) else ""
    return Stored(logrows, path, size, "development", used, srs.digest, note)


def fetch(
    logrows: int, folder: Path, mirrors: Sequence[str] = MIRRORS, *, progress: Callable[[int], None] = lambda done: None
) -> Path:
    """Download the ceremony's file from the first mirror that has it, unless it is there. ``progress`` gets the bytes so far.

    ``{logrows}`` in a mirror's address is replaced. Raises FetchError when none gives it, SrsError when it cannot be stored.
    """
    path = folder / file_name(logrows)
    _of_ceremony(folder, 1)
    srs = _of_ceremony(folder, logrows)
    if srs is None:
        reasons: list[str] = []
        for mirror in mirrors:
            url = mirror.replace("{logrows}", str(logrows))
            try:
                _download(url, path, logrows, progress)
                break
            except FetchError as reason:
                reasons.append(f"{url}: {reason}")
        else:
            raise FetchError(f"cannot fetch {path.name}: {'; '.join(reasons)}")
        srs = load(path)
    _store_reduced(srs, folder)
    return path


def bring_in(path: Path, folder: Path, *, development: bool = False) -> Path:
    """Check a file from elsewhere and copy it into the folder under its name; where it lies then.

    Raises SrsError for what is no reference string, and unless ``development`` for what is not of the ceremony.
    """
    srs = load(path)
    if srs.development and not development:
        raise SrsError(
            f"{path} is not the ceremony's (expected SHA-256 {CEREMONY[srs.logrows]}, {srs.digest} came): whoever made it may "
            "know its secret, and then can forge; --development takes it, for development alone"
        )
    _spot_check(srs, path)
    target = folder / file_name(srs.logrows, development=srs.development)
    there = _of_ceremony(folder, srs.logrows) if not srs.development else load(target) if target.exists() else None
    if there is not None and there.digest != srs.digest:
        raise SrsError(f"{target} is another one, and what was made with it needs it: move it away first")
    if there is None:
        with _placed(target) as file:
            if _copy(srs, file) != srs.digest:
                raise SrsError(f"{path} changed while it was copied")
    if not srs.development:
        _store_reduced(srs, folder)
    return target


def develop(logrows: int, folder: Path, *, seconds: float = 24 * 3600.0) -> Path:
    """A new reference string by ``ezkl.gen_srs``: for development, since whoever ran it can forge. It takes time in
    proportion to 2**logrows: on two cores a second for 11, 20 seconds for 16.

    Raises SrsError when there is one already or the folder cannot be written, ProverError when EZKL fails.
    """
    target = folder / file_name(logrows, development=True)
    if target.exists():
        raise SrsError(f"{target} exists: keys and proofs made with it need it; move it away to make another")
    if find_spec("ezkl") is None:
        raise ProverError("development reference strings are made by EZKL: pip install 'unlearning-ledger[zk]'")
    with child.folder() as work:
        call = child.Call("gen_srs", {"srs_path": "made", "logrows": logrows})
        child.run([call], work, seconds=seconds, error=ProverError)
        srs = load(work / "made")
        _spot_check(srs, target)
        with _placed(target) as file:
            _copy(srs, file)
    return target


def _of_ceremony(folder: Path, logrows: int) -> Srs | None:
    """What has the ceremony's name already. Raises SrsError for another file under it: it is neither used nor overwritten."""
    path = folder / file_name(logrows)
    if not path.exists():
        return None
    try:
        srs = load(path)
    except SrsError as reason:
        raise SrsError(f"{reason}; move it away first") from None
    if srs.development or srs.logrows != logrows:
        raise SrsError(f"{path} exists and is not the ceremony's: move it away first")
    return srs


def _copy(srs: Srs, file: BinaryIO) -> str:
    """The SHA-256 of what was written."""
    hashed = sha256()
    for start in range(0, len(srs.data), _CHUNK):
        chunk = srs.data[start : start + _CHUNK]
        hashed.update(chunk)
        file.write(chunk)
    return hashed.hexdigest()


def _spot_check(srs: Srs, path: Path) -> None:
    """Points from the start to the end are on the curve. Raises SrsError."""
    last = srs.rows - 1
    try:
        for index in sorted({last * step // _SPOT_CHECKS for step in range(_SPOT_CHECKS + 1)}):
            srs.power(index)
            srs.lagrange(index)
    except SrsError as reason:
        raise SrsError(f"{path}: {reason}") from None


def _store_reduced(srs: Srs, folder: Path) -> None:
    """The 516 bytes beside a ceremony's file."""
    target = folder / file_name(1)
    if _of_ceremony(folder, 1) is not None:
        return
    data = reduced(require_ceremony(srs))
    require_ceremony(parse(data))
    with _placed(target) as file:
        file.write(data)


def _download(url: str, target: Path, logrows: int, progress: Callable[[int], None]) -> None:
    size, done, hashed = size_of(logrows), 0, sha256()
    with _placed(target) as file, contextlib.closing(_received(url)) as chunks:
        for chunk in chunks:
            done += len(chunk)
            if done > size:
                raise FetchError(f"expected {size} bytes, more came")
            hashed.update(chunk)
            file.write(chunk)
            progress(done)
        if done != size:
            raise FetchError(f"expected {size} bytes, {done} came")
        if hashed.hexdigest() != CEREMONY[logrows]:
            raise FetchError(f"expected SHA-256 {CEREMONY[logrows]}, the ceremony's, {hashed.hexdigest()} came")


def _received(url: str) -> Generator[bytes, None, None]:
    """What a server sends. Raises FetchError."""
    from urllib.parse import urlsplit  # here, so that looking at a folder stays quick
    from urllib.request import Request, urlopen

    try:
        if urlsplit(url).scheme not in SCHEMES:
            raise FetchError(f"expected an address that begins with {', '.join(SCHEMES)}, got {url!r}")
        request = Request(url, headers={"User-Agent": "unlearning-ledger"})  # some servers refuse Python's own
        with urlopen(request, timeout=_PATIENCE) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
    except (OSError, HTTPException, ValueError) as reason:
        raise FetchError(f"{getattr(reason, 'reason', None) or reason or type(reason).__name__}") from None


@contextlib.contextmanager
def _placed(target: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends well and its bytes are on disk; otherwise nothing is left of it."""
    folder = target.parent
    temporary = folder / f".{target.name}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as reason:
        raise SrsError(
            f"cannot write {target}: {reason.strerror or reason}; {FOLDERS_VARIABLE} names another folder"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
