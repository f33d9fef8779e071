"""LiRA's scores against scipy record by record, against another's implementation where it is installed, and for what they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

from certify.audit import lira, roc
from certify.audit.adapter import logit_confidence
from certify.audit.shadows import Shadows, halves

TENSORFLOW = "tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.advanced_mia"
INSTALL = "pip install --no-deps tensorflow-empirical-privacy to compare with it"


def made(
    count: int = 64, records: int = 120, gap: float = 1.0, seed: int = 0
) -> tuple[Shadows, np.ndarray, np.ndarray]:
    """Shadows, one more model's confidences, and what was its own: records differ far more than learning them does."""
    rng = np.random.default_rng(seed)
    members, own = halves(records, count, str(seed)), rng.random(records) < 0.5
    level, width = rng.normal(0, 5, records), rng.uniform(0.5, 2, records)
    noise = rng.normal(size=(count + 1, records)) * width
    confidences = level + gap * width * np.vstack([members, own]) + noise
    return Shadows(confidences[:-1], members), confidences[-1], own


def test_scores_are_the_papers_record_by_record() -> None:
    shadows, target, _ = made()
    normals = lira.fit(shadows, "each")
    scores = lira.online(normals, target, monotone=False)
    tails = lira.offline(normals, target)
    for i in range(len(target)):
        inside = shadows.confidences[shadows.members[:, i], i]
        outside = shadows.confidences[~shadows.members[:, i], i]
        ratio = norm(inside.mean(), inside.std(ddof=1)).logpdf(target[i]) - norm(
            outside.mean(), outside.std(ddof=1)
        ).logpdf(target[i])
        assert scores[i] == pytest.approx(ratio)
        # 1 - P[Z > confidence], from the score
        assert norm.cdf(tails[i]) == pytest.approx(norm(outside.mean(), outside.std(ddof=1)).cdf(target[i]))


def test_scores_as_they_are_used_are_a_ratio_of_densities_with_one_variance() -> None:
    """The default, from logits to scores, written a second way: one variance for each record, and nothing that falls."""
    rng = np.random.default_rng(4)
    members = halves(50, 64, "second way")
    logits = rng.normal(size=(65, 50, 4)) + 2.0 * np.vstack([members, members[0]])[..., None] * np.eye(4)[0]
    labels = np.zeros(50, dtype=np.int64)
    asked = logit_confidence(torch.tensor(logits), torch.tensor(labels).expand(65, 50)).numpy()
    found = lira.online(lira.fit(Shadows(asked[:-1], members)), asked[-1])

    logs = log_softmax(logits, axis=-1)
    phi = logs[..., 0] - logsumexp(logs[..., 1:], axis=-1)  # ln p - ln(1 - p)
    np.testing.assert_allclose(asked, phi, atol=1e-12)
    for i in range(50):
        inside, outside = phi[:-1][members[:, i], i], phi[:-1][~members[:, i], i]
        squares = sum(((side - side.mean()) ** 2).sum() for side in (inside, outside))
        width = np.sqrt(squares / (len(inside) + len(outside) - 2))
        densities = [norm(side.mean(), width).logpdf(phi[-1, i]) for side in (inside, outside)]
        expected = densities[0] - densities[1] if inside.mean() > outside.mean() else 0.0
        assert found[i] == pytest.approx(expected, abs=1e-9)


def test_scores_agree_with_tensorflow_privacy() -> None:
    theirs = pytest.importorskip(TENSORFLOW, reason=INSTALL, exc_type=ImportError)
    shadows, target, _ = made()
    inside = [shadows.confidences[of, i][:, None] for i, of in enumerate(shadows.members.T)]
    outside = [shadows.confidences[~of, i][:, None] for i, of in enumerate(shadows.members.T)]
    normals = lira.fit(shadows, "each")
    narrower = np.sqrt(31 / 32)  # it divides by n, not by n - 1
    normals = replace(
        normals, deviation_in=normals.deviation_in * narrower, deviation_out=normals.deviation_out * narrower
    )
    expected = theirs.compute_score_lira(target[:, None], inside, outside, median_or_mean="mean")
    np.testing.assert_allclose(lira.online(normals, target, monotone=False), -expected, rtol=1e-9, atol=1e-9)


def test_confidences_agree_with_tensorflow_privacy() -> None:
    theirs = pytest.importorskip(TENSORFLOW, reason=INSTALL, exc_type=ImportError)
    rng = np.random.default_rng(6)
    logits, labels = rng.normal(size=(200, 10)) * 3, rng.integers(0, 10, 200)
    expected = theirs.calculate_statistic(logits.copy(), labels, is_logits=True, option="logit")
    np.testing.assert_allclose(
        logit_confidence(torch.tensor(logits), torch.tensor(labels)).numpy(), expected, rtol=1e-9
    )


def test_lira_finds_what_confidence_alone_does_not() -> None:
    shadows, target, own = made(records=600, gap=1.5)
    normals = lira.fit(shadows)
    plain = roc.auc(target[own], target[~own]).value
    for scores in (lira.online(normals, target), lira.offline(normals, target)):
        assert roc.auc(scores[own], scores[~own]).low > plain + 0.1


@pytest.mark.parametrize("variance", ["auto", "record", "all"])
def test_no_score_falls_as_confidence_rises(variance: lira.Variance) -> None:
    shadows, target, _ = made(gap=0.2)
    normals = lira.fit(shadows, variance if variance != "all" else "record")
    ladder = lira.online(normals, target + np.linspace(-1000, 1000, 41)[:, None])
    assert (np.diff(ladder, axis=0) >= 0).all()


def test_few_shadows_share_one_variance() -> None:
    few = lira.fit(made(count=8)[0])
    assert len(set(few.deviation_in)) == len(set(few.deviation_out)) == 1
    many = lira.fit(made(count=64)[0])
    assert len(set(many.deviation_in)) == 120
    np.testing.assert_array_equal(many.deviation_in, many.deviation_out)


def test_records_on_which_shadows_agree_do_not_divide_by_nothing() -> None:
    shadows, target, _ = made()
    shadows.confidences[:, 0] = 3.0
    assert np.isfinite(lira.online(lira.fit(shadows, "each"), target)).all()


def test_diverged_shadows_are_refused() -> None:
    shadows, _, _ = made()
    shadows.confidences[3, 4] = np.nan
    with pytest.raises(ValueError, match="diverged"):
        lira.fit(shadows)


def test_too_few_shadows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        lira.fit(made(count=2)[0])
