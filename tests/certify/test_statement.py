"""Statements: every predicate survives writing and reading, and nothing else is read."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from certify.errors import StatementError
from certify.fields import MAX_INTEGER
from certify.statement import (
    FORGET_ROOT,
    PREFIX,
    PUBLIC_KEY,
    STATEMENT_TYPE,
    TENSOR_ROOT,
    Base,
    Changes,
    Code,
    Environment,
    KeyChange,
    KeyRecord,
    Method,
    Model,
    Request,
    Run,
    Statement,
    Training,
    Tree,
    Unlearning,
    subject,
)
from certify.wire import canonical
from tests.cases import ORIGIN, operator, request, revocation, rotation, stamp, training, usual_case

NEW_KEY = operator("Heir", algorithm="ed25519").key
CASE = usual_case()
EXAMPLES = {
    "training": training(),
    "request": request(),
    "unlearning": Statement.parse(CASE.bundle().entries[2].envelope.payload),
    "rotation": rotation(CASE.operator.key, NEW_KEY),
    "revocation": revocation(CASE.operator.key),
}

SUCCESSOR = json.loads(EXAMPLES["rotation"].payload())["predicate"]["successor"]

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
labels = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
counts = st.integers(0, MAX_INTEGER)
decimals = st.integers(-(10**40) + 1, 10**40 - 1).map(str)
# RFC 8785 writes a float from 2**53 to 1e21 as an integer, which no reader can be relied on to keep: it is refused.
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 2**53 or abs(x) >= 1e21)
scalars = st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | floats | texts | st.none()
moments = st.datetimes(allow_imaginary=False).filter(lambda t: t.year >= 1000).map(lambda t: t.replace(microsecond=0))
spans = st.tuples(moments, moments).map(lambda pair: [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in sorted(pair)])
runs = st.builds(lambda id_, span: Run(id_.hex(), *span), st.binary(min_size=16, max_size=16), spans)
trees = st.builds(Tree, digests, counts)
models = st.builds(Model, digests, counts, decimals)
environments = st.builds(
    Environment, labels, labels, st.dictionaries(labels, labels, max_size=2), counts, labels,
    st.dictionaries(labels, texts, max_size=2),
    st.none() | st.builds(Code, st.binary(min_size=20, max_size=20).map(bytes.hex), st.booleans()),
)  # fmt: skip
methods = st.builds(
    Method, labels, st.dictionaries(labels, scalars | st.lists(scalars, max_size=3), max_size=2),
    st.lists(decimals, max_size=2),
)  # fmt: skip
metrics = st.dictionaries(labels, floats, max_size=2)
trainings = st.builds(
    Training, st.just(ORIGIN), runs, trees, models, methods, environments,
    st.lists(st.builds(Base, labels, digests, st.none() | labels), max_size=2), metrics,
)  # fmt: skip
requests = st.builds(
    lambda scope, root, count, ground, span: Request(ORIGIN, scope, Tree(root, count), ground, *span),
    st.sampled_from(["records", "subject", "class", "concept", "client"]), digests, st.integers(1, MAX_INTEGER), labels, spans,
)  # fmt: skip
unlearnings = st.builds(
    lambda sets, **fields: Unlearning(**fields, log=ORIGIN, removed=sets and sets[0], retained=sets and sets[1]),
    st.none() | st.tuples(trees, trees), run=runs, parent=digests,
    requests=st.lists(digests, min_size=1, max_size=3, unique=True), pre=models, post=models,
    changes=st.builds(Changes, counts, counts, counts, counts), method=methods, environment=environments, metrics=metrics,
)  # fmt: skip
key_changes = st.builds(
    lambda keyid, span, successor: KeyChange(ORIGIN, "rotate" if successor else "revoke", keyid, span[0], successor),
    digests, spans,
    st.none() | st.builds(
        lambda keyid, span, open_: KeyRecord(keyid, "ed25519", "AAAA", span[0], None if open_ else span[1]),
        digests, spans, st.booleans(),
    ),
)  # fmt: skip


def about(predicate: Any) -> Statement:
    """The predicate with the subject that belongs to it."""
    match predicate:
        case Training(model=model) | Unlearning(post=model):
            return Statement((subject(TENSOR_ROOT, model.tensor_root),), predicate)
        case Request(forget=tree):
            return Statement((subject(FORGET_ROOT, tree.root),), predicate)
        case _:
            return Statement((subject(PUBLIC_KEY, predicate.keyid),), predicate)


@given(st.one_of(trainings, requests, unlearnings, key_changes), st.lists(st.tuples(labels, digests), max_size=3))
def test_every_statement_survives_writing_and_reading(predicate: Any, more: list[tuple[str, str]]) -> None:
    statement = about(predicate)
    others = {name: digest for name, digest in more if name != statement.subjects[0].name}
    statement = Statement((*statement.subjects, *(subject(*pair) for pair in others.items())), predicate)
    payload = statement.payload()
    assert Statement.parse(payload) == statement
    assert canonical(json.loads(payload), what="a statement", error=StatementError) == payload


def respelt(payload: bytes, **changes: Any) -> bytes:
    """Canonical JSON of the same statement with other fields of its predicate; ``_`` before a name: of the statement."""
    fields = json.loads(payload)
    for name, value in changes.items():
        target, key = (fields, name[1:]) if name.startswith("_") else (fields["predicate"], name)
        if value is ...:
            del target[key]
        else:
            target[key] = value
    return canonical(fields, what="a statement", error=StatementError)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_same_statement_in_other_bytes_is_refused(kind: str) -> None:
    payload = EXAMPLES[kind].payload()
    fields = json.loads(payload)
    for other in (
        json.dumps(fields).encode(),  # spaces
        json.dumps(dict(reversed(fields.items())), separators=(",", ":")).encode(),  # other order
        payload + b"\n",
        b" " + payload,
        b"\xef\xbb\xbf" + payload,
        payload.replace(b'"predicate"', rb'"pr\u0065dicate"', 1),
        payload.replace(b"urn:", rb"u\u0072n:", 1),
        payload.replace(b"{", b'{"_type":"x",', 1),  # field twice
        payload.decode().encode("utf-16"),
    ):
        assert other != payload
        with pytest.raises(StatementError):
            Statement.parse(other)


@pytest.mark.parametrize(
    "number", ["1.0", "1e0", "-0", "01", "+1", "1E+0", "0.1e1", "NaN", "Infinity", "9" * 400, "1e999"]
)
def test_number_in_another_spelling_is_refused(number: str) -> None:
    payload = EXAMPLES["training"].payload()
    assert b'"count":8,' in payload
    with pytest.raises(StatementError):
        Statement.parse(payload.replace(b'"count":8,', b'"count":%b,' % number.encode()))
    with pytest.raises(StatementError):
        Statement.parse(payload.replace(b'{"shards":2}', b'{"shards":%b}' % (number.encode() + b"0")))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("training", {"extra": 1}),
        ("training", {"_extra": 1}),
        ("training", {"run": ...}),
        ("training", {"_subject": ...}),
        ("training", {"_subject": []}),
        ("training", {"_subject": [{"name": TENSOR_ROOT, "digest": {}}]}),
        ("training", {"_subject": [{"name": TENSOR_ROOT, "digest": {"sha512": "00"}}]}),
        ("training", {"_subject": [{"name": TENSOR_ROOT, "digest": {"sha256": "0" * 64}}]}),
        ("training", {"_subject": [{"name": TENSOR_ROOT, "digest": {"sha256": EXAMPLES["training"].subjects[0].sha256}}] * 2}),
        ("training", {"__type": "https://in-toto.io/Statement/v0.1"}),
        ("training", {"_predicateType": "urn:unlearning-ledger:request/v1"}),
        ("training", {"_predicateType": "urn:unlearning-ledger:training/v2"}),
        ("training", {"_predicate": None}),
        ("training", {"_predicate": []}),
        ("training", {"metrics": {}}),  # absent rather than empty
        ("training", {"base": []}),
        ("training", {"dataset": {"root": "0" * 64, "count": -1}}),
        ("training", {"dataset": {"root": "0" * 64, "count": True}}),
        ("training", {"dataset": {"root": "0" * 64, "count": "8"}}),
        ("training", {"dataset": {"root": "0" * 63 + "A", "count": 8}}),
        ("training", {"dataset": {"root": "0" * 64 + "\n", "count": 8}}),
        ("training", {"run": {"id": "0" * 32, "started": stamp(2), "finished": stamp(1)}}),
        ("training", {"run": {"id": "0" * 32, "started": "2026-02-30T00:00:00Z", "finished": stamp(1)}}),
        ("training", {"run": {"id": "0" * 32, "started": stamp(1) + "\n", "finished": stamp(1)}}),
        ("request", {"scope": "people"}),
        ("request", {"ground": ""}),
        ("request", {"ground": "x" * 257}),
        ("request", {"due": stamp(9)}),
        ("request", {"forget": {"root": EXAMPLES["request"].subjects[0].sha256, "count": 0}}),
        ("unlearning", {"requests": []}),
        ("unlearning", {"requests": ["0" * 64, "0" * 64]}),
        ("unlearning", {"removed": ...}),
        ("unlearning", {"retained": ...}),
        ("unlearning", {"retained": None}),
        ("rotation", {"successor": ...}),
        ("rotation", {"action": "revoke"}),
        ("rotation", {"effective": "2026-13-01T00:00:00Z"}),
        ("rotation", {"successor": SUCCESSOR | {"notBefore": "2026-02-30T00:00:00Z"}}),
        ("rotation", {"successor": SUCCESSOR | {"notAfter": stamp(-1)}}),
        ("revocation", {"action": "rotate"}),
        ("revocation", {"reason": "scheduled"}),  # the default is not written
    ],
)  # fmt: skip
def test_contradictions_and_other_shapes_are_refused(kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(StatementError):
        Statement.parse(respelt(EXAMPLES[kind].payload(), **changes))


def test_statement_is_not_signed_if_it_would_not_parse() -> None:
    good = EXAMPLES["unlearning"].predicate
    assert isinstance(good, Unlearning)
    for bad in (
        replace(good, requests=[]),
        replace(good, removed=None),
        replace(good, metrics={"accuracy": float("nan")}),
        replace(good, metrics={"accuracy": float("inf")}),
        replace(good, method=Method("m", {"seed": 2**53})),
        replace(good, method=Method("m", {"nested": [[1]]})),  # type: ignore[list-item]
        replace(good, method=Method("\ud800")),
        replace(good, method=Method("m" * 300)),
        replace(good, environment=replace(good.environment, settings={"x": "y" * 70_000})),
    ):
        with pytest.raises(StatementError):
            about(bad).payload()


def test_oversized_statement_is_refused() -> None:
    with pytest.raises(StatementError, match="at most 65,535"):
        Statement.parse(b" " * 70_000)


@pytest.mark.parametrize("depth", [1_000, 30_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    payload = EXAMPLES["training"].payload()
    nested = b"[" * depth + b"]" * depth
    for name in (b'"predicate":', b'"parameters":', b'"subject":'):
        with pytest.raises(StatementError):
            Statement.parse(payload.replace(name, name + nested + b',"x":', 1)[:65_535])


def test_lone_surrogates_are_refused() -> None:
    payload = EXAMPLES["training"].payload()
    for hostile in (rb'"\ud800"', rb'"\udfff\ud800"', b'"\xed\xa0\x80"', b'"\xff"'):
        with pytest.raises(StatementError):
            Statement.parse(payload.replace(b'"sisa"', hostile))


@given(st.binary(max_size=200))
def test_bytes_are_a_statement_or_an_error(data: bytes) -> None:
    with pytest.raises(StatementError):
        Statement.parse(data)


@settings(max_examples=400)
@given(st.sampled_from(sorted(EXAMPLES)), st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 3))
def test_mutated_statement_is_a_statement_or_an_error(kind: str, at: int, patch: bytes, skip: int) -> None:
    payload = EXAMPLES[kind].payload()
    at %= len(payload)
    mutated = payload[:at] + patch + payload[at + skip :]
    try:
        statement = Statement.parse(mutated)
    except StatementError:
        return
    assert statement.payload() == mutated


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**60) | st.floats() | st.text(max_size=5) | digests,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inner for place in places(item, (*path, key))]


@settings(max_examples=300)
@given(st.sampled_from(sorted(EXAMPLES)), st.integers(0, 1000), json_values)
def test_any_json_in_any_place_is_a_statement_or_an_error(kind: str, number: int, value: Any) -> None:
    fields = json.loads(EXAMPLES[kind].payload())
    paths = places(fields)
    *way, last = paths[number % len(paths)]
    target = fields
    for step in way:
        target = target[step]
    target[last] = value
    try:
        hostile = canonical(fields, what="a statement", error=StatementError)
        statement = Statement.parse(hostile)
    except StatementError:
        return
    assert statement.payload() == hostile


def test_kinds_and_types() -> None:
    assert {s.kind for s in EXAMPLES.values()} == {"training", "request", "unlearning", "key"}
    assert EXAMPLES["rotation"].type == PREFIX + "key/v1"
    assert json.loads(EXAMPLES["request"].payload())["_type"] == STATEMENT_TYPE
