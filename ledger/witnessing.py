"""The log's side of witnessing: ask the witnesses of a policy to cosign a checkpoint, until a quorum has. C2SP tlog-witness.

::

    witnessing = Witnessing(Policy.parse(Path("policy.txt").read_bytes()))
    note = witnessing.collect(checkpoint, lambda old_size: consistency_proof(old_size))

All witnesses are asked at once. One that is down is asked again, ever later, until the deadline; one that has seen another size
says so (409) and gets the proof from there. What comes back counts only if it is a cosignature, by a key in the policy, of this
very checkpoint, at a time near this machine's. Once there is a quorum, those that answered quickly the last time get a moment
more.
"""

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.checkpoint import Checkpoint, parse_decimal
from ledger.cosignature import verify_cosignature
from ledger.errors import (
    LedgerError,
    MalformedError,
    MissingExtraError,
    SignatureError,
    SupersededError,
    WitnessError,
)
from ledger.http import checked_url, is_local
from ledger.note import MAX_SIGNATURES, Note, NoteSignature, VerifierKey, parse_signature_line
from ledger.policy import MAX_POLICY_SIZE, Policy, PolicyWitness
from ledger.witness import MAX_PROOF_LINES, SIZE_TYPE, Request

if TYPE_CHECKING:
    import httpx

DEADLINE = 10.0
"""Seconds in which a quorum has to be there."""
LINGER = 0.05
"""Seconds that the others get after that."""
TRY_TIME = 5.0
"""Seconds for one request, from connecting to the last byte."""
CLOCK_SKEW = 300
"""Seconds that a witness's time may differ from ours."""
_MAX_REPLY = 1 << 16
_MAX_REASON = 200
_MAX_CONFLICTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_RETRIED = (408, 429, 500, 502, 503, 504)

Prove = Callable[[int], Sequence[bytes]]
"""The consistency proof from an old size, above 0, to the checkpoint that is being cosigned."""


class _Refused(Exception):
    """A witness's answer that asking again would not change."""


class _Down(Exception):
    """No answer, or one that may change."""


