"""Reading safetensors files: the same root as from memory, however sharded, and nothing malformed gets through."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.digest import TensorSource, hash_tensors
from certify.errors import DigestError
from certify.safetensors import digest_weights, open_tensors, parse_header

numpy = pytest.importorskip("numpy")
library = pytest.importorskip("safetensors.numpy")

MIB = 1 << 20


def build(header: Any, data: bytes, *, length: int | None = None) -> bytes:
    """A safetensors file; ``header`` may be text, to say what no dict can."""
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def one(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def model() -> dict[str, Any]:
    rng = numpy.random.default_rng(1)
    return {
        "big": rng.standard_normal((700, 800)).astype("float32"),
        "half": rng.standard_normal((3, 5)).astype("float16"),
        "scalar": numpy.array(3, dtype="int64"),
        "empty": numpy.zeros((0, 4), dtype="float64"),
        "flags": numpy.array([True, False]),
        "bytes": numpy.arange(MIB + 1, dtype="uint64").astype("uint8"),
    }


NAMES = {"float32": "F32", "float16": "F16", "int64": "I64", "float64": "F64", "bool": "BOOL", "uint8": "U8"}


def root_of(tensors: dict[str, Any]) -> bytes:
    sources = [TensorSource.of(k, NAMES[str(v.dtype)], v.shape, v.tobytes()) for k, v in tensors.items()]
    return hash_tensors(sources).root()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def shard(folder: Path, tensors: dict[str, Any]) -> dict[str, str]:
    """Three shards; returns the weight map."""
    where = {}
    for number in range(3):
        part = {name: value for i, (name, value) in enumerate(tensors.items()) if i % 3 == number}
        name = f"model-{number + 1:05}-of-00003.safetensors"
        library.save_file(part, folder / name)
        where.update(dict.fromkeys(part, name))
    return where


def write_index(folder: Path, where: Any) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return index


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_same_root_from_one_file_shards_folder_and_index(tmp_path: Path, mapped: bool, threads: int) -> None:
    tensors = model()
    expected = root_of(tensors)
    single = tmp_path / "single"
    single.mkdir()
    library.save_file(tensors, single / "m.safetensors", metadata={"a": "1", "b": "2", "format": "pt"})
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    where = shard(sharded, tensors)
    files = sorted(sharded.glob("*"))
    for paths in (single, single / "m.safetensors", str(single), files, files[::-1], sharded):
        assert digest_weights(paths, mapped=mapped, threads=threads).root() == expected
    index = write_index(sharded, where)
    for paths in (sharded, index, [index]):
        assert digest_weights(paths, mapped=mapped, threads=threads).root() == expected


def test_zero_size_tensors_and_a_file_without_data(path: Path) -> None:
    library.save_file({"a": numpy.zeros((0,), "float32"), "b": numpy.zeros((3, 0), "uint8")}, path)
    manifest = digest_weights(path)
    assert manifest.nbytes == 0
    assert [tensor.shape for tensor in manifest.tensors] == [(0,), (3, 0)]


def test_no_tensors_are_refused(path: Path, tmp_path: Path) -> None:
    library.save_file({}, path)
    for paths in (path, []):
        with pytest.raises(DigestError, match="at least one tensor"):
            digest_weights(paths)
    with pytest.raises(DigestError, match=r"no \.safetensors file"):
        (tmp_path / "empty").mkdir()
        digest_weights(tmp_path / "empty")
    with pytest.raises(DigestError, match="not a file"):
        digest_weights(tmp_path / "missing.safetensors")


def test_f4_counts_elements_not_bytes(path: Path) -> None:
    path.write_bytes(build({"w": one("F4", (3, 8), (0, 12))}, bytes(12)))
    assert digest_weights(path).nbytes == 12


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ("", b"", "begins with"),
        ("[]", b"", "begins with"),
        ('{"w":1}', b"", "expected dtype, shape"),
        ('{"w":', b"", "not JSON"),
        ('{"w":NaN}', b"", "NaN is not JSON"),
        ('{"__metadata__":[]}', b"", "object of strings"),
        ('{"__metadata__":{"a":1}}', b"", "object of strings"),
        ({"w": {**one(), "more": 1}}, bytes(8), "expected dtype, shape"),
        ({"w": one("F31")}, bytes(8), "has dtype 'F31'"),
        ({"w": one(shape=(-2,))}, bytes(8), "shape"),
        ({"w": one(shape=(2.0,))}, bytes(8), "shape"),
        ({"w": one(shape=(True, 2))}, bytes(8), "shape"),
        ({"w": one(shape=(1,) * 65)}, bytes(4), "at most 64"),
        ({"w": one(shape=(3,))}, bytes(8), "has 8 bytes, expected 12"),
        ({"w": one(shape=(2**62, 2**62, 0))}, b"", "has 8 bytes, expected 0"),
        ({"w": one(shape=(2**62, 2**62))}, b"", "2\\*\\*63"),
        ({"w": one(offsets=(8, 0))}, bytes(8), "begin, end"),
        ({"w": one(offsets=(0, 8, 8))}, bytes(8), "begin, end"),
        ({"w": one(offsets=(4, 12))}, bytes(12), "a hole before 'w'"),
        ({"w": one(), "x": one(offsets=(12, 20))}, bytes(20), "a hole before 'x'"),
        ({"w": one()}, bytes(7), "expected 8 bytes of tensors after the header, 7 are there"),
        ({"w": one()}, bytes(9), "9 are there"),
        ({"w": one("F4", (3,), (0, 2))}, bytes(2), "whole bytes"),
    ],
)
def test_malformed_headers(path: Path, header: Any, data: bytes, message: str) -> None:
    path.write_bytes(build(header, data))
    with pytest.raises(DigestError, match=message):
        digest_weights(path)


@pytest.mark.parametrize("size", [0, 1, 7, 8])
def test_files_too_short_for_a_header(path: Path, size: int) -> None:
    path.write_bytes(bytes(size))
    with pytest.raises(DigestError, match="expected"):
        digest_weights(path)


def test_utf16_header_is_refused(path: Path) -> None:
    path.write_bytes(build('{"w":1}'.encode("utf-16-le").decode("latin-1"), b""))
    with pytest.raises(DigestError, match="not JSON"):
        digest_weights(path)


@given(st.binary(max_size=120).map(lambda tail: b"{" + tail) | st.binary(max_size=60), st.integers(0, 64))
def test_header_parser_raises_only_its_error(data: bytes, length: int) -> None:
    with contextlib.suppress(DigestError):
        parse_header(data, length)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["dtype", "shape", "data_offsets", "x"])
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "F4"]) | json_values,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 16), min_size=1, max_size=3) | json_values,
    }
)


@given(st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), entries | json_values, max_size=3))
def test_header_shaped_json_raises_only_its_error(value: Any) -> None:
    with contextlib.suppress(DigestError):
        parse_header(json.dumps(value).encode(), 16)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), st.lists(st.integers(0, 3), max_size=3)))
def test_everything_the_library_writes_is_read(tmp_path: Path, shapes: dict[str, list[int]]) -> None:
    shapes.pop("__metadata__", None)
    tensors = {name: numpy.full(shape, 7, "float32") for name, shape in shapes.items()}
    if not tensors:
        return
    library.save_file(tensors, tmp_path / "w.safetensors")
    assert digest_weights(tmp_path / "w.safetensors").root() == root_of(tensors)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"big": "other.safetensors"}, "not a file"),
        ({}, "metadata and weight_map"),
        ([], "metadata and weight_map"),
        ({"big": 3}, "plain .safetensors name"),
        ({"big": "model.bin"}, "plain .safetensors name"),
    ],
)
def test_malformed_index(tmp_path: Path, where: Any, message: str) -> None:
    with pytest.raises(DigestError, match=message):
        digest_weights(write_index(tmp_path, where))


def test_index_and_files_must_agree(tmp_path: Path) -> None:
    where = shard(tmp_path, model())
    first, *_ = where.values()
    with pytest.raises(DigestError, match=r"says 'ghost' is in .*, which does not hold it"):
        digest_weights(write_index(tmp_path, {**where, "ghost": first}))
    with pytest.raises(DigestError, match="holds 'half', which the index does not list"):
        digest_weights(write_index(tmp_path, {name: file for name, file in where.items() if name != "half"}))
    index = write_index(tmp_path, where)
    library.save_file({"adapter": numpy.zeros(1, "float32")}, tmp_path / "adapter.safetensors")
    with pytest.raises(DigestError, match=r"does not list 'adapter\.safetensors'"):
        digest_weights(tmp_path)
    assert digest_weights(index).root() == root_of(model())
    write_index(tmp_path, where).rename(tmp_path / "second.safetensors.index.json")
    write_index(tmp_path, where)
    with pytest.raises(DigestError, match="2 indexes"):
        digest_weights(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", '{"weight_map":{"a":"b.safetensors","a":"c.safetensors"}}', '{"w":NaN}'])
def test_index_that_is_no_index(tmp_path: Path, text: str) -> None:
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(DigestError):
        digest_weights(index)


def test_tied_names_count_as_the_tensor_they_share(path: Path) -> None:
    tensors = {"embed": numpy.arange(6, dtype="float32")}
    both = root_of({**tensors, "head": tensors["embed"]})
    library.save_file(tensors, path, metadata={"head": "embed", "format": "embed", "author": "someone"})
    assert digest_weights(path).root() == both
    assert digest_weights(path, tied={"head": "embed"}).root() == both
    library.save_file(tensors, path)
    assert digest_weights(path, tied={"head": "embed"}).root() == both
    with pytest.raises(DigestError, match="'nothing', which no file holds"):
        digest_weights(path, tied={"head": "nothing"})
    with pytest.raises(DigestError, match="a file holds it by itself"):
        library.save_file({**tensors, "head": tensors["embed"]}, path)
        digest_weights(path, tied={"head": "embed"})


def test_same_name_in_two_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        library.save_file({"w": numpy.zeros(1, "float32")}, tmp_path / f"{name}.safetensors")
    with pytest.raises(DigestError, match=r"b\.safetensors: tensor 'w' is there already"):
        digest_weights(tmp_path)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("change", ["write", "touch", "replace", "remove", "append"])
def test_a_file_that_changes_meanwhile(path: Path, mapped: bool, change: str) -> None:
    library.save_file(model(), path)
    content = path.read_bytes()
    os.utime(path, ns=(1, 1))
    with pytest.raises(DigestError, match="while it was hashed"):
        with open_tensors(path, mapped=mapped) as sources:
            if change == "write":
                with path.open("r+b") as file:
                    file.seek(-1, os.SEEK_END)
                    file.write(b"!")
            elif change == "touch":
                os.utime(path)
            elif change == "append":
                with path.open("ab") as file:
                    file.write(b"!")
            else:
                path.unlink()
                if change == "replace":
                    path.write_bytes(content)
            hash_tensors(sources)


def test_symbolic_links_are_followed(path: Path, tmp_path: Path) -> None:
    library.save_file(model(), path)
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    assert digest_weights(link).root() == digest_weights(path).root()
