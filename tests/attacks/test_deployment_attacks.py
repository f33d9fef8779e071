"""Attacks on deployments: an operator makes it look as if the model that forgot serves, while another one does.

Every statement is truly logged; the operator, or whoever stole its key, signed it.
"""

import sqlite3
from base64 import b64encode
from dataclasses import replace as copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from certify.envelope import Envelope
from certify.errors import (
    ChainError,
    CheckpointError,
    DeploymentError,
    KeyValidityError,
    StatementError,
    UntrustedKeyError,
    VerificationError,
)
from certify.keys import SigningKey
from certify.statement import Destroyed, Model, Statement
from certify.trust import TrustedAuditor, TrustedIssuer
from certify.verifier import Report, verify
from tests.cases import (
    LATER,
    NOW,
    POST,
    PRE,
    Case,
    Witness,
    day,
    model,
    operator,
    request,
    run,
    stamp,
    training,
    usual_case,
)
from tests.certify.test_monitoring import look
from tests.deployment_cases import deploy, deployment


def check(case: Case, **how: Any) -> Report:
    return verify(case.data(), case.trust(), now=NOW, **how)


def refuse(case: Case, match: str, kind: type[VerificationError] = DeploymentError) -> None:
    with pytest.raises(kind, match=match) as caught:
        check(case)
    if kind is DeploymentError:
        assert (caught.value.step, caught.value.exit_code) == (8, 63)
        assert len(caught.value.passed) == 7


def rolled_back(**changes: Any) -> Case:
    case = usual_case()
    deploy(case, 1, PRE, **changes)
    return case


# -- rollbacks -----------------------------------------------------------------------------------------------------------


def test_rollback_hidden_as_a_normal_deployment() -> None:
    refuse(rolled_back(), "HIDDEN ROLLBACK: entry 4 deploys the model of entry 1 .* precedes the unlearning of entry 3")


def test_rollback_hidden_by_a_date_before_the_certificate() -> None:
    """The log's order counts, not the time that is stated."""
    refuse(rolled_back(since=stamp(2), stated=stamp(3)), "HIDDEN ROLLBACK")


def test_rollback_hidden_between_two_good_deployments() -> None:
    case = usual_case()
    deploy(case, 3)
    deploy(case, 1, PRE, day=26)
    deploy(case, 3, day=27)
    refuse(case, "HIDDEN ROLLBACK: entry 5")


def test_rollback_under_a_name_that_nobody_looks_at() -> None:
    case = usual_case()
    deploy(case, 3)
    deploy(case, 1, PRE, day=26, name="canary")
    refuse(case, "HIDDEN ROLLBACK: entry 5 .* 'canary'")


def test_rollback_to_a_model_between_two_unlearnings() -> None:
    case = usual_case()
    first = Envelope.parse(case.entries[3])
    asked = case.say(request((2,), received=stamp(41), due=stamp(60)))
    case.models = (*case.models, LATER)
    case.certify(first, asked, positions=(2,), gone=(1, 4), pre=POST, post=LATER, run=run(49, 50))
    deploy(case, 3, POST, day=55)
    refuse(case, "HIDDEN ROLLBACK: entry 6 deploys the model of entry 3 .* precedes the unlearning of entry 5")


def test_rollback_by_naming_the_certificate_with_the_model_before() -> None:
    """The statement named is the certificate; the weights are those from before it."""
    case = usual_case()
    deploy(case, 3, PRE)
    refuse(case, f"deploys {PRE.root().hex()}, the model of entry 3 is {POST.root().hex()}")


def test_stated_rollback_is_never_a_plain_success() -> None:
    report = check(rolled_back(rollback="outage"))
    assert report.rolled_back and report.grade == "attested"
    assert report.deployments[0].state == "rollback" and report.deployments[0].missing == (3,)
    assert any(limit.startswith("ROLLBACK: production serves the model of entry 1") for limit in report.limits)


def test_rollback_of_weights_that_are_said_to_be_destroyed() -> None:
    case = usual_case()
    deploy(case, 3, destroyed=[Destroyed(PRE.root().hex(), stamp(24), "keys erased")])
    deploy(case, 1, PRE, day=26, rollback="outage")
    report = check(case)
    assert "entry 4 says that copies were destroyed" in " ".join(report.limits)
    assert "entry 4 stated that copies of these very weights were destroyed" in " ".join(report.steps[7].established)


