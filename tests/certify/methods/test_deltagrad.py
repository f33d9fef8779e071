"""What a certificate of a corrected replay says, and which ones a verifier refuses."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from msgspec.structs import replace  # noqa: E402

import certify  # noqa: E402
from certify import paths  # noqa: E402
from certify.errors import WorkspaceError  # noqa: E402
from certify.methods.deltagrad import DeltaGrad, DeltaGradTraining  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps import deltagrad  # noqa: E402
from circuits.steps.deltagrad import KIND, Descent  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from circuits.steps.trail import Trail  # noqa: E402
from tests.lying import Liar, lines  # noqa: E402

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.arange(12) % 2
PEOPLE = {f"person {i}": {"x": X[i].tolist(), "y": int(Y[i])} for i in range(12)}
RECIPE = Descent(rate=0.5, steps=20, l2=0.01)


class Story:
    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        self.model = torch.nn.Linear(3, 2, dtype=torch.float64)
        self.path = Trail.create(folder / "path", kind=KIND)
        with certify.training(self.model, ledger=workspace, data=PEOPLE, method="deltagrad/v1", seeds=[]) as run:
            deltagrad.fit(self.model, X, Y, torch.nn.functional.cross_entropy, RECIPE, self.path)
            run.detail = paths.trained(workspace, RECIPE, self.path)

    def ask(self, number: int) -> Any:
        name = f"person {number}"
        return certify.file_request(self.workspace, {name: PEOPLE[name]}, ground="gdpr-17")

    def task(self, number: int, gone: tuple[int, ...] = ()) -> Task:
        rest = [i for i in range(12) if i != number and i not in gone]
        return Task((X[[number]], Y[[number]]), (X[rest], Y[rest]))

    def forget(self, number: int, path: Trail, into: Trail, gone: tuple[int, ...] = ()) -> Any:
        request = self.ask(number)
        step = paths.step(self.workspace, self.model, request, RECIPE, path, into=into)
        return certify.unlearn(self.model, step, ledger=self.workspace, request=request, task=self.task(number, gone))


@pytest.fixture
def story(workspace: Workspace, tmp_path: Path) -> Story:
    return Story(workspace, tmp_path)


@pytest.fixture
def liar(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Liar:
    return Liar(workspace, monkeypatch)


def test_requests_one_after_the_other_each_along_the_path_before(story: Story, liar: Liar, tmp_path: Path) -> None:
    first, second = (Trail.create(tmp_path / name, kind=KIND) for name in ("first", "second"))
    story.forget(4, story.path, first)
    with pytest.raises(WorkspaceError, match="which was committed to last, got"):
        story.forget(7, story.path, second, gone=(4,))
    liar.run = story.forget(7, first, second, gone=(4,))
    said = lines(liar.report())
    assert "the path of its 20 steps was committed to as" in said
    assert "by the operator's word, 12 of 20 gradients were computed and the others corrected" in said
    assert "corrected gradients are approximations" in said


def lie(story: Story, liar: Liar, tmp_path: Path, number: int = 4, path: Trail | None = None, **changed: Any) -> None:
    request = story.ask(number)
    into = Trail.create(tmp_path / f"new-{number}", kind=KIND)
    step = paths.step(story.workspace, story.model, request, RECIPE, path or story.path, into=into)
    told = changed.pop("told", {})
    with liar.unlearning(story.model, request, "deltagrad/v1", None, **told) as run:
        fields: Any = dict(step.run(story.model, story.task(number)).fields)
        fields["left_out"] = fields.pop("leftOut")
        run.detail = replace(DeltaGrad(**fields), **changed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"computed": 3}, "computed 3 gradients, a burn-in of 10 and a period of 5 make it 12"),
        ({"retained": 12}, "used 12 records as retained ones, 11 are retained"),
        ({"told": {"rate": 0.1}}, r"was told rate 0\.1, its detail says 0\.5"),
        ({"told": {"period": 2}}, "was told period 2, its detail says 5"),
    ],
)
def test_detail_that_contradicts_its_certificate_is_refused(
    story: Story, liar: Liar, tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    lie(story, liar, tmp_path, **changed)
    liar.refused(why, DeltaGrad)


def test_path_that_was_made_up_after_the_fact_is_refused(story: Story, liar: Liar, tmp_path: Path) -> None:
    other = Trail.create(tmp_path / "other", kind=KIND)
    for _ in range(20):
        other.append(bytes(16))
    made_up = story.workspace.attachments.put("details", other.commitments())
    lie(story, liar, tmp_path, before=made_up)
    liar.refused(rf"replayed along path {made_up[:16]}, the last that was committed to is", DeltaGrad)


def test_path_of_fewer_steps_is_refused(story: Story, liar: Liar, tmp_path: Path) -> None:
    short = story.workspace.attachments.put("details", bytes(32))
    lie(story, liar, tmp_path, after=short)
    liar.refused("names a path of 20 steps, its commitments have 32 bytes", DeltaGrad)
    assert isinstance(story.workspace.entry(0).statement.predicate.detail, DeltaGradTraining)  # type: ignore[union-attr]


def test_chain_that_went_on_by_a_method_without_a_path_is_refused(story: Story, liar: Liar, tmp_path: Path) -> None:
    with certify.unlearning(story.model, ledger=story.workspace, request=story.ask(1), method="mine"), torch.no_grad():
        story.model.weight += 0.5
    with liar.monkeypatch.context() as patch:
        patch.setattr(story, "task", lambda number: Story.task(story, number, gone=(1,)))
        lie(story, liar, tmp_path)
    liar.refused("certificate 1 of its chain is by mine, which has no path", DeltaGrad)
