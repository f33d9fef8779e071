"""For operators who record what each batch changed (amnesiac unlearning), and for auditors who are given that.

::

    recording = Recording.create("deltas")
    with certify.training(model, ledger=ledger, data=patients, method="amnesiac/v1") as run:
        for rows in batches:
            with recording.batch(model, rows):
                ...
        run.detail = deltas.trained(ledger, recording, len(patients))
    step = deltas.step(ledger, model, request, [recording])
    run = certify.unlearn(model, step, ledger=ledger, request=request, task=task)
    deltas.recompute(bundle, before.state_dict(), [recording.trail.opening])     # the auditor: the weights after, to the bit

The secret of a record-to-batches map stays in the vault, as the note ``batch-map/<root>``. Deltas that were taken back are as
telling as the records: destroy them (:meth:`circuits.steps.trail.Trail.shred`) once nobody has to look at them.
"""

import hmac
import secrets
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from certify.bundle import Bundle
from certify.dataset import split
from certify.envelope import Envelope
from certify.errors import ChainError, WorkspaceError
from certify.methods.amnesiac import (
    Amnesiac,
    AmnesiacTraining,
    Batches,
    Held,
    Opened,
    Recorded,
    Removed,
    leaf_of,
    to_json,
)
from certify.statement import Statement, Training, Unlearning
from certify.workspace import Logged, Workspace
from ledger.merkle import inclusion_path, root

if TYPE_CHECKING:
    from torch import Tensor, nn

    from circuits.steps import amnesiac
    from circuits.steps.amnesiac import Recording
    from circuits.steps.trail import Opening


def trained(workspace: Workspace, recording: "Recording", count: int) -> AmnesiacTraining:
    """Commit to a recording of a training on ``count`` records. Raises WorkspaceError for positions beyond these."""
    return AmnesiacTraining(_commit(workspace, recording, count))


def step(
    workspace: Workspace,
    model: "nn.Module",
    request: Logged | Sequence[Logged],
    recordings: "Sequence[Recording]",
    *,
    epochs: int = 0,
    rate: float = 0.01,
    batch: int = 32,
    seed: int = 0,
    into: "Recording | None" = None,
) -> "amnesiac.Amnesiac":
    """The step that takes back what held the requested records. ``recordings``: the training's, then that of each repair so far.

    With ``epochs``, the retained records (``task.retain``, in the dataset's order) repair what it broke, recorded ``into``.
    Raises WorkspaceError where the ledger knows of other recordings, or of no records to forget.
    """
    from certify.certificate import forgotten_by, parent_of
    from certify.state_dict import digest_state_dict
    from circuits.steps import amnesiac

    parent = parent_of(workspace, digest_state_dict(model))
    lineage = workspace.lineage(parent)
    said = [one.statement.predicate for one in lineage]
    requests = [request] if isinstance(request, Logged) else list(request)
    forgotten = forgotten_by(workspace, parent, requests)
    training, earlier = said[0], [one.detail for one in said[1:] if isinstance(one, Unlearning)]
    if not isinstance(training, Training) or not isinstance(training.detail, AmnesiacTraining) or forgotten is None:
        raise WorkspaceError("expected a request for records, of a model whose training recorded its deltas")
    repairs = [detail.repair for detail in earlier if isinstance(detail, Amnesiac) and detail.repair]
    recorded = [training.detail.recorded, *repairs]
    found = [sha256(recording.trail.commitments()).hexdigest() for recording in recordings]
    if found != [one.deltas for one in recorded]:
        raise WorkspaceError(
            f"expected the {len(recorded)} recordings that the ledger knows of, oldest first, got others"
        )
    leaves = split(workspace.vault.leaves(training.dataset.root))
    last = earlier[-1].after if earlier and isinstance(earlier[-1], Amnesiac) else None
    gone = msgspec.json.decode(workspace.attachments.get("details", last), type=Batches) if last else []
    gone += [[] for _ in recorded[len(gone) :]]
    held = [recording.touched(forgotten.positions) for recording in recordings]
    taken = [
        amnesiac.Taken(recording, tuple(sorted(set(those) - set(before))))
        for recording, those, before in zip(recordings, held, gone, strict=True)
    ]
    after = [sorted({*a, *b}) for a, b in zip(gone, held, strict=True)]
    put, known = workspace.attachments.put, list(zip(recordings, recorded, strict=True))

    def places(more: "Sequence[tuple[Recording, Recorded]]" = ()) -> str:
        return put("details", to_json(_opened(workspace, forgotten.positions, leaves, [*known, *more])))

    def seal(recording: "Recording") -> dict[str, object]:
        made = _commit(workspace, recording, len(leaves))
        return {"repair": msgspec.to_builtins(made), "places": places([(recording, made)])}

    shown = {"after": put("details", to_json(after))}
    if last:
        shown["before"] = last
    if into is None or not epochs:
        return amnesiac.Amnesiac(epochs=epochs, rate=rate, batch=batch, seed=seed).of(
            taken, {**shown, "places": places()}
        )
    absent = set(forgotten.positions)
    for one in lineage[1:]:
        absent.update(workspace.vault.note(f"removed/{one.digest}") or ())
    rows = [position for position in range(len(leaves)) if position not in absent]
    repair = amnesiac.Repair(into, rows, seal)
    return amnesiac.Amnesiac(epochs=epochs, rate=rate, batch=batch, seed=seed).of(taken, shown, repair)


