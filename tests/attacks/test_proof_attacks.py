"""Attacks on zk proofs. Where a careless verifier (``ezkl.verify`` on what was sent) is fooled, the test shows that as well."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from circuits import child, prover, zk_verifier
from circuits.commitment import commit
from circuits.errors import ProverError, ZkProofError
from circuits.export import run_torch
from circuits.optimum import module_of, solve
from circuits.problem import Loss
from circuits.srs import load, reduced
from circuits.vicinity import radius
from circuits.zk_proof import Proof
from tests.proving import (
    FORGOTTEN,
    LOGROWS,
    Case,
    Inputs,
    check,
    hinge,
    honest,
    logistic,
    naive,
    problem,
    prove,
    records_for,
    ridge,
    salted,
    srs,
)

NOT_ACCEPTED = "accepted verification keys"
DOES_NOT_HOLD = "expected a proof for this circuit, these commitments and these public values"


def commitment(values: tuple[int, ...] | list[int]) -> tuple[bytes, ...]:
    return tuple(commit(values, load(srs(LOGROWS))))


def radius_of(case: Case) -> float:
    p = case.module.problem
    return radius(check(case, accepted={case.digest})[:-1], scale_w=p.scale_w, penalty=p.penalty)


def other_record() -> Case:
    """A proof that forgets record 5 where record 3 was asked for: cheaper, since record 5 hardly matters."""
    module, records, _, _ = honest()
    other = records[5:6, :5]
    weights = solve(module, records, [other])
    return prove(module.problem, Inputs.of(module.problem, records, weights, other))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_another_dataset_other_weights_another_forgotten_record(which: int) -> None:
    """Each in turn is the same tensor with one value changed, as the ledger would have it."""
    case = hinge()
    changed = list(case.inputs.all[which])
    changed[0] += 1
    expected = list(case.commitments)
    expected[which] = commitment(changed)
    with pytest.raises(ZkProofError, match=rf"another commitment than .* for input {which}"):
        check(case, commitments=expected)
    with pytest.raises(ZkProofError, match=r"constraint system is not satisfied|Multi-opening"):
        halo2(case, expected)  # the proof with its own commitments overwritten


def halo2(case: Case, commitments: list[tuple[bytes, ...]]) -> None:
    """The last step of the verifier alone."""
    points = [[point.hex() for point in tensor] for tensor in commitments]
    settings, srs_1 = json.loads(case.circuit.settings), srs(1).read_bytes()
    zk_verifier._verify_in_child(Proof.parse(case.proof), case.vk, settings, srs_1, points, 60, 8 << 30)


def test_the_same_values_under_other_salt_are_another_commitment() -> None:
    case = hinge()
    expected = [case.commitments[0], case.commitments[1], commitment([*case.inputs.forgotten[0][:-1], 7])]
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(case, commitments=expected)


def test_a_proof_about_another_record_passes_a_naive_verifier_and_not_ours() -> None:
    attack = other_record()
    naive(attack)  # commitments are whatever the prover says
    check(attack)  # true, but of another request
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(attack, commitments=[*attack.commitments[:2], hinge().commitments[2]])


def test_a_proof_replayed_for_another_request() -> None:
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), commitments=[*hinge().commitments[:2], other_record().commitments[2]])


def test_commitments_in_another_order() -> None:
    data, weights, forgotten = hinge().commitments
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), commitments=[data, forgotten, weights])


def test_ezkls_swap_checks_only_the_commitments_it_is_given() -> None:
    """With fewer expected commitments than the circuit has, EZKL accepts the prover's own for the rest."""
    case = other_record()
    halo2(case, [])  # what the count in step 3 is for
    with pytest.raises(ZkProofError, match="expected a commitment for each of 3 tensors, got 2"):
        check(case, commitments=case.commitments[:2])


def test_the_commitments_of_two_requests_swapped() -> None:
    """Two committed tensors, the records near either left out. Each stands for its own request."""
    p = problem(forgotten=(1, 2))
    records = records_for(p)
    first, second = records[[FORGOTTEN], :5], records[[5, 20], :5]
    inputs = Inputs.of(p, records, solve(module_of(p), records, [first, second]), first, second)
    case = prove(p, inputs)
    assert case.instances == run_torch(case.module, inputs.tensors(p))
    assert check(case, accepted={case.digest})[-1] == p.rows - 4  # and the near-duplicate
    data, weights, one, two = case.commitments
    assert (one, two) == (commitment(inputs.forgotten[0]), commitment(inputs.forgotten[1]))
    naive(case)
    for forgotten in ((two, one), (one, one), (one, hinge().commitments[2])):
        with pytest.raises(ZkProofError):
            check(case, accepted={case.digest}, commitments=[data, weights, *forgotten])


