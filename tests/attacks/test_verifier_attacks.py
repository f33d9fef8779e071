"""Attacks on a case by whoever hands over the bundle: swapped, re-signed, replayed, backdated, badly witnessed.

Each is refused by the step that is meant to. Where ``without`` names a check, the same attack is tried with that check taken
away and has to succeed: the check is what stops it.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from msgspec.structs import replace as with_fields

from certify import envelope, keyring, keys, verifier
from certify.bundle import Bundle, Entry
from certify.envelope import Envelope, sign
from certify.errors import (
    BundleError,
    ChainError,
    CheckpointError,
    EnvelopeSignatureError,
    InclusionError,
    KeyValidityError,
    MismatchError,
    OrderError,
    RevokedKeyError,
    UntrustedKeyError,
    VerificationError,
)
from certify.trust import TrustedIssuer
from certify.verifier import Given, verify
from certify.wire import canonical
from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign
from ledger.note import Note
from ledger.proof import TlogProof
from tests.cases import (
    LATER,
    NOW,
    POST,
    PRE,
    Case,
    Witness,
    day,
    operator,
    receipt,
    request,
    revocation,
    run,
    stamp,
    training,
    usual_case,
)
from tests.verdict import BUNDLE, CASE, NO_ORDER, ONE, THREE, TWO, accept, nothing, refuse

OTHER = operator("Clinic", origin="other.example/ledger")  # another log, another key


def shown(*entries: Entry) -> Bundle:
    return replace(BUNDLE, entries=tuple(sorted(entries, key=lambda entry: entry.index)))


NO_REVOKED = (verifier, "_check_revoked", nothing)
NO_INCLUSION = (TlogProof, "verify_inclusion", nothing)


def test_the_case_itself_is_accepted() -> None:
    """So that every refusal below is of what it names."""
    report = accept(CASE)
    assert (report.index, report.grade, report.issuer) == (3, "attested", "Clinic")
    assert [step.number for step in report.steps] == list(range(1, 11))


# -- who swaps what is in the bundle -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 2), (0, 2)])
def test_swapped_envelopes(a: int, b: int) -> None:
    entries = list(BUNDLE.entries)
    first, second = entries[a], entries[b]
    entries[a] = Entry(first.index, second.data, first.proof)
    entries[b] = Entry(second.index, first.data, second.proof)
    refuse(replace(BUNDLE, entries=tuple(entries)), InclusionError, f"entry {first.index}")


def test_swapped_proofs() -> None:
    entries = (replace(ONE, proof=TWO.proof), replace(TWO, proof=ONE.proof), THREE)
    refuse(shown(*entries), InclusionError, "the proof of entry 1 is of entry 2")


def test_entry_shown_under_another_index() -> None:
    """A later place in the log, claimed by the file's name alone."""
    refuse(shown(ONE, replace(TWO, index=0), THREE), InclusionError, "the proof of entry 0 is of entry 2")


def test_index_changed_in_name_and_proof() -> None:
    proof = TlogProof.parse(TWO.proof)
    moved = Entry(0, TWO.data, replace(proof, index=0).format())
    refuse(shown(ONE, moved, THREE), InclusionError, "entry 0")


@pytest.mark.parametrize("name", ["training", "request"])
def test_statement_swapped_for_another_that_is_signed_and_logged(name: str) -> None:
    case = usual_case()
    other = case.say(training(run=run(0, 2)) if name == "training" else request((2, 5)))
    assert other
    case.shown.remove(1 if name == "training" else 2)
    refuse(case, ChainError, "which is not in the bundle", trust=case.trust())


def test_certificate_for_another_request() -> None:
    case = Case()
    trained = case.say(training())
    asked = case.log(case.sign(request()), shown=False)
    case.say(request((1, 4)))
    case.certify(trained, asked)
    refuse(case, ChainError, "answers request .* which is not in the bundle")


def test_certificate_that_answers_a_training() -> None:
    case = Case()
    trained = case.say(training())
    case.certify(trained, trained)
    refuse(case, ChainError, "answers request")


def test_certificate_for_another_pre_model() -> None:
    case = usual_case(pre=LATER)
    refuse(
        case, ChainError, f"starts from the model {LATER.root().hex()}, but its parent's model is {PRE.root().hex()}"
    )


