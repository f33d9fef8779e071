"""Attacks on audits: an operator, an auditor or both make a model look as if it had been attacked in vain.

Every statement is truly logged; where a signature is an auditor's, the auditor is in on it, or its key was stolen.
"""

from dataclasses import replace as copy
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from certify.audit import verdict
from certify.audit_probes import Probe, Worst, planned
from certify.audit_terms import Figures
from certify.envelope import Envelope
from certify.errors import (
    AuditError,
    CheckpointError,
    EnvelopeSignatureError,
    FailedAuditError,
    KeyValidityError,
    MissingAuditError,
    RevokedKeyError,
    StatementError,
)
from certify.statement import AuditData, Run, Tree
from certify.trust import AuditPolicy
from certify.verifier import Report, verify
from tests.audit_cases import FAILED, HELD_OUT, OVER, PASSED, PLAN, Auditor, audited_case, figures, key, probe, trust
from tests.cases import DATASET, LATER, NOW, TREE, Case, Witness, certificate, day, model, rotation, stamp
from tests.cases import usual_case as usual

REQUIRED = AuditPolicy(required=True)


def check(case: Case, **how: Any) -> Report:
    return verify(case.data(), trust(case), now=NOW, **how)


def refuse(case: Case, match: str, kind: type[AuditError] = AuditError) -> None:
    with pytest.raises(kind, match=match) as caught:
        check(case)
    assert (caught.value.step, caught.value.exit_code) == (8, 18)
    assert len(caught.value.passed) == 7


def copy_of(record: Any, name: str | None = None, **changes: Any) -> Any:
    return replace(record, **({"name": name} if name else {}), **changes)


def attacked(plan: dict[str, Any] | None = None, start: dict[str, Any] | None = None, **end: Any) -> Case:
    """A plan, a start and an end, each with changes."""
    case = usual()
    auditor = Auditor(case)
    auditor.plan(**plan or {})
    auditor.start(**start or {})
    auditor.finish(**end)
    return case


# -- figures, scores, verdict --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [FAILED, OVER])
def test_verdict_that_does_not_follow_from_the_figures(found: verdict.Figures) -> None:
    refuse(attacked(found=found, verdict="PASS"), "states PASS, from its figures and its plan follows")


def test_figures_swapped_for_those_of_another_audit() -> None:
    """The verdict of a pass with the figures of a failure, and the other way round."""
    refuse(attacked(found=PASSED, figures=Figures.of(FAILED)), "follows FAIL")
    refuse(
        attacked(found=FAILED, figures=Figures.of(PASSED)), "states FAIL, from its figures and its plan follows PASS"
    )


def test_arms_swapped() -> None:
    """The retrained model's scores as the unlearned one's, and the difference left as it was."""
    swapped = copy(FAILED, unlearned=FAILED.retrained[0], retrained=(FAILED.unlearned, FAILED.retrained[1]))
    refuse(attacked(found=swapped, verdict="PASS"), "follows FAIL")


def test_scores_swapped_between_arms() -> None:
    """A retrained model's scores as the unlearned one's: in the file alone, and in a statement that is made to fit its digest."""
    audit_run = pytest.importorskip("certify.audit_run", reason="needs torch")
    import msgspec
    import numpy as np

    from certify.audit.arms import compare
    from certify.errors import MismatchError

    drawn = np.random.default_rng(1).normal(size=(4, 6 + HELD_OUT.count))
    drawn[:2, :6] += 4
    right = PASSED.unlearned.utility
    found = compare(PLAN, drawn, 6, [right] * 4)
    scores = audit_run._written(drawn, found)
    swapped = audit_run._written(drawn[[0, 2, 1, 3]], found)
    planned_, logged = (statement_of(audited_case(), index) for index in (4, 6))
    honest = replace(logged, figures=Figures.of(found), scores=sha256(scores).hexdigest())
    assert audit_run.check_scores(planned_, honest, scores).shape == drawn.shape
    with pytest.raises(MismatchError, match="the scores have SHA-256"):
        audit_run.check_scores(planned_, honest, swapped)
    with pytest.raises(MismatchError, match="do not follow from its scores"):
        audit_run.check_scores(planned_, replace(honest, scores=sha256(swapped).hexdigest()), swapped)
    assert msgspec.to_builtins(Figures.of(audit_run.recompute(PLAN, swapped)[0])) != msgspec.to_builtins(honest.figures)


