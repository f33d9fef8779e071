"""Rotation and revocation by ``key/v1`` entries of the log, and what trust.toml says of keys."""

from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace as with_fields

from certify.errors import KeyValidityError, RevokedKeyError, UntrustedKeyError, VerificationError
from certify.keyring import CLOCK_SKEW, KeyRing
from certify.keys import ALGORITHMS, Algorithm, SigningKey
from certify.statement import KeyChange, KeyRecord, Statement
from certify.trust import Trust, TrustedIssuer
from certify.verifier import verify
from tests.cases import (
    NOW,
    Case,
    certificate,
    day,
    key_record,
    operator,
    request,
    revocation,
    rotation,
    stamp,
    training,
)

OLD = operator().key
NEW = SigningKey.generate("ed25519")
STRANGER = SigningKey.generate("ed25519")


def story(*keys: SigningKey | Statement | tuple[Statement, SigningKey, SigningKey]) -> Case:
    """A case whose training, request and certificate are signed by three keys in turn, with key changes in between."""
    case = Case()
    said = []
    for item in keys:
        if isinstance(item, tuple):
            case.say(item[0], *item[1:])
        elif isinstance(item, Statement):
            case.say(item)
        elif len(said) < 2:
            said.append(case.say((training, request)[len(said)](), item))
        else:
            envelope = case.say(certificate(*said), item)
            case.removed[envelope.digest] = (1, 4)
    return case


def accept(case: Case, trust: Trust | None = None, now: datetime = NOW) -> None:
    verify(case.data(), trust or case.trust(), now=now)


def refuse(case: Case, error: type[VerificationError], match: str, trust: Trust | None = None) -> None:
    with pytest.raises(error, match=match) as caught:
        accept(case, trust)
    assert type(caught.value) is error


HANDOVER = (rotation(OLD, NEW), OLD, NEW)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rotation_hands_over_to_the_new_key(algorithm: Algorithm) -> None:
    new = SigningKey.generate(algorithm)
    accept(story(OLD, (rotation(OLD, new), OLD, new), new, new))
    accept(story((rotation(OLD, new), OLD, new), new, new, new))


def test_rotation_twice() -> None:
    third = SigningKey.generate("ecdsa-p256")
    accept(story(OLD, HANDOVER, NEW, (rotation(NEW, third), NEW, third), third))


def test_old_key_after_rotation() -> None:
    refuse(story(OLD, HANDOVER, OLD, NEW), KeyValidityError, "was rotated or revoked at entry 2")
    refuse(story(OLD, HANDOVER, NEW, OLD), KeyValidityError, "was rotated or revoked at entry 2")


def test_new_key_before_rotation() -> None:
    refuse(story(NEW, HANDOVER, NEW, NEW), UntrustedKeyError, "not one of the trusted")


def test_rotation_back_to_a_key_that_has_ended() -> None:
    back = rotation(NEW, OLD)
    refuse(story(OLD, HANDOVER, NEW, (back, NEW, OLD), OLD), KeyValidityError, "was rotated or revoked at entry 2")


def test_revocation_counts_by_index_whatever_the_dates_say() -> None:
    accept(story(OLD, OLD, OLD, revocation(OLD, effective=stamp(0))))
    refuse(
        story(OLD, OLD, revocation(OLD, effective=stamp(50)), OLD), KeyValidityError, "rotated or revoked at entry 3"
    )


def test_revoked_key_does_not_rotate() -> None:
    refuse(story(OLD, revocation(OLD), HANDOVER, NEW, NEW), KeyValidityError, "rotated or revoked at entry 2")


def test_rotation_not_signed_by_the_new_key() -> None:
    """Somebody else's key cannot be taken hostage."""
    case = Case()
    case.say(rotation(OLD, NEW), OLD)
    refuse(case, UntrustedKeyError, "has 1 signatures, expected 2")


def test_rotation_not_signed_by_the_old_key() -> None:
    case = Case()
    case.say(rotation(OLD, NEW), NEW)
    refuse(case, UntrustedKeyError, "has 1 signatures, expected 2")
    refuse(story((rotation(OLD, NEW), NEW, OLD), NEW, NEW, NEW), UntrustedKeyError, "not signed by its new key second")


def test_rotation_by_strangers() -> None:
    refuse(story((rotation(OLD, NEW), STRANGER, NEW), NEW, NEW, NEW), UntrustedKeyError, "not one of the trusted")
    refuse(story((rotation(STRANGER, NEW), STRANGER, NEW), NEW, NEW, NEW), UntrustedKeyError, "not one of the trusted")
    refuse(story((rotation(STRANGER, NEW), OLD, NEW), NEW, NEW, NEW), UntrustedKeyError, "but signed by another")


