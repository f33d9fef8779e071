"""Weights in safetensors files, read strictly and hashed without torch.

A file is ``u64-LE N || N bytes of JSON || data`` (https://huggingface.co/docs/safetensors), for example ::

    {"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}

Stricter than the format's own reader: no duplicate keys, no unknown fields, and the tensors cover the data exactly.
A model is one file, several, a folder, or the ``*.safetensors.index.json`` of a sharded one.

Tied weights are stored once. ``save_model`` notes the names it dropped in ``__metadata__``: a key other than "format"
that names no tensor, and whose value is the name of a tensor in that file, is a tensor of that name with the same
content. Other writers drop names silently (transformers does); ``tied`` gives these, as dropped name -> stored name.
"""

import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import Any

from certify.chunks import CHUNK, Buffer, ByteSource, Progress
from certify.digest import DTYPE_BITS, MAX_DIMS, Manifest, TensorSource, check_tensor, hash_tensors, tensor_bytes
from certify.errors import DigestError
from certify.wire import check_depth

MAX_HEADER = 100_000_000
INDEX_SUFFIX = ".safetensors.index.json"

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's place in the data of a file: bytes lo to hi, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header: tensors in the order of their bytes, and dropped name -> stored name of tied ones."""

    tensors: tuple[StoredTensor, ...]
    tied: Mapping[str, str]


