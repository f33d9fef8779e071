"""The tensor root of a live model: the same as that of its safetensors file (certify.digest says what that is).

Any device, dtype and stride; tensors are read in pieces of a few MiB, never copied whole::

    manifest = digest_state_dict(model)        # or model.state_dict(), or any mapping of names to tensors
    manifest.root()

dtypes are named as in safetensors. Those it has no name for are ``TORCH.`` and torch's own name: ``TORCH.complex128``,
``TORCH.uint4``. A ``float4_e2m1fn_x2`` element is two ``F4`` elements, so the last dimension doubles, as in safetensors.
Of a quantised tensor the bytes are the stored integers, and the dtype also binds the quantiser::

    TORCH.qint8/per_tensor_affine/<float.hex(scale)>/<zero point>
    TORCH.qint8/per_channel_affine/<axis>/<SHA-256, hex, of the scales as f64-LE || the zero points as i64-LE>

(with ``per_channel_affine_float_qparams``, zero points are f64-LE). Bytes are little-endian on any machine.
"""

import struct
import sys
from collections.abc import Hashable, Mapping
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from certify.chunks import CHUNK, Buffer, ByteSource, Progress
from certify.digest import Manifest, TensorSource, hash_tensors
from certify.errors import DigestError

PIECE = 8 * CHUNK

_NAMES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float4_e2m1fn_x2": "F4",
}  # fmt: skip

# Integers of the same width, which every operator supports on any strides; 16 bytes is complex128 alone.
_AS_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Quantised dtype -> type of the stored integers, and how many elements one of them holds.
_STORED = {
    torch.qint8: (torch.int8, 1),
    torch.quint8: (torch.uint8, 1),
    torch.qint32: (torch.int32, 1),
    torch.quint4x2: (torch.uint8, 2),
    torch.quint2x4: (torch.uint8, 4),
}


def digest_state_dict(
    model: nn.Module | Mapping[str, Any], *, threads: int | None = None, progress: Progress | None = None
) -> Manifest:
    """Hash every tensor of a module or state dict; tied tensors count under each name and are hashed once.

    Raises DigestError, naming the tensor, for values that are not dense tensors with their own data (meta, sparse,
    nested, distributed, other wrappers, extra state), and for tensors written to while they were hashed.
    """
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    checked = {name: _check(name, value) for name, value in tensors.items()}
    versions = {name: _version(tensor) for name, tensor in checked.items()}
    for device in {tensor.device for tensor in checked.values()}:
        _wait_for(device)
    sources = [_source(name, tensor) for name, tensor in checked.items()]
    manifest = hash_tensors(sources, threads=threads, progress=progress)
    for name, tensor in checked.items():
        if _version(tensor) != versions[name]:
            raise DigestError(f"tensor {name!r} was written to while it was hashed")
    return manifest


def dtype_name(tensor: Tensor) -> str:
    """The dtype that a tensor's leaf binds, with the quantiser of a quantised one."""
    name = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_quantized:
        return _NAMES.get(name, f"TORCH.{name}")
    scheme = str(tensor.qscheme()).removeprefix("torch.")
    if scheme in ("per_tensor_affine", "per_tensor_symmetric"):
        return f"TORCH.{name}/{scheme}/{float(tensor.q_scale()).hex()}/{tensor.q_zero_point()}"
    scales = tensor.q_per_channel_scales().double().tolist()
    zeros = tensor.q_per_channel_zero_points().tolist()
    kind = "d" if scheme == "per_channel_affine_float_qparams" else "q"
    bound = struct.pack(f"<{len(scales)}d", *scales) + struct.pack(f"<{len(zeros)}{kind}", *zeros)
    return f"TORCH.{name}/{scheme}/{tensor.q_per_channel_axis()}/{sha256(bound).hexdigest()}"


def _check(name: object, value: object) -> Tensor:
    if not isinstance(name, str):
        raise DigestError(f"state dict key {name!r} is of type {type(name).__name__}, expected a string")
    if not isinstance(value, Tensor):
        raise DigestError(f"{name!r} is of type {type(value).__name__}, expected a tensor")
    if nn.parameter.is_lazy(value):
        raise DigestError(f"{name!r} is not initialised yet: expected a tensor with a shape")
    # A wrapper (DTensor, FakeTensor, quantised tensors of torchao) has no bytes of its own that would say it all.
    if type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise DigestError(f"{name!r} is a {type(value).__name__}, expected a plain tensor: gather or unwrap it")
    if value.is_nested or value.layout != torch.strided:
        layout = "nested" if value.is_nested else str(value.layout)
        raise DigestError(f"{name!r} has layout {layout}, expected torch.strided")
    if value.is_meta:
        raise DigestError(f"{name!r} is on the meta device and has no data")
    return value.detach()


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _wait_for(device: torch.device) -> None:
    """Let queued work finish, which may still write to the weights."""
    synchronize = getattr(getattr(torch, device.type, None), "synchronize", None)
    if device.type != "cpu" and synchronize is not None:
        synchronize(device) if device.type == "cuda" else synchronize()


