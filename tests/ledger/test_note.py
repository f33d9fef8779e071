"""Signed notes and verifier keys: the examples and edge cases of others, and what a signer could try."""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign, mldsa44_message, verify_cosignature
from ledger.errors import MalformedError, SignatureError
from ledger.log_key import LogKey
from ledger.merkle import leaf_hash
from ledger.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_MLDSA44,
    ED25519,
    MAX_SIGNATURES,
    Note,
    NoteSignature,
    VerifierKey,
    verify_ed25519,
    verify_note,
)
from ledger.signed_checkpoint import open_checkpoint

C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFX"
    "mRKuwHjG1Yu72IneyaQM=\n"
)
TREE = Checkpoint("example.com/log", 1, leaf_hash(b"entry"))


def signer(name: str, type_: int = ED25519) -> tuple[Ed25519PrivateKey, VerifierKey]:
    private = Ed25519PrivateKey.generate()
    return private, VerifierKey(name, type_, private.public_key().public_bytes_raw())


def signed(text: str, *signers: tuple[Ed25519PrivateKey, VerifierKey]) -> Note:
    return Note(text, tuple(NoteSignature(k.name, k.key_id, p.sign(text.encode())) for p, k in signers))


def test_c2sp_example_opens() -> None:
    key = VerifierKey.parse(C2SP_KEY)
    note = Note.parse(C2SP_NOTE.encode())
    assert verify_note(note, [key]) == [key]
    assert (note.text, key.format(), note.format()) == ("This is an example message.\n", C2SP_KEY, C2SP_NOTE.encode())


@pytest.mark.parametrize("at", range(0, len(C2SP_NOTE.encode()), 3))
def test_c2sp_example_with_one_bit_changed_is_refused(at: int) -> None:
    data = bytearray(C2SP_NOTE.encode())
    data[at] ^= 1
    with pytest.raises((MalformedError, SignatureError)):
        verify_note(Note.parse(bytes(data)), [VerifierKey.parse(C2SP_KEY)])


def test_cctv_keys_that_prove_nothing_are_refused(vectors: Callable[[str], Any]) -> None:
    """Low-order and non-canonical keys never become a verifier key; with all others the signatures are judged as by RFC 8032."""
    cases = vectors("ed25519_cctv")
    assert len(cases) == 914
    seen: Counter[str] = Counter()
    for case in cases:
        flags, public = set(case["flags"] or ()), bytes.fromhex(case["key"])
        if flags & {"low_order_A", "non_canonical_A"}:
            with pytest.raises(MalformedError):
                VerifierKey("example.com/key", ED25519, public)
            with pytest.raises(MalformedError):
                VerifierKey("example.com/key", COSIGNATURE_ED25519, public)
            seen["refused"] += 1
            continue
        key = VerifierKey("example.com/key", ED25519, public)
        seen["kept"] += 1
        try:
            verify_ed25519(key, case["msg"].encode(), bytes.fromhex(case["sig"]))
            accepted = True
        except SignatureError:
            accepted = False
        # The equation without cofactor, and R compared as bytes: anything else lets one signature have two forms.
        assert accepted == (not flags & {"low_order_residue", "non_canonical_R"}), case["number"]
        seen["accepted" if accepted else "wrong"] += 1
    assert seen == {"refused": 526, "kept": 388, "accepted": 86, "wrong": 302}


def test_low_order_key_would_accept_any_message() -> None:
    """Why they are refused: with the neutral point as key, one signature opens every text."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    neutral = b"\x01" + bytes(31)
    signature = neutral + bytes(32)  # R neutral, S = 0: S*B = R + k*A whatever k is
    for message in (b"one text", b"another"):
        Ed25519PublicKey.from_public_bytes(neutral).verify(signature, message)
    with pytest.raises(MalformedError, match="low order"):
        VerifierKey("example.com/key", ED25519, neutral)


def test_note_splits_at_the_last_empty_line() -> None:
    one = signer("example.com/key")
    note = signed("a\n\n— example.com/key AAAAAAAA\n", one)
    parsed = Note.parse(note.format())
    assert parsed == note and verify_note(parsed, [one[1]]) == [one[1]]


def test_unknown_signatures_are_ignored() -> None:
    """Also those with a known key's name and another id, or its id and another name."""
    one, namesake = signer("example.com/one"), signer("example.com/one")
    borrowed = NoteSignature("example.com/two", one[1].key_id, b"x" * 64)
    note = signed("text\n", one, namesake)
    note = Note(note.text, (borrowed, *note.signatures))
    assert verify_note(note, [one[1]]) == [one[1]]


