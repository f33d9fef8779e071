"""claims.jsonl: one sigstore bundle a line, appended and never rewritten."""

import json
import os
import threading
from base64 import b64decode
from pathlib import Path

import pytest

from certify.errors import InputError, StatementError
from certify.formats import claims
from certify.formats.source import Source, read
from certify.keys import SigningKey
from tests.cases import Case, request, rotation, training


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims.jsonl"


def test_every_line_is_a_bundle_that_sigstore_parses(stated: Source, path: Path) -> None:
    models = pytest.importorskip(
        "sigstore_models.bundle.v1", reason="needs sigstore: pip install 'unlearning-ledger[test]'"
    )
    claims.append(path, claims.claims_of(stated))
    lines = path.read_bytes().splitlines()
    kinds = []
    for line in lines:
        bundle = models.Bundle.from_json(line)
        kinds.append(json.loads(bundle.dsse_envelope.payload)["predicateType"].split(":")[-1])
    assert kinds == ["training/v1", "request/v1", "unlearning/v1"]


def test_payloads_and_signatures_are_the_logged_ones(case: Case, stated: Source, path: Path) -> None:
    claims.append(path, claims.claims_of(stated))
    for line, entry in zip(path.read_bytes().splitlines(), case.bundle().entries, strict=True):
        dsse = json.loads(line)["dsseEnvelope"]
        assert b64decode(dsse["payload"]) == entry.envelope.payload
        case.operator.key.public.verify(b64decode(dsse["signatures"][0]["sig"]), _pae(entry.envelope.payload))


def _pae(payload: bytes) -> bytes:
    from certify.envelope import PAYLOAD_TYPE, pae

    return pae(PAYLOAD_TYPE, payload)


def test_it_grows_at_its_end_only(stated: Source, path: Path) -> None:
    lines = claims.claims_of(stated)
    assert claims.append(path, lines[:1]) == claims.Appended(0, 0, 1)
    before = path.read_bytes()
    assert claims.append(path, lines) == claims.Appended(1, 1, 2)
    assert path.read_bytes().startswith(before)
    whole = path.read_bytes()
    assert claims.append(path, lines) == claims.Appended(3, 3, 0)
    assert path.read_bytes() == whole


def test_others_lines_stay_as_they_are(stated: Source, path: Path) -> None:
    """With spaces, another order and a predicate type that we do not know."""
    theirs = json.loads(claims.claims_of(read(other().data()))[0])
    line = json.dumps(dict(reversed(theirs.items()))).encode()
    path.write_bytes(line + b"\n")
    claims.append(path, claims.claims_of(stated))
    assert path.read_bytes().splitlines()[0] == line


def other() -> Case:
    case = Case()
    case.certify(case.say(training()), case.say(request(due="2026-02-11T00:00:00Z")))
    return case


def test_model_signings_own_signature_may_be_a_line(stated: Source, path: Path) -> None:
    from certify.formats import oms

    signature = oms.signature("net", {"a": bytes(32)}, SigningKey.generate())
    path.write_bytes(json.dumps(json.loads(signature)).encode() + b"\n")
    assert claims.append(path, claims.claims_of(stated)).added == 3


def test_statements_about_keys_stay_out(path: Path) -> None:
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    new = SigningKey.generate()
    case.say(rotation(case.operator.key, new), case.operator.key, new)
    from tests.cases import certificate

    case.say(certificate(trained, asked), new)
    assert len(claims.claims_of(read(case.data()))) == 3


BAD = {
    "text": b"hello\n",
    "no end": b"{}",
    "empty line": b"\n",
    "a list": b"[]\n",
    "a bare envelope": b'{"payload":"e30=","payloadType":"x","signatures":[]}\n',
    "null": b"null\n",
    "deep": b"[" * 5000 + b"]" * 5000 + b"\n",
    "not UTF-8": b"\xff\xfe\n",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_file_of_something_else_is_refused_and_left(stated: Source, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StatementError, match=r"nothing was appended|nested more than"):
        claims.append(path, claims.claims_of(stated))
    assert path.read_bytes() == content


def test_what_is_no_file_is_refused(stated: Source, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        claims.append(tmp_path, claims.claims_of(stated))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        claims.append(tmp_path / "pipe", claims.claims_of(stated))


def test_a_full_disk_leaves_the_file_as_it_was(stated: Source, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = claims.claims_of(stated)
    claims.append(path, lines[:1])
    before = path.read_bytes()
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(InputError, match="No space left"):
        claims.append(path, lines)
    assert path.read_bytes() == before


def test_many_who_append_at_once_lose_nothing(stated: Source, path: Path) -> None:
    lines = claims.claims_of(stated)
    threads = [threading.Thread(target=claims.append, args=(path, [line])) for line in lines * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.read_bytes().splitlines()) == sorted(lines)
