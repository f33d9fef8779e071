"""Commitments and openings, against py_ecc and against EZKL's own witness."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_ecc import optimized_bn128 as curve

from circuits import bn254
from circuits.commitment import (
    LARGEST,
    add,
    check_salted,
    column_count,
    commit,
    integer,
    salts,
    salts_needed,
    split,
    usable_rows,
)
from circuits.errors import CommitmentError
from circuits.opening import Opening, open_at, open_places, open_rows, verify_opening, verify_places, verify_rows
from circuits.srs import Srs, load, parse, reduced
from tests.circuits.development import ceremony_file, development_srs

ROWS = 10  # usable, at logrows 4
SMALL = parse(development_srs(4, 0xC0FFEE))
VALUES = st.one_of(st.integers(-9, 9), st.integers(-(2**31), 2**31), st.integers(-LARGEST, LARGEST))


@pytest.fixture(scope="module")
def ceremony() -> Srs:
    return load(ceremony_file(11))


def by_py_ecc(column: Sequence[int], srs: Srs) -> bytes:
    """The definition, term by term, in somebody else's arithmetic; compressed by hand."""
    places = [*enumerate(column), *((row, 1) for row in range(srs.rows - 6, srs.rows))]
    sum_ = curve.Z1
    for row, value in places:
        x, y = srs.lagrange(row) or (0, 0)
        point = (curve.FQ(x), curve.FQ(y), curve.FQ(1))
        sum_ = curve.add(sum_, curve.multiply(point, value % curve.curve_order))
    x, y = (int(part) for part in curve.normalize(sum_))
    return (x + (y % 2 << 255)).to_bytes(32, "little")


def numbers(count: int, seed: int, bits: int = 14) -> list[int]:
    random = Random(seed)
    return [random.getrandbits(bits) - (1 << bits - 1) for _ in range(count)]


def test_commitment_by_py_ecc_with_ceremony_points(ceremony: Srs) -> None:
    values = [
        *numbers(200, seed=1),
        *[0] * 1642,
        *numbers(200, seed=2),
        0,
        -1,
        2**251,
        -(2**251),
        *numbers(100, seed=3),
    ]
    assert commit(values, ceremony) == [by_py_ecc(values[:2042], ceremony), by_py_ecc(values[2042:], ceremony)]


@settings(max_examples=25)
@given(st.lists(VALUES, min_size=1, max_size=29).filter(lambda values: len(values) % ROWS != 0))
def test_commitment_by_py_ecc_of_any_values(values: list[int]) -> None:
    columns = split(values, 4)
    assert len(columns) == column_count(len(values), 4) == len(values) // ROWS + 1
    expected = [by_py_ecc(column, SMALL) for column in columns]
    if len(set(expected)) == len(expected):
        assert commit(values, SMALL) == expected


Witness = Callable[[dict[str, tuple[tuple[int, ...], list[int]]]], list[list[str]]]


@pytest.fixture
def ezkl_points(tmp_path: Path, ceremony: Srs) -> Witness:
    """Points in EZKL's witness of a circuit that doubles its inputs, by input, at logrows 11 with the ceremony's file."""
    ezkl = pytest.importorskip("ezkl", reason="EZKL itself is the judge: install ezkl")
    onnx = pytest.importorskip("onnx", reason="install onnx to make a circuit for EZKL")
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT

    def points(tensors: dict[str, tuple[tuple[int, ...], list[int]]]) -> list[list[str]]:
        path = {name: str(tmp_path / name) for name in ("onnx", "settings", "circuit", "vk", "pk", "input", "witness")}
        shapes = {name: shape for name, (shape, _) in tensors.items()}
        inputs = [helper.make_tensor_value_info(name, float_, shape) for name, shape in shapes.items()]
        outputs = [helper.make_tensor_value_info(f"{name}2", float_, shape) for name, shape in shapes.items()]
        nodes = [helper.make_node("Add", [name, name], [f"{name}2"]) for name in shapes]
        graph = helper.make_graph(nodes, "double", inputs, outputs)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path["onnx"])
        run_args = ezkl.PyRunArgs()
        run_args.input_visibility, run_args.param_visibility, run_args.output_visibility = (
            "polycommit",
            "fixed",
            "private",
        )
        run_args.input_scale = run_args.param_scale = 0
        run_args.scale_rebase_multiplier = 1
        run_args.decomp_base, run_args.decomp_legs, run_args.logrows = 1024, 4, 11
        ezkl.gen_settings(path["onnx"], path["settings"], py_run_args=run_args)
        loaded: dict[str, Any] = json.loads(Path(path["settings"]).read_text())
        loaded["run_args"]["logrows"] = 11
        Path(path["settings"]).write_text(json.dumps(loaded))
        srs_path = str(ceremony_file(11))
        ezkl.compile_circuit(path["onnx"], path["circuit"], path["settings"])
        ezkl.setup(path["circuit"], path["vk"], path["pk"], srs_path)
        elements = [[(value % bn254.R).to_bytes(32, "little").hex() for value in flat] for _, flat in tensors.values()]
        Path(path["input"]).write_text(json.dumps({"input_data": elements}))
        ezkl.gen_witness(path["input"], path["circuit"], path["witness"], path["vk"], srs_path)
        found: list[list[str]] = json.loads(Path(path["witness"]).read_text())["processed_inputs"]["polycommit"]
        return found

    return points


