"""The chain of models across organisations: a training names the models that it started from, and their makers' statements.

A base model is named by its tensor root and, since its maker may be anybody, by the SHA-256 of the certificate or training that
its maker logged, and that log's origin. Whoever verifies gives the maker's bundle and, because nobody is believed by way of
somebody else, a trust file for it. Pure::

    this case              by Example Clinic, attested
      vision-7b            by Example Labs, exclusion proven, licence apache-2.0     base.bundle, base-trust.toml
        vision-pretrained  not verified                                              no bundle given

The case's own grade stays what it is. What is not followed is said, and so is the weakest link.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from certify import chain as chains
from certify.bundle import MAX_BUNDLE_SIZE, Bundle
from certify.chain import Chain, Link
from certify.errors import StatementError, UpstreamError, VerificationError
from certify.inputs import read_file
from certify.keyring import CLOCK_SKEW
from certify.statement import Base, Model, Statement, Training, Unlearning, checked
from certify.times import format_time, parse_time
from certify.trust import Trust

UNVERIFIED = "not verified"
MAX_DEPTH = 32
"""Models, one made from the other, that are followed at most."""
MAX_MODELS = 1024
"""Base models that are told at most, each as often as it is named."""


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundle given for a base model, and whom to believe about it; ``name`` is the file's."""

    name: str
    data: bytes
    trust: Trust


@dataclass(frozen=True, slots=True)
class Verified:
    """What a given bundle shows: the model of one statement, by its issuer. ``beside`` are audits, replays and deployments."""

    statement: str
    kind: str
    index: int
    issuer: str
    grade: str
    tensor_root: str
    log: str
    finished: datetime
    chain: tuple[Link, ...]
    """The training and the certificates that led to the model, the last one being its own."""
    beside: tuple[str, ...] = ()
    start: Link | None = None
    """The earlier training that the training went on from, if it says so."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A base model as a training names it, ``depth`` 1 for the case's own, and what its maker's bundle shows, if it was given."""

    base: str
    depth: int
    tensor_root: str
    licence: str | None
    statement: str | None
    log: str | None
    issuer: str | None = None
    grade: str = UNVERIFIED
    kind: str | None = None
    index: int | None = None
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``vision-7b by Example Labs, attested (training at entry 4 of labs.example/log), licence apache-2.0``"""
        licence = f", licence {self.licence}" if self.licence is not None else ", no licence stated"
        if self.issuer is None:
            return f"{self.base}: {UNVERIFIED}{licence}"
        return f"{self.base} by {self.issuer}, {self.grade} ({self.kind} at entry {self.index} of {self.log}){licence}"


@dataclass(frozen=True, slots=True)
class Found:
    """``lines`` are what step 9 says, ``limits`` what is not shown."""

    upstream: tuple[Upstream, ...]
    lines: tuple[str, ...]
    limits: tuple[str, ...]


def base_of(bundle: bytes | str | Path, name: str, licence: str | None = None) -> Base:
    """How a training names the model that a bundle (its bytes, or a file) is about; nothing of it is verified by this. ::

        with certify.training(model, ledger="ledger", data=data, base=[base_of("base.bundle", "vision-7b", "apache-2.0")]):

    Raises VerificationError for what is no bundle, StatementError for a name that no statement can hold.
    """
    data = bundle if isinstance(bundle, bytes) else read_file(Path(bundle), MAX_BUNDLE_SIZE + 1)
    links = _links(Bundle.parse(data))
    last = _lineage(links)[-1]
    model, log = model_of(last), last.statement.predicate.log
    return checked(Base(name, model.tensor_root, licence, last.digest, log))


def model_of(link: Link) -> Model:
    """The model that a training or certificate logged."""
    said = link.statement.predicate
    assert isinstance(said, Training | Unlearning)
    return said.model if isinstance(said, Training) else said.post


def _links(bundle: Bundle) -> list[Link]:
    try:
        return [
            Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload))
            for entry in bundle.entries
        ]
    except StatementError as error:
        raise UpstreamError(f"the bundle of a base model holds something else than statements: {error}") from error


def _lineage(links: Sequence[Link]) -> list[Link]:
    """The training and the certificates of a bundle; of a training's bundle, the training alone."""
    if not any(isinstance(link.statement.predicate, Unlearning) for link in links):
        return [only_training(links)]
    chain = chains.build(links)
    return [chain.training, *chain.unlearnings]


