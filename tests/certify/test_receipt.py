"""Receipts: a record's place in the forget set and in the training data, checked without the operator."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import DatasetError, WorkspaceError
from certify.receipt import Receipt
from certify.records import records_of
from certify.request import file_request, make_receipt, shred_request
from certify.statement import Training
from certify.workspace import Workspace
from tests.cases import RECORDS, TREE, forget_set, receipt, revocation, training

RECEIPT = receipt()
FORGET = forget_set((1, 4)).root().hex()


def test_receipt_survives_and_verifies() -> None:
    parsed = Receipt.parse(RECEIPT.to_json())
    assert parsed == RECEIPT
    parsed.training.verify(parsed.record, TREE.root, TREE.count)
    parsed.request.verify(parsed.record, FORGET, 2)


def test_receipt_opens_its_own_roots_only() -> None:
    with pytest.raises(DatasetError, match="opens root"):
        RECEIPT.training.verify(RECEIPT.record, FORGET, 2)
    with pytest.raises(DatasetError):
        RECEIPT.training.verify(RECEIPT.record, TREE.root, TREE.count + 1)
    with pytest.raises(DatasetError):
        RECEIPT.training.verify(RECORDS[2][1], TREE.root, TREE.count)


def respelt(**changes: Any) -> bytes:
    return json.dumps(json.loads(RECEIPT.to_json()) | changes, sort_keys=True, separators=(",", ":")).encode()


OPENING = json.loads(RECEIPT.to_json())["training"]
REFUSED = {
    "empty": b"",
    "other order": json.dumps(dict(reversed(json.loads(RECEIPT.to_json()).items())), separators=(",", ":")).encode(),
    "spaces": json.dumps(json.loads(RECEIPT.to_json())).encode(),
    "field twice": RECEIPT.to_json().replace(b'{"format"', b'{"format":"x","format"', 1),
    "another format": respelt(format="unlearning-ledger/receipt/v2"),
    "unknown field": respelt(x=1),
    "record not base64": respelt(record="!"),
    "record with stray bits": respelt(record="e31="),
    "record URL-safe": respelt(record="_-8="),
    "NaN": RECEIPT.to_json().replace(b'"index":1', b'"index":NaN'),
    "index as text": respelt(training=OPENING | {"index": "1"}),
    "negative index": respelt(training=OPENING | {"index": -1}),
    "huge size": respelt(training=OPENING | {"size": 2**60}),
    "salt too short": respelt(training=OPENING | {"salt": "00"}),
    "salt with a line feed": respelt(training=OPENING | {"salt": OPENING["salt"] + "\n"}),
    "path too long": respelt(training=OPENING | {"path": OPENING["path"] * 30}),
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_malformed_receipt_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetError):
        Receipt.parse(data)


@given(st.binary(max_size=200))
def test_bytes_are_a_receipt_or_an_error(data: bytes) -> None:
    with pytest.raises(DatasetError):
        Receipt.parse(data)


@given(st.integers(0, 100_000), st.binary(max_size=3), st.integers(0, 3))
def test_altered_receipt_never_verifies_for_another_record(at: int, patch: bytes, skip: int) -> None:
    data = RECEIPT.to_json()
    at %= len(data)
    try:
        altered = Receipt.parse(data[:at] + patch + data[at + skip :])
        altered.training.verify(altered.record, TREE.root, TREE.count)
        altered.request.verify(altered.record, FORGET, 2)
    except DatasetError:
        return
    assert altered == RECEIPT


@given(st.binary(max_size=40), st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1))
def test_opening_at_another_place_is_an_error(record: bytes, index: int, size: int) -> None:
    hostile = Receipt.parse(
        respelt(record=b64encode(record).decode(), training=OPENING | {"index": index, "size": size})
    )
    with pytest.raises(DatasetError):
        hostile.training.verify(record, TREE.root, size)


def test_receipts_are_made_from_the_vault(workspace: Workspace) -> None:
    people = {f"p{i}": {"x": i} for i in range(5)}
    tree = workspace.vault.put_records(records_of(people))
    trained = workspace.append(workspace.sign(training(dataset=tree)))
    request = file_request(workspace, {"p3": people["p3"], "p1": people["p1"]}, ground="gdpr-17")
    made = make_receipt(workspace, request, trained, "p3", b'{"x":3}')
    assert (made.training.index, made.request.index) == (3, 0)
    assert isinstance(trained.statement.predicate, Training)
    made.training.verify(b'{"x":3}', trained.statement.predicate.dataset.root, 5)
    with pytest.raises(DatasetError):
        make_receipt(workspace, request, trained, "p3", b'{"x":4}')
    with pytest.raises(WorkspaceError, match="is not in the request"):
        make_receipt(workspace, request, trained, "p2", b'{"x":2}')
    with pytest.raises(WorkspaceError, match="expected another"):
        make_receipt(workspace, workspace.append(workspace.sign(revocation(workspace.issuer_key))), trained, "p3", b"")
    shred_request(workspace, request)
    with pytest.raises(WorkspaceError, match="is not in the request"):
        make_receipt(workspace, request, trained, "p3", b'{"x":3}')