def statement_of(case: Case, index: int) -> Any:
    from certify.statement import Statement

    return Statement.parse(Envelope.parse(case.entries[index]).payload).predicate


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (figures(forgotten=1), "number of forgotten records"),
        (copy(PASSED, held_out=10), "number of held-out records"),
        (copy(PASSED, attack="lira-offline"), "attack"),
        (copy(PASSED, retrained=(*PASSED.retrained, PASSED.retrained[0])), "number of retrained models"),
    ],
)
def test_figures_of_another_attack_than_the_planned_one(found: verdict.Figures, what: str) -> None:
    """Records or models that do not suit could be left out."""
    refuse(attacked(found=found), f"figures of another {what}")


# -- plans ---------------------------------------------------------------------------------------------------------------


def test_plan_changed_afterwards() -> None:
    """A margin that the figures fit: the audit names a plan that is not the one logged before it."""
    case = usual()
    auditor = Auditor(case)
    kinder = copy(PLAN, margin=0.3, tail=0.2)
    auditor.plan()
    auditor.start()
    auditor.rules = kinder
    auditor.finish(FAILED, verdict="PASS")
    refuse(case, "follows FAIL")


def test_plan_logged_after_the_attack() -> None:
    case = usual()
    auditor = Auditor(case)
    first = auditor.plan()
    auditor.start()
    second = auditor.plan(copy(PLAN, margin=0.3), day=25)
    auditor.start(26, plan=first.digest)
    refuse(case, "expected the one logged before it: " + second.digest[:16])


def test_plan_left_out_of_the_bundle() -> None:
    case = audited_case()
    case.shown.remove(4)
    refuse(case, "an attempt or a plan is hidden")


def test_plan_logged_before_the_certificate() -> None:
    """It names a certificate that is signed and not logged yet."""
    case = Case()
    from tests.cases import request, training

    trained, asked = case.say(training()), case.say(request())
    envelope = case.sign(certificate(trained, asked))
    case.removed[envelope.digest] = (1, 4)
    auditor = Auditor(case, certificate=envelope)
    auditor.plan()
    case.log(envelope)
    refuse(case, "is entry 3, before its certificate at 4")


def test_plan_dated_before_the_certificate() -> None:
    case = usual()
    Auditor(case).plan(day=15)
    refuse(case, "before entry 3 was made")


def test_attack_dated_before_its_plan() -> None:
    refuse(attacked({"day": 30}, {"day": 29}), "before entry 4 was made")


def test_lenient_plan_cannot_replace_a_failure_unseen() -> None:
    """The failure stands in the chain before the second plan, and is told."""
    case = usual()
    auditor = Auditor(case)
    auditor.whole(FAILED)
    auditor.plan(copy(PLAN, margin=0.3), day=30)
    refuse(case, "FAILED AUDIT", FailedAuditError)  # a plan alone changes nothing
    auditor.start(31)
    auditor.finish(FAILED, 32)
    report = check(case)
    assert str(report.audits[0]) == "PASS by Example Audits, power 0.93, after FAIL"
    assert any("FAIL, derived again" in line for line in report.audits[0].history)
    for entry in (4, 5, 6):
        case.shown.remove(entry)
    refuse(case, "is hidden")


# -- seeds, data, models -------------------------------------------------------------------------------------------------


def test_cherry_picked_seed() -> None:
    refuse(attacked(start={"seed": "42"}), "another seed than its plan says")
    refuse(attacked(seed="42"), "another seed than its plan says")


def test_another_adapter_than_the_planned_one() -> None:
    refuse(attacked(adapter="ab" * 32), "another adapter")


def test_held_out_records_changed_after_the_plan() -> None:
    other = AuditData(TREE, Tree("cd" * 32, 2), Tree("ab" * 32, HELD_OUT.count))
    refuse(attacked(data=other), "another data")


def test_other_records_attacked_than_those_forgotten() -> None:
    easy = Tree(DATASET.root().hex(), 2)
    refuse(attacked({"data": AuditData(TREE, easy, HELD_OUT)}), "other records than those")
    other = Tree("ab" * 32, TREE.count)
    case = usual()
    auditor = Auditor(case)
    auditor.plan(data=AuditData(other, auditor.removed, HELD_OUT))
    refuse(case, "other training data")


