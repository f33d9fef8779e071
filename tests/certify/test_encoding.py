"""How records become integers: the same for everybody, and for hostile records an error."""

import json
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.encoding import encoding_for, outputs_of, row_of
from certify.errors import DatasetError
from certify.records import record_bytes
from certify.wire import canonical
from certify.zk import Column, Encoding

CLINIC = Encoding(
    4, Column("sick"), columns=[Column("age", 50, 10), Column("height", 1.5, 0.25)], classes=["no", "yes"]
)
LISTS = Encoding(4, Column("target"), classes=["0", "1"])
NUMBERS = st.floats(-1000, 1000) | st.integers(-1000, 1000)


def test_a_record_becomes_features_then_labels() -> None:
    assert row_of(b'{"age":"57","height":1.75,"sick":"yes"}', CLINIC) == [3, 4, 1]  # 0.7 * 4 is 2.8
    assert row_of(b'{"sick":"no","height":1.25,"age":45}', CLINIC) == [-2, -4, -1]
    assert row_of(b"[0.25,-1,0]", LISTS) == [1, -4, -1]


def test_more_classes_are_one_label_each_and_numbers_are_numbers() -> None:
    three = Encoding(4, Column("target"), classes=["a", "b", "c"])
    assert outputs_of(three) == 3 and row_of(b'[1,"b"]', three) == [4, -1, 1, -1]
    number = Encoding(4, Column("target", 1.0, 2.0), target_scale=8)
    assert outputs_of(number) == 1 and row_of(b"[1,2.5]", number) == [4, 6]


def test_classes_that_are_not_text() -> None:
    truth = Encoding(1, Column("target"), classes=["false", "true"])
    assert row_of(b"[0,true]", truth) == [0, 1] and row_of(b'[0,"true"]', truth) == [0, 1]
    assert encoding_for([b"[0,true]", b"[0,false]"], target="", scale=1, numeric=False).classes == ["false", "true"]


@given(st.lists(NUMBERS, min_size=1, max_size=6), st.sampled_from([1, 2, 128, 1 << 20]))
def test_numbers_are_rounded_to_the_nearest_ties_to_even(numbers: list[float], scale: int) -> None:
    row = row_of(record_bytes([*numbers, 1]), Encoding(scale, Column("target"), classes=["0", "1"]))
    assert row[:-1] == [round(Fraction(number) * scale) for number in numbers]


@given(
    st.builds(
        Encoding,
        scale=st.integers(0, 1 << 40),
        target=st.builds(Column, st.text(min_size=1, max_size=9), st.floats(-9, 9), st.floats(0.1, 9)),
        target_scale=st.integers(0, 1 << 40),
        columns=st.lists(
            st.builds(Column, st.text(min_size=1, max_size=9), st.floats(-9, 9), st.floats(0.1, 9)), max_size=4
        ),
        classes=st.lists(st.text(min_size=1, max_size=9), max_size=4),
    )
)
def test_encodings_survive_writing_and_reading(encoding: Encoding) -> None:
    data = canonical(msgspec.to_builtins(encoding), what="an encoding", error=DatasetError)
    assert msgspec.json.decode(data, type=Encoding) == encoding


