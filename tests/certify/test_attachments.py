"""Files by their content: what is read has the digest that it was asked for by, or is refused."""

from hashlib import sha256
from pathlib import Path

import pytest

from certify.attachments import Attachments
from certify.bundle import CircuitFiles
from certify.errors import StatementError, WorkspaceError
from certify.zk import CircuitDescription


@pytest.fixture
def attachments(tmp_path: Path) -> Attachments:
    return Attachments(tmp_path / "zk")


def circuit() -> CircuitFiles:
    settings, vk = b'{"settings":1}', b"a verification key"
    digests = [sha256(part).hexdigest() for part in (b"onnx", settings, vk, b"srs")]
    parameters: dict[str, int | str | list[int]] = {"rows": 40, "loss": "ridge", "forgotten": [1]}
    return CircuitFiles(CircuitDescription("exclusion-optimum/v1", parameters, *digests), settings, vk)


@pytest.mark.parametrize(("kind", "suffix"), [("points", "points"), ("proofs", "proof"), ("srs", "srs")])
def test_bytes_are_found_by_their_digest_under_the_bundles_names(
    attachments: Attachments, kind: str, suffix: str
) -> None:
    digest = attachments.put(kind, b"content")
    assert digest == sha256(b"content").hexdigest()
    assert attachments.put(kind, b"content") == digest and attachments.get(kind, digest) == b"content"
    assert [path.name for path in (attachments.folder / kind).iterdir()] == [f"{digest}.{suffix}"]


def test_bytes_that_are_missing(attachments: Attachments) -> None:
    with pytest.raises(WorkspaceError, match=r"cannot read .*, which the log names: No such file"):
        attachments.get("points", "00" * 32)
    digest = attachments.put("points", b"content")
    with pytest.raises(WorkspaceError, match="cannot read"):
        attachments.get("proofs", digest)


@pytest.mark.parametrize("content", [b"", b"conten", b"content\n"])
def test_bytes_that_were_altered(attachments: Attachments, content: bytes) -> None:
    digest = attachments.put("points", b"content")
    (attachments.folder / "points" / f"{digest}.points").write_bytes(content)
    with pytest.raises(WorkspaceError, match=f"was altered: it has SHA-256 {sha256(content).hexdigest()}"):
        attachments.get("points", digest)


def test_bytes_that_were_altered_are_put_right_by_keeping_them_again(attachments: Attachments) -> None:
    digest = attachments.put("points", b"content")
    (attachments.folder / "points" / f"{digest}.points").write_bytes(b"something else")
    attachments.put("points", b"content")
    assert attachments.get("points", digest) == b"content"


def test_circuits(attachments: Attachments) -> None:
    digest = attachments.put_circuit(circuit())
    assert digest == circuit().description.digest and attachments.get_circuit(digest) == circuit()


def test_a_circuit_without_its_key(attachments: Attachments) -> None:
    digest = attachments.put_circuit(circuit())
    (attachments.folder / "vk" / f"{circuit().description.vk}.vk").unlink()
    with pytest.raises(WorkspaceError, match="cannot read"):
        attachments.get_circuit(digest)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 5000, b'{"statement":"x"}', b"\xff", b'{"a":' * 9000, b" " * 70_000]
)
def test_circuits_that_are_none(attachments: Attachments, content: bytes) -> None:
    digest = attachments.put("circuits", content)
    with pytest.raises(StatementError, match="circuit"):
        attachments.get_circuit(digest)
