"""The sorts of probes: what each asks, the figures that it has to have, what they mean in words, and what they leave open.

>>> KINDS["relearn"].defaults
{'limit': 500.0}
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Name = Literal[
    "canaries",
    "challenge",
    "inversion",
    "kpis",
    "label-only",
    "neighbours",
    "population",
    "relearn",
    "text",
    "ulira",
]

NAMES: tuple[Name, ...] = get_args(Name)
Found = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of probe. ``figures`` are always there, ``optional`` ones where they can be measured."""

    asks: str
    defaults: Mapping[str, float]
    figures: frozenset[str]
    optional: frozenset[str]
    says: Callable[[Found], str]
    limits: str
    worst: str = ""
    """What the value of a record that stands out is."""


# -- words -----------------------------------------------------------------------------------------------------------


def _estimate(found: Found, name: str, sign: str = "") -> str:
    """``0.61 (0.53 to 0.68)``"""
    value, low, high = (found[f"{name}{end}"] for end in ("", "-low", "-high"))
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _count(value: float, one: str, many: str) -> str:
    return f"{value:.0f} {one if value == 1 else many}"


def _arms(found: Found, of: str = "auc") -> str:
    """The same attack on three arms, then what is left over."""
    difference = "difference" if of == "auc" else f"{of.removesuffix('-auc')}-difference"
    return (
        f"AUC {_estimate(found, f'{of}-unlearned')} on the unlearned model, {found[f'{of}-original']:.3f} on the original and "
        f"{found[f'{of}-retrained']:.3f} on retrained ones; unlearned less retrained {_estimate(found, difference, '+')}"
        f"{_beyond(found, difference)}"
    )


def _beyond(found: Found, name: str) -> str:
    if found[f"{name}-low"] > 0:
        return ", more than retrained models give away"
    return ", pushed below retrained models" if found[f"{name}-high"] < 0 else ", within what chance allows"


def _bound(found: Found) -> str:
    shown = f"ε ≥ {found['epsilon']:.2f} is shown" if found["epsilon"] > 0 else "no ε > 0 is shown"
    return f"{shown}, where {found['greatest']:.2f} could have been"


def _canaries(found: Found) -> str:
    guesses = f"{found['correct']:.0f} of {found['guesses']:.0f} guesses"
    before = f"in the original {found['correct-original']:.0f} guesses are right (ε ≥ {found['epsilon-original']:.2f})"
    if found["epsilon"] > 0:
        return (
            f"PLANTED CANARIES FOUND: in the unlearned model {guesses} at the auditor's coins are right, which chance alone "
            f"does with probability {found['chance']:.2g}; {_bound(found)}; {before}"
        )
    return (
        f"planted canaries are not found in the unlearned model: {guesses} at the auditor's coins are right; "
        f"{_bound(found)}; {before}"
    )


def _challenge(found: Found) -> str:
    return (
        f"the score of the NeurIPS 2023 challenge is {found['final']:.3f} for {found['models']:.0f} models unlearned by the same "
        f"method, where retrained models against other retrained ones have {found['final-retrained']:.3f}"
    )


def _inversion(found: Found) -> str:
    return (
        f"from both models together, forgotten records are told from held-out ones with an AUC of {_estimate(found, 'auc')}; the "
        f"best reconstruction has cosine {found['best']:.3f}, the best of a held-out record {found['control']:.3f}; with a "
        f"retrained model in place of the unlearned one {found['best-retrained']:.3f}"
    )


def _kpis(found: Found) -> str:
    parts = [
        f"the unlearned model answers as retrained ones do for {100 * found['completeness']:.1f} % of records, where those agree "
        f"with one another for {100 * found['completeness-usual']:.1f} %",
        f"it keeps {100 * found['retain-ratio']:.1f} % of their accuracy on retained and {100 * found['test-ratio']:.1f} % on "
        f"test records",
    ]
    if "efficiency" in found:
        parts.append(f"unlearning took {found['efficiency']:.3g} of the time of retraining")
    parts.append(
        f"ZRF is {found['zrf']:.3f}, of retrained models {found['zrf-retrained-low']:.3f} to {found['zrf-retrained-high']:.3f}"
    )
    return "; ".join(parts)