def test_certificate_with_the_request_as_its_parent() -> None:
    case = Case()
    case.say(training())
    asked = case.say(request())
    case.certify(asked, asked)
    refuse(case, ChainError, "expected the training")


def test_key_id_changed() -> None:
    other = CASE.operator.key.public.keyid[::-1].encode()
    changed = replace(TWO, data=TWO.data.replace(CASE.operator.key.public.keyid.encode(), other))
    refuse(shown(ONE, changed, THREE), UntrustedKeyError, "not one of the trusted")


def test_key_id_removed() -> None:
    """The signature still verifies; the bytes are not those that were logged."""
    stripped = TWO.data.replace(b'"keyid":"%b",' % CASE.operator.key.public.keyid.encode(), b"")
    assert Envelope.parse(stripped).verify([CASE.operator.key.public])
    refuse(shown(ONE, replace(TWO, data=stripped), THREE), InclusionError, "entry 2")


def test_key_id_of_another_trusted_key() -> None:
    stranger = operator("Stranger").key.public
    trust = CASE.trust()
    trust = replace(trust, issuers=(*trust.issuers, TrustedIssuer("Stranger", stranger)))
    changed = replace(TWO, data=TWO.data.replace(CASE.operator.key.public.keyid.encode(), stranger.keyid.encode()))
    refuse(shown(ONE, changed, THREE), EnvelopeSignatureError, "wrong ecdsa-p256 signature", trust=trust)


def test_payload_signed_again_but_not_logged() -> None:
    """The operator, caught, signs a better story; it is not in the log."""
    again = sign(TWO.envelope.payload, [CASE.operator.key])
    assert again.data != TWO.data
    refuse(shown(ONE, replace(TWO, data=again.data), THREE), InclusionError, "entry 2")
    better = sign(request(received=stamp(9)).payload(), [CASE.operator.key])
    refuse(shown(ONE, replace(TWO, data=better.data), THREE), InclusionError, "entry 2")


def test_payload_reserialised_and_logged() -> None:
    case = usual_case()
    spaced = sign(TWO.envelope.payload + b" ", [case.operator.key])
    case.entries[2] = spaced.data
    refuse(case, BundleError, "not in canonical form")


def test_envelope_reserialised() -> None:
    refuse(shown(ONE, replace(TWO, data=TWO.data + b"\n"), THREE), InclusionError, "entry 2")


def test_signature_by_a_stranger() -> None:
    case = Case()
    trained, asked = case.say(training()), case.say(request(), operator("Stranger").key)
    case.certify(trained, asked)
    refuse(case, UntrustedKeyError, "not one of the trusted")


def test_signature_of_another_statement() -> None:
    case = usual_case()
    forged = replace(Envelope.parse(case.entries[2]), payload=request((0,)).payload())
    wire = {
        "payload": envelope.b64encode(forged.payload).decode(),
        "payloadType": envelope.PAYLOAD_TYPE,
        "signatures": [{"keyid": s.keyid, "sig": envelope.b64encode(s.sig).decode()} for s in forged.signatures],
    }
    case.entries[2] = canonical(wire, what="an envelope", error=ValueError)
    refuse(case, EnvelopeSignatureError, "wrong ecdsa-p256 signature")


def malleated(data: bytes) -> bytes:
    """The same signature with the other s."""
    parsed = Envelope.parse(data)
    r, s = decode_dss_signature(parsed.signatures[0].sig)
    twin = encode_dss_signature(r, keys._P256_ORDER - s)
    return data.replace(envelope.b64encode(parsed.signatures[0].sig), envelope.b64encode(twin))


def test_malleated_signature() -> None:
    refuse(shown(ONE, replace(TWO, data=malleated(TWO.data)), THREE), EnvelopeSignatureError, "low s")
    case = usual_case()
    case.entries[3] = malleated(case.entries[3])  # and even logged: two entries of one signature
    case.removed = {Envelope.parse(case.entries[3]).digest: (1, 4)}
    refuse(case, EnvelopeSignatureError, "low s", without=[(keys, "_P256_ORDER", 1 << 300)])