def test_two_equal_commitments() -> None:
    case = hinge()
    data, weights, _ = case.commitments
    with pytest.raises(ZkProofError, match="two that are equal"):
        check(case, commitments=[data, weights, weights])
    with pytest.raises(ZkProofError):  # and were it to get there, nothing worse
        halo2(case, [data, weights, weights])


@pytest.mark.parametrize("index", range(6))
def test_a_tampered_instance(index: int) -> None:
    proof = Proof.parse(hinge().proof)
    instances = list(proof.instances)
    instances[index] = 0 if instances[index] else 1
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), proof=Proof(tuple(instances), proof.transcript).format())


def test_instances_added_or_left_out() -> None:
    proof = Proof.parse(hinge().proof)
    for instances in (proof.instances[:-1], (*proof.instances, 0), ()):
        with pytest.raises(ZkProofError, match="expected 6 public values"):
            check(hinge(), proof=Proof(instances, proof.transcript).format())


@pytest.mark.parametrize("place", [0, 31, 64, 191, 192, 2000, -1])
def test_a_flipped_bit_of_the_transcript(place: int) -> None:
    """The first 192 bytes are the prover's own commitments."""
    proof = Proof.parse(hinge().proof)
    transcript = bytearray(proof.transcript)
    transcript[place] ^= 1
    raw = Proof(proof.instances, bytes(transcript)).format()
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), proof=raw)


@pytest.mark.parametrize("keep", [32, 64, 192, 3200, -32])
def test_a_truncated_transcript(keep: int) -> None:
    proof = Proof.parse(hinge().proof)
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), proof=Proof(proof.instances, proof.transcript[:keep]).format())


def test_bytes_after_the_transcript_change_nothing_that_is_proven() -> None:
    """halo2 reads as many bytes as the key asks for. Who must have one form of a proof signs its bytes."""
    proof = Proof.parse(hinge().proof)
    assert check(hinge(), proof=Proof(proof.instances, proof.transcript + bytes(32)).format()) == proof.instances


def test_a_transcript_of_garbage() -> None:
    proof = Proof.parse(hinge().proof)
    for byte in (b"\0", b"\x01", b"\xff"):
        with pytest.raises(ZkProofError):
            check(hinge(), proof=Proof(proof.instances, byte * len(proof.transcript)).format())


def test_edited_pretty_public_inputs_are_not_read() -> None:
    fields = json.loads(Proof.parse(hinge().proof).to_ezkl())
    fields["pretty_public_inputs"] = {name: [["0"] * 6] for name in ("rescaled_outputs", "outputs")} | {
        name: [] for name in ("rescaled_inputs", "inputs", "processed_inputs", "processed_params", "processed_outputs")
    }
    forged = json.dumps(fields).encode()
    naive(hinge(), forged)  # it says nothing of what a reader of the file would see
    assert check(hinge(), proof=Proof.from_ezkl(forged).format()) == hinge().instances


def test_a_verification_key_of_the_attackers_circuit() -> None:
    """A circuit whose tau is negligible, or with another penalty, proves something else."""
    p = problem(tau=0)
    attack = prove(p, honest()[3])
    naive(attack)
    with pytest.raises(ZkProofError, match=NOT_ACCEPTED):
        check(attack)
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(attack, vk=hinge().vk)
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(attack, vk=hinge().vk, settings=hinge().circuit.settings)


def test_onnx_of_another_loss_has_another_key() -> None:
    assert ridge().digest != hinge().digest
    with pytest.raises(ZkProofError, match=NOT_ACCEPTED):
        check(hinge(), accepted={ridge().digest})
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), vk=ridge().vk, settings=ridge().circuit.settings)


def test_a_damaged_key_even_if_accepted_is_a_refusal() -> None:
    vk = hinge().vk
    for damaged in (vk[:1000], vk[:3], vk[:200] + b"\xff" * (len(vk) - 200)):
        with pytest.raises(ZkProofError):
            check(hinge(), vk=damaged, accepted={zk_verifier.sha256(damaged)})


def test_settings_that_lie_about_the_scale() -> None:
    """EZKL verifies all the same: the scale in the settings is nobody's word. Ours takes no scale but 0."""
    fields = json.loads(hinge().circuit.settings)
    fields["model_output_scales"] = [14, 0]
    lying = json.dumps(fields).encode()
    case = hinge()
    naive(replace(case, circuit=replace(case.circuit, settings=lying)))
    with pytest.raises(ZkProofError, match="expected model_output_scales 0"):
        check(hinge(), settings=lying)


@pytest.mark.parametrize(("name", "value"), [("num_inner_cols", 1), ("num_inner_cols", 10**6)])
def test_settings_of_another_circuit(name: str, value: int) -> None:
    """Columns that the key does not have; a million of them would take for ever."""
    fields = json.loads(hinge().circuit.settings)
    fields["run_args"][name] = value
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), settings=json.dumps(fields).encode(), seconds=5)


