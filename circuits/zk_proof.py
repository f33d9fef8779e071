"""The bytes of a zk proof: public instances and the transcript, nothing else.

EZKL's own proof file is JSON with fields that its verifier ignores (``pretty_public_inputs``, ``hex_proof``); ours has
one meaning only::

    b"ezkl-kzg-evm/v1\\n"  ‖  u32-LE count  ‖  count x 32 bytes, little-endian, below the field's order  ‖  transcript

An instance is a field element; read as a signed number, the upper half of the field is negative.
:meth:`Proof.from_ezkl` and :meth:`Proof.to_ezkl` go from and to the JSON file (halo2-KZG, EVM transcript).
"""

import json
from dataclasses import dataclass
from typing import Any

from circuits.errors import ZkProofError

ORDER = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""Of the scalar field of BN254."""
MAGIC = b"ezkl-kzg-evm/v1\n"
MAX_INSTANCES = 1 << 16
MAX_TRANSCRIPT = 16 << 20
MAX_JSON = 128 << 20
FELT = 32


def felt(value: int) -> bytes:
    """A signed integer as a field element, 32 bytes little-endian."""
    if not -(ORDER // 2) <= value <= ORDER // 2:
        raise ValueError(f"expected an integer within half the field's order, got one of {value.bit_length()} bits")
    return (value % ORDER).to_bytes(FELT, "little")


def signed(element: bytes) -> int:
    """The integer that ``felt`` made 32 bytes from."""
    value = int.from_bytes(element, "little")
    if len(element) != FELT or value >= ORDER:
        raise ZkProofError(
            f"expected a field element of {FELT} bytes below the field's order, got {element.hex()[:80]}"
        )
    return value - ORDER if value > ORDER // 2 else value


def load_json(raw: bytes, limit: int, what: str) -> dict[str, Any]:
    """A JSON object of at most ``limit`` bytes, however it is meant to hurt."""
    if len(raw) > limit:
        raise ZkProofError(f"expected at most {limit} bytes of {what}, got {len(raw)}")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ZkProofError(f"expected JSON for {what}, got something else: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise ZkProofError(f"expected a JSON object for {what}, got {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class Proof:
    """A zk proof. ``instances`` are signed integers in the order of the circuit's public outputs."""

    instances: tuple[int, ...]
    transcript: bytes

    def format(self) -> bytes:
        count = len(self.instances).to_bytes(4, "little")
        return b"".join([MAGIC, count, *map(felt, self.instances), self.transcript])

    @classmethod
    def parse(cls, raw: bytes) -> "Proof":
        if len(raw) > len(MAGIC) + 4 + MAX_INSTANCES * FELT + MAX_TRANSCRIPT:
            raise ZkProofError(f"expected a zk proof of at most {MAX_TRANSCRIPT} bytes, got {len(raw)}")
        if not raw.startswith(MAGIC):
            raise ZkProofError(f"expected a zk proof to start with {MAGIC!r}, got {raw[: len(MAGIC)]!r}")
        start = len(MAGIC) + 4
        count = int.from_bytes(raw[len(MAGIC) : start], "little")
        end = start + FELT * count
        if count > MAX_INSTANCES or end > len(raw):
            raise ZkProofError(f"expected {count} instances as the zk proof says, got {len(raw) - start} bytes")
        transcript = raw[end:]
        if not transcript or len(transcript) % FELT or len(transcript) > MAX_TRANSCRIPT:
            raise ZkProofError(f"expected a transcript of points and scalars, got {len(transcript)} bytes")
        return cls(tuple(signed(raw[at : at + FELT]) for at in range(start, end, FELT)), transcript)

    @classmethod
    def from_ezkl(cls, raw: bytes) -> "Proof":
        """From EZKL's proof file. Only ``instances`` and ``proof`` are read."""
        fields = load_json(raw, MAX_JSON, "a zk proof")
        try:
            (column,) = fields["instances"]
            instances = tuple(signed(bytes.fromhex(element)) for element in column)
            transcript = bytes(fields["proof"])
        except (KeyError, TypeError, ValueError) as error:
            raise ZkProofError(f"expected instances and proof as ezkl writes them, got {error!r}"[:300]) from None
        return cls.parse(cls(instances, transcript).format())

    def to_ezkl(self) -> bytes:
        """As EZKL's proof file, for other people's verifiers."""
        fields: dict[str, Any] = dict.fromkeys(("protocol", "split", "pretty_public_inputs"))
        fields |= {"instances": [[felt(value).hex() for value in self.instances]], "proof": list(self.transcript)}
        fields |= {"hex_proof": "0x" + self.transcript.hex(), "timestamp": 0, "version": ""}
        return json.dumps(fields).encode()