def test_two_operators_in_one_case() -> None:
    other = operator("Other")
    case = Case()
    trained, asked = case.say(training(), other.key), case.say(request())
    case.certify(trained, asked)
    trust = case.trust()
    trust = replace(trust, issuers=(*trust.issuers, TrustedIssuer("Other", other.key.public)))
    refuse(
        case, ChainError, "by Clinic, Other, expected one issuer", trust=trust,
        without=[(verifier, "_one_issuer", lambda signers: "Clinic")],
    )  # fmt: skip


# -- another log -------------------------------------------------------------------------------------------------------


def test_whole_case_from_an_unknown_log() -> None:
    foreign = replace(OTHER, key=CASE.operator.key)  # the issuer is trusted, its other log is not
    refuse(usual_case(foreign), CheckpointError, "other.example/ledger")


def test_log_of_the_same_name_with_another_key() -> None:
    impostor = replace(operator("Impostor"), key=CASE.operator.key)
    refuse(usual_case(impostor), CheckpointError, "no signature of a known key|wrong Ed25519")


def test_statement_from_another_log_of_the_same_issuer() -> None:
    foreign = Case(replace(OTHER, key=CASE.operator.key), entries=list(CASE.entries), shown=list(CASE.shown))
    mixed = (ONE, foreign.bundle().entries[1], THREE)
    refuse(shown(*mixed), InclusionError, "another checkpoint")


def test_entries_under_two_checkpoints_of_one_log() -> None:
    """Both are signed; a log that shows two histories would do just that."""
    case = replace(CASE, entries=[*CASE.entries, b"one more"])
    refuse(shown(ONE, case.bundle().entries[1], THREE), InclusionError, "another checkpoint")


@pytest.mark.parametrize("line", [0, 1, 2], ids=["origin", "size", "root"])
def test_checkpoint_edited(line: int) -> None:
    edited = [b"evil.example/ledger", b"5", b"A" * 43 + b"="][line]

    def edit(entry: Entry) -> Entry:
        head, _, note = entry.proof.partition(b"\n\n")
        lines = note.split(b"\n")
        lines[line] = edited
        return replace(entry, proof=head + b"\n\n" + b"\n".join(lines))

    refuse(
        shown(*map(edit, BUNDLE.entries)),
        CheckpointError if line == 0 else InclusionError,
        "evil.example" if line == 0 else "entry 1",
    )


def test_checkpoint_for_a_made_up_tree() -> None:
    """Consistent in itself, with the signature of the true checkpoint."""
    case = replace(CASE, entries=[b"made up", *CASE.entries[1:]])
    true = Note.parse(CASE.note())

    def forge(entry: Entry) -> Entry:
        proof = TlogProof.parse(entry.proof)
        note = Note(Note.parse(proof.checkpoint).text, true.signatures)
        return replace(entry, proof=replace(proof, checkpoint=note.format()).format())

    refuse(
        replace(BUNDLE, entries=tuple(map(forge, case.bundle().entries))), CheckpointError, "wrong Ed25519 signature"
    )


def test_entry_that_is_not_in_the_log() -> None:
    case = usual_case()
    bundle = case.bundle()
    forged = case.sign(request((2,)))
    entries = (bundle.entries[0], replace(bundle.entries[1], data=forged.data), bundle.entries[2])
    refuse(replace(bundle, entries=entries), InclusionError, "entry 2")


def test_proof_with_extra_data() -> None:
    proof = replace(TlogProof.parse(TWO.proof), extra=b"trust me")
    refuse(shown(ONE, replace(TWO, proof=proof.format()), THREE), InclusionError, "extra data")


@pytest.mark.parametrize("change", ["shorter", "longer", "flipped"])
def test_proof_altered(change: str) -> None:
    proof = TlogProof.parse(TWO.proof)
    paths = {"shorter": proof.path[:-1], "longer": (*proof.path, bytes(32)), "flipped": (bytes(32), *proof.path[1:])}
    altered = replace(TWO, proof=replace(proof, path=paths[change]).format())
    refuse(shown(ONE, altered, THREE), InclusionError, "entry 2", without=[NO_INCLUSION])


