"""The verifier: pure, in numbered steps, and clear about what it does not show."""

import builtins
import io
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certify.bundle import Bundle
from certify.errors import BundleError, VerificationError
from certify.trust import Trust, format_trust
from certify.verifier import TITLES, Given, verify
from tests.cases import (
    DATASET,
    NOW,
    POST,
    TREE,
    Case,
    Witness,
    day,
    operator,
    receipt,
    request,
    run,
    usual_case,
)

CASE = usual_case()
DATA = CASE.data()
TRUST = CASE.trust()


def test_ten_steps_each_say_what_they_established() -> None:
    report = verify(DATA, TRUST, now=NOW, given=Given(weights=POST, receipts=[receipt().to_json()]))
    assert [(step.number, step.title) for step in report.steps] == sorted(TITLES.items())
    said = {step.number: " ".join(step.established) for step in report.steps}
    assert "3 statements" in said[1]
    assert "signed by Clinic" in said[2]
    assert "entries 1, 2, 3" in said[3]
    assert "log example.com/ledger, 4 entries" in said[4]
    assert "request at entry 2 was answered by entry 3" in said[5]
    assert "before it was due" in said[5]
    assert "1 of 2 tensors changed (body)" in said[6]
    assert "8 records, less exactly the 2 that" in said[6]
    assert said[7] == said[8] == ""
    assert "bit for bit" in said[9]
    assert said[10].startswith("attested")


def test_report_is_about_the_certificate() -> None:
    report = verify(DATA, TRUST, now=NOW)
    assert report.certificate == next(iter(CASE.removed))
    assert report.index == 3
    assert report.tensor_root == POST.root().hex()
    assert (report.issuer, report.method, report.grade) == ("Clinic", "sisa-retrain", "attested")


def test_same_bytes_same_trust_same_time_same_report() -> None:
    assert verify(DATA, TRUST, now=NOW) == verify(DATA, TRUST, now=NOW)


def test_time_defaults_to_the_clock() -> None:
    with pytest.raises(VerificationError, match="in the future"):
        verify(usual_case(run=run(19, 10**6)).data(), TRUST)


def test_late_answer_is_accepted_and_said_to_be_late() -> None:
    late = verify(usual_case(run=run(60, 61)).data(), TRUST, now=NOW)
    assert "after it was due on 2026-02-10T00:00:00Z" in " ".join(late.steps[4].established)


def limits(case: Case | Bundle = CASE, trust: Trust = TRUST, **given: Any) -> str:
    data = case.data() if isinstance(case, Case) else case.to_bytes()
    return " ".join(verify(data, trust, now=NOW, given=Given(**given)).limits)


def test_limits_are_always_printed() -> None:
    for words in ("operator's word", "told the truth about the training data", "not of copies"):
        assert words in limits(weights=POST, receipts=[receipt().to_json()])


def test_limits_say_what_was_not_looked_at() -> None:
    assert "--weights" in limits()
    assert "--weights" not in limits(weights=POST)
    assert "--receipt" in limits()
    assert "--receipt" not in limits(receipts=[receipt().to_json()])
    assert "asks for no witness" in limits()
    witness = Witness("witness.example")
    seen = replace(CASE, cosigners=[(witness, day(30))])
    assert "asks for no witness" not in limits(seen, CASE.trust(witnesses=[witness], quorum=1))


def test_the_report_says_which_witnesses_cosigned_when() -> None:
    a, b, c = (Witness(f"{name}.example") for name in "abc")
    case = replace(CASE, cosigners=[(a, day(40)), (b, day(30)), (c, day(35))])
    report = verify(case.data(), CASE.trust(witnesses=[a, b, c], quorum=2), now=NOW)
    assert report.steps[3].established[1:] == (
        "cosigned by b.example at 2026-01-31T00:00:00Z",
        "cosigned by c.example at 2026-02-05T00:00:00Z",
        "cosigned by a.example at 2026-02-10T00:00:00Z",
        "required: 2 of a.example, b.example, c.example; reached at 2026-02-05T00:00:00Z",
    )


