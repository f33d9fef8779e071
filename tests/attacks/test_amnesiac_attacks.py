"""Amnesiac unlearning by an operator who makes deltas up, leaves batches out or takes them back twice."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from msgspec.structs import replace  # noqa: E402
from torch import nn  # noqa: E402

import certify  # noqa: E402
from certify import deltas  # noqa: E402
from certify.errors import ChainError, WorkspaceError  # noqa: E402
from certify.methods.amnesiac import Amnesiac, AmnesiacTraining, Opened, Recorded, to_json  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps import amnesiac, trail  # noqa: E402
from circuits.steps.amnesiac import Recording  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from tests.lying import Liar, lines  # noqa: E402

COUNT = 11
X = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(4))
Y = torch.arange(COUNT) % 2
PEOPLE = {f"person {i}": {"x": X[i].tolist(), "y": int(Y[i])} for i in range(COUNT)}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace


class Story:
    """A model that was trained with its deltas recorded: two epochs of four batches."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        torch.manual_seed(5)
        self.model = nn.Linear(3, 2)
        self.recording = Recording.create(folder / "deltas")
        self.before: dict[str, Any] = {}
        with certify.training(self.model, ledger=workspace, data=PEOPLE, method="amnesiac/v1", seeds=[5]) as run:
            optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
            for epoch in range(2):
                order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(epoch))
                for rows in order.split(3):
                    with self.recording.batch(self.model, rows.tolist()):
                        optimizer.zero_grad()
                        nn.functional.cross_entropy(self.model(X[rows]), Y[rows]).backward()
                        optimizer.step()
            run.detail = deltas.trained(workspace, self.recording, COUNT)

    def ask(self, number: int) -> Any:
        name = f"person {number}"
        return certify.file_request(self.workspace, {name: PEOPLE[name]}, ground="gdpr-17")

    def keep(self) -> None:
        self.before = {name: value.clone() for name, value in self.model.state_dict().items()}

    def forget(
        self, *numbers: int, gone: tuple[int, ...] = (), recordings: list[Recording] | None = None, **told: Any
    ) -> Any:
        self.keep()
        requests = [self.ask(number) for number in numbers]
        step = deltas.step(self.workspace, self.model, requests, recordings or [self.recording], **told)
        rest = [i for i in range(COUNT) if i not in (*numbers, *gone)]
        task = Task((X[list(numbers)], Y[list(numbers)]), (X[rest], Y[rest]))
        return certify.unlearn(self.model, step, ledger=self.workspace, request=requests, task=task)


@pytest.fixture
def story(workspace: Workspace, tmp_path: Path) -> Story:
    return Story(workspace, tmp_path)


