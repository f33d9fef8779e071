"""The rules give exactly one verdict for whatever was found, with reasons, and no better one for a worse model."""

import ast
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.audit import verdict
from certify.audit.verdict import (
    FAIL,
    INCONCLUSIVE,
    OVER_FORGOTTEN,
    PASS,
    Arm,
    Claim,
    EpsilonBound,
    Estimate,
    Figures,
    Outcome,
    Plan,
    Tail,
    Utility,
    judge,
    place,
)

PLAN = Plan("1", margin=0.1, retrained=2)


def around(value: float, reach: float = 0.03) -> Estimate:
    return Estimate(value, value - reach, value + reach)


def arm(
    auc: float = 0.5,
    *,
    above: float = 0.05,
    below: float = 0.05,
    held_out_above: float = 0.05,
    accuracy: float = 0.9,
    forget: float = 0.85,
    epsilon: float = 0.0,
    reach: float = 0.03,
) -> Arm:
    return Arm(
        name="a model",
        auc=around(auc, reach),
        true_positives=(),
        epsilon=EpsilonBound(epsilon, 3.28, 0.9, "high", 1.0, 10, 100, 5, 100),
        tail=Tail(around(above), around(below), around(held_out_above)),
        utility=Utility(accuracy, accuracy, around(forget), 0.95),
    )


def figures(unlearned: Arm, *, original: float = 0.7, epsilon: float = 0.5, reach: float = 0.03) -> Figures:
    return Figures(
        attack="lira-online",
        forgotten=200,
        held_out=200,
        original=arm(original, epsilon=epsilon),
        unlearned=unlearned,
        retrained=(arm(), arm()),
        control=around(original - 0.5),
        difference=around(unlearned.auc.value - 0.5, reach),
        power=0.99,
        examples=(),
    )


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        (figures(arm(0.51)), PASS, "within 0.1"),
        (figures(arm(0.7)), FAIL, "above the retrained models'"),
        (figures(arm(0.62)), FAIL, "above the retrained models'"),
        (figures(arm(0.51, above=0.3)), FAIL, "some forgotten records stand out"),
        (figures(arm(0.51, above=0.3, held_out_above=0.3)), PASS, "within 0.1"),
        (figures(arm(0.3)), OVER_FORGOTTEN, "far below"),
        (figures(arm(0.51, below=0.3)), OVER_FORGOTTEN, "pushed away"),
        (figures(arm(0.51, forget=0.1)), OVER_FORGOTTEN, "models that never saw them"),
        (figures(arm(0.51, accuracy=0.8)), FAIL, "utility is lost"),
        (figures(arm(0.51, accuracy=0.87)), PASS, "within 0.1"),
        (figures(arm(0.51), original=0.52), INCONCLUSIVE, "does not detect the original"),
        (figures(arm(0.9), original=0.52), INCONCLUSIVE, "does not detect the original"),
        (figures(arm(0.51), original=0.54), INCONCLUSIVE, "expected one that is not within the margin"),
        (figures(arm(0.51), original=0.58), PASS, "within 0.1"),
        (figures(arm(0.56), original=0.58), INCONCLUSIVE, "cannot tell +0.060 (+0.030 to +0.090) from the original's"),
        (figures(arm(0.58), original=0.58), FAIL, "above the retrained models'"),
        (figures(arm(0.51, reach=0.2), reach=0.2), INCONCLUSIVE, "cannot tell a difference"),
        (figures(arm(0.58, reach=0.03), reach=0.15), FAIL, "above the retrained models'"),
        (figures(arm(0.42, reach=0.03), reach=0.15), OVER_FORGOTTEN, "far below"),
        (figures(arm(0.3, above=0.3)), FAIL, "some forgotten records stand out"),
        (figures(arm(0.51, forget=0.1), original=0.52), OVER_FORGOTTEN, "models that never saw them"),
        (figures(arm(0.7, above=0.3, forget=0.1)), OVER_FORGOTTEN, "models that never saw them"),
    ],
)
def test_known_findings_have_their_verdict(found: Figures, outcome: str, words: str) -> None:
    given_ = judge(PLAN, found)
    assert given_.outcome == outcome
    assert words in given_.reasons[0]


@pytest.mark.parametrize(("which", "outcome"), [("original", FAIL), ("unlearned", PASS)])
def test_a_claim_below_the_bound_of_its_arm_fails(which: str, outcome: str) -> None:
    claiming = replace(PLAN, claim=Claim(which, 0.4))  # type: ignore[arg-type]
    given_ = judge(claiming, figures(arm(0.51), epsilon=0.5))
    assert given_.outcome == outcome
    assert ("ε is at least 0.50, and 0.4 was claimed" in given_.reasons[0]) == (outcome == FAIL)


def test_a_refuted_claim_fails_even_where_the_original_is_not_detected() -> None:
    claiming = replace(PLAN, claim=Claim("original", 0.4))
    assert judge(claiming, figures(arm(0.51), original=0.52)).outcome == FAIL