def digest_weights(
    paths: Paths,
    *,
    tied: Mapping[str, str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    mapped: bool = True,
) -> Manifest:
    """Hash the model in these files. Raises DigestError, also when a file changes meanwhile."""
    with open_tensors(paths, tied=tied, mapped=mapped) as sources:
        return hash_tensors(sources, threads=threads, progress=progress)


@contextmanager
def open_tensors(
    paths: Paths, *, tied: Mapping[str, str] | None = None, mapped: bool = True
) -> Iterator[list[TensorSource]]:
    """The tensors of these files, ready for hash_tensors; readable inside the context only.

    Files are mapped into memory, read-only. A file on a mapping that another process truncates *while a byte past its
    new end is being read* ends this process (SIGBUS); ``mapped=False`` reads it instead, some 10 % slower, and raises.
    Raises DigestError on leaving when a file's size, time or inode changed since it was opened.
    """
    files, expected = _resolve(paths)
    with ExitStack() as stack:
        sources: dict[str, TensorSource] = {}
        found: dict[str, str] = {}  # dropped name -> stored name
        opened: list[_WeightFile] = []
        for path in files:
            file = stack.enter_context(_opened(path, mapped=mapped))
            opened.append(file)
            header = file.header()
            names = {tensor.name for tensor in header.tensors}
            if expected is not None:
                _check_index(path, names, set(header.tied), expected[path])
            for tensor in header.tensors:
                _add(sources, file.source(tensor), path)
            for dropped, stored in header.tied.items():
                _add(sources, _renamed(sources[stored], dropped), path)
            found.update(header.tied)
        for dropped, stored in (tied or {}).items():
            if found.get(dropped) == stored:
                continue
            if stored not in sources:
                raise DigestError(f"{dropped!r} is said to be tied to {stored!r}, which no file holds")
            if dropped in sources:
                raise DigestError(f"{dropped!r} is said to be tied to {stored!r}, but a file holds it by itself")
            sources[dropped] = _renamed(sources[stored], dropped)
        yield list(sources.values())
        for file in opened:
            file.check_unchanged()


def parse_header(data: bytes, length: int) -> Header:
    """Parse the JSON of a header; ``length`` is the number of bytes that follow it. Raises DigestError."""
    if data[:1] != b"{":
        raise DigestError(f"safetensors header begins with {data[:1]!r}, expected '{{'")
    check_depth(data, what="safetensors header", error=DigestError)
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except DigestError:
        raise
    except (ValueError, RecursionError) as reason:
        raise DigestError(f"safetensors header is not JSON: {reason}") from None
    metadata = value.pop("__metadata__", {})
    if type(metadata) is not dict or not all(type(text) is str for text in metadata.values()):
        raise DigestError("safetensors __metadata__ must be an object of strings")
    tensors = sorted((_tensor(name, entry) for name, entry in value.items()), key=lambda t: (t.lo, t.hi))
    end = 0
    for tensor in tensors:
        if tensor.lo != end:
            kind = "a hole" if tensor.lo > end else "an overlap"
            raise DigestError(f"{kind} before {tensor.name!r}: expected it at byte {end}, it is at {tensor.lo}")
        end = tensor.hi
    if end != length:
        raise DigestError(f"expected {end} bytes of tensors after the header, {length} are there")
    names = {tensor.name for tensor in tensors}
    tied = {key: text for key, text in metadata.items() if key != "format" and text in names and key not in names}
    return Header(tuple(tensors), tied)


def _tensor(name: str, entry: Any) -> StoredTensor:
    if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise DigestError(f"{name!r}: expected dtype, shape and data_offsets, {str(entry)[:80]} came")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in DTYPE_BITS:
        raise DigestError(f"{name!r} has dtype {str(dtype)[:40]!r}, expected one of {', '.join(DTYPE_BITS)}")
    if not _is_counts(shape) or len(shape) > MAX_DIMS:
        raise DigestError(f"{name!r} has shape {str(shape)[:80]}, expected at most {MAX_DIMS} whole numbers")
    if not _is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise DigestError(f"{name!r} has data_offsets {str(offsets)[:80]}, expected [begin, end]")
    lo, hi = offsets
    check_tensor(name, dtype, tuple(shape), tensor_bytes(name, dtype, shape))
    check_tensor(name, dtype, tuple(shape), hi - lo)
    return StoredTensor(name, dtype, tuple(shape), lo, hi)


def _is_counts(value: Any) -> bool:
    return type(value) is list and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise DigestError(f"key {next(key for key in keys if keys.count(key) > 1)!r} comes twice, expected once")
    return value


def _no_constant(text: str) -> Any:
    raise DigestError(f"{text} is not JSON")


def _add(sources: dict[str, TensorSource], source: TensorSource, path: Path) -> None:
    if source.name in sources:
        raise DigestError(f"{path.name}: tensor {source.name!r} is there already, expected unique names")
    sources[source.name] = source


def _renamed(source: TensorSource, name: str) -> TensorSource:
    return TensorSource(name, source.dtype, source.shape, source.data, source.content)


def _resolve(paths: Paths) -> tuple[list[Path], dict[Path, set[str]] | None]:
    """The files to read and, where an index names them, the tensors expected in each."""
    if not isinstance(paths, str | os.PathLike):
        files = [Path(path) for path in paths]
        if len(files) != 1:
            return files, None
        paths = files[0]
    path = Path(paths)
    if path.is_dir():
        indexes = sorted(path.glob("*" + INDEX_SUFFIX))
        files = sorted(path.glob("*.safetensors"))
        if len(indexes) > 1:
            raise DigestError(f"{path} holds {len(indexes)} indexes, expected one: name the one that is meant")
        if not indexes:
            if not files:
                raise DigestError(f"{path} holds no .safetensors file")
            return files, None
        listed = _read_index(indexes[0])
        beside = [file.name for file in files if file not in listed]
        if beside:
            raise DigestError(f"{indexes[0].name} does not list {beside[0]!r}: name the index or the files meant")
        return list(listed), listed
    if path.name.endswith(INDEX_SUFFIX):
        listed = _read_index(path)
        return list(listed), listed
    return [path], None


def _read_index(path: Path) -> dict[Path, set[str]]:
    """``{"metadata":{…},"weight_map":{"w":"model-00001-of-00002.safetensors"}}`` as file -> names."""
    try:
        size = path.stat().st_size
        if size > MAX_HEADER:
            raise DigestError(f"{path.name} has {size} bytes, expected at most {MAX_HEADER}")
        data = path.read_bytes()
        check_depth(data, what=path.name, error=DigestError)
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except OSError as reason:
        raise DigestError(f"cannot read {path}: {reason.strerror}") from None
    except (ValueError, RecursionError) as reason:
        raise DigestError(f"{path.name} is not JSON: {reason}") from None
    if type(value) is not dict or not set(value) <= {"metadata", "weight_map"} or not value.get("weight_map"):
        raise DigestError(f"{path.name}: expected an object of metadata and weight_map")
    if type(value["weight_map"]) is not dict:
        raise DigestError(f"{path.name}: expected weight_map to be an object of file names")
    files: dict[Path, set[str]] = {}
    for name, file in sorted(value["weight_map"].items()):
        if type(file) is not str or not file.endswith(".safetensors") or set(file) & set("/\\:\0"):
            raise DigestError(f"{path.name}: {name!r} is in {str(file)[:80]!r}, expected a plain .safetensors name")
        files.setdefault(path.parent / file, set()).add(name)
    return files


def _check_index(path: Path, names: set[str], tied: set[str], expected: set[str]) -> None:
    """The index lists every tensor of the file and nothing more; tied names may be listed or not."""
    for name in sorted(expected - names - tied):
        raise DigestError(f"the index says {name!r} is in {path.name}, which does not hold it")
    for name in sorted(names - expected):
        raise DigestError(f"{path.name} holds {name!r}, which the index does not list there")


class _WeightFile:
    """An open file: its header, its bytes, and what it looked like when it was opened."""

    def __init__(self, path: Path, fd: int, data: mmap.mmap | None) -> None:
        self.path, self.fd, self.map = path, fd, data
        self.before = _identity(os.fstat(fd))
        self.size = os.fstat(fd).st_size
        self.start = 0  # of the data, once the header is read
        self.scratch = local()

    def header(self) -> Header:
        try:
            if self.size < 8:
                raise DigestError(f"safetensors file has {self.size} bytes, expected at least 8")
            length = int.from_bytes(self.fetch(0, 8), "little")
            if length > min(MAX_HEADER, self.size - 8):
                limit = min(MAX_HEADER, self.size - 8)
                raise DigestError(f"safetensors header claims {length} bytes, expected at most {limit}")
            self.start = 8 + length
            return parse_header(self.fetch(8, self.start), self.size - self.start)
        except DigestError as reason:
            raise DigestError(f"{self.path.name}: {reason}") from None

    def fetch(self, lo: int, hi: int) -> bytes:
        """A copy of bytes lo to hi."""
        os.lseek(self.fd, lo, os.SEEK_SET)
        data = b""
        while len(data) < hi - lo and (more := os.read(self.fd, hi - lo - len(data))):
            data += more
        return data

    def source(self, tensor: StoredTensor) -> TensorSource:
        start = self.start + tensor.lo
        read = self.view if self.map is not None else self.pread
        data = ByteSource(
            tensor.hi - tensor.lo,
            lambda lo, hi: read(start + lo, start + hi),
            piece=8 * CHUNK if self.map is not None else CHUNK,
        )
        return TensorSource(tensor.name, tensor.dtype, tensor.shape, data, (self.path, tensor.lo, tensor.hi))

    def view(self, lo: int, hi: int) -> Buffer:
        if os.fstat(self.fd).st_size != self.size:  # reading past the end would end the process
            self.check_unchanged()
        assert self.map is not None
        with memoryview(self.map) as whole:
            return whole[lo:hi]

    def pread(self, lo: int, hi: int) -> Buffer:
        """Read into this thread's one buffer, which stays in the processor's cache."""
        if not hasattr(self.scratch, "buffer"):
            self.scratch.buffer = memoryview(bytearray(CHUNK))
        buffer: memoryview = self.scratch.buffer[: hi - lo]
        done = 0
        while done < hi - lo:
            try:
                count = os.preadv(self.fd, [buffer[done:]], lo + done)
            except OSError as reason:
                raise DigestError(f"cannot read {self.path}: {reason.strerror}") from None
            if not count:
                raise DigestError(f"{self.path.name} was truncated while it was hashed: it ends at {lo + done}")
            done += count
        return buffer

    def check_unchanged(self) -> None:
        after = _identity(os.fstat(self.fd))
        try:
            named = _identity(self.path.stat())
        except OSError:
            raise DigestError(f"{self.path.name} was removed while it was hashed") from None
        if after != self.before or named != self.before:
            raise DigestError(
                f"{self.path.name} changed while it was hashed: expected (device, inode, size, mtime) "
                f"{self.before}, {named if after == self.before else after} came"
            )


def _identity(stat: os.stat_result) -> tuple[int, int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


@contextmanager
def _opened(path: Path, *, mapped: bool) -> Iterator[_WeightFile]:
    if not path.is_file():
        raise DigestError(f"{path} is not a file")
    with ExitStack() as stack:
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            stack.callback(os.close, fd)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            # An empty file cannot be mapped, and is refused when its header is read.
            data = None
            if os.fstat(fd).st_size and (mapped or not hasattr(os, "preadv")):
                data = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
                stack.callback(_close, data)
                if hasattr(mmap, "MADV_SEQUENTIAL"):
                    data.madvise(mmap.MADV_SEQUENTIAL)
        except OSError as reason:
            raise DigestError(f"cannot read {path}: {reason.strerror}") from None
        yield _WeightFile(path, fd, data)


def _close(data: mmap.mmap) -> None:
    with suppress(BufferError):  # a failing reader's traceback may still hold a view: it goes when that goes
        data.close()
