"""Tensor root v1: one SHA-256 hash that names a model's weights, wherever they are.

An RFC 6962 tree over the tensors in the order of the UTF-8 bytes of their names. A tensor's entry is ::

    "unlearning-ledger/tensor/v1" 0x00
    u32 length of name   || name, UTF-8
    u32 length of dtype  || dtype, ASCII
    u32 number of dims   || u64 for each
    u64 length of bytes  || 32-byte root of its chunk tree (see certify.chunks)

all big-endian; its bytes are row-major, contiguous and little-endian. Names are unique, and a model with no tensors has
no root. dtypes are those of safetensors (``F32``, ``BF16``, …); where it has none, ``TORCH.`` and torch's own name, for
quantised tensors followed by the quantiser (see certify.state_dict). A shape counts elements, so that one byte of ``F4``
is two of the last dimension, as in safetensors::

    >>> source = TensorSource.of("w", "F32", (2,), bytes(8))
    >>> hash_tensors([source]).root().hex()[:16]
    '270f2a20c137ee67'
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from certify.chunks import Buffer, ByteSource, Progress, chunk_roots
from certify.errors import DigestError
from certify.wire import HASH_SIZE, canonical, decode, read_hash, read_number, read_path
from ledger.errors import ProofError
from ledger.merkle import EMPTY_ROOT, inclusion_path, leaf_hash, root_from_inclusion
from ledger.merkle import root as tree_root

PREFIX = b"unlearning-ledger/tensor/v1\x00"
FORMAT = "unlearning-ledger/tensors/v1"

MAX_NAME = 4096  # bytes
MAX_DIMS = 64  # as many as torch and numpy allow
MAX_MANIFEST = 64 << 20  # bytes of JSON
MAX_PROOF = 1 << 16

DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "I8": 8, "I16": 16, "I32": 32, "I64": 64, "U8": 8, "U16": 16, "U32": 32, "U64": 64,
}  # fmt: skip
"""The dtypes of safetensors 0.8, and the bits of one element."""

_TORCH_DTYPE = re.compile(r"TORCH\.[A-Za-z0-9_]+(/[A-Za-z0-9_.+-]+)*")


class TensorDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the tree binds of one tensor. ``chunks`` is the 32-byte root of its chunk tree."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    chunks: bytes

    def __post_init__(self) -> None:
        check_tensor(self.name, self.dtype, self.shape, self.nbytes)
        if len(self.chunks) != HASH_SIZE:
            raise DigestError(f"{self.name!r}: chunk root has {len(self.chunks)} bytes, expected {HASH_SIZE}")
        if self.nbytes == 0 and self.chunks != EMPTY_ROOT:
            raise DigestError(f"{self.name!r} has no bytes: expected the empty root, {self.chunks.hex()} came")

    def entry(self) -> bytes:
        """The entry of this tensor in the tree, as in the module's docstring."""
        name, dtype = self.name.encode(), self.dtype.encode("ascii")
        return b"".join(
            [
                PREFIX,
                len(name).to_bytes(4, "big"),
                name,
                len(dtype).to_bytes(4, "big"),
                dtype,
                len(self.shape).to_bytes(4, "big"),
                *(dim.to_bytes(8, "big") for dim in self.shape),
                self.nbytes.to_bytes(8, "big"),
                self.chunks,
            ]
        )

    def leaf(self) -> bytes:
        """SHA-256(0x00 || entry)."""
        return leaf_hash(self.entry())


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Every tensor of a model, in name order: everything the root commits to, without the weights."""

    tensors: tuple[TensorDigest, ...]

    def __post_init__(self) -> None:
        if not self.tensors:
            raise DigestError("expected a model with at least one tensor, none came")
        last = b""
        for position, tensor in enumerate(self.tensors):
            name = tensor.name.encode()
            if position and name <= last:
                raise DigestError(f"expected unique names in byte order, {tensor.name!r} came after {last.decode()!r}")
            last = name

    @classmethod
    def of(cls, tensors: Iterable[TensorDigest]) -> "Manifest":
        """The manifest of tensors in any order."""
        return cls(tuple(sorted(tensors, key=lambda tensor: tensor.name.encode())))

    def root(self) -> bytes:
        """The tensor root: 32 bytes. Computed once."""
        if "_root" not in self.__dict__:
            self.__dict__["_leaves"] = leaves = [tensor.leaf() for tensor in self.tensors]
            self.__dict__["_root"] = tree_root(leaves)
        root: bytes = self.__dict__["_root"]
        return root

    def leaves(self) -> list[bytes]:
        """The leaf hash of every tensor, in order."""
        self.root()
        leaves: list[bytes] = self.__dict__["_leaves"]
        return leaves

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; tied tensors count under each of their names."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def to_json(self) -> bytes:
        """``{"format":"unlearning-ledger/tensors/v1","tensors":[{"chunks":"…","dtype":"F32",…},…]}``, RFC 8785."""
        value = {"format": FORMAT, "tensors": [_to_wire(tensor) for tensor in self.tensors]}
        data = canonical(value, what="a tensor manifest", error=DigestError)
        if len(data) > MAX_MANIFEST:
            raise DigestError(f"the tensor manifest has {len(data)} bytes, expected at most {MAX_MANIFEST}")
        return data

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Read :meth:`to_json`'s bytes, and nothing else. Raises DigestError."""
        wire = decode(data, _ManifestWire, limit=MAX_MANIFEST, what="a tensor manifest", error=DigestError)
        if wire.format != FORMAT:
            raise DigestError(f"tensor manifest is of format {wire.format[:60]!r}, expected {FORMAT!r}")
        return cls(tuple(_from_wire(tensor) for tensor in wire.tensors))


