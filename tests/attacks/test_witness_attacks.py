"""Attacks around witnesses: by a log that shows two histories, by whoever forges or moves cosignatures, by witnesses that lie.

Where a check stands between an attack and its success, the test shows that too: it takes the check out and watches.
"""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from certify import verifier
from certify.errors import CheckpointError, TrustError
from certify.trust import Trust
from ledger import policy as policies
from ledger import witness as witnesses
from ledger import witnessing as log_side
from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign
from ledger.errors import MalformedError, SignatureError, TamperedError, WitnessError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import EMPTY_ROOT, leaf_hash, root
from ledger.note import COSIGNATURE_ED25519, MAX_SIGNATURES, Note, NoteSignature, VerifierKey
from ledger.policy import Policy
from ledger.signed_checkpoint import SignedCheckpoint, open_checkpoint
from ledger.witness import Request, Witness
from ledger.witness_key import WitnessKey
from ledger.witnessing import CLOCK_SKEW, Witnessing
from tests import cases
from tests.cases import NOW, day
from tests.verdict import CASE, accept, nothing, refuse
from tests.witnesses import Village, serving

ORIGIN = "example.com/log"
NAMES = ("a.example", "b.example", "c.example")


@pytest.fixture(scope="module")
def key() -> LogKey:
    return LogKey.generate(ORIGIN)


@pytest.fixture
def village(tmp_path: Path, key: LogKey) -> Iterator[Village]:
    with Village(tmp_path, key.verifier_keys, *NAMES) as village:
        yield village


def checkpoint(entries: Sequence[bytes], origin: str = ORIGIN) -> Checkpoint:
    return Checkpoint(origin, len(entries), root(leaf_hash(entry) for entry in entries))


def client(note: bytes, key: LogKey, policy: Policy) -> SignedCheckpoint:
    """What a client with a policy accepts."""
    signed = open_checkpoint(note, log_keys=key.verifier_keys, witness_keys=policy.witness_keys)
    policy.check(signed)
    return signed


def witnessing(village: Village, *lines: str, deadline: float = 5) -> Witnessing:
    return Witnessing(village.policy(*lines), deadline=deadline, linger=1)


TWO = ("group q 2 a b c", "quorum q")
ALL = ("group q all a b c", "quorum q")


# -- two histories -----------------------------------------------------------------------------------------------------