def test_training_data_held_out() -> None:
    case = usual()
    auditor = Auditor(case)
    auditor.plan(data=AuditData(TREE, auditor.removed, TREE))
    refuse(case, "holds out the training data")


def test_held_out_records_that_were_learnt() -> None:
    """By place, or as a copy at another place: a model that remembers cannot be told from one that does not. Copies in the
    operator's data that the file disguises are found by their leaves: tests/certify/test_audits.py."""
    torch = pytest.importorskip("torch", reason="needs torch")
    import numpy as np

    from certify.audit.adapter import Recipe, linear
    from certify.audit.arms import Records
    from certify.errors import InputError

    x, y = torch.arange(80.0).reshape(40, 2), torch.arange(40) % 2
    places = np.arange(40)
    honest = Records(retain=places[:20], forget=places[20:28], held_out=places[28:36], test=places[36:])
    honest.check(linear(x, y, Recipe(epochs=1, rate=0.1)))
    with pytest.raises(InputError, match="in at most one of"):
        copy(honest, held_out=places[20:28]).check(linear(x, y, Recipe(epochs=1, rate=0.1)))
    x[30], y[30] = x[3], y[3]
    with pytest.raises(InputError, match="1 equal to learnt ones"):
        honest.check(linear(x, y, Recipe(epochs=1, rate=0.1)))


def test_model_audited_is_not_the_certified_one() -> None:
    """The auditor is shown a model that was really retrained."""
    refuse(attacked(model=model(LATER)), "the model attacked at entry 6 is " + LATER.root().hex())
    refuse(attacked({"model": model(LATER)}), "the model attacked at entry 4")


def test_original_that_nobody_trained() -> None:
    """An overfitted model as the positive control."""
    refuse(attacked(original=model(LATER)), "taken as the original")


def test_audit_of_another_certificate() -> None:
    """Of the same operator and model: a first certificate's pass is shown with a later one."""
    from tests.cases import request

    case = audited_case()
    asked = case.say(request((2,), received=stamp(41), due=stamp(60)))
    first = Envelope.parse(case.entries[3])
    case.models = (*case.models, LATER)
    from tests.cases import POST, run

    case.certify(first, asked, positions=(2,), gone=(1, 4), pre=POST, post=LATER, run=run(49, 50))
    refuse(case, "is about certificate " + first.digest[:16])


def test_audit_made_for_another_log() -> None:
    """Copied out of a log in which nobody looks."""
    with pytest.raises(CheckpointError, match="made for log"):
        check(attacked(log="elsewhere.example/ledger"))


# -- probes --------------------------------------------------------------------------------------------------------------

ALSO = [planned("population", {}), planned("relearn", {})]
FOUND = [probe("population"), probe("relearn", limit=500)]


def probed(also: list[Any] = ALSO, found: list[Any] = FOUND, verdict_of: verdict.Figures = PASSED) -> Case:
    return attacked({"also": also}, found=verdict_of, probes=found)


def test_probe_that_was_not_planned_is_added() -> None:
    """Because it turned out well, or instead of one that did not."""
    check(probed())
    refuse(probed([], FOUND), "a probe that its plan does not name: population")
    refuse(probed(ALSO[:1], FOUND), "a probe that its plan does not name: relearn")
    refuse(probed(ALSO, [FOUND[0], probe("text")]), "a probe that its plan does not name: text")


def test_planned_probe_is_dropped() -> None:
    refuse(probed(ALSO, FOUND[:1]), "leaves out a probe that its plan names: relearn")
    refuse(probed(ALSO, []), "leaves out a probe that its plan names: population")


def test_probe_made_with_another_parameter_than_planned() -> None:
    """So few steps, shadows or models that nothing is found."""
    refuse(probed(found=[FOUND[0], probe("relearn", limit=2)]), "the probe relearn with limit 2, planned was 500")
    for name, parameter in (("ulira", "shadows"), ("challenge", "models")):
        few = probe(name, **{parameter: 4.0})
        refuse(probed([planned(name, {parameter: 64.0})], [few]), f"{name} with {parameter} 4, planned was 64")


