"""Committed tensors: their points by another implementation, their salt's budget, and how they are destroyed."""

import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import sha256

import pytest
from py_ecc import optimized_bn128 as curve

from certify import committed, provable
from certify.bundle import Bundle
from certify.case import collect
from certify.errors import WorkspaceError
from certify.records import record_bytes
from certify.request import file_request, make_receipt, shred_request
from certify.statement import Request, Training
from certify.trust import Trust
from certify.verifier import verify
from certify.workspace import Logged, Workspace
from certify.zk import FORGOTTEN, RECORDS, WEIGHTS, Commitments
from circuits.commitment import commit
from circuits.layout import Layout
from circuits.srs import load
from tests import proving
from tests.exclusion_cases import FIRST, SECOND, ceremony, first, forget, ledger, new_workspace, people, problem, seeded

# -- the oracle: py_ecc and the bytes of the ceremony's file, nothing of circuits/ -----------------------------------------


def lagrange(file: bytes, row: int) -> tuple[int, int]:
    """u32-LE logrows, 2^k powers, 2^k Lagrange points; x and y little-endian, times 2^256."""
    start = 4 + 64 * (1 << 11) + 64 * row
    inverse = pow(2**256, -1, curve.field_modulus)
    x, y = (int.from_bytes(file[at : at + 32], "little") * inverse % curve.field_modulus for at in (start, start + 32))
    return x, y


def by_py_ecc(values: Sequence[int]) -> bytes:
    """The definition, term by term. Values have few bits, and a negative one is that of the negated point."""
    file = proving.srs(11).read_bytes()
    sum_ = curve.Z1
    for row, value in [*enumerate(values), *((row, 1) for row in range(2042, 2048))]:
        x, y = lagrange(file, row)
        term = curve.multiply((curve.FQ(x), curve.FQ(y), curve.FQ(1)), abs(value))
        sum_ = curve.add(sum_, term if value >= 0 else curve.neg(term))
    x, y = (int(part) for part in curve.normalize(sum_))
    return (x + (y % 2 << 255)).to_bytes(32, "little")


def test_the_bundles_points_are_those_of_the_people_by_py_ecc() -> None:
    """From the records themselves: all of them are multiples of 1/128, and their classes 0 and 1 become -1 and 1."""
    rows = [[round(x * 128) for x in record[:5]] + [1 if record[5] else -1] for record in people().values()]
    shipped = [round(x * 16384) for x in ledger().forgot[0].weights["weight"].flatten().tolist()]
    expected = {"training": [x for row in rows for x in row], "request": rows[3][:5], "evidence": shipped}
    for where, name in (("training", RECORDS), ("request", FORGOTTEN), ("evidence", WEIGHTS)):
        stated, values = first().zk(where).tensors[0], ledger().values(name)
        plain, salt = values[: len(expected[where])], values[len(expected[where]) :]
        assert list(plain) == expected[where] and len(salt) >= 17 and max(salt) < 2**30  # all salt is below the rows
        point = by_py_ecc(values)
        assert first().bundle.points[stated.points] == point and sha256(point).hexdigest() == stated.points


# -- guessing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """A ledger of its own, with a training that is committed to."""
    with ceremony(), new_workspace() as workspace:
        with seeded("ledger"):
            provable.fit(workspace, people())
        yield workspace


def ask(workspace: Workspace, name: str) -> tuple[Logged, Commitments]:
    logged = file_request(workspace, {name: people()[name]}, ground="gdpr-17")
    assert isinstance(logged.statement.predicate, Request) and logged.statement.predicate.zk is not None
    return logged, logged.statement.predicate.zk


def trained(workspace: Workspace) -> tuple[Logged, Commitments]:
    logged = workspace.latest("training")
    assert isinstance(logged.statement.predicate, Training) and logged.statement.predicate.zk is not None
    return logged, logged.statement.predicate.zk


def test_salt_is_fresh_for_each_commitment(workspace: Workspace) -> None:
    [one], [two] = (committed.recall(workspace, ask(workspace, FIRST)[1].tensors[0]) for _ in range(2))
    assert one[:5] == two[:5] and not {*one[5:]} & {*two[5:]}
    assert commit(one, load(proving.srs(11))) != commit(two, load(proving.srs(11)))


