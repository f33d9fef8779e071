"""Following models to their makers: what the report shows, the weakest link, and what is said not to be followed."""

import json
from dataclasses import replace as copy

import jsonschema
import pytest

from certify import chain as chains
from certify.chain import Link
from certify.envelope import Envelope
from certify.schema import schemas
from certify.statement import Base, Destroyed, Notified, Statement
from certify.upstream import Bundled, base_of, follow
from certify.verifier import GRADES, Given, Report, verify, verify_upstream
from tests.cases import NOW, POST, PRE, Case, day, manifest, stamp, usual_case
from tests.deployment_cases import LABS, TUNED, base, bundled, deploy, deployment, maker, trained_alone, tuned
from tests.replay_cases import replayed_case
from tests.replay_cases import trust as replay_trust
from tests.reports import page_of, read


def check(case: Case, *given: Bundled) -> Report:
    return verify(case.data(), case.trust(), now=NOW, given=Given(upstream=given))


def test_report_shows_who_made_the_base_and_says_whose_the_grade_is() -> None:
    labs = maker()
    report = check(tuned(base(labs)), bundled(labs))
    [one] = report.upstream
    assert str(one) == "vision-7b by Labs, attested (certificate at entry 3 of labs.example/log), licence apache-2.0"
    assert report.steps[8].established == (f"base of the model: {one}",)
    assert (report.issuer, report.grade) == ("Clinic", "attested")
    assert "The weakest link of the chain of models is vision-7b by Labs: attested." in report.limits


def test_base_whose_maker_never_had_to_forget_is_followed_to_its_training() -> None:
    labs = maker()
    [one] = check(tuned(base(labs, 1, PRE)), bundled(labs, data=trained_alone(labs))).upstream
    assert (one.kind, one.grade, one.index) == ("training", "attested", 1)


def test_base_by_its_weights_alone_is_followed_and_said_to_be_named_by_nobody() -> None:
    labs = maker()
    case = tuned(Base("vision-7b", POST.root().hex()))
    assert check(case, bundled(labs)).upstream[0].issuer == "Labs"
    report = check(case)
    assert str(report.upstream[0]) == "vision-7b: not verified, no licence stated"
    assert any("the training names no statement of its maker" in limit for limit in report.limits)


def test_two_bases_are_followed_in_the_order_in_which_they_are_named() -> None:
    labs, other = maker(), maker("Other", "other.example/log", models=(manifest(a=b"\0" * 4), manifest(a=b"\1" * 4)))
    merged = tuned(base(labs), base(other, 3, manifest(a=b"\1" * 4), name="text-3b", licence="mit"))
    report = check(merged, bundled(other), bundled(labs))
    assert [(one.base, one.issuer, one.licence) for one in report.upstream] == [
        ("vision-7b", "Labs", "apache-2.0"),
        ("text-3b", "Other", "mit"),
    ]
    half = check(merged, bundled(labs))
    assert "The weakest link of the chain of models is text-3b, which was not verified." in half.limits


def test_case_without_bases_says_nothing_of_them() -> None:
    report = check(usual_case())
    assert report.upstream == () and not any("base model" in limit for limit in report.limits)


@pytest.mark.parametrize(
    ("own", "weakest"),
    [("attested", "this case itself: attested"), ("exclusion proven", "vision-7b by Labs: replayed")],
)
def test_weakest_link_is_the_lowest_grade_of_all(own: str, weakest: str) -> None:
    """The base was replayed; the case's own grade is given."""
    replayed = replayed_case()
    verified = verify_upstream(Bundled("base", replayed.data(), replay_trust(replayed)), now=NOW)
    assert verified.grade == "replayed" and verified.beside == ("identical by Example Replays (entry 4)",)
    case = tuned(base(replayed))
    links = [
        Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload))
        for entry in case.bundle().entries
    ]
    early = copy(verified, issuer="Labs", finished=day(4))  # as if before the training began
    found = follow(chains.build(links), own, [Bundled("base", b"", case.trust())], lambda _: early, tuple(GRADES))
    assert f"The weakest link of the chain of models is {weakest}." in found.limits


def test_base_of_reads_a_bundle() -> None:
    labs = maker()
    assert base_of(labs.data(), "vision-7b", "apache-2.0") == base(labs)
    assert base_of(trained_alone(labs), "vision-7b") == base(labs, 1, PRE, licence=None)


# -- deployments in statements, schemas and pages --------------------------------------------------------------------------


def test_real_deployments_validate_under_their_schema() -> None:
    of = Envelope.parse(usual_case().entries[3])
    full = deployment(
        of,
        destroyed=[Destroyed(PRE.root().hex(), stamp(24), "keys erased")],
        notified=[Notified("people who asked", 2)],
        rollback="outage",
    )
    for said in (deployment(of), full):
        jsonschema.Draft202012Validator(schemas()["deployment"]).validate(json.loads(said.payload()))
        assert Statement.parse(said.payload()) == said and said.kind == "deployment"


def test_bases_validate_under_the_schema_of_trainings() -> None:
    payload = Statement.parse(Envelope.parse(tuned(base(maker())).entries[1]).payload).payload()
    jsonschema.Draft202012Validator(schemas()["training"]).validate(json.loads(payload))
    assert LABS.encode() in payload and TUNED.root().hex().encode() in payload


def test_page_shows_what_serves_and_a_rollback_in_its_headline() -> None:
    case = usual_case()
    deploy(case, 3)
    assert "What serves" in read(page_of(case)).seen and "✓ VERIFIED" in read(page_of(case)).seen
    deploy(case, 1, PRE, day=26, name="canary", rollback="outage <b>")
    seen = read(page_of(case)).seen
    assert "✗ ROLLBACK" in seen and "outage <b>" in seen and "VERIFIED" not in seen


def test_page_shows_bases() -> None:
    seen = read(page_of(tuned(base(maker())))).seen
    assert "Models that this one was made from" in seen and "not verified" in seen
