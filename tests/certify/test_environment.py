"""What is recorded of the machine: what may affect bits, and nothing that names a person or a place."""

import getpass
import platform
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from certify.environment import describe
from certify.statement import Code
from certify.wire import canonical


def repository(path: Path) -> str:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (path / "train.py").write_text("pass\n")
    git("add", "train.py")
    git("commit", "-q", "-m", "one")
    return git("rev-parse", "HEAD")


def test_versions_and_platform() -> None:
    environment = describe()
    assert environment.python == platform.python_version()
    assert environment.libraries["unlearning-ledger"]
    assert environment.threads >= 1
    assert environment.device


def test_code_is_the_commit_and_whether_it_was_modified(tmp_path: Path) -> None:
    commit = repository(tmp_path)
    assert describe(tmp_path).code == Code(commit, False)
    (tmp_path / "notes.txt").write_text("not tracked")
    assert describe(tmp_path).code == Code(commit, False)
    (tmp_path / "train.py").write_text("changed\n")
    assert describe(tmp_path).code == Code(commit, True)


def test_no_repository_or_no_git_is_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe(tmp_path).code is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe(tmp_path).code is None


def test_determinism_flags_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert describe().settings["torch.deterministic_algorithms"] == "false"
    torch.use_deterministic_algorithms(True)
    try:
        assert describe().settings["torch.deterministic_algorithms"] == "true"
    finally:
        torch.use_deterministic_algorithms(False)
    assert describe().threads == torch.get_num_threads()


def test_known_variables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    settings = describe().settings
    assert settings["OMP_NUM_THREADS"] == "7"
    assert "hunter2" not in settings.values()


def test_no_host_user_or_path(tmp_path: Path) -> None:
    repository(tmp_path)
    text = canonical(msgspec.to_builtins(describe(tmp_path)), what="an environment", error=ValueError).decode()
    for secret in (str(tmp_path), str(Path.home()), sys.prefix, sys.executable):
        assert secret not in text
    for name in (socket.gethostname(), getpass.getuser()):
        assert f'"{name}"' not in text


def test_torch_is_not_loaded_for_it() -> None:
    code = "import sys, certify.environment as e; e.describe(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