def only_training(links: Sequence[Link]) -> Link:
    """The training in a bundle that has one, and else nothing but keys. Raises UpstreamError."""
    others = [link for link in links if link.statement.kind != "key"]
    if len(others) != 1 or not isinstance(others[0].statement.predicate, Training):
        kinds = ", ".join(link.statement.kind for link in others) or "no statement"
        raise UpstreamError(f"expected the bundle of a certificate or of a training, this has {kinds}")
    return others[0]


# -- following -----------------------------------------------------------------------------------------------------------


def follow(
    chain: Chain, grade: str, given: Sequence[Bundled], verify: Callable[[Bundled], Verified], grades: Sequence[str]
) -> Found:
    """Follow the bases of a case through the bundles given, each verified by itself. ``grades``: from the weakest on.

    Raises UpstreamError for a bundle that does not verify, or that no training on the way names.
    """
    verified = [(one, verified_by(one, verify)) for one in given]
    walk = _Walk(verified)
    own = (chain.training, *chain.unlearnings)
    walk.down(_trainings(chain.training, chain.start), [own])
    walk.refuse_unused()
    lines = [f"{'base of the model' if one.depth == 1 else 'base of a base'}: {one}" for one in walk.found]
    return Found(tuple(walk.found), tuple(lines), tuple(_limits(walk.found, grade, grades)))


def verified_by(given: Bundled, verify: Callable[[Bundled], Verified]) -> Verified:
    """What a bundle shows. Raises UpstreamError, whatever is wrong with it."""
    try:
        return verify(given)
    except UpstreamError:
        raise
    except VerificationError as error:
        raise UpstreamError(
            f"the bundle {given.name} of a base model does not verify under its trust file, at step {error.step}: {error}"
        ) from error


def _trainings(training: Link, start: Link | None) -> tuple[Link, ...]:
    """Those whose bases a model has: its own, and the earlier one that this went on from."""
    return (training,) if start is None else (training, start)


class _Walk:
    """Down from the case, depth first, in the order in which trainings name their bases."""

    def __init__(self, verified: Sequence[tuple[Bundled, Verified]]) -> None:
        self._verified = verified
        self._used: set[int] = set()
        self._open: list[Base] = []
        self.found: list[Upstream] = []

    def down(self, trainings: Iterable[Link], above: Sequence[tuple[Link, ...]]) -> None:
        """``above``: the chains from the case down to these trainings' own."""
        if len(above) > MAX_DEPTH:
            raise UpstreamError(f"expected at most {MAX_DEPTH} models made one from the other, got more")
        for training in trainings:
            said = training.statement.predicate
            assert isinstance(said, Training)
            for base in said.base:
                self._take(base, said, above)

    def _take(self, base: Base, training: Training, above: Sequence[tuple[Link, ...]]) -> None:
        if base.digest in {model_of(link).tensor_root for chain in above[:-1] for link in chain}:
            raise UpstreamError(
                f"CIRCULAR: the base model {base.name} is one that was made from it, {base.digest[:16]}, as trainings say"
            )
        if len(self.found) == MAX_MODELS:
            raise UpstreamError(f"expected at most {MAX_MODELS} base models in all, got more")
        found = self._find(base)
        named = Upstream(base.name, len(above), base.digest, base.licence, base.statement, base.log)
        if found is None:
            self._open.append(base)
            self.found.append(named)
            return
        place, one = found
        if one.statement in {link.digest for chain in above for link in chain}:
            raise UpstreamError(
                f"CIRCULAR: the base model {base.name} is a model of the very chain that starts from it"
            )
        _check(base, training, self._verified[place][0].name, one)
        _refuse_return(base, one, above)
        self._used.add(place)
        self.found.append(
            Upstream(
                base.name,
                len(above),
                base.digest,
                base.licence,
                one.statement,
                one.log,
                one.issuer,
                one.grade,
                one.kind,
                one.index,
                one.beside,
            )
        )
        self.down(_trainings(one.chain[0], one.start), [*above, one.chain])

    def _find(self, base: Base) -> tuple[int, Verified] | None:
        """By the statement that the training names; by the weights where it names none."""
        for place, (_, one) in enumerate(self._verified):
            if one.statement == base.statement or (base.statement is None and one.tensor_root == base.digest):
                return place, one
        return None

    def refuse_unused(self) -> None:
        """A bundle that was given is one that a training names."""
        for place, (given, one) in enumerate(self._verified):
            if place not in self._used:
                raise UpstreamError(_why_not(given.name, one, self._open, [v for _, v in self._verified[:place]]))


