"""Cases with deployments, and models made from other organisations' models, by hand. See tests.cases. ::

case = usual_case()
deploy(case, 3)                                        # entry 4: what the certificate at entry 3 is of serves
verify(case.data(), case.trust(), now=NOW)

labs = maker()                                         # another organisation's case, at its own log
case = tuned(labs)                                     # trained from its model, and names its certificate
verify(case.data(), case.trust(), now=NOW, given=Given(upstream=[bundled(labs)]))
"""

from typing import Any

from msgspec.structs import replace

from certify.bundle import Bundle
from certify.digest import Manifest
from certify.envelope import Envelope
from certify.keys import SigningKey
from certify.statement import TENSOR_ROOT, Base, Deployment, Statement, subject
from certify.trust import Trust
from certify.upstream import Bundled
from tests.cases import (
    LATER,
    ORIGIN,
    POST,
    PRE,
    Case,
    certificate,
    manifest,
    model,
    operator,
    request,
    run,
    stamp,
    training,
)

LABS = "labs.example/log"
TUNED = manifest(head=b"\5" * 8, body=b"\6" * 16)
FORGOT = manifest(head=b"\5" * 8, body=b"\7" * 16)
"""A model made from POST, and the same after it was made to forget."""


def deployment(of: Envelope, weights: Manifest = POST, day: int = 25, **changes: Any) -> Statement:
    """What an operator states whose model began to serve on that day."""
    said = Deployment(ORIGIN, "production", model(weights), of.digest, stamp(day), stamp(day))
    said = replace(said, **changes)
    return Statement((subject(TENSOR_ROOT, said.model.tensor_root),), said)


def deploy(case: Case, entry: int, weights: Manifest = POST, *keys: SigningKey, **changes: Any) -> Envelope:
    """Log that the model of an entry serves; by default the usual certificate's, POST."""
    return case.log(case.sign(deployment(Envelope.parse(case.entries[entry]), weights, **changes), *keys))


# -- other organisations' models ----------------------------------------------------------------------------------------


def maker(
    name: str = "Labs",
    origin: str = LABS,
    bases: list[Base] | None = None,
    first: int = 0,
    models: tuple[Manifest, Manifest] = (PRE, POST),
) -> Case:
    """An organisation whose model PRE was made to forget, and is POST since. ``first``: the day on which it all begins."""
    case = Case(operator(name, origin=origin), models=models)
    pre, post = models
    days = {"received": stamp(first + 2), "due": stamp(first + 40)}
    trained = case.say(training(pre, log=origin, base=bases or [], run=run(first, first + 1)))
    asked = case.say(request(log=origin, **days))
    case.certify(trained, asked, pre=pre, post=post, log=origin, run=run(first + 3, first + 4))
    return case


def later(case: Case) -> Envelope:
    """It is made to forget once more, and is LATER then."""
    before = Envelope.parse(case.entries[3])
    origin = case.operator.log_key.name
    asked = case.say(request((2,), log=origin, received=stamp(5), due=stamp(60)))
    case.models = (*case.models, LATER)
    return case.certify(before, asked, positions=(2,), gone=(1, 4), pre=POST, post=LATER, log=origin, run=run(6, 7))


def base(case: Case, entry: int = 3, weights: Manifest = POST, **changes: Any) -> Base:
    """How a training names the model of an entry of another organisation's log."""
    digest = Envelope.parse(case.entries[entry]).digest
    named = Base("vision-7b", weights.root().hex(), "apache-2.0", digest, case.operator.log_key.name)
    return replace(named, **changes)


def tuned(*bases: Base, **changes: Any) -> Case:
    """A case of Clinic's, whose training on days 8 and 9 started from these."""
    case = Case(operator("Clinic"), models=(TUNED, FORGOT))
    trained = case.say(training(TUNED, base=list(bases), run=run(8, 9), **changes))
    asked = case.say(request())
    case.removed[case.say(certificate(trained, asked, pre=TUNED, post=FORGOT)).digest] = (1, 4)
    return case


def bundled(case: Case, trust: Trust | None = None, data: bytes | None = None) -> Bundled:
    name = f"{case.operator.name.lower()}.bundle"
    return Bundled(name, data if data is not None else case.data(), trust if trust is not None else case.trust())


def trained_alone(case: Case) -> bytes:
    """The bundle of a case's training, without what followed."""
    case.shown, shown = case.shown[:1], case.shown
    whole = case.bundle()
    case.shown = shown
    root = PRE.root().hex()
    return Bundle(whole.entries, {root: whole.manifests[root]}, {}, {}).to_bytes()
