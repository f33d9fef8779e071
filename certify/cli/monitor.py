"""certify monitor: follow somebody else's log, and hold it to what it signed."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.exit_codes import FORKED, FSCK_FOUND, STATEMENTS_FOUND, exit_code
from certify.cli.options import FILE, json_option
from certify.cli.output import bad, dim, emit, good, plain, strong
from certify.errors import InputError

if TYPE_CHECKING:
    from certify.monitoring import Summary
    from certify.trust import Trust, TrustedLog
    from ledger.monitor import Finding, Outcome
    from ledger.note import VerifierKey
    from ledger.signed_checkpoint import SignedCheckpoint
    from ledger.views import View

_CODES = {
    "behind": 33,
    "log": FSCK_FOUND,
    "statement": STATEMENTS_FOUND,
    "overdue": STATEMENTS_FOUND,
    "rollback": STATEMENTS_FOUND,
    "unreachable": 52,
}
"""What a finding ends the command with; the first kind that was found counts."""
_WORDS = {
    "behind": "behind",
    "log": "wrong",
    "statement": "wrong",
    "overdue": "overdue",
    "rollback": "rollback",
    "unreachable": "unreachable",
}


@click.command()
@click.argument("url", required=False)
@click.option("--trust", "-t", "trust_path", type=FILE, required=True, help="The log's, issuers' and witnesses' keys.")
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), help="Folder that remembers how far it has looked."
)
@click.option("--once", is_flag=True, help="Look once and end: the default.")
@click.option("--every", type=click.IntRange(1), metavar="SECONDS", help="Go on looking, so many seconds apart.")
@click.option(
    "--witness-policy", type=FILE, help="Who has to have cosigned (C2SP tlog-policy); witnesses with a URL are asked."
)
@click.option(
    "--second", multiple=True, metavar="URL|FILE", help="Another view: a mirror, a folder, a friend's checkpoint."
)
@click.option(
    "--start", type=FILE, metavar="CHECKPOINT", help="Trust the entries of this signed checkpoint, look from there."
)
@click.option(
    "--limit", type=click.IntRange(1), default=10_000_000, show_default=True, help="Entries in one look, at most."
)
@click.option("--check-fork", type=FILE, help="Verify a fork proof that somebody handed you; needs no URL.")
@json_option
def monitor(
    url: str | None,
    trust_path: Path,
    state: Path | None,
    once: bool,
    every: int | None,
    witness_policy: Path | None,
    second: Sequence[str],
    start: Path | None,
    limit: int,
    check_fork: Path | None,
    as_json: bool,
) -> None:
    """Follow the log at URL (or in a folder): check that it only ever grows, hash every entry again, verify every statement.

    Nothing that the log serves is believed but its signature. If it ever shows two histories, to you or to whom you
    compare with, a file is written that proves it to anybody. Requests past their due date are reported,
    too, and deployments of models that precede an unlearning.

    \b
    Examples:
        certify monitor https://log.example/ --trust trust.toml --state watched
        certify monitor https://log.example/ -t trust.toml --state watched --every 60 --second friend.checkpoint
        certify monitor -t trust.toml --check-fork fork-1f2e3d4c.txt

    \b
    Exit codes:
        0 nothing found        51 the log forked: the proof is in the file named
        33 rolled back, or it shows less than others have seen
        35 a checkpoint that the log did not sign         50 too few witnesses cosigned
        39 it serves what it did not sign                 52 it cannot be reached
        58 statements that break the rules, requests overdue, rollbacks
    """
    from certify.trust import Trust

    trust = Trust.load(trust_path)
    if check_fork is not None:
        _check_fork(check_fork, trust, as_json)
        return
    if url is None:
        raise click.UsageError("name the log: certify monitor URL --trust trust.toml")
    if once and every is not None:
        raise click.UsageError("choose one of --once and --every")
    with ExitStack() as stack:
        look = _Look(stack, url, trust, state, witness_policy, second, start, limit, as_json)
        while True:
            code = look.once(lines=every is not None)
            if every is None or code == FORKED:
                break
            time.sleep(every)
    if code:
        raise click.exceptions.Exit(code)


class _Look:
    """One monitor and what it prints."""

    def __init__(
        self,
        stack: ExitStack,
        url: str,
        trust: "Trust",
        state: Path | None,
        policy: Path | None,
        second: Sequence[str],
        start: Path | None,
        limit: int,
        as_json: bool,
    ) -> None:
        from certify.inputs import read_file
        from certify.monitoring import Statements
        from ledger.monitor import Monitor
        from ledger.note import MAX_NOTE_SIZE
        from ledger.position import PositionFile
        from ledger.source import open_source

        self._as_json = as_json
        self._state = state
        self._findings: list[Finding] = []
        self._advance: Callable[[int, int], None] = lambda done, total: None
        if state is not None:
            state.mkdir(parents=True, exist_ok=True)
        source = open_source(url)
        stack.callback(source.close)
        self._log = _log(trust, source.checkpoint)
        self._statements = stack.enter_context(
            Statements(
                trust,
                self._log.origin,
                place=state / "statements.db" if state is not None else None,
                report=self._report,
            )
        )
        require, witness_keys, witnesses = _witnessing(trust, policy, self._log.origin)
        self._monitor = Monitor(
            source,
            self._log.keys,
            origin=self._log.origin,
            position=PositionFile(state / "position.txt") if state is not None else None,
            start=read_file(start, MAX_NOTE_SIZE) if start is not None else None,
            looker=self._statements,
            views=[*witnesses, *(_view(name, stack) for name in second)],
            witness_keys=witness_keys,
            require=require,
            limit=limit,
            report=self._report,
            progress=lambda done, total: self._advance(done, total),
        )

    def once(self, *, lines: bool) -> int:
        """Look, print what came of it, and return the exit code. ``lines``: JSON in one line."""
        from ledger.errors import ForkError, LedgerError

        self._findings.clear()
        value: dict[str, Any] = {"log": self._log.origin, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        code = 0
        began = time.monotonic()
        try:
            with _bar(f"looking at {self._log.origin}") as self._advance:
                outcome = self._monitor.once()
            value |= _outcome(outcome, time.monotonic() - began)
        except ForkError as error:
            path = self._write_proof(error.proof)
            code = FORKED
            value["fork"] = {"message": str(error), "proof": str(path)}
            self._say(bad("FORK"), str(error))
            self._say(
                "", f"The proof is in {path}. Keep it, stop relying on this log, and send it to those who do: with the"
            )
            self._say("", f"log's keys anybody can check it: certify monitor -t trust.toml --check-fork {path}")
        except LedgerError as error:
            code = exit_code(error)
            value["error"] = {"class": type(error).__name__, "message": str(error)}
            self._say(bad("error:"), str(error), err=True)
        else:
            for finding in self._statements.overdue():
                self._report(finding)
            summary = self._statements.summary()
            value |= _summary(summary)
            kinds = {finding.kind for finding in self._findings}
            code = next((code for kind, code in _CODES.items() if kind in kinds), 0)
            self._say(
                good("sound") if not kinds & {"log", "behind"} else bad("NOT SOUND"),
                _sentence(outcome, value["seconds"]),
            )
            self._say(dim("holds"), _holds(summary))
        value |= {"findings": [_finding(finding) for finding in self._findings], "exitCode": code}
        if self._as_json:
            click.echo(json.dumps(value)) if lines else emit(True, value)
        return code

    def _report(self, finding: "Finding") -> None:
        self._findings.append(finding)
        word = _WORDS.get(finding.kind)
        self._say(bad(word) if word else dim("note"), finding.line())

    def _say(self, word: str, text: str, *, err: bool = False) -> None:
        if not self._as_json:
            click.echo(f"{word}  {plain(text)}" if word else plain(text), err=err)

    def _write_proof(self, proof: bytes) -> Path:
        from certify.inputs import write_file

        path = (self._state or Path()) / f"fork-{sha256(proof).hexdigest()[:16]}.txt"
        write_file(path, proof)
        return path


def _check_fork(path: Path, trust: "Trust", as_json: bool) -> None:
    from certify.inputs import read_file
    from ledger.checkpoint import Checkpoint
    from ledger.fork import MAX_FORK_SIZE, ForkProof
    from ledger.note import Note

    proof = ForkProof.parse(read_file(path, MAX_FORK_SIZE))
    claimed = Checkpoint.parse(Note.parse(proof.smaller).text).origin
    log = next((log for log in trust.logs if log.origin == claimed), trust.logs[0])
    fork = proof.verify(log.keys, log.origin)
    sides = [{"size": side.size, "root": side.root.hex()} for side in (fork.smaller, fork.larger)]
    emit(
        as_json,
        {"forked": True, "log": log.origin, "checkpoints": sides},
        f"{strong('proven')}  {plain(fork.describe())}",
        "Both checkpoints carry the log's signature: whoever holds its key showed two histories.",
    )


def _log(trust: "Trust", checkpoint: Callable[[], bytes]) -> "TrustedLog":
    """The only log of the trust file, or the one that this claims to be."""
    if len(trust.logs) == 1:
        return trust.logs[0]
    claimed = checkpoint().split(b"\n", 1)[0]
    for log in trust.logs:
        if log.origin.encode() == claimed:
            return log
    names = ", ".join(log.origin for log in trust.logs)
    raise InputError(f"the log calls itself {claimed[:80]!r}, the trust file names {names}")


def _witnessing(
    trust: "Trust", path: Path | None, origin: str
) -> "tuple[Callable[[SignedCheckpoint], None], Sequence[VerifierKey], list[View]]":
    """What a checkpoint has to carry, the keys to check that with, and the witnesses to ask."""
    from certify.inputs import read_file
    from certify.keyring import CLOCK_SKEW
    from ledger.policy import MAX_POLICY_SIZE, Policy
    from ledger.views import view_of_witness

    given = Policy.parse(read_file(path, MAX_POLICY_SIZE)) if path is not None else None
    policy = given if given is not None else trust.witnessing

    def require(signed: "SignedCheckpoint") -> None:
        latest = int((datetime.now(UTC) + CLOCK_SKEW).timestamp())  # a cosignature from the future counts for nothing
        policy.check(replace(signed, cosigned={name: at for name, at in signed.cosigned.items() if at <= latest}))

    asked = [
        view_of_witness(witness.url, witness.key, origin) for witness in policy.witnesses if witness.url is not None
    ]
    return require, policy.witness_keys, asked


def _view(name: str, stack: ExitStack) -> "View":
    from ledger.source import open_source
    from ledger.views import view_of_file, view_of_source

    if Path(name).is_file():
        return view_of_file(Path(name))
    source = open_source(name)
    stack.callback(source.close)
    return view_of_source(source)


def _outcome(outcome: "Outcome", seconds: float) -> dict[str, Any]:
    return {
        "size": outcome.size,
        "looked": outcome.looked,
        "new": outcome.new,
        "seconds": round(seconds, 3),
        "checkpoint": outcome.checkpoint.decode(),
    }


def _sentence(outcome: "Outcome", seconds: float) -> str:
    rate = f", {outcome.new / seconds:,.0f} entries/s" if outcome.new and seconds else ""
    return f"{outcome.looked:,} of {outcome.size:,} entries looked at, {outcome.new:,} of them new{rate}"


def _summary(summary: "Summary") -> dict[str, Any]:
    return {
        "statements": summary.kinds,
        "unknownIssuer": summary.unknown,
        "noStatement": summary.other,
        "unanswered": summary.unanswered,
        "overdue": summary.overdue,
    }


def _holds(summary: "Summary") -> str:
    kinds = (
        ", ".join(f"{count} {kind}" for kind, count in sorted(summary.kinds.items()))
        or "no statement by a trusted issuer"
    )
    others = (
        f"; {summary.unknown} by unknown issuers, {summary.other} no statements"
        if summary.unknown + summary.other
        else ""
    )
    return f"{kinds}{others}; {summary.unanswered} requests unanswered, {summary.overdue} of them overdue"


def _finding(finding: "Finding") -> dict[str, Any]:
    entry = {} if finding.index is None else {"entry": finding.index}
    return {"kind": finding.kind, **entry, "text": finding.text}


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with entries/s, once a look takes longer than a moment."""
    import sys

    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None, rate="")
    began, first, told = time.monotonic(), -1, 0.0

    def update(done: int, total: int) -> None:
        nonlocal first, told
        now = time.monotonic()
        first = done if first < 0 else first
        if now - began < 0.7 or now - told < 0.1:
            return
        told = now
        bar.start()
        bar.update(task, completed=done, total=total, rate=f"{(done - first) / (now - began):,.0f} entries/s")

    try:
        yield update
    finally:
        bar.stop()
