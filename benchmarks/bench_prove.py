"""Exclusion proofs: seconds, memory and sizes, with the ceremony's reference string from ``$LEDGER_SRS`` at logrows 11.

Run: ``LEDGER_SRS=folder python benchmarks/bench_prove.py [--json] [--small]``. Goals for all 569 breast-cancer patients: ridge in
20 s and 2.5 GB, squared hinge in 25 s and 2.7 GB, verified in 1 s, at logrows 14 in 0.15 s; logistic in 45 s and 5.5 GB at
logrows 15, where its table fits one column. Other reference strings than the ceremony's are made on the spot. Keys are made
anew, nothing comes from a cache.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from circuits import child, description, prover, vicinity, zk_verifier
from circuits.errors import ProverError
from circuits.optimum import module_of, solve
from circuits.problem import Loss, Problem, bits_of
from circuits.srs import load, reduced

SCALE_X = 128
CASES: list[tuple[Loss, int]] = [("ridge", 11), ("ridge", 14), ("squared-hinge", 11), ("logistic", 15)]
"""Losses, and logrows."""


def data(rows: int, features: int) -> Tensor:
    """Standardised patients with labels of -1 and 1, as integers: (rows, features + 1)."""
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.as_tensor(x[:rows, :features])
    x = (x - x.mean(0)) / x.std(0)
    labels = torch.as_tensor(2 * y[:rows] - 1)[:, None]
    return torch.cat([(x * SCALE_X).round().long(), labels], dim=1)


def problem_of(loss: Loss, logrows: int, rows: int, features: int) -> Problem:
    """Λ = 1, for the squared hinge ½: scikit-learn's C = 1."""
    penalty = SCALE_X**2 // 2 if loss == "squared-hinge" else SCALE_X**2
    sizes = {
        "rows": rows,
        "features": features,
        "scale_x": SCALE_X,
        "scale_w": 1 << 14,
        "penalty": penalty,
        "tau": SCALE_X,
    }
    if loss == "logistic":
        sizes |= {"scale_w": 1 << 13, "table_scale": 10}
    bits = bits_of(**sizes, largest_x=2048, largest_sum=40, largest_radius=1)
    return Problem(loss, outputs=1, forgotten=(1,), bits=bits, logrows=logrows, **sizes)


def reference(folder: Path, logrows: int, made: Path) -> tuple[Path, bytes]:
    """A reference string's file, and what a verifier has of it."""
    if logrows == 11:
        return folder / "kzg11.srs", (folder / "kzg1.srs").read_bytes()
    file = made / f"{logrows}.srs"
    with child.folder() as work:
        call = child.Call("gen_srs", {"srs_path": str(file), "logrows": logrows})
        child.run([call], work, seconds=600, error=ProverError)
    return file, reduced(load(file))


def measure(loss: Loss, logrows: int, rows: int, features: int, folder: Path, made: Path) -> dict[str, float | int]:
    """One proof from nothing: export, compile, setup, prove, verify."""
    problem = problem_of(loss, logrows, rows, features)
    srs, srs_1 = reference(folder, problem.logrows, made)
    records = data(rows, features)
    forgotten = records[3:4, :features]
    weights = solve(module_of(problem), records, [forgotten])
    began = time.perf_counter()
    circuit = description.build(problem)
    compiled = time.perf_counter() - began
    keys = prover.setup(circuit, srs, cache=made / "keys")
    tensors = zip(problem.layouts, (records, weights, forgotten), strict=True)
    proved = prover.prove(circuit, [layout.salted(values.tolist()) for layout, values in tensors], srs, keys)
    began = time.perf_counter()
    *gradient, kept = zk_verifier.verify(
        proved.proof,
        vk=keys.vk,
        settings=circuit.settings,
        srs_1=srs_1,
        commitments=proved.commitments,
        accepted={zk_verifier.sha256(keys.vk)},
        accepted_srs={zk_verifier.sha256(srs_1)},
        param_scale=problem.table_scale,
    )
    verified = time.perf_counter() - began
    assert keys.usage is not None
    return {
        "cells": circuit.estimate().cells,
        "compile s": compiled,
        "setup s": keys.usage.seconds["setup"],
        "setup GB": keys.usage.rss / 1e9,
        "prove s": sum(proved.usage.seconds.values()),
        "prove GB": proved.usage.rss / 1e9,
        "verify s": verified,
        "proof KB": len(proved.proof) / 1e3,
        "vk KB": len(keys.vk) / 1e3,
        "kept": kept,
        "radius": vicinity.radius(gradient, scale_w=problem.scale_w, penalty=problem.penalty),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="only 40x5")
    arguments = parser.parse_args()
    srs = os.environ.get("LEDGER_SRS")
    if not srs:
        parser.error("set LEDGER_SRS to the folder with the ceremony's kzg11.srs and kzg1.srs")
    found = {}
    for rows, features in [(40, 5)] if arguments.small else [(40, 5), (569, 30)]:
        for loss, logrows in CASES:
            with tempfile.TemporaryDirectory() as cache:
                name = f"{rows}x{features} {loss} {logrows}"
                found[name] = measure(loss, logrows, rows, features, Path(srs), Path(cache))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    names = list(next(iter(found.values())))
    print(" " * 26 + "".join(f"{name:>11}" for name in names))
    for case, figures in found.items():
        print(f"{case:<26}" + "".join(f"{figures[name]:>11.4g}" for name in names))


if __name__ == "__main__":
    main()