def test_wrong_signature_of_a_known_key_refuses_the_note() -> None:
    one, two = signer("example.com/one"), signer("example.com/two")
    good = signed("text\n", one, two)
    note = Note("text\n", (good.signatures[0], NoteSignature(two[1].name, two[1].key_id, b"x" * 64)))
    with pytest.raises(SignatureError, match=r"example\.com/two"):
        verify_note(note, [one[1], two[1]])
    assert verify_note(note, [one[1]]) == [one[1]]


def test_note_without_a_known_signature_is_refused() -> None:
    with pytest.raises(SignatureError, match="no signature of a known key"):
        verify_note(signed("text\n", signer("example.com/one")), [signer("example.com/one")[1]])


def test_signature_twice_is_refused() -> None:
    one = signer("example.com/one")
    with pytest.raises(SignatureError, match="two signatures"):
        verify_note(signed("text\n", one, one), [one[1]])


def test_sixteen_signatures_are_accepted_and_too_many_refused() -> None:
    signers = [signer(f"example.com/{i}") for i in range(MAX_SIGNATURES + 1)]
    keys = [key for _, key in signers]
    assert MAX_SIGNATURES >= 16
    assert verify_note(Note.parse(signed("text\n", *signers[:MAX_SIGNATURES]).format()), keys) == keys[:MAX_SIGNATURES]
    with pytest.raises(MalformedError, match="65 signatures"):
        Note.parse(signed("text\n", *signers).format())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAA=",
        b"text\r\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"te\0xt\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"text\n\n- a AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94  AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a+b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a\xe2\x80\x83b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAB=\n",  # not canonical: bits left over
        b"text\n\n\xe2\x80\x94 a AAAAAAA\n",
        b"text\n\n\xe2\x80\x94 a AAAAAA==\n",  # a key id and no signature
        b"text\n\n\xe2\x80\x94 a AAAA AAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAA=\nmore\n",
    ],
)
def test_malformed_note_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Note.parse(data)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2028b", "a\tb", "a\nb", "\ud800"])
def test_bad_key_name_is_refused(name: str) -> None:
    with pytest.raises(MalformedError, match="not a key name"):
        signer(name)


def test_verifier_key_with_another_id_or_type_is_refused() -> None:
    name, id_, encoded = C2SP_KEY.split("+", 2)
    key = VerifierKey.parse(C2SP_KEY)
    for text in (
        f"{name}+00000000+{encoded}",
        f"{name}+{id_.upper()}+{encoded}",
        f"{name}+{id_}+{b64encode(bytes([2]) + key.public).decode()}",
        f"{name}+{id_}+{b64encode(bytes([4]) + key.public).decode()}",
        f"{name}+{id_}+{b64encode(bytes([1]) + key.public[:31]).decode()}",
        f"{name}x+{id_}+{encoded}",
        f"{name}+{id_}",
        name,
    ):
        with pytest.raises(MalformedError):
            VerifierKey.parse(text)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_checkpoint_of_another_log_is_refused() -> None:
    mine, other = LogKey.generate("example.com/log"), LogKey.generate("example.com/other")
    note = signed(
        Checkpoint("example.com/other", 1, TREE.root).format().decode(), (mine.ed25519, mine.verifier_keys[0])
    )
    with pytest.raises(SignatureError, match=r"example\.com/other"):
        open_checkpoint(note.format(), log_keys=mine.verifier_keys)
    with pytest.raises(SignatureError, match="no signature of a known key"):
        open_checkpoint(other.sign(Checkpoint("example.com/log", 1, TREE.root), 0), log_keys=mine.verifier_keys)


