"""Step 9 for commitments: what the holder of weights or of a receipt sees, and what makes them see nothing."""

import math
import struct
from functools import cache

import pytest
from msgspec.structs import replace as changed

from certify import chain as chains
from certify import exclusion, openings
from certify.bundle import Bundle
from certify.chain import Link
from certify.errors import DigestError, MismatchError
from certify.exclusion import Exclusion
from certify.receipt import Receipt, ZkOpening, ZkOpenings
from certify.statement import Statement
from tests.exclusion_cases import accepted, first, ledger, people

NAMED = "the weights given are not those that the proof is about"


@cache
def proven() -> tuple[Exclusion, Bundle]:
    bundle = first().told()[1]
    links = [
        Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload)) for entry in bundle.entries
    ]
    found = exclusion.check(chains.build(links), bundle, dict.fromkeys(accepted(), "me"), max_radius=1)
    assert found is not None
    return found, bundle


def weights() -> bytes:
    return ledger().forgot[0].weights["weight"].numpy().tobytes()


def match(data: bytes) -> str:
    return openings.match_weights(lambda name: data, first().certificate, *proven())


@cache
def receipt() -> Receipt:
    return ledger().receipt()


def zk() -> ZkOpenings:
    found = receipt().zk
    assert found is not None
    return found


def match_receipt(receipt: Receipt) -> list[str]:
    return openings.match_receipt(receipt, first().training, first().requests[0], proven()[1])


def test_weights_that_were_proven() -> None:
    expected = "the weights given are the integers that the proof is about, over 16,384, to the last bit"
    assert match(weights()) == expected


@pytest.mark.parametrize("size", [0, 4, 16, 19, 24, 1 << 20])
def test_weights_of_another_size(size: int) -> None:
    with pytest.raises(MismatchError, match=NAMED):
        match(weights().ljust(size, b"\0")[:size])


@pytest.mark.parametrize("bit", range(0, 160, 13))
def test_weights_with_a_bit_flipped(bit: int) -> None:
    """Each of which the certificate's digest would tell as well."""
    data = bytearray(weights())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MismatchError, match=NAMED):
        match(bytes(data))


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_floats_are_integers_over_the_scale() -> None:
    assert openings._integers("weight", floats(1, -0.5, 0, 2**-14, 3e38), 1 << 14)[:4] == [16384, -8192, 0, 1]
    assert openings._integers("weight", b"", 1 << 14) == []


@pytest.mark.parametrize("value", [2**-15, 0.1, -0.0, math.nan, math.inf, -math.inf, 1e-45])
def test_floats_that_are_no_integers_over_the_scale(value: float) -> None:
    with pytest.raises(DigestError, match="expected multiples of 1/16384 in weight"):
        openings._integers("weight", floats(1, value), 1 << 14)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_bytes_that_are_no_floats(size: int) -> None:
    with pytest.raises(DigestError, match=f"expected float32 in weight, {size} bytes came"):
        openings._integers("weight", bytes(size), 1 << 14)


def test_a_receipt_of_the_record_that_was_left_out() -> None:
    assert match_receipt(receipt()) == [
        "row 3 of the data that the proof is about holds the receipt's 5 numbers, and so does what the proof leaves out",
        "these numbers are the receipt's record, encoded as the training states",
    ]
    values = [round(x * 128) for x in people()["p3"][:5]]
    assert zk().request.values == values and zk().training.values == [*values, 1 if people()["p3"][5] else -1]


def test_a_receipt_is_a_few_hundred_bytes_more() -> None:
    """However many records there are: two openings of two points each."""
    assert Receipt.parse(receipt().to_json()) == receipt()
    assert [len(part.openings) for part in (zk().request, zk().training)] == [1, 1]
    assert len(receipt().to_json()) - len(changed(receipt(), zk=None).to_json()) < 500


def test_statements_without_commitments_ask_for_no_openings() -> None:
    bundle = proven()[1]
    training, request = first().training, first().requests[0]
    assert openings.match_receipt(receipt(), changed(training, zk=None), request, bundle) == []
    assert openings.match_receipt(receipt(), training, changed(request, zk=None), bundle) == []


ODD: dict[str, ZkOpening] = {
    "no such point": ZkOpening([0] * 6, ["ff" * 64]),
    "the point at infinity": ZkOpening([0] * 6, ["00" * 31 + "40" + "00" * 31 + "40"]),
    "of a single row": ZkOpening([0] * 6, ["01" + "00" * 31]),
    "too many numbers": ZkOpening([0] * 7, ["00" * 64]),
    "too few numbers": ZkOpening([0], ["00" * 64]),
    "many openings": ZkOpening([0] * 6, ["00" * 64] * 64),
    "numbers beyond reason": ZkOpening([2**53 - 1] * 6, ["01" + "00" * 63]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("where", ["training", "request"])
def test_openings_that_are_none(name: str, where: str) -> None:
    lie = ODD[name] if where == "training" else changed(ODD[name], values=ODD[name].values[1:])
    with pytest.raises(MismatchError, match="the receipt does not match"):
        match_receipt(changed(receipt(), zk=changed(zk(), **{where: lie})))


def test_the_labels_of_a_row_are_opened_too() -> None:
    """With the label alone changed, the record would have counted for the other class."""
    values = [*zk().training.values[:-1], -zk().training.values[-1]]
    with pytest.raises(MismatchError, match="do not hold"):
        match_receipt(changed(receipt(), zk=changed(zk(), training=changed(zk().training, values=values))))


def test_a_bundle_without_the_reference_string() -> None:
    _, bundle = proven()
    bare = Bundle(bundle.entries, bundle.manifests, {}, {}, points=bundle.points)
    with pytest.raises(MismatchError, match="the bundle has no reference string"):
        openings.match_receipt(receipt(), first().training, first().requests[0], bare)
