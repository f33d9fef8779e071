"""Go as the judge of cosigned checkpoints and their tlog-proofs.

The log's signature is opened by Go's sumdb/note, inclusion is checked by sumdb/tlog. The Ed25519 cosignature is checked by Go's
crypto/ed25519 on a message that go/cosignature.go builds from the text of C2SP tlog-cosignature, key id and time included.
ML-DSA-44 cosignatures, which that Go has no code for, are not judged: they stand on the notes, and Go passes over them.
"""

from pathlib import Path
from typing import Any

from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import Note, NoteSignature
from ledger.policy import Policy
from ledger.signed_checkpoint import open_checkpoint
from ledger.witnessing import Witnessing
from tests.ledger.test_go import Judge, judge
from tests.witnesses import Village

__all__ = ["judge"]

NAMES = ("a.example", "b.example")


def question(key: LogKey, village: Village, name: str, note: bytes) -> dict[str, Any]:
    witness = village[name].key.verifier_keys[0]
    signed = open_checkpoint(note, log_keys=key.verifier_keys, witness_keys=[witness])
    time = signed.cosigned[witness.name]
    return {
        "Op": "cosigned",
        "Key": key.verifier_keys[0].format(),
        "Witness": witness.format(),
        "Note": note,
        "Time": time,
    }


def test_go_verifies_proofs_of_cosigned_checkpoints(judge: Judge, tmp_path: Path, key: LogKey) -> None:
    questions: list[dict[str, Any]] = []
    with Village(tmp_path, key.verifier_keys, *NAMES, post_quantum=True) as village:
        lines = [
            f"witness {name}{i} {public.format()} {village[name].url}"
            for name in "ab"
            for i, public in enumerate(village[name].key.verifier_keys)
        ]
        policy = Policy.parse(
            "\n".join([*lines, "group a any a0 a1", "group b any b0 b1", "group q all a b", "quorum q", ""]).encode()
        )
        Log.create(tmp_path / "log.db", key).close()
        with Log.open(tmp_path / "log.db", key, witnessing=Witnessing(policy, deadline=20, linger=5)) as log:
            for size in range(1, 41):
                note = log.append(b"entry %d" % (size - 1)).checkpoint
                assert len(Note.parse(note).signatures) == 5
                questions += [question(key, village, name, note) for name in "ab"]
                for index in {0, size // 2, size - 1}:
                    proof = log.prove(index)
                    entry = {"Op": "proof", "Proof": proof.format(), "Entry": b"entry %d" % index}
                    questions.append(question(key, village, "a", proof.checkpoint) | entry)
    assert set(judge(questions)) == {"ok"}


def test_go_refuses_what_it_should(judge: Judge, tmp_path: Path, key: LogKey) -> None:
    """The judge can say no."""
    with Village(tmp_path, key.verifier_keys, *NAMES) as village:
        Log.create(tmp_path / "log.db", key).close()
        witnessing = Witnessing(village.policy("group q all a b", "quorum q"), deadline=20)
        with Log.open(tmp_path / "log.db", key, witnessing=witnessing) as log:
            log.append_many([b"entry %d" % i for i in range(9)])
            proof = log.prove(4)
            note = proof.checkpoint
            good = question(key, village, "a", note)
            inclusion = good | {"Op": "proof", "Proof": proof.format(), "Entry": b"entry 4"}
            before = good | {"Note": log.append(b"more").checkpoint}
    parsed = Note.parse(note)
    lines = {line.name: line for line in parsed.signatures}
    a = lines["a.example"]
    later = NoteSignature(a.name, a.key_id, (good["Time"] + 1).to_bytes(8, "big") + a.payload[8:])
    moved = NoteSignature(a.name, a.key_id, lines["b.example"].payload)
    log_line = lines[key.name]
    replayed = Note(Note.parse(before["Note"]).text, (*Note.parse(before["Note"]).signatures[:1], a))

    def with_(*signatures: NoteSignature) -> dict[str, Any]:
        return good | {"Note": Note(parsed.text, signatures).format()}

    wrong = [
        with_(log_line, later) | {"Time": good["Time"] + 1},
        with_(log_line, moved),
        with_(log_line),
        with_(a),
        good | {"Note": replayed.format()},
        good | {"Witness": village["b"].key.verifier_keys[0].format().replace("b.example", "a.example")},
        good | {"Time": good["Time"] - 1},
        good | {"Key": LogKey.generate(key.name).verifier_keys[0].format()},
        inclusion | {"Entry": b"entry 5"},
        inclusion | {"Proof": proof.format().replace(b"index 4", b"index 5")},
    ]
    assert judge([good, inclusion]) == ["ok", "ok"]
    assert all(answer.startswith("error: ") for answer in judge(wrong))
