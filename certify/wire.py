"""Strict JSON: what is written is RFC 8785 canonical, what is read must be those very bytes again.

Hashes are lower-case hex strings and integers decimal strings, so that no reader rounds them::

    {"index":"3","path":["ab…"],"salt":"cd…","size":"8"}

Every function takes the error class to raise and a word for what is being read.
"""

import re
from typing import Any, TypeVar

import msgspec
import rfc8785

T = TypeVar("T")

HASH_SIZE = 32
MAX_DEPTH = 200
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)  # strings whole, so that theirs do not count


def canonical(value: Any, *, what: str, error: type[Exception]) -> bytes:
    """RFC 8785 canonical JSON. Raises ``error`` for NaN, infinities, integers past 2**53 and what JSON cannot say."""
    try:
        return rfc8785.dumps(value)
    except RecursionError:
        raise error(f"{what} is nested too deeply for JSON") from None
    except (ValueError, TypeError) as reason:  # CanonicalizationError, and UnicodeEncodeError for a key
        raise error(f"{what} cannot be written as canonical JSON: {reason}") from None


_UNSURE = re.compile(rb"(?:^|[:,\[])-?[0-9]+(?:[.eE]|[0-9]{15})|[\xf0-\xff]")
"""Where msgspec and RFC 8785 may differ: fractions, large integers, characters past U+FFFF."""


def is_canonical(value: Any, data: bytes, *, what: str, error: type[Exception]) -> bool:
    """Whether ``data`` is the RFC 8785 form of ``value``; fast where msgspec's sorted form is the same."""
    if _UNSURE.search(data) is None and msgspec.json.encode(value, order="sorted") == data:
        return True
    return canonical(value, what=what, error=error) == data


def decode(data: bytes, type_: type[T], *, limit: int, what: str, error: type[Exception]) -> T:
    """Parse JSON into a msgspec struct; its canonical form must be ``data`` again, to the byte."""
    if len(data) > limit:
        raise error(f"{what} has {len(data)} bytes, expected at most {limit}")
    check_depth(data, what=what, error=error)
    try:
        value = msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as reason:
        raise error(f"{what} is not the expected JSON: {reason}") from None
    if canonical(msgspec.to_builtins(value), what=what, error=error) != data:
        raise error(f"{what} is not canonical JSON (RFC 8785): expected the bytes it would be written as, others came")
    return value


def check_depth(data: bytes, *, what: str, error: type[Exception]) -> None:
    """Refuse JSON that is nested too deeply before any parser recurses into it.

    Python's limit on recursion would do, but libraries raise it for the whole process, and then the stack overflows.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(data):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise error(f"{what} is nested more than {MAX_DEPTH} deep")
        elif token in (b"]", b"}"):
            depth -= 1


def read_number(text: str, *, limit: int, what: str, error: type[Exception]) -> int:
    """A decimal string without sign or leading zeros, below ``limit``."""
    if not text.isascii() or not text.isdigit() or len(text) > 20 or (text[0] == "0" and text != "0"):
        raise error(f"{what} is {text[:40]!r}, expected a decimal number as a string")
    number = int(text)
    if number >= limit:
        raise error(f"{what} is {number}, expected less than {limit}")
    return number


def read_hash(text: str, *, what: str, error: type[Exception]) -> bytes:
    """32 bytes as 64 lower-case hex digits."""
    if len(text) != 2 * HASH_SIZE or not set(text) <= set("0123456789abcdef"):
        raise error(f"{what} is {text[:80]!r}, expected {2 * HASH_SIZE} lower-case hex digits")
    return bytes.fromhex(text)


def read_path(texts: list[str], *, what: str, error: type[Exception]) -> tuple[bytes, ...]:
    """An inclusion proof: at most 64 hashes, leaf to root."""
    if len(texts) > 64:
        raise error(f"{what} has {len(texts)} hashes, expected at most 64")
    return tuple(read_hash(text, what=f"a hash of {what}", error=error) for text in texts)
