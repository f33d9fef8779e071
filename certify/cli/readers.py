"""What a file or an entry says, as it says it: bundles, statements, proofs, checkpoints, manifests, receipts, circuits.

::

    read(Path("case.bundle"))      # ("bundle", {"entries": {"0": {…}}, "models": …})

Nothing is verified by reading.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certify.errors import CertifyError, InputError
from certify.inputs import read_file
from circuits.errors import CircuitError
from ledger.errors import LedgerError

if TYPE_CHECKING:
    from certify.bundle import Bundle


def read(path: Path) -> tuple[str, Any]:
    """The kind of a file and what it says. Raises InputError."""
    from certify.bundle import MAX_BUNDLE_SIZE

    data = read_file(path, MAX_BUNDLE_SIZE)
    for kind, reader in _READERS:
        try:
            return kind, reader(data)
        except (CertifyError, LedgerError, CircuitError):
            continue
    raise InputError(f"{path} is none of: {', '.join(kind for kind, _ in _READERS)}")


def read_statement(data: bytes) -> dict[str, Any]:
    """A signed statement. Raises StatementError."""
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
        "entries": {str(entry.index): read_statement(entry.data) for entry in bundle.entries},
        "models": {root: f"{len(manifest.tensors)} tensors" for root, manifest in bundle.manifests.items()},
        "datasets": {root: f"{len(leaves) // 32} records" for root, leaves in bundle.leaves.items()},
        "removed": {digest: f"{len(positions)} records" for digest, positions in bundle.removed.items()},
        **_zk_parts(bundle),
        **({"timestamps": _stamps(bundle)} if bundle.timestamps else {}),
    }


def _stamps(bundle: "Bundle") -> dict[str, Any]:
    from ledger.errors import TimestampError

    found: dict[str, Any] = {}
    for digest, data in bundle.timestamps.items():
        try:
            found[digest] = _timestamp(data)
        except TimestampError as error:
            found[digest] = f"malformed: {error}"
    return found


def _zk_parts(bundle: "Bundle") -> dict[str, dict[str, Any]]:
    """What zero-knowledge proofs are checked with, where there are any."""
    from circuits.srs import CEREMONY

    parts: dict[str, dict[str, Any]] = {
        "circuits": {digest: circuit.description.title for digest, circuit in bundle.circuits.items()},
        "points": {digest: f"{len(data) // 32} points" for digest, data in bundle.points.items()},
        "proofs": {digest: _described_proof(data) for digest, data in bundle.proofs.items()},
        "srs": {
            digest: "the perpetual powers of tau"
            if digest == CEREMONY[1]
            else "DEVELOPMENT: whoever made it can forge proofs"
            for digest in bundle.srs
        },
    }
    return {name: part for name, part in parts.items() if part}


def _described_proof(data: bytes) -> str:
    from circuits.zk_proof import Proof

    try:
        return f"{len(data):,} bytes, {len(Proof.parse(data).instances)} public values"
    except CircuitError as error:
        return f"malformed: {error}"


def _zk_proof(data: bytes) -> dict[str, Any]:
    from circuits.zk_proof import Proof

    proof = Proof.parse(data)
    return {"publicValues": [str(value) for value in proof.instances], "transcript": f"{len(proof.transcript):,} bytes"}


def _circuit(data: bytes) -> dict[str, Any]:
    from certify.circuit_words import explain
    from certify.errors import StatementError
    from certify.wire import decode
    from certify.zk import CircuitDescription

    circuit = decode(data, CircuitDescription, limit=1 << 16, what="a circuit", error=StatementError)
    return {"digest": circuit.digest, **dict(explain(circuit)), "parameters": circuit.parameters}


def _srs(data: bytes) -> dict[str, Any]:
    from circuits.srs import parse

    found = parse(data)
    kind = "the perpetual powers of tau" if not found.development else "DEVELOPMENT: whoever made it can forge proofs"
    return {"logrows": found.logrows, "sha256": found.digest, "kind": kind}


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


def _timestamp(data: bytes) -> dict[str, Any]:
    from certify.times import format_time
    from ledger.timestamp import read

    stamp = read(data, None)
    return {
        "time": format_time(stamp.time),
        "signer": stamp.signer,
        "policy": stamp.policy,
        "over": stamp.imprint.hex(),
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
    value: dict[str, Any] = {
        "record": receipt.record.decode(errors="backslashreplace"),
        "request": {"root": receipt.request.root, "position": receipt.request.index},
        "training": {"root": receipt.training.root, "position": receipt.training.index},
    }
    if receipt.zk is not None:
        value["numbers"] = {"request": receipt.zk.request.values, "training": receipt.zk.training.values}
    return value


_READERS: tuple[tuple[str, Callable[[bytes], dict[str, Any]]], ...] = (
    ("bundle", _bundle),
    ("statement", read_statement),
    ("tlog-proof", _proof),
    ("checkpoint", _checkpoint),
    ("manifest", _manifest),
    ("receipt", _receipt),
    ("zk proof", _zk_proof),
    ("circuit", _circuit),
    ("reference string", _srs),
    ("time stamp", _timestamp),
)
