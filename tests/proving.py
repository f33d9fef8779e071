"""Small circuits, proven once for all tests of a process, and the verifier that a careless person would write."""

import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from circuits import child, description, prover, zk_verifier
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
    sizes = {"rows": 40, "features": 5, "scale_x": 128, "scale_w": 1 << 14, "penalty": 1 << 14, "tau": 128}
    bits = bits_of(**sizes, largest_x=1024, largest_sum=20, largest_radius=20)
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


@dataclass(frozen=True)
class Inputs:
    """Flattened committed tensors."""

    records: tuple[int, ...]
    weights: tuple[int, ...]
    forgotten: tuple[int, ...]

    @classmethod
    def of(cls, p: Problem, records: Tensor, weights: Tensor, forgotten: Tensor) -> "Inputs":
        """With fresh salt. records: (n, d + o), weights: (d, o), forgotten: (k, d)"""
        tensors = zip(p.layouts, (records, weights, forgotten), strict=True)
        return cls(*(tuple(layout.salted(tensor.tolist())) for layout, tensor in tensors))

    @property
    def all(self) -> list[tuple[int, ...]]:
        return [self.records, self.weights, self.forgotten]

    def tensors(self, p: Problem) -> list[Tensor]:
        return [torch.tensor(values).reshape(layout.shape) for values, layout in zip(self.all, p.layouts, strict=True)]


@dataclass(frozen=True)
class Case:
    """A proof and everything that it takes to check it."""

    module: Optimum
    inputs: Inputs
    circuit: prover.Circuit
    keys: prover.Keys
    proved: prover.Proved

    @property
    def commitments(self) -> list[tuple[bytes, ...]]:
        return list(self.proved.commitments)


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
def prove(p: Problem, inputs: Inputs, logrows_file: Path | None = None) -> Case:
    """A proof about ``inputs``, whatever they are, with the ceremony's reference string or another file."""
    file = logrows_file or srs(p.logrows)
    circuit = circuit_of(p)
    keys = prover.setup(circuit, file, cache=cache())
    return Case(module_of(p), inputs, circuit, keys, prover.prove(circuit, inputs.all, file, keys))


def hinge() -> Case:
    return prove(problem(), honest()[3])


def ridge() -> Case:
    return prove(problem("ridge"), honest("ridge")[3])


def check(case: Case, **changes: object) -> tuple[int, ...]:
    """Our verifier, on the case with some arguments replaced."""
    arguments: dict[str, object] = {
        "vk": case.keys.vk,
        "settings": case.circuit.settings,
        "srs_1": srs(1).read_bytes(),
        "commitments": case.commitments,
        "accepted": {zk_verifier.sha256(hinge().keys.vk), zk_verifier.sha256(ridge().keys.vk)},
    }
    proof = changes.pop("proof", case.proved.proof)
    return zk_verifier.verify(proof, **(arguments | changes))  # type: ignore[arg-type]


def naive(case: Case, proof_json: bytes | None = None, srs_1: bytes | None = None) -> None:
    """``ezkl.verify`` with what the prover sent, as the documentation shows it; raises ValueError when it refuses."""
    with child.folder() as work:
        (work / "vk").write_bytes(case.keys.vk)
        (work / "settings").write_bytes(case.circuit.settings)
        (work / "srs").write_bytes(srs_1 or srs(1).read_bytes())
        (work / "proof").write_bytes(proof_json or Proof.parse(case.proved.proof).to_ezkl())
        paths = {"proof_path": "proof", "settings_path": "settings", "vk_path": "vk", "srs_path": "srs"}
        child.run([child.Call("verify", {**paths, "reduced_srs": True})], work, seconds=60, error=ValueError)
