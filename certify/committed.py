"""Tensors of integers that proofs are about: committed to, their points beside the log, their values and salt in the vault.

::

    made = commit(RECORDS, layout, [matrix], srs)      # points of each tensor, with fresh salt
    made.stated                                        # what a statement says of them
    keep(workspace, made)                              # before the log speaks of it
    recall(workspace, made.stated)                     # the salted values again, to prove with

A proof discloses one evaluation of each committed column, and the salt outlasts a stated number of proofs: :func:`spend` counts.
"""

from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from certify.errors import WorkspaceError
from certify.receipt import ZkOpening
from certify.statement import Training
from certify.workspace import Logged, Workspace
from certify.zk import BATCHES, FORGOTTEN, RECORDS, Commitments, Committed, Encoding
from circuits import commitment, opening, srs
from circuits.layout import Layout
from circuits.srs import Srs

Matrix = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Made:
    """Committed tensors of one layout: what is stated, their points, and their values with salt (secret)."""

    stated: Committed
    layout: Layout
    points: bytes
    values: tuple[tuple[int, ...], ...]


def reference_string(logrows: int, *, development: bool = False) -> tuple[Path, Srs]:
    """The file to commit and prove with: the ceremony's; where asked for and there is none, a development one."""
    path = srs.find(logrows, development=development)
    return path, srs.load(path)


def reference_string_of(stated: Commitments) -> tuple[Path, Srs]:
    """The one that commitments were made with. Raises WorkspaceError when it is another that is found."""
    path, found = reference_string(stated.logrows, development=stated.srs != srs.CEREMONY[1])
    if sha256(srs.reduced(found)).hexdigest() != stated.srs:
        raise WorkspaceError(
            f"{path} is not the reference string {stated.srs[:16]} that the commitments were made with"
        )
    return path, found


def commit(
    name: str,
    layout: Layout,
    tensors: Sequence[Matrix],
    string: Srs,
    progress: Callable[[int], object] = lambda done: None,
) -> Made:
    """Commit to matrices of integers, each with fresh salt. ``progress`` hears how many tensors are done."""
    values: list[tuple[int, ...]] = []
    points: list[bytes] = []
    for done, matrix in enumerate(tensors, 1):
        salted = layout.salted(matrix)
        points += commitment.commit(salted, string)
        values.append(tuple(salted))
        progress(done)
    return made_of(name, layout, values, b"".join(points))


def made_of(name: str, layout: Layout, values: Sequence[Sequence[int]], points: bytes) -> Made:
    """From salted values whose points are known already."""
    stated = Committed(name, layout.rows, layout.columns, layout.proofs, sha256(points).hexdigest(), len(values))
    return Made(stated, layout, points, tuple(tuple(part) for part in values))


def keep(workspace: Workspace, made: Made) -> None:
    """Points beside the log, values in the vault."""
    workspace.attachments.put("points", made.points)
    workspace.vault.put_note(f"zk/{made.stated.points}", {"values": [_pack(part) for part in made.values], "proofs": 0})


def recall(workspace: Workspace, stated: Committed) -> list[list[int]]:
    """The salted values of each tensor. Raises WorkspaceError when they are gone."""
    note = _note(workspace, stated)
    if note.get("shredded"):
        raise WorkspaceError(
            f"{len(note['shredded'])} records behind the commitment to {stated.name} were shredded: no proof can be about it any "
            f"more. Commit to the data that are left with a new training"
        )
    return [_unpack(packed).tolist() for packed in note["values"]]


def spend(workspace: Workspace, stated: Committed, proofs: int) -> None:
    """Count proofs about a commitment, before they are made. Raises WorkspaceError when its salt would not outlast them."""
    note = _note(workspace, stated)
    if note["proofs"] + proofs > stated.proofs:
        raise WorkspaceError(
            f"{note['proofs']} proofs were made about the commitment to {stated.name}, {proofs} more would leave its salt too "
            f"short: it was made for {stated.proofs}. Commit anew, with more salt"
        )
    workspace.vault.put_note(f"zk/{stated.points}", {**note, "proofs": note["proofs"] + proofs})


