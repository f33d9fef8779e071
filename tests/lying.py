"""An operator who lies about a method: a ledger with well-signed certificates that its own rehearsal would have stopped.

::

    lie = Liar(workspace, monkeypatch)
    with lie.unlearning(model, request, "newton/v1", detail): change(model)
    lie.refused("states a residual", Newton)        # by the verifier, and accepted once Newton's check is gone
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import certify
from certify import certificate as issuing
from certify.errors import ChainError
from certify.hooks.torch import HookRun
from certify.trust import Trust
from certify.verifier import Report, verify
from certify.workspace import Workspace


class Liar:
    """Issues whatever it likes, and shows it to a verifier."""

    def __init__(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workspace, self.monkeypatch = workspace, monkeypatch
        self.run: HookRun | None = None

    @contextmanager
    def unlearning(self, model: Any, request: Any, method: str, detail: Any, **parameters: Any) -> Iterator[HookRun]:
        with self.monkeypatch.context() as patch:
            patch.setattr(issuing, "rehearse", lambda *_: None)
            with certify.unlearning(
                model, ledger=self.workspace, request=request, method=method, parameters=parameters, seeds=[]
            ) as run:
                run.detail = detail
                yield run
        self.run = run

    def refused(self, why: str, *without: type[Any]) -> None:
        """The verifier refuses the last certificate, and without the checks of these details it would not."""
        with pytest.raises(ChainError, match=why):
            self.report()
        with self.monkeypatch.context() as patch:
            for detail in without:
                patch.setattr(detail, "check", lambda *_: [])
            self.report()

    def report(self) -> Report:
        assert self.run is not None
        path = self.workspace.path / f"{self.run.id}.bundle"
        return verify(self.run.bundle(path).read_bytes(), Trust.load(self.workspace.path / "trust.toml"))


def lines(report: Report) -> str:
    """What a verifier established of the chain, and what it does not show."""
    return "\n".join([*report.steps[5].established, *report.limits])
