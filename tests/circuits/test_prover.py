"""Real proofs: what the circuit says is what torch says, and whatever goes wrong is an error of ours."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from circuits import child, estimate, prover
from circuits.commitment import commit
from circuits.errors import ProverError, ResourceError, ZkProofError
from circuits.export import run_torch, to_onnx
from circuits.fixed_point import fixed_point
from circuits.optimum import module_of, solve
from circuits.problem import Loss
from circuits.srs import load
from tests.proving import (
    LOGROWS,
    Case,
    Inputs,
    cache,
    check,
    circuit_of,
    hinge,
    honest,
    logistic,
    problem,
    prove,
    records_for,
    ridge,
    srs,
)

LOSSES: list[Loss] = ["ridge", "squared-hinge", "logistic"]


@pytest.mark.parametrize("case", [ridge, hinge, logistic])
def test_the_circuit_agrees_with_torch_to_the_last_digit(case: object) -> None:
    made: Case = case()  # type: ignore[operator]
    p = made.module.problem
    assert made.instances == run_torch(made.module, made.inputs.tensors(p), p.output_scales)
    assert made.instances[-1] == 38


def test_several_outputs_and_several_forgotten_records() -> None:
    p = problem("ridge", outputs=2, forgotten=(2,), features=3, scale_y=4)
    records = records_for(p)
    forgotten = records[[3, 20], :3]
    inputs = Inputs.of(p, records, solve(module_of(p), records, [forgotten]), forgotten)
    case = prove(p, inputs)
    values = check(case, accepted={case.digest})
    assert values == run_torch(case.module, inputs.tensors(p))
    assert values[-1] == 37


def test_commitments_are_the_ones_that_anybody_computes_without_ezkl() -> None:
    case, string = hinge(), load(srs(LOGROWS))
    assert [tuple(commit(values, string)) for values in case.inputs.all] == case.commitments


def test_commitments_are_the_same_in_another_circuit() -> None:
    _, _, _, inputs = honest()
    assert prove(problem("ridge"), inputs).commitments == hinge().commitments


def test_a_dataset_that_spreads_over_several_kzg_columns() -> None:
    """Each of its points counts, in its place."""
    p = problem(rows=200, features=10, tau=256)
    records = records_for(p)
    forgotten = records[3:4, :10]
    inputs = Inputs.of(p, records, solve(module_of(p), records, [forgotten]), forgotten)
    case = prove(p, inputs)
    data, weights, forgot = case.commitments
    assert list(data) == commit(inputs.records, load(srs(LOGROWS)))
    assert len(data) == p.layouts[0].points == 2
    assert check(case, accepted={case.digest})[-1] == 198
    for wrong in ((data[1], data[0]), (weights[0], data[1])):
        with pytest.raises(ZkProofError):
            check(case, accepted={case.digest}, commitments=[wrong, weights, forgot])
    with pytest.raises(ZkProofError, match="expected 2 points for input 0, got 1"):
        check(case, accepted={case.digest}, commitments=[data[:1], weights, forgot])


@pytest.mark.parametrize("loss", LOSSES)
def test_settings_and_verification_key_are_the_same_bytes_each_time(loss: Loss, tmp_path: Path) -> None:
    p = problem(loss)
    first = circuit_of(p)
    again = prover.compile(to_onnx(module_of(p), [layout.shape for layout in p.layouts]), p.fixed_point)
    assert again.settings == first.settings
    one, two = (prover.setup(c, srs(LOGROWS), cache=tmp_path / n) for c, n in ((first, "a"), (again, "b")))
    assert one.vk == two.vk
    assert one.usage is not None


def test_keys_come_from_the_cache_the_second_time() -> None:
    case = hinge()
    assert case.keys
    keys = prover.setup(case.circuit, srs(LOGROWS), cache=cache())
    assert keys.usage is None
    assert keys.vk == case.vk
    assert not list(cache().glob("new-*"))


def test_values_out_of_range_are_an_error_before_proving() -> None:
    case = hinge()
    rest = case.inputs.all[1:]
    with pytest.raises(ProverError, match="got another at place 0 of input 0"):
        prover.prove(case.circuit, [(1 << 40, *case.inputs.records[1:]), *rest], srs(LOGROWS), case.keys)
    with pytest.raises(ProverError, match=r"expected inputs of .* values"):
        prover.prove(case.circuit, [case.inputs.records[1:], *rest], srs(LOGROWS), case.keys)
    with pytest.raises(ProverError, match=r"(gen_witness|mock) failed"):  # in range, but its square is not
        prover.prove(case.circuit, [(1 << 30, *case.inputs.records[1:]), *rest], srs(LOGROWS), case.keys)


def test_progress_names_the_stages_and_the_time_left() -> None:
    case, heard = hinge(), []
    prover.prove(
        case.circuit, case.inputs.all, srs(LOGROWS), case.keys, progress=lambda stage, left: heard.append((stage, left))
    )
    assert [stage for stage, _ in heard] == ["gen_witness", "mock", "prove"]
    assert heard[0][1] > heard[1][1] > heard[2][1] > 0


def test_what_would_not_fit_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    case = hinge()
    monkeypatch.setattr(child, "run", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(ResourceError, match=r"about 0.1 GB for \d+ cells at logrows 11, there are 0.0 GB"):
        prover.prove(case.circuit, case.inputs.all, srs(LOGROWS), case.keys, memory=10_000_000)
    monkeypatch.setattr(prover, "available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match=r"there are 0.0 GB"):
        prover.setup(case.circuit, srs(LOGROWS), cache=Path("nowhere"))


def test_the_estimate_is_near_what_it_took() -> None:
    case = hinge()
    expected = case.circuit.estimate()
    proved = prover.prove(case.circuit, case.inputs.all, srs(LOGROWS), case.keys)
    assert expected.memory / 2 < proved.usage.rss < expected.memory * 2
    assert abs(expected.proof_size - len(case.proof)) < 100
    assert abs(logistic().circuit.estimate().proof_size / len(logistic().proof) - 1) < 0.15
    assert estimate.available_memory() is None or estimate.available_memory() > 0


def test_a_proof_that_takes_too_long_is_stopped() -> None:
    case = hinge()
    with pytest.raises(ProverError, match=r"longer than the limit of 0\.3 seconds"):
        prover.prove(case.circuit, case.inputs.all, srs(LOGROWS), case.keys, seconds=0.3)


def test_a_damaged_proving_key_is_an_error(tmp_path: Path) -> None:
    case = hinge()
    (tmp_path / "pk").write_bytes(case.keys.pk.read_bytes()[:5000])
    with pytest.raises(ProverError, match="prove failed"):
        prover.prove(case.circuit, case.inputs.all, srs(LOGROWS), prover.Keys(case.vk, tmp_path / "pk"))


def test_a_process_killed_by_the_system_is_an_error_that_says_so() -> None:
    case = hinge()

    def killed(stage: str, left: float) -> None:
        if stage == "prove":
            for pid in children():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(ProverError, match="killed by the system, as happens when memory runs out"):
        prover.prove(case.circuit, case.inputs.all, srs(LOGROWS), case.keys, progress=killed)


def children() -> list[int]:
    """Processes that work for the prover: others, like a database of the tests', are none of ours."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    if not path.is_file():
        pytest.skip("needs Linux's /proc")
    found = [int(pid) for pid in path.read_text().split()]
    return [pid for pid in found if b"child_main.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_onnx_that_is_none_is_an_error() -> None:
    with pytest.raises(ProverError, match="gen_settings failed"):
        prover.compile(b"not onnx", fixed_point(1 << 30, LOGROWS))


def test_inputs_are_gone_from_disk_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = hinge()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    prover.prove(case.circuit, case.inputs.all, srs(LOGROWS), case.keys)
    with pytest.raises(ProverError):
        prover.prove(case.circuit, [(1 << 30, *case.inputs.records[1:]), *case.inputs.all[1:]], srs(LOGROWS), case.keys)
    with pytest.raises(ProverError):
        prover.prove(case.circuit, case.inputs.all, srs(LOGROWS), case.keys, seconds=0.2)
    assert list(tmp_path.iterdir()) == []


def test_fixed_point_takes_the_fewest_digits_that_hold_the_bound() -> None:
    assert fixed_point(2040**2 - 1, 11).legs == 2
    assert fixed_point(2040**2, 11).legs == 3
    assert fixed_point(1 << 30, 14).legs == 3
    assert fixed_point(1 << 24, 14, param_scale=10, table=7808, division=7).legs == 3
    assert fixed_point(1 << 24, 14, param_scale=10, table=7808, division=6).legs == 4  # of 6 bits, for 13 bits and 6
    for bound, logrows in ((0, 11), (5, 3), (1 << 120, 11)):
        with pytest.raises(ProverError):
            fixed_point(bound, logrows)
