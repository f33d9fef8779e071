"""Deploying from a ledger: which models may serve, what is logged of it, what serves now, and the history of a model."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import certify
from certify import case, deployment, verifier, versions
from certify.deployments import later
from certify.errors import RollbackError, StatementError, WorkspaceError
from certify.hooks.torch import HookRun
from certify.statement import Base, Deployment, Destroyed, Notified, Training
from certify.times import format_time, now
from certify.trust import Trust
from certify.verifier import Report
from certify.workspace import Logged, Workspace
from tests.certify.test_provenance import PEOPLE, Models, entry, root
from tests.deployment_cases import maker

Deploy = Callable[..., Logged]


@pytest.fixture
def models(workspace: Workspace) -> Models:
    return Models(workspace)


@pytest.fixture
def deploy(workspace: Workspace) -> Deploy:
    def deploy(run: HookRun, name: str = "production", **how: Any) -> Logged:
        return deployment.deploy(workspace, root(run), name, **how)

    return deploy


def verified(workspace: Workspace, run: HookRun) -> Report:
    assert run.certificate is not None
    data = case.collect(workspace, run.certificate).to_bytes()
    return verifier.verify(data, Trust.load(workspace.path / "trust.toml"))


# -- deploying -----------------------------------------------------------------------------------------------------------


def test_what_serves_is_logged_and_comes_along_in_the_bundle(
    workspace: Workspace, models: Models, deploy: Deploy
) -> None:
    trained = models.train()
    deploy(trained, "staging")
    forgot = models.forget(trained, models.ask("p1"))
    gone = [Destroyed(root(trained), format_time(now()), "keys erased")]
    logged = deploy(forgot, destroyed=gone, notified=[Notified("people who asked", 1)])
    said = logged.statement.predicate
    assert isinstance(said, Deployment) and forgot.certificate is not None
    assert (said.name, said.statement, said.model.tensor_root) == (
        "production",
        forgot.certificate.digest,
        root(forgot),
    )
    report = verified(workspace, forgot)
    assert [(one.name, one.state, one.index) for one in report.deployments] == [
        ("staging", "behind", 1),
        ("production", "current", logged.index),
    ]
    said_by = " ".join(report.steps[7].established)
    assert "copies of the model of entry 0 were destroyed" in said_by and "told were 1 people who asked" in said_by
    assert not report.rolled_back
    assert any("staging serves the model of entry 0" in limit for limit in report.limits)


def test_a_model_that_precedes_an_unlearning_is_refused_and_nothing_is_logged(
    workspace: Workspace, models: Models, deploy: Deploy
) -> None:
    trained = models.train()
    deploy(trained)
    forgot = models.forget(trained, models.ask("p1"))
    size = workspace.extent()
    with pytest.raises(RollbackError, match=f"precedes the unlearning of entry {entry(forgot)}") as caught:
        deploy(trained)
    assert caught.value.exit_code == 64 and workspace.extent() == size
    deploy(trained, rollback="outage of the new model")
    assert verified(workspace, forgot).rolled_back


def test_a_model_trained_anew_with_forgotten_records_is_a_rollback(models: Models, deploy: Deploy) -> None:
    """No certificate follows it; that it has the records is known to the vault alone."""
    models.forget(models.train(), models.ask("p1"))
    with pytest.raises(RollbackError, match="it has what answered request 1 asked to forget"):
        deploy(models.train())
    deploy(models.train({name: row for name, row in PEOPLE.items() if name != "p1"}))


def test_a_branch_without_the_other_branchs_unlearning_is_a_rollback(models: Models, deploy: Deploy) -> None:
    trained = models.train()
    first, second = models.ask("p1"), models.ask("p2")
    one, two = models.forget(trained, first), models.forget(trained, second)
    for branch, request in ((one, second), (two, first)):
        with pytest.raises(RollbackError, match=f"answered request {request.index} asked"):
            deploy(branch)
    deploy(models.forget(one, second))


def test_a_branch_that_left_the_same_records_out_is_none(models: Models, deploy: Deploy) -> None:
    trained = models.train()
    models.forget(trained, models.ask("p1"))
    both = models.ask("p1", "p2")
    deploy(models.forget(trained, both))


def test_another_scope_answered_on_another_branch_is_a_rollback(models: Models, deploy: Deploy) -> None:
    trained = models.train()
    models.forget(trained, models.ask(scope="class"))
    with pytest.raises(RollbackError, match="answered request 1"):
        deploy(models.forget(trained, models.ask("p1")))


def test_requests_that_nobody_answered_are_no_rollback(workspace: Workspace, models: Models, deploy: Deploy) -> None:
    trained = models.train()
    models.ask("p1", received=now() - timedelta(days=60))
    models.ask("p2")
    deploy(trained)
    [one] = deployment.serving(workspace)
    assert (one.overdue, one.unanswered, bool(one.lacking), one.wrong) == ((1,), (2,), False, True)


def test_a_reason_without_a_rollback_is_refused(models: Models, deploy: Deploy) -> None:
    with pytest.raises(WorkspaceError, match="lacks no unlearning"):
        deploy(models.train(), rollback="because")


def test_weights_that_nobody_logged_are_refused(workspace: Workspace, models: Models) -> None:
    models.train()
    with pytest.raises(WorkspaceError, match="no training or certificate of this ledger"):
        deployment.deploy(workspace, "ab" * 32, "production")


def test_what_no_statement_can_hold_is_refused(models: Models, deploy: Deploy) -> None:
    trained = models.train()
    with pytest.raises(StatementError):
        deploy(trained, "")
    with pytest.raises(StatementError, match="the very weights"):
        deploy(trained, destroyed=[Destroyed(root(trained), format_time(now()), "deleted")])
    with pytest.raises(WorkspaceError, match="cannot serve since"):
        deploy(trained, since=now() - timedelta(days=1))


def test_certificates_that_left_the_weights_as_they_were_precede_nothing() -> None:
    assert later(1, {}, {1: "a"}) == ()
    assert later(1, {2: 1}, {1: "a", 2: "a"}) == ()
    assert later(1, {2: 1, 3: 2, 4: 2}, {1: "a", 2: "b", 3: "c", 4: "d"}) == (2, 3, 4)
    assert later(2, {2: 1, 3: 1}, {1: "a", 2: "b", 3: "c"}) == ()


# -- what serves ---------------------------------------------------------------------------------------------------------


def test_the_last_deployment_of_each_name_counts(workspace: Workspace, models: Models, deploy: Deploy) -> None:
    trained = models.train()
    deploy(trained, "b")
    deploy(trained, "a")
    forgot = models.forget(trained, models.ask("p1"))
    deploy(forgot, "a")
    a, b = deployment.serving(workspace)
    assert (a.name, a.tensor_root, a.wrong) == ("a", root(forgot), False)
    assert (b.name, b.lacking.certificates, b.wrong) == ("b", (entry(forgot),), True)
    assert str(b.lacking) == f"it precedes the unlearning of entry {entry(forgot)}"


def test_what_was_destroyed_and_serves_again_is_told(workspace: Workspace, models: Models, deploy: Deploy) -> None:
    trained = models.train()
    forgot = models.forget(trained, models.ask("p1"))
    stated = deploy(forgot, destroyed=[Destroyed(root(trained), format_time(now()), "deleted")])
    deploy(trained, rollback="outage")
    [one] = deployment.serving(workspace)
    assert one.destroyed == (stated.index,) and one.rollback == "outage" and one.wrong


# -- history -------------------------------------------------------------------------------------------------------------


def test_history_is_a_tree_from_the_training_on(workspace: Workspace, models: Models, deploy: Deploy) -> None:
    trained = models.train()
    first, second = models.ask("p1"), models.ask("p2")
    one, two = models.forget(trained, first), models.forget(trained, second)
    last = models.forget(one, second)
    deployed = deploy(last)
    models.train()
    found = versions.history(workspace, root(one))
    assert [(v.entry, v.parent, v.depth, v.current) for v in found.versions] == [
        (entry(trained), None, 0, False),
        (entry(one), entry(trained), 1, False),
        (entry(last), entry(one), 1, True),
        (entry(two), entry(trained), 1, True),
    ]
    assert found.entries == (entry(one),)
    assert [h.kind for h in found.versions[2].happened] == ["request", "deployment"]
    assert found.versions[2].happened[1].entry == deployed.index
    assert versions.history(workspace, root(two)).versions == found.versions


def test_history_warns_of_rollbacks(workspace: Workspace, models: Models, deploy: Deploy) -> None:
    trained = models.train()
    deploy(trained)
    models.forget(trained, models.ask("p1"))
    deploy(trained, rollback="outage")
    told = versions.history(workspace, root(trained)).versions[0].happened
    assert [(one.warning, one.facts.startswith("ROLLBACK")) for one in told] == [(False, False), (True, True)]


def test_history_names_the_models_that_a_training_started_from(workspace: Workspace, models: Models) -> None:
    first = models.train()
    second = models.train(base=[Base("ours", root(first), "apache-2.0")])
    found = versions.history(workspace, root(second))
    assert found.started_from == (entry(first),)
    assert found.versions[0].base[0].licence == "apache-2.0"


def test_the_hook_names_a_base_from_its_makers_bundle(workspace: Workspace, models: Models, tmp_path: Path) -> None:

    labs = maker()
    (tmp_path / "base.bundle").write_bytes(labs.data())
    run = models.train(base=[certify.base_of(tmp_path / "base.bundle", "vision", "apache-2.0")])
    assert run.certificate is not None
    said = run.certificate.statement.predicate
    assert isinstance(said, Training)
    [base] = said.base
    assert (base.name, base.log, base.licence) == ("vision", "labs.example/log", "apache-2.0")
    assert base.statement == labs.bundle().entries[-1].envelope.digest
