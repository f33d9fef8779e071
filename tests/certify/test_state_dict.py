"""Live models: every dtype, stride and device gives the root of the file that safetensors writes."""

import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
library = pytest.importorskip("safetensors.torch")

from certify.digest import TensorSource, hash_tensors  # noqa: E402
from certify.errors import DigestError  # noqa: E402
from certify.safetensors import digest_weights  # noqa: E402
from certify.state_dict import digest_state_dict, dtype_name  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*(ComplexHalf|quantize|sparse|nested|Sparse|TypedStorage).*")

QUANTISED = {torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4}
DTYPES = sorted({v for v in vars(torch).values() if isinstance(v, torch.dtype)} - QUANTISED, key=str)
SAVED = {
    "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64", "C64", "F4",
    "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
}  # fmt: skip
INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def sample(dtype: Any, *shape: int) -> Any:
    """A tensor of any dtype with bytes that tell its elements apart."""
    width = dtype.itemsize
    count = 1
    for dim in shape:
        count *= dim
    raw = torch.tensor(list(hashlib.shake_128(b"x").digest(count * width)), dtype=torch.uint8)
    if dtype == torch.bool:
        raw = raw % 2
    return raw.view(dtype).reshape(shape) if width < 16 else raw.view(torch.float64).view(dtype).reshape(shape)


def raw_bytes(tensor: Any) -> bytes:
    """Row-major bytes, element by element: slow and independent."""
    width = tensor.element_size()
    integers = tensor.contiguous().view(INTEGER[width]) if width < 16 else torch.view_as_real(tensor).view(torch.int64)
    form = {1: "B", 2: "h", 4: "i", 8: "q", 16: "q"}[width]
    values = integers.flatten().tolist()
    return struct.pack(f"<{len(values)}{form}", *values)


def naive_root(tensors: dict[str, Any]) -> bytes:
    """The root of small plain tensors, by their bytes."""
    return hash_tensors(
        TensorSource.of(name, dtype_name(t), tuple(t.shape), raw_bytes(t)) for name, t in tensors.items()
    ).root()


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(7, 5)
        self.norm = torch.nn.BatchNorm1d(5)
        self.head = torch.nn.Linear(5, 7, bias=False)
        self.head.weight = self.embed.weight


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: Any, tmp_path: Path) -> None:
    tensor = sample(dtype, 4, 6)
    manifest = digest_state_dict({"w": tensor})
    (digest,) = manifest.tensors
    if dtype != torch.float4_e2m1fn_x2:
        assert manifest.root() == naive_root({"w": tensor})
    if digest.dtype in SAVED:
        library.save_file({"w": tensor}, tmp_path / "w.safetensors")
        assert digest_weights(tmp_path / "w.safetensors") == manifest
    else:
        assert digest.dtype == "TORCH." + str(dtype).removeprefix("torch.")
    if dtype != torch.float4_e2m1fn_x2:
        as_integers = tensor.view(INTEGER[dtype.itemsize]) if dtype.itemsize < 16 else tensor
        strided = (as_integers.t().contiguous().t()).view(dtype)
        assert not strided.is_contiguous()
        assert digest_state_dict({"w": strided}).root() == manifest.root()


def test_every_name_of_safetensors_that_torch_has_is_covered() -> None:
    assert {dtype_name(sample(dtype, 2)) for dtype in DTYPES if dtype_name(sample(dtype, 2))[:5] != "TORCH"} == SAVED


def test_f4_doubles_the_last_dimension_as_the_library_does() -> None:
    (digest,) = digest_state_dict({"w": sample(torch.float4_e2m1fn_x2, 3, 4)}).tensors
    assert (digest.dtype, digest.shape, digest.nbytes) == ("F4", (3, 8), 12)
    with pytest.raises(DigestError, match="'w': a 0-dimensional"):
        digest_state_dict({"w": sample(torch.float4_e2m1fn_x2)})