def test_probes_of_another_plan_than_the_one_before() -> None:
    """A first plan asks for what the second leaves out: both stand in the chain, and the audit is held to its own."""
    case = usual()
    auditor = Auditor(case)
    auditor.plan(also=ALSO)
    auditor.plan(day=23)
    auditor.start(24)
    auditor.finish(day=25, probes=FOUND)
    refuse(case, "a probe that its plan does not name: population")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_figures_of_probes_that_are_no_numbers(value: float) -> None:
    with pytest.raises(StatementError):
        probed(found=[FOUND[0], probe("relearn", index=value)])
    with pytest.raises(StatementError):
        probed(found=[Probe("population", FOUND[0].figures, [Worst(0, value)]), FOUND[1]])


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b'"0.5"', b"null", b"1e300"])
def test_figures_of_probes_written_by_hand(number: bytes) -> None:
    """Signed by an auditor who writes JSON without this program."""
    from certify.statement import Statement

    payload = Envelope.parse(probed().entries[-1]).payload
    assert Statement.parse(payload)
    assert b'"index":0.5' in payload
    with pytest.raises(StatementError):
        Statement.parse(payload.replace(b'"index":0.5', b'"index":' + number))


@pytest.mark.parametrize(
    "found",
    [
        [FOUND[1], FOUND[0]],
        [FOUND[0], FOUND[0], FOUND[1]],
        [FOUND[0], Probe("relearn", {"steps-unlearned": 1.0}, [])],
        [FOUND[0], probe("relearn", forgotten_entirely=1.0)],
        [FOUND[0], copy_of(FOUND[1], "text")],
        [probe("population", difference=-0.2), FOUND[1]],
    ],
    ids=["order", "twice", "figures left out", "figures of its own", "another's figures", "outside its interval"],
)
def test_probes_with_other_figures_than_those_of_their_kind(found: list[Probe]) -> None:
    with pytest.raises(StatementError):
        probed(found=found)


def test_probe_planned_without_its_parameters() -> None:
    """They could be chosen afterwards."""
    for wrong in ({}, {"limit": 0.0}, {"limit": 9.0, "rate": 1.0}):
        with pytest.raises(StatementError):
            probed([ALSO[0], copy_of(ALSO[1], parameters=wrong)])


def test_probes_of_an_attempt_that_did_not_finish() -> None:
    """Results without a verdict."""
    with pytest.raises(StatementError, match="expected none of them"):
        attacked({"also": ALSO}, {"probes": FOUND})


def test_good_probes_do_not_outweigh_a_verdict() -> None:
    refuse(probed(verdict_of=FAILED), "FAILED AUDIT", FailedAuditError)
    assert check(probed(verdict_of=PASSED)).audits[0].verdict == "PASS"


def test_planted_canaries_cannot_be_overlooked() -> None:
    """They decide nothing, since no plan's rules know them: but whoever reads the result reads of them first."""
    also = [planned("canaries", {})]
    found = check(probed(also, [probe("canaries", epsilon=1.2)])).audits[0]
    assert found.verdict == "PASS" and str(found).endswith("; PLANTED CANARIES FOUND")
    assert "PLANTED CANARIES FOUND" in found.beside[0]
    assert "CANARIES FOUND" not in str(check(probed(also, [probe("canaries")])).audits[0])


# -- attempts ------------------------------------------------------------------------------------------------------------


def test_hidden_attempt() -> None:
    """A failed attempt is in the log, and not in the bundle."""
    case = usual()
    auditor = Auditor(case)
    auditor.whole(FAILED)
    auditor.start(26)
    auditor.finish(PASSED, 27)
    assert check(case).audits[0].verdict == "PASS"
    for hidden in ([6], [5, 6], [4, 5, 6], [7]):
        shown = [index for index in case.shown if index not in hidden]
        refuse(copy(case, shown=shown), "is hidden|not logged as it started")


def test_attempt_renumbered() -> None:
    """A chain around the hidden attempt, made by an auditor who counts honestly or does not."""
    case = usual()
    auditor = Auditor(case)
    plan = auditor.plan()
    auditor.start(shown=False)
    auditor.finish(FAILED, shown=False)
    auditor.last = plan
    auditor.start(26)
    auditor.finish(PASSED, 27)
    refuse(case, "of attempt 2, expected 1: an attempt is hidden")


def test_forked_chain() -> None:
    """Two attempts go on from the same entry."""
    case = usual()
    auditor = Auditor(case)
    plan = auditor.plan()
    auditor.start()
    auditor.finish(FAILED)
    auditor.last, auditor.attempt = plan, 0
    auditor.start(26)
    auditor.finish(PASSED, 27)
    refuse(case, "an attempt or a plan is hidden")