@dataclass(slots=True)
class _Endpoint:
    """A witness's submission prefix, its keys that count, and the size that it cosigned last, as far as is known."""

    url: str
    keys: list[VerifierKey] = field(default_factory=list)
    size: int = 0
    took: float = 0.0
    """Seconds that the last answer took; infinite if there was none."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: "asyncio.Task[None] | None" = None

    @property
    def name(self) -> str:
        return self.keys[0].name


@dataclass(slots=True)
class _Round:
    """One checkpoint on its way round."""

    note: Note
    checkpoint: Checkpoint
    prove: Prove
    lines: dict[VerifierKey, NoteSignature] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    larger: int = 0
    over: bool = False


class Witnessing:
    """See the module. Threads may share it; it keeps connections open until it is closed.

    ``deadline`` and ``linger`` are in seconds, ``clock`` gives POSIX seconds.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        deadline: float = DEADLINE,
        linger: float = LINGER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.policy = policy
        self.deadline = deadline
        self._linger = linger
        self._clock = clock
        self._endpoints = _endpoints(policy.counted)
        self._loop: _Loop | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path, log_keys: Sequence[VerifierKey], *, deadline: float = DEADLINE) -> "Witnessing":
        """By a policy file, which may name logs: then this one has to be among them. Raises LedgerError."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_POLICY_SIZE + 1)
        except OSError as error:
            raise LedgerError(f"cannot read the witness policy {path}: {error.strerror}") from error
        try:
            policy = Policy.parse(data)
        except MalformedError as error:
            raise MalformedError(f"{path}: {error}") from error
        if policy.logs and not {log.key for log in policy.logs} & set(log_keys):
            raise MalformedError(f"{path} names logs, and none with a key of {log_keys[0].name}")
        return cls(policy, deadline=deadline)

    def close(self) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.close()
                self._loop = None

    def collect(
        self, note: bytes, prove: Prove, *, deadline: float | None = None, linger: float | None = None
    ) -> bytes:
        """The checkpoint ``note`` with the cosignatures of a quorum, and those of others that came in time.

        Cosignatures that it has already count, and stay. With ``linger`` everybody gets so many seconds, not only those who
        usually answer. Raises WitnessError, and SupersededError if witnesses have cosigned a
        larger tree.
        """
        parsed = Note.parse(note)
        round_ = _Round(parsed, Checkpoint.parse(parsed.text), prove)
        self._take_present(round_)
        wanted = [endpoint for endpoint in self._endpoints if not set(endpoint.keys) <= set(round_.lines)]
        if wanted:
            limit = self.deadline if deadline is None else deadline
            self._background().run(self._ask_all(round_, wanted, limit, linger), limit + (linger or self._linger) + 1)
        if not self.policy.satisfied(round_.times):
            raise self._failure(round_)
        return _merged(parsed, round_.lines)

    def _take_present(self, round_: _Round) -> None:
        keys = {(key.name, key.key_id): key for key in self.policy.witness_keys}
        for line in round_.note.signatures:
            key = keys.get((line.name, line.key_id))
            if key is not None:
                self._take(round_, key, line, verify_cosignature(key, round_.checkpoint, line.payload))

    @staticmethod
    def _take(round_: _Round, key: VerifierKey, line: NoteSignature, moment: int) -> None:
        round_.lines[key] = line
        round_.times[key.name] = max(moment, round_.times.get(key.name, 0))

    def _background(self) -> "_Loop":
        with self._lock:
            if self._loop is None:
                self._loop = _Loop(local=all(is_local(endpoint.url) for endpoint in self._endpoints))
            return self._loop

    def _failure(self, round_: _Round) -> WitnessError:
        came = ", ".join(sorted(round_.times)) or "nobody"
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(round_.reasons.items()))
        text = (
            f"the checkpoint of {round_.checkpoint.size} entries was cosigned by {came}, expected "
            f"{self.policy.describe()} ({reasons or 'no witness that counts has a URL in the policy'}). What was appended "
            f"stays, unacknowledged: append it again, or run 'certify log cosign', when enough witnesses answer"
        )
        return SupersededError(text, round_.larger) if round_.larger else WitnessError(text)

    # -- in the background's event loop ------------------------------------------------------------------------------

    async def _ask_all(
        self, round_: _Round, endpoints: Sequence[_Endpoint], deadline: float, linger: float | None
    ) -> None:
        """Until there is a quorum and a moment has passed, there can be none any more, or the deadline is over."""
        assert self._loop is not None
        client = self._loop.client
        end = time.monotonic() + deadline
        tasks = {asyncio.create_task(self._persist(client, endpoint, round_)): endpoint for endpoint in endpoints}
        pending = set(tasks)
        try:
            while pending and not self.policy.satisfied(round_.times):
                hopeful = {tasks[task].name for task in pending} | set(round_.times)
                if (left := end - time.monotonic()) <= 0 or not self.policy.satisfied(hopeful):
                    return
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a defect of ours would be an exception here
            round_.over = True
            quick = [task for task in pending if linger is not None or tasks[task].took <= self._linger]
            if quick:
                await asyncio.wait(quick, timeout=self._linger if linger is None else linger)
        finally:
            round_.over = True
            for task in pending:
                if tasks[task].asking is not task:  # a request that is under way tells how the witness is
                    task.cancel()

    async def _persist(self, client: "httpx.AsyncClient", endpoint: _Endpoint, round_: _Round) -> None:
        """Ask one witness until it answers; cancelled when the round is over."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with endpoint.turn:  # never two requests to one witness, however slow it is
                    lines = await self._ask_timed(client, endpoint, round_)
                for key, (line, moment) in lines.items():
                    self._take(round_, key, line, moment)
                round_.reasons.pop(endpoint.name, None)
                return
            except (_Refused, LedgerError) as error:
                round_.reasons[endpoint.name] = str(error)
                return
            except (_Down, TimeoutError) as error:
                round_.reasons[endpoint.name] = str(error) or f"no answer within {TRY_TIME:.0f} s"
            if round_.over:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            if round_.over:
                return
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _ask_timed(
        self, client: "httpx.AsyncClient", endpoint: _Endpoint, round_: _Round
    ) -> dict[VerifierKey, tuple[NoteSignature, int]]:
        began = time.monotonic()
        took = math.inf
        endpoint.asking = asyncio.current_task()
        try:
            async with asyncio.timeout(TRY_TIME):
                lines = await self._ask(client, endpoint, round_)
            took = time.monotonic() - began
            return lines
        finally:
            endpoint.asking, endpoint.took = None, took

    async def _ask(
        self, client: "httpx.AsyncClient", endpoint: _Endpoint, round_: _Round
    ) -> dict[VerifierKey, tuple[NoteSignature, int]]:
        """One witness's cosignatures, checked."""
        new = round_.checkpoint
        for _ in range(_MAX_CONFLICTS):
            old = min(endpoint.size, new.size)  # what a witness once claimed need not be so for ever
            proof = tuple(await asyncio.to_thread(round_.prove, old)) if 0 < old < new.size else ()
            assert len(proof) <= MAX_PROOF_LINES
            body = Request(old, proof, round_.note, new).format()
            status, type_, reply = await _post(client, f"{endpoint.url}/add-checkpoint", body)
            if status == 200:
                lines = self._check(endpoint, new, reply)
                endpoint.size = new.size
                return lines
            if status != 409:
                raise (_Down if status in _RETRIED else _Refused)(_reason(status, reply))
            if type_ != SIZE_TYPE or not reply.endswith(b"\n"):
                raise _Refused(f"status 409 with type {type_[:60]!r}, expected a size as {SIZE_TYPE}")
            endpoint.size = parse_decimal(reply[:-1].decode("ascii", "replace"), "the witness's size")
            if endpoint.size > new.size:
                round_.larger = max(round_.larger, endpoint.size)
                raise _Refused(f"has cosigned {endpoint.size} entries already")
        raise _Down("its size keeps changing")

    def _check(
        self, endpoint: _Endpoint, checkpoint: Checkpoint, reply: bytes
    ) -> dict[VerifierKey, tuple[NoteSignature, int]]:
        try:
            rows = reply.decode().split("\n")
        except UnicodeDecodeError as error:
            raise _Refused("the reply is not valid UTF-8, expected signature lines") from error
        if rows.pop() or not rows or len(rows) > MAX_SIGNATURES:
            raise _Refused("the reply is not one of signature lines")
        known = {(key.name, key.key_id): key for key in endpoint.keys}
        found: dict[VerifierKey, tuple[NoteSignature, int]] = {}
        for row in rows:
            line = parse_signature_line(row)
            key = known.get((line.name, line.key_id))
            if key is None:
                continue
            moment = verify_cosignature(key, checkpoint, line.payload)
            if abs(moment - self._clock()) > CLOCK_SKEW:
                raise SignatureError(
                    f"cosigned at {moment}, and this machine's clock is at {int(self._clock())}: expected at most {CLOCK_SKEW} s "
                    f"between; set the clocks"
                )
            found[key] = line, moment
        if not found:
            raise _Refused("the reply has no cosignature by a key in the policy")
        return found


