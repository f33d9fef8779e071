"""Replayed cases made by hand, so that an attack can make any part otherwise. See tests.cases. ::

case = replayed_case()                                 # the usual case, then an identical replay at entry 4
verify(case.data(), trust(case), now=NOW)
"""

from dataclasses import replace as copy
from functools import cache
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from certify.digest import Manifest, diff
from certify.envelope import Envelope
from certify.keys import SigningKey
from certify.statement import TENSOR_ROOT, Method, Replay, Run, Statement, subject
from certify.trust import Trust, TrustedReplayer
from tests.cases import ENVIRONMENT, LATER, ORIGIN, POST, TREE, Case, model, stamp, usual_case

RECIPE = sha256(b"def unlearn(records): ...").hexdigest()
METHOD = Method("sisa-retrain", {"shards": 2}, ["7"], RECIPE)


def key(name: str = "replayer") -> SigningKey:
    return _key(name)


@cache
def _key(name: str) -> SigningKey:
    return SigningKey.generate("ed25519")


def replay(certificate: Envelope, got: Manifest = POST, day: int = 25, **changes: Any) -> Statement:
    """What somebody states who got these weights; ``changes`` are to what would be honest."""
    found = diff(POST, got)
    names = [*found.changed, *found.removed, *found.added]
    said = Replay(
        log=ORIGIN,
        run=Run(f"{day:032x}", stamp(day), stamp(day)),
        certificate=certificate.digest,
        recipe=RECIPE,
        outcome="different" if names else "identical",
        model=model(got),
        environment=ENVIRONMENT,
        before="none",
        differing=len(names),
        names=names,
        data=TREE,
    )
    said = replace(said, **changes)
    return Statement((subject(TENSOR_ROOT, said.model.tensor_root),), said)


def say(case: Case, got: Manifest = POST, by: SigningKey | None = None, **changes: Any) -> Envelope:
    """Log a replay of the case's certificate, which is its last one."""
    certificate = Envelope.parse(case.entries[3])
    return case.log(case.sign(replay(certificate, got, **changes), by or key()))


def replayed_case(got: Manifest = POST, **changes: Any) -> Case:
    case = usual_case(method=METHOD)
    say(case, got, **changes)
    return case


def failed_case(**changes: Any) -> Case:
    return replayed_case(LATER, **changes)


def trust(case: Case, *names: str, **window: Any) -> Trust:
    """Believes the case's operator, and replayers with the keys of these names; by default "replayer" alone."""
    replayers = tuple(
        TrustedReplayer(f"Example Replays {name}".removesuffix(" replayer"), key(name).public, **window)
        for name in names or ("replayer",)
    )
    return copy(case.trust(), replayers=replayers)
