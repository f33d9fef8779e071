"""The same statement, proven as EZKL's documentation would have it: floats, hashed inputs, defaults, calibrated.

Run: ``LEDGER_SRS=folder python benchmarks/bench_recipe.py [--json]``. The squared hinge without what is near a forgotten
record, 100 records of 10 features. Goals: at least 4 x faster and 3 x less memory than the recipe, in the same run. Both
prove and are verified.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from bench_prove import data
from torch import Tensor, nn

from circuits import child, description, export, prover
from circuits.optimum import module_of, solve
from circuits.problem import Problem, bits_of

ROWS, FEATURES, SCALE_X, SCALE_W = 100, 10, 128, 1 << 14
SIZES = {
    "rows": ROWS,
    "features": FEATURES,
    "scale_x": SCALE_X,
    "scale_w": SCALE_W,
    "penalty": SCALE_X**2 // 2,
    "tau": SCALE_X,
}


class Recipe(nn.Module):
    """The equation as one would write it down."""

    def forward(self, x: Tensor, y: Tensor, w: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        far = (((x - f) ** 2).sum(1, keepdim=True) > SCALE_X / SCALE_X**2).float()  # (n, 1)
        slope = -y * torch.relu(1 - y * (x @ w))  # (n, 1)
        return x.T @ (far * slope) + w / 2, far.sum(0)  # (d, 1), (1,)


def recipe(x: Tensor, y: Tensor, w: Tensor, f: Tensor) -> dict[str, float]:
    inputs = [tensor.float() for tensor in (x, y, w, f)]
    with child.folder() as work:
        stream = work / "onnx"
        torch.onnx.export(
            Recipe(),
            tuple(inputs),
            str(stream),
            dynamo=False,
            opset_version=export.OPSET,
            input_names=["x", "y", "w", "f"],
        )
        (work / "input").write_text(json.dumps({"input_data": [tensor.flatten().tolist() for tensor in inputs]}))
        arguments: dict[str, Any] = {
            "input_visibility": "hashed",
            "param_visibility": "fixed",
            "output_visibility": "public",
        }
        calls = [
            child.Call("gen_settings", {"model": "onnx", "output": "settings", "run_args": arguments}),
            child.Call(
                "calibrate_settings", {"data": "input", "model": "onnx", "settings": "settings", "target": "resources"}
            ),
        ]
        child.run(calls, work, seconds=600, error=RuntimeError)
        logrows = json.loads((work / "settings").read_bytes())["run_args"]["logrows"]
        paths = {"model": "compiled", "srs_path": "srs"}
        calls = [
            child.Call("gen_srs", {"srs_path": "srs", "logrows": logrows}),
            child.Call(
                "compile_circuit", {"model": "onnx", "compiled_circuit": "compiled", "settings_path": "settings"}
            ),
            child.Call("setup", {**paths, "vk_path": "vk", "pk_path": "pk"}),
        ]
        setup = child.run(calls, work, seconds=600, error=RuntimeError)
        calls = [
            child.Call(
                "gen_witness",
                {"data": "input", "model": "compiled", "output": "witness", "vk_path": "vk", "srs_path": "srs"},
            ),
            child.Call("prove", {**paths, "witness": "witness", "pk_path": "pk", "proof_path": "proof"}),
            child.Call(
                "verify", {"proof_path": "proof", "settings_path": "settings", "vk_path": "vk", "srs_path": "srs"}
            ),
        ]
        usage = child.run(calls, work, seconds=600, error=RuntimeError)
        return {
            "logrows": logrows,
            "setup s": setup.seconds["setup"],
            "prove s": usage.seconds["gen_witness"] + usage.seconds["prove"],
            "memory GB": max(usage.rss, setup.rss) / 1e9,
        }


def ours(records: Tensor, f: Tensor, srs: Path) -> dict[str, float]:
    bits = bits_of(**SIZES, largest_x=2048, largest_sum=20, largest_radius=1)
    problem = Problem(loss="squared-hinge", outputs=1, forgotten=(1,), bits=bits, **SIZES)
    weights = solve(module_of(problem), records, [f])
    circuit = description.build(problem)
    tensors = [
        layout.salted(values.tolist()) for layout, values in zip(problem.layouts, (records, weights, f), strict=True)
    ]
    with tempfile.TemporaryDirectory() as cache:
        keys = prover.setup(circuit, srs, cache=Path(cache))
        proved = prover.prove(circuit, tensors, srs, keys)
    assert keys.usage is not None
    return {
        "logrows": circuit.logrows,
        "setup s": keys.usage.seconds["setup"],
        "prove s": proved.usage.seconds["gen_witness"] + proved.usage.seconds["prove"],
        "memory GB": max(proved.usage.rss, keys.usage.rss) / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    folder = os.environ.get("LEDGER_SRS")
    if not folder:
        parser.error("set LEDGER_SRS to the folder with the ceremony's kzg11.srs")
    records = data(ROWS, FEATURES)
    f = records[3:4, :FEATURES]
    found = {"ours": ours(records, f, Path(folder) / "kzg11.srs")}
    x, y = records[:, :FEATURES] / SCALE_X, records[:, FEATURES:]
    found["recipe"] = recipe(x, y, torch.zeros(FEATURES, 1) + 0.1, f / SCALE_X)
    ratios = {name: found["recipe"][name] / found["ours"][name] for name in ("setup s", "prove s", "memory GB")}
    if arguments.json:
        print(json.dumps({**found, "recipe against ours": ratios}, indent=2))
        return
    for name, figures in {**found, "recipe against ours": ratios}.items():
        print(f"{name:<20}" + "".join(f"  {key} {value:.3g}" for key, value in figures.items()))
    print("goals: prove at least 4 x faster, memory at least 3 x less")


if __name__ == "__main__":
    main()