def test_witness_alone_does_not_make_a_checkpoint() -> None:
    private, witness = signer("example.com/witness", COSIGNATURE_ED25519)
    log = LogKey.generate(TREE.origin)
    note = Note(TREE.format().decode(), (cosign(witness, private.sign, TREE, 7),)).format()
    for keys in (log.verifier_keys, ()):
        with pytest.raises(SignatureError):
            open_checkpoint(note, log_keys=keys, origin=TREE.origin, witness_keys=[witness])


def test_stripped_ml_dsa_signature_is_refused() -> None:
    key = LogKey.generate(TREE.origin, post_quantum=True)
    note = Note.parse(key.sign(TREE, 7))
    assert open_checkpoint(note.format(), log_keys=key.verifier_keys).checkpoint == TREE
    for kept, lost in ((0, "ML-DSA-44"), (1, "Ed25519")):
        stripped = Note(note.text, (note.signatures[kept],)).format()
        with pytest.raises(SignatureError, match=f"no {lost} signature of the log"):
            open_checkpoint(stripped, log_keys=key.verifier_keys)
    assert open_checkpoint(note.format(), log_keys=key.verifier_keys[:1]).checkpoint == TREE


@pytest.mark.parametrize("at", [0, 7, 8, 1000, 2427])
def test_changed_ml_dsa_signature_is_refused(at: int) -> None:
    key = LogKey.generate(TREE.origin, post_quantum=True)
    ed25519, mldsa44 = Note.parse(key.sign(TREE, 7)).signatures
    payload = bytearray(mldsa44.payload)
    payload[at] ^= 0x80
    forged = Note(TREE.format().decode(), (ed25519, NoteSignature(key.name, mldsa44.key_id, bytes(payload)))).format()
    with pytest.raises(SignatureError):
        open_checkpoint(forged, log_keys=key.verifier_keys)


def test_ed25519_cosignature_message_is_the_specified_one() -> None:
    private, witness = signer("example.com/witness", COSIGNATURE_ED25519)
    log = LogKey.generate(TREE.origin)
    line = cosign(witness, private.sign, TREE, 1679315147)
    private.public_key().verify(line.payload[8:], b"cosignature/v1\ntime 1679315147\n" + TREE.format())
    note = Note.parse(log.sign(TREE, 0))
    cosigned = Note(note.text, (*note.signatures, line)).format()
    opened = open_checkpoint(cosigned, log_keys=log.verifier_keys, witness_keys=[witness])
    assert opened.cosigned == {"example.com/witness": 1679315147}
    late = NoteSignature(line.name, line.key_id, (1 << 63).to_bytes(8, "big") + line.payload[8:])
    for forged in (late, NoteSignature(line.name, line.key_id, (1).to_bytes(8, "big") + line.payload[8:])):
        with pytest.raises(SignatureError):
            open_checkpoint(
                Note(note.text, (*note.signatures, forged)).format(),
                log_keys=log.verifier_keys,
                witness_keys=[witness],
            )


def test_ml_dsa_message_is_the_specified_one() -> None:
    origin = TREE.origin.encode()
    parts = [b"subtree/v1\n\0", b"\x01w", bytes(7) + b"\x07", bytes([len(origin)]) + origin]
    assert mldsa44_message("w", TREE, 7) == b"".join([*parts, bytes(8), bytes(7) + b"\x01", TREE.root])


def test_name_too_long_for_ml_dsa_is_refused() -> None:
    key = LogKey.generate("example.com/" + "x" * 250, post_quantum=True)
    with pytest.raises(MalformedError, match="at most 255"):
        key.sign(Checkpoint(key.name, 1, TREE.root), 0)
    witness = LogKey.generate("w", post_quantum=True).verifier_keys[1]
    assert witness.type == COSIGNATURE_MLDSA44
    with pytest.raises(MalformedError, match="at most 255"):
        verify_cosignature(witness, Checkpoint("o" * 256, 1, TREE.root), bytes(8 + 2420))