def test_commitments_are_those_in_ezkl_s_witness(ezkl_points: Witness, ceremony: Srs) -> None:
    tensors = {
        "short": ((1, 5), [1, -2, 3, 0, 5]),
        "padded": ((1, 9), [1, -2, 3, 0, 5, 0, 0, 0, 0]),  # the same point: zeros and no rows are alike
        "matrix": ((7, 11), numbers(77, seed=2)),
        "negative": ((1, 3), [-1, -(2**39), -7]),
        "salted": ((30,), [*numbers(4, seed=3), *salts(26)]),
        "columns": ((71, 29), numbers(71 * 29, seed=4)),
        "exact": ((1, 2042), numbers(2042, seed=5)),
    }
    found = ezkl_points(tensors)
    assert [len(points) for points in found] == [1, 1, 1, 1, 1, 2, 2]
    # An exact fit gets a column of zeros, whose commitment everybody knows: refused here.
    exact, last = tensors.pop("exact")[1], found.pop()
    assert last == [point.hex() for point in commit([*exact, 0], ceremony)]
    with pytest.raises(CommitmentError, match="2042 values exactly fill 1 column"):
        commit(exact, ceremony)
    for (_, values), points in zip(tensors.values(), found, strict=True):
        assert [point.hex() for point in commit(values, ceremony)] == points
    assert found[0] == found[1]


@pytest.mark.parametrize("count", [0, ROWS, 2 * ROWS])
def test_shapes_that_cannot_be_committed_to(count: int) -> None:
    with pytest.raises(CommitmentError, match=r"expected at least one value|exactly fill"):
        commit(list(range(count)), SMALL)


def test_equal_columns_are_refused() -> None:
    with pytest.raises(CommitmentError, match="two are alike"):
        commit([7] * ROWS + [7] * ROWS + [1], SMALL)


@pytest.mark.parametrize("value", [LARGEST + 1, -LARGEST - 1, 1.0, "1", None])
def test_what_is_not_a_value(value: Any) -> None:
    with pytest.raises(CommitmentError, match="expected"):
        commit([1, value], SMALL)
    with pytest.raises(CommitmentError, match="expected"):
        integer(value)


def test_commitments_add_up() -> None:
    left, right = numbers(7, seed=6), numbers(9, seed=7)
    sums = [a + b for a, b in zip([*left, 0, 0], right, strict=True)]
    assert add(*commit(left, SMALL), *commit(right, SMALL), SMALL) == commit(sums, SMALL)[0]


def test_salts_are_fresh_and_short_enough() -> None:
    drawn = salts(1000)
    assert len(set(drawn)) > 990
    assert all(0 <= salt < 2**30 for salt in drawn)
    assert max(salt.bit_length() for salt in salts(50, bits=252)) > 200
    assert [salts_needed(proofs) for proofs in (0, 1, 2)] == [17, 26, 34]
    for bits in (0, 253):
        with pytest.raises(CommitmentError, match="expected salts of 1 to 252 bits"):
            salts(1, bits=bits)


def test_salts_are_counted_by_column() -> None:
    check_salted(25, [0, 1, 12, 13, 20, 24], logrows=4, expected=2)
    with pytest.raises(CommitmentError, match="column 0 of 3 has 0 salts, expected 2"):
        check_salted(25, [20, 21, 22, 23, 24], logrows=4, expected=2)
    with pytest.raises(CommitmentError, match="a salt at place 25"):
        check_salted(25, [25], logrows=4, expected=1)


def test_rows_of_logrows() -> None:
    assert (usable_rows(11), usable_rows(14)) == (2042, 16378)
    with pytest.raises(CommitmentError, match="expected logrows from 3"):
        usable_rows(2)


def test_record_opened_with_the_516_bytes(ceremony: Srs) -> None:
    """A record of 30 features that stands in two columns, shown by two openings of 64 bytes."""
    width, record = 30, 68
    values = numbers(101 * width, seed=8)
    points, places = commit(values, ceremony), range(record * width, (record + 1) * width)
    openings = {
        column: Opening.parse(found.to_bytes()) for column, found in open_places(values, places, ceremony).items()
    }
    opened = {place: values[place] for place in places}
    root = ceremony_file(1).read_bytes()
    assert set(openings) == {0, 1}
    assert verify_places(points, openings, opened, root, count=len(values), logrows=11) == opened


def test_one_value_opened_with_the_516_bytes(ceremony: Srs) -> None:
    values = numbers(2041, seed=9)
    [point] = commit(values, ceremony)
    opening = open_at(values, 2040, ceremony)
    assert len(opening.to_bytes()) == 32
    assert verify_opening(point, opening, values[2040], 2040, ceremony_file(1).read_bytes(), logrows=11) == values[2040]


def test_every_row_opens() -> None:
    values, root = numbers(ROWS - 1, seed=10), reduced(SMALL)
    [point] = commit(values, SMALL)
    for row in (0, 8):
        verify_opening(point, open_at(values, row, SMALL), values[row], row, root, logrows=4, allow_development=True)
    for rows in ([0], [8, 3], list(range(9))):
        opened = {row: values[row] for row in rows}
        verify_rows(point, open_rows(values, rows, SMALL), opened, root, logrows=4, allow_development=True)


@pytest.mark.parametrize("rows", [[], [1, 1], [9], [-1], [15]])
def test_rows_that_cannot_be_opened(rows: list[int]) -> None:
    with pytest.raises(CommitmentError, match="expected"):
        open_rows([1, 2, 3, 4, 5, 6, 7, 8, 9], rows, SMALL)
