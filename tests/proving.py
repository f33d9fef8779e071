"""Small circuits, proven once for all tests, and the verifier that a careless person would write.

Proofs are kept between runs by the content of what they prove, in ``$XDG_CACHE_HOME/unlearning-ledger/test-proofs``: the salt
is drawn from the values that it salts, so these are the same each time. What comes from there is verified again.
"""

import functools
import hashlib
import json
import os
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from circuits import child, description, prover, zk_verifier
from circuits.commitment import SALT_BITS
from circuits.layout import Layout
from circuits.optimum import Optimum, module_of, solve
from circuits.problem import Loss, Problem, bits_of
from circuits.zk_proof import Proof

SRS_VARIABLE = "LEDGER_SRS"
LOGROWS = 11
FORGOTTEN = 3  # its position
JITTERED = 17  # a near-duplicate of it


def srs(logrows: int) -> Path:
    """The ceremony's file; skips where there is none."""
    folder = os.environ.get(SRS_VARIABLE)
    path = Path(folder or ".") / f"kzg{logrows}.srs"
    if not folder or not path.is_file():
        pytest.skip(f"set {SRS_VARIABLE} to the folder with the ceremony's kzg11.srs and kzg1.srs")
    return path


def problem(loss: Loss = "squared-hinge", **changes: Any) -> Problem:
    """40 records of 5 features; ``changes`` are to its fields."""
    fields: dict[str, Any] = {
        "rows": 40,
        "features": 5,
        "scale_x": 128,
        "scale_w": 1 << 14,
        "penalty": 1 << 14,
        "tau": 128,
    }
    if loss == "logistic":
        fields |= {"scale_w": 1 << 11, "table_scale": 9}
    sizes = {name: changes.get(name, value) for name, value in fields.items()}
    bits = bits_of(**sizes, largest_x=1024, largest_sum=20, largest_radius=15)
    return Problem(**({"loss": loss, "outputs": 1, "forgotten": (1,), "bits": bits} | sizes | changes))


def records_for(p: Problem, *, seed: int = 0) -> Tensor:
    """Features of about 1 and labels of -1 and 1: (rows, features + outputs) int64. Row 17 is row 3 with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(p.rows, p.features, generator=generator, dtype=torch.float64)
    x[FORGOTTEN] *= 3  # a record that matters
    x = (x * p.scale_x).round()
    x[JITTERED] = x[FORGOTTEN] + torch.tensor([(-1) ** i * 4.0 for i in range(p.features)])
    w = torch.randn(p.features, p.outputs, generator=generator, dtype=torch.float64)
    y = (x @ w + p.scale_x * torch.randn(p.rows, p.outputs, generator=generator)).sign()
    y[FORGOTTEN] = -(x[FORGOTTEN] @ w).sign()  # and is hard to fit
    return torch.cat([x, y * p.scale_y], dim=1).to(torch.int64)


def salted(layout: Layout, matrix: Tensor, place: int) -> tuple[int, ...]:
    """With the salt that this tensor has in every run, in its place among a circuit's inputs."""
    values = matrix.tolist()
    seeded = random.Random(repr((place, layout, values)))
    with mock.patch("circuits.layout.salts", lambda count: [seeded.getrandbits(SALT_BITS) for _ in range(count)]):
        return tuple(layout.salted(values))


@dataclass(frozen=True)
class Inputs:
    """Flattened committed tensors; ``forgotten`` has one for each request."""

    records: tuple[int, ...]
    weights: tuple[int, ...]
    forgotten: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, p: Problem, records: Tensor, weights: Tensor, *forgotten: Tensor) -> "Inputs":
        """With salt. records: (n, d + o), weights: (d, o), forgotten: (k, d) each"""
        tensors = (records, weights, *forgotten)
        first, second, *rest = (salted(p.layouts[place], tensors[place], place) for place in range(len(p.layouts)))
        return cls(first, second, tuple(rest))

    @property
    def all(self) -> list[tuple[int, ...]]:
        return [self.records, self.weights, *self.forgotten]

    def tensors(self, p: Problem) -> list[Tensor]:
        return [torch.tensor(values).reshape(layout.shape) for values, layout in zip(self.all, p.layouts, strict=True)]


