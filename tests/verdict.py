"""How attacks are judged: refused with the error that is meant to refuse them, and by the check that is meant to."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from certify import chain
from certify.bundle import Bundle
from certify.errors import VerificationError
from certify.trust import Trust
from certify.verifier import Given, Report, verify
from tests.cases import NOW, Case, usual_case

CASE = usual_case()
BUNDLE = CASE.bundle()
ONE, TWO, THREE = BUNDLE.entries
"""Training, request, certificate."""


def accept(case: Case | Bundle, trust: Trust | None = None, **given: Any) -> Report:
    bundle = case.bundle() if isinstance(case, Case) else case
    return verify(bundle.to_bytes(), trust or CASE.trust(), now=NOW, given=Given(**given))


def refuse(
    case: Case | Bundle,
    error: type[VerificationError],
    match: str,
    *,
    trust: Trust | None = None,
    without: Sequence[tuple[Any, str, Callable[..., Any]]] = (),
    **given: Any,
) -> None:
    """Expect ``error`` and no subclass. ``without``: (where, name, stub) of checks without which the attack has to succeed."""
    with pytest.raises(error, match=match) as caught:
        accept(case, trust, **given)
    assert type(caught.value) is error
    if without:
        with pytest.MonkeyPatch.context() as patch:
            for where, name, stub in without:
                patch.setattr(where, name, stub)
            accept(case, trust, **given)


def nothing(*_: Any, **__: Any) -> None:
    return None


NO_ORDER = (chain, "check_order", nothing)
