"""certify report: a page for cases that verify, and for those that do not, with the exit codes of certify verify."""

import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from certify.audit import verdict
from certify.audit.verdict import Estimate, Utility
from certify.cli import main
from certify.trust import format_trust
from tests.audit_cases import FAILED, HELD_OUT, PLAN, Auditor, audited_case, key
from tests.cases import NOW, Case, operator, receipt, request, usual_case
from tests.reports import read

AT = ("--at", NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))
Put = Callable[..., Path]
Run = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a case and whom to believe, and return the folder."""

    def write(case: Case, believed: Case | None = None) -> Path:
        trust = (believed or case).trust()
        auditor = f'\n[[auditor]]\nname = "Example Audits"\npublic_key = """{key().public.pem()}"""\n'
        (tmp_path / "case.bundle").write_bytes(case.data())
        (tmp_path / "trust.toml").write_text(format_trust(trust.logs, trust.issuers) + auditor)
        return tmp_path

    return write


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("report", …, expect=11)`` in the folder; what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, expect: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["certify", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == expect, (arguments, printed)
        assert "Traceback" not in printed.err
        return printed.out + printed.err

    return call


@pytest.fixture
def both(run: Run, tmp_path: Path) -> Run:
    """The report; ends as verify does with the same arguments."""

    def call(*arguments: str, expect: int = 0) -> str:
        known = ("case.bundle", "--trust", "trust.toml", *AT, *arguments)
        run("verify", *known, expect=expect)
        run("report", *known, expect=expect)
        return (tmp_path / "case.html").read_text()

    return call


def test_the_same_files_and_time_give_the_same_page(put: Put, both: Run, run: Run) -> None:
    folder = put(audited_case())
    page = both()
    seen = read(page).seen
    assert "✓ VERIFIED" in seen and "PASS by Example Audits, power 0.93" in seen
    said = run("report", "case.bundle", "-t", "trust.toml", *AT, "-o", "other.html", "--json")
    assert json.loads(said) == {
        "verified": True,
        "report": "other.html",
        "grade": "attested",
        "at": "2026-04-11T00:00:00Z",
    }
    assert (folder / "other.html").read_text() == page


def test_a_refused_case_gets_a_page_and_verifys_exit_code(put: Put, both: Run) -> None:
    put(usual_case(), usual_case(operator("Other")))
    seen = read(both(expect=22)).seen
    assert "✗ REFUSED Step 2 failed" in seen


def test_not_a_bundle(put: Put, both: Run) -> None:
    folder = put(usual_case())
    (folder / "case.bundle").write_bytes(b"<script>alert(1)</script>")
    assert "Step 1 failed" in read(both(expect=11)).seen


def test_a_failed_audit(put: Put, both: Run) -> None:
    put(audited_case(FAILED))
    assert "The case is authentic, and the model is not shown to have forgotten." in read(both(expect=18)).seen
    seen = read(both("--allow-failed-audit")).seen
    assert "✗ FAILED AUDIT" in seen and "Grade: attested" in seen
    assert "certify verify case.bundle --trust trust.toml --allow-failed-audit" in seen


def test_a_receipt_that_matches_and_one_that_does_not(put: Put, both: Run) -> None:
    folder = put(usual_case())
    (folder / "mine.json").write_bytes(receipt().to_json())
    seen = read(both("--receipt", "mine.json")).seen
    assert "the record in the receipt was in the training data" in seen
    assert "--trust trust.toml --receipt mine.json" in seen and "patient-1" not in seen
    (folder / "mine.json").write_bytes(receipt(record=b"another").to_json())
    assert "What was given is not what this case is about." in read(both("-r", "mine.json", expect=19)).seen


@pytest.mark.parametrize("read_too", ["case.bundle", "trust.toml"])
def test_what_is_read_is_not_written_over(put: Put, run: Run, read_too: str) -> None:
    folder = put(usual_case())
    before = (folder / read_too).read_bytes()
    said = run("report", "case.bundle", "-t", "trust.toml", "-o", read_too, expect=3)
    assert "choose another with -o" in said and (folder / read_too).read_bytes() == before


def test_a_bad_trust_file_writes_nothing(put: Put, run: Run) -> None:
    folder = put(usual_case())
    (folder / "trust.toml").write_text("version = 7")
    run("report", "case.bundle", "-t", "trust.toml", expect=8)
    assert not (folder / "case.html").exists()


def scored() -> tuple[Case, bytes]:
    """A case with an audit whose figures follow from scores, and these."""
    audit_run = pytest.importorskip("certify.audit_run", reason="needs torch")
    from certify.audit.arms import compare

    forgotten = 6
    drawn = np.random.default_rng(1).normal(size=(4, forgotten + HELD_OUT.count))
    drawn[0, :forgotten] += 4
    right = Utility(0.9, 0.9, Estimate(0.8, 0.5, 1.0), 0.9)
    found: verdict.Figures = compare(PLAN, drawn, forgotten, [right] * 4)
    scores: bytes = audit_run._written(drawn, found)
    positions = tuple(range(forgotten))
    case = usual_case(says_request=lambda: request(positions), positions=positions)
    auditor = Auditor(case)
    auditor.plan()
    auditor.start()
    auditor.finish(found, scores=sha256(scores).hexdigest())
    return case, scores


def test_scores_give_pictures_if_they_are_the_auditors(put: Put, run: Run) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'unlearning-ledger[audit]'")
    case, scores = scored()
    folder = put(case)
    (folder / "scores.json").write_bytes(scores)
    known = ("report", "case.bundle", "-t", "trust.toml", *AT, "--allow-failed-audit", "--scores", "scores.json")
    run(*known)
    page = read((folder / "case.html").read_text())
    images = page.all("img")
    assert len(images) == 2 and all(str(found["src"]).startswith("data:image/svg+xml;base64,") for found in images)
    assert all(found["alt"] for found in images)
    (folder / "scores.json").write_bytes(scores.replace(b"-", b"", 1))
    assert "no audit that counts in this case is of scores.json" in run(*known, expect=3)
