"""Every probe end to end: from the plan's words to figures that a statement can hold, with what an adapter has to give."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from certify import audit_probes
from certify.audit import canaries, probes, shadows
from certify.audit.adapter import Params
from certify.audit.probe_setting import Setting
from certify.audit.verdict import Plan
from certify.audit_probes import KINDS, NAMES, Name, Probe, Worst, planned
from certify.audit_subject import Loaded, load
from certify.errors import InputError, StatementError
from tests.audit_cases import PROBES

ADAPTER = Path(__file__).parents[2] / "audit_adapter.py"
QUICK = {
    "ulira": {"shadows": 8.0},
    "challenge": {"models": 4.0},
    "relearn": {"limit": 300.0},
    "label-only": {"copies": 8.0},
}
LOADED = load(ADAPTER)
RULES = Plan(seed="probes", shadows=8, retrained=2)


def also(name: Name) -> audit_probes.Also:
    return planned(name, QUICK.get(name, {}))


def ascend(params: Params, forget: np.ndarray, retain: np.ndarray) -> Params:
    """Steps up the loss of the records to forget."""
    own = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    subject, places = LOADED.subject, torch.from_numpy(forget)
    for _ in range(3):
        loss = subject.loss(subject.apply(own, subject.x[places]), subject.y[places]).mean()
        for value, slope in zip(own.values(), torch.autograd.grad(loss, list(own.values())), strict=True):
            value.data += 0.05 * slope
    return {name: value.detach() for name, value in own.items()}


def planted() -> canaries.Canaries:
    """All records to forget as if they had been planted, as many held-out ones as if the coin had fallen otherwise."""
    records = LOADED.records
    places = np.stack([records.forget, records.held_out], 1).ravel()
    return canaries.Canaries(places, LOADED.subject.y.numpy()[places], np.isin(places, records.forget))


def features(params: Params, places: np.ndarray) -> np.ndarray:
    return (LOADED.subject.x[places] @ params["0.weight"].T + params["0.bias"]).relu().detach().numpy()


FUNCTIONS: dict[str, Any] = {"unlearn": ascend, "method": "ascent", "canaries": planted, "features": features}


@pytest.fixture(scope="module")
def setting() -> Setting:
    """Nothing was unlearned."""
    loaded, records = LOADED, LOADED.records
    original, *retrained = (
        next(shadows.unstack(shadows.train(loaded.subject, [places], [f"model {i}"])))
        for i, places in enumerate([loaded.training, records.retain, records.retain])
    )
    return Setting(RULES, loaded.subject, records, original, dict(original), retrained, FUNCTIONS, None, (1.0, 4.0))


@pytest.fixture(scope="module")
def outcomes(setting: Setting) -> dict[Name, probes.Outcome]:
    names = [name for name in NAMES if name != "text"]
    probes.check([also(name) for name in names], setting.subject, setting.records, FUNCTIONS)
    return {name: probes.run(also(name), setting) for name in names}


def test_every_probe_has_the_figures_and_words_of_its_kind(outcomes: dict[Name, probes.Outcome]) -> None:
    for name, outcome in outcomes.items():
        audit_probes.check_found([outcome.probe])
        words = audit_probes.said(outcome.probe)
        assert words and "\n" not in words and not words.endswith("."), name
        assert bool(outcome.probe.worst) == bool(KINDS[name].worst), name
        json.dumps(outcome.detail, default=lambda one: np.asarray(one).tolist())
    assert audit_probes.check_found([outcomes[name].probe for name in sorted(outcomes)]) is None


def test_a_model_that_forgot_nothing_shows_it(outcomes: dict[Name, probes.Outcome]) -> None:
    """The unlearned model is the original. 50 records, some with labels drawn at random."""
    found = {name: outcome.probe.figures for name, outcome in outcomes.items()}
    assert found["relearn"]["steps-unlearned"] == found["relearn"]["steps-original"] == 0
    assert found["relearn"]["steps-retrained-low"] > 0
    assert found["population"]["auc-unlearned"] == found["population"]["auc-original"]
    assert found["population"]["difference-low"] > 0.05
    assert found["label-only"]["difference"] > 0 and found["label-only"]["auc-unlearned"] > 0.5
    assert found["canaries"]["epsilon"] == found["canaries"]["epsilon-original"] > 0.3
    assert audit_probes.canaries_found([outcomes["canaries"].probe])
    assert audit_probes.said(outcomes["canaries"].probe).startswith("PLANTED CANARIES FOUND")
    assert found["kpis"]["completeness"] < found["kpis"]["completeness-usual"]
    assert found["kpis"]["efficiency"] == 0.25
    assert found["inversion"]["candidates"] == 0 == found["inversion"]["best"]  # the weights are the same
    assert found["challenge"]["final-retrained"] > 0 and found["challenge"]["models"] == 4
    assert found["ulira"]["shadows"] == 8


def test_retrained_model_does_not_show_it(setting: Setting) -> None:
    other = next(shadows.unstack(shadows.train(setting.subject, [setting.records.retain], ["another"])))
    gone = replace(setting, unlearned=other)
    found = {name: probes.run(also(name), gone).probe for name in ("relearn", "population", "canaries", "label-only")}
    assert found["relearn"].figures["steps-unlearned"] > 5
    assert found["population"].figures["difference-low"] < 0.05
    assert found["label-only"].figures["difference-low"] < 0.05
    assert found["canaries"].figures["epsilon"] == 0 and found["canaries"].figures["epsilon-original"] > 0.3
    assert "not found in the unlearned model" in audit_probes.said(found["canaries"])


def test_the_same_seed_gives_the_same_figures(setting: Setting, outcomes: dict[Name, probes.Outcome]) -> None:
    for name in ("label-only", "ulira", "challenge", "neighbours", "kpis"):
        assert probes.run(also(name), setting).probe == outcomes[name].probe


def test_progress_ends_where_it_was_said_to(setting: Setting) -> None:
    for name in ("ulira", "challenge"):
        seen: list[int] = []
        probes.run(also(name), replace(setting, progress=lambda done, _, seen=seen: seen.append(done)))
        assert seen == sorted(seen) and seen[-1] == probes.epochs([also(name)], setting.subject)


@pytest.mark.parametrize(
    ("name", "without", "match"),
    [
        ("ulira", "unlearn", r"ulira needs a function unlearn\(\)"),
        ("ulira", "method", "needs a name for"),
        ("challenge", "unlearn", r"challenge needs a function unlearn\(\)"),
        ("canaries", "canaries", r"canaries needs a function canaries\(\)"),
        ("text", "texts", r"needs a function language_model\(\)"),
    ],
)
def test_what_the_adapter_lacks_is_named(name: Name, without: str, match: str) -> None:
    functions = {key: value for key, value in FUNCTIONS.items() if key != without}
    with pytest.raises(InputError, match=match):
        probes.check([also(name)], LOADED.subject, LOADED.records, functions)


def _planted(change: Callable[[canaries.Canaries], Any]) -> dict[str, Any]:
    return {**FUNCTIONS, "canaries": lambda: change(planted())}


@pytest.mark.parametrize(
    ("name", "parameters", "functions", "match"),
    [
        ("canaries", {}, _planted(lambda one: replace(one, included=~one.included)), "among the records to forget"),
        ("canaries", {}, _planted(lambda one: one.places), "to return certify.audit.canaries.Canaries, got ndarray"),
        ("canaries", {"guessed": 1.5}, FUNCTIONS, "up to 1, got 1.5"),
        ("ulira", {"shadows": 7.0}, FUNCTIONS, "even number"),
        ("challenge", {"models": 1.0}, FUNCTIONS, "at least 2 models"),
        ("population", {"at": 0.001}, FUNCTIONS, "at least 1000 test records"),
    ],
)
def test_what_makes_no_sense_is_refused(name: Name, parameters: Any, functions: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        probes.check([planned(name, parameters)], LOADED.subject, LOADED.records, functions)


def test_inputs_that_a_probe_cannot_take_ask_for_a_function() -> None:
    whole: Loaded = load(ADAPTER)
    whole.subject.x = whole.subject.x.round().long()  # type: ignore[misc]
    for name, match in (("label-only", r"disturb\(\)"), ("neighbours", r"embed\(\)")):
        with pytest.raises(InputError, match=match):
            probes.check([also(name)], whole.subject, whole.records, {})  # type: ignore[arg-type]
    whole.subject.x = torch.zeros(len(whole.subject.x), 7)  # type: ignore[misc]
    with pytest.raises(InputError, match=r"first_layer\(\)"):
        probes.check([also("inversion")], whole.subject, whole.records, {})


def test_figures_that_are_no_numbers_are_refused(setting: Setting) -> None:
    broken = {name: value * nan for name, value in setting.unlearned.items()}
    with pytest.raises((InputError, ValueError), match="finite"):
        probes.run(also("population"), replace(setting, unlearned=broken))
    with pytest.raises((InputError, ValueError), match=r"finite|nan"):
        probes.run(also("relearn"), replace(setting, unlearned=broken))


def test_an_adapter_may_give_its_own_view(setting: Setting) -> None:
    records = setting.records
    doubled = {int(place): records.retain[0] for place in records.forget[:3]}
    embedded = {"embed": lambda places: setting.subject.x[[doubled.get(int(one), int(one)) for one in places]].numpy()}
    own = probes.run(also("neighbours"), replace(setting, functions=embedded)).probe
    assert own.figures["copies"] == 3 and "features" not in own.figures
    assert {one.record for one in own.worst[:3]} == {0, 1, 2}
    still = probes.run(also("label-only"), replace(setting, functions={"disturb": lambda x, _: x})).probe
    assert still.figures["auc-unlearned"] == pytest.approx(still.figures["gap-unlearned"])


# -- what statements hold ------------------------------------------------------------------------------------------------


def test_plans_have_every_parameter() -> None:
    for name in NAMES:
        audit_probes.check_planned([planned(name, {})])
    assert planned("relearn", {"limit": 7.0}).parameters == {"limit": 7.0}
    for name, parameters, match in (
        ("relern", {}, "expected a probe, one of canaries"),
        ("relearn", {"steps": 3.0}, "has no parameter 'steps', expected one of: limit"),
        ("relearn", {"limit": nan}, "above 0"),
        ("relearn", {"limit": 0.0}, "above 0"),
    ):
        with pytest.raises(StatementError, match=match):
            planned(name, parameters)
    without = audit_probes.Also("relearn", {})
    for wrong in ([without], [planned("ulira", {}), planned("kpis", {})], [planned("kpis", {})] * 2):
        with pytest.raises(StatementError):
            audit_probes.check_planned(wrong)


def test_every_kind_has_words_for_its_figures() -> None:
    """Also without those that cannot always be measured."""
    assert [probe.name for probe in PROBES] == sorted(NAMES)
    audit_probes.check_found(PROBES)
    for probe in PROBES:
        bare = {name: value for name, value in probe.figures.items() if name in KINDS[probe.name].figures}
        for figures in (bare, probe.figures):
            words = audit_probes.said(Probe(probe.name, figures, []))
            assert words == words.strip() and "{" not in words
        assert KINDS[probe.name].asks.endswith("?") and not audit_probes.limits(probe.name).endswith(".")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda one: Probe(one.name, {**one.figures, "fine": 1.0}, []), "does not measure, 'fine'"),
        (lambda one: Probe(one.name, {**one.figures, "auc-unlearned-low": 0.9}, []), "outside its own interval"),
        (lambda one: Probe(one.name, {"found": 1.0}, []), "has no figure"),
        (lambda one: Probe(one.name, one.figures, [Worst(0, 1.0), Worst(1, 2.0)]), "worst records first"),
    ],
)
def test_figures_of_another_kind_are_refused(change: Callable[[Probe], Probe], match: str) -> None:
    population = next(probe for probe in PROBES if probe.name == "population")
    with pytest.raises(StatementError, match=match):
        audit_probes.check_found([change(population)])
