"""How a record becomes a row of integers, the same for the operator, the data subject and the verifier.

A record is a JSON object whose columns are named, or a JSON list of numbers. A number x is ``(x - center) / spread`` in float64,
then the integer nearest to that times the scale (:func:`circuits.quantize.quantize`). The target comes last: a number, or one
of two or more classes, which become labels of -1 and 1, one for each class against the rest, or a single one for two. ::

    encoding = Encoding(scale=4, target=Column("sick"), columns=[Column("age", 50, 10)], classes=["no", "yes"])
    row_of(b'{"age":"57","sick":"yes"}', encoding) == [3, 1]      # 0.7 * 4 is 2.8

No torch and no numpy: whoever holds a record can do it again.
"""

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from statistics import fmean, pstdev
from typing import Any

from certify.errors import DatasetError
from certify.wire import check_depth
from certify.zk import Column, Encoding
from circuits.errors import QuantizeError
from circuits.quantize import quantize

MAX_CLASSES = 64
MAX_NAME = 256
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def encoding_for(
    records: Sequence[bytes], *, target: str, scale: int, numeric: bool, target_scale: int = 1
) -> Encoding:
    """An encoding for objects with named columns, or for lists of numbers, which are taken as they are.

    Centers and spreads follow the mean and deviation so coarsely (spreads are powers of two, centers halves of them) that
    hardly any single record changes them; where even that is too much, state an encoding of your own. Raises DatasetError.
    """
    if not records:
        raise DatasetError("expected at least one record, none came")
    first = _json(records[0])
    names = [] if isinstance(first, list) else _names(first, target)
    plain = Encoding(scale, Column(target if names else "target"), target_scale, [Column(name) for name in names])
    read = [_read(record, plain) for record in records]
    targets = [value for _, value in read]
    if widths := {len(values) for values, _ in read} - {len(read[0][0])}:
        raise DatasetError(
            f"expected records of {len(read[0][0]) + 1} numbers like the first, one of {min(widths) + 1} came"
        )
    if not names:
        return Encoding(scale, plain.target, target_scale, [], _classes(targets, numeric))
    columns = [_coarse(name, [values[place] for values, _ in read]) for place, name in enumerate(names)]
    column = _coarse(target, targets) if numeric else plain.target
    return Encoding(scale, column, target_scale, columns, _classes(targets, numeric))


def _names(first: Any, target: str) -> list[str]:
    """The columns but the target's, as the first record has them."""
    found = list(first) if isinstance(first, dict) else []
    if target not in found or len(found) < 2:
        what = f"has {', '.join(found)[:200]}" if found else f"is {str(first)[:60]!r}"
        raise DatasetError(f"expected records with a column {target!r} and others, the first {what}")
    if long := [name for name in found if not 1 <= len(name) <= MAX_NAME]:
        raise DatasetError(f"expected names of columns of 1 to {MAX_NAME} characters, {long[0][:60]!r} came")
    return [name for name in found if name != target]


def _coarse(name: str, values: Sequence[Any]) -> Column:
    numbers = [_number(value, name) for value in values]
    try:
        deviation = pstdev(numbers)
        spread = 2.0 ** round(math.log2(deviation)) if deviation > 0 else 1.0
        return Column(name, round(2 * fmean(numbers) / spread) * spread / 2, spread)
    except OverflowError:
        raise DatasetError(f"column {name!r}: its numbers are too large to average") from None


def _classes(targets: Sequence[Any], numeric: bool) -> list[str]:
    if numeric:
        return []
    found = sorted({_text(value) for value in targets})
    if long := [text for text in found if not 1 <= len(text) <= MAX_NAME]:
        raise DatasetError(f"expected classes of 1 to {MAX_NAME} characters, {long[0][:60]!r} came")
    if not 2 <= len(found) <= MAX_CLASSES:
        raise DatasetError(f"expected a target of 2 to {MAX_CLASSES} classes, it has {len(found)}")
    return found


def outputs_of(encoding: Encoding) -> int:
    """Integers that a target becomes."""
    return len(encoding.classes) if len(encoding.classes) > 2 else 1


def row_of(record: bytes, encoding: Encoding) -> list[int]:
    """Features, then labels. Raises DatasetError for a record that is not as the encoding says."""
    values, target = _read(record, encoding)
    columns = encoding.columns or [Column(str(place)) for place in range(len(values))]
    row = [_integer(value, column, encoding.scale) for value, column in zip(values, columns, strict=True)]
    return row + _labels(target, encoding)


def _read(record: bytes, encoding: Encoding) -> tuple[list[Any], Any]:
    """What stands for the features, and for the target."""
    value = _json(record)
    if not encoding.columns:
        if not isinstance(value, list) or len(value) < 2:
            raise DatasetError("expected a record that is a list of numbers, the last of them the target")
        return value[:-1], value[-1]
    names = [column.name for column in encoding.columns] + [encoding.target.name]
    missing = [name for name in names if not isinstance(value, dict) or name not in value]
    if missing:
        raise DatasetError(
            f"a record has no {missing[0]!r}, expected {', '.join(names[:6])}{', …' if len(names) > 6 else ''}"
        )
    return [value[name] for name in names[:-1]], value[names[-1]]


def _json(record: bytes) -> Any:
    check_depth(record, what="a record", error=DatasetError)
    try:
        return json.loads(record, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise DatasetError("a record that becomes numbers is JSON, this one is not") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DatasetError("expected each column of a record once, one came twice")
    return found


def _number(value: Any, name: str) -> float:
    """As a JSON number, or as text in a CSV file, which is not all that Python takes for one."""
    number = math.nan
    if (type(value) is str and _DECIMAL.fullmatch(value.strip(" "))) or type(value) in (int, float):
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise DatasetError(f"column {name!r}: expected a number, {str(value)[:60]!r} came")
    return number


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _integer(value: Any, column: Column, scale: int) -> int:
    number = _number(value, column.name)
    try:
        return _nearest((number - column.center) / column.spread, scale)
    except (OverflowError, ZeroDivisionError, QuantizeError) as error:
        raise DatasetError(f"column {column.name!r}: {number!r} does not become an integer: {error}") from None


def _nearest(number: float, scale: int) -> int:
    """number * scale as the canonical quantiser has it."""
    if scale < 1 or scale & (scale - 1):
        raise DatasetError(f"expected a scale that is a power of two, {scale} came")
    return quantize(number, scale.bit_length() - 1)


def _labels(value: Any, encoding: Encoding) -> list[int]:
    if not encoding.classes:
        return [_integer(value, encoding.target, encoding.target_scale)]
    text = _text(value)
    if text not in encoding.classes:
        raise DatasetError(f"expected a target of {', '.join(encoding.classes[:8])}, {text[:60]!r} came")
    place = encoding.classes.index(text)
    if len(encoding.classes) == 2:
        return [2 * place - 1]
    return [1 if place == other else -1 for other in range(len(encoding.classes))]