def test_without_leaves_the_retained_set_is_the_operators_word() -> None:
    bundle = replace(CASE.bundle(), leaves={}, removed={})
    assert "does not hold what it takes to recompute" in limits(bundle)
    assert "does not hold what it takes to recompute" not in limits()


def test_other_scopes_are_the_operators_description() -> None:
    case = usual_case(says_request=lambda: request(scope="concept"), removed=None, retained=None)
    bundle = replace(case.bundle(), leaves={}, removed={})
    assert "not about single records" in limits(bundle)


def test_every_kind_of_key_and_both_kinds_of_log() -> None:
    for algorithm in ("ecdsa-p256", "ed25519", "ml-dsa-65"):
        case = usual_case(operator(algorithm=algorithm, post_quantum=True))
        assert verify(case.data(), case.trust(), now=NOW).grade == "attested"


def test_several_trusted_logs_are_alternatives() -> None:
    other = usual_case(operator("Other", origin="other.example/log")).trust()
    both = replace(TRUST, logs=(*other.logs, *TRUST.logs))
    assert verify(DATA, both, now=NOW)


def test_verifier_loads_neither_torch_nor_a_database_nor_a_network() -> None:
    code = """
import sys, certify, certify.verifier, certify.trust, certify.bundle, certify.receipt
heavy = ("torch", "numpy", "sqlalchemy", "safetensors", "sklearn", "socket", "ssl", "asyncio", "sqlite3", "httpx", "starlette")
print([name for name in heavy if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"


def test_verifier_opens_no_file_and_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    verify(DATA, TRUST, now=NOW)  # whatever is imported late, is now

    def forbidden(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"opened {arguments}")

    for where, name in (
        (builtins, "open"), (io, "open"), (os, "open"), (os, "stat"), (os, "listdir"), (os, "urandom"),
        (socket, "socket"), (socket, "create_connection"), (socket, "getaddrinfo"), (subprocess, "Popen"),
    ):  # fmt: skip
        monkeypatch.setattr(where, name, forbidden)
    report = verify(DATA, TRUST, now=NOW, given=Given(weights=POST, receipts=[receipt().to_json()]))
    with pytest.raises(BundleError):
        verify(DATA[:-1], TRUST, now=NOW)
    monkeypatch.undo()
    assert report.grade == "attested"


def test_verifying_asks_the_system_for_nothing() -> None:
    """An audit hook sees what monkeypatching cannot: files, sockets and processes opened by C code."""
    code = """
import sys, pickle
from datetime import datetime
from certify.trust import Trust
from certify.verifier import verify
data, trust = sys.stdin.buffer.read(int(sys.argv[1])), Trust.parse(sys.stdin.buffer.read(int(sys.argv[2])))
now = datetime.fromisoformat(sys.argv[3])
verify(data, trust, now=now)
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event))
verify(data, trust, now=now)
forbidden = {"open", "socket", "subprocess", "os", "import", "shutil", "urllib", "sqlite3", "exec", "compile"}
print([event for event in seen if event.split(".")[0] in forbidden])
"""
    trust = format_trust(TRUST.logs, TRUST.issuers).encode()
    command = [sys.executable, "-c", code, str(len(DATA)), str(len(trust)), NOW.isoformat()]
    out = subprocess.run(command, input=DATA + trust, check=True, capture_output=True)
    assert json.loads(out.stdout.decode().replace("'", '"')) == []


def test_verifying_a_usual_case_is_quick() -> None:
    start = time.process_time()
    verify(DATA, TRUST, now=NOW)
    assert time.process_time() - start < 0.4


def test_now_far_from_the_case_changes_nothing() -> None:
    assert verify(DATA, TRUST, now=NOW + timedelta(days=365_000)).grade == "attested"
    assert len(DATASET.leaves) == 32 * TREE.count