def test_post_quantum_signature_stripped() -> None:
    """Whoever breaks Ed25519 one day: the log's ML-DSA-44 key is in trust.toml, so both are needed."""
    case = usual_case(operator(post_quantum=True))
    trust = case.trust()
    assert accept(case, trust)

    def strip(entry: Entry) -> Entry:
        proof = TlogProof.parse(entry.proof)
        note = Note.parse(proof.checkpoint)
        return replace(entry, proof=replace(proof, checkpoint=Note(note.text, note.signatures[:1]).format()).format())

    bundle = case.bundle()
    stripped = replace(bundle, entries=tuple(map(strip, bundle.entries)))
    refuse(stripped, CheckpointError, "no ML-DSA-44 signature", trust=trust)
    classical = replace(trust, logs=(replace(trust.logs[0], keys=trust.logs[0].keys[:1]),))
    assert accept(stripped, classical)


# -- order and time ----------------------------------------------------------------------------------------------------


def test_request_logged_after_the_unlearning() -> None:
    case = Case()
    trained, asked = case.say(training()), case.sign(request())
    case.certify(trained, asked)
    case.log(asked)
    refuse(case, OrderError, "the request is entry 3, after the unlearning at entry 2", without=[NO_ORDER])


def test_training_logged_after_the_request() -> None:
    """Data committed to when it was known what would have to be missing from it."""
    case = Case()
    asked, trained = case.say(request()), case.say(training())
    case.certify(trained, asked)
    refuse(case, OrderError, "the request is entry 1, before the training at entry 2", without=[NO_ORDER])


def test_certificate_logged_before_its_training() -> None:
    case = Case()
    trained, asked = case.sign(training()), case.say(request())
    case.certify(trained, asked)
    case.log(trained)
    refuse(case, OrderError, "before its parent at entry 3", without=[NO_ORDER])


def test_certificate_backdated_to_before_its_model() -> None:
    refuse(usual_case(run=run(0, 20)), OrderError, "before its model was finished", without=[NO_ORDER])


def test_certificate_backdated_to_before_the_request() -> None:
    refuse(usual_case(run=run(9, 20)), OrderError, "was received after the unlearning began", without=[NO_ORDER])


def test_future_times() -> None:
    """A certificate dated ahead, to be handed out when the deadline has passed."""
    late = NOW + timedelta(minutes=6)
    hours = with_fields(run(19, 20), finished=verifier.format_time(late))
    refuse(
        usual_case(run=hours), KeyValidityError, "in the future", without=[(keyring, "CLOCK_SKEW", timedelta(days=1))]
    )
    assert accept(usual_case(run=with_fields(hours, finished=verifier.format_time(NOW + timedelta(minutes=5)))))


def test_finished_after_witnesses_saw_it() -> None:
    witness = Witness("witness.example")
    case = replace(CASE, cosigners=[(witness, day(19))])
    trust = case.trust(witnesses=[witness], quorum=1)
    refuse(case, OrderError, "after witnesses cosigned", trust=trust, without=[NO_ORDER])


# -- keys --------------------------------------------------------------------------------------------------------------


def test_expired_key() -> None:
    refuse(CASE, KeyValidityError, "expired on", trust=CASE.trust(not_after=day(15)))
    assert accept(CASE, CASE.trust(not_after=day(20)))


def test_key_not_yet_valid() -> None:
    refuse(CASE, KeyValidityError, "is valid from", trust=CASE.trust(not_before=day(5)))
    assert accept(CASE, CASE.trust(not_before=day(1)))


def test_key_revoked_before_it_signed() -> None:
    refuse(CASE, KeyValidityError, "was revoked on", trust=CASE.trust(revoked=day(15)))