@pytest.fixture
def liar(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Liar:
    return Liar(workspace, monkeypatch)


def lie(liar: Liar, story: Story, number: int, lied: Any) -> None:
    """An honest step, but for what ``lied(detail, put)`` makes of its detail."""
    story.keep()
    request = story.ask(number)
    step = deltas.step(story.workspace, story.model, request, [story.recording])
    with liar.unlearning(story.model, request, "amnesiac/v1", None) as run:
        shown = step.run(story.model, Task((X[:1], Y[:1]), (X[1:], Y[1:])))
        detail = Amnesiac(**shown.fields)  # type: ignore[arg-type]
        run.detail = lied(detail, lambda value: story.workspace.attachments.put("details", to_json(value)))


def test_batches_taken_back_are_those_that_held_the_record(story: Story, liar: Liar) -> None:
    run = story.forget(4)
    liar.run = run
    said = lines(liar.report())
    assert "the change that each of its 8 batches made was committed to" in said
    assert "the 1 removed records were in 2 batches not taken back before" in said
    assert "since later batches built on earlier ones" in said


def test_auditor_gets_the_weights_to_the_bit(story: Story) -> None:
    run = story.forget(4)
    data = run.bundle(story.folder / "case.bundle").read_bytes()
    found = deltas.recompute(data, story.before, [story.recording.trail.opening])
    for name, value in story.model.state_dict().items():
        assert torch.equal(found[name], value)
    with pytest.raises(ChainError, match="the weights before are not those"):
        deltas.recompute(data, story.model.state_dict(), [story.recording.trail.opening])


def test_requests_one_after_the_other_with_a_repair_between_them(story: Story, liar: Liar) -> None:
    """The repair saw the second person: its batches are taken back too. The third shares batches with both."""
    into = Recording.create(story.folder / "repair")
    first = story.forget(4, epochs=1, rate=0.1, batch=4, into=into)
    data = first.bundle(story.folder / "first.bundle").read_bytes()
    deltas.recompute(data, story.before, [story.recording.trail.opening])
    both = [story.recording, into]
    for number, gone in ((0, (4,)), (7, (4, 0))):
        liar.run = story.forget(number, gone=gone, recordings=both)
        data = liar.run.bundle(story.folder / "next.bundle").read_bytes()
        found = deltas.recompute(data, story.before, [one.trail.opening for one in both])
        assert amnesiac.digest(found) == amnesiac.digest(story.model.state_dict())
        liar.report()
    with pytest.raises(WorkspaceError, match="expected the 2 recordings that the ledger knows of"):
        deltas.step(story.workspace, story.model, story.ask(1), [story.recording])


def test_deltas_made_up_after_the_fact(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator wants other weights, and finds deltas that lead there."""
    folder = story.folder / "made-up"
    shutil.copytree(story.recording.trail.folder, folder)
    made_up = Recording(folder)
    index = made_up.touched([4])[0]
    (folder / "pieces" / f"{index:08d}.bin").write_bytes((made_up.delta(index) + 0.25).numpy().astype("<f8").tobytes())
    with monkeypatch.context() as patch:
        patch.setattr(trail, "check", lambda *_, **__: None)
        patch.setattr(story, "recording", made_up)
        run = story.forget(4)
        data = run.bundle(story.folder / "case.bundle").read_bytes()
        assert deltas.recompute(data, story.before, [made_up.trail.opening])  # they fit the weights
    with pytest.raises(ChainError, match=rf"delta {index} was made up or altered"):
        deltas.recompute(data, story.before, [made_up.trail.opening])
    honest = Recording(story.folder / "deltas")
    with pytest.raises(ChainError, match="are not those that the certificate states"):
        deltas.recompute(data, story.before, [honest.trail.opening])


def test_step_does_not_subtract_deltas_that_were_altered_on_disk(story: Story) -> None:
    index = story.recording.touched([4])[0]
    path = story.recording.trail.folder / "pieces" / f"{index:08d}.bin"
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(trail.TrailError, match="was made up or altered"):
        story.forget(4)


def test_commitments_made_up_after_the_fact(story: Story, liar: Liar) -> None:
    """Other commitments than the training's cannot come along: nothing refers to them."""
    other = Recording.create(story.folder / "other")
    with other.batch(story.model, [0]):
        pass
    with pytest.raises(WorkspaceError, match="expected the 1 recordings that the ledger knows of"):
        story.forget(4, recordings=[other])


@pytest.mark.parametrize("change", ["missing", "more"])
def test_batch_missing_or_too_many(story: Story, liar: Liar, change: str) -> None:
    def lied(detail: Amnesiac, put: Any) -> Amnesiac:
        taken = story.recording.touched([4])
        others = [i for i in range(8) if i not in taken]
        return replace(detail, after=put([taken[1:] if change == "missing" else sorted([*taken, others[0]])]))

    lie(liar, story, 4, lied)
    liar.refused("does not take back the batches that held a removed record: it differs in batch", Amnesiac)


def opened(story: Story, detail: Amnesiac) -> Any:
    return msgspec.json.decode(story.workspace.attachments.get("details", detail.places), type=Opened)


def test_record_whose_batches_are_told_otherwise(story: Story, liar: Liar) -> None:
    """The list of batches and what is shown of it are both shortened."""

    def lied(detail: Amnesiac, put: Any) -> Amnesiac:
        (one,) = opened(story, detail).records
        (held,) = one.held
        shorter = replace(held, batches=held.batches[1:])
        places = Opened([replace(one, held=[shorter])])
        return replace(detail, places=put(places), after=put([shorter.batches]))

    lie(liar, story, 4, lied)
    liar.refused("record 4 are not those that were committed to", Amnesiac)


def test_batches_of_somebody_else(story: Story, liar: Liar) -> None:
    """Person 9's batches are shown, and taken back, for person 4."""

    def lied(detail: Amnesiac, put: Any) -> Amnesiac:
        request = story.ask(9)
        with liar.monkeypatch.context() as patch:
            patch.setattr("certify.certificate.parent_of", lambda workspace, _: workspace.entry(0))
            fields = deltas.step(story.workspace, story.model, request, [story.recording]).shown
        return replace(detail, places=fields["places"], after=fields["after"])  # type: ignore[arg-type]

    lie(liar, story, 4, lied)
    liar.refused("not those of the 1 removed records", Amnesiac)


def test_places_at_another_position(story: Story, liar: Liar) -> None:
    """The removed record's leaf, with the position and batches of another."""

    def lied(detail: Amnesiac, put: Any) -> Amnesiac:
        (one,) = opened(story, detail).records
        return replace(detail, places=put(Opened([replace(one, position=5)])))

    lie(liar, story, 4, lied)
    liar.refused("record 5 is not shown to be of the training's dataset", Amnesiac)


def test_batch_taken_back_twice(story: Story, liar: Liar) -> None:
    """A second certificate that forgets what the first took back, and takes it back again."""
    first = story.recording.touched([4])
    other = next(i for i in range(COUNT) if i != 4 and set(first) & set(story.recording.touched([i])))
    story.forget(4)
    lie(
        liar,
        story,
        other,
        lambda detail, put: replace(detail, before=None, after=put([story.recording.touched([other])])),
    )
    liar.refused("does not go on from the batches that were taken back before it", Amnesiac)


def test_repair_with_the_removed_record(story: Story, liar: Liar) -> None:
    """What was taken back is learnt again right after it."""
    request, into = story.ask(4), Recording.create(story.folder / "repair")
    step = deltas.step(story.workspace, story.model, request, [story.recording], epochs=1, rate=0.1, into=into)
    assert step.repair is not None and 4 not in step.repair.positions
    again = amnesiac.Repair(into, range(COUNT), step.repair.seal)
    with liar.unlearning(story.model, request, "amnesiac/v1", None) as run:
        shown = step.of(step.taken, step.shown, again).run(story.model, Task((X[:1], Y[:1]), (X, Y)))
        repair = msgspec.convert(shown.fields["repair"], Recorded)
        run.detail = Amnesiac(**{**shown.fields, "repair": repair})  # type: ignore[arg-type]
    liar.refused("repaired with removed records: batch 0 of the repair held one", Amnesiac)


def test_repair_that_nobody_recorded(story: Story, liar: Liar, workspace: Workspace) -> None:
    """The model learnt again by another method between two subtractions."""
    with certify.unlearning(story.model, ledger=workspace, request=story.ask(1), method="mine"), torch.no_grad():
        story.model.weight += 0.5
    lie(liar, story, 4, lambda detail, put: detail)
    liar.refused("certificate 1 of its chain is by mine, which records no changes", Amnesiac)


def test_subtraction_that_changed_nothing(story: Story, liar: Liar) -> None:
    request = story.ask(4)
    step = deltas.step(story.workspace, story.model, request, [story.recording])
    with liar.unlearning(story.model, request, "amnesiac/v1", Amnesiac(**step.shown, weights="00" * 32)):  # type: ignore[arg-type]
        pass
    liar.refused("takes back 2 batches, its weights are the same before and after", Amnesiac)


def test_fewer_commitments_than_batches(workspace: Workspace, story: Story, liar: Liar) -> None:
    model = nn.Linear(3, 2)
    recorded = deltas.trained(workspace, story.recording, COUNT).recorded
    with certify.training(model, ledger=workspace, data=PEOPLE, method="amnesiac/v1") as run:
        run.detail = AmnesiacTraining(replace(recorded, batches=7))
    with liar.unlearning(model, story.ask(4), "mine", None), torch.no_grad():
        model.weight += 1
    liar.refused(r"recorded 7 batches, their deltas' commitments have 256 bytes", AmnesiacTraining)