def test_rollback_left_out_of_the_bundle() -> None:
    """The log has it, the bundle does not: the report says where to look, and a monitor finds it."""
    case = rolled_back(rollback="outage")
    deploy(case, 3, day=26)
    case.shown.remove(4)
    assert "Deployments that are not in the bundle would be in the log" in " ".join(check(case).limits)
    assert [finding.kind for finding in look(case.entries[1:], case.trust())[0]] == ["rollback"]


def test_old_model_deployed_a_moment_before_the_certificate() -> None:
    """So that it is no rollback by the log's order: it is said all the same that what serves is from before."""
    case = Case()
    trained = case.say(training())
    asked = case.say(request())
    deploy(case, 1, PRE, day=19)
    case.certify(trained, asked)
    report = check(case)
    assert report.deployments[0].state == "behind" and not report.rolled_back
    assert "precedes the unlearning of entry 4; no later deployment is here" in " ".join(report.limits)


# -- of what, and by whom ------------------------------------------------------------------------------------------------


def test_deployment_of_weights_that_no_statement_logged() -> None:
    case = usual_case()
    case.say(deployment(case.sign(training(LATER)), LATER))
    refuse(case, "which logged no model of this case")


def test_deployment_of_a_request_as_if_it_were_a_model() -> None:
    case = usual_case()
    deploy(case, 2, POST)
    refuse(case, "which logged no model of this case")


def test_deployment_of_a_model_by_its_root_with_another_size() -> None:
    case = usual_case()
    deploy(case, 3, model=Model(POST.root().hex(), 2, "1"))
    refuse(case, "deploys .* the model of entry 3 is")


def test_deployment_by_a_foreign_key() -> None:
    case = usual_case()
    deploy(case, 3, POST, SigningKey.generate())
    refuse(case, "not trusted|names no trusted key|trusted", UntrustedKeyError)


def test_deployment_by_an_auditor() -> None:
    """Its key is known, but for other statements."""
    auditor = SigningKey.generate()
    case = usual_case()
    deploy(case, 3, POST, auditor)
    trust = copy(case.trust(), auditors=(TrustedAuditor("Example Audits", auditor.public),))
    with pytest.raises(UntrustedKeyError):
        verify(case.data(), trust, now=NOW)


def test_deployment_by_another_trusted_issuer() -> None:
    case = usual_case()
    other = operator("Other")
    deploy(case, 3, POST, other.key)
    trust = copy(case.trust(), issuers=(*case.trust().issuers, TrustedIssuer("Other", other.key.public)))
    with pytest.raises(ChainError, match="expected one issuer"):
        verify(case.data(), trust, now=NOW)


def test_deployment_made_for_another_log() -> None:
    case = usual_case()
    deploy(case, 3, log="other.example/log")
    refuse(case, "made for log", CheckpointError)


def test_deployment_from_the_future() -> None:
    case = usual_case()
    deploy(case, 3, since=stamp(25), stated=stamp(1000))
    refuse(case, "in the future", KeyValidityError)


def test_deployment_before_its_model_was_made() -> None:
    case = usual_case()
    deploy(case, 3, since=stamp(15))
    refuse(case, "before they were finished")


def test_deployment_logged_before_its_model() -> None:
    case = Case()
    trained, asked = case.sign(training()), case.sign(request())
    case.say(deployment(trained, PRE, 5))
    case.log(trained)
    case.log(asked)
    case.certify(trained, asked)
    refuse(case, "the deployment is entry 1, before its model was logged at entry 2")


def test_deployment_stated_after_others_saw_the_log() -> None:
    case = usual_case()
    witness = Witness("witness.example/w")
    case.cosigners.append((witness, day(30)))
    deploy(case, 3, day=30, stated=stamp(31))
    with pytest.raises(DeploymentError, match="after witnesses cosigned it"):
        verify(case.data(), case.trust(witnesses=[witness], quorum=1), now=NOW + timedelta(days=1))


def test_deployment_altered_after_it_was_signed() -> None:
    case = rolled_back(rollback="outage")
    honest = Envelope.parse(case.entries[4])
    said = Statement.parse(honest.payload)
    quiet = Statement(said.subjects, replace(said.predicate, rollback=None))  # type: ignore[type-var]
    case.entries[4] = case.entries[4].replace(b64encode(honest.payload), b64encode(quiet.payload()))
    assert case.entries[4] != honest.data
    with pytest.raises(VerificationError) as caught:
        check(case)
    assert caught.value.step == 2