def test_key_revoked_later_needs_witnesses() -> None:
    """Whoever stole the key can date what they sign as they please; only witnesses tell when it was logged."""
    a, b = Witness("witness.example/a"), Witness("witness.example/b")
    revoked = {"revoked": day(50)}
    refuse(
        CASE,
        RevokedKeyError,
        "no quorum of witnesses shows",
        trust=CASE.trust(**revoked),
        without=[NO_REVOKED],
    )
    seen = replace(CASE, cosigners=[(a, day(40)), (b, day(60))])
    assert accept(seen, CASE.trust(witnesses=[a, b], quorum=1, **revoked))
    for trust in (
        CASE.trust(witnesses=[b], quorum=1, **revoked),
        CASE.trust(witnesses=[a, b], quorum=2, **revoked),
        CASE.trust(witnesses=[a], quorum=1, revoked=day(40)),
        CASE.trust(**revoked),  # the cosignatures are there, but of nobody that is trusted
    ):
        refuse(seen, RevokedKeyError, "no quorum of witnesses shows", trust=trust)


# -- witnesses ---------------------------------------------------------------------------------------------------------


def test_quorum_not_met() -> None:
    a, b = Witness("witness.example/a"), Witness("witness.example/b")
    case = replace(CASE, cosigners=[(a, day(30))])
    assert accept(case, CASE.trust(witnesses=[a, b], quorum=1))
    without = [(verifier, "_witnessed", nothing)]
    for cosigned in (case, CASE):
        refuse(cosigned, CheckpointError, "expected 2", trust=CASE.trust(witnesses=[a, b], quorum=2), without=without)


def test_cosignature_of_an_unknown_witness_counts_for_nothing() -> None:
    a, stranger = Witness("witness.example/a"), Witness("stranger.example")
    case = replace(CASE, cosigners=[(stranger, day(30))])
    refuse(case, CheckpointError, "by 0 trusted witnesses", trust=CASE.trust(witnesses=[a], quorum=1))
    impostor = Witness("witness.example/a")  # the name of a trusted one, another key
    case = replace(CASE, cosigners=[(impostor, day(30))])
    refuse(case, CheckpointError, "by 0 trusted witnesses", trust=CASE.trust(witnesses=[a], quorum=1))


def test_one_witness_with_two_keys_counts_once() -> None:
    old, new, other = Witness("witness.example/a"), Witness("witness.example/a"), Witness("witness.example/b")
    case = replace(CASE, cosigners=[(old, day(30)), (new, day(31))])
    trust = CASE.trust(witnesses=[old, new, other], quorum=2)
    refuse(case, CheckpointError, "by 1 trusted witnesses", trust=trust)
    assert accept(replace(case, cosigners=[*case.cosigners, (other, day(32))]), trust)


def test_wrong_cosignature_of_a_known_witness() -> None:
    a = Witness("witness.example/a")
    forger = Witness("witness.example/a", a.key)
    case = replace(CASE, cosigners=[(a, day(30))])
    bundle = case.bundle()

    def backdate(entry: Entry) -> Entry:
        proof = TlogProof.parse(entry.proof)
        note = Note.parse(proof.checkpoint)
        line = note.signatures[-1]
        earlier = replace(
            line, payload=(int.from_bytes(line.payload[:8], "big") - 86_400).to_bytes(8, "big") + line.payload[8:]
        )
        return replace(
            entry, proof=replace(proof, checkpoint=Note(note.text, (note.signatures[0], earlier)).format()).format()
        )

    backdated = replace(bundle, entries=tuple(map(backdate, bundle.entries)))
    refuse(backdated, CheckpointError, "wrong Ed25519 signature", trust=CASE.trust(witnesses=[forger], quorum=1))


def test_cosignature_moved_from_another_checkpoint() -> None:
    a = Witness("witness.example/a")
    other = replace(CASE, entries=[*CASE.entries, b"one more"], cosigners=[(a, day(30))])
    line = Note.parse(other.note()).signatures[-1]

    def move(entry: Entry) -> Entry:
        proof = TlogProof.parse(entry.proof)
        note = Note.parse(proof.checkpoint)
        return replace(
            entry, proof=replace(proof, checkpoint=Note(note.text, (*note.signatures, line)).format()).format()
        )

    moved = shown(*map(move, BUNDLE.entries))
    refuse(moved, CheckpointError, "wrong Ed25519 signature", trust=CASE.trust(witnesses=[a], quorum=1))


