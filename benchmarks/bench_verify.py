"""``certify verify`` as a whole process, on a bundle of a real case without zk proof; and the import of the verifier alone.

Run: ``python benchmarks/bench_verify.py [--json]``. Goals: under 0.4 s and under 0.2 s; a bare interpreter is timed beside them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import certify
from certify import bundle, case
from certify.certificate import Made, log_training, log_unlearning, new_run_id
from certify.digest import Manifest, TensorSource, hash_tensors
from certify.environment import describe
from certify.records import records_of
from certify.statement import Method, Run
from certify.times import format_time, now

ROUNDS = 15


def model(tensors: int, seed: int) -> Manifest:
    """A manifest of ``tensors`` tensors of 1 KB."""
    return hash_tensors(
        TensorSource.of(f"layer.{i}.weight", "U8", (1024,), bytes([(i + seed * (i % 2)) % 256]) * 1024)
        for i in range(tensors)
    )


def make_case(folder: Path) -> tuple[Path, Path]:
    """A case of 1,000 records and 300 tensors in a ledger of its own."""
    records = {f"r{i}": {"x": i} for i in range(1000)}
    time_ = format_time(now())
    with certify.Workspace.init(folder / "ledger", origin="bench/ledger", issuer="bench", password=None) as workspace:

        def made(manifest: Manifest) -> Made:
            return Made(manifest, Method("bench"), Run(new_run_id(), time_, time_), describe())

        before = model(300, 0)
        log_training(workspace, made(before), records_of(records))
        request = certify.file_request(workspace, {"r17": records["r17"]}, ground="gdpr-17")
        certificate = log_unlearning(workspace, made(model(300, 1)), pre=before, requests=[request])
        path = bundle.write(folder / "case.bundle", case.collect(workspace, certificate))
    return path, folder / "ledger" / "trust.toml"


def median(*command: str) -> float:
    """Median seconds of a process."""
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return sorted(times)[ROUNDS // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, trust = make_case(Path(folder))
        size = path.stat().st_size
        rows = {
            "bare interpreter": (median("-c", "pass"), None),
            "import certify.verifier": (median("-c", "import certify.verifier"), 0.2),
            "certify verify": (median("-m", "certify", "verify", str(path), "--trust", str(trust)), 0.4),
        }
    if arguments.json:
        print(json.dumps({"bundle bytes": size, **{name: seconds for name, (seconds, _) in rows.items()}}, indent=2))
        return
    print(f"a bundle of {size:,} bytes, 1,000 records, two models of 300 tensors; median of {ROUNDS} processes")
    for name, (seconds, goal) in rows.items():
        print(f"{name:<26} {seconds * 1000:6.0f} ms" + (f"   goal under {goal * 1000:.0f} ms" if goal else ""))


if __name__ == "__main__":
    main()