def test_split_view_to_two_clients(
    tmp_path: Path, key: LogKey, village: Village, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator keeps two databases with one key, and shows each client another. Only one of them gets cosigned."""
    for name in ("one", "two"):
        Log.create(tmp_path / name, key).close()
    one = Log.open(tmp_path / "one", key, witnessing=witnessing(village, *TWO))
    two = Log.open(tmp_path / "two", key, witnessing=witnessing(village, *TWO))
    with one, two:
        shown = one.append_many([b"common", b"what this client sees"])[-1].checkpoint
        with pytest.raises(WitnessError, match="status 422"):
            two.append_many([b"common", b"what the other one sees"])
        with pytest.raises(WitnessError):
            two.append(b"a third entry, after which no size is the same")
        with pytest.raises(WitnessError):
            two.checkpoint()
        with two._storage.snapshot() as snapshot:
            hidden = snapshot.head().checkpoint
    policy = village.policy(*TWO)
    assert client(shown, key, policy).checkpoint.size == 2
    with pytest.raises(WitnessError, match="cosigned by nobody, expected 2 of"):
        client(hidden, key, policy)
    assert client(hidden, key, village.policy("quorum none"))  # who asks for no witness is split off
    for name in "abc":
        fork = village[name].witness.followed()[0].fork  # and each witness can prove it
        assert fork is not None
    monkeypatch.setattr(witnesses, "_check_continues", nothing)  # witnesses that do not look
    with Log.open(tmp_path / "two", key, witnessing=witnessing(village, *TWO)) as two:
        assert client(two.cosign(), key, policy).checkpoint.size == 3


def test_rollback_of_the_log(tmp_path: Path, key: LogKey, village: Village) -> None:
    """Database and watermark go back together, and another history is written over the one that was shown."""
    path = tmp_path / "log.db"
    Log.create(path, key).close()
    with Log.open(path, key, witnessing=witnessing(village, *TWO)) as log:
        log.append_many([b"one", b"two"])
    shutil.copy(path, tmp_path / "before.db")
    with Log.open(path, key, witnessing=witnessing(village, *TWO)) as log:
        log.append_many([b"three", b"four"])
    with Log.open(tmp_path / "before.db", key, witnessing=witnessing(village, *TWO)) as log:
        for entry in (b"another three", b"another four", b"another five"):
            with pytest.raises(WitnessError, match=r"has cosigned 4 entries already|status 422"):
                log.append(entry)
        assert log.size() == 2


def test_witness_asked_to_go_back(tmp_path: Path, key: LogKey) -> None:
    entries = [b"%d" % i for i in range(9)]
    with Witness.create(tmp_path / "w.db", WitnessKey.generate("w")) as witness:
        witness.follow(key.verifier_keys)

        def ask(old: int, size: int) -> int:
            tree = checkpoint(entries[:size])
            return witness.add_checkpoint(Request(old, (), Note.parse(key.sign(tree, 1)), tree).format()).status

        assert ask(0, 8) == 200
        statuses = {
            (old, size): ask(old, size) for old, size in ((0, 4), (4, 4), (8, 4), (0, 0), (0, 8), (8, 0), (9, 9))
        }
        assert statuses == {(0, 4): 409, (4, 4): 409, (8, 4): 400, (0, 0): 409, (0, 8): 409, (8, 0): 400, (9, 9): 409}
        assert witness.followed()[0].checkpoint == checkpoint(entries[:8])


# -- cosignatures of something else ------------------------------------------------------------------------------------


def line_of(key: WitnessKey, tree: Checkpoint, moment: int = 1000) -> NoteSignature:
    return key.cosign(tree, moment)[-1]


def put(log: LogKey, tree: Checkpoint, *lines: NoteSignature) -> bytes:
    note = Note.parse(log.sign(tree, 1))
    return Note(note.text, (*note.signatures, *lines)).format()


@pytest.mark.parametrize("post_quantum", [False, True])
def test_cosignature_replayed_on_another_checkpoint(key: LogKey, post_quantum: bool) -> None:
    witness = WitnessKey.generate("w.example", post_quantum=post_quantum)
    policy = Policy.of([witness.verifier_keys[-1]], 1)
    tree = checkpoint([b"a", b"b"])
    line = line_of(witness, tree)
    assert client(put(key, tree, line), key, policy).cosigned == {"w.example": 1000}
    others = [
        replace(tree, root=leaf_hash(b"x")),
        replace(tree, size=3),
        checkpoint([b"a"]),
        checkpoint([b"a", b"b", b"c"]),
    ]
    for other in others:
        with pytest.raises(SignatureError, match="wrong"):
            client(put(key, other, line), key, policy)


def test_cosignature_replayed_on_a_log_of_the_same_name_with_another_key(key: LogKey, tmp_path: Path) -> None:
    """An impostor signs the text that was cosigned; and asks the witness for more under that name."""
    impostor, witness = LogKey.generate(ORIGIN), WitnessKey.generate("w.example")
    policy = Policy.of(witness.verifier_keys, 1)
    tree = checkpoint([b"a", b"b"])
    forged = put(impostor, tree, line_of(witness, tree))
    with pytest.raises(SignatureError, match=r"no signature of a known key|no Ed25519 signature"):
        client(forged, key, policy)
    assert client(forged, impostor, policy)  # but for the log's key it would do
    with Witness.create(tmp_path / "w.db", witness) as serving_witness:
        serving_witness.follow(key.verifier_keys)
        body = Request(0, (), Note.parse(forged), tree).format()
        assert serving_witness.add_checkpoint(body).status == 403


def test_cosignature_renamed_to_another_log(key: LogKey) -> None:
    other, witness = LogKey.generate("other.example/log"), WitnessKey.generate("w.example", post_quantum=True)
    entries = [b"a", b"b"]
    lines = witness.cosign(checkpoint(entries, other.name), 1000)
    for line, public in zip(lines, witness.verifier_keys, strict=True):
        with pytest.raises(SignatureError, match="wrong"):
            client(put(key, checkpoint(entries), line), key, Policy.of([public], 1))


@pytest.mark.parametrize("post_quantum", [False, True])
def test_time_of_a_cosignature_changed(key: LogKey, post_quantum: bool) -> None:
    witness = WitnessKey.generate("w.example", post_quantum=post_quantum)
    policy = Policy.of([witness.verifier_keys[-1]], 1)
    tree = checkpoint([b"a"])
    line = line_of(witness, tree)
    for moment in (0, 999, 1001, 2**63 - 1, 2**63, 2**64 - 1):
        forged = NoteSignature(line.name, line.key_id, moment.to_bytes(8, "big") + line.payload[8:])
        with pytest.raises(SignatureError):
            client(put(key, tree, forged), key, policy)


def test_extension_line_that_ml_dsa_cosignatures_do_not_cover(key: LogKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ML-DSA-44 message has no extension lines: whoever has the log's key could add any to what was cosigned."""
    witness = WitnessKey.generate("w.example", post_quantum=True)
    policy = Policy.of(witness.verifier_keys[1:], 1)
    tree = checkpoint([b"a"])
    text = tree.format() + b"and besides, the witness says hello\n"
    signed = NoteSignature(key.name, key.verifier_keys[0].key_id, key.ed25519.sign(text))
    note = Note(text.decode(), (signed, line_of(witness, tree))).format()
    with pytest.raises(MalformedError, match="4 lines, expected 3"):
        client(note, key, policy)
    monkeypatch.setattr(Checkpoint, "parse", classmethod(lambda cls, text: tree))
    assert client(note, key, policy)


# -- one witness as two ------------------------------------------------------------------------------------------------


def policy_text(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def counted_twice(witness: WitnessKey) -> dict[str, bytes]:
    ed25519, mldsa44 = witness.verifier_keys
    alias = VerifierKey("alias.example", COSIGNATURE_ED25519, ed25519.public)
    one, two, other = (f"witness {n} {k.format()}" for n, k in (("one", ed25519), ("two", mldsa44), ("other", alias)))
    return {
        "two keys": policy_text(one, two, "group g 2 one two", "quorum g"),
        "two keys in two groups": policy_text(
            one, two, "group x any one", "group y any two", "group g all x y", "quorum g"
        ),
        "in two groups": policy_text(one, "group x any one", "group y any one", "group g all x y", "quorum g"),
        "twice in a group": policy_text(one, "group g 2 one one", "quorum g"),
        "under two key names": policy_text(one, other, "group g 2 one other", "quorum g"),
        "under two names": policy_text(one, one.replace("one", "again"), "group g 2 one again", "quorum g"),
    }


@pytest.mark.parametrize("how", list(counted_twice(WitnessKey.generate("w", post_quantum=True))))
def test_one_witness_counted_twice(key: LogKey, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = WitnessKey.generate("w.example", post_quantum=True)
    text = counted_twice(witness)[how]
    with pytest.raises(MalformedError):
        Policy.parse(text)
    monkeypatch.setattr(policies, "_check", nothing)
    tree = checkpoint([b"a"])
    lines = list(witness.cosign(tree, 1000))
    if "key names" in how:
        lines.append(
            NoteSignature(
                "alias.example",
                VerifierKey("alias.example", 4, witness.verifier_keys[0].public).key_id,
                lines[0].payload,
            )
        )
    policy = Policy.parse(text)
    note = Note.parse(put(key, tree, *lines))
    policy.check(
        open_checkpoint(
            note.format(), log_keys=key.verifier_keys, witness_keys=list(dict.fromkeys(policy.witness_keys))
        )
    )


def test_one_witness_under_two_key_names_in_a_trust_file() -> None:
    """An Ed25519 cosignature names nobody: one signature can be written under both names."""
    a = cases.Witness("a.example")
    alias = cases.Witness("alias.example", a.key)
    case = replace(CASE, cosigners=[(a, day(30)), (alias, day(30))])
    trust = CASE.trust(witnesses=[a, alias], quorum=2)
    refuse(case, CheckpointError, "stands twice", trust=trust, without=[(policies, "_check_keys", nothing)])


def test_both_keys_of_a_witness_count_once(key: LogKey) -> None:
    witness, other = WitnessKey.generate("w.example", post_quantum=True), WitnessKey.generate("v.example")
    tree = checkpoint([b"a"])
    policy = Policy.of([*witness.verifier_keys, *other.verifier_keys], 2)
    both = witness.cosign(tree, 1000)
    with pytest.raises(WitnessError, match=r"cosigned by w\.example, expected 2 of w\.example, v\.example"):
        client(put(key, tree, *both), key, policy)
    assert client(put(key, tree, *both, *other.cosign(tree, 2000)), key, policy)


# -- the verifier, by a policy -----------------------------------------------------------------------------------------


HOUSES = [cases.Witness(f"{name}.example") for name in ("x1", "x2", "y1", "y2")]


def trust_by(*lines: str) -> Trust:
    known = [f"witness {witness.name.split('.')[0]} {witness.public.format()}" for witness in HOUSES]
    policy = Policy.parse(policy_text(*known, *lines))
    return replace(CASE.trust(), policy=policy, witnesses=tuple(policy.witness_keys))


NESTED = ("group X all x1 x2", "group Y any y1 y2", "group both all X Y", "quorum both")


def cosigned(*when: tuple[int, int]) -> Any:
    return replace(CASE, cosigners=[(HOUSES[number], day(at)) for number, at in when])


def test_quorum_of_groups_not_met() -> None:
    trust = trust_by(*NESTED)
    report = accept(cosigned((0, 30), (1, 31), (3, 32)), trust)
    said = "\n".join(report.steps[3].established)
    assert "cosigned by x1.example at 2026-01-31T00:00:00Z" in said and "reached at 2026-02-02T00:00:00Z" in said
    for few in ((), ((0, 30), (1, 30)), ((0, 30), (2, 30), (3, 30)), ((2, 30),)):
        refuse(
            cosigned(*few), CheckpointError, "expected 2 of", trust=trust, without=[(verifier, "_witnessed", nothing)]
        )


def test_witness_outside_of_the_quorum_counts_for_nothing() -> None:
    trust = trust_by("quorum x1")
    refuse(cosigned((1, 30), (2, 30), (3, 30)), CheckpointError, "by 0 trusted witnesses", trust=trust)


def test_cosignature_from_the_future_does_not_make_a_quorum() -> None:
    trust = trust_by(*NESTED)
    late = (NOW - day(0)).days + 1
    refuse(cosigned((0, 30), (1, late), (3, 30)), CheckpointError, "in the future", trust=trust)
    assert accept(cosigned((0, 30), (1, 30), (2, late), (3, 30)), trust)  # one that is not needed hurts nobody


# -- witnesses that lie, to the log ------------------------------------------------------------------------------------


Answer = Callable[[HttpRequest, bytes], Any]


def text(body: bytes, status: int = 200, type_: str = "text/plain") -> Response:
    return Response(body, status, {"Content-Type": type_})


LIAR = WitnessKey.generate("liar.example")
STRANGER = WitnessKey.generate("liar.example")


def cosigning(
    change: Callable[[Checkpoint], Checkpoint] = lambda tree: tree, key: WitnessKey = LIAR, drift: int = 0
) -> Answer:
    """A cosignature of something else than what was asked for, perhaps by another key, or at another time."""

    def answer(_: HttpRequest, body: bytes) -> Response:
        tree = change(Request.parse(body).checkpoint)
        return text("".join(line.format() for line in key.cosign(tree, int(time.time()) + drift)).encode())

    return answer


def renamed(_: HttpRequest, body: bytes) -> Response:
    """Its own cosignature under the log's name."""
    [line] = LIAR.cosign(Request.parse(body).checkpoint, int(time.time()))
    return text(NoteSignature(ORIGIN, line.key_id, line.payload).format().encode())


def twice(request: HttpRequest, body: bytes) -> Response:
    return text(cosigning()(request, body).body + b"garbage\n")


def flood(_: HttpRequest, __: bytes) -> Response:
    async def endless() -> Any:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)  # so that the server notices when nobody reads any more

    return StreamingResponse(endless())


async def silence(*_: Any) -> Response:
    await asyncio.sleep(60)
    return text(b"")


def trickle(_: HttpRequest, __: bytes) -> Response:
    async def slowly() -> Any:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    return StreamingResponse(slowly())


def compressed(request: HttpRequest, body: bytes) -> Response:
    import gzip

    honest = cosigning()(request, body).body
    return Response(gzip.compress(honest), headers={"Content-Encoding": "gzip"})


_sizes = iter(range(1, 10**9))
LIES: dict[str, Answer] = {
    "garbage": lambda *_: text(bytes(range(256))),
    "nothing": lambda *_: text(b""),
    "a web page": lambda *_: text(b"<html>200 is fine</html>\n"),
    "a line without end": lambda *_: text(b"\xe2\x80\x94 liar.example AAAA"),
    "a flood": flood,
    "silence": silence,
    "a trickle": trickle,
    "compressed": compressed,
    "an error": lambda *_: text(b"out of order", 500),
    "a redirect": lambda *_: Response(status_code=307, headers={"Location": "http://127.0.0.1:9/add-checkpoint"}),
    "not followed": lambda *_: text(b"who are you", 404),
    "a size that keeps changing": lambda *_: text(b"%d\n" % (next(_sizes) % 2), 409, "text/x.tlog.size"),
    "a size beyond": lambda *_: text(b"9223372036854775807\n", 409, "text/x.tlog.size"),
    "a size that is none": lambda *_: text(b"-1\n", 409, "text/x.tlog.size"),
    "a size of another type": lambda *_: text(b"0\n", 409, "text/html"),
    "another root": cosigning(lambda tree: replace(tree, root=leaf_hash(b"x"))),
    "another size": cosigning(lambda tree: Checkpoint(tree.origin, 0, EMPTY_ROOT)),
    "another origin": cosigning(lambda tree: replace(tree, origin="other.example/log")),
    "a stranger's key": cosigning(key=STRANGER),
    "under the log's name": renamed,
    "with garbage after it": twice,
    "from the future": cosigning(drift=CLOCK_SKEW + 60),
    "from the past": cosigning(drift=-CLOCK_SKEW - 60),
    "an hour ahead": cosigning(drift=3600),
}


LIES["the truth"] = cosigning()
HONEST = [WitnessKey.generate(f"{name}.example") for name in "ab"]
LIES |= {
    key.name: cosigning(key=key) for key in HONEST
}  # these remember nothing: enough for one log that does not fork


async def _answer(request: HttpRequest) -> Response:
    said = LIES[request.path_params["lie"].replace("_", " ")](request, await request.body())
    answer: Response = await said if asyncio.iscoroutine(said) else said
    return answer


@pytest.fixture(scope="module")
def lies() -> Iterator[Callable[..., Policy]]:
    """``lies("silence", "quorum liar")`` is a policy with a witness that lies so, and two honest ones, a and b."""
    with serving(Starlette(routes=[Route("/{lie}/add-checkpoint", _answer, methods=["POST"])])) as url:

        def policy(lie: str, *lines: str) -> Policy:
            liar = f"witness liar {LIAR.verifier_keys[0].format()} {url}/{lie.replace(' ', '_')}"
            honest = [f"witness {k.name[0]} {k.verifier_keys[0].format()} {url}/{k.name}" for k in HONEST]
            return Policy.parse(policy_text(liar, *honest, *lines))

        yield policy


Lies = Callable[..., Policy]


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie not in ("the truth", "a.example", "b.example")])
def test_witness_that_lies(tmp_path: Path, key: LogKey, lies: Lies, lie: str) -> None:
    """Alone it makes nothing final; beside two honest ones it stops nobody, and adds nothing to the checkpoint."""
    Log.create(tmp_path / "log.db", key).close()
    alone, beside = lies(lie, "quorum liar"), lies(lie, "group q 2 liar a b", "quorum q")
    with Log.open(tmp_path / "log.db", key, witnessing=Witnessing(alone, deadline=0.4)) as log:
        with pytest.raises(WitnessError, match=r"cosigned by nobody, expected liar\.example"):
            log.append(b"one")
    with Log.open(tmp_path / "log.db", key, witnessing=Witnessing(beside, deadline=20)) as log:
        began = time.monotonic()
        done = log.append(b"one")
        assert time.monotonic() - began < 10  # it did not wait for the liar
    assert client(done.checkpoint, key, beside).cosigned.keys() == {"a.example", "b.example"}
    assert {line.name for line in Note.parse(done.checkpoint).signatures} == {ORIGIN, "a.example", "b.example"}