def training_with(workspace: Workspace, record_ids: Sequence[str]) -> tuple[Logged, list[int]] | None:
    """The last training that committed to numbers of all these records, and their places in its dataset."""
    for logged in reversed(list(workspace.of_kind("training"))):
        training = logged.statement.predicate
        assert isinstance(training, Training)
        found = [workspace.vault.find(training.dataset.root, record_id) for record_id in record_ids]
        if training.zk is not None and None not in found:
            return logged, [opening.position for opening in found if opening is not None]
    return None


def encoding_of(stated: Commitments) -> Encoding:
    """How the records of a training became numbers. Raises WorkspaceError when it doesn't say."""
    if stated.encoding is None:
        raise WorkspaceError("the training commits to numbers, and does not say how records became them")
    return stated.encoding


def rows_of(workspace: Workspace, stated: Commitments, rows: Sequence[int]) -> list[list[int]]:
    """Rows of what a training or a request committed to, counted through all tensors, without their salt.

    Whatever became of other rows: a request can be filed after another's records were shredded. Raises WorkspaceError.
    """
    committed, layout = _rows_in(stated)
    note = _note(workspace, committed)
    if gone := sorted({*rows} & {*note.get("shredded", [])}):
        raise WorkspaceError(f"row {gone[0]} behind the commitment to {committed.name} was shredded")
    tensors = {tensor: _unpack(note["values"][tensor]) for tensor in {row // layout.rows for row in rows}}
    return [[tensors[row // layout.rows][place] for place in layout.places(row % layout.rows)] for row in rows]


def open_row(workspace: Workspace, stated: Commitments, row: int) -> ZkOpening:
    """A row and its KZG openings, for a receipt."""
    committed, layout = _rows_in(stated)
    values, places = recall(workspace, committed)[row // layout.rows], layout.places(row % layout.rows)
    _, string = reference_string_of(stated)
    openings = opening.open_places(values, places, string)
    return ZkOpening(
        [values[place] for place in places], [part.to_bytes().hex() for _, part in sorted(openings.items())]
    )


def shred_rows(workspace: Workspace, stated: Commitments | None, rows: Iterable[int]) -> None:
    """Destroy rows of what a training or a request committed to, if it did, and all salt of the tensors that they are in.

    A commitment has salt below its rows as well: with that and the other rows, whoever has the vault could guess the missing one
    and compare points.
    """
    rows = list(rows)
    note = workspace.vault.note(f"zk/{_rows_in(stated)[0].points}") if stated is not None and rows else None
    if stated is None or note is None:
        return
    committed, layout = _rows_in(stated)
    packed: list[str] = list(note["values"])
    gone = sorted({*note.get("shredded", []), *rows})
    for tensor in {row // layout.rows for row in rows}:
        values, left = _unpack(packed[tensor]), array("q", bytes(8 * layout.count))
        for row in {*range(layout.rows)} - {row - tensor * layout.rows for row in gone}:
            places = layout.places(row)
            left[places.start : places.stop] = values[places.start : places.stop]
        packed[tensor] = _pack(left)
    workspace.vault.put_note(f"zk/{committed.points}", {**note, "values": packed, "shredded": gone})


def _note(workspace: Workspace, stated: Committed) -> dict[str, Any]:
    """What the vault keeps of a commitment."""
    note: dict[str, Any] | None = workspace.vault.note(f"zk/{stated.points}")
    if note is None:
        raise WorkspaceError(f"the vault has no values behind the commitment to {stated.name}, {stated.points[:16]}")
    return note


def records_in(stated: Commitments) -> Committed:
    """The commitment of a training or a request that has a row for each record."""
    return _rows_in(stated)[0]


def _rows_in(stated: Commitments) -> tuple[Committed, Layout]:
    """The commitment that has a row for each record."""
    committed = next((found for name in (RECORDS, BATCHES, FORGOTTEN) if (found := stated.find(name))), None)
    if committed is None:
        raise WorkspaceError("the statement commits to no records")
    return committed, Layout(committed.rows, committed.columns, stated.logrows, committed.proofs)


def _pack(values: Iterable[int]) -> str:
    return b64encode(array("q", values).tobytes()).decode()


def _unpack(packed: str) -> "array[int]":
    values = array("q")
    values.frombytes(b64decode(packed))
    return values
