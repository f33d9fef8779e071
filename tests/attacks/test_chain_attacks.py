"""An operator whose signed and logged statements contradict each other or what comes with them; and what is given to compare.

Where ``without`` names a check, the same attack is tried with that check taken away and has to succeed.
"""

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as with_fields

from certify import chain, dataset, verifier
from certify.bundle import Bundle
from certify.digest import Manifest, diff
from certify.envelope import Envelope
from certify.errors import (
    BundleError,
    ChainError,
    MismatchError,
    OrderError,
)
from certify.statement import Changes, Statement, Tree, Unlearning
from tests.cases import (
    DATASET,
    LATER,
    POST,
    PRE,
    RECORDS,
    TREE,
    Case,
    certificate,
    manifest,
    model,
    receipt,
    request,
    run,
    stamp,
    training,
    usual_case,
)
from tests.verdict import BUNDLE, CASE, NO_ORDER, accept, nothing, refuse

NO_SETS = (chain, "_check_sets", nothing)
NO_COUNTS = (chain, "_check_counts", nothing)


def test_statement_that_rides_along() -> None:
    case = usual_case()
    case.say(request((7,)))
    refuse(case, ChainError, "has nothing to do with the case")
    case = usual_case()
    case.say(training(run=run(0, 2)))
    refuse(case, ChainError, "has nothing to do with the case")


def test_two_certificates_in_one_bundle() -> None:
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    case.certify(trained, asked)
    case.certify(trained, asked, post=LATER)
    refuse(case, ChainError, "has 2 certificates that no other follows")


def test_no_certificate_in_the_bundle() -> None:
    case = Case()
    case.say(training())
    refuse(case, ChainError, "has 0 certificates")


def test_same_statement_at_two_places() -> None:
    case = usual_case()
    case.log(Envelope.parse(case.entries[2]))
    refuse(case, BundleError, "a statement twice")


def extended(**parts: Any) -> Bundle:
    return replace(BUNDLE, **{name: {**getattr(BUNDLE, name), **more} for name, more in parts.items()})


def test_unreferenced_parts() -> None:
    refuse(extended(manifests={LATER.root().hex(): LATER}), ChainError, "belongs to no statement")
    refuse(extended(leaves={"0" * 64: bytes(32)}), ChainError, "belongs to no statement")
    refuse(extended(removed={"0" * 64: (1,)}), ChainError, "belongs to no statement")
    alone = replace(BUNDLE, removed={})  # leaves that nothing is computed from
    refuse(alone, ChainError, "belongs to no statement")
    refuse(replace(BUNDLE, leaves={}), ChainError, "belongs to no statement")


def test_manifest_of_another_model() -> None:
    refuse(extended(manifests={POST.root().hex(): LATER}), ChainError, "a manifest has tensor root")
    refuse(replace(BUNDLE, manifests={PRE.root().hex(): PRE}), ChainError, "no manifest of the model")


def test_manifest_with_one_hash_altered() -> None:
    tensors = [with_fields(tensor, chunks=bytes(32)) if tensor.name == "body" else tensor for tensor in POST.tensors]
    refuse(extended(manifests={POST.root().hex(): Manifest.of(tensors)}), ChainError, "a manifest has tensor root")


@pytest.mark.parametrize("change", ["flipped", "shorter", "longer", "reordered", "ragged", "none"])
def test_leaves_altered(change: str) -> None:
    leaves = DATASET.leaves
    altered = {
        "flipped": bytes([leaves[0] ^ 1]) + leaves[1:],
        "shorter": leaves[:-32],
        "longer": leaves + bytes(32),
        "reordered": leaves[32:64] + leaves[:32] + leaves[64:],
        "ragged": leaves[:-1],
        "none": b"",
    }[change]
    refuse(extended(leaves={TREE.root: altered}), ChainError, "dataset root|multiple of 32", without=[NO_SETS])


@pytest.mark.parametrize(
    "positions", [(), (1,), (1, 5), (4, 1), (1, 1), (1, 4, 4), (1, 4, 5), (-1, 4), (1, 8), (1, 2**53 - 1)]
)
def test_removed_positions_altered(positions: tuple[int, ...]) -> None:
    digest = next(iter(BUNDLE.removed))
    refuse(extended(removed={digest: positions}), ChainError, "entry 3", without=[NO_SETS])


def test_more_removed_than_was_requested() -> None:
    """Unlearning as a pretext to drop inconvenient records."""
    refuse(usual_case(positions=(1, 4, 6)), ChainError, "removed 3 records, but 2 were requested", without=[NO_COUNTS])


def test_nothing_removed() -> None:
    refuse(usual_case(positions=()), ChainError, "states 0 records removed", without=[NO_COUNTS])


def test_retained_set_that_still_holds_the_removed_records() -> None:
    lie = Tree(TREE.root, TREE.count - 2)
    refuse(usual_case(retained=lie), ChainError, "the retained records lead to root", without=[NO_SETS])
    refuse(usual_case(retained=TREE), ChainError, "2 records removed and 8 retained, of 8 before")


def test_removed_set_of_other_records() -> None:
    lie = Tree(dataset.subset_root(DATASET.leaves, [2, 5]).hex(), 2)
    refuse(usual_case(removed=lie), ChainError, "the removed records lead to root", without=[NO_SETS])


def test_record_sets_where_the_request_is_not_about_records() -> None:
    refuse(usual_case(says_request=lambda: request(scope="class")), ChainError, "do not fit that")
    refuse(usual_case(removed=None, retained=None), ChainError, "do not fit that")


