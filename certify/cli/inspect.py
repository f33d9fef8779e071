"""Looking at things without believing them: show, diff, digest."""

import json
from pathlib import Path
from typing import Any

import click

from certify.cli.options import WEIGHTS, Pair, json_option, ledger_option, read_weights, weight_files
from certify.cli.output import dim, emit, fields, plain, progress, strong, table
from certify.errors import CertifyError, InputError
from certify.fields import Scalar
from certify.inputs import read_file
from ledger.errors import LedgerError

Pairs = tuple[tuple[str, Scalar], ...]

UNVERIFIED = "as stated, nothing of it verified"


@click.command()
@click.argument("what")
@ledger_option
@json_option
def show(what: str, ledger: Path, as_json: bool) -> None:
    """Print what a file or an entry says.

    The file is a bundle, statement, proof, checkpoint, manifest or receipt. Nothing is verified by this.

    \b
    Examples:
        certify show case.bundle
        certify show 2              # entry 2 of the ledger
        certify show 848a1d7f       # a statement by its digest
    """
    path = Path(what)
    if path.is_file():
        kind, value = _read(path)
    else:
        from certify.workspace import Workspace

        with Workspace(ledger) as workspace:
            logged = workspace.find(what)
        kind, value = f"entry {logged.index}", _statement(logged.envelope.data)
    emit(
        as_json,
        {"kind": kind, "verified": False, "content": value},
        f"{strong(kind)}  {dim(UNVERIFIED)}",
        *_lines(value),
    )


def _read(path: Path) -> tuple[str, Any]:
    from certify.bundle import MAX_BUNDLE_SIZE

    data = read_file(path, MAX_BUNDLE_SIZE)
    for kind, reader in _READERS:
        try:
            return kind, reader(data)
        except (CertifyError, LedgerError):
            continue
    raise InputError(f"{path} is none of: {', '.join(kind for kind, _ in _READERS)}")


def _statement(data: bytes) -> dict[str, Any]:
    from certify.envelope import Envelope
    from certify.statement import Statement

    envelope = Envelope.parse(data)
    Statement.parse(envelope.payload)
    content: dict[str, Any] = json.loads(envelope.payload)
    return {"digest": envelope.digest, "signedBy": [s.keyid for s in envelope.signatures], **content}


def _bundle(data: bytes) -> dict[str, Any]:
    from certify.bundle import Bundle

    bundle = Bundle.parse(data)
    return {
        "entries": {str(entry.index): _statement(entry.data) for entry in bundle.entries},
        "models": {root: f"{len(manifest.tensors)} tensors" for root, manifest in bundle.manifests.items()},
        "datasets": {root: f"{len(leaves) // 32} records" for root, leaves in bundle.leaves.items()},
        "removed": {digest: f"{len(positions)} records" for digest, positions in bundle.removed.items()},
    }


def _proof(data: bytes) -> dict[str, Any]:
    from ledger.proof import TlogProof

    proof = TlogProof.parse(data)
    return {
        "index": proof.index,
        "path": [hash_.hex() for hash_ in proof.path],
        "checkpoint": _checkpoint(proof.checkpoint),
    }


def _checkpoint(data: bytes) -> dict[str, Any]:
    from ledger.checkpoint import Checkpoint
    from ledger.note import Note

    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "signatures": [f"{signature.name} ({signature.key_id.hex()})" for signature in note.signatures],
    }


def _manifest(data: bytes) -> dict[str, Any]:
    from certify.digest import Manifest

    manifest = Manifest.parse(data)
    tensors = {
        tensor.name: f"{tensor.dtype} {list(tensor.shape)} {tensor.chunks.hex()[:16]}" for tensor in manifest.tensors
    }
    return {"tensorRoot": manifest.root().hex(), "bytes": manifest.nbytes, "tensors": tensors}


def _receipt(data: bytes) -> dict[str, Any]:
    from certify.receipt import Receipt

    receipt = Receipt.parse(data)
    return {
        "record": receipt.record.decode(errors="backslashreplace"),
        "request": {"root": receipt.request.root, "position": receipt.request.index},
        "training": {"root": receipt.training.root, "position": receipt.training.index},
    }


_READERS = (
    ("bundle", _bundle),
    ("statement", _statement),
    ("tlog-proof", _proof),
    ("checkpoint", _checkpoint),
    ("manifest", _manifest),
    ("receipt", _receipt),
)


