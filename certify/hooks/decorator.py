"""A function that trains or unlearns a model, certified each time it is called.

::

    @certify.certified(ledger="ledger", data=patients, method="adam", bundle=None)
    def fit(model, loader): ...

    @certify.certified(ledger="ledger", request=1, method="ascent", bundle="case.bundle")
    def forget(model, loader, *, run):            # run: the HookRun, for those who ask for it
        ...
        run.metrics["accuracy"] = accuracy(model)

    forget(model, loader)

``request`` makes it an unlearning, ``data`` a training. The model is the argument named ``model``, or the one that
``argument`` names. What the function returns is handed on. If that is another module, it has to be said which is meant:
``result=True`` certifies it. An exception goes on, with nothing issued.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from certify.errors import DigestError, WorkspaceError
from certify.hooks.jobs import Job, TrainingJob, UnlearningJob
from certify.hooks.run import Attempt

R = TypeVar("R")


def certified(
    *, argument: str = "model", result: bool = False, bundle: str | Path | None = None, **arguments: Any
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """See the module. The other ``arguments`` are those of :func:`certify.training` or :func:`certify.unlearning`.

    ``bundle``: a file that the case is written to each time. Raises WorkspaceError for a function that has no such argument, or
    that returns before its work is done (async, a generator).
    """
    if ("data" in arguments) == ("request" in arguments):
        raise WorkspaceError("expected either data (a training) or request (an unlearning)")
    kind: Callable[..., Job] = TrainingJob if "data" in arguments else UnlearningJob
    kind(**arguments)  # so that a misspelt argument is refused where it stands

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(function)
        if argument not in signature.parameters:
            raise WorkspaceError(f"{function.__name__} has no argument {argument!r}: name the model's with argument=")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise WorkspaceError(f"{function.__name__} returns before its work is done: expected a plain function")
        asks = "run" in signature.parameters

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            given = (signature.bind_partial if asks else signature.bind)(*args, **kwargs).arguments
            if argument not in given:
                raise WorkspaceError(f"expected the model as {argument!r} when {function.__name__} is called")
            attempt = Attempt(kind(**arguments))
            run = attempt.begin(given[argument])
            try:
                returned = function(*args, **kwargs, **({"run": run} if asks else {}))
                if result:
                    run.model = _module(returned, function.__name__)
                elif isinstance(returned, torch.nn.Module) and returned is not given[argument]:
                    raise DigestError(
                        f"{function.__name__} returned another model than it was given: result=True certifies that one. "
                        f"Nothing is issued"
                    )
                attempt.state()
            except BaseException as error:
                attempt.fail(error)
                raise
            attempt.issue()
            if bundle is not None:
                attempt.bundle(bundle)
            return returned

        return call

    return decorate


def _module(returned: object, name: str) -> torch.nn.Module:
    if not isinstance(returned, torch.nn.Module):
        raise DigestError(f"{name} returned a {type(returned).__name__}, expected the model. Nothing is issued")
    return returned
