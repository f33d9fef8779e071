"""Record commitments, openings and readers."""

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from certify.dataset import (
    Commitments,
    RecordOpening,
    commit,
    commit_record,
    new_salt,
    open_record,
    read_records,
    record_bytes,
    retained,
    subset_root,
    verify_opening,
)
from certify.errors import DatasetError
from ledger.merkle import EMPTY_ROOT

records_lists = st.lists(st.binary(max_size=20), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def leaf_of(record: bytes, salt: bytes) -> bytes:
    """Straight from the specification."""
    commitment = hashlib.sha256(b"unlearning-ledger/record/v1\0" + salt + record).digest()
    return hashlib.sha256(b"\0" + commitment).digest()


@given(records_lists)
def test_root_equals_pymerkle_over_the_commitments(records: list[bytes]) -> None:
    commitments = commit(records)
    tree = InmemoryTree(algorithm="sha256")
    for i, record in enumerate(records):
        salt = commitments.salts[32 * i : 32 * i + 32]
        tree.append_entry(commit_record(record, salt))
        assert commitments.leaves[32 * i : 32 * i + 32] == leaf_of(record, salt)
    expected = getattr(tree, "get_root", tree.get_state)() if records else EMPTY_ROOT
    assert commitments.root() == expected
    assert commitments.count == len(records)


@given(records_lists.filter(bool), st.data())
def test_every_record_opens(records: list[bytes], data: st.DataObject) -> None:
    commitments = commit(records)
    index = data.draw(st.integers(0, len(records) - 1))
    opening = RecordOpening.parse(open_record(commitments, index).to_json())
    verify_opening(opening, records[index], commitments.root(), count=len(records))
    with pytest.raises(DatasetError, match="leads to dataset root"):
        verify_opening(opening, records[index] + b"!", commitments.root())
    with pytest.raises(DatasetError, match=f"expected {len(records) + 1}"):
        verify_opening(opening, records[index], commitments.root(), count=len(records) + 1)


@given(records_lists, st.data())
def test_retained_set(records: list[bytes], data: st.DataObject) -> None:
    commitments = commit(records)
    removed = data.draw(st.sets(st.integers(0, max(len(records) - 1, 0)), max_size=len(records)))
    kept = [i for i in range(len(records)) if i not in removed]
    left = Commitments(
        b"".join(commitments.salts[32 * i : 32 * i + 32] for i in kept),
        b"".join(commitments.leaves[32 * i : 32 * i + 32] for i in kept),
    )
    assert retained(commitments.leaves, removed) == (left.root(), len(kept))
    assert subset_root(commitments.leaves, kept) == left.root()


def test_positions_are_checked() -> None:
    leaves = commit([b"a", b"b", b"c"]).leaves
    for bad in ([3], [-1]):
        with pytest.raises(DatasetError, match="in a dataset of 3"):
            retained(leaves, bad)
        with pytest.raises(DatasetError, match="in a dataset of 3"):
            subset_root(leaves, bad)
    for order in ([1, 0], [1, 1]):
        with pytest.raises(DatasetError, match="increasing"):
            subset_root(leaves, order)
    with pytest.raises(DatasetError, match="multiple of 32"):
        retained(leaves[:-1], [])
    with pytest.raises(DatasetError, match="no record 0 in a dataset of 0"):
        open_record(commit([]), 0)
    with pytest.raises(DatasetError, match="salt has 3 bytes, expected 32"):
        commit_record(b"", b"abc")


def test_salts_are_fresh() -> None:
    commitments = commit([b"same"] * 5000)
    assert len({commitments.salts[i : i + 32] for i in range(0, 32 * 5000, 32)}) == 5000
    assert len(new_salt()) == 32 and new_salt() != new_salt()


def test_a_hundred_thousand_records_are_quick() -> None:
    start = time.perf_counter()
    commitments = commit(b"record %d" % i for i in range(100_000))
    commitments.root()
    opening = open_record(commitments, 77_777)
    assert time.perf_counter() - start < 3
    verify_opening(opening, b"record 77777", commitments.root())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_opening_parser_raises_only_its_error(data: bytes) -> None:
    with pytest.raises(DatasetError):
        RecordOpening.parse(data)


@given(st.data())
def test_mutated_opening_is_refused(data: st.DataObject) -> None:
    commitments = commit([b"a", b"b", b"c"])
    text = bytearray(open_record(commitments, 1).to_json())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DatasetError):
        verify_opening(RecordOpening.parse(bytes(text)), b"b", commitments.root(), count=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": 1}, "not the expected JSON"),
        ({"index": "3"}, "less than 3"),
        ({"index": "01"}, "decimal"),
        ({"size": "-3"}, "decimal"),
        ({"salt": "AB" * 32}, "hex digits"),
        ({"salt": "ab"}, "hex digits"),
        ({"path": ["00" * 32] * 65}, "at most 64"),
        ({"path": []}, "has 0 hashes, expected 2"),
        ({"more": "1"}, "not the expected JSON"),
    ],
)
def test_openings_parse_strictly(change: dict[str, Any], message: str) -> None:
    commitments = commit([b"a", b"b", b"c"])
    value = {**json.loads(open_record(commitments, 1).to_json()), **change}
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(DatasetError, match=message):
        verify_opening(RecordOpening.parse(text), b"b", commitments.root())


