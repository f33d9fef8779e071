"""What commands print: JSON or text, colour and progress on terminals only."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress

_PATIENCE = 0.7
"""Seconds before a progress bar appears."""


def emit(as_json: bool, value: Any, *lines: str) -> None:
    """Print ``value`` as JSON, or the lines."""
    if as_json:
        click.echo(json.dumps(value, indent=2))  # ASCII: safe in a terminal
    else:
        for line in lines:
            click.echo(line)


def plain(text: str) -> str:
    """Text from elsewhere, so that it cannot move the cursor, change colours or turn the reading direction."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def good(text: str) -> str:
    return click.style(text, fg="green")


def bad(text: str) -> str:
    return click.style(text, fg="red", bold=True)


def dim(text: str) -> str:
    return click.style(text, dim=True)


def strong(text: str) -> str:
    return click.style(text, bold=True)


def fields(*pairs: tuple[str, object]) -> list[str]:
    """Aligned name-value lines."""
    width = max(len(name) for name, _ in pairs)
    return [f"{dim(name.ljust(width))}  {value}" for name, value in pairs]


def folded(text: str, indent: int = 0, *, first: str = "", style: Callable[[str], str] = str) -> Iterator[str]:
    """Lines of a text folded between words to the terminal's width; in a pipe, one line. ``first`` stands in the first indent."""
    import shutil
    import textwrap

    room = shutil.get_terminal_size().columns - indent
    lines = textwrap.wrap(text, max(room, 30), break_on_hyphens=False) if sys.stdout.isatty() else [text]
    for number, line in enumerate(lines or [""]):
        yield (" " * indent if number or not first else first) + style(line)


def forgeable(why: str) -> list[str]:
    """What is said wherever a reference string is not the ceremony's."""
    return list(folded(f"reference string: {why}", 13, first=f"{bad('DEVELOPMENT')}  ", style=strong))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal; in a pipe, nothing is cut."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200)
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))  # as it is, not as markup
    console.print(made)


@contextmanager
def progress(what: str, total: int, *, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on stderr, once a job takes longer than a moment. Call it with what is done so far."""
    if not sys.stderr.isatty() or not total:
        yield lambda done: None
        return
    began = time.monotonic()
    bar: list[tuple[Progress, Any]] = []

    def update(done: int) -> None:
        if not bar:
            if time.monotonic() - began < _PATIENCE:
                return
            bar.append(_start_bar(what, total, unit))
        bar[0][0].update(bar[0][1], completed=done)

    try:
        yield update
    finally:
        if bar:
            bar[0][0].stop()


@contextmanager
def stages(words: Mapping[str, str]) -> Iterator[Callable[[str, float], None]]:
    """A line on stderr with what is being done, since when, and the time left. Call it as each stage starts, with the seconds
    that are thought to be left in all, 0 where nobody knows. ``words``: what people call a stage.
    """
    if not sys.stderr.isatty():
        yield lambda stage, left: None
        return
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.text import Text

    class Times(ProgressColumn):
        def render(self, task: Task) -> Text:
            until, since = task.fields["until"], duration(round(task.elapsed or 0))
            if until is None:
                return Text(since, style="dim")
            left = round(until - time.monotonic())
            return Text(
                f"{since}, {f'about {duration(left)} left' if left > 0 else 'longer than expected'}", style="dim"
            )

    bar = Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}"),
        Times(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("starting", total=None, until=None)

    def begin(stage: str, left: float) -> None:
        until = time.monotonic() + left if left else None
        bar.update(task, description=words.get(stage, stage), until=until)

    with bar:
        yield begin


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 5 s``, ``2 h 10 min``"""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 1 or not seconds else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """``8.4 KB``, ``1.5 GB``: decimal, three digits."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _start_bar(what: str, total: int, unit: str) -> "tuple[Progress, Any]":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amounts = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn(), TextColumn(unit)]
    bar = Progress(
        TextColumn(what), BarColumn(), *amounts, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    bar.start()
    return bar, bar.add_task(what, total=total)
