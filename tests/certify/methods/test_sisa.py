"""SISA from request to verified bundle: places of removed records, checkpoints, and one request after another."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify import sharding  # noqa: E402
from certify.errors import WorkspaceError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.methods.sisa import SisaTraining  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.sisa_cases import PLAN, SHARDS, SLICES, X, Y, asked, bundled, fitted, forgotten, trained  # noqa: E402


def said(run: HookRun, tmp_path: Path) -> str:
    report = verify(bundled(run, tmp_path), Trust.load(run.workspace.path / "trust.toml"))
    return "\n".join(report.steps[5].established)


def test_places_and_checkpoints_are_shown(workspace: Workspace, tmp_path: Path) -> None:
    sisa = fitted()
    training = trained(workspace, sisa)
    gone = [PLAN[1][1][0], PLAN[1][1][1], PLAN[3][0][2]]
    text = said(forgotten(workspace, sisa, training, gone, asked(workspace, gone)), tmp_path)
    assert "the 3 removed records were in shard 1 (slice 1 on), shard 3 (slice 0 on)" in text
    assert "2 of 4 shards changed, all tensors of the 2 others are the same to the bit" in text
    assert f"it committed to a checkpoint before each of its {SHARDS * SLICES} slices" in text
    assert "by the operator's word, they went on from checkpoints" in text


def test_requests_follow_each_other(workspace: Workspace, tmp_path: Path) -> None:
    sisa = fitted()
    training = trained(workspace, sisa)
    first, second = [PLAN[1][0][0]], [PLAN[1][1][0], PLAN[2][1][0]]
    run = forgotten(workspace, sisa, training, first, asked(workspace, first))
    assert run.certificate is not None
    again = forgotten(workspace, sisa, run.certificate, second, asked(workspace, second))
    text = said(again, tmp_path)
    assert "the 1 removed records were in shard 1 (slice 0 on)" in text
    assert "the 2 removed records were in shard 1 (slice 1 on), shard 2 (slice 1 on)" in text


def test_training_without_checkpoints(workspace: Workspace, tmp_path: Path) -> None:
    sisa = fitted()
    training = trained(workspace, sisa, checkpoints=False)
    gone = [PLAN[0][0][0]]
    text = said(forgotten(workspace, sisa, training, gone, asked(workspace, gone)), tmp_path)
    assert "shard 0 (slice 0 on)" in text and "checkpoint" not in text


def test_request_about_a_class_shows_no_places(workspace: Workspace, tmp_path: Path) -> None:
    sisa = fitted()
    training = trained(workspace, sisa)
    request = certify.file_request(workspace, {"class 1": {"is": 1}}, ground="gdpr-17", scope="class")
    gone = [i for i in range(len(Y)) if Y[i] == 1]
    run = forgotten(workspace, sisa, training, gone, request)
    assert "by the operator's word, no other shard holds what the request is about" in said(run, tmp_path)


def test_shards_are_retrained_as_if_the_records_had_never_been_there(workspace: Workspace, tmp_path: Path) -> None:
    """The certificate's weights are those of an ensemble that was trained without them, to the bit."""
    from certify.state_dict import digest_state_dict
    from circuits.steps.sisa import Sisa, without

    sisa = fitted()
    training = trained(workspace, sisa)
    gone = [PLAN[2][0][1]]
    run = forgotten(workspace, sisa, training, gone, asked(workspace, gone))
    scratch = Sisa(lambda: torch.nn.Linear(3, 2), without(PLAN, gone), seed=3, epochs=3)
    scratch.fit(X, Y)
    trust = Trust.load(workspace.path / "trust.toml")
    assert (
        verify(bundled(run, tmp_path), trust).tensor_root
        == digest_state_dict(scratch.ensemble.state_dict()).root().hex()
    )


def test_map_is_kept_in_the_vault_and_checked(workspace: Workspace) -> None:
    training = trained(workspace, fitted()).statement.predicate
    assert isinstance(training.detail, SisaTraining)  # type: ignore[union-attr]
    root = training.detail.map  # type: ignore[union-attr]
    found = sharding.shard_map(workspace, root)
    assert all(position in PLAN[shard][part] for position, (shard, part) in enumerate(found.places))
    note = workspace.vault.note(f"shard-map/{root}")
    note["places"][0] = [3, 1] if note["places"][0] != [3, 1] else [0, 0]
    workspace.vault.put_note(f"shard-map/{root}", note)
    with pytest.raises(WorkspaceError, match="was altered: it leads to another root"):
        sharding.shard_map(workspace, root)
    with pytest.raises(WorkspaceError, match="the vault has no shard map"):
        sharding.shard_map(workspace, "00" * 32)


@pytest.mark.parametrize("plan", [(((0, 2),),), (((0,), (1,)), ((2,),)), (((0, 1), (1,)), ((2,), (3,)))])
def test_plans_that_deal_no_dataset_out_are_refused(workspace: Workspace, plan: sharding.Plan) -> None:
    with pytest.raises(WorkspaceError, match="as many slices in each shard, and every record in one of them"):
        sharding.trained(workspace, plan)


def test_training_that_committed_to_nothing(workspace: Workspace) -> None:
    sisa = fitted()
    with certify.training(sisa.ensemble, ledger=workspace, data=["a"], method="sisa") as run:
        pass
    assert run.certificate is not None
    with pytest.raises(WorkspaceError, match="the training committed to no shards"):
        sharding.retrained(workspace, run.certificate, [asked(workspace, [0])], {0: 0})
