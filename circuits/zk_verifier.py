"""A zk proof, the commitments it must be about, and a circuit that the caller accepts: the public values, or an error.

::

    values = verify(proof, vk=vk, settings=settings, srs_1=kzg1, commitments=[data, weights, forgotten],
                    accepted={sha256(vk)})          # (-353, 328, …, 39)

(1) The verification key and the reference string are ones that the caller believes in; nothing else that comes with
the proof is trusted. (2) The settings describe an integer circuit (every scale 0, but for what comes out of an
accepted circuit's table) of committed inputs, fixed parameters and public outputs, with range checks on, for the
key's logrows. (3) There are exactly as many commitments, of as many points, as the circuit has committed tensors:
EZKL's swap replaces no more points than it is given, and the rest would be the prover's choice. (4) The proof's own
commitments are the expected ones. (5) They are overwritten by the expected ones all the same, and halo2's verifier
runs, in a process with limits. (6) The values come from the proof's instances and from nowhere else.

Needs ezkl and nothing that a prover needs.
"""

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from typing import Any

from circuits import child
from circuits.commitment import UNUSABLE_ROWS, column_count, read_point
from circuits.errors import CommitmentError, ZkProofError
from circuits.srs import CEREMONY, REDUCED_SIZE
from circuits.zk_proof import Proof, load_json

