"""Certificates of machine unlearning: statements, digests, hooks, bundles and their verifier.

>>> import certify
>>> with certify.training(model, ledger="ledger", data=patients) as run:      # doctest: +SKIP
...     fit(model, patients)
>>> request = certify.file_request("ledger", {"17": patients["17"]}, ground="gdpr-17")   # doctest: +SKIP
>>> with certify.unlearning(model, ledger="ledger", request=request) as run:  # doctest: +SKIP
...     fit(model, remaining)
>>> run.bundle("case.bundle")                                                 # doctest: +SKIP

The names here load what they need when they are first used: a verifier never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certify.hooks.decorator import certified
    from certify.hooks.torch import training, unlearning
    from certify.provable import Objective, fit, forget
    from certify.request import file_request
    from certify.steps import Gate, unlearn
    from certify.upstream import base_of
    from certify.verifier import verify
    from certify.workspace import Workspace

_HOME = {
    "Gate": "certify.steps",
    "Objective": "certify.provable",
    "Workspace": "certify.workspace",
    "base_of": "certify.upstream",
    "certified": "certify.hooks.decorator",
    "file_request": "certify.request",
    "fit": "certify.provable",
    "forget": "certify.provable",
    "training": "certify.hooks.torch",
    "unlearn": "certify.steps",
    "unlearning": "certify.hooks.torch",
    "verify": "certify.verifier",
}
__all__ = [
    "Gate",
    "Objective",
    "Workspace",
    "base_of",
    "certified",
    "file_request",
    "fit",
    "forget",
    "training",
    "unlearn",
    "unlearning",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'certify' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name in ("torch", "onnx"):
            extra = "zk" if _HOME[name] == "certify.provable" else "torch"
            raise ImportError(f"certify.{name} needs {error.name}: pip install 'unlearning-ledger[{extra}]'") from error
        raise
