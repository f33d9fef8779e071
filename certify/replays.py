"""Step 8, for replays: who ran the certificate's recipe again, and whether the same bits came out. Pure, without torch.

What counts is each trusted replayer's last ``replay/v1`` about the case's certificate::

    entry 4, by Example Replays    different      told, and replaced by
    entry 9, by Example Replays    identical      this one: grade *replayed*, where there is no proof

"identical" is not believed: the tensor root that was obtained has to be the certificate's. What the recipe does, and that it does
not simply carry the weights along, is for whoever reads the file that the statement names by its SHA-256.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from certify.chain import Chain, Link
from certify.errors import FailedReplayError, ReplayError
from certify.keyring import CLOCK_SKEW, Signer
from certify.seen import Seen
from certify.statement import Replay, Training, Unlearning
from certify.times import format_time, parse_time

IDENTICAL: Literal["identical"] = "identical"
DIFFERENT: Literal["different"] = "different"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replayer's last statement comes to; it stands at ``index`` of the log."""

    replayer: str
    outcome: str
    index: int
    finished: str
    age_days: int
    recipe: str
    named: bool
    """The certificate names the recipe by this SHA-256."""
    differing: int
    names: tuple[str, ...]
    data_checked: bool
    unchecked: int
    before: str
    not_pinned: tuple[str, ...]
    earlier: tuple[str, ...] = ()
    """The outcomes before the last one."""

    @property
    def failed(self) -> bool:
        return self.outcome != IDENTICAL

    def __str__(self) -> str:
        """``identical by Example Replays (entry 4), after different``"""
        after = f", after {', '.join(self.earlier)}" if self.earlier else ""
        what = f", {self.differing} tensors differ" if self.failed else ""
        return f"{self.outcome} by {self.replayer} (entry {self.index}){what}{after}"


@dataclass(frozen=True, slots=True)
class Found:
    """``lines`` are what step 8 says, ``limits`` what it does not show."""

    replays: tuple[Replayed, ...]
    lines: tuple[str, ...]
    limits: tuple[str, ...]

    @property
    def replayed(self) -> bool:
        """Somebody trusted got the same bits, and nobody trusted got others."""
        return bool(self.replays) and not any(replay.failed for replay in self.replays)


def check(
    chain: Chain,
    links: Sequence[Link],
    replayers: Mapping[int, Signer | None],
    *,
    own: Iterable[int],
    issuer: str,
    seen: Seen | None,
    now: datetime,
    allow_failed: bool = False,
) -> Found:
    """``replayers``: who signed each replay, by index, None for those that trust.toml does not name. ``own``: indices of those
    that a key of an issuer signed. Raises ReplayError."""
    lines: list[str] = []
    by_name: dict[str, list[Link]] = {}
    issuers = set(own)
    for link in links:
        if not isinstance(link.statement.predicate, Replay):
            continue
        signer = replayers[link.index]
        if link.index in issuers or (signer is not None and signer.issuer == issuer):
            raise ReplayError(
                f"the replay at entry {link.index} is by {issuer} itself or another issuer, expected one by somebody else: "
                f"an operator who runs its own recipe again shows nothing"
            )
        if signer is None:
            lines.append(
                f"entry {link.index}: a replay by somebody that trust.toml does not name: it counts for nothing"
            )
            continue
        _check(link, link.statement.predicate, chain, seen)
        by_name.setdefault(signer.issuer, []).append(link)
        lines.append(_told(signer.issuer, link.index, link.statement.predicate))
    results = tuple(_result(name, said, chain, now) for name, said in sorted(by_name.items()))
    for replay in results:
        if replay.failed and not allow_failed:
            raise FailedReplayError(
                f"FAILED REPLAY: {replay.replayer} ran the recipe again and got other weights (entry {replay.index}; "
                f"{replay.differing} tensors differ{_some(replay.names)}). All is authentic, and the weights are not shown to "
                f"follow from the recipe{_unpinned(replay)}; --allow-failed-replay goes on"
            )
    return Found(results, tuple(lines), tuple(_limits(results)))


