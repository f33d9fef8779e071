"""A tiny chain of SGD steps, proven once for all tests, and the verifier that a careless person would write.

::

    chain = honest()                            # three steps of a 4-3-2 network on three batches of six, a proof each
    check(chain)                                # [5, 5, 5]: the record and its near-duplicates are left out of every batch
    check(chain, proofs=[…])                    # refused

Record 2 of the first batch is forgotten; the other batches hold near-duplicates of it. Proofs are kept between runs as in
:mod:`tests.proving`, and verified by whoever uses them.
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from circuits import chain, child, commitment, initial, prover, zk_verifier
from circuits.chain_problem import ChainProblem
from circuits.chain_verifier import ChainCircuit, verify_chain
from circuits.layout import Layout
from circuits.srs import load, reduced
from circuits.zk_proof import Proof
from tests import proving

Rows = list[list[int]]
SEED = "the draw of 1 May 2026"
STEPS = 3
GONE = 2
"""The place in the first batch of the record that is forgotten."""


def problem(**changes: Any) -> ChainProblem:
    """A step of a 4-3-2 network on six records; ``changes`` are to its fields."""
    fields: dict[str, Any] = {
        "network": "relu",
        "features": 4,
        "hidden": 3,
        "outputs": 2,
        "batch": 6,
        "steps": 1,
        "forgotten": (1,),
        "scale_x": 16,
        "scale_w": 1024,
        "rate": 1,
        "tau": 4,
    }
    if changes.get("network") == "linear":
        fields |= {"hidden": 0, "scale_w": 4096, "rate": 1 << 12}
    if changes.get("network") == "logistic":
        fields |= {"hidden": 0, "scale_w": 512, "rate": 1 << 25, "table_scale": 7}
    return ChainProblem(**(fields | changes))


def batches_for(p: ChainProblem, count: int = 3, *, seed: int = 0) -> list[Rows]:
    """Features of about 1 and one target of 1: ``count`` batches. A near-duplicate of the forgotten record is in each."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2 * p.scale_x, 2 * p.scale_x + 1, (count, p.batch, p.features), generator=generator)
    y = torch.randint(0, max(2, p.outputs), (count, p.batch), generator=generator)
    for batch in range(1, count):
        x[batch, batch] = x[0, GONE] + torch.tensor([1, -1, *[0] * (p.features - 2)])
    one_hot = torch.nn.functional.one_hot(y, max(2, p.outputs))[..., : p.outputs]
    labels = 2 * one_hot - 1 if p.network == "logistic" else one_hot
    found: list[Rows] = torch.cat([x, labels], 2).tolist()
    return found


def record(batches: Sequence[Rows], p: ChainProblem, batch: int = 0, row: int = GONE) -> Rows:
    """What a request forgets: the features of one record."""
    return [batches[batch][row][: p.features]]


def salted(layout: Layout, matrix: Rows, place: object) -> tuple[int, ...]:
    """With the salt that this matrix has in every run, another for each ``place``."""
    return proving.salted(layout, torch.tensor(matrix), hash_of(place))


def hash_of(place: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:4], "big")


@functools.cache
def commit(values: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(commitment.commit(values, string()))


@functools.cache
def string() -> Any:
    return load(proving.srs(11))


@functools.cache
def srs_1() -> bytes:
    return reduced(string())


@dataclass(frozen=True)
class Proven:
    """A proof of one group of steps, about salted values that it names itself."""

    problem: ChainProblem
    inputs: tuple[tuple[int, ...], ...]
    vk: bytes
    settings: bytes
    proof: bytes

    @property
    def instances(self) -> tuple[int, ...]:
        return Proof.parse(self.proof).instances

    @property
    def circuit(self) -> ChainCircuit:
        return ChainCircuit(self.problem, self.vk, self.settings)


def proven(circuit: prover.Circuit, inputs: Sequence[Sequence[int]]) -> tuple[bytes, bytes]:
    """The proof and the verification key, from an earlier run where there is one. Raises ProverError."""
    path = proving.srs(11)
    parts = [circuit.onnx, circuit.settings, json.dumps([*map(list, inputs)]).encode(), path.read_bytes()]
    name = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    stored = prover.cache_folder().with_name("test-proofs") / f"chain-{name}.json"
    if stored.is_file():
        fields = json.loads(stored.read_bytes())
        return bytes.fromhex(fields["proof"]), bytes.fromhex(fields["vk"])
    keys = prover.setup(circuit, path, cache=proving.cache())
    proof = prover.prove(circuit, inputs, path, keys).proof
    stored.parent.mkdir(parents=True, exist_ok=True)
    new = stored.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({"proof": proof.hex(), "vk": keys.vk.hex()}))
    new.replace(stored)
    return proof, keys.vk