@pytest.mark.parametrize("dtype", [torch.complex32, torch.complex64, torch.complex128], ids=str)
def test_conjugate_and_negative_views_are_resolved(dtype: Any) -> None:
    tensor = sample(torch.int8, 4, 6, 2).float().to(dtype.to_real())
    tensor = torch.view_as_complex(tensor)
    views = {
        "conj": tensor.conj(),
        "conj.t": tensor.conj().t(),
        "neg": tensor.conj().imag,
        "part": tensor.conj()[1:, 2],
    }
    assert views["conj"].is_conj() and views["neg"].is_neg()
    plain = {name: view.resolve_conj().resolve_neg().clone() for name, view in views.items()}
    assert digest_state_dict(views).root() == digest_state_dict(plain).root()
    if dtype != torch.complex32:
        assert digest_state_dict(views).root() == naive_root(
            {k: v.contiguous().resolve_conj().resolve_neg() for k, v in plain.items()}
        )
    assert digest_state_dict({"w": tensor.conj()}).root() != digest_state_dict({"w": tensor}).root()


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_view_hashes_as_its_contiguous_copy(data: st.DataObject) -> None:
    import certify.state_dict as module

    shape = data.draw(st.lists(st.integers(0, 5), max_size=4))
    tensor = sample(torch.int16, *shape)
    for _ in range(data.draw(st.integers(0, 3))):
        if tensor.dim() and data.draw(st.booleans()):
            tensor = tensor.permute(data.draw(st.permutations(range(tensor.dim()))))
        elif tensor.dim():
            dim = data.draw(st.integers(0, tensor.dim() - 1))
            start, step = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
            tensor = tensor[(slice(None),) * dim + (slice(start, None, step),)]
        else:
            tensor = tensor.expand(data.draw(st.integers(1, 4)), 3)
    assert digest_state_dict({"w": tensor}).root() == naive_root({"w": tensor})
    count = tensor.numel()
    lo = data.draw(st.integers(0, count))
    hi = data.draw(st.integers(lo, count))
    if hi > lo:  # any range, also those that cut rows
        expected = raw_bytes(tensor)[2 * lo : 2 * hi]
        assert bytes(module._copied(tensor, lo, hi)) == expected


@pytest.mark.parametrize("shape", [(3000, 1700), (2, 3_000_000), (3_000_000, 2), (1, 5, 1_100_000)])
def test_large_strided_tensors_are_read_in_pieces(shape: tuple[int, ...]) -> None:
    tensor = torch.arange(torch.Size(shape).numel(), dtype=torch.int32).reshape(shape)
    strided = tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert strided.stride() != tensor.stride()
    assert digest_state_dict({"w": strided}).root() == digest_state_dict({"w": tensor}).root()
    every_other = torch.stack([tensor, tensor + 1], dim=-1)[..., 0]
    assert digest_state_dict({"w": every_other}).root() == digest_state_dict({"w": tensor}).root()


def test_scalars_empty_parameters_expanded_and_gradients(tmp_path: Path) -> None:
    state = {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.arange(4.0)),
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 5),
        "flipped": torch.arange(6).reshape(2, 3).flip(0)[:, 1:],
    }
    manifest = digest_state_dict(state)
    library.save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    assert digest_weights(tmp_path / "w.safetensors") == manifest


def test_module_save_model_and_state_dict_agree_with_tied_weights(tmp_path: Path) -> None:
    model = Tied()
    path = tmp_path / "model.safetensors"
    library.save_model(model, path)
    manifest = digest_state_dict(model)
    assert {tensor.name for tensor in manifest.tensors} >= {"embed.weight", "head.weight"}
    assert digest_weights(path) == manifest == digest_state_dict(model.state_dict())
    # As transformers does: the tied name is dropped without a word.
    state = model.state_dict()
    del state["head.weight"]
    library.save_file(state, path, metadata={"format": "pt"})
    assert digest_weights(path) != manifest
    assert digest_weights(path, tied={"head.weight": "embed.weight"}) == manifest
    untied = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert digest_state_dict(untied) == manifest


def test_tied_weights_are_hashed_once() -> None:
    seen: list[int] = []
    weight = torch.zeros(5 << 20, dtype=torch.uint8)
    digest_state_dict({"a": weight, "b": weight, "c": weight[:]}, progress=seen.append, threads=1)
    assert seen[-2:] == [5 << 20, 15 << 20]  # the last two names cost nothing
    views = {"a": weight, "b": weight[1:], "c": weight[:-1]}  # shared storage, other bytes
    weight[0] = 1
    assert len({tensor.chunks for tensor in digest_state_dict(views).tensors}) == 3


def test_loading_and_moving_a_model_keeps_its_root() -> None:
    model = Tied()
    root = digest_state_dict(model).root()
    again = Tied()
    assert digest_state_dict(again).root() != root
    again.load_state_dict(model.state_dict())
    assert digest_state_dict(again).root() == root
    assert digest_state_dict(model.to(memory_format=torch.channels_last)).root() == root


def test_quantised_tensors_bind_integers_and_quantiser() -> None:
    values = torch.linspace(-1, 1, 12).reshape(3, 4)
    for dtype, kind in ((torch.qint8, "b"), (torch.quint8, "B"), (torch.qint32, "i")):
        tensor = torch.quantize_per_tensor(values, 0.1, 3, dtype)
        (digest,) = digest_state_dict({"w": tensor}).tensors
        name = str(dtype).removeprefix("torch.")
        assert digest.dtype == f"TORCH.{name}/per_tensor_affine/{(0.1).hex()}/3"
        integers = tensor.int_repr().flatten().tolist()
        data = struct.pack(f"<12{kind}", *integers)
        assert digest.chunks == hashlib.sha256(b"\0" + data).digest()
        assert digest_state_dict({"w": tensor.t().contiguous().t()}).tensors == (digest,)
        other = torch._make_per_tensor_quantized_tensor(tensor.int_repr(), 0.2, 3)
        assert digest_state_dict({"w": other}).root() != digest_state_dict({"w": tensor}).root()


