"""What people are told that a circuit proves."""

from dataclasses import replace

import pytest

from certify.circuit_words import explain
from certify.zk import CircuitDescription
from circuits import description
from circuits.chain_problem import ChainProblem
from circuits.problem import Problem
from circuits.srs import CEREMONY
from circuits.step_problem import StepProblem

OPTIMUM = Problem(
    "ridge",
    rows=569,
    features=30,
    outputs=1,
    forgotten=(1, 2),
    scale_x=128,
    scale_w=16384,
    penalty=32768,
    tau=4096,
    bits=31,
)
CHAIN = ChainProblem(
    "relu",
    features=64,
    hidden=16,
    outputs=10,
    batch=32,
    steps=2,
    forgotten=(1,),
    scale_x=16,
    scale_w=512,
    rate=1,
    tau=64,
)
LOGISTIC = replace(CHAIN, network="logistic", hidden=0, outputs=1, table_scale=7)
STEP = StepProblem("ascent", "linear", 30, 0, 1, 5, (1, 2), 16, 4096, rate=1 << 20)
MASK = replace(STEP, method="mask", steps=1, forgotten=(), rate=0, numbers=(1,) * 31)


def described(parameters: description.Parameters, srs: str = CEREMONY[1]) -> CircuitDescription:
    return CircuitDescription(parameters.statement, description.describe(parameters), "1" * 64, "2" * 64, "3" * 64, srs)


@pytest.mark.parametrize(
    ("parameters", "name", "words"),
    [
        (OPTIMUM, "objective", "ridge, penalty 2"),
        (OPTIMUM, "records", "569 of 30 features"),
        (OPTIMUM, "forgets", "what 2 requests name: 1 + 2 records"),
        (OPTIMUM, "left out", "each record within distance 0.5 of a forgotten one, in scaled features (tau 0.25)"),
        (CHAIN, "network", "one hidden layer of ReLU, 64 → 16 → 10, by the squared error"),
        (LOGISTIC, "network", "linear, 64 → 1, by the logistic loss"),
        (CHAIN, "forgets", "what one request names: 1 record"),
        (STEP, "forgets", "what 2 requests name: 3 records"),
        (STEP, "network", "linear, 30 → 1: 31 weights"),
        (
            MASK,
            "step",
            "weights are set to zero where the public numbers, one for each weight, are 0, and kept elsewhere",
        ),
        (CHAIN, "left out", "each record within distance 0.5 of a forgotten one, in scaled features (tau 0.25)"),
    ],
)
def test_parameters_are_said_in_units_of_the_data(parameters: description.Parameters, name: str, words: str) -> None:
    assert dict(explain(described(parameters)))[name] == words


@pytest.mark.parametrize("statement", sorted(description.STATEMENTS))
def test_every_statement_has_words(statement: str) -> None:
    known = {kind.statement: kind for kind in (OPTIMUM, CHAIN, STEP)}
    said = dict(explain(described(known[statement])))
    assert said["proves"].startswith("that ") and said["verification key"] == "3" * 64


def test_development_string_and_unknown_statement_are_marked() -> None:
    assert dict(explain(described(OPTIMUM)))["reference string"].startswith("the perpetual powers of tau")
    assert dict(explain(described(OPTIMUM, "f" * 64)))["reference string"].startswith("DEVELOPMENT")
    strange = CircuitDescription("exclusion-magic/v9", {"rows": 3}, "1" * 64, "2" * 64, "3" * 64, CEREMONY[1])
    said = dict(explain(strange))
    assert "cannot tell what it proves" in said["unknown"] and said["rows"] == "3"