def _check(link: Link, replay: Replay, chain: Chain, seen: Seen | None) -> None:
    """It is about this certificate, came after it, and its outcome is what its root says."""
    certificate, training = chain.case.statement.predicate, chain.training.statement.predicate
    assert isinstance(certificate, Unlearning) and isinstance(training, Training)
    if replay.certificate != chain.case.digest:
        raise ReplayError(
            f"the replay at entry {link.index} is of certificate {replay.certificate[:16]}, expected the case's, "
            f"{chain.case.digest[:16]}"
        )
    if link.index <= chain.case.index:
        raise ReplayError(f"the replay is entry {link.index}, before its certificate at entry {chain.case.index}")
    if (replay.outcome == IDENTICAL) != (replay.model == certificate.post):
        raise ReplayError(
            f"the replay at entry {link.index} says {replay.outcome}, and got the model {replay.model.tensor_root}; the "
            f"certificate's is {certificate.post.tensor_root}"
        )
    if replay.data is not None and replay.data != training.dataset:
        raise ReplayError(f"the replay at entry {link.index} was run on other training data than the certificate's")
    began, ended = parse_time(replay.run.started), parse_time(replay.run.finished)
    if began < parse_time(certificate.run.finished) - CLOCK_SKEW:
        raise ReplayError(
            f"the replay at entry {link.index} states a start at {replay.run.started}, before its certificate was made"
        )
    if seen is not None and ended > seen.time + CLOCK_SKEW:
        raise ReplayError(
            f"entry {link.index} states {format_time(ended)}, after {seen.how} at {format_time(seen.time)}"
        )


def _told(name: str, index: int, replay: Replay) -> str:
    ran = f"entry {index}: {name} ran the recipe {replay.recipe[:16]} again"
    if replay.outcome == IDENTICAL:
        return f"{ran} and got the certificate's weights, bit for bit"
    return f"{ran} and got other weights: {replay.differing} tensors differ{_some(replay.names)}"


def _some(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def _unpinned(replay: Replayed) -> str:
    if not replay.not_pinned:
        return ""
    shown = "; ".join(replay.not_pinned[:3]) + ("; …" if len(replay.not_pinned) > 3 else "")
    return f". What could not be made as it was may be why: {shown}"


def _result(name: str, said: Sequence[Link], chain: Chain, now: datetime) -> Replayed:
    certificate, last = chain.case.statement.predicate, said[-1].statement.predicate
    assert isinstance(certificate, Unlearning) and isinstance(last, Replay)
    outcomes = [one.statement.predicate.outcome for one in said if isinstance(one.statement.predicate, Replay)]
    return Replayed(
        replayer=name,
        outcome=last.outcome,
        index=said[-1].index,
        finished=last.run.finished,
        age_days=max(now - parse_time(last.run.finished), timedelta(0)).days,
        recipe=last.recipe,
        named=certificate.method.recipe == last.recipe,
        differing=last.differing,
        names=tuple(last.names),
        data_checked=last.data is not None,
        unchecked=last.unchecked,
        before=last.before,
        not_pinned=tuple(last.not_pinned),
        earlier=tuple(outcomes[:-1]),
    )


def _limits(replays: Sequence[Replayed]) -> Iterable[str]:
    if not replays:
        return
    yield (
        "A replay shows that a recipe gives these bits. That the recipe does what the method's name says, and does not just "
        "carry the weights along, is for whoever reads the file that the replay names by its SHA-256."
    )
    yield "Replays that are not in the bundle would be in the log, not here."
    for replay in replays:
        if not replay.named:
            yield (
                f"The certificate does not name the recipe that {replay.replayer} ran, {replay.recipe[:16]}: it may have been "
                f"written afterwards."
            )
        if not replay.data_checked:
            yield (
                f"{replay.replayer} did not check that the data replayed on are those committed to at training: the operator's "
                f"salts were not at hand."
            )
        elif replay.unchecked:
            yield f"{replay.replayer} could not check {replay.unchecked} of the records replayed on: no salts, or not given."
        if replay.before == "given":
            yield f"{replay.replayer} was given the weights to start from, which are those that the log names."
        for what in replay.not_pinned:
            yield f"Not as it was when {replay.replayer} ran it again: {what}."
