"""SISA certificates that lie about shards: each is refused, and would not be without the method's check."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import msgspec  # noqa: E402

import certify  # noqa: E402
from certify import certificate, sharding  # noqa: E402
from certify.errors import ChainError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.methods.sisa import Retrained, Sisa, to_json  # noqa: E402
from certify.shard_map import Opened  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.sisa_cases import PLAN, X, Y, asked, bundled, fitted, forgotten, trained  # noqa: E402

GONE = [PLAN[1][1][0], PLAN[2][0][0]]
"""In slice 1 of shard 1 and slice 0 of shard 2."""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace


Lie = Callable[[Workspace, Sisa], Sisa]


def certified(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, lie: Lie, forget: list[int] = GONE) -> HookRun:
    """By an operator whose software checks nothing, who forgets ``forget`` and says what ``lie`` makes of it."""
    sisa = fitted()
    training, request = trained(workspace, sisa), asked(workspace, GONE)
    with monkeypatch.context() as patched:
        patched.setattr(certificate, "rehearse", lambda *_: None)
        with certify.unlearning(sisa.ensemble, ledger=workspace, request=request, method="sisa/v1") as run:
            affected = sisa.forget(forget, X, Y)
            digests = sisa.checkpoints.digests
            run.detail = lie(
                workspace, sharding.retrained(workspace, training, [request], affected, checkpoints=digests)
            )
    return run


def refused(run: HookRun, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, trust = bundled(run, tmp_path), Trust.load(run.workspace.path / "trust.toml")
    with pytest.raises(ChainError, match=why):
        verify(data, trust)
    with monkeypatch.context() as patched:
        patched.setattr(Sisa, "check", lambda *_: [])
        verify(data, trust)


def honest(workspace: Workspace, detail: Sisa) -> Sisa:
    return detail


def test_shard_that_still_holds_the_sample(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shard 2 saw one of the records too, and was left as it was."""
    run = certified(workspace, monkeypatch, honest, GONE[:1])
    why = r"removes records of shard 1 \(slice 1 on\), shard 2 \(slice 0 on\), and retrained shard 1 \(slice 1 on\)"
    refused(run, tmp_path, why, monkeypatch)


def test_retrained_from_a_slice_after_the_sample(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a checkpoint that had seen it."""

    def later(workspace: Workspace, detail: Sisa) -> Sisa:
        return msgspec.structs.replace(detail, retrained=[Retrained(1, 1), Retrained(2, 1)])

    refused(
        certified(workspace, monkeypatch, later), tmp_path, r"retrained shard 1 .*, shard 2 \(slice 1 on\)", monkeypatch
    )


def test_other_shards_are_retrained_at_the_same_time(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asked for that: a record of another request may go unnoticed, or come in."""
    run = certified(workspace, monkeypatch, honest, [*GONE, PLAN[3][0][0]])
    refused(run, tmp_path, r"and retrained shard 1 .*, shard 3 \(slice 0 on\)", monkeypatch)


def replaced(workspace: Workspace, detail: Sisa, change: Callable[[dict[str, object]], None]) -> Sisa:
    """Other places than those in the vault."""
    value = json.loads(workspace.attachments.get("details", detail.places or ""))
    change(value)
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return msgspec.structs.replace(detail, places=workspace.attachments.put("details", data))


def test_sample_is_said_to_be_in_another_shard(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the shard with the sample need not be retrained: the map was committed to before."""

    def moved(workspace: Workspace, detail: Sisa) -> Sisa:
        return replaced(workspace, detail, lambda value: value.update(places=[[1, 1], [1, 1]]))

    run = certified(workspace, monkeypatch, moved, GONE[:1])
    refused(run, tmp_path, "not those that were committed to", monkeypatch)


def test_map_made_up_after_the_request(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole new map, in which the sample was in shard 1 only."""
    from certify.dataset import split
    from certify.shard_map import ShardMap

    def remade(workspace: Workspace, detail: Sisa) -> Sisa:
        old = Opened.parse(workspace.attachments.get("details", detail.places or ""))
        training = workspace.find("0").statement.predicate
        leaves = split(workspace.vault.leaves(training.dataset.root))  # type: ignore[union-attr]
        opened = ShardMap.of([(1, 1)] * old.size).open(old.positions, leaves)
        return msgspec.structs.replace(detail, places=workspace.attachments.put("details", opened.to_json()))

    run = certified(workspace, monkeypatch, remade, GONE[:1])
    refused(run, tmp_path, "not those that were committed to", monkeypatch)


def test_places_of_other_records(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """True places in the committed map, of people who did not ask, all in the shard that was retrained."""

    def others(workspace: Workspace, detail: Sisa) -> Sisa:
        from certify.dataset import split

        training = workspace.find("0").statement.predicate
        leaves = split(workspace.vault.leaves(training.dataset.root))  # type: ignore[union-attr]
        found = sharding.shard_map(workspace, training.detail.map)  # type: ignore[union-attr]
        opened = found.open(PLAN[1][1][:2], leaves)
        return msgspec.structs.replace(detail, places=workspace.attachments.put("details", opened.to_json()))

    run = certified(workspace, monkeypatch, others, GONE[:1])
    refused(run, tmp_path, "not those of the 2 removed records", monkeypatch)


def test_places_left_out(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(workspace: Workspace, detail: Sisa) -> Sisa:
        return msgspec.structs.replace(detail, places=None)

    run = certified(workspace, monkeypatch, silent, GONE[:1])
    refused(run, tmp_path, "does not show in which shards removed records are", monkeypatch)


def test_checkpoint_swapped_after_the_training(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state that shard 1 went back to is another than the one committed to: it may have seen the sample."""

    def swapped(workspace: Workspace, detail: Sisa) -> Sisa:
        digests = json.loads(workspace.attachments.get("details", detail.after or ""))
        digests[1][1] = "ab" * 32
        return msgspec.structs.replace(detail, after=workspace.attachments.put("details", to_json(digests)))

    run = certified(workspace, monkeypatch, swapped)
    refused(run, tmp_path, "lists other checkpoints of shard 1 than were committed to", monkeypatch)


def test_checkpoints_of_an_earlier_state(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a first request, those of the training have seen what it removed: nobody may go on from them."""
    sisa = fitted()
    training, first = trained(workspace, sisa), [PLAN[1][0][0]]
    run = forgotten(workspace, sisa, training, first, asked(workspace, first))
    assert run.certificate is not None and isinstance(run.detail, Sisa)
    request = asked(workspace, [PLAN[1][1][1]])
    with monkeypatch.context() as patched:
        patched.setattr(certificate, "rehearse", lambda *_: None)
        with certify.unlearning(sisa.ensemble, ledger=workspace, request=request, method="sisa/v1") as again:
            affected = sisa.forget([PLAN[1][1][1]], X, Y)
            digests = sisa.checkpoints.digests
            detail = sharding.retrained(workspace, run.certificate, [request], affected, checkpoints=digests)
            again.detail = msgspec.structs.replace(detail, before=run.detail.before)
    refused(again, tmp_path, "does not go on from the checkpoints that were last committed to", monkeypatch)


def test_checkpoints_left_out(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(workspace: Workspace, detail: Sisa) -> Sisa:
        return msgspec.structs.replace(detail, before=None, after=None)

    run = certified(workspace, monkeypatch, silent)
    refused(run, tmp_path, "does not go on from the checkpoints", monkeypatch)
