"""A clinic's records, requests and verdicts, which the tests of every library's hook share."""

from pathlib import Path
from typing import Any

import certify
from certify.statement import Training, Unlearning
from certify.trust import Trust
from certify.verifier import Given, Report, verify
from certify.workspace import Logged, Workspace

PEOPLE = {f"patient-{i}": {"tokens": [i, i + 1, i + 2]} for i in range(8)}


def ask(workspace: Workspace, *ids: str) -> Logged:
    ids = ids or ("patient-3",)
    return certify.file_request(workspace, {id_: PEOPLE[id_] for id_ in ids}, ground="gdpr-17")


def verified(workspace: Workspace, made: Any, tmp_path: Path, given: Given | None = None) -> Report:
    """What a stranger says of the case of ``made``, a run or a callback."""
    data = made.bundle(tmp_path / "case.bundle").read_bytes()
    return verify(data, Trust.load(workspace.path / "trust.toml"), given=given)


def states(workspace: Workspace) -> list[tuple[str, str]]:
    """(kind, state) of every attempt, in the order of their beginnings."""
    notes = [note for _, note in workspace.vault.notes("run/")]
    return sorted((note["kind"], note["state"]) for note in notes)


def errors(workspace: Workspace) -> list[str]:
    return [note["error"] for _, note in workspace.vault.notes("run/") if note["state"] == "failed"]


def parameters(made: Any) -> dict[str, Any]:
    """What the statement says of the method's parameters."""
    said = made.run.certificate.statement.predicate
    return dict(said.recipe.parameters if isinstance(said, Training) else said.method.parameters)


def said(made: Any) -> Unlearning:
    predicate = made.run.certificate.statement.predicate
    assert isinstance(predicate, Unlearning)
    return predicate
