"""Attacks on the chain of models: a model looks as if it was made from one that somebody else certified, and was not.

All bundles are authentic in themselves, unless a test says otherwise: what is attacked is that they belong together.
"""

from dataclasses import replace as copy
from typing import Any

import pytest
from msgspec.structs import replace

from certify.errors import StatementError, UpstreamError, VerificationError
from certify.statement import Base
from certify.upstream import MAX_DEPTH, MAX_MODELS, Bundled
from certify.verifier import Given, Report, verify
from tests.cases import (
    LATER,
    NOW,
    POST,
    PRE,
    Case,
    Witness,
    certificate,
    day,
    manifest,
    operator,
    request,
    run,
    training,
)
from tests.deployment_cases import (
    FORGOT,
    LABS,
    TUNED,
    base,
    bundled,
    deploy,
    later,
    maker,
    trained_alone,
    tuned,
)


def check(case: Case, *given: Bundled, **how: Any) -> Report:
    return verify(case.data(), case.trust(), now=NOW, given=Given(upstream=given), **how)


def refuse(case: Case, *given: Bundled, match: str, **how: Any) -> None:
    with pytest.raises(UpstreamError, match=match) as caught:
        check(case, *given, **how)
    assert (caught.value.step, caught.value.exit_code) == (9, 62)
    assert len(caught.value.passed) == 8


def test_what_is_attacked_below_verifies() -> None:
    labs = maker()
    report = check(tuned(base(labs)), bundled(labs))
    [one] = report.upstream
    assert (one.issuer, one.grade, one.kind, one.index) == ("Labs", "attested", "certificate", 3)


# -- another bundle than the one named -------------------------------------------------------------------------------------


def test_upstream_bundle_of_another_model() -> None:
    labs, other = maker(), maker("Other", "other.example/log", first=1)
    refuse(
        tuned(base(labs)),
        bundled(other),
        match="other.bundle is about the certificate .*, expected the statement .* names for its base vision-7b",
    )


def test_upstream_bundle_of_other_weights_altogether() -> None:
    labs = maker()
    named = base(labs, weights=manifest(other=b"\0" * 8), statement="ab" * 32)
    refuse(tuned(named), bundled(labs), match="expected vision-7b, the model .* by the statement abab")


def test_training_names_the_certificate_with_other_weights() -> None:
    """The statement is honest, the weights that training says it started from are others: those from before."""
    labs = maker()
    refuse(
        tuned(base(labs, weights=PRE)),
        bundled(labs),
        match=f"is about the model {POST.root().hex()}, the training names {PRE.root().hex()}",
    )


def test_later_certificate_given_for_the_one_named() -> None:
    """The base was good once; its maker has made it forget more since, and the model at hand was made from the old one."""
    labs = maker()
    case = tuned(base(labs))
    later(labs)
    refuse(case, bundled(labs), match="follows the certificate at entry 3 .* PRECEDES AN UNLEARNING .* entry 3")


def test_later_certificate_given_for_the_training_named() -> None:
    labs = maker()
    case = tuned(base(labs, 1, PRE))
    refuse(case, bundled(labs), match="follows the training at entry 1 .* PRECEDES AN UNLEARNING")


def test_earlier_certificate_given_for_the_one_named() -> None:
    """A bundle from before the last unlearning of the base, whose proof or audit may be better."""
    labs = maker()
    early = labs.data()
    named = replace(base(labs), digest=LATER.root().hex(), statement=later(labs).digest)
    case = tuned(named)
    refuse(case, bundled(labs, data=early), match="labs.bundle is about the certificate .*, expected vision-7b")
    assert check(case, bundled(labs)).upstream[0].index == 5


def test_upstream_training_given_for_the_certificate_named() -> None:
    """So that nobody sees that the base had been made to forget."""
    labs = maker()
    alone = trained_alone(labs)
    refuse(tuned(base(labs)), bundled(labs, data=alone), match="is about the training")


def test_upstream_certificate_of_the_same_weights_in_another_log() -> None:
    """Somebody certifies a copy of the base in a log of their own."""
    labs, double = maker(), maker("Copy", "copy.example/log")
    named = base(double, log=LABS)
    refuse(
        tuned(named), bundled(double), match="is of the log 'copy.example/log', the training names 'labs.example/log'"
    )
    refuse(tuned(base(labs)), bundled(double), match="expected the statement")


def test_upstream_that_was_finished_after_the_training_began() -> None:
    """No training starts from weights that are not there yet."""
    labs = maker(first=5)
    refuse(tuned(base(labs)), bundled(labs), match="was finished at .*, after the training that starts from it began")