def sealed(workspace: Workspace, stated: Commitments) -> bytes:
    """As the vault's file has it."""
    query = "select sealed from notes where name = ?"
    with sqlite3.connect(workspace.path / "vault.db") as connection:
        [(found,)] = connection.execute(query, [f"zk/{stated.tensors[0].points}"])
    assert isinstance(found, bytes)
    return found


def test_shredding_destroys_rows_and_all_salt(workspace: Workspace) -> None:
    """With the salt that a tensor's rows share, whoever has the vault could guess a row and compare points."""
    asked, request = ask(workspace, FIRST)
    _, training = trained(workspace)
    before = [sealed(workspace, stated) for stated in (request, training)]
    [data] = committed.recall(workspace, training.tensors[0])
    shred_request(workspace, asked)
    for old, stated in zip(before, (request, training), strict=True):
        assert sealed(workspace, stated) != old
        for file in workspace.path.glob("vault.db*"):
            assert old[:48] not in file.read_bytes() and old[-48:] not in file.read_bytes()
    note = workspace.vault.note(f"zk/{request.tensors[0].points}")
    assert not any(committed._unpack(note["values"][0]))
    left = committed._unpack(workspace.vault.note(f"zk/{training.tensors[0].points}")["values"][0]).tolist()
    assert left[:18] == data[:18] and left[24:240] == data[24:240]  # the others' rows
    assert not any(left[18:24]) and not any(left[240:])


def test_shredding_one_of_several_rows_and_then_another(workspace: Workspace) -> None:
    _, stated = trained(workspace)
    before = committed.rows_of(workspace, stated, range(40))
    for row in (39, 0, 39):
        committed.shred_rows(workspace, stated, [row])
    for row in (0, 39):
        with pytest.raises(WorkspaceError, match=f"row {row} behind the commitment to records was shredded"):
            committed.rows_of(workspace, stated, [1, row])
    assert committed.rows_of(workspace, stated, range(1, 39)) == before[1:39]
    committed.shred_rows(workspace, stated, [])
    committed.shred_rows(workspace, None, [1])
    with pytest.raises(WorkspaceError, match="2 records behind the commitment to records were shredded"):
        committed.recall(workspace, stated.tensors[0])


def test_shredding_rows_of_several_tensors() -> None:
    """As batches are: three tensors of four rows, of which the second loses its salt and a row."""
    with ceremony(), new_workspace() as workspace:
        layout = Layout(4, 2, 11)
        _, string = committed.reference_string(11)
        made = committed.commit("batches", layout, [[[9 * t + r, r] for r in range(4)] for t in range(3)], string)
        committed.keep(workspace, made)
        assert workspace.attachments.get("points", made.stated.points) == made.points and len(made.points) == 96
        stated = Commitments(11, "00" * 32, [made.stated])
        committed.shred_rows(workspace, stated, [5])
        kept = [committed._unpack(part).tolist() for part in workspace.vault.note(f"zk/{made.stated.points}")["values"]]
        assert [tuple(kept[0]), tuple(kept[2])] == [made.values[0], made.values[2]]
        assert kept[1] == [9, 0, 0, 0, 11, 2, 12, 3] + [0] * (layout.count - 8)
        assert committed.rows_of(workspace, stated, [4, 11]) == [[9, 0], [21, 3]]


def test_after_shredding_others_can_ask_and_nothing_can_be_proven(workspace: Workspace) -> None:
    """A request is filed whatever was shredded; what cannot be done about it any more is said plainly."""
    with seeded("shredded"):
        asked, _ = ask(workspace, FIRST)
        certificate = forget(workspace, [asked]).logged
    trust = Trust.load(workspace.path / "trust.toml")
    shred_request(workspace, asked)
    bundle: Bundle = collect(workspace, certificate)  # it still verifies, collected anew
    assert verify(bundle.to_bytes(), trust).grade == "exclusion proven"
    other, _ = ask(workspace, SECOND)
    with pytest.raises(
        WorkspaceError, match="1 records behind the commitment to records were shredded: no proof can be about it"
    ):
        forget(workspace, [other])
    with pytest.raises(WorkspaceError):
        make_receipt(workspace, asked, trained(workspace)[0], FIRST, record_bytes(people()[FIRST]))


