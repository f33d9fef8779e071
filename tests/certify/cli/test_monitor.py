"""``certify monitor`` as its users call it: what it prints, writes and ends with."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from certify.cli import main
from certify.keys import SigningKey
from certify.trust import TrustedIssuer, TrustedLog, format_trust
from ledger.fork import ForkProof
from ledger.log_key import LogKey
from ledger.source import HttpSource
from ledger.views import witness_path
from tests.cases import ORIGIN, Case, Witness, certificate, day, operator, request, training, usual_case
from tests.monitored import Served, signed

OPERATOR = operator()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with trust.toml, to work in."""
    log = TrustedLog(ORIGIN, OPERATOR.log_key.verifier_keys)
    issuer = TrustedIssuer(OPERATOR.name, OPERATOR.key.public)
    (tmp_path / "trust.toml").write_text(format_trust([log], [issuer]))
    return tmp_path


@dataclass
class Done:
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        return json.loads(self.stdout)


Certify = Callable[..., Done]


@pytest.fixture
def certify(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Certify:
    """The command, called in this process."""
    monkeypatch.chdir(here)

    def run(*arguments: object, expect: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["certify", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert end.value.code == expect, f"{arguments}: {end.value.code}\n{out}\n{err}"
        return Done(out, err)

    return run


def publish(folder: Path, entries: list[bytes], key: LogKey = OPERATOR.log_key) -> Path:
    """The static layout of a log."""
    served = Served(list(entries), key)
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in {"checkpoint": served.note, **served.files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def entries_of(case: Case) -> list[bytes]:
    return case.entries[1:]


def test_a_sound_log_is_followed_from_where_it_ended(here: Path, certify: Certify) -> None:
    case = usual_case()
    publish(here / "log", entries_of(case))
    first = certify("monitor", "log", "-t", "trust.toml", "--state", "watched")
    assert "sound  3 of 3 entries looked at, 3 of them new" in first.stdout
    assert "holds  1 request, 1 training, 1 unlearning; 0 requests unanswered, 0 of them overdue" in first.stdout
    case.say(request((2,), due="2999-01-01T00:00:00Z"))
    publish(here / "log", entries_of(case))
    second = certify("monitor", "log", "-t", "trust.toml", "--state", "watched", "--json").value
    assert (second["size"], second["new"], second["unanswered"], second["findings"], second["exitCode"]) == (
        4,
        1,
        1,
        [],
        0,
    )
    assert sorted(path.name for path in (here / "watched").iterdir()) == ["position.txt", "statements.db"]


def test_a_fork_leaves_a_proof_that_others_can_check(here: Path, certify: Certify) -> None:
    publish(here / "log", entries_of(usual_case()))
    certify("monitor", "log", "-t", "trust.toml", "--state", "watched")
    publish(here / "log", [b"another", *entries_of(usual_case())])
    done = certify("monitor", "log", "-t", "trust.toml", "--state", "watched", expect=51)
    assert "FORK" in done.stdout and "--check-fork watched/fork-" in done.stdout
    (proof,) = (here / "watched").glob("fork-*.txt")
    shown = certify("monitor", "-t", "trust.toml", "--check-fork", proof)
    assert "proven" in shown.stdout
    value = certify("monitor", "-t", "trust.toml", "--check-fork", proof, "--json").value
    assert value["forked"] and [side["size"] for side in value["checkpoints"]] == [3, 4]
    again = certify("monitor", "log", "-t", "trust.toml", "--state", "watched", "--json", expect=51).value
    assert Path(again["fork"]["proof"]).name == proof.name


def test_a_fork_proof_of_an_honest_pair_is_refused(here: Path, certify: Certify) -> None:
    entries = entries_of(usual_case())
    key = OPERATOR.log_key
    (here / "fork.txt").write_bytes(ForkProof(bytes(32), (), signed(entries, key), signed(entries, key)).format())
    certify("monitor", "-t", "trust.toml", "--check-fork", "fork.txt", expect=36)
    (here / "fork.txt").write_bytes(b"nonsense")
    certify("monitor", "-t", "trust.toml", "--check-fork", "fork.txt", expect=34)


def test_split_view_found_with_a_friends_checkpoint_or_a_mirror(here: Path, certify: Certify) -> None:
    publish(here / "log", entries_of(usual_case()))
    other = [b"another", *entries_of(usual_case())]
    publish(here / "mirror", other)
    (here / "friend.checkpoint").write_bytes(signed(other[:2], OPERATOR.log_key))
    for second in ("mirror", "friend.checkpoint"):
        certify("monitor", "log", "-t", "trust.toml", "--second", second, expect=51)
    assert len(list(here.glob("fork-*.txt"))) == 2


def test_rolled_back_log(here: Path, certify: Certify) -> None:
    publish(here / "log", entries_of(usual_case()))
    certify("monitor", "log", "-t", "trust.toml", "--state", "watched")
    publish(here / "log", entries_of(usual_case())[:2])
    value = certify("monitor", "log", "-t", "trust.toml", "--state", "watched", "--json", expect=33).value
    assert value["error"]["class"] == "RolledBackError"


def test_altered_entry_is_named(here: Path, certify: Certify) -> None:
    publish(here / "log", entries_of(usual_case()))
    bundle = here / "log" / "tile" / "entries" / "000.p" / "3"
    bundle.write_bytes(bundle.read_bytes().replace(b"payload", b"paxload", 1))
    done = certify("monitor", "log", "-t", "trust.toml", "--state", "watched", expect=39)
    assert "wrong  entry 0: its bytes hash to" in done.stdout and "NOT SOUND" in done.stdout
    assert not (here / "watched" / "position.txt").exists()


def test_log_that_is_not_there(certify: Certify, monkeypatch: pytest.MonkeyPatch) -> None:
    certify("monitor", "gone", "-t", "trust.toml", expect=31)
    monkeypatch.setattr("ledger.source.open_source", partial(HttpSource, patience=0.1))
    done = certify("monitor", "http://127.0.0.1:9/log", "-t", "trust.toml", expect=52)
    assert "did not answer" in done.stderr


@pytest.fixture
def url(here: Path) -> Iterator[str]:
    """``here`` as any web server serves it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(here)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_log_on_any_web_server(here: Path, certify: Certify, url: str) -> None:
    entries = [*entries_of(usual_case()), *(b"%d" % i for i in range(2000))]
    publish(here / "log", entries)
    publish(here / "mirror", entries[:700])
    value = certify("monitor", f"{url}/log", "-t", "trust.toml", "--second", f"{url}/mirror", "--json").value
    assert (value["looked"], value["noStatement"]) == (2003, 2000)
    publish(here / "mirror", [b"another", *entries])
    certify("monitor", f"{url}/log", "-t", "trust.toml", "--second", f"{url}/mirror", expect=51)


def test_log_with_another_key(here: Path, certify: Certify) -> None:
    publish(here / "log", entries_of(usual_case()), LogKey.generate(ORIGIN))
    certify("monitor", "log", "-t", "trust.toml", expect=35)


def test_statements_that_break_the_rules_and_overdue_requests(here: Path, certify: Certify) -> None:
    case = Case()
    case.say(training())
    case.say(request())
    publish(here / "log", entries_of(case))
    done = certify("monitor", "log", "-t", "trust.toml", expect=58)
    assert "overdue  entry 1: the request was due on 2026-02-10T00:00:00Z, and no certificate" in done.stdout
    case = Case()
    trained = case.say(training())
    case.say(certificate(trained, case.sign(request())))
    publish(here / "log", entries_of(case))
    value = certify("monitor", "log", "-t", "trust.toml", "--json", expect=58).value
    assert [(finding["kind"], finding["entry"]) for finding in value["findings"]] == [("statement", 1)]


def test_statements_by_nobody_trusted_are_told_but_no_fault(here: Path, certify: Certify) -> None:
    case = usual_case()
    case.log(case.sign(request((3,)), SigningKey.generate()))
    publish(here / "log", entries_of(case))
    done = certify("monitor", "log", "-t", "trust.toml")
    assert "note  entry 3" in done.stdout and "1 by unknown issuers" in done.stdout


def test_terminals_are_not_moved_by_what_a_log_says(here: Path, certify: Certify) -> None:
    case = usual_case()
    case.entries.append(b'{"\x1b[2J\xe2\x80\xae":1}')
    publish(here / "log", entries_of(case))
    done = certify("monitor", "log", "-t", "trust.toml")
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout


@pytest.mark.parametrize("when", ["past", "future"])
def test_the_quorum_is_asked_for_and_no_cosignature_from_the_future_counts(
    when: str, here: Path, certify: Certify
) -> None:
    witness = Witness("witness.example")
    with (here / "trust.toml").open("a") as file:
        file.write(f'\n[witnesses]\nquorum = 1\nkeys = ["{witness.public.format()}"]\n')
    log = publish(here / "log", entries_of(usual_case()))
    certify("monitor", "log", "-t", "trust.toml", expect=50)
    time = day(30) if when == "past" else day(400_000)
    (log / "checkpoint").write_bytes(witness.cosign((log / "checkpoint").read_bytes(), time))
    certify("monitor", "log", "-t", "trust.toml", expect=0 if when == "past" else 50)


def test_a_policy_file_says_who_has_to_have_cosigned_and_who_is_asked(here: Path, certify: Certify, url: str) -> None:
    entries = entries_of(usual_case())
    a, b = Witness("a.example"), Witness("b.example")
    lines = [f"witness {name} {w.public.format()} {url}/{name}" for name, w in (("A", a), ("B", b))]
    (here / "policy").write_text("\n".join([*lines, "group both all A B", "quorum both", ""]))
    log = publish(here / "log", entries)
    once = a.cosign((log / "checkpoint").read_bytes(), day(30))
    (log / "checkpoint").write_bytes(once)
    monitor = ("monitor", "log", "-t", "trust.toml", "--witness-policy", "policy")
    assert "cosigned by a.example" in certify(*monitor, expect=50).stderr
    (log / "checkpoint").write_bytes(b.cosign(once, day(30)))
    for name, witness in (("A", a), ("B", b)):
        place = here / name / witness_path(ORIGIN)
        place.parent.mkdir(parents=True)
        place.write_bytes(witness.cosign(signed(entries[:2], OPERATOR.log_key), day(29)))
    assert certify(*monitor, "--json").value["findings"] == []
    place.write_bytes(b.cosign(signed([b"another", b"history"], OPERATOR.log_key), day(29)))
    certify(*monitor, expect=51)
    place.unlink()
    assert "note  witness b.example could not be compared with" in certify(*monitor).stdout
    place.write_bytes(signed(entries[:2], OPERATOR.log_key))
    assert "note  witness b.example gave a checkpoint without its own cosignature" in certify(*monitor).stdout


def test_it_goes_on_looking(here: Path, certify: Certify) -> None:
    """Two looks, a line of JSON each; a fork in the second ends it."""
    publish(here / "log", entries_of(usual_case()))
    other = [b"another", *entries_of(usual_case())]
    publish(here / "other", other)
    process = subprocess.Popen(
        [sys.executable, "-m", "certify", "monitor", "log", "-t", "trust.toml", "--every", "1", "--json"],
        cwd=here, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["exitCode"] == 0
    (here / "log").rename(here / "old")
    (here / "other").rename(here / "log")
    lines = [json.loads(line) for line in process.stdout]
    assert process.wait(timeout=30) == 51
    assert lines[-1]["exitCode"] == 51 and (here / lines[-1]["fork"]["proof"]).is_file()


def test_wrong_calls_say_what_to_do(certify: Certify) -> None:
    assert "name the log" in certify("monitor", "-t", "trust.toml", expect=2).stderr
    assert (
        "--once and --every" in certify("monitor", "x", "-t", "trust.toml", "--once", "--every", "5", expect=2).stderr
    )