def test_upstream_bundle_that_no_training_names() -> None:
    """A good name, given beside a case that has nothing to do with it."""
    refuse(tuned(), bundled(maker()), match="every base model that is named was given, or there is none")


def test_upstream_bundle_given_twice() -> None:
    labs = maker()
    refuse(tuned(base(labs)), bundled(labs), bundled(labs), match="another bundle was given: leave one out")


# -- whom to believe -------------------------------------------------------------------------------------------------------


def test_upstream_under_the_wrong_trust() -> None:
    labs, clinic = maker(), tuned()
    refuse(
        tuned(base(labs)),
        bundled(labs, clinic.trust()),
        match="labs.bundle of a base model does not verify under its trust file, at step 2",
    )


def test_case_under_the_trust_of_its_upstream() -> None:
    """Each organisation has a trust file of its own, and none stands for the other."""
    labs = maker()
    case = tuned(base(labs))
    with pytest.raises(VerificationError) as caught:
        verify(case.data(), labs.trust(), now=NOW, given=Given(upstream=[bundled(labs)]))
    assert caught.value.step == 2


def test_upstream_that_was_tampered_with() -> None:
    labs = maker()
    data = labs.data().replace(b'"head"', b'"HEAD"')
    assert data != labs.data()
    refuse(tuned(base(labs)), bundled(labs, data=data), match="does not verify under its trust file, at step 1")


def test_upstream_training_by_somebody_else() -> None:
    """A bundle of a training alone is held to the same: signatures, log, manifest."""
    labs, thief = maker(), maker("Thief")
    alone = trained_alone(labs)
    case = tuned(base(labs, 1, PRE))
    assert check(case, bundled(labs, data=alone)).upstream[0].kind == "training"
    refuse(case, bundled(labs, thief.trust(), alone), match="at step 2")
    refuse(case, bundled(labs, data=alone.replace(b'"head"', b'"HEAD"')), match="at step 1|at step 6")


def test_upstream_bundle_of_a_request_alone() -> None:
    """Truly logged, and about no model."""
    labs = maker()
    named = base(labs)
    labs.shown = labs.shown[1:2]
    alone = copy(labs.bundle(), manifests={}, leaves={}, removed={}).to_bytes()
    refuse(
        tuned(named),
        bundled(labs, data=alone),
        match="expected the bundle of a certificate or of a training, this has request",
    )


def test_upstream_training_that_is_not_in_the_log_it_names() -> None:
    labs = maker()
    elsewhere = Case(labs.operator, models=(PRE,))
    elsewhere.say(training(log="other.example/log", run=run(0, 1)))
    alone = copy(elsewhere.bundle(), leaves={}, removed={}).to_bytes()
    named = base(elsewhere, 1, PRE, log="other.example/log")
    refuse(tuned(named), bundled(labs, data=alone), match="at step 4: .* made for log 'other.example/log'")


def test_upstream_training_that_too_few_witnesses_saw() -> None:
    labs = maker()
    trust = labs.trust(witnesses=[Witness("witness.example/w")], quorum=1)
    refuse(
        tuned(base(labs, 1, PRE)), bundled(labs, trust, trained_alone(labs)), match="at step 4: .* 0 trusted witnesses"
    )


def test_upstream_training_that_ended_after_witnesses_saw_it() -> None:
    witness = Witness("witness.example/w")
    labs = maker(first=3)
    labs.cosigners.append((witness, day(2)))
    trust = labs.trust(witnesses=[witness], quorum=1)
    refuse(
        tuned(base(labs, 1, PRE)),
        bundled(labs, trust, trained_alone(labs)),
        match="at step 5: the training finished at",
    )


def test_upstream_training_by_a_key_that_was_revoked() -> None:
    labs = maker()
    trust = labs.trust(revoked=day(50))
    refuse(tuned(base(labs, 1, PRE)), bundled(labs, trust, trained_alone(labs)), match="at step 5: .* was revoked")


def test_upstream_that_hides_a_rollback_is_refused_and_one_that_states_it_is_told() -> None:
    labs = maker()
    named = base(labs)
    deploy(labs, 1, PRE, log=LABS, rollback="outage")
    assert any("vision-7b: ROLLBACK" in limit for limit in check(tuned(named), bundled(labs)).limits)
    deploy(labs, 1, PRE, log=LABS, day=26)
    refuse(tuned(named), bundled(labs), match="does not verify .* at step 8: HIDDEN ROLLBACK")


