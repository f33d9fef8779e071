"""What an auditor attacks: a Python file that gives model and data, and how these data relate to what the ledger committed to.

The file is the auditor's own, and is run::

    def subject(): return mlp(x, y, Recipe(epochs=60, rate=0.1))          # certify.audit.adapter.Subject
    def records(): return Records(retain, forget, held_out, test)         # places in x and y: certify.audit.arms.Records
    def record(place): return rows[place]                                 # optional: the record as the operator committed to it
    network = "mlp 30-64-2"                                               # optional: a name for the plan
    untested = ["the copy on the phones"]                                 # optional: what this audit cannot test

Probes beside the verdict ask for more functions: :mod:`certify.audit.probes` says which.

Training records stand in the dataset's order when ordered by their places. Whoever has the operator's salts (``certify audit
salts``) checks that they are the records committed to, that those to forget are the ones the certificate removed, and that no
held-out record is among them. Without salts, held-out records are still compared with the training records of the file itself.
"""

import re
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from certify import dataset
from certify.audit.adapter import Params, Subject
from certify.audit.arms import Records
from certify.audit_salts import Salts
from certify.audit_terms import Recipe
from certify.dataset import Commitments
from certify.digest import Manifest, TensorSource, hash_tensors
from certify.errors import InputError, MismatchError
from certify.inputs import read_file
from certify.records import record_bytes
from certify.safetensors import open_tensors
from certify.statement import AuditData, Tree
from ledger.merkle import HASH_SIZE, leaf_hash

MAX_ADAPTER = 1 << 20
NOT_LINKED = (
    "that the data given to the auditor are those committed to at training: the operator's salts were not at hand"
)
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Loaded:
    """An adapter that was run. ``digest``: SHA-256 of its file."""

    digest: str
    subject: Subject
    records: Records
    record: Callable[[int], bytes]
    network: str
    untested: tuple[str, ...]
    functions: Mapping[str, Any] = field(default_factory=dict)
    """Everything in the file, by name, for probes."""

    @property
    def training(self) -> np.ndarray:
        """Places of all records that the original learnt, in the dataset's order."""
        return np.sort(np.concatenate([self.records.retain, self.records.forget]))

    def recipe(self) -> Recipe:
        own = self.subject.recipe
        return Recipe(
            network=self.network,
            epochs=own.epochs,
            batch=own.batch,
            optimiser=own.optimiser,
            rate=float(own.rate),
            momentum=float(own.momentum),
            decay=float(own.decay),
        )


def load(path: Path) -> Loaded:
    """Run an adapter. Raises InputError for one that lacks something, or whose sets overlap."""
    data = read_file(path, MAX_ADAPTER)
    found = runpy.run_path(str(path), run_name="certify_audit_adapter")
    for name in ("subject", "records"):
        if not callable(found.get(name)):
            raise InputError(f"expected a function {name}() in {path}, got {type(found.get(name)).__name__}")
    subject, records = found["subject"](), found["records"]()
    records.check(subject)
    record = found.get("record")

    def committed(place: int) -> bytes:
        if record is not None:
            return record_bytes(record(int(place)), name=f"record {place}")
        value = [*subject.x[place].flatten().tolist(), subject.y[place].item()]
        return record_bytes(value, name=f"record {place}")

    network = str(found.get("network", type(subject).__name__))
    return Loaded(
        sha256(data).hexdigest(),
        subject,
        records,
        committed,
        network,
        tuple(map(str, found.get("untested", ()))),
        found,
    )


