"""Hostile statements that are validly signed and truly logged: the operator itself attacks the verifier.

Whatever an operator signs and logs, a verifier ends with one of its own errors, never with a crash or an acceptance.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.envelope import Envelope, sign
from certify.errors import BundleError, VerificationError
from certify.statement import PREFIX
from certify.verifier import verify
from certify.wire import canonical
from tests.cases import NOW, POST, Case, revocation, rotation, stamp, usual_case
from tests.verdict import CASE

PAYLOADS = [Envelope.parse(CASE.entries[i]).payload for i in (1, 2, 3)]
KEY = CASE.operator.key
TRUST = CASE.trust()


def with_entry(index: int, data: bytes) -> bytes:
    """The usual case with the entry ``index`` logged as ``data``."""
    case = Case(CASE.operator, [*CASE.entries], [*CASE.shown], {**CASE.removed})
    case.entries[index] = data
    return case.data()


def refuse(index: int, payload: bytes) -> None:
    """Signed by the operator, included, under a signed checkpoint."""
    with pytest.raises(BundleError) as caught:
        verify(with_entry(index, sign(payload, [KEY]).data), TRUST, now=NOW)
    assert caught.value.exit_code == 11


RESPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "space": lambda p: p + b" ",
    "line feed": lambda p: p + b"\n",
    "pretty": lambda p: json.dumps(json.loads(p), indent=1).encode(),
    "other order": lambda p: json.dumps(dict(reversed(json.loads(p).items())), separators=(",", ":")).encode(),
    "escapes": lambda p: p.replace(b"gdpr", rb"\u0067dpr").replace(b"sisa", rb"\u0073isa"),
    "byte order mark": lambda p: b"\xef\xbb\xbf" + p,
    "UTF-16": lambda p: p.decode().encode("utf-16"),
    "type twice": lambda p: p.replace(b'{"_type"', b'{"_type":"https://in-toto.io/Statement/v1","_type"', 1),
    "predicate twice": lambda p: p[:-1] + b',"predicate":{}}',
    "subject twice": lambda p: p.replace(b'"subject"', b'"subject":[],"subject"', 1),
    "root twice": lambda p: p.replace(b'"sha256"', b'"sha256":"%b","sha256"' % (b"0" * 64), 1),
    "NaN": lambda p: p.replace(b'"count":', b'"count":NaN,"x":', 1).replace(b'"changed":', b'"changed":NaN,"x":', 1),
    "huge integer": lambda p: p.replace(b'"count":', b'"count":%b,"x":' % (b"9" * 5000), 1),
    "deep nesting": lambda p: p.replace(b'"predicate":', b'"predicate":' + b"[" * 20_000 + b"]" * 20_000 + b',"x":'),
    "deep objects": lambda p: p.replace(
        b'"predicate":', b'"predicate":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b',"x":'
    ),
    "lone surrogate": lambda p: p.replace(b"urn:", rb"\ud800urn:").replace(b"gdpr-17", rb"\ud800"),
    "invalid UTF-8": lambda p: p.replace(b"urn:", b"\xff\xfeurn:"),
    "null byte": lambda p: p.replace(b"urn:", rb"\u0000urn:"),
    "upper-case digest": lambda p: p.replace(json.loads(p)["subject"][0]["digest"]["sha256"].encode(), b"A" * 64),
    "no subject": lambda p: respelt(p, subject=[]),
    "subject without digest": lambda p: respelt(p, subject=[{"name": "tensor-root/v1", "digest": {}}]),
    "subject of another algorithm": lambda p: respelt(
        p, subject=[{"name": "tensor-root/v1", "digest": {"sha512": "00"}}]
    ),
    "subject twice as often": lambda p: respelt(p, subject=json.loads(p)["subject"] * 2),
    "another statement type": lambda p: respelt(p, _type="https://in-toto.io/Statement/v0.1"),
    "later predicate version": lambda p: respelt(p, predicateType=json.loads(p)["predicateType"].replace("v1", "v2")),
    "another predicate type": lambda p: respelt(p, predicateType=PREFIX + "key/v1"),
    "unknown field": lambda p: respelt(p, predicate=json.loads(p)["predicate"] | {"note": "trust me"}),
    "empty": lambda p: b"",
    "a list": lambda p: b"[]",
}


def respelt(payload: bytes, **changes: Any) -> bytes:
    return canonical(json.loads(payload) | changes, what="a statement", error=ValueError)


@pytest.mark.parametrize("index", [1, 2, 3])
@pytest.mark.parametrize("how", RESPELLINGS)
def test_respelt_statement(index: int, how: str) -> None:
    hostile = RESPELLINGS[how](PAYLOADS[index - 1])
    if hostile != PAYLOADS[index - 1]:
        refuse(index, hostile)


def test_envelope_of_another_payload_type() -> None:
    """The signature covers the type: a payload of another protocol is no statement."""
    wire = json.loads(CASE.entries[2]) | {"payloadType": "application/json"}
    with pytest.raises(BundleError, match="payload type"):
        verify(with_entry(2, canonical(wire, what="", error=ValueError)), TRUST, now=NOW)


def test_payload_hidden_beside_the_signed_one() -> None:
    """A reader that takes the last of two fields sees another payload than one that takes the first."""
    other = b64encode(PAYLOADS[1].replace(b"gdpr-17", b"gdpr-21")).decode()
    for name in ("payload", "p\\u0061yload"):
        twice = CASE.entries[2][:-1] + f',"{name}":"{other}"}}'.encode()
        with pytest.raises(BundleError, match="field stands twice"):
            verify(with_entry(2, twice), TRUST, now=NOW)


KEY_CHANGES = {
    "start that is no time": {"notBefore": "2026-02-30T00:00:00Z"},
    "end that is no time": {"notAfter": "2026-13-01T00:00:00Z"},
    "start with a line feed": {"notBefore": stamp(0) + "\n"},
    "end before its start": {"notAfter": stamp(-5)},
    "algorithm that is none": {"algorithm": "rsa"},
    "key of 9,000 letters": {"spki": "A" * 9000},
    "key of another alphabet": {"spki": "_-_-"},
}


@pytest.mark.parametrize("changes", KEY_CHANGES.values(), ids=KEY_CHANGES.keys())
def test_rotation_to_a_hostile_key_record(changes: dict[str, str]) -> None:
    fields = json.loads(rotation(KEY, KEY).payload())
    fields["predicate"]["successor"] |= changes
    case = usual_case(CASE.operator)
    case.log(sign(canonical(fields, what="", error=ValueError), [KEY]))
    with pytest.raises(BundleError):
        verify(case.data(), TRUST, now=NOW)


def test_rotation_to_itself() -> None:
    case = usual_case(CASE.operator)
    case.say(rotation(KEY, KEY), KEY, KEY)
    with pytest.raises(VerificationError, match="signed twice"):
        verify(case.data(), TRUST, now=NOW)
    assert revocation(KEY).kind == "key"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**55) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
    | st.sampled_from([stamp(0), stamp(50), "0" * 64, POST.root().hex()]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inner for place in places(item, (*path, key))]


DECISIVE = ("removed", "retained", "pre", "post", "changes", "parent", "requests", "subject", "predicateType", "_type")


@settings(max_examples=250)
@given(st.integers(1, 3), st.integers(0, 10**4), values)
def test_any_json_in_any_place_of_a_signed_and_logged_statement(index: int, number: int, value: Any) -> None:
    """It is refused, or it was something that nobody can check: a name, a time, a parameter."""
    fields = json.loads(PAYLOADS[index - 1])
    paths = places(fields)
    path = paths[number % len(paths)]
    target = fields
    for step in path[:-1]:
        target = target[step]
    if target[path[-1]] == value:
        return
    target[path[-1]] = value
    try:
        payload = canonical(fields, what="a statement", error=ValueError)
    except ValueError:
        return
    case = Case(CASE.operator)
    envelopes = [sign(payload if i == index else said, [KEY]) for i, said in enumerate(PAYLOADS, 1)]
    if index < 3:  # let the certificate name what was signed
        last = json.loads(PAYLOADS[2])
        last["predicate"] |= {"parent": envelopes[0].digest, "requests": [envelopes[1].digest]}
        envelopes[2] = sign(canonical(last, what="a statement", error=ValueError), [KEY])
    for envelope in envelopes:
        case.log(envelope)
    case.removed = {envelopes[2].digest: (1, 4)}
    try:
        verify(case.data(), TRUST, now=NOW)
    except VerificationError:
        return
    assert not set(DECISIVE) & set(path)