@given(json_values)
def test_record_bytes_are_canonical_json(value: Any) -> None:
    text = record_bytes(value)
    assert record_bytes(json.loads(text, parse_int=float)) == text  # a float past 2**53 is written like an integer


def test_record_bytes() -> None:
    assert record_bytes(b"raw\xff") == b"raw\xff" == record_bytes(bytearray(b"raw\xff"))
    assert record_bytes({"b": (1, 2.0), "a": None}) == b'{"a":null,"b":[1,2]}'
    assert record_bytes({"b": 1, "a": "é"}) == record_bytes({"a": "é", "b": 1.0})


def test_arrays_are_lists() -> None:
    numpy = pytest.importorskip("numpy")
    value = {"x": numpy.array([[1.5, 2]], dtype="float32"), "y": numpy.int64(3), "z": (numpy.bool_(True),)}
    assert record_bytes(value) == b'{"x":[[1.5,2]],"y":3,"z":[true]}'
    with pytest.raises(DatasetError, match="record 7"):
        record_bytes(numpy.array([1.0, float("nan")]), name="record 7")


def deep() -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, {1, 2}, object(), 2**53, "\ud800", {"\ud800": 1}, [b"x"], deep()]
)
def test_what_json_cannot_say_is_refused_by_name(value: Any) -> None:
    with pytest.raises(DatasetError, match="record 7"):
        record_bytes(value, name="record 7")


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_csv_records(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", 'id,text,label\nu1,"a, ""b""\nc",1\nu2,,é\n')
    assert read_records(path) == [
        ("u1", b'{"label":"1","text":"a, \\"b\\"\\nc"}'),
        ("u2", '{"label":"é","text":""}'.encode()),
    ]
    assert [id_ for id_, _ in read_records(path, "label")] == ["1", "é"]
    with_mark = write(tmp_path / "e.csv", "\ufefftext\r\na\r\nb\r\n")
    assert read_records(with_mark) == [("0", b'{"text":"a"}'), ("1", b'{"text":"b"}')]


def test_json_lines_records(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"x": [1.0, 2], "id": "u1"}\r\n{"id": 7, "x": null}')
    assert read_records(path) == [("u1", b'{"x":[1,2]}'), ("7", b'{"x":null}')]
    assert [id_ for id_, _ in read_records(write(path, '{"x":"a"}\n{"x":"b"}\n'))] == ["0", "1"]
    assert read_records(path, "x") == [("a", b"{}"), ("b", b"{}")]
    assert read_records(write(path, "")) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.csv", "", "no header"),
        ("d.csv", "a,a\n1,2\n", "column 'a' comes twice"),
        ("d.csv", "a,b\n1\n", "line 2 has 1 fields, expected 2"),
        ("d.csv", "a,b\n1,2\n1,2,3\n", "line 3 has 3 fields"),
        ("d.csv", "a\n\n", "line 2 has 0 fields"),
        ("d.csv", 'a\n"x\n', "line 2 is not CSV"),
        ("d.csv", b"a\n\xff\n", "not UTF-8"),
        ("d.csv", "id\nx\nx\n", "line 3: id 'x' came on line 2 already"),
        ("d.csv", "a\n" + "x" * 200_000, "field larger"),
        ("d.jsonl", "{}\n\n", "line 2 is not JSON"),
        ("d.jsonl", "{}\n[]\n", "line 2 is a list, expected an object"),
        ("d.jsonl", '{"a":1,"a":2}', "a key comes twice"),
        ("d.jsonl", '{"a":NaN}', "line 1 cannot be written"),
        ("d.jsonl", '{"a":1e999}', "line 1 cannot be written"),
        ("d.jsonl", '{"a":9007199254740993}', "line 1 cannot be written"),
        ("d.jsonl", '{"a":"\\ud800"}', "line 1 cannot be written"),
        ("d.jsonl", b'{"a":"\xff"}', "line 1 is not JSON"),
        ("d.jsonl", "[" * 100_000, "line 1 is nested"),
        ("d.jsonl", '{"id":"1"}\n{"id":1}', "line 2: id '1' came on line 1 already"),
        ("d.jsonl", '{"id":"1"}\n{"a":1}', "line 2 has no 'id'"),
        ("d.jsonl", '{"a":1}\n{"id":"0"}', 'line 2 has an "id"'),
        ("d.jsonl", '{"id":true}', "expected a string or a whole number"),
        ("d.jsonl", '{"a":"' + "x" * (16 << 20) + '"}', "line 1 is longer"),
        ("d.txt", "", "expected .csv or .jsonl"),
    ],
)
def test_malformed_records(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_records(write(tmp_path / name, text))


def test_missing_file_and_column(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot read"):
        read_records(tmp_path / "missing.csv")
    with pytest.raises(DatasetError, match="has no 'user'"):
        read_records(write(tmp_path / "d.csv", "a\n1\n"), "user")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from(["d.csv", "d.jsonl"]),
    st.binary(max_size=60) | st.text('{}":,\nid01\r', max_size=40).map(str.encode),
)
def test_readers_raise_only_their_error(tmp_path: Path, name: str, data: bytes) -> None:
    with contextlib.suppress(DatasetError):
        read_records(write(tmp_path / name, data))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.dictionaries(st.text("abc", min_size=1), json_values, max_size=3), max_size=4))
def test_json_lines_round_trip(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = write(tmp_path / "d.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read_records(path) == [(str(i), record_bytes(row)) for i, row in enumerate(rows)]