def test_result_that_was_never_started() -> None:
    case = usual()
    auditor = Auditor(case)
    auditor.plan()
    auditor.attempt = 1
    auditor.finish()
    refuse(case, "was not logged as it started")


@pytest.mark.parametrize("how", ["left open", "interrupted", "failed", "planned anew"])
def test_attempt_that_went_badly_is_abandoned(how: str) -> None:
    """A pass does not outlive an attempt that was started after it and has no end."""
    case = audited_case()
    auditor = Auditor(case, certificate=Envelope.parse(case.entries[3]))
    auditor.last = auditor.made = Envelope.parse(case.entries[4])
    auditor.last, auditor.attempt = Envelope.parse(case.entries[6]), 1
    auditor.start(30)
    if how in ("interrupted", "failed"):
        auditor.stop(31, how)
    elif how == "planned anew":
        auditor.plan(day=31)
    report = check(case)
    assert report.audits[0].verdict == "UNFINISHED"
    with pytest.raises(MissingAuditError, match="UNFINISHED"):
        verify(case.data(), trust(case, policy=REQUIRED), now=NOW)


def test_failure_does_not_go_away_by_starting_again() -> None:
    case = audited_case(FAILED)
    auditor = Auditor(case, certificate=Envelope.parse(case.entries[3]))
    auditor.made, auditor.last, auditor.attempt = Envelope.parse(case.entries[4]), Envelope.parse(case.entries[6]), 1
    auditor.start(30)
    refuse(case, "FAILED AUDIT", FailedAuditError)


# -- who -----------------------------------------------------------------------------------------------------------------


def test_operator_signs_its_own_audit() -> None:
    case = usual()
    Auditor(case).plan(by=[case.operator.key])
    refuse(case, "nobody audits their own forgetting")


def test_operator_signs_beside_the_auditor() -> None:
    case = usual()
    auditor = Auditor(case)
    auditor.plan(by=[auditor.key, case.operator.key])
    refuse(case, "nobody audits their own forgetting")


@pytest.mark.parametrize("rotated_first", [True, False])
def test_operator_hands_its_key_over_to_the_auditor(rotated_first: bool) -> None:
    """trust.toml believes somebody who is the operator by another name: the log shows it."""
    case = usual()
    auditor = Auditor(case)

    def handover() -> None:
        case.say(rotation(case.operator.key, key(), effective=stamp(20)), case.operator.key, key())

    if rotated_first:
        handover()
    auditor.whole()
    if not rotated_first:
        handover()
    refuse(case, "nobody audits their own forgetting")


def test_operator_is_listed_as_auditor_with_another_key() -> None:
    case = audited_case()
    beliefs = trust(case)
    named = copy(beliefs, auditors=(copy(beliefs.auditors[0], name=case.operator.name),))
    with pytest.raises(AuditError, match="nobody audits their own forgetting"):
        verify(case.data(), named, now=NOW)


def test_auditor_that_nobody_trusts_counts_for_nothing() -> None:
    case = usual()
    Auditor(case, "friend").whole()
    report = check(case)
    assert report.audits == ()
    assert "counts for nothing" in report.steps[7].established[0]
    with pytest.raises(MissingAuditError, match="none by an auditor"):
        verify(case.data(), trust(case, policy=REQUIRED), now=NOW)


def test_failure_cannot_be_outvoted() -> None:
    """Two auditors: one found FAIL."""
    case = usual()
    Auditor(case, "auditor").whole(PASSED)
    Auditor(case, "second", certificate=Envelope.parse(case.entries[3])).whole(FAILED)
    with pytest.raises(FailedAuditError, match="Example Audits second"):
        verify(case.data(), trust(case, "auditor", "second"), now=NOW)


def test_forged_signature_of_an_auditor() -> None:
    case = audited_case()
    envelope = Envelope.parse(case.entries[6])
    plan = Envelope.parse(case.entries[4])
    case.entries[6] = envelope.data.replace(*(_signature(one) for one in (envelope, plan)))
    with pytest.raises(EnvelopeSignatureError):
        check(case)


def _signature(envelope: Envelope) -> bytes:
    from base64 import b64encode

    return b64encode(envelope.signatures[0].sig)