def test_per_channel_quantisers() -> None:
    values = torch.linspace(-1, 1, 12).reshape(3, 4)
    scales, zeros = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.tensor([1, 2, 3])
    tensor = torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8)
    bound = hashlib.sha256(struct.pack("<3d3q", 0.1, 0.2, 0.3, 1, 2, 3)).hexdigest()
    assert dtype_name(tensor) == f"TORCH.qint8/per_channel_affine/0/{bound}"
    shifted = torch.quantize_per_channel(values, scales, zeros + 1, 0, torch.qint8)
    assert dtype_name(shifted) != dtype_name(tensor)


@pytest.mark.parametrize("dtype", [torch.quint4x2, torch.quint2x4], ids=str)
def test_packed_quantised_tensors(dtype: Any) -> None:
    values = torch.linspace(0, 1, 15).reshape(3, 5)
    scales, zeros = torch.full((3,), 0.25), torch.tensor([0.5, 1, 1.5])
    tensor = torch.quantize_per_channel(values, scales, zeros, 0, dtype)
    (digest,) = digest_state_dict({"w": tensor}).tensors
    assert digest.shape == (3, 5)
    assert digest.nbytes == -(-15 // (2 if dtype == torch.quint4x2 else 4))
    bound = hashlib.sha256(struct.pack("<6d", 0.25, 0.25, 0.25, 0.5, 1, 1.5)).hexdigest()
    name = str(dtype).removeprefix("torch.")
    assert digest.dtype == f"TORCH.{name}/per_channel_affine_float_qparams/0/{bound}"
    assert digest.chunks == hashlib.sha256(b"\0" + bytes(tensor.int_repr().tolist())).digest()


class Wrapper(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, *args: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.zeros(2, device="meta"), "meta device"),
        (lambda: torch.eye(2).to_sparse(), "torch.sparse_coo"),
        (lambda: torch.eye(2).to_sparse_csr(), "torch.sparse_csr"),
        (lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]), "nested"),
        (lambda: torch.nested.nested_tensor([torch.zeros(1)], layout=torch.jagged), "NestedTensor"),
        (lambda: torch.nn.parameter.UninitializedParameter(), "not initialised"),
        (lambda: torch.zeros(2).as_subclass(Wrapper), "is a Wrapper"),
        (lambda: [1, 2], "of type list, expected a tensor"),
        (lambda: None, "NoneType"),
    ],
)
def test_what_has_no_bytes_of_its_own_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(DigestError, match=message) as caught:
        digest_state_dict({"fine": torch.zeros(1), "layer.bad": make()})
    assert "'layer.bad'" in str(caught.value)


def test_distributed_and_fake_tensors_are_refused() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(2)
    with pytest.raises(DigestError, match="'w' is a FakeTensor"):
        digest_state_dict({"w": fake})
    tensors = pytest.importorskip("torch.distributed.tensor")
    if not torch.distributed.is_available():
        pytest.skip("torch was built without distributed")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        with pytest.raises(DigestError, match="'w' is a DTensor"):
            digest_state_dict({"w": tensors.distribute_tensor(torch.zeros(2), mesh)})
    finally:
        torch.distributed.destroy_process_group()


def test_keys_must_be_strings_and_models_not_empty() -> None:
    with pytest.raises(DigestError, match="key 3 is of type int"):
        digest_state_dict({3: torch.zeros(1)})
    with pytest.raises(DigestError, match="at least one tensor"):
        digest_state_dict({})


def test_a_tensor_written_to_while_it_is_hashed() -> None:
    tensor = torch.zeros(40 << 20, dtype=torch.uint8)
    with pytest.raises(DigestError, match="'w' was written to while it was hashed"):
        digest_state_dict({"w": tensor}, progress=lambda done: tensor.add_(1))


def test_inference_tensors() -> None:
    with torch.inference_mode():
        tensor = torch.arange(3.0)
    assert digest_state_dict({"w": tensor}).root() == digest_state_dict({"w": torch.arange(3.0)}).root()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_on_a_gpu_has_the_same_root() -> None:
    model = Tied()
    state = {**model.state_dict(), "big": torch.randn(3000, 4000), "complex": torch.randn(8, 9, dtype=torch.complex64)}
    root = digest_state_dict(state).root()
    moved = {name: tensor.cuda() for name, tensor in state.items()}
    assert digest_state_dict(moved).root() == root
    strided = {name: t.cuda().t().contiguous().t() if t.dim() == 2 else t.cuda() for name, t in state.items()}
    assert digest_state_dict(strided).root() == root
    conj = {name: t.conj().resolve_conj().conj() if t.is_complex() else t for name, t in moved.items()}
    assert digest_state_dict(conj).root() == root
    for dtype in DTYPES:
        tensor = sample(dtype, 4, 6)
        assert digest_state_dict({"w": tensor.cuda()}).root() == digest_state_dict({"w": tensor}).root(), dtype
    assert digest_state_dict(Tied().cuda()).nbytes == digest_state_dict(model).nbytes
