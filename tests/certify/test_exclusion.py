"""Step 7 when all is well: what it says was established, each number by other means."""

import math
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from certify import chain as chains
from certify import exclusion
from certify.bundle import Bundle
from certify.chain import Link
from certify.errors import ProofRefusedError
from certify.statement import Statement
from certify.zk import FORGOTTEN, RECORDS, WEIGHTS
from circuits.layout import Layout
from circuits.zk_proof import Proof
from tests.exclusion_cases import Story, accept, accepted, first, ledger, problem, second


def checked(story: Story, max_radius: float = 0.05) -> exclusion.Exclusion | None:
    bundle = story.told()[1]
    links = [
        Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload)) for entry in bundle.entries
    ]
    who = dict.fromkeys(accepted(), "me")
    return exclusion.check(chains.build(links), bundle, who, max_radius=max_radius)


def public(story: Story) -> tuple[int, ...]:
    return Proof.parse(story.bundle.proofs[story.evidence.proofs[0]]).instances


def expected(story: Story) -> tuple[int, ...]:
    """The gradient of the squared hinge in plain integers, over the rows that are not near a forgotten one; and their count."""
    p = problem(story)
    rows = p.layouts[0].matrix(ledger().values(RECORDS))
    weights = ledger().values(WEIGHTS, len(story.certificates) - 1)[:5]
    gone = [ledger().values(FORGOTTEN, number)[:5] for number in range(len(story.requests))]
    kept = [row for row in rows if all(sum((a - b) ** 2 for a, b in zip(row, f, strict=False)) > p.tau for f in gone)]
    gradient = [p.penalty * w for w in weights]
    for *x, y in kept:
        margin = p.scale_x * p.scale_w - y * sum(a * w for a, w in zip(x, weights, strict=True))
        gradient = [g - y * a * max(0, margin) for g, a in zip(gradient, x, strict=True)]
    return *gradient, len(kept)


@pytest.mark.parametrize("number", [1, 2])
def test_public_values_are_the_gradient_over_what_is_kept(number: int) -> None:
    story = (first, second)[number - 1]()
    assert public(story) == expected(story) and public(story)[-1] == 40 - number


def test_the_radius_is_that_of_the_gradient() -> None:
    found = checked(first())
    assert found is not None and found.radius is not None
    away = math.hypot(*public(first())[:-1]) / (16384 * 16384)
    assert found.radius == pytest.approx(away, rel=1e-12) and 0 < found.radius < 0.005
    allowed = checked(first(), max_radius=found.radius)
    assert allowed is not None and allowed.radius == found.radius
    with pytest.raises(ProofRefusedError, match="from the optimum without the forgotten records"):
        checked(first(), max_radius=math.nextafter(found.radius, 0))


def test_what_is_established() -> None:
    found = checked(second())
    assert found is not None
    assert (found.kept, found.records, found.development, found.statement) == (38, 40, False, "exclusion-optimum/v1")
    head, about, left_out, near = found.established
    size = len(next(iter(second().bundle.proofs.values())))
    assert head.startswith(
        f"a proof of exclusion-optimum/v1, {size:,} bytes, by circuit {second().evidence.circuits[0][:16]} "
    )
    assert head.endswith("(accepted by me), with the perpetual powers of tau")
    assert about.startswith("it is about the 40 records committed at entry 1, what the requests at 2, 4 committed to")
    assert left_out == "2 records within 0.0997 of a forgotten one are left out, 38 count"
    assert "squared-hinge objective (penalty 1) over these; trust.toml allows 0.05" in near


def test_the_room_for_a_message_is_stated() -> None:
    found = checked(first())
    assert found is not None and found.radius is not None
    bits = 5 * math.log2(1 + 2 * found.radius * 16384)
    assert found.limits == (
        f"Weights within that radius of the optimum could differ by about {bits:.0f} bits in all: room for a message of an "
        f"operator that wants to hide one.",
    )


def test_the_report_of_a_proven_case() -> None:
    report = accept(second())
    assert report.grade == "exclusion proven" and not report.development_srs
    assert len(report.steps[6].established) == 4
    assert any(
        "committed numbers: that they are the people's records is the operator's word" in line for line in report.limits
    )


def test_a_certificate_without_evidence_proves_nothing() -> None:
    plain = first().with_certificate(evidence=None)
    assert checked(replace(plain, bundle=Bundle((), plain.bundle.manifests, plain.bundle.leaves, {}))) is None


def test_points_are_taken_in_the_order_of_their_tensors() -> None:
    layout = Layout(40, 6, 11, 4)
    stated = changed(first().zk("training").tensors[0], count=3)
    points = [bytes([number]) * 32 for number in range(3)]
    bundle = Bundle((), {}, {}, {}, points={stated.points: b"".join(points)})
    assert exclusion.split_points(bundle, stated, layout) == [(point,) for point in points]
    with pytest.raises(ProofRefusedError, match="expected 2 times 1 points of records, 96 bytes came"):
        exclusion.split_points(bundle, changed(stated, count=2), layout)


def test_points_of_a_tensor_that_takes_several_columns() -> None:
    layout = Layout(900, 3, 11)
    stated = changed(first().zk("training").tensors[0], rows=900, columns=3, proofs=2, count=2)
    points = [bytes([number]) * 32 for number in range(4)]
    bundle = Bundle((), {}, {}, {}, points={stated.points: b"".join(points)})
    assert layout.points == 2 and exclusion.split_points(bundle, stated, layout) == [
        tuple(points[:2]),
        tuple(points[2:]),
    ]
