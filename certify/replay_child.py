"""Runs a recipe, in a process of its own that :mod:`certify.replay_job` starts with the variables of the original run.

    python -m certify.replay_child FOLDER          # which has job.json and records.jsonl, and gets what comes out

Switches are set before anything is computed, the environment is written down, and nothing of the recipe runs before a line ``go``
comes. Then ``after.safetensors`` (and ``before.safetensors``, where the recipe trained) are written, and the environment as the
recipe left it. What the recipe prints goes to stderr; what it raises goes into ``error.json``.
"""

import inspect
import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MAX_THREADS = 4096
READY, GO = b"ready\n", b"go\n"
ENVIRONMENT, BEGAN, AFTER, BEFORE, USED, ERROR = (
    "environment.json",
    "began.json",
    "after.safetensors",
    "before.safetensors",
    "used-before",
    "error.json",
)


def main(folder: Path) -> int:
    """0 if weights came out, 1 if the recipe could not be run."""
    job = json.loads((folder / "job.json").read_bytes())
    protocol = os.dup(1)
    os.dup2(2, 1)  # the recipe's prints are not the protocol's
    pin(job["settings"], job["threads"], cuda=job["device"] != "cpu")
    _describe(folder / BEGAN)
    os.write(protocol, READY)
    if sys.stdin.buffer.readline() != GO:
        return 1
    sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    try:
        _run(folder, job)
    except BaseException as error:  # whatever somebody's recipe does
        (folder / ERROR).write_text(json.dumps({"error": _told(error, job["recipe"])}))
        return 1
    _describe(folder / ENVIRONMENT)
    return 0


def pin(settings: Mapping[str, str], threads: int, *, cuda: bool = False) -> None:
    """Set what can be set in a process that has started: threads, CPUs and torch's switches.

    ``cuda``: wake the device up, so that it is told which one it is.
    """
    if hasattr(os, "sched_setaffinity") and (cpus := number(settings.get("cpus"))):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cpus])
    import torch

    torch.set_num_threads(min(max(threads, 1), MAX_THREADS))
    if interop := number(settings.get("torch.interop_threads")):
        torch.set_num_interop_threads(min(interop, MAX_THREADS))
    on = {name: value == "true" for name, value in settings.items()}
    if "torch.deterministic_algorithms" in settings:
        warn_only = on.get("torch.deterministic_warn_only", False)
        torch.use_deterministic_algorithms(on["torch.deterministic_algorithms"], warn_only=warn_only)
    dtype = getattr(torch, settings.get("torch.default_dtype", "").removeprefix("torch."), None)
    if isinstance(dtype, torch.dtype):
        torch.set_default_dtype(dtype)
    if (precision := settings.get("torch.float32_matmul_precision")) in ("highest", "high", "medium"):
        torch.set_float32_matmul_precision(precision)
    torch.set_flush_denormal(on.get("torch.flush_denormal", False))
    if "torch.mkldnn" in settings:
        torch._C._set_mkldnn_enabled(on["torch.mkldnn"])
    for name, place in (
        ("torch.cuda.matmul.allow_tf32", torch.backends.cuda.matmul),
        ("torch.cudnn.allow_tf32", torch.backends.cudnn),
        ("torch.cudnn.benchmark", torch.backends.cudnn),
        ("torch.cudnn.deterministic", torch.backends.cudnn),
        ("torch.cudnn.enabled", torch.backends.cudnn),
    ):
        if name in settings:
            setattr(place, name.rpartition(".")[2], on[name])
    if cuda and torch.cuda.is_available():
        torch.cuda.init()  # type: ignore[no-untyped-call]


def number(text: str | None) -> int:
    """A setting that should be a number: 0 for anything else."""
    return int(text) if text is not None and len(text) < 8 and text.isascii() and text.isdecimal() else 0


def _describe(path: Path) -> None:
    import msgspec

    from certify.environment import describe

    path.write_bytes(msgspec.json.encode(describe(Path(__file__).parent)))


def _run(folder: Path, job: Mapping[str, Any]) -> None:
    with (folder / "records.jsonl").open("rb") as file:
        records = [json.loads(line) for line in file]
    found = runpy.run_path(job["recipe"], run_name="certify_recipe")
    unlearn, train = found.get("unlearn"), found.get("train")
    if not callable(unlearn):
        raise TypeError("expected a function unlearn(records, removed, parameters, seeds) in the recipe")
    wanted = set(inspect.signature(unlearn).parameters)
    given: dict[str, Any] = {
        "records": records,
        "removed": list(job["removed"]),
        "parameters": job["parameters"],
        "seeds": [int(seed) for seed in job["seeds"]],
        "earlier": list(job["earlier"]),
    }
    if job["earlier"] and "earlier" not in wanted:
        raise TypeError(
            f"the certificate follows others, which removed {len(job['earlier'])} records: expected unlearn() to take `earlier`"
        )
    if "before" in wanted:
        given["before"] = _before(folder, job, train, records)
    if unknown := sorted(wanted - set(given)):
        raise TypeError(
            f"unlearn() takes {', '.join(unknown)}, expected some of records, removed, parameters, seeds, earlier, before"
        )
    _save(unlearn(**{name: given[name] for name in wanted}), folder / AFTER)


def _before(folder: Path, job: Mapping[str, Any], train: Callable[..., Any] | None, records: list[Any]) -> Any:
    """The weights to start from: those given, or what the recipe's own training gives."""
    from safetensors.torch import load_file

    if job["before"] is None:
        if not callable(train) or job["earlier"] or not job["trains"]:
            raise TypeError(
                "unlearn() takes the weights `before`: give them with --before, or have a train() in the recipe"
            )
        if None in records:
            raise TypeError("train() needs all records, and some are not in the data: give the weights with --before")
        trained = train(records=records, parameters=job["training"]["parameters"], seeds=_seeds(job["training"]))
        _save(trained, folder / BEFORE)
    else:
        (folder / USED).touch()
    return load_file(job["before"] or str(folder / BEFORE))


def _seeds(method: Mapping[str, Any]) -> list[int]:
    return [int(seed) for seed in method["seeds"]]


def _save(result: Any, path: Path) -> None:
    """Weights as safetensors, each tensor by itself. Raises TypeError for what are none."""
    import torch
    from safetensors.torch import save_file

    state = result.state_dict() if isinstance(result, torch.nn.Module) else result
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise TypeError(f"expected a state dict or a module from the recipe, got {type(result).__name__}")
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in state.items()}, str(path))


def _told(error: BaseException, recipe: str) -> str:
    """``ValueError: … (recipe.py, line 12)``"""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == recipe]
    where = f" ({Path(recipe).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}"[:1000] + where


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