@pytest.mark.parametrize("seconds", [2**63 - 1, 2**62, 10**12])
def test_cosignature_at_an_impossible_time(seconds: int) -> None:
    class Eternal(Witness):
        def cosign(self, note: bytes, when: Any) -> bytes:
            parsed = Note.parse(note)
            line = cosign(self.public, self.key.sign, Checkpoint.parse(parsed.text), seconds)
            return Note(parsed.text, (*parsed.signatures, line)).format()

    eternal = Eternal("witness.example/a")
    case = replace(CASE, cosigners=[(eternal, day(30))])
    refuse(case, CheckpointError, "impossible time", trust=CASE.trust(witnesses=[eternal], quorum=1))


def test_every_failure_says_what_was_established_before() -> None:
    failures: list[tuple[Case | Bundle, dict[str, Any], int, int]] = [
        (CASE, {"trust": usual_case(operator("Nobody")).trust()}, 1, 22),
        (shown(ONE, replace(TWO, proof=THREE.proof), THREE), {}, 2, 13),
        (usual_case(replace(OTHER, key=CASE.operator.key)), {}, 3, 14),
        (usual_case(run=run(0, 20)), {}, 4, 15),
        (usual_case(pre=LATER), {}, 5, 16),
        (CASE, {"given": Given(weights=PRE)}, 8, 19),
    ]
    for case, how, passed, code in failures:
        data = (case.bundle() if isinstance(case, Case) else case).to_bytes()
        with pytest.raises(VerificationError) as caught:
            verify(data, how.get("trust", CASE.trust()), now=NOW, given=how.get("given"))
        assert len(caught.value.passed) == passed
        assert caught.value.exit_code == code
        assert caught.value.step == passed + 1


# -- who logs what was signed for another log --------------------------------------------------------------------------


def test_statements_logged_again_in_another_trusted_log() -> None:
    """A second log that the verifier trusts takes the operator's envelopes in an order that suits it."""
    other = usual_case(OTHER)
    trust = replace(other.trust(), issuers=(TrustedIssuer("Clinic", OTHER.key.public),))
    refuse(other, CheckpointError, "is made for log", trust=trust, without=[(verifier, "_made_for", nothing)])


# -- who answers a request by leaving out others -----------------------------------------------------------------------


def test_fewer_records_left_out_than_requested_is_said() -> None:
    limits = accept(usual_case(positions=(1,))).limits
    assert any("names 1 records as left out, 2 were requested" in limit for limit in limits)
    assert not any("were requested." in limit for limit in accept(CASE).limits)


def test_other_records_left_out_than_requested_is_not_claimed_away() -> None:
    """Without openings nobody can tell: the verifier must not say that it did. A receipt can."""
    case = usual_case(positions=(2, 6))
    report = accept(case)
    assert not any("requested" in line for line in report.steps[5].established)
    assert any("the operator's word, but to whoever holds a receipt" in limit for limit in report.limits)
    with pytest.raises(MismatchError, match="not among those"):
        verify(case.data(), case.trust(), now=NOW, given=Given(receipts=[receipt().to_json()]))


def test_weights_from_before_an_unlearning_come_back() -> None:
    """A second certificate leads back to the weights that still hold what the first one forgot."""
    case = usual_case()
    first = Envelope.parse(case.entries[case.shown[2]])
    asked = case.say(request((5,)))
    case.certify(first, asked, positions=(5,), gone=(1, 4), pre=POST, post=PRE, run=run(21, 22))
    refuse(case, ChainError, "goes back to weights from before")


def test_cosignatures_of_the_future() -> None:
    witnesses = [Witness("w0.example"), Witness("w1.example")]
    case = usual_case()
    case.cosigners = [(witness, day(400)) for witness in witnesses]
    refuse(case, CheckpointError, "in the future", trust=case.trust(witnesses=witnesses, quorum=2))


def test_request_received_before_the_model_was_trained() -> None:
    """The operator knew of it when it committed to its data, whatever the order in the log."""
    case = usual_case(says_request=lambda: request(received=stamp(0)))
    refuse(case, OrderError, "before the model was trained")


def test_compromised_key_is_named() -> None:
    case = usual_case()
    case.say(revocation(case.operator.key, effective=stamp(30)))
    report = accept(case)
    assert any("compromised" in line for line in report.steps[1].established)
    assert any("revoked as compromised" in limit for limit in report.limits)
