"""Options and argument types that several commands share."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import click

from certify.digest import Manifest
from certify.errors import InputError, StatementError
from certify.fields import Scalar
from certify.inputs import MAX_RECIPE, read_file
from certify.statement import Method, Run
from certify.times import format_time, now, parse_time

Command = TypeVar("Command", bound=Callable[..., Any])

WEIGHTS = click.Path(exists=True, path_type=Path)
OUTPUT = click.Path(dir_okay=False, path_type=Path)


@contextmanager
def needs_zk() -> Iterator[None]:
    """Around what needs the ``zk`` extra, also as a decorator. Raises InputError, which says how to get it."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name not in ("torch", "numpy", "onnx", "onnxscript", "safetensors"):
            raise
        raise InputError(
            f"this needs {missing.name}, which is not here: pip install 'unlearning-ledger[zk]'"
        ) from missing


class RegularFile(click.Path):
    """An existing file that is not a device or a pipe."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.is_file():
            self.fail(f"{path} is not a regular file", param, ctx)
        return path


FILE = RegularFile()


class LedgerFolder(click.Path):
    """A ledger's folder, by its path or by the URL that was connected to it."""

    name = "folder or url"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from certify.places import folder_of

        return folder_of(value)


class Time(click.ParamType):  # type: ignore[type-arg]
    """``2026-11-21T09:30:00Z``"""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_time(value)
        except StatementError as error:
            self.fail(str(error), param, ctx)


class Pair(click.ParamType):  # type: ignore[type-arg]
    """``name=value``; numbers and true/false are taken as such."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Scalar]:
        name, equals, text = value.partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not like name=value", param, ctx)
        return name, _scalar(text)


def _scalar(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def id_column_option(command: Command) -> Command:
    help_ = "Column that holds the record ids.  [default: id, else the row number]"
    return click.option("--id-column", help=help_)(command)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def ledger_option(command: Command) -> Command:
    return click.option(
        "--ledger",
        "-l",
        "ledger",
        type=LedgerFolder(),
        default=Path("ledger"),
        envvar="CERTIFY_LEDGER",
        show_default=True,
        show_envvar=True,
        help="The ledger's folder, or the URL of its log.",
    )(command)


@dataclass(frozen=True, slots=True)
class How:
    """How weights came about, as the options of :func:`run_options` say."""

    method: str
    parameters: Sequence[tuple[str, Scalar]]
    seeds: Sequence[int]
    metrics: Sequence[tuple[str, Scalar]]
    recipe: Path | None
    started: datetime | None
    finished: datetime | None

    def stated_method(self) -> Method:
        named = sha256(read_file(self.recipe, MAX_RECIPE)).hexdigest() if self.recipe is not None else None
        return Method(self.method, dict(self.parameters), [str(seed) for seed in self.seeds], named)

    def stated_metrics(self) -> dict[str, float]:
        """Raises InputError for what is not a number."""
        figures: dict[str, float] = {}
        for name, value in self.metrics:
            if isinstance(value, str) or value is None:
                raise InputError(f"metric {name} is {value!r}, expected a number")
            figures[name] = float(value)
        return figures

    def stated_run(self, run_id: str) -> Run:
        finished = self.finished or now()
        return Run(run_id, format_time(self.started or finished), format_time(finished))


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how weights came about; the command gets them as ``how``."""

    @wraps(command)
    def gathered(*arguments: Any, **values: Any) -> Any:
        how = How(**{field.name: values.pop(field.name) for field in fields(How)})
        return command(*arguments, how=how, **values)

    for option in reversed(
        (
            click.option("--method", required=True, help="Name of the recipe or method, like 'sisa-retrain'."),
            click.option("--param", "parameters", type=Pair(), multiple=True, help="A parameter of it; repeatable."),
            click.option("--seed", "seeds", type=int, multiple=True, help="A seed that it used; repeatable."),
            click.option("--metric", "metrics", type=Pair(), multiple=True, help="A figure to state; repeatable."),
            click.option("--recipe", type=FILE, help="A Python file that does it again, to name by its SHA-256."),
            click.option("--started", type=Time(), help="When the run began.  [default: when it ended]"),
            click.option("--finished", type=Time(), help="When the run ended.  [default: now]"),
        )
    ):
        gathered = option(gathered)
    return gathered


def weight_files(paths: Sequence[Path]) -> list[Path]:
    """The files behind what was given: files as they are, the weights of a folder."""
    files: list[Path] = []
    for path in paths:
        files += sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return files


def read_weights(paths: Sequence[Path], what: str, tied: Sequence[tuple[str, Scalar]] = ()) -> Manifest:
    """The manifest of weights files, with a progress bar."""
    from certify.cli.output import progress
    from certify.safetensors import digest_weights

    total = sum(path.stat().st_size for path in weight_files(paths))
    with progress(f"hashing {what}", total) as update:
        target = paths[0] if len(paths) == 1 else list(paths)
        return digest_weights(target, tied={name: str(value) for name, value in tied}, progress=update)
