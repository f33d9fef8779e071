"""Pictures of audits: the same bytes each time, of every figure there may be, and a clear error without matplotlib."""

import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'unlearning-ledger[audit]'")

from certify.audit import figures as drawing
from certify.audit.verdict import EpsilonBound, Example, Figures
from tests.audit_cases import PLAN, arm, figures

SVG = "{http://www.w3.org/2000/svg}"
FOUND = replace(figures(forgotten=60), examples=tuple(Example(i, 2.0 - i / 40, 0.1, -0.1) for i in range(60)))


def scores(found: Figures = FOUND, seed: int = 0) -> np.ndarray:
    """The original's forgotten records stand out."""
    drawn = np.random.default_rng(seed).normal(size=(2 + len(found.retrained), found.forgotten + found.held_out))
    drawn[0, : found.forgotten] += 1
    return drawn


def words(svg: str) -> str:
    """All text in a picture."""
    return " ".join("".join(each.itertext()) for each in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def test_every_picture_there_is() -> None:
    made = drawing.pictures(PLAN, FOUND, scores())
    assert list(made) == ["roc", "histograms", "epsilon", "ranking"]
    assert list(drawing.pictures(PLAN, FOUND)) == ["epsilon", "ranking"]
    for picture in made.values():
        assert drawing.png(picture, dpi=40).startswith(b"\x89PNG\r\n\x1a\n")
        assert ElementTree.fromstring(drawing.svg(picture)).tag == f"{SVG}svg"


def digests() -> list[str]:
    made = drawing.pictures(PLAN, FOUND, scores())
    return [sha256(drawing.png(each, dpi=60) + drawing.svg(each).encode()).hexdigest() for each in made.values()]


def test_the_same_bytes_in_another_process() -> None:
    program = (
        "import sys; from tests.certify.audit.test_figures import digests; "
        "print(*digests(), 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*digests(), "False"]  # and no global state is touched
    assert len(set(digests())) == 4


def test_the_figures_are_on_the_pictures() -> None:
    made = {name: words(drawing.svg(picture)) for name, picture in drawing.pictures(PLAN, FOUND, scores()).items()}
    assert "original, AUC 0.80 (0.76 to 0.84)" in made["roc"]
    assert "unlearned, AUC 0.50 (0.46 to 0.54)" in made["roc"]
    assert "2 retrained, AUC 0.50 to 0.50" in made["roc"] and "chance" in made["roc"]
    assert "found of 60 forgotten records" in made["roc"]
    assert made["histograms"].count("held out") == 3 and "retrained, 2 models" in made["histograms"]
    assert "original   ε ≥ 1.00" in made["epsilon"] and "be shown: 2.50" in made["epsilon"]
    assert "The 20 of 60 records that stand out most" in made["ranking"]


def test_names_are_text_and_not_formulas() -> None:
    named = replace(FOUND, retrained=(arm("$\\frac{1}{$"), arm("<b>&")))
    shown = words(drawing.svg(drawing.epsilon(PLAN, named)))
    assert "$\\frac{1}{$" in shown and "<b>&" in shown


@pytest.mark.parametrize(
    "odd",
    [
        scores() * 0,
        scores() * 1e6,
        np.where(np.arange(160) < 60, 1.0, -1.0) * np.ones((4, 1)),
        np.where(np.arange(160) < 60, -1.0, 1.0) * np.ones((4, 1)),
    ],
    ids=["all the same", "far apart", "told without a mistake", "always wrong"],
)
def test_odd_scores(odd: np.ndarray) -> None:
    for picture in drawing.pictures(PLAN, FOUND, odd).values():
        assert drawing.png(picture, dpi=40)


@pytest.mark.parametrize(("hits", "alarms"), [(0, 0), (50, 0), (0, 50), (50, 50)])
def test_odd_counts(hits: int, alarms: int) -> None:
    bound = EpsilonBound(0.0, 2.5, 0.0, "low", 0.0, hits, 50, alarms, 50)
    found = replace(FOUND, original=replace(FOUND.original, epsilon=bound))
    assert "original   ε ≥ 0.00" in words(drawing.svg(drawing.epsilon(PLAN, found)))


def test_no_examples() -> None:
    assert "The 0 of 60" in words(drawing.svg(drawing.ranking(replace(FOUND, examples=()))))


@pytest.mark.parametrize("shape", [(3, 160), (5, 160), (4, 159), (160,)])
def test_scores_of_other_arms_or_records(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected scores of these arms and records"):
        drawing.pictures(PLAN, FOUND, np.zeros(shape))


def test_without_matplotlib_there_is_a_clear_error() -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from certify.errors import MissingExtra\n"
        "try: import certify.audit.figures\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "expected the package matplotlib: pip install 'unlearning-ledger[audit]'\n"
