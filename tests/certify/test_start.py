"""Trainings that go on from an earlier one's weights, as slices of SISA do: proven from there on, and graded so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import certify
from certify import case, chain, provable_sgd
from certify.errors import OrderError, ProofRefusedError, WorkspaceError
from certify.provable import Provable, fit, forget
from certify.provable_sgd import Sgd
from certify.trust import Trust
from certify.verifier import verify
from certify.workspace import Logged, Workspace
from tests.proving import srs

SGD = Sgd(hidden=2, batch=4, steps=2, together=2, scale_w=1024)


def records(first: int, count: int) -> dict[str, list[float]]:
    return {f"person-{i}": [i % 3 - 1.0, i % 5 - 2.0, float(i % 2)] for i in range(first, first + count)}


@pytest.fixture
def slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, Provable, Provable, Logged]:
    """A training, one that goes on from it with other people, and a request by one of these."""
    monkeypatch.setenv("CERTIFY_SRS", str(srs(11).parent))
    workspace = Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None)
    early = fit(workspace, records(0, 8), objective=SGD)
    late = fit(workspace, records(8, 8), objective=SGD, start=early.logged)
    request = certify.file_request(workspace, {"person-9": records(8, 8)["person-9"]}, ground="gdpr-17")
    return workspace, early, late, request


def test_the_chain_starts_where_the_earlier_training_ended(
    slices: tuple[Workspace, Provable, Provable, Logged],
) -> None:
    workspace, early, late, request = slices
    forgot = forget(workspace, [request])
    bundle = case.collect(workspace, forgot.logged)
    report = verify(bundle.to_bytes(), Trust.load(workspace.path / "trust.toml"))
    assert report.grade == "step proven"  # not exclusion: what the earlier weights had seen is not shown
    said = " ".join(report.steps[6].established)
    assert f"those that the training at entry {early.logged.index} committed to" in said
    assert any("had not seen the record is the operator's word" in limit for limit in report.limits)
    assert late.logged.index in [entry.index for entry in bundle.entries]


def test_a_chain_from_weights_that_saw_the_record(
    slices: tuple[Workspace, Provable, Provable, Logged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator starts from later weights than it stated: the proofs hold, and are about another commitment."""
    workspace, _, late, request = slices
    honest = provable_sgd._earlier

    def seen(workspace: Workspace, start: Logged, problem: Any) -> Any:
        return honest(workspace, late.logged, problem)

    monkeypatch.setattr(provable_sgd, "_earlier", seen)
    with pytest.raises((WorkspaceError, ProofRefusedError), match="starts from the weights committed to at entry 0"):
        forget(workspace, [request])


def test_an_optimum_starts_nowhere(slices: tuple[Workspace, Provable, Provable, Logged]) -> None:
    workspace, early, _, _ = slices
    with pytest.raises(WorkspaceError, match="the same from everywhere"):
        fit(workspace, records(0, 8), start=early.logged)


def test_another_network_is_no_start(slices: tuple[Workspace, Provable, Provable, Logged]) -> None:
    workspace, early, _, _ = slices
    with pytest.raises(WorkspaceError, match="no weights of such a network"):
        fit(workspace, records(0, 8), objective=replace(SGD, hidden=20), start=early.logged)


def test_a_start_that_was_logged_after_the_training(slices: tuple[Workspace, Provable, Provable, Logged]) -> None:
    workspace, *_, request = slices
    forgot = forget(workspace, [request])
    links = [chain.Link(e.index, e.envelope.digest, s.statement) for e, s in _entries(workspace, forgot)]
    built = chain.build(links)
    assert built.start is not None
    with pytest.raises(OrderError, match="goes on from entry 7, which came later"):
        chain.check_order(replace(built, start=replace(built.start, index=7)), None)


def _entries(workspace: Workspace, forgot: Provable) -> list[Any]:
    bundle = case.collect(workspace, forgot.logged)
    return [(entry, workspace.entry(entry.index)) for entry in bundle.entries]
