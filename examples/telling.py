"""How the examples tell their story: numbered chapters, and commands shown as they are typed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click

from circuits import srs, srs_store
from circuits.errors import SrsError


def story(chapters: int) -> Callable[[int, str], None]:
    """A function that begins chapter ``number``."""

    def chapter(number: int, title: str) -> None:
        click.echo()
        click.secho(f"[{number}/{chapters}] {title}", bold=True)

    return chapter


def say(text: str) -> None:
    click.echo(f"  {text}")


def run(*arguments: str | Path | int, expect: int = 0, since: str = "") -> None:
    """Run certify in a process of its own, as the person in question would, and show what it prints from ``since`` on."""
    shown = " ".join(str(a) for a in arguments)
    click.secho(f"  $ certify {shown}", fg="cyan")
    done = subprocess.run([sys.executable, "-m", "certify", *map(str, arguments)], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    first = next((i for i, line in enumerate(lines) if since in line), 0)
    for line in (["…"] if first else []) + lines[first:]:
        click.echo(f"    {line}".rstrip())
    if done.returncode != expect:
        raise SystemExit(f"certify {shown} ended with {done.returncode}, expected {expect}")


def progress(stage: str, left: float) -> None:
    """What certify.fit and certify.forget are at."""
    say(f"  {stage}" + (f", about {left:.0f} s" if left else ""))


def ceremony(logrows: int) -> bool:
    """Whether the ceremony's reference string is here; otherwise makes one for development, and says so."""
    try:
        srs.find(logrows)
    except SrsError:
        srs_store.develop(logrows, Path("srs"))
        os.environ[srs.FOLDERS_VARIABLE] = str(Path("srs").resolve())
        for line in (
            "no ceremony file is here ('certify srs fetch' gets one): a DEVELOPMENT reference string stands in,",
            "with which proofs can be forged, so that the grade will be no better than attested",
        ):
            click.secho(f"  {line}", fg="yellow")
        return False
    say("reference string: the perpetual powers of tau, whose secret nobody knows")
    return True
