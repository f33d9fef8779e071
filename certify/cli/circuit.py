"""certify circuit: what the circuits of a case prove, and whether their keys stand for that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from certify.cli.key_files import public_keys, signing_key
from certify.cli.options import FILE, OUTPUT, json_option, ledger_option, needs_zk
from certify.cli.output import bad, dim, emit, fields, folded, forgeable, good, plain, stages, strong
from certify.errors import InputError
from certify.inputs import read_file, write_file
from certify.zk import CircuitDescription

_STAGES = {"build": "exporting and compiling the circuit", "setup": "making its keys"}
_DEVELOPMENT = "proofs by this circuit can be forged, whatever its keys stand for"
MAX_ONNX = 64 << 20


@click.group()
def circuit() -> None:
    """Say what circuits prove; build them anew to know that they do.

    A verification key does not tell what it stands for. 'rebuild' makes it from the description of what is proven, and
    compares. Then accept the circuit in your trust file, or sign that you have built it, so that others can rely on you.
    """


@circuit.command()
@click.argument("bundle", type=FILE)
@json_option
def show(bundle: Path, as_json: bool) -> None:
    """Say in plain words what each circuit in a bundle proves. Nothing is verified by this.

    \b
    Example:
        certify circuit show case.bundle
    """
    from certify.circuit_words import explain

    found = _circuits(bundle)
    if as_json:
        emit(True, [{"digest": digest, "title": item.title, **_json(item)} for digest, item in found.items()])
        return
    for number, (digest, item) in enumerate(found.items()):
        if number:
            click.echo()
        click.echo(f"{strong('circuit')} {digest}")
        click.echo(dim("as described; 'certify circuit rebuild' checks that its keys stand for this"))
        _print(explain(item))


def _json(item: CircuitDescription) -> dict[str, Any]:
    import msgspec

    value: dict[str, Any] = msgspec.to_builtins(item)
    return value


def _circuits(bundle: Path) -> Mapping[str, CircuitDescription]:
    from certify.bundle import MAX_BUNDLE_SIZE, Bundle

    parsed = Bundle.parse(read_file(bundle, MAX_BUNDLE_SIZE + 1))
    if not parsed.circuits:
        raise InputError(f"{bundle} has no circuit: its certificate comes without a zero-knowledge proof")
    return {digest: parsed.circuits[digest].description for digest in sorted(parsed.circuits)}


def _print(pairs: list[tuple[str, str]]) -> None:
    """Names, and words folded beside them."""
    width = max(len(name) for name, _ in pairs)
    for name, words in pairs:
        style = bad if words.startswith("DEVELOPMENT") else str
        for line in folded(plain(words), width + 4, first=f"  {dim(name.ljust(width))}  ", style=style):
            click.echo(line)


@circuit.command()
@click.argument("bundle", type=FILE)
@click.option(
    "--srs-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the reference string.  [default: as certify srs status shows]",
)
@click.option(
    "--onnx", type=FILE, multiple=True, help="ONNX of an operator's own step, which you have read; repeatable."
)
@click.option("--add-to", type=FILE, help="Accept the rebuilt circuits in this trust file.")
@click.option("--key", type=FILE, help="Sign that you have built them, with this key.")
@click.option(
    "--output", "-o", type=OUTPUT, default=Path("circuit.dsse.json"), show_default=True, help="For what --key signs."
)
@json_option
@needs_zk()
def rebuild(
    bundle: Path,
    srs_folder: Path | None,
    onnx: tuple[Path, ...],
    add_to: Path | None,
    key: Path | None,
    output: Path,
    as_json: bool,
) -> None:
    """Build the circuits of a bundle anew, from their descriptions alone, and compare.

    ONNX, settings and verification key have to come out with the digests that the bundle names. Of the bundle, nothing but
    statement and parameters is used. Takes as long as proving.

    The circuit of an operator's own step is described by its ONNX alone: ask for the file, read what it computes, and give it
    with --onnx. A circuit that lets random weights through is refused.

    \b
    Examples:
        certify circuit rebuild case.bundle
        certify circuit rebuild case.bundle --add-to trust.toml
        certify circuit rebuild case.bundle --onnx own-step.onnx
        certify circuit rebuild case.bundle --key auditor.pem -o circuit.dsse.json

    \b
    Exit codes:
        0 all are the same    41 no such reference string    44 cannot be built    48 something differs
    """
    from certify.circuit_record import is_development, rebuild
    from certify.trust import Trust, accept_circuit, circuit_table

    described = _circuits(bundle)
    if add_to is not None:
        Trust.load(add_to)  # before it takes minutes
    signer = _Signer(bundle, key, output, len(described)) if key is not None else None
    folders = [srs_folder] if srs_folder is not None else None
    models = [read_file(path, MAX_ONNX) for path in onnx]
    value: list[dict[str, Any]] = []
    for digest, item in described.items():
        remarks: list[str] = []
        with stages(_STAGES) as progress:
            rebuild(item, folders=folders, onnx=models, remark=remarks.append, progress=progress)
        development = is_development(item)
        added = add_to is not None and accept_circuit(add_to, digest, item.title)
        signed = signer.sign(item) if signer is not None else None
        value.append(
            {
                "digest": digest,
                "title": item.title,
                "same": True,
                "remarks": remarks,
                "developmentSrs": development,
                "trust": circuit_table(digest, item.title),
                "added": added,
                "signed": str(signed) if signed is not None else None,
            }
        )
        if not as_json:
            _show_rebuilt(item, development, add_to, added, signed, remarks)
    if as_json:
        emit(True, value)


class _Signer:
    """Signs what was rebuilt; the key is opened before that takes minutes."""

    def __init__(self, bundle: Path, key: Path, output: Path, count: int) -> None:
        from certify.bundle import MAX_BUNDLE_SIZE, Bundle
        from certify.circuit_record import origin_of

        self.origin = origin_of(Bundle.parse(read_file(bundle, MAX_BUNDLE_SIZE + 1)))
        self.key = signing_key(key)
        suffix = "".join(output.suffixes)
        stem = output.name.removesuffix(suffix)
        names = [output] + [output.with_name(f"{stem}-{number}{suffix}") for number in range(2, count + 1)]
        self.outputs = iter(names)

    def sign(self, item: CircuitDescription) -> Path:
        from certify.circuit_record import state

        output = next(self.outputs)
        write_file(output, state(item, self.origin, [self.key]).data)
        return output


def _show_rebuilt(
    item: CircuitDescription,
    development: bool,
    add_to: Path | None,
    added: bool,
    signed: Path | None,
    remarks: list[str],
) -> None:
    from certify.trust import circuit_table

    lines = [
        f"{good('the same')}  circuit {item.digest}",
        *fields(
            ("proves", f"{plain(item.title)}; see certify circuit show"),
            ("onnx", item.onnx),
            ("settings", item.settings),
            ("verification key", item.vk),
        ),
    ]
    lines += [bad(f"mind: {line}") for line in remarks]
    if development:
        lines += forgeable(_DEVELOPMENT)
    if add_to is not None:
        lines.append(good(f"accepted in {add_to}") if added else f"{add_to} accepted it already")
    if signed is not None:
        lines += [good(f"wrote {signed}"), f"next, by the operator: certify circuit log {signed}"]
    if add_to is None and signed is None:
        lines += [
            "to accept it, add to your trust file (or use --add-to):",
            "",
            circuit_table(item.digest, item.title).rstrip(),
        ]
    emit(False, None, *lines)


@circuit.command()
@ledger_option
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option(
    "--auditor", "auditors", type=FILE, multiple=True, help="Public key of who signed, to check it; repeatable."
)
@json_option
def log(ledger: Path, files: tuple[Path, ...], auditors: tuple[Path, ...], as_json: bool) -> None:
    """Log an auditor's statement that they built a circuit, as it came.

    Bundles made afterwards contain it, and verifiers who trust the auditor need no circuit in their trust file.

    \b
    Example:
        certify circuit log circuit.dsse.json --auditor auditor.pem.pub
    """
    from certify.circuit_record import log_statement
    from certify.envelope import MAX_ENVELOPE_SIZE
    from certify.workspace import Workspace

    known = public_keys(auditors)
    value: list[dict[str, Any]] = []
    with Workspace(ledger) as workspace:
        for file in files:
            admitted = log_statement(workspace, read_file(file, MAX_ENVELOPE_SIZE + 1), known)
            logged, signers = admitted.logged, [key.keyid for key in admitted.signers]
            value.append(
                {
                    "entry": logged.index,
                    "digest": logged.digest,
                    "circuit": admitted.circuit.digest,
                    "checkedSigners": signers,
                }
            )
            signed = ", ".join(signers) or f"{bad('not checked')}: give the auditor's public key with --auditor"
            if not as_json:
                emit(
                    False,
                    None,
                    good(f"logged as entry {logged.index}"),
                    *fields(("digest", logged.digest), ("circuit", admitted.circuit.digest), ("signed by", signed)),
                    "next: certify bundle, which then contains it",
                )
    if as_json:
        emit(True, value)