@pytest.mark.parametrize("lie", [(2, 0, 0, 0), (0, 2, 0, 0), (1, 1, 1, 0), (1, 1, 0, 1), (1, 0, 0, 0)])
def test_lying_about_what_changed(lie: tuple[int, int, int, int]) -> None:
    true = diff(PRE, POST)
    refuse(
        usual_case(changes=Changes(*lie)), ChainError, "the manifests show",
        without=[(chain, "_check_changes", lambda *_: true)],
    )  # fmt: skip


def test_lying_about_the_size_of_a_model() -> None:
    lie = with_fields(model(POST), bytes="25")
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    said = certificate(trained, asked)
    assert isinstance(said.predicate, Unlearning)
    case.say(Statement(said.subjects, with_fields(said.predicate, post=lie)))
    refuse(replace(case.bundle(), leaves={}), ChainError, "its manifest has 2 and 24")


def second(positions: tuple[int, ...] = (6,), gone: tuple[int, ...] = (1, 4), **changes: Any) -> Case:
    """The usual case, and an unlearning that follows it."""
    case = usual_case()
    case.models = (PRE, POST, LATER)
    asked = case.say(request((6,) if len(positions) == 1 else (1, 6), received=stamp(25), due=stamp(55)))
    first = Envelope.parse(case.entries[3])
    case.certify(first, asked, positions=positions, gone=gone, pre=POST, post=LATER, **({"run": run(26, 27)} | changes))
    return case


def test_second_unlearning_is_accepted() -> None:
    assert accept(second()).index == 5


def test_second_unlearning_that_removes_a_record_again() -> None:
    lie = Tree(dataset.retained(DATASET.leaves, [1, 4, 6])[0].hex(), 4)
    refuse(second((1, 6), retained=lie), ChainError, "removes a record that was removed before", without=[NO_SETS])


def test_second_unlearning_that_brings_the_first_records_back() -> None:
    refuse(second(gone=()), ChainError, "1 records removed and 7 retained, of 6 before")


def test_second_unlearning_before_the_first() -> None:
    refuse(second(run=run(10, 27)), OrderError, "before its model was finished", without=[NO_ORDER])


def test_first_unlearning_left_out() -> None:
    case = second()
    case.shown.remove(3)
    refuse(case, ChainError, "which is not in the bundle")


def test_one_request_answered_twice() -> None:
    case = usual_case()
    asked, first = Envelope.parse(case.entries[2]), Envelope.parse(case.entries[3])
    case.certify(first, asked, positions=(6,), gone=(1, 4), pre=POST, post=LATER, run=run(26, 27))
    refuse(case, ChainError, "is answered twice")


# -- what is given to compare ------------------------------------------------------------------------------------------


def test_weights_from_before_the_unlearning() -> None:
    refuse(CASE, MismatchError, "those from before the unlearning", weights=PRE)


def test_weights_with_one_bit_changed() -> None:
    flipped = manifest(head=b"\1" * 8, body=b"\3" * 15 + b"\2")
    refuse(CASE, MismatchError, r"1 differ \(body\)", weights=flipped, without=[(verifier, "_match_weights", nothing)])
    assert any("bit for bit" in line for line in accept(CASE, weights=POST).steps[8].established)


def test_weights_with_tensors_missing_or_more() -> None:
    other = manifest(head=b"\1" * 8, backdoor=b"\0" * 4)
    refuse(CASE, MismatchError, r"1 are missing \(body\), 1 are not in it \(backdoor\)", weights=other)


def test_file_that_the_certificate_does_not_name() -> None:
    refuse(CASE, MismatchError, "the certificate names no files", files=[("model.safetensors", "0" * 64)])
    tensor_root = POST.root().hex()  # a root is no file's digest
    refuse(CASE, MismatchError, "the certificate names no files", files=[("model.safetensors", tensor_root)])


@pytest.mark.parametrize("position", [1, 4])
def test_own_receipt_is_accepted(position: int) -> None:
    lines = accept(CASE, receipts=[receipt(position).to_json()]).steps[8].established
    assert any("is among the records" in line for line in lines)


def test_receipt_of_an_edited_record() -> None:
    edited = receipt(record=RECORDS[1][1] + b" ")
    refuse(CASE, MismatchError, "the receipt does not match", receipts=[edited.to_json()])


def test_receipt_of_another_person() -> None:
    mine, other = receipt(1), receipt(4)
    for hostile in (
        with_fields(mine, record=other.record),
        with_fields(mine, request=other.request),
        with_fields(mine, training=other.training),
    ):
        refuse(CASE, MismatchError, "the receipt does not match", receipts=[hostile.to_json()])


def test_receipt_with_another_salt() -> None:
    mine = receipt()
    hostile = with_fields(mine, training=with_fields(mine.training, salt="0" * 64))
    refuse(CASE, MismatchError, "the receipt does not match", receipts=[hostile.to_json()])


def test_receipt_of_another_case() -> None:
    stranger = dataset.commit([RECORDS[1][1]])
    opening = receipt().request
    other = with_fields(opening, root=stranger.root().hex(), salt=stranger.salts.hex(), index=0, size=1, path=[])
    refuse(
        CASE,
        MismatchError,
        "belongs to none of the requests",
        receipts=[with_fields(receipt(), request=other).to_json()],
    )
    refuse(CASE, MismatchError, "opens root", receipts=[with_fields(receipt(), training=other).to_json()])


def test_receipt_of_a_person_whose_record_was_kept_instead() -> None:
    """Two were asked for, one of them and a third were left out: their receipt shows it to the one that was kept."""
    case = usual_case(positions=(1, 6))
    assert accept(case, receipts=[receipt(1).to_json()])
    refuse(case, MismatchError, "is not among those", receipts=[receipt(4).to_json()])


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"format":NaN}'])
def test_hostile_receipt(data: bytes) -> None:
    refuse(CASE, MismatchError, "the receipt does not match", receipts=[data])