@dataclass(frozen=True)
class Case:
    """A proof and everything that it takes to check it."""

    module: Optimum
    inputs: Inputs
    circuit: prover.Circuit
    srs: Path
    vk: bytes
    proof: bytes
    commitments: list[tuple[bytes, ...]]

    @property
    def instances(self) -> tuple[int, ...]:
        return Proof.parse(self.proof).instances

    @property
    def digest(self) -> bytes:
        """Of the verification key."""
        return zk_verifier.sha256(self.vk)

    @property
    def keys(self) -> prover.Keys:
        """Made where a test needs the proving key, and then kept for this process."""
        return prover.setup(self.circuit, self.srs, cache=cache())


@functools.cache
def honest(loss: Loss = "squared-hinge") -> tuple[Optimum, Tensor, Tensor, Inputs]:
    """Module, records, weights near the optimum, and inputs."""
    p = problem(loss)
    module, records = module_of(p), records_for(p)
    forgotten = records[FORGOTTEN : FORGOTTEN + 1, : p.features]
    weights = solve(module, records, [forgotten])
    return module, records, weights, Inputs.of(p, records, weights, forgotten)


@functools.cache
def cache() -> Path:
    """For keys; the temporary folder goes with the process."""
    made = tempfile.TemporaryDirectory(prefix="circuits-tests-")
    _kept.append(made)
    return Path(made.name)


_kept: list["tempfile.TemporaryDirectory[str]"] = []


@functools.cache
def circuit_of(p: Problem) -> prover.Circuit:
    return description.build(p)


@functools.cache
def prove(p: Problem, inputs: Inputs, file: Path | None = None) -> Case:
    """A proof about ``inputs``, whatever they are, with the ceremony's reference string or another file."""
    circuit, place = circuit_of(p), file or srs(p.logrows)
    content = [circuit.onnx, circuit.settings, json.dumps(inputs.all).encode(), place.read_bytes()]
    name = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in content)).hexdigest()
    stored = prover.cache_folder().with_name("test-proofs") / f"{name}.json"
    if file is None and stored.is_file():
        fields = json.loads(stored.read_bytes())
        points = [tuple(map(bytes.fromhex, tensor)) for tensor in fields["commitments"]]
        case = Case(
            module_of(p), inputs, circuit, place, *(bytes.fromhex(fields[name]) for name in ("vk", "proof")), points
        )
        check(case, accepted={case.digest})
        return case
    keys = prover.setup(circuit, place, cache=cache())
    proved = prover.prove(circuit, inputs.all, place, keys)
    case = Case(module_of(p), inputs, circuit, place, keys.vk, proved.proof, list(proved.commitments))
    if file is None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        fields = {"vk": case.vk.hex(), "proof": case.proof.hex()}
        fields |= {"commitments": [[point.hex() for point in tensor] for tensor in case.commitments]}
        new = stored.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(fields))
        new.replace(stored)
    return case


def hinge() -> Case:
    return prove(problem(), honest()[3])


def ridge() -> Case:
    return prove(problem("ridge"), honest("ridge")[3])


def logistic() -> Case:
    return prove(problem("logistic"), honest("logistic")[3])


def check(case: Case, **changes: Any) -> tuple[int, ...]:
    """Our verifier, which accepts the first two circuits above, on the case with some arguments replaced."""
    arguments: dict[str, Any] = {
        "vk": case.vk,
        "settings": case.circuit.settings,
        "srs_1": srs(1).read_bytes(),
        "commitments": case.commitments,
        "param_scale": case.module.problem.table_scale,
    }
    if "accepted" not in changes:
        arguments["accepted"] = {hinge().digest, ridge().digest}
    proof = changes.pop("proof", case.proof)
    return zk_verifier.verify(proof, **(arguments | changes))


def naive(case: Case, proof_json: bytes | None = None, srs_1: bytes | None = None) -> None:
    """``ezkl.verify`` with what the prover sent, as the documentation shows it; raises ValueError when it refuses."""
    with child.folder() as work:
        (work / "vk").write_bytes(case.vk)
        (work / "settings").write_bytes(case.circuit.settings)
        (work / "srs").write_bytes(srs_1 or srs(1).read_bytes())
        (work / "proof").write_bytes(proof_json or Proof.parse(case.proof).to_ezkl())
        paths = {"proof_path": "proof", "settings_path": "settings", "vk_path": "vk", "srs_path": "srs"}
        child.run([child.Call("verify", {**paths, "reduced_srs": True})], work, seconds=60, error=ValueError)