def _lines(value: Any, indent: int = 0) -> list[str]:
    """Nested names and values, one a line."""
    pad = "  " * indent
    lines: list[str] = []
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict | list) and item:
            lines += [f"{pad}{dim(plain(str(name)))}", *_lines(item, indent + 1)]
        else:
            lines.append(f"{pad}{dim(plain(str(name)))}  {_plain(item)}")
    return lines


def _plain(item: Any) -> str:
    return plain(item if isinstance(item, str) else json.dumps(item))


@click.command()
@click.argument("before", type=WEIGHTS)
@click.argument("after", type=WEIGHTS)
@click.option("--all", "show_all", is_flag=True, help="List the tensors that are the same, too.")
@json_option
def diff(before: Path, after: Path, show_all: bool, as_json: bool) -> None:
    """Which tensors differ between two models.

    Each is a safetensors file, a folder of them, an index or a manifest file.

    \b
    Example:
        certify diff model.safetensors forgot.safetensors
    """
    from certify.digest import diff as compare

    first, second = _model(before, "before"), _model(after, "after")
    changes = compare(first, second)
    groups = {name: list(getattr(changes, name)) for name in ("changed", "added", "removed", "unchanged")}
    value = {"before": first.root().hex(), "after": second.root().hex(), **groups}
    if as_json:
        emit(True, value)
        return
    marks = {"changed": "~", "added": "+", "removed": "-", "unchanged": "="}
    colours = {"changed": "yellow", "added": "green", "removed": "red", "unchanged": None}
    for name, tensors in groups.items():
        if name != "unchanged" or show_all:
            for tensor in tensors:
                click.echo(click.style(f"{marks[name]} {_plain(tensor)}", fg=colours[name]))
    click.echo(", ".join(f"{len(tensors)} {name}" for name, tensors in groups.items()))


def _model(path: Path, what: str) -> Any:
    if path.suffix == ".json" and not path.name.endswith(".index.json"):
        from certify.digest import MAX_MANIFEST, Manifest

        return Manifest.parse(read_file(path, MAX_MANIFEST))
    return read_weights([path], what)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=WEIGHTS)
@click.option("--tied", type=Pair(), multiple=True, help="A tied tensor that the files left out, as name=kept.")
@click.option("--tensors", is_flag=True, help="List every tensor.")
@click.option("--prove", "prove", metavar="TENSOR", help="Print the inclusion proof of one tensor, as JSON.")
@click.option("--manifest", type=click.Path(dir_okay=False, path_type=Path), help="Write the manifest to this file.")
@json_option
def digest(
    paths: tuple[Path, ...], tied: Pairs, tensors: bool, prove: str | None, manifest: Path | None, as_json: bool
) -> None:
    """Print the tensor root of a model.

    And the SHA-256 and the model-signing root of its safetensors files.

    \b
    Examples:
        certify digest model.safetensors
        certify digest model-folder/ --tensors
        certify digest model.safetensors --prove lm_head.weight > head.proof.json
    """
    from certify.digest import prove_tensor
    from certify.files import hash_files, oms_root_of

    made = read_weights(paths, "weights", tied)
    if prove is not None:
        click.echo(prove_tensor(made, prove).to_json().decode())
        return
    if manifest is not None:
        manifest.write_bytes(made.to_json())
    listed = weight_files(paths)
    with progress("hashing files", sum(path.stat().st_size for path in listed)) as update:
        files = hash_files(listed, progress=update)
    value = {
        "tensorRoot": made.root().hex(),
        "tensors": len(made.tensors),
        "bytes": made.nbytes,
        "files": {name: digest.hex() for name, digest in files.items()},
        "omsRoot": oms_root_of(files).hex(),
    }
    if tensors and as_json:
        value["manifest"] = json.loads(made.to_json())
    emit(
        as_json,
        value,
        *fields(
            ("tensor root", value["tensorRoot"]),
            ("tensors", f"{len(made.tensors)}, {made.nbytes:,} bytes"),
            *((f"sha256 {name}", digest.hex()) for name, digest in files.items()),
            ("model-signing root", value["omsRoot"]),
        ),
    )
    if tensors and not as_json:
        rows = [(_plain(t.name), t.dtype, "x".join(map(str, t.shape)), t.chunks.hex()[:16]) for t in made.tensors]
        table(("tensor", "dtype", "shape", "hash"), rows)