HOSTILE = {
    "NaN": b"[NaN,1,0]",
    "an infinity": b"[-Infinity,1,0]",
    "beyond float64": b"[1e400,1,0]",
    "an integer beyond float64": b"[1" + b"0" * 400 + b",1,0]",
    "an integer beyond what Python parses": b"[" + b"9" * 5000 + b",1,0]",
    "beyond 2**52 once scaled": b"[1e300,1,0]",
    "true": b"[true,1,0]",
    "null": b"[null,1,0]",
    "a list": b"[[1],1,0]",
    "an object": b'[{"a":1},1,0]',
    "nested deeply": b"[" * 5000 + b"]" * 5000,
    "nested deeply and open": b'{"a":' * 100_000,
    "text": b'["one",1,0]',
    "text that Python takes for a number": b'["1_0",1,0]',
    "digits of another script": '["\u0663",1,0]'.encode(),
    "text of an infinity": b'["inf",1,0]',
    "text of NaN": b'["nan",1,0]',
    "text that is empty": b'["",1,0]',
    "text in hexadecimal": b'["0x10",1,0]',
    "another class": b"[1,1,2]",
    "a class of another type": b"[1,1,[0]]",
    "no feature": b"[1]",
    "nothing": b"[]",
    "an object instead": b'{"a":1,"target":0}',
    "a number instead": b"5",
    "a string instead": b'"[1,1,0]"',
    "not JSON": b"1,1,0",
    "not UTF-8": b'["\xff",1,0]',
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_records_are_refused(name: str) -> None:
    with pytest.raises(DatasetError):
        row_of(HOSTILE[name], LISTS)


@pytest.mark.parametrize("name", sorted({*HOSTILE} - {"another class", "an object instead"}))  # which others may have
@pytest.mark.parametrize("numeric", [True, False])
def test_no_encoding_is_made_for_hostile_records(name: str, numeric: bool) -> None:
    with pytest.raises(DatasetError):
        encoding = encoding_for([HOSTILE[name], HOSTILE[name]], target="target", scale=4, numeric=numeric)
        row_of(HOSTILE[name], encoding)


def test_a_column_twice_is_refused() -> None:
    """Else the data subject may read one value, and the model another."""
    with pytest.raises(DatasetError, match="one came twice"):
        row_of(b'{"age":"57","age":"30","height":1.5,"sick":"yes"}', CLINIC)


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(DatasetError, match="has no 'height', expected age, height, sick"):
        row_of(b'{"age":"57","sick":"yes"}', CLINIC)
    with pytest.raises(DatasetError, match="expected a target of no, yes, 'maybe' came"):
        row_of(b'{"age":"57","height":1.5,"sick":"maybe"}', CLINIC)


ODD: dict[str, dict[str, Any]] = {
    "a scale of 0": {"scale": 0},
    "a scale that is no power of two": {"scale": 3},
    "a scale beyond the quantiser's": {"scale": 1 << 41},
    "a target's scale of 0": {"target_scale": 0, "classes": []},
    "no spread": {"columns": [Column("age", 0, 0.0)]},
    "hardly any spread": {"columns": [Column("age", 0, 5e-324)]},
    "a center beyond": {"columns": [Column("age", 1.7e308, 1e-300)]},
}


@pytest.mark.parametrize("name", ODD)
def test_hostile_encodings_are_refused(name: str) -> None:
    """They are in statements, and whoever signs those may write what they like."""
    encoding = msgspec.structs.replace(CLINIC, **({"columns": CLINIC.columns[:1]} | ODD[name]))
    with pytest.raises(DatasetError):
        row_of(b'{"age":"57","sick":1}' if not encoding.classes else b'{"age":"57","sick":"yes"}', encoding)


NAMES = st.sampled_from(["age", "height", "sick", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.lists(JSON, min_size=1, max_size=4), st.booleans())
def test_whatever_comes_is_encoded_or_refused(values: list[Any], numeric: bool) -> None:
    records = [json.dumps(value).encode() for value in values]
    for encoding in (CLINIC, LISTS):
        try:
            row = row_of(records[0], encoding)
        except DatasetError:
            continue
        assert all(type(value) is int for value in row)
    try:
        encoding = encoding_for(records, target="sick", scale=4, numeric=numeric)
        rows = [row_of(record, encoding) for record in records]
    except DatasetError:
        return
    assert len({len(row) for row in rows}) == 1


# -- an encoding for data ------------------------------------------------------------------------------------------------


def patients(count: int, seed: int = 1) -> list[dict[str, Any]]:
    drawn = Random(seed)
    return [
        {
            "age": drawn.gauss(50, 12),
            "height": drawn.gauss(1.7, 0.1),
            "sick": drawn.choice(["no", "yes"]),
            "cost": drawn.gauss(9, 3),
        }
        for _ in range(count)
    ]


def test_an_encoding_brings_columns_to_about_one() -> None:
    records = [record_bytes(patient) for patient in patients(200)]
    encoding = encoding_for(records, target="sick", scale=128, numeric=False)
    assert [column.name for column in encoding.columns] == ["age", "cost", "height"] and encoding.classes == [
        "no",
        "yes",
    ]
    rows = [row_of(record, encoding) for record in records]
    for place in range(3):
        values = [row[place] / 128 for row in rows]
        assert abs(sum(values) / len(values)) < 0.5 and max(map(abs, values)) < 8
    assert {row[3] for row in rows} == {-1, 1}


def test_a_target_that_is_a_number_is_brought_to_about_one_too() -> None:
    records = [record_bytes({key: patient[key] for key in ("age", "height", "cost")}) for patient in patients(200)]
    encoding = encoding_for(records, target="cost", scale=128, numeric=True, target_scale=64)
    assert encoding.classes == [] and encoding.target.spread in (2, 4) and outputs_of(encoding) == 1
    targets = [row_of(record, encoding)[-1] / 64 for record in records]
    assert abs(sum(targets) / len(targets)) < 0.5 and max(map(abs, targets)) < 8


def test_one_record_of_many_hardly_ever_changes_the_encoding() -> None:
    """It is public, and made of all records: what it says of a single one must be next to nothing."""
    data = patients(300)
    whole = encoding_for([record_bytes(patient) for patient in data], target="sick", scale=128, numeric=False)
    others = [
        encoding_for(
            [record_bytes(patient) for patient in data[:i] + data[i + 1 :]], target="sick", scale=128, numeric=False
        )
        for i in range(0, 300, 6)
    ]
    assert sum(other != whole for other in others) <= 1


@dataclass(frozen=True)
class Bad:
    records: list[bytes]
    match: str


BAD = {
    "none": Bad([], "at least one record"),
    "one class": Bad([b"[1,0]", b"[2,0]"], "2 to 64 classes, it has 1"),
    "65 classes": Bad([f"[1,{i}]".encode() for i in range(65)], "2 to 64 classes, it has 65"),
    "rows of two lengths": Bad([b"[1,2,0]", b"[1,1]"], "of 3 numbers like the first, one of 2 came"),
    "an object among lists": Bad([b"[1,0]", b'{"a":1}'], "a list of numbers"),
    "a list among objects": Bad([b'{"a":1,"target":0}', b"[1,1]"], "has no 'a'"),
    "no target": Bad([b'{"a":1,"b":0}'], "with a column 'target' and others, the first has a, b"),
    "a target alone": Bad([b'{"target":0}'], "with a column 'target' and others"),
    "a number": Bad([b"5", b"6"], "the first is '5'"),
    "a class without a name": Bad([b'[1,""]', b'[1,"a"]'], "classes of 1 to 256 characters"),
    "a class with a long name": Bad([b'[1,"' + b"a" * 257 + b'"]', b"[1,0]"], "classes of 1 to 256 characters"),
    "a column without a name": Bad([b'{"":1,"target":0}', b'{"":1,"target":1}'], "names of columns"),
    "numbers beyond averaging": Bad(
        [b'{"a":1.7e308,"target":0}', b'{"a":-1.7e308,"target":1}', b'{"a":1.7e308,"target":1}'], "too large to average"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_data_that_no_encoding_is_for(name: str) -> None:
    with pytest.raises(DatasetError, match=BAD[name].match):
        encoding_for(BAD[name].records, target="target", scale=4, numeric=False)


def test_a_column_that_never_changes() -> None:
    encoding = encoding_for([b'{"a":7,"target":0}', b'{"a":7,"target":1}'], target="target", scale=4, numeric=False)
    assert encoding.columns == [Column("a", 7.0, 1.0)]
    assert row_of(b'{"a":7,"target":0}', encoding) == [0, -1]