@functools.cache
def prove(p: ChainProblem, inputs: tuple[tuple[int, ...], ...]) -> Proven:
    """A proof about ``inputs``, whatever they are."""
    circuit = proving.circuit_of(p)  # type: ignore[arg-type]
    proof, vk = proven(circuit, inputs)
    return Proven(p, inputs, vk, circuit.settings, proof)


@dataclass(frozen=True)
class Chain:
    """Salted values of every tensor, in order; proofs follow."""

    problem: ChainProblem
    batches: tuple[tuple[int, ...], ...]
    states: tuple[tuple[int, ...], ...]
    forgotten: tuple[tuple[int, ...], ...]

    def group(self, number: int) -> Proven:
        """The proof of one group of steps."""
        group = list(chain.plan(self.problem, len(self.states) - 1))[number]
        return prove(group.problem, group.inputs(self.batches, self.states, self.forgotten))

    @property
    def groups(self) -> list[Proven]:
        return [self.group(number) for number in range(-(-(len(self.states) - 1) // self.problem.steps))]

    @property
    def weights(self) -> list[int]:
        """The last ones, flat and without salt."""
        return flat(self.problem, self.states[-1])


def flat(p: ChainProblem, state: tuple[int, ...]) -> list[int]:
    return [value for row in p.state_layout.matrix(state) for value in row][: p.size]


def state(p: ChainProblem, weights: Sequence[int], step: int) -> tuple[int, ...]:
    return salted(p.state_layout, p.matrix(weights), ("state", step))


def make(
    p: ChainProblem,
    batches: Sequence[Rows],
    forgotten: Sequence[Rows],
    *,
    steps: int = STEPS,
    start: Sequence[int] | None = None,
    seed: str = SEED,
    masked: Sequence[Rows] | None = None,
) -> Chain:
    """Train and salt. ``start``: weights in the place of the public seed's; ``masked``: what training leaves out instead."""
    first = list(start) if start is not None else initial.weights(seed, p)
    states = chain.train(p, batches, first, steps=steps, forgotten=forgotten if masked is None else masked)
    opening = tuple(initial.salted(seed, p)) if start is None else state(p, first, 0)
    layouts = p.layouts[2 * p.steps + 1 :]
    return Chain(
        p,
        tuple(salted(p.batch_layout, rows, ("batch", place)) for place, rows in enumerate(batches)),
        (opening, *(state(p, weights, step) for step, weights in enumerate(states[1:], 1))),
        tuple(salted(layout, part, ("f", i)) for i, (layout, part) in enumerate(zip(layouts, forgotten, strict=True))),
    )


@functools.cache
def honest(steps: int = 1) -> Chain:
    """Three steps, so many in a proof."""
    p = problem(steps=steps)
    batches = batches_for(p)
    return make(p, batches, [record(batches, p)])


def check(of: Chain, **changes: Any) -> list[int]:
    """Our verifier on a chain's own commitments, with some arguments replaced."""
    arguments: dict[str, Any] = {
        "batches": [commit(values) for values in of.batches],
        "states": [commit(values) for values in of.states],
        "forgotten": [commit(values) for values in of.forgotten],
        "srs_1": srs_1(),
        "accepted_srs": {zk_verifier.CEREMONY_SRS_1},
    } | changes
    if "proofs" not in arguments:
        arguments["proofs"] = [made.proof for made in of.groups]
    if "circuits" not in arguments:
        arguments["circuits"] = [*{made.problem.steps: made.circuit for made in of.groups}.values()]
    return verify_chain(arguments.pop("proofs"), arguments.pop("circuits"), **arguments)


def naive(*made: Proven) -> None:
    """``ezkl.verify`` on each proof with the key that came with it; raises ValueError when one does not hold."""
    for each in made:
        with child.folder() as work:
            (work / "vk").write_bytes(each.vk)
            (work / "settings").write_bytes(each.settings)
            (work / "srs").write_bytes(proving.srs(1).read_bytes())
            (work / "proof").write_bytes(Proof.parse(each.proof).to_ezkl())
            paths = {"proof_path": "proof", "settings_path": "settings", "vk_path": "vk", "srs_path": "srs"}
            child.run([child.Call("verify", {**paths, "reduced_srs": True})], work, seconds=60, error=ValueError)


def swapped(of: Chain, **parts: Any) -> Chain:
    """The chain with other values of batches, states or what is forgotten."""
    return replace(of, **parts)