def on_device(loaded: Loaded, device: str) -> Loaded:
    """With the subject on ``cpu``, ``cuda`` or ``cuda:1``: every model then trains and answers there. Raises InputError."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", device):
        raise InputError(f"expected a device such as cpu, cuda or cuda:1, got {device[:80]!r}")
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(f"torch sees {torch.cuda.device_count()} CUDA devices, expected {device}: take --device cpu")
    if not hasattr(loaded.subject, "to"):
        raise InputError(f"a {type(loaded.subject).__name__} has no to(device): place its data in the adapter itself")
    return replace(loaded, subject=loaded.subject.to(wanted))


# -- held-out records ----------------------------------------------------------------------------------------------------


def hold_out(loaded: Loaded) -> Commitments:
    """Commit to the held-out records, each with a fresh salt."""
    return dataset.commit(loaded.record(place) for place in loaded.records.held_out)


def held_out(loaded: Loaded, salts: bytes) -> Tree:
    """The tree over the held-out records with these salts, 32 bytes each. Raises InputError."""
    records = [loaded.record(place) for place in loaded.records.held_out]
    if len(salts) != dataset.SALT_SIZE * len(records):
        raise InputError(f"expected {len(records)} salts of held-out records, got {len(salts) // dataset.SALT_SIZE}")
    leaves = b"".join(_leaf(record, salts, i) for i, record in enumerate(records))
    return Tree(Commitments(salts, leaves).root().hex(), len(records))


def _leaf(record: bytes, salts: bytes, index: int) -> bytes:
    return leaf_hash(dataset.commit_record(record, salts[index * HASH_SIZE : (index + 1) * HASH_SIZE]))


# -- what the operator discloses -------------------------------------------------------------------------------------


def check_link(loaded: Loaded, salts: Salts, data: AuditData) -> tuple[str, ...]:
    """That the adapter's data are those committed to; what remains untested. Raises MismatchError, which says what differs."""
    root, count = dataset.retained(salts.leaves, ())
    if (root.hex(), count) != (data.training.root, data.training.count):
        raise MismatchError(f"the salts are of dataset {root.hex()}, the certificate is about {data.training.root}")
    if dataset.subset_root(salts.leaves, salts.removed).hex() != data.forget.root:
        raise MismatchError("the positions beside the salts are not those that the certificate removed")
    places = loaded.training
    if len(places) != count:
        raise MismatchError(f"the adapter has {len(places)} training records, {count} were committed to")
    leaves, unknown = dataset.split(salts.leaves), 0
    for position, (place, salt) in enumerate(zip(places, salts.salts, strict=True)):
        if not salt:
            unknown += 1
        elif leaf_hash(dataset.commit_record(loaded.record(place), salt)) != leaves[position]:
            raise MismatchError(
                f"training record {position} (place {place} of the adapter) is not the one that was committed to"
            )
    if sorted(loaded.records.forget) != [places[position] for position in salts.removed]:
        raise MismatchError("the records to forget in the adapter are not those that the certificate removed")
    copies = overlap(loaded, salts)
    if copies:
        raise MismatchError(
            f"held-out record {copies[0][0]} is training record {copies[0][1]}, and {len(copies) - 1} more like it: hold out "
            f"records that nobody learnt"
        )
    return (f"{unknown} training records, whose salts were destroyed: they could not be compared",) if unknown else ()


def overlap(loaded: Loaded, salts: Salts) -> list[tuple[int, int]]:
    """(held-out record, training position) where a held-out record opens a leaf of the training dataset.

    This takes a hash for every pair, and no record of the operator's: what was committed to decides, not what the file says.
    """
    leaves = {leaf: position for position, leaf in enumerate(dataset.split(salts.leaves))}
    found: list[tuple[int, int]] = []
    for number, place in enumerate(loaded.records.held_out):
        record = loaded.record(place)
        found += [
            (number, leaves[leaf])
            for salt in salts.salts
            if salt and (leaf := leaf_hash(dataset.commit_record(record, salt))) in leaves
        ]
    return found


# -- models --------------------------------------------------------------------------------------------------------------


def read_model(loaded: Loaded, paths: Sequence[Path]) -> tuple[Params, Manifest, tuple[str, ...]]:
    """A model's parameters out of safetensors files, with the digests of what was read; and the tensors that the adapter does
    not use. Digests and parameters come from the same open files, which must not change meanwhile (DigestError)."""
    with open_tensors(paths[0] if len(paths) == 1 else list(paths)) as sources:
        manifest = hash_tensors(sources)
        state = {source.name: _tensor(source) for source in sources}
    params = _params(loaded.subject, state)
    return params, manifest, tuple(sorted(set(state) - set(params)))


def _tensor(source: TensorSource) -> torch.Tensor:
    if source.dtype not in _DTYPES:
        raise InputError(f"tensor {source.name!r} is of type {source.dtype}, expected one of {', '.join(_DTYPES)}")
    data = bytearray(source.data.read(0, source.data.nbytes))
    flat = torch.frombuffer(data, dtype=_DTYPES[source.dtype]) if data else torch.empty(0, dtype=_DTYPES[source.dtype])
    return flat.reshape(source.shape)


def _params(subject: Any, state: Mapping[str, torch.Tensor]) -> Params:
    """By the subject's own ``params``, where it has one; otherwise the tensors that a fresh start has."""
    if hasattr(subject, "params"):
        params: Params = subject.params(state)
        return params
    names = subject.initial(0)
    if missing := sorted(set(names) - set(state)):
        raise InputError(f"expected tensors {', '.join(missing)} in the weights, got {', '.join(sorted(state))}")
    return {name: state[name].to(subject.x.device) for name in names}