class Changes(msgspec.Struct, frozen=True):
    """Names of tensors, each in byte order. ``changed`` ones differ in dtype, shape or content."""

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


class TensorProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor's digest and the path from it to the tensor root: enough to disclose that tensor alone."""

    tensor: TensorDigest
    index: int
    size: int
    path: tuple[bytes, ...]

    def to_json(self) -> bytes:
        """``{"index":"0","path":["…"],"size":"2","tensor":{…}}``, RFC 8785."""
        value = {
            "tensor": _to_wire(self.tensor),
            "index": str(self.index),
            "size": str(self.size),
            "path": [hash_.hex() for hash_ in self.path],
        }
        return canonical(value, what="a tensor proof", error=DigestError)

    @classmethod
    def parse(cls, data: bytes) -> "TensorProof":
        """Read :meth:`to_json`'s bytes, and nothing else. Raises DigestError."""
        what = "a tensor proof"
        wire = decode(data, _ProofWire, limit=MAX_PROOF, what=what, error=DigestError)
        size = read_number(wire.size, limit=1 << 63, what=f"size of {what}", error=DigestError)
        index = read_number(wire.index, limit=size, what=f"index of {what}", error=DigestError)
        path = read_path(wire.path, what=what, error=DigestError)
        return cls(_from_wire(wire.tensor), index, size, path)


@dataclass(frozen=True, slots=True)
class TensorSource:
    """A tensor whose bytes can be read: ``read(lo, hi)`` and ``piece`` are those of certify.chunks.ByteSource.

    Sources with the same ``content`` (not None) hold the same bytes, which are hashed once: tied weights.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: ByteSource
    content: Hashable = None

    @classmethod
    def of(cls, name: str, dtype: str, shape: Sequence[int], buffer: Buffer) -> "TensorSource":
        """A tensor in memory, not copied."""
        return cls(name, dtype, tuple(shape), ByteSource.of(buffer))


def hash_tensors(
    sources: Iterable[TensorSource], *, threads: int | None = None, progress: Progress | None = None
) -> Manifest:
    """Hash every tensor, on up to 8 threads. ``progress`` is called with the bytes done, last with ``nbytes``.

    Raises DigestError for no tensors, two of one name, a dtype or shape that does not fit the bytes.
    """
    sources = list(sources)
    names: set[str] = set()
    for source in sources:  # all of this before the first byte is hashed
        check_tensor(source.name, source.dtype, source.shape, source.data.nbytes)
        if source.name in names:
            raise DigestError(f"two tensors are called {source.name!r}, expected unique names")
        names.add(source.name)
    if not sources:
        raise DigestError("expected a model with at least one tensor, none came")
    places: dict[Hashable, int] = {}
    distinct: list[ByteSource] = []
    place_of: list[int] = []
    for number, source in enumerate(sources):
        key: Hashable = ("alone", number) if source.content is None else ("shared", source.content)
        place = places.setdefault(key, len(distinct))
        if place == len(distinct):
            distinct.append(source.data)
        elif distinct[place].nbytes != source.data.nbytes:
            raise DigestError(f"{source.name!r} shares {distinct[place].nbytes} bytes, expected {source.data.nbytes}")
        place_of.append(place)
    roots = chunk_roots(distinct, threads=threads, progress=progress)
    manifest = Manifest.of(
        TensorDigest(source.name, source.dtype, source.shape, source.data.nbytes, roots[place])
        for source, place in zip(sources, place_of, strict=True)
    )
    if progress is not None:
        progress(manifest.nbytes)
    return manifest


def diff(pre: Manifest, post: Manifest) -> Changes:
    """Which tensors an update changed."""
    before = {tensor.name: tensor for tensor in pre.tensors}
    after = {tensor.name: tensor for tensor in post.tensors}
    both = [name for name in before if name in after]
    return Changes(
        changed=tuple(name for name in both if before[name] != after[name]),
        unchanged=tuple(name for name in both if before[name] == after[name]),
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
    )


def prove_tensor(manifest: Manifest, name: str) -> TensorProof:
    """The proof that one tensor belongs to the model. Raises DigestError when it does not."""
    for index, tensor in enumerate(manifest.tensors):
        if tensor.name == name:
            path = inclusion_path(manifest.leaves(), index)
            return TensorProof(tensor, index, len(manifest.tensors), tuple(path))
    raise DigestError(f"no tensor is called {name!r} among {len(manifest.tensors)}")


def verify_tensor(proof: TensorProof, root: bytes) -> TensorDigest:
    """The tensor's digest, once its proof leads to the tensor root. Raises DigestError."""
    try:
        found = root_from_inclusion(proof.index, proof.size, proof.tensor.leaf(), proof.path)
    except ProofError as reason:
        raise DigestError(f"tensor {proof.tensor.name!r}: {reason}") from None
    if found != root:
        raise DigestError(f"proof of tensor {proof.tensor.name!r} leads to root {found.hex()}, expected {root.hex()}")
    return proof.tensor