share = st.floats(0, 1)
estimates = st.tuples(share, share, share).map(sorted).map(lambda three: Estimate(three[1], three[0], three[2]))
differences = st.tuples(*[st.floats(-1, 1)] * 3).map(sorted).map(lambda three: Estimate(three[1], three[0], three[2]))
arms = st.builds(
    Arm,
    name=st.just("a model"),
    auc=estimates,
    true_positives=st.just(()),
    epsilon=st.builds(
        EpsilonBound,
        lower=st.floats(0, 5),
        greatest=st.just(5.0),
        power=share,
        side=st.sampled_from(["high", "low"]),
        threshold=st.floats(-9, 9),
        hits=st.just(5),
        members=st.just(10),
        false_alarms=st.just(1),
        others=st.just(10),
    ),
    tail=st.builds(Tail, estimates, estimates, estimates),
    utility=st.builds(Utility, share, share, estimates, share),
)
found_figures = st.builds(
    Figures,
    attack=st.just("lira-online"),
    forgotten=st.just(20),
    held_out=st.just(20),
    original=arms,
    unlearned=arms,
    retrained=st.tuples(arms, arms),
    control=differences,
    difference=differences,
    power=share,
    examples=st.just(()),
)
plans = st.builds(
    Plan,
    seed=st.just("1"),
    margin=st.floats(0.01, 0.5),
    utility_margin=st.floats(0.01, 0.5),
    tail=st.floats(0.01, 0.2),
    claim=st.none() | st.builds(Claim, st.sampled_from(["original", "unlearned"]), st.floats(0, 5)),
)


@given(plans, found_figures)
def test_every_finding_has_one_verdict_with_reasons_and_what_could_have_been_shown(plan: Plan, found: Figures) -> None:
    given_ = judge(plan, found)
    assert given_.outcome in get_args(Outcome)
    assert given_ == judge(plan, found)
    assert len(given_.reasons) >= 2
    assert len(set(given_.reasons)) == len(given_.reasons)
    last = given_.reasons[-1]
    assert "power" in last
    assert "greatest ε that 10 and 10 records could have shown is 5.00" in last
    assert not any("no leak" in reason.lower() or "nan" in reason for reason in given_.reasons)


@given(plans, found_figures)
def test_a_pass_has_shown_everything_that_the_rules_ask(plan: Plan, found: Figures) -> None:
    if judge(plan, found).outcome != PASS:
        return
    assert place(found.difference, plan.margin) == "within"
    assert found.original.auc.low > 0.5
    assert place(found.control, plan.margin) != "within"
    assert found.difference.high < min(plan.margin, found.control.value)
    retrained = [arm.utility.test for arm in found.retrained]
    assert found.unlearned.utility.test >= min(*retrained, (1 - plan.utility_margin) * sum(retrained) / 2)


@given(plans, found_figures, st.floats(0, 1))
def test_no_verdict_becomes_a_pass_as_the_unlearned_model_loses_use(plan: Plan, found: Figures, worse: float) -> None:
    before = judge(plan, found).outcome
    use = found.unlearned.utility
    poorer = replace(found.unlearned, utility=replace(use, test=use.test * worse, retain=use.retain * worse))
    assert before == PASS or judge(plan, replace(found, unlearned=poorer)).outcome != PASS


@given(plans, found_figures)
def test_a_greater_margin_never_detects_more(plan: Plan, found: Figures) -> None:
    """A margin that is chosen wide enough to hide the original makes the audit inconclusive, and never a pass."""
    wide = replace(plan, margin=min(0.99, max(plan.margin, found.control.high + 0.01)), claim=None)
    hidden = place(found.control, wide.margin) == "within"
    assert not hidden or judge(wide, found).outcome in (INCONCLUSIVE, OVER_FORGOTTEN)


@given(plans, found_figures)
def test_a_model_that_the_attack_sees_as_the_original_never_passes(plan: Plan, found: Figures) -> None:
    clone = replace(found, unlearned=replace(found.original, name="unlearned"), difference=found.control)
    assert judge(plan, clone).outcome != PASS


@given(differences, st.floats(0.01, 0.5))
def test_every_interval_has_one_place(difference: Estimate, margin: float) -> None:
    low, high = difference.low, difference.high
    places = {
        "within": -margin < low and high < margin,
        "more": high >= margin and low > 0,
        "less": low <= -margin and high < 0,
    }
    expected = [name for name, true in places.items() if true] or ["unclear"]
    assert expected == [place(difference, margin)]


@given(differences, st.floats(0.01, 0.5))
def test_places_mirror(difference: Estimate, margin: float) -> None:
    mirrored = Estimate(-difference.value, -difference.high, -difference.low)
    other = {"more": "less", "less": "more"}
    found = place(difference, margin)
    assert place(mirrored, margin) == other.get(found, found)


@pytest.mark.parametrize("three", [(0.5, 0.6, 0.7), (0.5, 0.4, 0.45), (float("nan"), 0.4, 0.6)])
def test_an_interval_without_its_value_is_refused(three: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected low <= value <= high"):
        Estimate(*three)


@pytest.mark.parametrize("wrong", [{"shadows": 3}, {"shadows": 65}, {"retrained": 1}, {"margin": 0.0}, {"delta": 1.0}])
def test_a_plan_that_shows_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Plan("1", **wrong)  # type: ignore[arg-type]


def test_the_rules_need_no_other_package() -> None:
    """Whoever verifies an audit derives its verdict with what the standard library has."""
    tree = ast.parse(Path(verdict.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).split(".")[0] for name in imported} <= sys.stdlib_module_names
