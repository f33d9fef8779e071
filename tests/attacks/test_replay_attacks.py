"""Attacks on replays: an operator or a replayer makes weights look as if somebody had got them again.

Every statement is truly logged; where a signature is a replayer's, the replayer is in on it, or its key was stolen.
"""

import json
from base64 import b64encode
from dataclasses import replace as copy
from typing import Any

import pytest

from certify.envelope import Envelope
from certify.errors import (
    CheckpointError,
    EnvelopeSignatureError,
    FailedReplayError,
    KeyValidityError,
    ReplayError,
    RevokedKeyError,
    UntrustedKeyError,
)
from certify.statement import Model, Run, Tree
from certify.verifier import Report, verify
from tests.cases import (
    LATER,
    NOW,
    POST,
    PRE,
    Case,
    Witness,
    certificate,
    day,
    request,
    rotation,
    run,
    stamp,
    training,
    usual_case,
)
from tests.replay_cases import METHOD, failed_case, key, replay, replayed_case, say, trust


def check(case: Case, **how: Any) -> Report:
    return verify(case.data(), trust(case), now=NOW, **how)


def refuse(case: Case, match: str, kind: type[ReplayError] = ReplayError) -> None:
    with pytest.raises(kind, match=match) as caught:
        check(case)
    assert (caught.value.step, caught.value.exit_code) == (8, 61)
    assert len(caught.value.passed) == 7


# -- the outcome ---------------------------------------------------------------------------------------------------------


def test_different_weights_claimed_identical() -> None:
    refuse(replayed_case(LATER, outcome="identical", differing=0, names=[]), "says identical, and got the model")


def test_identical_with_the_root_and_another_size() -> None:
    """So that whoever looks at the root alone takes it for the model."""
    odd = Model(POST.root().hex(), len(POST.tensors), "1")
    refuse(replayed_case(model=odd), "says identical, and got the model")


def test_identical_weights_claimed_different() -> None:
    """To have a good certificate refused."""
    refuse(replayed_case(outcome="different", differing=1, names=["body"]), "says different, and got the model")


def test_replay_of_the_model_before() -> None:
    """Retraining with the records gives the weights before: easy to repeat, and nothing is forgotten."""
    refuse(replayed_case(PRE, outcome="identical", differing=0, names=[]), "says identical")
    refuse(replayed_case(PRE), "FAILED REPLAY", FailedReplayError)


def test_failed_replay_left_out_after_a_good_one_was_shown() -> None:
    """The log has it, the bundle does not: the report says where to look."""
    case = replayed_case()
    say(case, LATER, day=26)
    refuse(case, "FAILED REPLAY", FailedReplayError)
    case.shown.remove(5)
    assert "Replays that are not in the bundle would be in the log" in " ".join(check(case).limits)


def test_second_name_does_not_take_a_failure_away() -> None:
    case = failed_case()
    say(case, POST, key("friend"), day=26)
    with pytest.raises(FailedReplayError):
        verify(case.data(), trust(case, "replayer", "friend"), now=NOW)


# -- what it is of -------------------------------------------------------------------------------------------------------


def test_replay_of_another_certificate() -> None:
    """A first certificate of the same model was replayed; it is shown with the second one."""
    case = replayed_case()
    first = Envelope.parse(case.entries[3])
    asked = case.say(request((2,), received=stamp(41), due=stamp(60)))
    case.models = (*case.models, LATER)
    case.certify(first, asked, positions=(2,), gone=(1, 4), pre=POST, post=LATER, run=run(49, 50))
    refuse(case, "is of certificate " + first.digest[:16])


def test_replay_on_other_data() -> None:
    refuse(replayed_case(data=Tree("ab" * 32, 8)), "other training data")


def test_replay_made_for_another_log() -> None:
    with pytest.raises(CheckpointError, match="made for log"):
        check(replayed_case(log="other.example/log"))


def test_replay_altered_after_it_was_signed() -> None:
    case = failed_case()
    said = Envelope.parse(case.entries[4])
    honest = Envelope.parse(replayed_case().entries[4])
    case.entries[4] = _wire(honest.payload, said)
    with pytest.raises(EnvelopeSignatureError):
        check(case)


def _wire(payload: bytes, signed: Envelope) -> bytes:
    """The envelope's bytes with another payload under the same signature."""
    fields = json.loads(signed.data)
    fields["payload"] = b64encode(payload).decode()
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


# -- when ----------------------------------------------------------------------------------------------------------------