def check_tensor(name: str, dtype: str, shape: tuple[int, ...], nbytes: int) -> None:
    """Raise DigestError unless these can be in a tree: a UTF-8 name, a known dtype, bytes that fit the shape."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise DigestError(f"tensor name {name!r} cannot be written in UTF-8") from None
    if length > MAX_NAME:
        raise DigestError(f"tensor name has {length} bytes, expected at most {MAX_NAME}: {name[:60]!r}…")
    if len(shape) > MAX_DIMS:
        raise DigestError(f"{name!r} has {len(shape)} dimensions, expected at most {MAX_DIMS}")
    for number in (*shape, nbytes):
        if not 0 <= number < 1 << 63:
            raise DigestError(f"{name!r}: expected dimensions and bytes from 0 to 2**63 - 1, {number} came")
    if dtype in DTYPE_BITS:
        expected = tensor_bytes(name, dtype, shape)
        if nbytes != expected:
            raise DigestError(f"{name!r} has {nbytes} bytes, expected {expected} for {dtype} {list(shape)}")
    elif len(dtype) > 255 or not _TORCH_DTYPE.fullmatch(dtype):
        raise DigestError(f"{name!r} has dtype {dtype[:60]!r}, expected one of safetensors' or TORCH.…")


def tensor_bytes(name: str, dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor of one of safetensors' dtypes. Raises DigestError when they do not end on a byte."""
    bits = DTYPE_BITS[dtype]
    for dim in shape:
        bits *= dim
    if bits % 8:
        raise DigestError(f"{name!r} has {bits} bits as {dtype} {list(shape)}, expected whole bytes")
    return bits // 8


class _TensorWire(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    dtype: str
    shape: list[str]
    nbytes: str
    chunks: str


class _ManifestWire(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    tensors: list[_TensorWire]


class _ProofWire(msgspec.Struct, forbid_unknown_fields=True):
    tensor: _TensorWire
    index: str
    size: str
    path: list[str]


def _to_wire(tensor: TensorDigest) -> dict[str, object]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": [str(dim) for dim in tensor.shape],
        "nbytes": str(tensor.nbytes),
        "chunks": tensor.chunks.hex(),
    }


def _from_wire(wire: _TensorWire) -> TensorDigest:
    if len(wire.shape) > MAX_DIMS:
        raise DigestError(f"{wire.name!r} has {len(wire.shape)} dimensions, expected at most {MAX_DIMS}")
    what = f"{wire.name[:60]!r}"
    return TensorDigest(
        wire.name,
        wire.dtype,
        tuple(read_number(dim, limit=1 << 63, what=f"a dimension of {what}", error=DigestError) for dim in wire.shape),
        read_number(wire.nbytes, limit=1 << 63, what=f"nbytes of {what}", error=DigestError),
        read_hash(wire.chunks, what=f"chunk root of {what}", error=DigestError),
    )
