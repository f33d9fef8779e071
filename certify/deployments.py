"""Step 8, for deployments: which model of the chain the operator says serves, and whether it precedes an unlearning. Pure.

What counts is the last ``deployment/v1`` of each name, by its place in the log, which nobody can backdate::

    entry 1  training        entry 4  deployment "production" of entry 3's model     current
    entry 3  certificate     entry 9  deployment "production" of entry 1's model     ROLLBACK: it precedes entry 3

A rollback says that it is one, and why. One that does not is refused: the statement contradicts the log before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from certify.chain import Chain, Link
from certify.errors import DeploymentError
from certify.keyring import CLOCK_SKEW, claimed_time
from certify.seen import Seen
from certify.statement import Deployment, Model, Training, Unlearning
from certify.times import format_time, parse_time

State = Literal["current", "behind", "rollback"]


@dataclass(frozen=True, slots=True)
class Deployed:
    """The last deployment of a name, at ``index`` of the log, of the model that entry ``model_entry`` logged.

    ``missing`` are the certificates of the case that the model precedes. ``state`` is ``behind`` where all of them were logged
    after the deployment. ``reason`` is a rollback's, as stated.
    """

    name: str
    index: int
    tensor_root: str
    model_entry: int
    since: str
    state: State
    missing: tuple[int, ...] = ()
    reason: str | None = None

    def __str__(self) -> str:
        """``production serves the model of entry 3 since 2026-02-01T00:00:00Z (entry 4)``"""
        told = f"{self.name} serves the model of entry {self.model_entry} since {self.since} (entry {self.index})"
        if self.state == "current":
            return told
        lacks = f", which precedes {unlearnings(self.missing)}" if self.missing else ""
        if self.state == "behind":
            return f"{told}{lacks}; no later deployment is here"
        return f"ROLLBACK: {told}{lacks}; the reason stated is {self.reason!r}"


@dataclass(frozen=True, slots=True)
class Found:
    """``lines`` are what step 8 says, ``limits`` what it does not show."""

    deployments: tuple[Deployed, ...]
    lines: tuple[str, ...]
    limits: tuple[str, ...]


def later(named: int, parents: Mapping[int, int], models: Mapping[int, str]) -> tuple[int, ...]:
    """The certificates that the model logged at entry ``named`` precedes.

    ``parents`` has the entry that each certificate goes on from, ``models`` each entry's model. A certificate that left the
    weights as they were is not preceded by them.

    >>> later(1, {3: 1, 5: 3}, {1: "a", 3: "a", 5: "b"})
    (5,)
    """

    children: dict[int, list[int]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)

    def after(entry: int) -> set[int]:
        found: set[int] = set()
        waiting = [entry]
        while waiting:
            new = set(children.get(waiting.pop(), ())) - found
            found |= new
            waiting += new
        return found

    same = [entry for entry in after(named) if models[entry] == models[named]]
    return tuple(sorted(after(max(same, default=named))))


def unlearnings(entries: Sequence[int]) -> str:
    """``the unlearning of entry 3``"""
    listed = ", ".join(map(str, entries[:6])) + (", …" if len(entries) > 6 else "")
    return f"the unlearning{'' if len(entries) == 1 else 's'} of entr{'y' if len(entries) == 1 else 'ies'} {listed}"


def check(chain: Chain, links: Sequence[Link], seen: Seen | None) -> Found:
    """Every deployment in the bundle is of a model of the chain, in order, and says so if it is a rollback.

    Raises DeploymentError.
    """
    lineage = [chain.training, *chain.unlearnings]
    by_digest = {link.digest: link for link in lineage}
    parents = {child.index: parent.index for parent, child in pairwise(lineage)}
    models = {link.index: _model(link).tensor_root for link in lineage}
    lines: list[str] = []
    last: dict[str, Deployed] = {}
    destroyed: dict[str, list[int]] = {}
    for link in links:
        said = link.statement.predicate
        if not isinstance(said, Deployment):
            continue
        of = by_digest.get(said.statement)
        if of is None:
            raise DeploymentError(
                f"entry {link.index} deploys a model by statement {said.statement[:16]}, which logged no model of this case"
            )
        _check(link, said, of, seen)
        missing = later(of.index, parents, models)
        before = tuple(entry for entry in missing if entry < link.index)
        if before and said.rollback is None:
            raise DeploymentError(
                f"HIDDEN ROLLBACK: entry {link.index} deploys the model of entry {of.index} under {said.name!r} as any other, "
                f"and it precedes {unlearnings(before)}, logged before it: the model that serves was not made to forget"
            )
        state: State = "rollback" if said.rollback is not None else "behind" if missing else "current"
        made = Deployed(
            said.name, link.index, said.model.tensor_root, of.index, said.since, state, missing, said.rollback
        )
        last[said.name] = made
        lines += _told(link, said, of, models, before, destroyed.get(said.model.tensor_root, ()))
        for copy in said.destroyed:
            destroyed.setdefault(copy.model, []).append(link.index)
    return Found(tuple(last.values()), tuple(lines), tuple(_limits(last.values(), destroyed)))


def _check(link: Link, said: Deployment, of: Link, seen: Seen | None) -> None:
    """It is the model that it says, and was there before."""
    model = _model(of)
    if said.model != model:
        raise DeploymentError(
            f"entry {link.index} deploys {said.model.tensor_root}, the model of entry {of.index} is {model.tensor_root}"
        )
    if link.index <= of.index:
        raise DeploymentError(f"the deployment is entry {link.index}, before its model was logged at entry {of.index}")
    if parse_time(said.since) < claimed_time(of.statement) - CLOCK_SKEW:
        raise DeploymentError(
            f"entry {link.index} states that the weights serve since {said.since}, before they were finished"
        )
    if seen is not None and parse_time(said.stated) > seen.time + CLOCK_SKEW:
        raise DeploymentError(f"entry {link.index} states {said.stated}, after {seen.how} at {format_time(seen.time)}")


def _told(
    link: Link, said: Deployment, of: Link, models: Mapping[int, str], before: Sequence[int], gone: Sequence[int]
) -> Iterable[str]:
    what = f"entry {link.index}: the model of entry {of.index} serves under {said.name!r} since {said.since}"
    if said.rollback is None:
        yield what
    else:
        lacks = f"it precedes {unlearnings(before)}; " if before else ""
        yield f"{what}: ROLLBACK, {lacks}the reason stated is {said.rollback!r}"
    if gone:
        yield f"entry {gone[-1]} stated that copies of these very weights were destroyed"
    for copy in said.destroyed:
        known = [entry for entry, root in models.items() if root == copy.model]
        which = (
            f"entry {known[0]}" if known else f"tensor root {copy.model[:16]}, of which this case knows nothing else"
        )
        yield f"entry {link.index}: copies of the model of {which} were destroyed on {copy.when}: {copy.how}"
    if said.notified:
        yield f"entry {link.index}: told were {', '.join(f'{one.count} {one.who}' for one in said.notified)}"


def _limits(last: Iterable[Deployed], destroyed: Mapping[str, Sequence[int]]) -> Iterable[str]:
    found = list(last)
    if not found:
        return
    for one in found:
        if one.state == "rollback":
            yield f"{one}. What serves there is not the model that this certificate is about."
        elif one.state == "behind":
            yield f"{one}: what serves there is not known to be the model that this certificate is about."
        if said := [entry for entry in destroyed.get(one.tensor_root, ()) if entry != one.index]:
            yield f"{one.name} is said to serve weights of which entry {said[-1]} says that copies were destroyed."
    yield (
        "That these weights serve, who was told and which copies were destroyed is the operator's word. Deployments that are not "
        "in the bundle would be in the log, not here."
    )


def _model(link: Link) -> Model:
    said = link.statement.predicate
    assert isinstance(said, Training | Unlearning)
    return said.model if isinstance(said, Training) else said.post
