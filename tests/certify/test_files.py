"""File digests, and the model-signing root against the model_signing package itself."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.errors import DigestError
from certify.files import hash_files, oms_root, oms_root_of, sha256_file


def reference_root(where: Path) -> bytes:
    """What the installed model_signing package would sign."""
    hashing = pytest.importorskip("model_signing.hashing")
    signing = pytest.importorskip("model_signing._signing.signing")
    manifest = hashing.Config().use_file_serialization().set_ignored_paths(paths=[]).hash(where)
    (subject,) = signing.Payload(manifest).statement.pb.subject
    return bytes.fromhex(subject.digest["sha256"])


def fill(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {name}".encode())


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_sha256_of_a_file(tmp_path: Path, size: int) -> None:
    data = hashlib.shake_128(b"x").digest(size)
    (tmp_path / "f").write_bytes(data)
    seen: list[int] = []
    assert sha256_file(tmp_path / "f", seen.append) == hashlib.sha256(data).digest()
    assert seen == sorted(seen) and (seen[-1] == size if size else not seen)


def test_root_equals_model_signing(tmp_path: Path) -> None:
    names = ["a/b", "a-b", "a.b", "a/b.c/d", "a/b/" + "e", "B", "é/x", "z", ".hidden/file", "sub/.gitignore"]
    names.remove("a/b")
    fill(tmp_path, [*names, ".git/config", ".gitignore", ".gitattributes", ".github/workflow"])
    assert oms_root(tmp_path) == reference_root(tmp_path)
    assert set(hash_files(tmp_path)) == set(names)


def test_order_is_part_by_part_as_in_the_reference_code(tmp_path: Path) -> None:
    fill(tmp_path, ["a/b", "a-b"])
    digests = hash_files(tmp_path)
    assert list(digests) == ["a/b", "a-b"]  # by whole names, "-" would come before "/"
    assert oms_root(tmp_path) == oms_root_of(digests) == reference_root(tmp_path)
    whole_names = hashlib.sha256(digests["a-b"] + digests["a/b"]).digest()
    assert oms_root(tmp_path) != whole_names


parts = st.text("ab-./", min_size=1, max_size=6).filter(lambda s: all(p not in ("", ".", "..") for p in s.split("/")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(parts, min_size=1, max_size=6, unique=True), st.integers(1, 4))
def test_any_folder_equals_model_signing(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], threads: int
) -> None:
    folder = tmp_path_factory.mktemp("model")
    for name in names:
        if not any(other.startswith(name + "/") for other in names):  # not both a file and a folder
            fill(folder, [name])
    assert oms_root(folder, threads=threads) == reference_root(folder)


def test_one_file_and_several(tmp_path: Path) -> None:
    fill(tmp_path, ["m", "n", "below/m"])
    digest = hashlib.sha256(b"content of m").digest()
    assert oms_root(tmp_path / "m") == hashlib.sha256(digest).digest() == reference_root(tmp_path / "m")
    both = oms_root([tmp_path / "n", tmp_path / "m"])
    assert both == hashlib.sha256(digest + hashlib.sha256(b"content of n").digest()).digest()
    with pytest.raises(DigestError, match="two files are called 'm'"):
        oms_root([tmp_path / "m", tmp_path / "below" / "m"])


def test_progress_over_many_files(tmp_path: Path) -> None:
    fill(tmp_path, [f"f{i}" for i in range(20)])
    seen: list[int] = []
    hash_files(tmp_path, threads=3, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_symbolic_links_need_permission(tmp_path: Path) -> None:
    fill(tmp_path, ["m"])
    root = oms_root(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "m")
    with pytest.raises(DigestError, match="z is a symbolic link"):
        oms_root(tmp_path)
    assert oms_root(tmp_path, allow_symlinks=True) != root
    (tmp_path / "z").unlink()
    (tmp_path / "z").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DigestError, match="z is a symbolic link"):
        oms_root(tmp_path)


def test_nothing_to_hash(tmp_path: Path) -> None:
    with pytest.raises(DigestError, match="no files"):
        oms_root(tmp_path)
    with pytest.raises(DigestError, match="is not a file"):
        oms_root(tmp_path / "missing")
    with pytest.raises(DigestError, match="cannot read"):
        sha256_file(tmp_path / "missing")


def test_a_file_that_grows_while_it_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(3 << 20))

    def grow(done: int) -> None:
        if done == 1 << 20:
            with path.open("ab") as file:
                file.write(b"!")

    with pytest.raises(DigestError, match="changed while it was hashed"):
        sha256_file(path, grow)