def test_replay_logged_before_the_certificate() -> None:
    """It names a certificate that is signed and not logged yet."""
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    envelope = case.sign(certificate(trained, asked))
    case.removed[envelope.digest] = (1, 4)
    case.log(case.sign(replay(envelope), key()))
    case.log(envelope)
    refuse(case, "is entry 3, before its certificate at entry 4")


def test_replay_dated_before_the_certificate() -> None:
    refuse(replayed_case(run=Run("0" * 32, stamp(15), stamp(25))), "before its certificate was made")


def test_replay_dated_in_the_future() -> None:
    with pytest.raises(KeyValidityError, match="in the future"):
        check(replayed_case(day=200))


def test_replay_dated_after_witnesses_saw_it() -> None:
    case = replayed_case(run=Run("0" * 32, stamp(25), stamp(90)))
    witness = Witness("witness.example")
    case.cosigners = [(witness, day(30))]
    beliefs = copy(trust(case), witnesses=(witness.public,), quorum=1)
    with pytest.raises(ReplayError, match="after witnesses cosigned it"):
        verify(case.data(), beliefs, now=NOW)


# -- who -----------------------------------------------------------------------------------------------------------------


def test_operator_as_its_own_replayer() -> None:
    case = usual_case(method=METHOD)
    say(case, by=case.operator.key)
    refuse(case, "by Clinic itself or another issuer")


def test_operator_signs_beside_the_replayer() -> None:
    """With a friend's key in front: the operator had a hand in it."""
    case = usual_case(method=METHOD)
    said = replay(Envelope.parse(case.entries[3]))
    case.log(case.sign(said, key(), case.operator.key))
    refuse(case, "by Clinic itself")


def test_operator_hands_its_key_over_and_replays_with_it() -> None:
    case = usual_case(method=METHOD)
    heir = key("heir")
    case.say(rotation(case.operator.key, heir, effective=stamp(21)), case.operator.key, heir)
    say(case, by=heir)
    with pytest.raises(ReplayError, match="by Clinic itself"):
        verify(case.data(), trust(case, "heir"), now=NOW)


def test_operator_has_a_second_key_under_its_own_name() -> None:
    """trust.toml was filled in without a look at the name."""
    case = replayed_case()
    beliefs = trust(case)
    named = copy(beliefs, replayers=(copy(beliefs.replayers[0], name="Clinic"),))
    with pytest.raises(ReplayError, match="by Clinic itself"):
        verify(case.data(), named, now=NOW)


def test_untrusted_replayer_gives_no_grade() -> None:
    case = usual_case(method=METHOD)
    say(case, by=key("stranger"))
    report = check(case)
    assert (report.grade, report.replays) == ("attested", ())


def test_untrusted_replayer_takes_no_grade_away() -> None:
    case = replayed_case()
    say(case, LATER, key("stranger"), day=26)
    assert check(case).grade == "replayed"


def test_auditors_key_is_no_replayers() -> None:
    """Believed for audits, and for nothing else."""
    from tests.audit_cases import key as auditors_key
    from tests.audit_cases import trust as audit_trust

    case = usual_case(method=METHOD)
    say(case, by=auditors_key())
    report = verify(case.data(), audit_trust(case), now=NOW)
    assert (report.grade, report.replays) == ("attested", ())


def test_replayers_key_makes_no_certificate() -> None:
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    envelope = case.sign(certificate(trained, asked), key())
    case.removed[envelope.digest] = (1, 4)
    case.log(envelope)
    with pytest.raises(UntrustedKeyError):
        check(case)


def test_stolen_key_of_a_replayer_backdates() -> None:
    case = replayed_case()
    witness = Witness("witness.example")
    beliefs = copy(trust(case, revoked=day(40)), witnesses=(witness.public,), quorum=1)
    case.cosigners = [(witness, day(45))]
    with pytest.raises(RevokedKeyError, match="Example Replays"):
        verify(case.data(), beliefs, now=NOW)
    case.cosigners = [(witness, day(30))]
    assert verify(case.data(), beliefs, now=NOW).grade == "replayed"


def test_replay_in_a_case_without_a_certificate_is_none() -> None:
    """A replay cannot stand for the certificate that it names."""
    from certify.errors import ChainError

    case = replayed_case()
    case.shown.remove(3)
    with pytest.raises(ChainError, match="0 certificates"):
        check(case)


def test_unchanged_cases_are_accepted() -> None:
    """What the attacks above start from."""
    assert check(replayed_case()).grade == "replayed"
    assert check(usual_case()).grade == "attested"
    assert check(failed_case(), allow_failed_replay=True).replays[0].failed