CEREMONY_SRS_1 = bytes.fromhex(CEREMONY[1])
"""SHA-256 of the perpetual powers of tau at logrows 1, 516 bytes."""
MAX_VK = 64 << 20
MAX_SETTINGS = 4 << 20
SECONDS = 120.0
MEMORY = 8 << 30


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def verify(
    proof: bytes,
    *,
    vk: bytes,
    settings: bytes,
    srs_1: bytes,
    commitments: Sequence[Sequence[bytes]],
    accepted: Collection[bytes],
    accepted_srs: Collection[bytes] = (CEREMONY_SRS_1,),
    param_scale: int = 0,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> tuple[int, ...]:
    """The public outputs that ``proof`` establishes, as signed integers in the circuit's order.

    ``commitments``: for each committed tensor, in the order of the circuit's inputs, its points, 32 bytes each,
    compressed; from a source that the prover could not choose. ``accepted``: SHA-256 digests of verification keys.
    ``accepted_srs``: SHA-256 digests of 516-byte reference strings. ``param_scale``: of the accepted circuit, as in
    :attr:`Problem.fixed_point`; values are the raw integers, never divided by it. ``seconds`` and ``memory`` (bytes) bound what a
    hostile proof can cost.

    Raises :class:`ZkProofError`.
    """
    parsed = Proof.parse(proof)
    logrows = accept(vk, srs_1, accepted, accepted_srs)
    fields = check_settings(settings, logrows, param_scale)
    _check_shapes(fields, logrows, len(parsed.instances), commitments)
    _check_own_points(parsed.transcript, commitments)
    points = [[point.hex() for point in tensor] for tensor in commitments]
    _verify_in_child(parsed, vk, fields, srs_1, points, seconds, memory)
    return parsed.instances


def accept(vk: bytes, srs_1: bytes, accepted: Collection[bytes], accepted_srs: Collection[bytes]) -> int:
    """Step 1. The logrows of a verification key that is accepted."""
    if sha256(vk) not in accepted:
        raise ZkProofError(f"expected one of {len(accepted)} accepted verification keys, got {sha256(vk).hex()}")
    if len(srs_1) != REDUCED_SIZE or sha256(srs_1) not in accepted_srs:
        raise ZkProofError(f"expected an accepted reference string of {REDUCED_SIZE} bytes, got {sha256(srs_1).hex()}")
    if not 3 <= len(vk) <= MAX_VK or vk[0] != 3 or not 1 <= vk[1] <= 26:
        raise ZkProofError(f"expected a halo2 verification key of version 3, got {vk[:3].hex()}…, {len(vk)} bytes")
    return vk[1]


def check_settings(settings: bytes, logrows: int, param_scale: int = 0) -> dict[str, Any]:
    """Step 2. The settings of an integer circuit for ``logrows``, with outputs of scale 0 or ``param_scale``."""
    fields = load_json(settings, MAX_SETTINGS, "settings")
    arguments = fields.get("run_args")
    if not isinstance(arguments, dict):
        raise ZkProofError("expected run_args in the settings, got none")
    expected = {
        "logrows": logrows,
        "input_scale": 0,
        "param_scale": param_scale,
        "input_visibility": "KZGCommit",
        "param_visibility": "Fixed",
        "output_visibility": "Public",
        "ignore_range_check_inputs_outputs": False,
        "disable_freivalds": True,
    }
    for name, value in expected.items():
        if arguments.get(name) != value or type(arguments[name]) is not type(value):
            raise ZkProofError(f"expected {name} {value!r} in the settings, got {arguments.get(name)!r}"[:300])
    if fields.get("num_blinding_factors") is not None:
        raise ZkProofError(
            f"expected the usual {UNUSABLE_ROWS} unusable rows, got {fields['num_blinding_factors']!r}"[:300]
        )
    for name, allowed in (("model_input_scales", {0}), ("model_output_scales", {0, param_scale})):
        scales = fields.get(name)
        if not isinstance(scales, list) or any(type(scale) is not int or scale not in allowed for scale in scales):
            wanted = " or ".join(map(str, sorted(allowed)))
            raise ZkProofError(f"expected {name} {wanted} in the settings, got {scales!r}"[:300])
    return fields


def _check_shapes(fields: dict[str, Any], logrows: int, instances: int, commitments: Sequence[Sequence[bytes]]) -> None:
    """Step 3."""
    try:
        outputs = sum(math.prod(shape) for shape in fields["model_instance_shapes"])
        lengths = [int(length) for length in fields["module_sizes"]["polycommit"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ZkProofError(f"expected shapes in the settings, got {error!r}"[:300]) from None
    if instances != outputs:
        raise ZkProofError(f"expected {outputs} public values, got {instances}")
    if not commitments or len(commitments) != len(lengths):
        raise ZkProofError(f"expected a commitment for each of {len(lengths)} tensors, got {len(commitments)}")
    for index, (length, tensor) in enumerate(zip(lengths, commitments, strict=True)):
        try:
            count = column_count(length, logrows)
            for point in tensor:
                read_point(point)
        except CommitmentError as error:
            raise ZkProofError(f"expected a commitment to {length} values for input {index}, got: {error}") from None
        if len(tensor) != count:
            raise ZkProofError(f"expected {count} points for input {index}, got {len(tensor)}")
    if len({point for tensor in commitments for point in tensor}) < sum(map(len, commitments)):
        raise ZkProofError("expected different commitments, got two that are equal, at which ezkl panics")


def _check_own_points(transcript: bytes, commitments: Sequence[Sequence[bytes]]) -> None:
    """Step 4. The transcript opens with the commitments, x and y in 32 bytes each, big-endian."""
    at = 0
    for index, tensor in enumerate(commitments):
        for point in tensor:
            x, y = read_point(point)
            own = transcript[at : at + 64]
            if own != x.to_bytes(32, "big") + y.to_bytes(32, "big"):
                raise _refusal(f"one about another commitment than {point.hex()} for input {index}: {own.hex()}")
            at += 64


def _verify_in_child(
    proof: Proof,
    vk: bytes,
    settings: dict[str, Any],
    srs_1: bytes,
    points: list[list[str]],
    seconds: float,
    memory: int,
) -> None:
    """Step 5."""
    witness: dict[str, Any] = {
        "inputs": [],
        "outputs": [],
        "processed_inputs": {"polycommit": points},
        "processed_params": None,
        "processed_outputs": None,
        "max_lookup_inputs": 0,
        "min_lookup_inputs": 0,
        "max_range_size": 0,
    }
    with child.folder() as work:
        (work / "vk").write_bytes(vk)
        (work / "srs").write_bytes(srs_1)
        (work / "settings").write_text(json.dumps(settings))
        (work / "proof").write_bytes(proof.to_ezkl())
        (work / "witness").write_text(json.dumps(witness))
        calls = [
            child.Call("swap_proof_commitments", {"proof_path": "proof", "witness_path": "witness"}),
            child.Call(
                "verify",
                {
                    "proof_path": "proof",
                    "settings_path": "settings",
                    "vk_path": "vk",
                    "srs_path": "srs",
                    "reduced_srs": True,
                },
            ),
        ]
        child.run(calls, work, seconds=seconds, memory=memory, error=_refusal)


def _refusal(reason: str) -> ZkProofError:
    return ZkProofError(f"expected a proof for this circuit, these commitments and these public values, got: {reason}")