def test_weights_that_the_base_left_behind_come_back_as_a_model_made_from_it() -> None:
    """The base's maker made it forget; the weights from before are certified again, as somebody's own."""
    labs = maker()
    case = Case(operator("Clinic"), models=(TUNED, PRE))
    trained = case.say(training(TUNED, base=[base(labs)], run=run(8, 9)))
    asked = case.say(request())
    case.removed[case.say(certificate(trained, asked, pre=TUNED, post=PRE)).digest] = (1, 4)
    refuse(
        case,
        bundled(labs),
        match="entry 3 has the very weights of entry 1 of labs.example/log, from BEFORE AN UNLEARNING",
    )


# -- circles ---------------------------------------------------------------------------------------------------------------


def circle() -> tuple[Case, Case]:
    """Two models, each of which is said to be made from the other; by weights alone, since a digest of a statement that holds
    one's own cannot be had."""
    labs = maker(bases=[Base("clinic model", FORGOT.root().hex())])
    return tuned(Base("vision-7b", POST.root().hex())), labs


def test_circular_upstreams() -> None:
    case, labs = circle()
    refuse(case, bundled(labs), match="CIRCULAR: the base model clinic model is one that was made from it")


def test_circular_upstreams_with_both_bundles() -> None:
    case, labs = circle()
    refuse(case, bundled(labs), bundled(case), match="CIRCULAR")


def test_case_as_its_own_upstream() -> None:
    case = tuned(Base("itself", FORGOT.root().hex()))
    refuse(case, bundled(case), match="CIRCULAR: the base model itself is a model of the very chain")


def test_chain_of_models_without_end() -> None:
    """As many bundles as one likes cannot make the verifier go on for ever."""
    named: list[Base] = []
    given: list[Bundled] = []
    for step in range(MAX_DEPTH):
        weights = manifest(head=bytes([step]) * 8, body=b"\2" * 16)
        origin = f"step{step}.example/log"
        one = Case(operator("Labs", origin=origin), models=(weights,))
        one.say(training(weights, log=origin, base=named, run=run(0, 0)))
        given.append(bundled(one, data=copy(one.bundle(), leaves={}).to_bytes()))
        named = [base(one, 1, weights, name=f"step {step}")]
    assert len(check(tuned(*named), *given[1:]).upstream) == MAX_DEPTH
    refuse(tuned(*named), *given, match=f"expected at most {MAX_DEPTH} models")


def test_chain_of_models_that_branches_without_end() -> None:
    """A few bundles, each of which names the one before twice: the ways through them double with each."""
    named: list[Base] = []
    given: list[Bundled] = []
    for step in range(14):
        weights = manifest(head=bytes([step]) * 8, body=b"\2" * 16)
        origin = f"step{step}.example/log"
        one = Case(operator("Labs", origin=origin), models=(weights,))
        one.say(training(weights, log=origin, base=named * 2, run=run(0, 0)))
        given.append(bundled(one, data=copy(one.bundle(), leaves={}).to_bytes()))
        named = [base(one, 1, weights, name=f"step {step}")]
    refuse(tuned(*named), *given, match=f"expected at most {MAX_MODELS} base models in all")


# -- what no statement can hold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"log": None}, {"statement": None}, {"digest": "ab"}, {"licence": ""}])
def test_base_that_is_half_named(changes: dict[str, Any]) -> None:
    named = base(maker())
    assert training(TUNED, base=[named]).payload()
    with pytest.raises(StatementError):
        training(TUNED, base=[replace(named, **changes)]).payload()


# -- what is not followed is said --------------------------------------------------------------------------------------------


def test_upstream_left_out() -> None:
    """To hide what it would show: the report says plainly that it was not verified, and that this is the weakest link."""
    report = check(tuned(base(maker())))
    assert report.upstream[0].issuer is None and report.upstream[0].grade == "not verified"
    said = " ".join(report.limits)
    assert "The base model vision-7b" in said and "was not verified: give its bundle with --upstream" in said
    assert "The weakest link of the chain of models is vision-7b, which was not verified" in said


def test_upstream_of_the_upstream_left_out() -> None:
    seeds = manifest(seed=b"\1" * 8), manifest(seed=b"\2" * 8)
    first = maker("First", "first.example/log", models=seeds)
    labs = maker(bases=[base(first, 3, seeds[1], name="seed")], first=4)
    case = tuned(base(labs))
    report = check(case, bundled(labs))
    assert [(one.base, one.depth, one.issuer) for one in report.upstream] == [
        ("vision-7b", 1, "Labs"),
        ("seed", 2, None),
    ]
    assert "The base model seed" in " ".join(report.limits)
    report = check(case, bundled(labs), bundled(first))
    assert [one.issuer for one in report.upstream] == ["Labs", "First"]
