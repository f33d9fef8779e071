"""What commands print: JSON or text, colour and progress on terminals only."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
