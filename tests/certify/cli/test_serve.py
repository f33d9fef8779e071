"""``certify serve``, its tokens, and ``certify log export``, as an operator uses them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from certify.envelope import sign
from certify.keys import SigningKey
from certify.workspace import Workspace
from ledger import http
from ledger.client import RemoteLog
from ledger.errors import AdmissionError
from tests.cases import training
from tests.certify.cli.conftest import PASSWORD, certify_in

ORIGIN = "clinic.example/ledger"


@pytest.fixture(scope="module")
def made_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    Workspace.init(folder / "ledger", origin=ORIGIN, issuer="Example Clinic", password=PASSWORD.encode()).close()
    return folder


@pytest.fixture
def folder(made_ledger: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_ledger, tmp_path, dirs_exist_ok=True)
    return tmp_path


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[dict[str, object], "subprocess.Popen[str]"]]:
    """What the server said when it began, and its process, which is stopped well at the end."""
    command = [sys.executable, "-m", "certify", "serve", "ledger", "--port", "0", "--json", *arguments]
    environment = os.environ | {"CERTIFY_PASSWORD": PASSWORD}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield json.loads(line), process
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in errors, errors


def test_statement_goes_from_a_token_to_an_exported_folder(folder: Path) -> None:
    made = json.loads(
        certify_in(folder, "serve", "token", "add", "cluster", "--issuer", "Example Clinic", "--json").stdout
    )
    assert json.loads(certify_in(folder, "serve", "token", "list", "--json").stdout)[0]["name"] == "cluster"
    with Workspace(folder / "ledger", PASSWORD.encode()) as workspace:
        keys = workspace.log_keys()
        issuer = workspace.issuer_key
    entry = sign(training(log=ORIGIN).payload(), [issuer]).data
    with served(folder) as (said, _):
        assert said["origin"] == ORIGIN and said["tokens"] == 1 and said["size"] == 0
        url = str(said["url"])
        with closing(RemoteLog(url, keys, token=made["token"])) as remote:
            assert remote.append(entry).index == 0 and remote.append(entry).index == 0
            with pytest.raises(AdmissionError, match="not for who signed this"):
                remote.append(sign(training(log=ORIGIN).payload(), [SigningKey.generate()]).data)
        certify_in(folder, "serve", "token", "revoke", "cluster")
        with closing(http.Server(url, token=made["token"])) as server:
            statuses = set()
            while 401 not in statuses:
                statuses.add(server.post("append", entry, limit=1 << 20).status)
            assert statuses <= {200, 401}
    exported = json.loads(certify_in(folder, "log", "export", "out", "--json").stdout)
    assert exported == {"before": None, "size": 1, "written": 3, "removed": 0}
    assert (folder / "out/tile/entries/000.p/1").read_bytes()[2:] == entry
    assert "0 files written" in certify_in(folder, "log", "export", "out").stdout


def test_reading_only_needs_no_password_and_takes_nothing(folder: Path) -> None:
    (folder / "ledger/keys/log.pem").unlink()
    with served(folder, "--read-only") as (said, _):
        assert said["readOnly"] is True
        with closing(http.Server(str(said["url"]))) as server:
            assert server.get("checkpoint", limit=1 << 20).status == 200
            assert server.post("append", b"x", limit=1 << 20).status == 404


def test_ctrl_c_ends_it_well(folder: Path) -> None:
    with served(folder) as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_open_address_is_warned_of(folder: Path) -> None:
    with served(folder, "--host", "0.0.0.0") as (_, process):
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None and "plain HTTP" in process.stderr.readline()


def test_mistakes_are_said_in_one_line(folder: Path) -> None:
    nobody = certify_in(folder, "serve", "token", "add", "x", "--issuer", "Nobody", expect=3)
    assert "Example Clinic" in nobody.stderr
    certify_in(folder, "serve", "token", "revoke", "x", expect=9)
    assert "no tokens yet" in certify_in(folder, "serve", "token", "list").stdout
    assert "no ledger in" in certify_in(folder, "serve", "elsewhere", expect=9).stderr
    assert "cannot listen" in certify_in(folder, "serve", "--host", "192.0.2.1", expect=1).stderr
    (folder / "ledger/tokens.toml").write_text("version = 7\n")
    assert "expected 1" in certify_in(folder, "serve", expect=9).stderr
    (folder / "out").mkdir()
    (folder / "out/photo").write_text("x")
    assert "other files" in certify_in(folder, "log", "export", "out", expect=1).stderr