def _check(base: Base, training: Training, name: str, one: Verified) -> None:
    """The bundle is of the weights, the log and the time that the training needs."""
    if one.tensor_root != base.digest:
        raise UpstreamError(
            f"{name} is about the model {one.tensor_root}, the training names {base.digest} as its base {base.name}"
        )
    if base.log is not None and one.log != base.log:
        raise UpstreamError(
            f"{name} is of the log {one.log!r}, the training names {base.log!r} for its base {base.name}"
        )
    if one.finished > parse_time(training.run.started) + CLOCK_SKEW:
        raise UpstreamError(
            f"the base {base.name} was finished at {format_time(one.finished)}, after the training that starts from it began, at "
            f"{training.run.started}"
        )


def _refuse_return(base: Base, one: Verified, above: Sequence[tuple[Link, ...]]) -> None:
    """No model made from the base is one that the base's maker had left behind: that would give back what it had forgotten."""
    left = {model_of(link).tensor_root: link for link in one.chain[:-1]}
    left.pop(one.tensor_root, None)
    for link in (link for chain in above for link in chain):
        if (old := left.get(model_of(link).tensor_root)) is not None:
            raise UpstreamError(
                f"the model of entry {link.index} has the very weights of entry {old.index} of {one.log}, from BEFORE AN "
                f"UNLEARNING of the base model {base.name} that it is said to be made from"
            )


def _why_not(name: str, one: Verified, bases: Sequence[Base], others: Sequence[Verified]) -> str:
    about = f"{name} is about the {one.kind} {one.statement[:16]} of the model {one.tensor_root[:16]}"
    if any(other.statement == one.statement for other in others):
        return f"{about}, for which another bundle was given: leave one out"
    for base in bases:
        earlier = next((link for link in one.chain[:-1] if link.digest == base.statement), None)
        if earlier is not None:
            kind = _kind(earlier)
            return (
                f"{about}, which follows the {kind} at entry {earlier.index} that the training names for its "
                f"base {base.name}: the base PRECEDES AN UNLEARNING that its maker has made since. The bundle expected is of "
                f"entry {earlier.index}"
            )
        if one.tensor_root == base.digest:
            return f"{about}, expected the statement {str(base.statement)[:16]} that the training names for its base {base.name}"
    expected = "; ".join(
        f"{base.name}, the model {base.digest[:16]}"
        + (f" by the statement {base.statement[:16]} in the log {base.log}" if base.statement is not None else "")
        for base in bases
    )
    return f"{about}, expected {expected or 'none: every base model that is named was given, or there is none'}"


def _kind(link: Link) -> str:
    return "training" if isinstance(link.statement.predicate, Training) else "certificate"


def _limits(found: Sequence[Upstream], grade: str, grades: Sequence[str]) -> Iterable[str]:
    if not found:
        return
    missing = [one for one in found if one.issuer is None]
    for one in missing:
        unnamed = "" if one.statement is not None else "; the training names no statement of its maker"
        yield (
            f"The base model {one.base} ({one.tensor_root[:16]}) was not verified: give its bundle with --upstream{unnamed}."
        )
    followed = [one for one in found if one.issuer is not None]
    if missing:
        yield f"The weakest link of the chain of models is {missing[0].base}, which was not verified."
    else:
        ranked = sorted(followed, key=lambda one: grades.index(one.grade))
        weakest = ranked[0]
        if grades.index(weakest.grade) <= grades.index(grade):
            yield f"The weakest link of the chain of models is {weakest.base} by {weakest.issuer}: {weakest.grade}."
        else:
            yield f"The weakest link of the chain of models is this case itself: {grade}."
    for one in followed:
        yield from (f"Of the base model {one.base}: {what}." for what in one.beside if what.startswith("ROLLBACK"))
    if followed:
        yield (
            "Whether the maker of a base model has made it forget more since is in its log, not here. What a base model's bundle "
            "does not show, 'certify verify' says of that bundle."
        )
    yield "That training started from the base models named, and from no other, and their licences are the operator's word."
