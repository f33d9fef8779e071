"""Certificates without a change of code: by environment variables, for trainers of transformers and Lightning.

::

    $ CERTIFY_LEDGER=ledger CERTIFY_REQUEST=1 CERTIFY_BUNDLE=case.bundle python -m certify.hooks.activate train.py --epochs 3
    $ CERTIFY_LEDGER=ledger CERTIFY_DATA=patients.csv torchrun -m certify.hooks.activate train.py

    CERTIFY_LEDGER     the ledger's folder, or the URL of its log
    CERTIFY_REQUEST    requests to answer, by index or digest, with commas between: an unlearning
    CERTIFY_DATA       or a .csv or .jsonl file of records (certify.records): a training
    CERTIFY_METHOD     the method's name; by default "training" or "unlearning"
    CERTIFY_PART       a submodule that is certified in the place of the whole
    CERTIFY_BUNDLE     a file that the case is written to

It is off unless CERTIFY_REQUEST or CERTIFY_DATA is set. Lightning finds its callback by this package's entry points, so
that there ``python train.py`` will do. transformers has no entry points: ``-m certify.hooks.activate`` adds the callback to
its list of default ones, which every Trainer begins with, and runs the script. One training a process is certified: which
of several is meant nobody could tell, and a second one is refused. If none took place, it says so and exits with code 9.
"""

import os
import runpy
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from certify.errors import CertifyError, WorkspaceError
from certify.records import read_records

VARIABLES = ("LEDGER", "REQUEST", "DATA", "METHOD", "PART", "BUNDLE")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment asks for."""

    ledger: str
    request: tuple[str, ...] = ()
    data: str | None = None
    method: str | None = None
    part: str | None = None
    bundle: str | None = None

    @classmethod
    def read(cls) -> "Settings | None":
        """None if nothing is asked for. Raises WorkspaceError for what contradicts itself."""
        value = {name: os.environ.get(f"CERTIFY_{name}", "").strip() for name in VARIABLES}
        if not value["REQUEST"] and not value["DATA"]:
            return None
        if value["REQUEST"] and value["DATA"]:
            raise WorkspaceError("expected CERTIFY_REQUEST (an unlearning) or CERTIFY_DATA (a training), got both")
        if not value["LEDGER"]:
            which = "CERTIFY_REQUEST" if value["REQUEST"] else "CERTIFY_DATA"
            raise WorkspaceError(f"{which} is set, but not CERTIFY_LEDGER: set it to the ledger's folder")
        if value["DATA"] and value["BUNDLE"]:
            raise WorkspaceError("CERTIFY_BUNDLE goes with CERTIFY_REQUEST: a training has no case")
        if value["DATA"] and not Path(value["DATA"]).is_file():
            raise WorkspaceError(f"CERTIFY_DATA is {value['DATA']!r}, expected a file of records")
        return cls(
            ledger=value["LEDGER"],
            request=tuple(item.strip() for item in value["REQUEST"].split(",") if item.strip()),
            data=value["DATA"] or None,
            method=value["METHOD"] or None,
            part=value["PART"] or None,
            bundle=value["BUNDLE"] or None,
        )

    def arguments(self) -> dict[str, Any]:
        """For a ``TrainingCertificate`` or an ``UnlearningCertificate``."""
        named: dict[str, Any] = {"ledger": self.ledger, "part": self.part}
        if self.method:
            named["method"] = self.method
        if self.data:
            return {**named, "data": dict(read_records(Path(self.data)))}
        return {**named, "request": list(self.request)}


begun: list[Any] = []
"""The one attempt of this process."""


def callback(library: Any) -> Any:
    """A callback of ``certify.hooks.transformers`` or ``certify.hooks.lightning``. None if nothing is asked for."""
    settings = Settings.read()
    if settings is None:
        return None
    from certify.hooks.run import Attempt

    bundle = settings.bundle

    class OneAttempt(Attempt):
        """Refuses a second training, and writes the case."""

        def begin(self, model: Any, **options: Any) -> Any:
            if begun and begun[0] is not self:
                raise WorkspaceError(
                    "a second training began, and the environment asks for one's certificate: add callbacks in the code"
                )
            begun[:] = [self]
            return super().begin(model, **options)

        def issue(self) -> None:
            super().issue()
            if bundle:
                self.bundle(bundle)

    kind = library.TrainingCertificate if settings.data else library.UnlearningCertificate
    made = kind(**settings.arguments())
    made.attempt = OneAttempt(made.attempt.job, part=settings.part)
    return made


def lightning_callbacks() -> list[Any]:
    """The entry point ``lightning.pytorch.callbacks_factory``, and ``pytorch_lightning.callbacks_factory``."""
    if Settings.read() is None:
        return []
    from certify.hooks import lightning

    return [callback(lightning)]


def add_to_transformers() -> None:
    """Let every Trainer that is made from now on begin with the callback. Raises WorkspaceError if its list is not there."""
    from transformers import trainer

    from certify.hooks import transformers

    defaults = getattr(trainer, "DEFAULT_CALLBACKS", None)
    if not isinstance(defaults, list):
        raise WorkspaceError("this transformers has no trainer.DEFAULT_CALLBACKS: add the callback in the code")

    class EnvironmentCertificate(transformers.Certificate):
        """Made by each Trainer for itself."""

        def __new__(cls) -> Any:
            return callback(transformers)

    defaults.append(EnvironmentCertificate)


def main(arguments: list[str]) -> None:
    """Run a script, ``-m module`` or a file, with the callback in place."""
    if not arguments:
        raise WorkspaceError("expected a script: python -m certify.hooks.activate train.py …")
    settings = Settings.read()
    if settings is None:
        raise WorkspaceError("expected CERTIFY_REQUEST or CERTIFY_DATA in the environment, got neither")
    if find_spec("transformers") is not None:
        add_to_transformers()
    elif find_spec("lightning") is None and find_spec("pytorch_lightning") is None:
        raise WorkspaceError("neither transformers nor lightning is installed: there is no trainer to certify")
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")
    if not begun and _is_main():
        raise WorkspaceError("the script made no Trainer of transformers or Lightning train: nothing is certified")


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    try:
        from certify.hooks.activate import main as run  # not this module: transformers' callbacks know the other one

        run(sys.argv[1:])
    except CertifyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
