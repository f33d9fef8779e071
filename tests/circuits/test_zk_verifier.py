"""The verifier's answers and refusals, one argument at a time."""

import contextlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import child, zk_verifier
from circuits.errors import ZkProofError
from circuits.zk_proof import MAGIC, ORDER, Proof, felt, signed
from tests.proving import check, hinge, logistic, srs


def test_the_values_are_the_proofs_instances() -> None:
    assert check(hinge()) == hinge().instances


def test_it_needs_nothing_that_a_prover_needs() -> None:
    heavy = ["torch", "numpy", "onnx", "onnxruntime", "sqlalchemy", "ezkl"]  # ezkl: in the child only
    code = f"import sys, circuits.zk_verifier, circuits.vicinity; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [0, 515, 517])
def test_a_reference_string_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ZkProofError, match="accepted reference string of 516 bytes"):
        check(hinge(), srs_1=(srs(1).read_bytes() + b"\0")[:size])


def test_every_expected_commitment_must_be_there() -> None:
    case = hinge()
    for commitments in ([], case.commitments[:2], [*case.commitments, case.commitments[0]]):
        with pytest.raises(ZkProofError, match="expected a commitment for each of 3 tensors"):
            check(case, commitments=commitments)
    data, weights, forgotten = case.commitments
    for points in ((), (*data, *weights)):
        with pytest.raises(ZkProofError, match="expected 1 points for input 0"):
            check(case, commitments=[points, weights, forgotten])
    with pytest.raises(ZkProofError, match="for input 1, got"):
        check(case, commitments=[data, (b"\xff" * 32,), forgotten])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logrows", 12),
        ("input_scale", 7),
        ("param_scale", 1),
        ("input_scale", False),
        ("input_visibility", "Private"),
        ("output_visibility", "Private"),
        ("ignore_range_check_inputs_outputs", True),
        ("disable_freivalds", False),
    ],
)
def test_settings_of_another_kind_of_circuit_are_refused(name: str, value: object) -> None:
    fields = json.loads(hinge().circuit.settings)
    fields["run_args"][name] = value
    with pytest.raises(ZkProofError, match=f"expected {name} "):
        check(hinge(), settings=json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_output_scales": [7, 0]}, "expected model_output_scales 0"),
        ({"model_input_scales": None}, "expected model_input_scales 0"),
        ({"num_blinding_factors": 9}, "usual 6 unusable rows"),
        ({"model_instance_shapes": [[5, 1], [2]]}, "expected 7 public values, got 6"),
        ({"model_instance_shapes": "many"}, "expected shapes in the settings"),
        ({"module_sizes": {"polycommit": [45 * 7]}}, "each of 1 tensors, got 3"),
        ({"module_sizes": {"polycommit": [2042, 80, 42]}}, "exactly fill"),
        ({"run_args": 3}, "expected run_args"),
    ],
)
def test_settings_that_contradict_the_proof_are_refused(changes: dict[str, object], message: str) -> None:
    fields = json.loads(hinge().circuit.settings) | changes
    with pytest.raises(ZkProofError, match=message):
        check(hinge(), settings=json.dumps(fields).encode())


def test_a_tables_scale_is_that_of_the_accepted_circuit() -> None:
    case = logistic()
    accepted = {case.digest}
    assert check(case, accepted=accepted) == case.instances
    for scale in (0, 8):
        with pytest.raises(ZkProofError, match=f"expected param_scale {scale} "):
            check(case, accepted=accepted, param_scale=scale)
    fields = json.loads(case.circuit.settings) | {"model_output_scales": [8, 0]}
    with pytest.raises(ZkProofError, match="expected model_output_scales 0 or 9"):
        check(case, accepted=accepted, settings=json.dumps(fields).encode())


def test_a_hang_ends_at_the_time_limit() -> None:
    with pytest.raises(ZkProofError, match=r"longer than the limit of 0\.01 seconds"):
        check(hinge(), seconds=0.01)


def test_memory_beyond_the_limit_is_a_refusal() -> None:
    with pytest.raises(ZkProofError, match=r"failed|killed"):
        check(hinge(), memory=24 << 20)


def test_a_panic_is_a_refusal() -> None:
    with child.folder() as work, pytest.raises(ZkProofError, match=r"PanicException|panicked"):
        call = child.Call("felt_to_int", {"felt": "00"})
        child.run([call], work, seconds=60, error=ZkProofError)


def test_a_proof_has_one_form_only() -> None:
    proof = hinge().proof
    parsed = Proof.parse(proof)
    assert parsed.format() == proof
    assert Proof.from_ezkl(parsed.to_ezkl()) == parsed


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "to start with"),
        (b"{}", "to start with"),
        (MAGIC + b"\xff\xff\xff\xff", "as the zk proof says"),
        (MAGIC + b"\1\0\0\0" + b"\xff" * 64, "below the field's order"),
        (MAGIC + b"\0\0\0\0", "expected a transcript"),
        (MAGIC + b"\0\0\0\0" + b"x" * 33, "expected a transcript"),
        (MAGIC + b"\0\0\0\0" + b"x" * (40 << 20), "at most 16777216 bytes"),
    ],
)
def test_malformed_proofs_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(ZkProofError, match=message):
        Proof.parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"instances":' * 20_000,
        b'{"instances":[["zz"]],"proof":[1]}',
        b'{"instances":[[],[]],"proof":[1]}',
        b'{"instances":[[]],"proof":[256]}',
        b'{"instances":[[]],"proof":1e400}',
        b'{"instances":[[]],"proof":"' + b"a" * 64 + b'"}',
        b"\xff\xfe",
    ],
)
def test_hostile_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ZkProofError):
        Proof.from_ezkl(raw)
    with pytest.raises(ZkProofError):
        zk_verifier.check_settings(raw, 11)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_random_bytes_parse_to_themselves_or_not_at_all(raw: bytes) -> None:
    for candidate in (raw, MAGIC + raw):
        with contextlib.suppress(ZkProofError):
            assert Proof.parse(candidate).format() == candidate


@given(st.integers(-(2**253), 2**253))
def test_signed_integers_survive_the_field(value: int) -> None:
    if abs(value) <= ORDER // 2:
        assert signed(felt(value)) == value