def recompute(bundle: bytes, before: "Mapping[str, Tensor]", openings: "Sequence[Opening]") -> "dict[str, Tensor]":
    """For an auditor with the weights before and the deltas: the weights right after the subtraction, to the bit.

    ``openings``: for each recording, oldest first, what gives salt and delta of a batch. Check the bundle itself with
    :func:`certify.verifier.verify`. Raises ChainError if a weight or a delta is not what the certificate or the training
    committed to, or if the subtraction leads to other weights.
    """
    from certify.state_dict import digest_state_dict
    from circuits.steps import amnesiac
    from circuits.steps.trail import TrailError, check

    case = Bundle.parse(bundle)
    said = [Statement.parse(Envelope.parse(entry.data).payload).predicate for entry in case.entries]
    details = [one.detail for one in said if isinstance(one, Training | Unlearning)]
    certificate = [one for one in said if isinstance(one, Unlearning)][-1]
    detail = certificate.detail
    if not isinstance(detail, Amnesiac):
        raise ChainError(f"the certificate is by {certificate.method.name}, expected amnesiac/v1")
    recorded = [one.recorded for one in details if isinstance(one, AmnesiacTraining)]
    recorded += [one.repair for one in details if isinstance(one, Amnesiac) and one is not detail and one.repair]
    if len(openings) != len(recorded):
        raise ChainError(f"expected openings of {len(recorded)} recordings, oldest first, got {len(openings)}")
    after = msgspec.json.decode(case.details[detail.after], type=Batches)
    gone = msgspec.json.decode(case.details[detail.before], type=Batches) if detail.before else []
    gone += [[] for _ in recorded[len(gone) :]]
    if digest_state_dict(before).root().hex() != certificate.pre.tensor_root:
        raise ChainError(f"the weights before are not those of tensor root {certificate.pre.tensor_root}")

    def deltas() -> "Iterator[Tensor]":
        for number, (one, those, earlier) in enumerate(zip(recorded, after, gone, strict=True)):
            for index in sorted(set(those) - set(earlier)):
                salt, piece = openings[number](index)
                check(case.details[one.deltas], index, kind=amnesiac.KIND, salt=salt, piece=piece)
                yield amnesiac.from_bytes(piece)

    try:
        found = amnesiac.subtracted(before, deltas())
    except TrailError as error:
        raise ChainError(str(error)) from error
    if amnesiac.digest(found) != detail.weights:
        raise ChainError(
            "the weights less the committed deltas are not those that the certificate states after the subtraction"
        )
    if detail.repair is None and digest_state_dict(found).root().hex() != certificate.post.tensor_root:
        raise ChainError(
            f"the weights less the committed deltas are not those of tensor root {certificate.post.tensor_root}"
        )
    return found


def _commit(workspace: Workspace, recording: "Recording", count: int) -> Recorded:
    held = _by_record(recording, count)
    secret = secrets.token_bytes(32)
    leaves = [leaf_of(_salt(secret, position), batches) for position, batches in enumerate(held)]
    tree = root(leaves).hex()
    workspace.vault.put_note(f"batch-map/{tree}", {"secret": secret.hex()})
    deltas = workspace.attachments.put("details", recording.trail.commitments())
    return Recorded(batches=len(recording.trail), deltas=deltas, map=tree)


def _by_record(recording: "Recording", count: int) -> list[list[int]]:
    held: list[list[int]] = [[] for _ in range(count)]
    for index, positions in enumerate(recording.batches()):
        if not positions or positions[0] < 0 or positions[-1] >= count:
            raise WorkspaceError(
                f"batch {index} was recorded with positions {positions[:4]}, expected some below {count}"
            )
        for position in positions:
            held[position].append(index)
    return held


def _opened(
    workspace: Workspace,
    positions: Sequence[int],
    leaves: Sequence[bytes],
    recordings: "Sequence[tuple[Recording, Recorded]]",
) -> Opened:
    held: list[list[Held]] = [[] for _ in positions]
    for recording, recorded in recordings:
        note = workspace.vault.note(f"batch-map/{recorded.map}")
        if note is None:
            raise WorkspaceError(f"the vault has no secret of the batch map with root {recorded.map}: restore it")
        secret, by_record = bytes.fromhex(note["secret"]), _by_record(recording, len(leaves))
        tree = [leaf_of(_salt(secret, position), batches) for position, batches in enumerate(by_record)]
        for one, position in zip(held, positions, strict=True):
            path = [node.hex() for node in inclusion_path(tree, position)]
            one.append(Held(by_record[position], _salt(secret, position).hex(), path))
    return Opened(
        [
            Removed(position, leaves[position].hex(), [node.hex() for node in inclusion_path(leaves, position)], one)
            for one, position in zip(held, positions, strict=True)
        ]
    )


def _salt(secret: bytes, position: int) -> bytes:
    return hmac.digest(secret, position.to_bytes(8, "big"), sha256)