@pytest.mark.parametrize(
    "window",
    [{"not_before": day(23)}, {"not_after": day(21)}, {"revoked": day(22)}],
    ids=lambda window: next(iter(window)),
)
def test_key_of_an_auditor_out_of_its_time(window: dict[str, Any]) -> None:
    case = audited_case()
    with pytest.raises(KeyValidityError) as caught:
        verify(case.data(), trust(case, **window), now=NOW)
    assert caught.value.exit_code == 23


def test_stolen_key_of_an_auditor_backdates() -> None:
    """The key was revoked on day 40. What witnesses did not see before counts for nothing, whatever its date."""
    case = audited_case()
    witness = Witness("witness.example")
    beliefs = copy(trust(case, revoked=day(40)), witnesses=(witness.public,), quorum=1)
    case.cosigners = [(witness, day(45))]
    with pytest.raises(RevokedKeyError, match="Example Audits"):
        verify(case.data(), beliefs, now=NOW)
    with pytest.raises(RevokedKeyError):
        verify(case.data(), trust(case, revoked=day(40)), now=NOW)
    case.cosigners = [(witness, day(30))]
    assert verify(case.data(), beliefs, now=NOW).audits[0].verdict == "PASS"


def test_expired_key_of_an_auditor_backdates() -> None:
    """It expired on day 25; the issuer's entry before shows that it was day 30 already."""
    case = usual()
    other = key("heir")
    case.say(rotation(case.operator.key, other, effective=stamp(30)), case.operator.key, other)
    Auditor(case, certificate=Envelope.parse(case.entries[3])).plan(day=22)
    with pytest.raises(KeyValidityError, match="too late"):
        verify(case.data(), trust(case, not_after=day(25)), now=NOW)
    assert verify(case.data(), trust(case, not_after=day(31)), now=NOW)


def test_audit_dated_in_the_future() -> None:
    case = usual()
    auditor = Auditor(case)
    auditor.plan(day=200)
    with pytest.raises(KeyValidityError, match="in the future"):
        check(case)


def test_audit_dated_after_witnesses_saw_it() -> None:
    """So that it would be fresh for longer."""
    case = usual()
    auditor = Auditor(case)
    auditor.plan()
    auditor.start()
    auditor.finish(run=Run("0" * 32, stamp(23), stamp(90)))
    witness = Witness("witness.example")
    case.cosigners = [(witness, day(30))]
    beliefs = copy(trust(case), witnesses=(witness.public,), quorum=1)
    with pytest.raises(AuditError, match="after witnesses cosigned it"):
        verify(case.data(), beliefs, now=NOW)


# -- age -----------------------------------------------------------------------------------------------------------------


def test_stale_audit() -> None:
    """It ended on day 24, and now is day 100."""
    case = audited_case()
    for policy, stale in ((AuditPolicy(75), True), (AuditPolicy(77), False)):
        report = verify(case.data(), trust(case, policy=policy), now=NOW)
        assert report.audits[0].stale == stale
        assert any("is stale" in limit for limit in report.limits) == stale
        required = trust(case, policy=copy(policy, required=True))
        if stale:
            with pytest.raises(MissingAuditError, match="stale"):
                verify(case.data(), required, now=NOW)
        else:
            verify(case.data(), required, now=NOW)


def test_plan_cannot_extend_how_long_an_audit_is_fresh() -> None:
    assert verify(attacked({"stale_after_days": 3000}).data(), trust(audited_case(), policy=AuditPolicy(75)), now=NOW)
    case = attacked({"stale_after_days": 3000})
    assert verify(case.data(), trust(case, policy=AuditPolicy(75)), now=NOW).audits[0].stale
    case = attacked({"stale_after_days": 10})
    assert check(case).audits[0].stale


def test_audit_removed_from_the_bundle() -> None:
    """Whoever requires one notices."""
    case = audited_case()
    case.shown = case.shown[:3]
    assert check(case).audits == ()
    with pytest.raises(MissingAuditError):
        verify(case.data(), trust(case, policy=REQUIRED), now=NOW)


def test_statements_without_their_chain_field_do_not_parse() -> None:
    """A first audit without anything before it cannot be stated."""
    with pytest.raises(StatementError):
        attacked(previous=None)


def test_unchanged_cases_are_accepted() -> None:
    """What the attacks above start from."""
    assert check(attacked()).audits[0].verdict == "PASS"
    assert check(usual()).audits == ()
