"""Looking at things without believing them: show, diff, digest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from certify.cli.options import WEIGHTS, Pair, json_option, ledger_option, read_weights, weight_files
from certify.cli.output import dim, emit, fields, plain, progress, strong, table
from certify.cli.readers import read, read_statement
from certify.fields import Scalar
from certify.inputs import read_file

Pairs = tuple[tuple[str, Scalar], ...]

UNVERIFIED = "as stated, nothing of it verified"


@click.command()
@click.argument("what")
@ledger_option
@json_option
def show(what: str, ledger: Path, as_json: bool) -> None:
    """Print what a file or an entry says.

    The file is a bundle, statement, inclusion proof, checkpoint, manifest, receipt, zk proof, circuit description,
    reference string or time stamp. Nothing is verified by this.

    \b
    Examples:
        certify show case.bundle
        certify show 2              # entry 2 of the ledger
        certify show 848a1d7f       # a statement by its digest
    """
    path = Path(what)
    if path.is_file():
        kind, value = read(path)
    else:
        from certify.workspace import Workspace

        with Workspace(ledger) as workspace:
            logged = workspace.find(what)
        kind, value = f"entry {logged.index}", read_statement(logged.envelope.data)
    emit(
        as_json,
        {"kind": kind, "verified": False, "content": value},
        f"{strong(kind)}  {dim(UNVERIFIED)}",
        *_lines(value),
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
    """Which tensors differ between two models, or which parts between two bundles.

    A model is a safetensors file, a folder of them, an index or a manifest file. Nothing is verified by this.

    \b
    Examples:
        certify diff model.safetensors forgot.safetensors
        certify diff monday.bundle today.bundle
    """
    if before.suffix == after.suffix == ".bundle":
        _diff_bundles(before, after, show_all, as_json)
        return
    from certify.digest import diff as compare

    first, second = _model(before, "before"), _model(after, "after")
    changes = compare(first, second)
    groups = {name: list(getattr(changes, name)) for name in ("changed", "added", "removed", "unchanged")}
    value = {"before": first.root().hex(), "after": second.root().hex(), **groups}
    if as_json:
        emit(True, value)
    else:
        _show_groups(groups, show_all)


def _show_groups(groups: Mapping[str, list[str]], show_all: bool) -> None:
    marks = {"changed": "~", "added": "+", "removed": "-", "unchanged": "="}
    colours = {"changed": "yellow", "added": "green", "removed": "red", "unchanged": None}
    for name, tensors in groups.items():
        if name != "unchanged" or show_all:
            for tensor in tensors:
                click.echo(click.style(f"{marks[name]} {_plain(tensor)}", fg=colours[name]))
    click.echo(", ".join(f"{len(tensors)} {name}" for name, tensors in groups.items()))


def _diff_bundles(before: Path, after: Path, show_all: bool, as_json: bool) -> None:
    """Parts go by their digest or, entries, by their index."""
    first, second = _parts(before), _parts(after)
    groups = {
        "changed": sorted(name for name in first.keys() & second.keys() if first[name] != second[name]),
        "added": sorted(second.keys() - first.keys()),
        "removed": sorted(first.keys() - second.keys()),
        "unchanged": sorted(name for name in first.keys() & second.keys() if first[name] == second[name]),
    }
    if as_json:
        emit(True, {"before": str(before), "after": str(after), **groups})
    else:
        _show_groups(groups, show_all)


def _parts(path: Path) -> dict[str, str]:
    """Names of a bundle's parts, and what to compare them by."""
    from certify.bundle import MAX_BUNDLE_SIZE, Bundle
    from certify.statement import Statement

    bundle = Bundle.parse(read_file(path, MAX_BUNDLE_SIZE + 1))
    parts = {
        f"entry {entry.index}, {Statement.parse(entry.envelope.payload).kind}": entry.envelope.digest
        for entry in bundle.entries
    }
    folders: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("model", bundle.manifests),
        ("dataset", bundle.leaves),
        ("circuit", bundle.circuits),
        ("points", bundle.points),
        ("zk proof", bundle.proofs),
        ("reference string", bundle.srs),
        ("time stamp", bundle.timestamps),
    )
    parts |= {f"{what} {digest}": "" for what, folder in folders for digest in folder}  # these go by their content
    return parts | {f"removed by {digest}": str(positions) for digest, positions in bundle.removed.items()}


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
