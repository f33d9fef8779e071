"""A recipe in a process of its own, pinned to how the original ran: what can be set again is set, what cannot is told beforehand.

::

    with Job(recipe, records, …, recorded=certificate.environment) as job:
        job.not_pinned                                   # told before anything of the recipe runs
        result = job.run()                               # weights, as a manifest, and the environment that they came from

Variables that libraries read when they are loaded are set before the process starts, and those that were not set are not there;
threads and torch's switches are set before the recipe is read. No password and no key of this process reach the other one. The
recipe is a program all the same, and can do what its user can: read it first, or run this where nothing else is.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from certify.digest import Manifest
from certify.environment import VARIABLES
from certify.errors import InputError
from certify.replay_child import AFTER, BEFORE, BEGAN, ENVIRONMENT, ERROR, GO, READY, USED, number
from certify.safetensors import digest_weights
from certify.statement import Environment, Method
from certify.times import now

_HANDED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "VIRTUAL_ENV")
_ATEN = {
    "AVX2": "avx2",
    "AVX512": "avx512",
    "DEFAULT": "default",
    "NO AVX": "default",
    "VSX": "vsx",
    "ZVECTOR": "zvector",
}
_TOLD_ELSEWHERE = ("cpus",)
_ABSENT = "not set"


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a recipe. ``before``: the weights that it trained first, if it did; ``given``: it took those given."""

    after: Manifest
    before: Manifest | None
    given: bool
    environment: Environment
    started: datetime
    finished: datetime
    file: Path
    """The weights, until the job is left."""


class Job:
    """A process that waits to run a recipe. ``records``: canonical bytes, None for those that are not at hand."""

    def __init__(
        self,
        recipe: Path,
        records: Sequence[bytes | None],
        *,
        removed: Sequence[int],
        earlier: Sequence[int],
        method: Method,
        training: Method,
        recorded: Environment,
        before: Path | None = None,
        trains: bool = True,
    ) -> None:
        self.recorded = recorded
        self._folder = Path(tempfile.mkdtemp(prefix="certify-replay-"))
        try:
            (self._folder / "recipe").mkdir()
            copy = self._folder / "recipe" / recipe.name
            shutil.copyfile(recipe, copy)  # alone: what lies beside it is not covered by its digest
            job = {
                "recipe": str(copy),
                "removed": list(removed),
                "earlier": list(earlier),
                "parameters": method.parameters,
                "seeds": method.seeds,
                "training": {"parameters": training.parameters, "seeds": training.seeds},
                "settings": recorded.settings,
                "threads": recorded.threads,
                "device": recorded.device,
                "before": str(before.resolve()) if before is not None else None,
                "trains": trains,
            }
            (self._folder / "job.json").write_bytes(msgspec.json.encode(job))
            with (self._folder / "records.jsonl").open("wb") as file:
                for record in records:
                    file.write((record if record is not None else b"null") + b"\n")
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        try:
            self.environment = self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.not_pinned = not_pinned(recorded, self.environment)

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "certify.replay_child", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            env=variables(self.recorded),
            cwd=self._folder,
        )

    def _wait(self) -> Environment:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != READY:
            raise InputError(
                "the process for the recipe did not start: is torch installed? pip install 'unlearning-ledger[torch]'"
            )
        return _environment(self._folder / BEGAN)

    def run(self) -> Result:
        """Raises InputError, with what the recipe raised, or if it gave no weights."""
        assert self._process.stdin is not None
        started = now()
        self._process.stdin.write(GO)
        self._process.stdin.close()
        code = self._process.wait()
        if (self._folder / ERROR).exists():
            told = msgspec.json.decode((self._folder / ERROR).read_bytes())
            raise InputError(f"the recipe failed: {told['error']}")
        after = self._folder / AFTER
        if code or not after.exists():
            raise InputError(f"the recipe gave no weights, its process ended with {code}")
        before = self._folder / BEFORE
        return Result(
            digest_weights(after),
            digest_weights(before) if before.exists() else None,
            (self._folder / USED).exists(),
            _environment(self._folder / ENVIRONMENT),
            started,
            now(),
            after,
        )


def _environment(path: Path) -> Environment:
    return msgspec.json.decode(path.read_bytes(), type=Environment)


def variables(recorded: Environment) -> dict[str, str]:
    """The variables of the recipe's process: those that affect bits as they were, few others, and nothing secret."""
    chosen = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    package = str(Path(__file__).parents[1])
    chosen["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package]))
    for name, value in recorded.settings.items():
        if name in VARIABLES:
            if not value.isprintable():
                raise InputError(f"the certificate records {name} = {value[:40]!r}, expected printable characters")
            chosen[name] = value
    kernels = _ATEN.get(recorded.settings.get("torch.cpu_capability", ""))
    if kernels is not None:  # this CPU may be able to do more
        chosen.setdefault("ATEN_CPU_CAPABILITY", kernels)
    return chosen


def not_pinned(recorded: Environment, found: Environment) -> list[str]:
    """What is not as it was, a line each."""
    lines = _differences({"Python": recorded.python}, {"Python": found.python})
    lines += _differences({"platform": recorded.platform}, {"platform": found.platform})
    lines += _differences(recorded.libraries, {name: found.libraries.get(name, _ABSENT) for name in recorded.libraries})
    lines += _differences({"threads": str(recorded.threads)}, {"threads": str(found.threads)})
    lines += _differences({"device": recorded.device}, {"device": found.device})
    chosen = "" if "ATEN_CPU_CAPABILITY" in recorded.settings else "ATEN_CPU_CAPABILITY"  # set to get the same kernels
    names = [
        name for name in sorted(set(recorded.settings) | set(found.settings)) if name not in (chosen, *_TOLD_ELSEWHERE)
    ]
    for name in names:
        was, is_ = recorded.settings.get(name), found.settings.get(name)
        if was is None and name not in VARIABLES:
            lines.append(f"{name} was not recorded, and is {is_}")
        else:
            lines += _differences({name: was or _ABSENT}, {name: is_ or _ABSENT})
    fewer = number(found.settings.get("cpus")), number(recorded.settings.get("cpus"))
    if fewer[0] < fewer[1]:
        lines.append(f"CPUs were {fewer[1]}, are {fewer[0]}")
    return lines


def _differences(was: Mapping[str, str], is_: Mapping[str, Any]) -> list[str]:
    return [f"{name} was {value}, is {is_[name]}" for name, value in was.items() if is_[name] != value]