def _source(name: str, tensor: Tensor) -> TensorSource:
    dtype = dtype_name(tensor)
    shape = tuple(tensor.shape)
    if dtype == "F4":
        if not shape:
            raise DigestError(f"{name!r}: a 0-dimensional {tensor.dtype} holds two elements, expected a dimension")
        shape = (*shape[:-1], shape[-1] * 2)
    stored = _stored_integers(name, tensor) if tensor.is_quantized else tensor
    nbytes = stored.numel() * stored.element_size()
    content: Hashable = None
    if nbytes and stored.untyped_storage().data_ptr():  # some backends hide their addresses
        where = (stored.device, stored.untyped_storage().data_ptr(), stored.storage_offset())
        how = (stored.dtype, tuple(stored.shape), stored.stride(), stored.is_conj(), stored.is_neg())
        content = (where, how)
    return TensorSource(name, dtype, shape, _byte_source(stored, nbytes), content)


def _stored_integers(name: str, tensor: Tensor) -> Tensor:
    """A quantised tensor's storage as plain integers, not copied."""
    dtype, packed = _STORED[tensor.dtype]
    size, stride = tuple(tensor.shape), tensor.stride()
    if packed > 1:
        if not tensor.is_contiguous() or tensor.storage_offset():
            raise DigestError(f"{name!r} is a view of packed {tensor.dtype}, expected a contiguous tensor")
        size, stride = (-(-tensor.numel() // packed),), (1,)
    empty = torch.empty(0, dtype=dtype, device=tensor.device)
    return empty.set_(tensor.untyped_storage(), tensor.storage_offset(), size, stride)


def _byte_source(tensor: Tensor, nbytes: int) -> ByteSource:
    width = tensor.element_size()
    resolved = not (tensor.is_conj() or tensor.is_neg())  # else copying resolves it, piece by piece
    plain = tensor.view(_AS_INTEGER[width]) if resolved and width in _AS_INTEGER else tensor
    in_memory = tensor.device.type == "cpu" and tensor.is_contiguous() and resolved and _little_endian()
    if nbytes and in_memory:
        # Not view(-1): a dimension of one element may have any stride and still be contiguous.
        flat = plain.as_strided((plain.numel(),), (1,))
        return ByteSource.of(flat.view(torch.uint8).numpy().data)

    def read(lo: int, hi: int) -> Buffer:
        return _copied(plain, lo // width, hi // width)

    return ByteSource(nbytes, read, piece=PIECE)


def _copied(tensor: Tensor, lo: int, hi: int) -> memoryview:
    """Elements lo to hi in row-major order, as bytes in memory."""
    flat = torch.empty(hi - lo, dtype=tensor.dtype, device=tensor.device)
    _gather(tensor, lo, hi, flat)
    array = flat.cpu().view(torch.uint8).numpy()
    if not _little_endian():
        width = tensor.element_size() // (2 if tensor.is_complex() else 1)
        array = array.reshape(-1, width)[:, ::-1].copy().reshape(-1)
    return array.data


def _gather(tensor: Tensor, lo: int, hi: int, out: Tensor) -> None:
    """Copy elements lo to hi of any view into ``out`` (hi - lo), resolving conjugation; whole rows at a time."""
    if tensor.dim() < 2:
        out.copy_(tensor.reshape(-1)[lo:hi])
        return
    row = tensor.numel() // tensor.shape[0]
    first, last = lo // row, -(-hi // row)
    if tensor.is_contiguous():
        out.copy_(tensor.view(-1)[lo:hi])
    elif last - first == 1:  # inside one row
        _gather(tensor[first], lo - first * row, hi - first * row, out)
    elif lo == first * row and hi == last * row:
        out.view(last - first, *tensor.shape[1:]).copy_(tensor[first:last])
    else:
        # The end of the first row, or the beginning of the last.
        middle = (first + 1) * row if lo % row else (last - 1) * row
        _gather(tensor, lo, middle, out[: middle - lo])
        _gather(tensor, middle, hi, out[middle - lo :])


def _little_endian() -> bool:
    return sys.byteorder == "little"