def test_lies_would_be_taken_but_for_the_check(
    tmp_path: Path, key: LogKey, lies: Lies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the refusals above are of the lie, and not of the server that tells it."""
    Log.create(tmp_path / "log.db", key).close()
    for lie in ("the truth", "another root", "from the future"):
        policy = lies(lie, "quorum liar")
        if lie == "another root":
            monkeypatch.setattr(log_side, "verify_cosignature", lambda key, tree, payload: int(time.time()))
        if lie == "from the future":
            monkeypatch.undo()
            monkeypatch.setattr(log_side, "CLOCK_SKEW", 10**9)
        with Log.open(tmp_path / "log.db", key, witnessing=Witnessing(policy, deadline=2)) as log:
            if lie == "another root":
                with pytest.raises(TamperedError):  # the log looks again at what it was about to keep
                    log.append(b"two")
            else:
                assert client(log.append(lie.encode()).checkpoint, key, policy)


def test_clock_of_the_log_set_back_acknowledges_nothing(tmp_path: Path, key: LogKey, village: Village) -> None:
    Log.create(tmp_path / "log.db", key).close()
    wrong = Witnessing(village.policy(*TWO), deadline=2, clock=lambda: time.time() - 86400)
    with Log.open(tmp_path / "log.db", key, witnessing=wrong) as log:
        with pytest.raises(WitnessError, match="set the clocks"):
            log.append(b"one")
    with Log.open(tmp_path / "log.db", key, witnessing=witnessing(village, *TWO)) as log:
        assert log.append(b"one").new is False


def test_as_many_witnesses_as_a_note_can_hold(key: LogKey) -> None:
    """A policy cannot ask for more signatures than a note may have, so that nobody can be locked out by the last one."""
    assert policies.MAX_LINES + 2 <= MAX_SIGNATURES
    keys = [WitnessKey.generate(f"{i}.example") for i in range(policies.MAX_LINES)]
    tree = checkpoint([b"a"])
    policy = Policy.of([one.verifier_keys[0] for one in keys], len(keys))
    assert client(put(key, tree, *(one.cosign(tree, 1)[0] for one in keys)), key, policy)


def test_late_witness_cannot_hold_up_the_others(tmp_path: Path, key: LogKey, village: Village) -> None:
    """It accepts connections and never answers: each append waits for it no longer than its moment."""
    gate = threading.Event()
    village["c"].before = lambda body: gate.wait(30) and None
    Log.create(tmp_path / "log.db", key).close()
    try:
        with Log.open(tmp_path / "log.db", key, witnessing=Witnessing(village.policy(*TWO), deadline=20)) as log:
            began = time.monotonic()
            for number in range(10):
                log.append(b"%d" % number)
            assert time.monotonic() - began < 10
            assert not village["c"].requests
    finally:
        gate.set()


def test_policy_in_a_trust_file_that_means_something_else() -> None:
    """See also tests/certify/test_trust.py."""
    with pytest.raises(TrustError):
        Trust.parse(b'version = 1\nlog = []\nissuer = []\n[witnesses]\npolicy = "quorum none\\n"\n')


def test_cosignature_with_a_key_of_the_log_is_no_witness(key: LogKey) -> None:
    """A log with an ML-DSA-44 key signs in the form of a cosignature: that is nobody else's."""
    both = LogKey.generate("both.example/log", post_quantum=True)
    tree = checkpoint([b"a"], both.name)
    signed = open_checkpoint(both.sign(tree, 7), log_keys=both.verifier_keys, witness_keys=[both.verifier_keys[1]])
    assert signed.cosigned == {}
    with pytest.raises(MalformedError, match="stands twice"):
        Policy.parse(
            policy_text(
                f"log {both.verifier_keys[1].format()}", f"witness w {both.verifier_keys[1].format()}", "quorum w"
            )
        )
    assert cosign(both.verifier_keys[1], both.mldsa44.sign, tree, 7).name == both.name  # type: ignore[union-attr]