def test_revocation_of_another_key() -> None:
    case = story(OLD, OLD, revocation(STRANGER), OLD)
    refuse(case, UntrustedKeyError, "but signed by another")


def test_two_signatures_where_one_is_due() -> None:
    case = Case()
    case.say(training(), OLD, NEW)
    trust = replace(case.trust(), issuers=(*case.trust().issuers, TrustedIssuer("Clinic", NEW.public)))
    refuse(case, UntrustedKeyError, "has 2 signatures, expected 1", trust)


RSA = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "changes",
    [
        {"spki": "AAAA"},
        {"spki": "A"},
        {"spki": b64encode(RSA).decode()},
        {"keyid": "0" * 64},
        {"algorithm": "ecdsa-p256"},
        {"spki": key_record(STRANGER).spki},
    ],
    ids=["not a key", "not base64", "RSA", "another id", "another algorithm", "another key"],
)
def test_rotation_to_a_key_that_is_not_what_it_says(changes: dict[str, Any]) -> None:
    record: KeyRecord = with_fields(key_record(NEW), **changes)
    refuse(
        story((rotation(OLD, NEW, successor=record), OLD, NEW), NEW, NEW, NEW),
        UntrustedKeyError,
        "new key of a rotation",
    )


def test_new_key_outside_its_window() -> None:
    late = rotation(OLD, NEW, successor=key_record(NEW, not_before=stamp(15)))
    refuse(story(OLD, (late, OLD, NEW), NEW, NEW), KeyValidityError, "is valid from")
    short = rotation(OLD, NEW, successor=key_record(NEW, not_after=stamp(15)))
    refuse(story(OLD, (short, OLD, NEW), NEW, NEW), KeyValidityError, "expired on")


def test_new_key_of_an_issuer_revoked_in_trust_needs_witnesses_too() -> None:
    case = story(OLD, HANDOVER, NEW, NEW)
    refuse(case, RevokedKeyError, "was revoked on", case.trust(revoked=day(50)))


def test_new_key_counts_no_longer_than_trust_gives_the_old_one() -> None:
    """Else whoever stole a key could make it last for ever by rotating it."""
    case = story(OLD, HANDOVER, NEW, NEW)
    accept(case, case.trust(not_after=day(60)))
    refuse(case, KeyValidityError, "expired on", case.trust(not_after=day(15)))


def test_trust_that_names_the_new_key_as_well() -> None:
    """What an operator hands out after a rotation: old bundles and new ones have to verify with it."""
    case = story(OLD, HANDOVER, NEW, NEW)
    both = replace(case.trust(), issuers=(*case.trust().issuers, TrustedIssuer("Clinic", NEW.public, day(0), day(99))))
    accept(case, both)
    ended = replace(both, issuers=(both.issuers[0], TrustedIssuer("Clinic", NEW.public, day(0), day(15))))
    refuse(case, KeyValidityError, "expired on", ended)
    others = replace(both, issuers=(both.issuers[0], TrustedIssuer("Hospital", NEW.public)))
    refuse(case, UntrustedKeyError, "a key of Hospital, not of Clinic", others)


def test_statement_may_be_a_little_ahead_of_the_verifiers_clock() -> None:
    case = story(OLD, OLD, OLD)
    accept(case, now=day(20) - CLOCK_SKEW)
    with pytest.raises(KeyValidityError, match="in the future"):
        accept(case, now=day(20) - CLOCK_SKEW - timedelta(seconds=1))


def test_ring_starts_anew_for_each_bundle() -> None:
    case = story(OLD, OLD, OLD, revocation(OLD))
    trust = case.trust()
    accept(case, trust)
    accept(case, trust)


def test_key_entries_that_are_left_out_are_not_seen() -> None:
    """A limit: a bundle that does not show a revocation is verified without it. Revoke in trust.toml, too."""
    case = story(OLD, revocation(OLD), OLD, OLD)
    refuse(case, KeyValidityError, "rotated or revoked")
    case.shown.remove(2)
    accept(case)
    refuse(case, RevokedKeyError, "no quorum of witnesses", case.trust(revoked=day(50)))


def test_admit_names_the_signer() -> None:
    case = Case()
    statement = training()
    signer = KeyRing(case.trust(), NOW).admit(0, case.sign(statement), statement)
    assert (signer.issuer, signer.key, signer.revoked) == ("Clinic", OLD.public, None)
    assert isinstance(rotation(OLD, NEW).predicate, KeyChange)
