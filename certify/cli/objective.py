"""Options of a convex objective, and the stages of fitting and proving, which several commands share."""

import math
from collections.abc import Callable
from typing import Any

import click

LOSSES = ("squared-hinge", "ridge", "logistic")
STEPS = ("ascent", "subtraction", "newton", "projection", "mask")

STAGES = {
    "fitting": "fitting",
    "committing to the data": "committing to the data",
    "solving": "finding the weights after",
    "setup": "making the circuit's keys, once",
    "gen_witness": "computing the circuit",
    "mock": "checking every constraint",
    "prove": "proving",
    "verifying": "verifying",
}
"""Of :mod:`certify.provable`, and what people call them."""


class Number(click.FloatRange):
    """A finite number; click's own range lets nan through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number to compute with", param, ctx)
        return number


def objective_options(*, defaults: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator. Without ``defaults``, the command gets None for what is not given."""
    number = Number(0, min_open=True)
    count = click.IntRange(1)
    made: tuple[tuple[str, Any, Any, str], ...] = (
        (
            "--loss",
            click.Choice(LOSSES),
            "squared-hinge",
            "squared-hinge is a linear SVM, logistic a logistic regression, ridge predicts a number.",
        ),
        (
            "--penalty",
            number,
            1.0,
            "L in the objective, sum of losses + L/2 |w|^2. A larger one keeps weights smaller.",
        ),
        ("--tau", Number(0), 0.01, "Squared distance within which records are forgotten along with one."),
        ("--scale-x", count, 128, "Data are integers over this, a power of two."),
        ("--scale-w", count, 16384, "Weights are integers over this, a power of two."),
        (
            "--proofs",
            click.IntRange(1, 4096),
            4,
            "Certificates that can be proven before the data need new salt, and a new fit.",
        ),
        ("--logrows", click.IntRange(8, 26), 11, "Circuit size: larger is a shorter proof, and a larger srs file."),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, type_, default, help_ in reversed(made):
            usual = f"{help_}  [default: {default}]"
            command = click.option(name, type=type_, default=default if defaults else None, help=usual)(command)
        return command

    return decorate