def _label_only(found: Found) -> str:
    return f"from labels alone: {_arms(found)}; {_bound(found)}"


def _neighbours(found: Found) -> str:
    parts = ["no forgotten record has a near-copy among the retained"]
    if found["near"]:
        parts = [
            f"{_count(found['near'], 'forgotten record has a near-copy', 'forgotten records have near-copies')} among the "
            f"retained, {found['copies']:.0f} of them equal: an attack that finds these is not to blame on the unlearning"
        ]
    if "features" in found:
        parts.append(
            f"a linear probe of the model's features tells forgotten records with an AUC of {_estimate(found, 'features')}; less "
            f"the retrained models' {_estimate(found, 'features-difference', '+')}{_beyond(found, 'features-difference')}"
        )
    return "; ".join(parts)


def _population(found: Found) -> str:
    ratios = _arms(found, "rmia-auc")
    return f"by confidence alone: {_arms(found)}; {_bound(found)}; by pairwise likelihood ratios (RMIA): {ratios}"


def _relearn(found: Found) -> str:
    steps = (
        f"it takes {_count(found['steps-unlearned'], 'step', 'steps')}"
        if "steps-unlearned" in found
        else f"it takes more than {_count(found['limit'], 'step', 'steps')}"
    )
    usual = (
        f"models that never learnt them take {found['steps-retrained-low']:.0f} to {found['steps-retrained-high']:.0f}"
        if "steps-retrained-low" in found
        else f"some of those that never learnt them take more than {found['limit']:.0f}"
    )
    index = f" (anamnesis index {found['index']:.2f})" if "index" in found else ""
    return f"{steps} until the unlearned model is as good on the forgotten records as the original was; {usual}{index}"


def _text(found: Found) -> str:
    parts = [f"by the loss of texts: {_arms(found, 'loss-auc')}"]
    for name, told in (("min-k", "min-k %"), ("min-k-plus", "min-k %++"), ("memorised", "memorised tokens")):
        parts.append(
            f"by {told}: AUC {found[f'{name}-auc-unlearned']:.3f}, less the retrained models' "
            f"{_estimate(found, f'{name}-difference', '+')}{_beyond(found, f'{name}-difference')}"
        )
    return "; ".join(parts)


def _ulira(found: Found) -> str:
    return (
        f"against {found['shadows']:.0f} shadows that were unlearned as well: AUC {_estimate(found, 'auc')}, less the retrained "
        f"models' {_estimate(found, 'difference', '+')}{_beyond(found, 'difference')}; {_bound(found)}"
    )


# -- kinds -----------------------------------------------------------------------------------------------------------


def _names(text: str) -> frozenset[str]:
    """Names of figures; ``x±`` is x with its interval."""
    found: set[str] = set()
    for name in text.split():
        bare = name.rstrip("±")
        found |= {bare, f"{bare}-low", f"{bare}-high"} if name.endswith("±") else {bare}
    return frozenset(found)


_THREE = "auc-original auc-unlearned± auc-retrained difference±"
_EPSILON = "epsilon greatest"
_MINE = " ".join(f"{n}-auc-original {n}-auc-unlearned± {n}-auc-retrained {n}-difference±" for n in ("rmia",))
_TEXTS = " ".join(
    f"{n}-auc-original {n}-auc-unlearned± {n}-auc-retrained {n}-difference±"
    for n in ("loss", "min-k", "min-k-plus", "memorised")
)