# -- what no statement can hold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"destroyed": [Destroyed(POST.root().hex(), stamp(20), "deleted")]},
        {"destroyed": [Destroyed(PRE.root().hex(), stamp(20), "deleted")] * 2},
        {"destroyed": [Destroyed(PRE.root().hex(), stamp(30), "deleted")]},
        {"since": stamp(26)},
        {"rollback": ""},
        {"name": ""},
        {"name": "x" * 257},
    ],
)
def test_deployment_that_contradicts_itself(changes: dict[str, Any]) -> None:
    of = Envelope.parse(usual_case().entries[3])
    assert deployment(of).payload()
    with pytest.raises(StatementError):
        deployment(of, **changes).payload()


def test_subject_is_not_the_model_that_serves() -> None:
    """So that who looks up the new model's digest finds a deployment of the old one."""
    of = Envelope.parse(usual_case().entries[3])
    said = deployment(of)
    swapped = Statement(said.subjects, replace(said.predicate, model=model(PRE)))  # type: ignore[type-var]
    with pytest.raises(StatementError, match="first subject"):
        swapped.payload()


# -- as a monitor sees it --------------------------------------------------------------------------------------------------


def findings(case: Case, now: Any = NOW) -> list[tuple[str, str]]:
    found = look(case.entries[1:], case.trust(), now=now)[0]
    return [(finding.kind, finding.line()) for finding in found]


def test_monitor_tells_a_hidden_rollback() -> None:
    [(kind, line)] = findings(rolled_back())
    assert kind == "rollback" and "precedes the unlearning of entry 2; NOT stated as one" in line


def test_monitor_tells_a_stated_rollback() -> None:
    [(kind, line)] = findings(rolled_back(rollback="outage"))
    assert kind == "rollback" and "stated as one: outage" in line


def test_monitor_tells_a_rollback_that_only_the_operator_knows_of() -> None:
    """The vault shows that a model has forgotten records; the log does not."""
    case = usual_case()
    deploy(case, 3, rollback="trained anew with all records")
    [(kind, line)] = findings(case)
    assert kind == "rollback" and "by a stated rollback: trained anew" in line


def test_monitor_tells_nothing_of_a_good_deployment() -> None:
    case = usual_case()
    deploy(case, 3)
    assert findings(case) == []


def test_monitor_tells_a_deployment_of_nothing_that_was_logged() -> None:
    case = usual_case()
    case.say(deployment(case.sign(training(LATER)), LATER))
    [(kind, line)] = findings(case)
    assert kind == "statement" and "deploys the model of" in line


def test_monitor_tells_a_deployment_of_another_model_than_the_statement_logged() -> None:
    case = usual_case()
    deploy(case, 3, PRE)
    [(kind, line)] = findings(case)
    assert kind == "statement" and "deploys another model" in line


def test_monitor_counts_a_deployment_by_a_foreign_key_for_nothing() -> None:
    case = usual_case()
    deploy(case, 1, PRE, SigningKey.generate())
    assert [kind for kind, _ in findings(case)] == ["note"]


def test_monitor_tells_once_due_that_nothing_newer_was_deployed() -> None:
    """An operator answers on paper, and goes on serving the old model."""
    case = Case()
    trained = case.say(training())
    deploy(case, 1, PRE, day=5)
    asked = case.say(request())
    case.certify(trained, asked)
    assert findings(case, day(39)) == []
    [(kind, line)] = findings(case, day(41))
    assert kind == "rollback" and "last given the model of entry 0, which precedes the unlearning of entry 3" in line
    deploy(case, 4, day=30)
    assert findings(case, day(41)) == []


def test_monitor_goes_by_the_order_where_its_older_notes_have_no_parents(tmp_path: Path) -> None:
    """Notes of a version that knew no deployments: certificates in them go on from each other, one after the other."""
    case = usual_case()
    notes = tmp_path / "statements.db"
    look(case.entries[1:], case.trust(), place=notes)
    with sqlite3.connect(notes) as db:
        db.execute("drop table way")
        db.execute("drop table deployment")
    deploy(case, 3)
    deploy(case, 1, PRE, day=26)
    found = look(case.entries[1:], case.trust(), place=notes, first=3)[0]
    assert [(finding.kind, finding.index) for finding in found] == [("rollback", 4)]
