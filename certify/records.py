"""Records as bytes: what a dataset commitment is made over, and how CSV and JSON Lines files give them.

Bytes are a record as they are; anything else is written as RFC 8785 canonical JSON::

    >>> record_bytes({"text": "hello", "label": 1.0})
    b'{"label":1,"text":"hello"}'

Arrays, tensors and numpy scalars become lists and numbers first, by their ``tolist()``.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from certify.errors import DatasetError
from certify.wire import canonical, check_depth

MAX_RECORD = 16 << 20  # bytes of one line, or of one CSV row's JSON
MAX_RECORDS = 10_000_000

_PLAIN = (str, int, float, bool, type(None))


Records = Sequence[tuple[str, bytes]]
"""(record id, canonical bytes), in the dataset's order."""


def records_of(data: object) -> Records:
    """Records from a mapping (id to record), or from a sequence, whose ids are then "0", "1", …"""
    if isinstance(data, Mapping):
        items = [(str(key), value) for key, value in data.items()]
    elif hasattr(data, "__iter__") and not isinstance(data, str | bytes):
        items = [(str(number), value) for number, value in enumerate(data)]
    else:
        raise DatasetError(f"records came as {type(data).__name__}, expected a mapping of id to record, or a sequence")
    return [(record_id, record_bytes(value, name=f"record {record_id!r}")) for record_id, value in items]


def record_bytes(value: Any, *, name: str = "the record") -> bytes:
    """The bytes of one record. Raises DatasetError, with ``name``, for NaN, infinities and what JSON cannot say."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    try:
        plain = _plain(value, name)
    except RecursionError:
        raise DatasetError(f"{name} is nested too deeply for JSON") from None
    return canonical(plain, what=name, error=DatasetError)


def read_records(path: str | os.PathLike[str], id_column: str | None = None) -> list[tuple[str, bytes]]:
    """(id, record) of every row of a .csv or every line of a .jsonl file, in order.

    A CSV row is an object of column -> string; a line of JSON must be an object. The id is that of ``id_column``, by
    default of "id" where the first record has it, and is left out of the record; otherwise it is the row's number, from
    0. Raises DatasetError, with the line's number, for what is malformed, ragged, too long, or an id that came before.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise DatasetError(f"{path.name} ends in {path.suffix!r}, expected .csv or .jsonl")
    try:
        rows = _csv_rows(path) if suffix == ".csv" else _json_rows(path)
        return _with_ids(rows, path.name, id_column)
    except OSError as reason:
        raise DatasetError(f"cannot read {path}: {reason.strerror}") from None


def _with_ids(rows: Iterable[tuple[int, dict[str, Any]]], file: str, id_column: str | None) -> list[tuple[str, bytes]]:
    records: list[tuple[str, bytes]] = []
    lines: dict[str, int] = {}  # id -> line it came on
    column = id_column
    for number, (line, row) in enumerate(rows):
        where = f"{file}, line {line}"
        if number == 0 and id_column is None:
            column = "id" if "id" in row else None
        if column is None:
            if "id" in row:
                raise DatasetError(f'{where} has an "id", expected none as in the first record')
            id_ = str(number)
        elif column not in row:
            raise DatasetError(f"{where} has no {column!r}, expected one as the record's id")
        else:
            value = row.pop(column)
            if type(value) not in (str, int):
                raise DatasetError(f"{where}: id is {str(value)[:60]!r}, expected a string or a whole number")
            id_ = str(value)
        if id_ in lines:
            raise DatasetError(f"{where}: id {id_[:60]!r} came on line {lines[id_]} already, expected unique ids")
        if number >= MAX_RECORDS:
            raise DatasetError(f"{where}: expected at most {MAX_RECORDS} records")
        lines[id_] = line
        record = record_bytes(row, name=where)
        if len(record) > MAX_RECORD:
            raise DatasetError(f"{where}: record has {len(record)} bytes, expected at most {MAX_RECORD}")
        records.append((id_, record))
    return records


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, column -> string) of each row; a byte order mark is skipped."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise DatasetError(f"{path.name} has no header, expected a first line of column names")
            if len(set(header)) != len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise DatasetError(f"{path.name}: column {twice[:60]!r} comes twice, expected unique names")
            for row in reader:
                if len(row) != len(header):
                    raise DatasetError(
                        f"{path.name}, line {reader.line_num} has {len(row)} fields, expected {len(header)}"
                    )
                yield reader.line_num, dict(zip(header, row, strict=True))
        except csv.Error as reason:
            raise DatasetError(f"{path.name}, line {reader.line_num} is not CSV: {reason}") from None
        except UnicodeDecodeError as reason:
            raise DatasetError(f"{path.name}, after line {reader.line_num}: not UTF-8: {reason.reason}") from None


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        line = 0
        while data := file.readline(MAX_RECORD + 1):
            line += 1
            if len(data) > MAX_RECORD:
                raise DatasetError(f"{path.name}, line {line} is longer than {MAX_RECORD} bytes")
            check_depth(data, what=f"{path.name}, line {line}", error=DatasetError)
            try:
                value = json.loads(data.decode(), object_pairs_hook=_unique)
            except (ValueError, RecursionError) as reason:
                raise DatasetError(f"{path.name}, line {line} is not JSON: {reason}") from None
            if type(value) is not dict:
                raise DatasetError(f"{path.name}, line {line} is a {type(value).__name__}, expected an object")
            yield line, value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice")
    return value


def _plain(value: Any, name: str) -> Any:
    """Lists, objects, strings and numbers for whatever has a ``tolist``; DatasetError for the rest."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise DatasetError(f"{name} has the key {key!r}, expected strings")
        return {key: _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), name)
    if isinstance(value, str | int | float):  # subclasses: enumerations
        return value
    raise DatasetError(f"{name} holds a {type(value).__name__}, which JSON cannot say: expected bytes or JSON values")