KINDS: Mapping[Name, Kind] = {
    "canaries": Kind(
        "do coins that the auditor flipped before training still show in the unlearned model?",
        {"guessed": 0.5},
        _names(f"records guesses correct correct-original epsilon-original chance {_EPSILON}"),
        frozenset(),
        _canaries,
        "It is about planted records with wrong labels, which are easier to find than natural ones; that the coins were fair and "
        "secret is the auditor's word; a bound of 0 does not say that a model forgot",
    ),
    "challenge": Kind(
        "can models unlearned by this method be told from retrained ones, record by record?",
        {"models": 32.0},
        _names("models quality quality-retrained final final-retrained retain-ratio test-ratio"),
        _names("median median-retrained"),
        _challenge,
        "It is about the method, applied to models that the auditor trained, and not about the certified model; the published "
        "score takes 512 models of each kind, and only the one of retrained models beside it says what is good",
    ),
    "inversion": Kind(
        "can forgotten records be read off the difference between both models?",
        {"directions": 4.0},
        _names("auc± best control best-retrained candidates"),
        _names("error"),
        _inversion,
        "It is about whoever holds both models: a perfect unlearning can fail it, and exact retraining of a convex model does; "
        "it looks at the first layer alone",
        "the absolute cosine of the best reconstruction",
    ),
    "kpis": Kind(
        "how does the unlearned model behave: forgetting, utility, efficiency, randomness?",
        {},
        _names(
            "completeness completeness-usual forget-agreement forget-agreement-usual retain-ratio test-ratio zrf "
            "zrf-retrained-low zrf-retrained-high likeness likeness-usual"
        ),
        _names("efficiency"),
        _kpis,
        "These are averages of how the model behaves; a high ZRF is no merit in itself, and retraining is timed on the auditor's "
        "machine, unlearning on the operator's",
        "the divergence from the retrained models' answers, 0 to 1",
    ),
    "label-only": Kind(
        "does the model stand more noise on forgotten records than retrained ones do?",
        {"copies": 64.0, "noise": 0.5},
        _names(f"{_THREE} gap-unlearned {_EPSILON}"),
        frozenset(),
        _label_only,
        "It sees labels alone, its scores are coarse, and one scale of noise was tried",
        "the share of disturbed copies that keep the label, less the retrained models'",
    ),
    "neighbours": Kind(
        "have forgotten records near-copies among the retained, and do the model's features tell them?",
        {"share": 0.01},
        _names("near copies nearest"),
        _names("features± features-difference±"),
        _neighbours,
        "Distances are of raw inputs, or of the embedding that the adapter gives: copies that look different are missed; the "
        "probe of features is linear",
        "how near the nearest retained record is: minus the distance",
    ),
    "population": Kind(
        "is the model surer of forgotten records than of the population?",
        {"at": 0.05, "gamma": 2.0},
        _names(f"{_THREE} found false-alarms {_EPSILON} {_MINE}"),
        frozenset(),
        _population,
        "It trains no shadows and is weak: where it does not find the original either, it shows nothing",
        "the confidence, less the retrained models'",
    ),
    "relearn": Kind(
        "how many steps until the model is as good on the forgotten records as the original was?",
        {"limit": 500.0},
        _names("steps-original limit loss-original loss-unlearned loss-retrained"),
        _names("steps-unlearned steps-retrained-low steps-retrained-high index"),
        _relearn,
        "It is a symptom without a known rate of error: a model may relearn fast for what it rightly kept",
    ),
    "text": Kind(
        "do a causal language model's token probabilities tell forgotten texts?",
        {"share": 0.2},
        _names(_TEXTS),
        frozenset(),
        _text,
        "Without shadows these scores confuse common texts with learnt ones; forgotten and held-out texts have to be of one kind",
        "the mean log probability of its tokens, less the retrained models'",
    ),
    "ulira": Kind(
        "are the records known as unlearned ones, by somebody who knows the method?",
        {"shadows": 64.0},
        _names(f"auc± auc-retrained difference± separation shadows {_EPSILON}"),
        frozenset(),
        _ulira,
        "That the adapter's method is the one that made the model is the auditor's word: another one makes the attack weaker",
        "the log likelihood ratio, less the retrained models'",
    ),
}
