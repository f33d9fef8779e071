"""SHA-256 of files, and the OpenSSF model-signing v1.0 root of a model's files, for look-ups by other tools.

The root (https://model_signing/signature/v1.0, method "files", sha256) is ::

    SHA-256(digest of first file || digest of second file || ...)        raw 32-byte digests, in name order

It binds neither names nor sizes, so it accompanies the tensor root and never replaces it. The order is that of the
reference code, the ``model_signing`` package: paths compare part by part, so ``a/b`` comes before ``a-b``. (The written
specification sorts whole names, where ``a-b`` comes first.)
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Lock

from certify.errors import DigestError

IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""What model_signing leaves out by default, at the top of the folder."""

_BLOCK = 1 << 20

Where = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def sha256_file(path: str | os.PathLike[str], progress: Callable[[int], object] | None = None) -> bytes:
    """SHA-256 of one file, 32 bytes. ``progress`` is called with the bytes read so far. Raises DigestError."""
    hash_ = sha256()
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    done = 0
    try:
        with Path(path).open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            while count := file.readinto(buffer):
                hash_.update(view[:count])
                done += count
                if progress is not None:
                    progress(done)
            after = os.fstat(file.fileno())
    except OSError as reason:
        raise DigestError(f"cannot read {os.fspath(path)}: {reason.strerror}") from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or done != after.st_size:
        raise DigestError(f"{os.fspath(path)} changed while it was hashed: {before.st_size} bytes before, {done} read")
    return hash_.digest()


def hash_files(
    where: Where,
    *,
    ignore: Iterable[str] = IGNORED,
    allow_symlinks: bool = False,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> dict[str, bytes]:
    """name -> SHA-256 of every file in a folder, of one file, or of several files (by their last names), in OMS order.

    ``ignore`` are paths relative to the folder, with all that is below them. ``progress`` is called with the bytes read
    so far of all files. Raises DigestError for no files, a symbolic link, or what is neither file nor folder.
    """
    named = sorted(_named(where, ignore, allow_symlinks).items(), key=lambda item: oms_order(item[0]))
    if not named:
        raise DigestError(f"no files to hash in {where}")
    lock = Lock()
    total = 0

    def hash_one(path: Path) -> bytes:
        last = 0

        def add(done: int) -> None:
            nonlocal last, total
            with lock:
                total += done - last
                last = done
                assert progress is not None
                progress(total)

        return sha256_file(path, None if progress is None else add)

    count = threads or min(os.cpu_count() or 1, 8)
    if count == 1 or len(named) == 1:
        return {name: hash_one(path) for name, path in named}
    pool = ThreadPoolExecutor(count, thread_name_prefix="files")
    try:
        return dict(zip([name for name, _ in named], pool.map(hash_one, [path for _, path in named]), strict=True))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def oms_root(
    where: Where,
    *,
    ignore: Iterable[str] = IGNORED,
    allow_symlinks: bool = False,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> bytes:
    """The model-signing root of a folder or of files: 32 bytes. Arguments and errors are those of hash_files."""
    return oms_root_of(
        hash_files(where, ignore=ignore, allow_symlinks=allow_symlinks, threads=threads, progress=progress)
    )


def oms_root_of(digests: Mapping[str, bytes]) -> bytes:
    """The model-signing root over name -> SHA-256, names with "/" between their parts."""
    return sha256(b"".join(digests[name] for name in sorted(digests, key=oms_order))).digest()


def oms_order(name: str) -> list[str]:
    """Sort key of a file name in the model-signing order."""
    return name.split("/")


def _named(where: Where, ignore: Iterable[str], allow_symlinks: bool) -> dict[str, Path]:
    if not isinstance(where, str | os.PathLike):
        named: dict[str, Path] = {}
        for path in map(Path, where):
            if path.name in named:
                raise DigestError(f"two files are called {path.name!r}, expected unique names")
            named[path.name] = _checked(path, allow_symlinks)
        return named
    top = Path(where)
    if not top.is_dir():
        return {top.name: _checked(top, allow_symlinks)}
    skipped = {top / name for name in ignore}
    named = {}
    for path in sorted(top.rglob("*")):
        if path in skipped or not skipped.isdisjoint(path.parents):
            continue
        if path.is_dir() and (allow_symlinks or not path.is_symlink()):
            continue
        named[path.relative_to(top).as_posix()] = _checked(path, allow_symlinks)
    return named


def _checked(path: Path, allow_symlinks: bool) -> Path:
    if path.is_symlink() and not allow_symlinks:
        raise DigestError(f"{path} is a symbolic link, expected a file")
    if not path.is_file():
        raise DigestError(f"{path} is not a file")
    return path