def test_settings_without_range_checks_do_not_switch_them_off() -> None:
    """They are in the verification key: settings that leave them out describe another circuit."""
    fields = json.loads(hinge().circuit.settings) | {"required_range_checks": []}
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(hinge(), settings=json.dumps(fields).encode())


def test_a_reference_string_whose_secret_the_prover_knows(tmp_path: Path) -> None:
    srs(LOGROWS)
    with child.folder() as work:
        for logrows in (LOGROWS, 1):
            call = child.Call("gen_srs", {"srs_path": str(tmp_path / f"{logrows}.srs"), "logrows": logrows})
            child.run([call], work, seconds=60, error=ProverError)
    attack = prove(problem(), honest()[3], tmp_path / f"{LOGROWS}.srs")
    key = {attack.digest}
    naive(attack, srs_1=own_half(tmp_path / f"{LOGROWS}.srs"))
    with pytest.raises(ZkProofError, match="accepted verification keys"):
        check(attack)
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(attack, accepted=key)  # the ceremony's 516 bytes
    with pytest.raises(ZkProofError, match="accepted reference string"):
        check(attack, accepted=key, srs_1=own_half(tmp_path / f"{LOGROWS}.srs"))


def own_half(path: Path) -> bytes:
    return reduced(load(path))


def test_a_record_present_twice_or_jittered_goes_as_well() -> None:
    """Row 17 is the forgotten record with noise: the public count says that two records went."""
    module, records, weights, _ = honest()
    assert check(hinge())[-1] == module.problem.rows - 2
    again = records.clone()
    again[30] = again[FORGOTTEN]
    tensors = Inputs.of(module.problem, again, weights, again[FORGOTTEN : FORGOTTEN + 1, :5]).tensors(module.problem)
    assert run_torch(module, tensors)[-1] == module.problem.rows - 3


@pytest.mark.parametrize("loss", ["ridge", "squared-hinge", "logistic"])
def test_weights_trained_with_the_forgotten_record_show(loss: Loss) -> None:
    """Their gradient puts the optimum without the record as far as it is, and farther: no small radius can be claimed."""
    module, records, clean, inputs = honest(loss)
    p = module.problem
    nothing = torch.full((1, p.features), 1 << 12)
    dirty = solve(module, records, [nothing])  # nobody is near that, so all records count
    attack = prove(p, Inputs(inputs.records, salted(p.layouts[1], dirty, 1), inputs.forgotten))
    distance = np.linalg.norm((dirty - clean).double().numpy()) / p.scale_w
    honest_radius = radius_of(prove(p, inputs))
    assert radius_of(attack) + honest_radius >= distance > 10 * honest_radius


def test_a_forgotten_record_hidden_by_another_scale() -> None:
    """Twice the record is no record's neighbour: nothing would be excluded. It is not what the request committed to."""
    module, records, _, inputs = honest()
    hidden = 2 * records[FORGOTTEN : FORGOTTEN + 1, :5]
    p = module.problem
    attack = prove(p, Inputs(inputs.records, inputs.weights, (salted(p.layouts[2], hidden, 2),)))
    assert check(attack)[-1] == p.rows
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(attack, commitments=[*attack.commitments[:2], hinge().commitments[2]])


def test_numbers_that_would_wrap_around_the_field_are_out_of_range() -> None:
    """A distance near the field's order would look small or negative. Inputs and distances are range-checked: no witness."""
    case = hinge()
    for value in (1 << 253, -(1 << 253), 1 << 127, 1 << 32):
        records = (value, *case.inputs.records[1:])
        with pytest.raises(ProverError):
            prover.prove(case.circuit, [records, *case.inputs.all[1:]], srs(LOGROWS), case.keys)


def test_margins_beyond_the_table_count_as_its_ends() -> None:
    """Weights so large that every margin is beyond: their gradient is theirs, and no look-up has another answer."""
    module, _, weights, inputs = honest("logistic")
    p = module.problem
    far = Inputs(inputs.records, salted(p.layouts[1], 100 * weights, 1), inputs.forgotten)
    attack = prove(p, far)
    assert check(attack, accepted={attack.digest}) == run_torch(module, far.tensors(p), p.output_scales)
    assert radius_of(attack) > 50


@pytest.mark.parametrize("label", [2, 1000])
def test_arguments_outside_of_the_table_have_no_witness(label: int) -> None:
    """A label that is neither -1 nor 1 multiplies a margin at the table's end."""
    module, records, weights, _ = honest("logistic")
    p = module.problem
    records = records.clone()
    records[0, :5] = 1 << 9
    records[0, 5] = label
    inputs = Inputs.of(p, records, 1000 * weights.abs() + 1000, records[[FORGOTTEN], :5])
    case = logistic()
    with pytest.raises(ProverError, match=r"(gen_witness|mock) failed"):
        prover.prove(case.circuit, inputs.all, srs(LOGROWS), case.keys)