class _Loop:
    """An event loop in a thread, and an HTTP client in it, so that connections outlive a round."""

    def __init__(self, *, local: bool) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingExtraError("expected the package httpx: pip install 'unlearning-ledger[remote]'") from error
        self.client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", "User-Agent": "unlearning-ledger"},
            timeout=TRY_TIME,
            follow_redirects=False,
            trust_env=not local,  # no proxy between this machine and itself
            limits=httpx.Limits(max_connections=256, keepalive_expiry=60),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="witnessing", daemon=True)
        self._thread.start()

    def run(self, job: Coroutine[Any, Any, None], limit: float) -> None:
        """Do ``job`` in the loop. Raises WitnessError if it is not over after ``limit`` seconds."""
        done: Future[None] = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            done.result(limit)
        except TimeoutError as error:
            done.cancel()
            raise WitnessError(f"the witnesses were not done within {limit:.0f} s") from error

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.client.aclose()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(TRY_TIME)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _post(client: "httpx.AsyncClient", url: str, body: bytes) -> tuple[int, str, bytes]:
    """Status, type and body of the reply."""
    import httpx

    try:
        async with client.stream("POST", url, content=body) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise _Refused("the reply is compressed, which was not asked for")
            parts: list[bytes] = []
            size = 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > _MAX_REPLY:
                    raise _Refused(f"the reply has more than {_MAX_REPLY:,} bytes")
                parts.append(part)
            return response.status_code, response.headers.get("content-type", ""), b"".join(parts)
    except httpx.HTTPError as error:
        raise _Down(f"{type(error).__name__}: {error}"[:_MAX_REASON]) from error


def _reason(status: int, reply: bytes) -> str:
    text = "".join(c if c.isprintable() else " " for c in reply[:_MAX_REASON].decode(errors="replace")).strip()
    return f"status {status}: {text or 'no reason given'}"


def _endpoints(witnesses: Iterable[PolicyWitness]) -> list[_Endpoint]:
    """The keys of one witness at one URL are asked for together. Raises LedgerError if what has to be a URL is none."""
    found: dict[tuple[str, str], _Endpoint] = {}
    for witness in witnesses:
        if witness.url is not None:
            url = checked_url(witness.url)
            found.setdefault((witness.key.name, url), _Endpoint(url)).keys.append(witness.key)
    return list(found.values())


def _merged(note: Note, lines: dict[VerifierKey, NoteSignature]) -> bytes:
    """The note with the lines that it does not have yet, in a fixed order, and no line of a stranger's added."""
    present = {(line.name, line.key_id) for line in note.signatures}
    more = sorted(
        (line for line in lines.values() if (line.name, line.key_id) not in present),
        key=lambda line: (line.name, line.key_id),
    )
    return Note(note.text, (*note.signatures, *more)).format()
