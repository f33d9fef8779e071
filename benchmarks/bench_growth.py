"""How proofs grow with rows and features: seconds, memory and bytes, and the line that predicts them (circuits/estimate.py).

Run: ``LEDGER_SRS=folder python benchmarks/bench_growth.py [--json] [ROWSxFEATURES …]``. Random data; the squared hinge, keys
made anew.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from circuits import description, prover
from circuits.optimum import module_of, solve
from circuits.problem import Problem, bits_of

SIZES = ["100x10", "300x30", "569x30", "1000x50", "2000x50"]
SCALE_X, SCALE_W = 128, 1 << 14


def data(rows: int, features: int) -> Tensor:
    """Standard normal features, and labels that a line mostly separates: (rows, features + 1) int64"""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64).clamp(-7, 7)
    y = (x.sum(1, keepdim=True) + torch.randn(rows, 1, generator=generator) > 0) * 2 - 1
    return torch.cat([(x * SCALE_X).round().long(), y], dim=1)


def measure(rows: int, features: int, srs: Path) -> dict[str, float]:
    sizes = {
        "rows": rows,
        "features": features,
        "scale_x": SCALE_X,
        "scale_w": SCALE_W,
        "penalty": SCALE_X**2,
        "tau": SCALE_X,
    }
    bits = bits_of(**sizes, largest_x=1024, largest_sum=40, largest_radius=1)
    problem = Problem(loss="squared-hinge", outputs=1, forgotten=(1,), bits=bits, **sizes)
    records = data(rows, features)
    f = records[3:4, :features]
    weights = solve(module_of(problem), records, [f])
    circuit = description.build(problem)
    tensors = [
        layout.salted(values.tolist()) for layout, values in zip(problem.layouts, (records, weights, f), strict=True)
    ]
    expected = circuit.estimate()
    with tempfile.TemporaryDirectory() as cache:
        keys = prover.setup(circuit, srs, cache=Path(cache))
        proved = prover.prove(circuit, tensors, srs, keys)
    assert keys.usage is not None
    return {
        "cells": expected.cells,
        "setup s": keys.usage.seconds["setup"],
        "prove s": sum(proved.usage.seconds.values()),
        "estimated s": expected.seconds,
        "memory GB": max(proved.usage.rss, keys.usage.rss) / 1e9,
        "estimated GB": expected.memory / 1e9,
        "proof KB": len(proved.proof) / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=SIZES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    folder = os.environ.get("LEDGER_SRS")
    if not folder:
        parser.error("set LEDGER_SRS to the folder with the ceremony's kzg11.srs")
    found: dict[str, dict[str, float]] = {}
    for size in arguments.sizes:
        rows, features = map(int, size.split("x"))
        found[size] = measure(rows, features, Path(folder) / "kzg11.srs")
        if not arguments.json:
            if len(found) == 1:
                print(" " * 10 + "".join(f"{name:>14}" for name in found[size]))
            print(f"{size:<10}" + "".join(f"{value:>14.4g}" for value in found[size].values()), flush=True)
    if arguments.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
