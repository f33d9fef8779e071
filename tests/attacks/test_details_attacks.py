"""Lies in what no method's own attack covers: positions that nobody signed, numbers that hide others, too much, and stowaways."""

import struct
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from certify import methods
from certify.digest import Manifest, TensorSource, hash_tensors
from certify.errors import ChainError, MismatchError
from certify.methods.ablation import Ablated, Ablation
from certify.methods.dp import DpSgdTraining
from certify.methods.own import Own
from certify.statement import Method
from certify.verifier import Given, verify, verify_training
from tests.cases import (
    LATER,
    NOW,
    POST,
    PRE,
    Case,
    certificate,
    receipt,
    request,
    run,
    stamp,
    training,
)


def two_scopes() -> tuple[Case, str]:
    """A certificate about a concept, then one that leaves out other records than were requested."""
    case = Case(models=(PRE, POST, LATER))
    trained = case.say(training())
    asked = case.say(request((7,), scope="concept", received=stamp(10)))
    first = case.say(certificate(trained, asked, removed=None, retained=None))
    people = case.say(request((1, 4)))
    case.certify(first, people, positions=(2, 3), pre=POST, post=LATER, run=run(21, 22))
    return case, first.digest


@pytest.mark.parametrize("positions", [(1, 4), (-5, 10**9, 1)])
def test_positions_for_a_certificate_that_removed_no_records(positions: tuple[int, ...]) -> None:
    case, concept = two_scopes()
    case.removed[concept] = positions
    with pytest.raises(ChainError, match=r"the bundle has removed/.*, which belongs to no statement in it"):
        verify(case.data(), case.trust(), now=NOW)


def test_a_certificate_about_a_concept_does_not_hide_that_a_record_was_kept() -> None:
    case, _ = two_scopes()
    given = Given(receipts=[receipt(1).to_json()])
    with pytest.raises(MismatchError, match="is not among those that the certificate says were left out"):
        verify(case.data(), case.trust(), now=NOW, given=given)


def matrix(form: str, *rows: tuple[float, ...]) -> tuple[bytes, Manifest]:
    dtype = {"f": "F32", "d": "F64"}[form]
    data = b"".join(struct.pack(f"<{len(row)}{form}", *row) for row in rows)
    source = TensorSource.of("l.weight", dtype, (len(rows), len(rows[0])), data)
    return data, hash_tensors([source], threads=1)


def ablated(form: str, before: tuple[float, ...], after: tuple[float, ...], direction: tuple[float, ...]) -> list[str]:
    was, pre = matrix(form, before)
    now, post = matrix(form, after)
    v = struct.pack(f"<{len(direction)}d", *direction)
    attached = {sha256(data).hexdigest(): data for data in (was, now, v)}
    named = [sha256(data).hexdigest() for data in (v, was, now)]
    detail = Ablation([Ablated("l", named[0], named[1], named[2])], (1, 1))
    case: Any = SimpleNamespace(
        index=3, requests=[SimpleNamespace(scope="concept")], pre=pre, post=post, attached=attached
    )
    return detail.check(case)


def test_an_honest_projection_is_computed_again() -> None:
    [_, line, _] = ablated("d", (5.0, 2.0), (0.0, 2.0), (1.0, 0.0))
    assert "is what it was with that projected out" in line


@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        ("d", (5.0, 2.0), (float("nan"), float("nan"))),
        ("d", (float("nan"), 2.0), (1.0, 2.0)),
        ("d", (float("inf"), 2.0), (1.0, 2.0)),
        ("d", (5.0, 3e38), (5.0, 3e38)),
        ("f", (5.0, 3e38), (5.0, 3e38)),
    ],
)
def test_numbers_that_hide_that_nothing_was_projected_out(
    form: str, before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    with pytest.raises(ChainError, match=r"none or infinite|is not what it was with the direction projected out"):
        ablated(form, before, after, (1.0, 0.0))


def owned(case: Case, detail: Own) -> None:
    trained = case.say(training())
    case.certify(trained, case.say(request((1, 4))), positions=(1, 4), detail=detail)


def test_details_that_refer_to_more_than_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    owned(case, Own({}, {"a": sha256(b"12345").hexdigest(), "b": sha256(b"12345").hexdigest()}))
    data = replace(case.bundle(), details={sha256(b"12345").hexdigest(): b"12345"}).to_bytes()
    verify(data, case.trust(), now=NOW)
    monkeypatch.setattr(methods, "MAX_ATTACHED", 9)
    with pytest.raises(ChainError, match="beyond 9 bytes, counted each time"):
        verify(data, case.trust(), now=NOW)


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), IndexError("none"), ValueError("odd"), struct.error("bad")]
)
def test_details_that_cannot_be_worked_out_are_refused(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object) -> list[str]:
        raise error

    case = Case()
    owned(case, Own({"a": 1}))
    monkeypatch.setattr(Own, "check", check)
    with pytest.raises(ChainError, match="a detail that cannot be worked out"):
        verify(case.data(), case.trust(), now=NOW)


FALSE = DpSgdTraining("mine", "add-or-remove-one", "poisson", 0.5, 0.5, 10_000, 1.0, 1e-6, 1e-9)


def test_a_base_whose_training_claims_too_much() -> None:
    case = Case(models=(PRE,))
    said = training(recipe=Method("dp-sgd/v1", {}, []), detail=FALSE)
    case.say(said)
    data = replace(case.bundle(), leaves={}).to_bytes()
    with pytest.raises(ChainError, match="states ε"):
        verify_training(data, case.trust(), now=NOW)


@pytest.mark.parametrize("folder", ["details", "points", "proofs"])
def test_nothing_rides_along_with_a_base(folder: str) -> None:
    case = Case(models=(PRE,))
    case.say(training())
    bundle = replace(case.bundle(), leaves={})
    verify_training(bundle.to_bytes(), case.trust(), now=NOW)
    stowaway: Any = {folder: {sha256(b"x").hexdigest(): b"x"}}
    with pytest.raises(ChainError, match="belong"):
        verify_training(replace(bundle, **stowaway).to_bytes(), case.trust(), now=NOW)


def test_an_honest_claim_of_a_base_is_accepted() -> None:
    case = Case(models=(PRE,))
    true = changed(FALSE, epsilon=FALSE.least(FALSE.delta))
    case.say(training(recipe=Method("dp-sgd/v1", {}, []), detail=true))
    assert verify_training(replace(case.bundle(), leaves={}).to_bytes(), case.trust(), now=NOW)[0]
