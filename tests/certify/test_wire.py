"""Canonical JSON: the quick way to see that bytes are in the one form never says yes where RFC 8785 says no."""

import json
import sys
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import StatementError
from certify.wire import is_canonical

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def quick(value: Any, data: bytes) -> bool:
    return is_canonical(value, data, what="a test", error=StatementError)


@given(VALUES)
def test_canonical_form_is_recognised_and_others_are_not(value: Any) -> None:
    canonical = rfc8785.dumps(value)
    assert quick(value, canonical)
    for other in (
        json.dumps(value).encode(),
        json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"),
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode(),
    ):
        assert quick(value, other) == (other == canonical)


def test_every_character_has_one_form() -> None:
    """Escapes as JSON knows them: of all of them, only the one of RFC 8785 is accepted."""
    short = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 34: b'\\"', 47: b"\\/", 92: b"\\\\"}
    for code in (*range(0xD800), *range(0xE000, 0x10000), 0x10000, sys.maxunicode):
        value = chr(code)
        wanted = rfc8785.dumps([value])
        forms = {value.encode(), b"\\u%04x" % code, b"\\u%04X" % code, short.get(code, b"\\")}
        for form in forms:
            data = b'["' + form + b'"]'
            assert quick([value], data) == (data == wanted), (code, form)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"a": 1.0}, b'{"a":1.0}'),
        ({"a": -0.0}, b'{"a":-0}'),
        ({"a": 1e21}, b'{"a":1000000000000000000000}'),
        ({"a": 2**53 + 0.0}, b'{"a":9007199254740992.0}'),
        ({"b": 1, "a": 2}, b'{"b":1,"a":2}'),
        ({"a": 1}, b'{"a": 1}'),
        ({"a": 1}, b'{"a":1}\n'),
        ({"\U0001f600": 1, "\uffff": 2}, '{"\uffff":2,"\U0001f600":1}'.encode()),
    ],
)
def test_forms_that_are_not_canonical(value: Any, data: bytes) -> None:
    assert rfc8785.dumps(value) != data and not quick(value, data)
