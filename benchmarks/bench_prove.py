"""Exclusion proofs: seconds, memory and sizes at logrows 11, with the ceremony's reference string from ``$LEDGER_SRS``.

Run: ``LEDGER_SRS=folder python benchmarks/bench_prove.py [--json] [--small]``. Goals for all 569 breast-cancer patients: ridge in
20 s and 2.5 GB, squared hinge in 25 s and 2.7 GB, verified in 1 s. Keys are made anew, nothing comes from a cache.
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

from circuits import export, prover, vicinity, zk_verifier
from circuits.layout import salted
from circuits.optimum import Optimum, Ridge, SquaredHinge, solve
from circuits.problem import Problem

SCALE_X, SCALE_W = 128, 1 << 14


def data(rows: int, features: int) -> Tensor:
    """Standardised patients with labels of -1 and 1, as integers: (rows, features + 1)."""
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.as_tensor(x[:rows, :features])
    x = (x - x.mean(0)) / x.std(0)
    labels = torch.as_tensor(2 * y[:rows] - 1)[:, None]
    return torch.cat([(x * SCALE_X).round().long(), labels], dim=1)


def measure(loss: type[Optimum], rows: int, features: int, srs: Path, cache: Path) -> dict[str, float | int]:
    """One proof from nothing: export, compile, setup, prove, verify."""
    penalty = SCALE_X**2 if loss is Ridge else SCALE_X**2 // 2  # Λ = 1; C = 1
    problem = Problem(rows, features, 1, 1, SCALE_X, SCALE_W, penalty, tau=SCALE_X)
    module, records = loss(problem), data(rows, features)
    forgotten = records[3:4, :features]
    weights = solve(module, records, forgotten)
    began = time.perf_counter()
    bound = problem.bound(largest_x=2048, largest_sum=20, largest_radius=1)
    circuit = prover.compile(export.to_onnx(module, problem.shapes), prover.fixed_point(bound, 11))
    compiled = time.perf_counter() - began
    keys = prover.setup(circuit, srs / "kzg11.srs", cache=cache)
    inputs = [salted(values.tolist(), logrows=11) for values in (records, weights, forgotten)]
    proved = prover.prove(circuit, inputs, srs / "kzg11.srs", keys)
    began = time.perf_counter()
    *gradient, kept = zk_verifier.verify(
        proved.proof,
        vk=keys.vk,
        settings=circuit.settings,
        srs_1=(srs / "kzg1.srs").read_bytes(),
        commitments=proved.commitments,
        accepted={zk_verifier.sha256(keys.vk)},
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
        "radius": vicinity.radius(gradient, scale_w=SCALE_W, penalty=penalty),
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
        for loss in (Ridge, SquaredHinge):
            with tempfile.TemporaryDirectory() as cache:
                found[f"{rows}x{features} {loss.__name__}"] = measure(loss, rows, features, Path(srs), Path(cache))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    names = list(next(iter(found.values())))
    print(" " * 20 + "".join(f"{name:>11}" for name in names))
    for case, figures in found.items():
        print(f"{case:<20}" + "".join(f"{figures[name]:>11.4g}" for name in names))


if __name__ == "__main__":
    main()
