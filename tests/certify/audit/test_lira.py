"""LiRA's scores against scipy record by record, and against what they are for."""

import numpy as np
import pytest
from scipy.stats import norm

from certify.audit import lira, roc
from certify.audit.shadows import Shadows, halves


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
