"""How the examples tell their story: numbered chapters, and commands shown as they are typed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click


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