# -- how often a commitment can be proven about ------------------------------------------------------------------------------


def test_the_salt_is_spent_after_as_many_proofs_as_it_was_made_for(workspace: Workspace) -> None:
    _, training = trained(workspace)
    tensor = training.tensors[0]
    assert tensor.proofs == problem(first()).record_proofs == 4
    for _ in range(3):
        committed.spend(workspace, tensor, 1)
    with pytest.raises(
        WorkspaceError,
        match="3 proofs were made about the commitment to records, 2 more would leave its salt too short",
    ):
        committed.spend(workspace, tensor, 2)
    committed.spend(workspace, tensor, 1)
    for _ in range(2):
        with pytest.raises(
            WorkspaceError, match=r"4 proofs were made .*: it was made for 4. Commit anew, with more salt"
        ):
            committed.spend(workspace, tensor, 1)
    asked, _ = ask(workspace, FIRST)
    with pytest.raises(WorkspaceError, match="4 proofs were made about the commitment to records"):
        forget(workspace, [asked])
    assert not [*workspace.of_kind("unlearning")]


def test_each_proof_counts(workspace: Workspace) -> None:
    with seeded("counted"):
        asked, request = ask(workspace, FIRST)
        forget(workspace, [asked])
    for tensor in (request.tensors[0], trained(workspace)[1].tensors[0]):
        assert workspace.vault.note(f"zk/{tensor.points}")["proofs"] == 1


# -- what is not there -----------------------------------------------------------------------------------------------------


def test_values_that_the_vault_does_not_have(workspace: Workspace) -> None:
    _, stated = trained(workspace)
    workspace.vault.drop_note(f"zk/{stated.tensors[0].points}")
    lost = "the vault has no values behind the commitment to records"
    for use in (
        lambda: committed.recall(workspace, stated.tensors[0]),
        lambda: committed.spend(workspace, stated.tensors[0], 1),
        lambda: committed.rows_of(workspace, stated, [0]),
        lambda: committed.open_row(workspace, stated, 0),
    ):
        with pytest.raises(WorkspaceError, match=lost):
            use()
    committed.shred_rows(workspace, stated, [0])  # nothing is left to destroy


def test_commitments_without_records(workspace: Workspace) -> None:
    stated = first().zk("evidence")
    with pytest.raises(WorkspaceError, match="the statement commits to no records"):
        committed.rows_of(workspace, stated, [0])
    with pytest.raises(WorkspaceError, match="does not say how records became them"):
        committed.encoding_of(stated)


def test_another_reference_string_than_the_one_committed_with(workspace: Workspace) -> None:
    _, stated = trained(workspace)
    other = Commitments(stated.logrows, "ab" * 32, stated.tensors)
    with pytest.raises(
        WorkspaceError, match="is not the reference string abababababababab that the commitments were made with"
    ):
        committed.reference_string_of(other)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (40, 6), (900, 3)])
def test_values_come_back_as_they_were(workspace: Workspace, rows: int, columns: int) -> None:
    layout = Layout(rows, columns, 11)
    _, string = committed.reference_string(11)
    matrix = [[(-1) ** c * (r * columns + c) for c in range(columns)] for r in range(rows)]
    made = committed.commit(RECORDS, layout, [matrix], string)
    committed.keep(workspace, made)
    [values] = committed.recall(workspace, made.stated)
    assert tuple(values) == made.values[0] and layout.matrix(values) == matrix
    stated = Commitments(11, "00" * 32, [made.stated])
    assert committed.rows_of(workspace, stated, [rows - 1, 0]) == [matrix[-1], matrix[0]]
    assert len(made.points) == 32 * layout.points


def test_which_training_has_the_records(workspace: Workspace) -> None:
    found = committed.training_with(workspace, ["p5", "p39", "p0"])
    assert found is not None and found[1] == [5, 39, 0] and found[0].index == trained(workspace)[0].index
    for names in (["nobody"], ["p5", "nobody"]):
        assert committed.training_with(workspace, names) is None
