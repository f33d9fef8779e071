"""Step 9 for zero-knowledge commitments: what holders of the weights, or of a receipt, can check by themselves.

A KZG opening shows what stands in some rows of a committed column and nothing of the others: one pairing equation, in py_ecc,
and no EZKL. With it, weights on disk turn out to be the integers that a proof is about, and a data subject's record a row of
the data that it is about.
"""

import struct
from collections.abc import Callable, Mapping, Sequence

from certify.bundle import Bundle
from certify.digest import TensorSource, hash_tensors
from certify.encoding import row_of
from certify.errors import DatasetError, DigestError, MismatchError
from certify.exclusion import Exclusion, split_points
from certify.receipt import Receipt, ZkOpening
from certify.statement import Request, Training, Unlearning
from certify.zk import BATCHES, FORGOTTEN, RECORDS, STATES, WEIGHTS, Commitments, Committed
from circuits.errors import CircuitError
from circuits.layout import Layout
from circuits.opening import Opening, verify_places
from circuits.srs import CEREMONY
from circuits.step_problem import StepProblem

Read = Callable[[str], bytes]
"""A tensor's bytes by its name."""


def match_weights(read: Read, certificate: Unlearning, exclusion: Exclusion, bundle: Bundle) -> str:
    """That released weights are the integers which the proof is about, over the scale. Raises MismatchError."""
    evidence, parameters = certificate.evidence, exclusion.parameters
    assert evidence is not None
    committed = evidence.commitments.find(WEIGHTS) or evidence.commitments.find(STATES)
    assert committed is not None  # the proof was checked
    layout = layout_of(committed, evidence.commitments.logrows)
    try:
        data = {name: read(name) for name in parameters.released}
        _check_hashes(data, certificate, bundle)
        tensors = {name: _integers(name, content, parameters.scale_w) for name, content in data.items()}
        matrix = parameters.arranged(tensors)
        points = split_points(bundle, committed, layout)[-1]
        openings = [Opening.parse(bytes.fromhex(text)) for text in evidence.openings]
        values = {
            place: value
            for row, line in enumerate(matrix)
            for place, value in zip(layout.places(row), line, strict=True)
        }
        _verify(points, dict(enumerate(openings)), values, layout, evidence.commitments, bundle)
    except (CircuitError, DigestError) as error:
        raise MismatchError(f"the weights given are not those that the proof is about: {error}") from error
    return f"the weights given are the integers that the proof is about, over {parameters.scale_w:,}, to the last bit"


def _integers(name: str, data: bytes, scale: int) -> list[int]:
    """float32 values as integers over the scale. Raises DigestError unless they are that, exactly."""
    if len(data) % 4:
        raise DigestError(f"expected float32 in {name}, {len(data)} bytes came")
    values = struct.unpack(f"<{len(data) // 4}f", data)
    for value in values:
        if not (value * scale).is_integer() or (value == 0 and struct.pack("<f", value) != bytes(4)):
            raise DigestError(f"expected multiples of 1/{scale} in {name}, {value!r} came")
    return [int(value * scale) for value in values]


def _check_hashes(data: Mapping[str, bytes], certificate: Unlearning, bundle: Bundle) -> None:
    """The bytes read are those of the manifest."""
    manifest = bundle.manifests[certificate.post.tensor_root]  # which step 7 has compared with what is released
    sources = [
        TensorSource.of(tensor.name, tensor.dtype, tensor.shape, data[tensor.name]) for tensor in manifest.tensors
    ]
    if hash_tensors(sources).root().hex() != certificate.post.tensor_root:
        raise DigestError("the weights changed while they were read")


def match_receipt(receipt: Receipt, training: Training, request: Request, bundle: Bundle) -> list[str]:
    """That the record is the one which proofs leave out, and stood in the data that they are about. Raises MismatchError."""
    if training.zk is None or request.zk is None:
        return []
    if receipt.zk is None:
        raise MismatchError(
            "the receipt does not match: it opens none of the numbers that the proof is about, expected the record's"
        )
    try:
        records = training.zk.find(RECORDS) or training.zk.find(BATCHES)
        forgotten = request.zk.find(FORGOTTEN)
        if records is None or forgotten is None:
            raise DatasetError("the statements commit to no such data")
        batch, row = divmod(receipt.training.index, records.rows)
        _open(receipt.zk.training, training.zk, records, batch, row, bundle)
        _open(receipt.zk.request, request.zk, forgotten, 0, receipt.request.index, bundle)
        features = receipt.zk.training.values[: forgotten.columns]
        if features != receipt.zk.request.values:
            raise DatasetError("the row that the request committed to is not that of the training data")
    except (CircuitError, DatasetError) as error:
        raise MismatchError(f"the receipt does not match: {error}") from error
    step = training.recipe.name == StepProblem.statement
    what = ("committed data", "request committed to") if step else ("data that the proof is about", "proof leaves out")
    lines = [
        f"row {receipt.training.index} of the {what[0]} holds the receipt's {len(features)} numbers, "
        f"and so does what the {what[1]}"
    ]
    encoding = training.zk.encoding
    if encoding is None:
        return lines
    try:
        expected = row_of(receipt.record, encoding)
    except DatasetError as error:
        raise MismatchError(f"the receipt's record cannot be encoded as the training states: {error}") from error
    if expected != receipt.zk.training.values:
        raise MismatchError("the numbers in the receipt are not those of its record, encoded as the training states")
    return [*lines, "these numbers are the receipt's record, encoded as the training states"]


def _open(opening: ZkOpening, stated: Commitments, committed: Committed, number: int, row: int, bundle: Bundle) -> None:
    layout = layout_of(committed, stated.logrows)
    if number >= committed.count:
        raise DatasetError(f"record {row} of tensor {number} is not among the {committed.count} committed ones")
    points = split_points(bundle, committed, layout)[number]
    places = layout.places(row)
    if len(opening.values) != len(places):
        raise DatasetError(f"expected {len(places)} numbers, the receipt has {len(opening.values)}")
    first = places[0] // _column_rows(layout)
    openings = {first + place: Opening.parse(bytes.fromhex(text)) for place, text in enumerate(opening.openings)}
    _verify(points, openings, dict(zip(places, opening.values, strict=True)), layout, stated, bundle)


def _column_rows(layout: Layout) -> int:
    from circuits.commitment import usable_rows

    return usable_rows(layout.logrows)


def layout_of(committed: Committed, logrows: int) -> Layout:
    return Layout(committed.rows, committed.columns, logrows, committed.proofs)


def _verify(
    points: Sequence[bytes],
    openings: Mapping[int, Opening],
    values: Mapping[int, int],
    layout: Layout,
    stated: Commitments,
    bundle: Bundle,
) -> None:
    srs_1 = bundle.srs.get(stated.srs)
    if srs_1 is None:
        raise DatasetError(f"the bundle has no reference string {stated.srs[:16]}")
    verify_places(
        points,
        openings,
        values,
        srs_1,
        count=layout.count,
        logrows=layout.logrows,
        allow_development=stated.srs != CEREMONY[1],  # step 7 has refused it unless it was asked not to
    )
