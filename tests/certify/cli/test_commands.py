"""What every command has in common, and what each of them does."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import merkletools
import pytest

from certify.cli import cli
from tests.certify.cli.conftest import PASSWORD, Certify

ROOT = Path(__file__).parents[3]


def commands(group: click.Group = cli, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


ALL = {" ".join(name): command for name, command in commands()}


@pytest.mark.parametrize("name", ALL)
def test_every_command_takes_json_and_teaches(name: str) -> None:
    command = ALL[name]
    assert any("--json" in parameter.opts for parameter in command.params)
    assert command.help is not None
    assert f"certify {name}" in command.help or name in ("log fsck",), "no example"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_flag and parameter.name != "scope":
            assert parameter.help or isinstance(parameter.type, click.Choice) or parameter.name == "output", (
                parameter.name
            )


@pytest.mark.parametrize("name", ALL)
def test_every_command_is_documented(name: str) -> None:
    assert f"certify {name}" in (ROOT / "README.md").read_text() + (ROOT / "SPEC.md").read_text()


def test_every_exit_code_is_documented() -> None:
    from certify import errors
    from certify.cli import exit_codes

    codes = {
        value.exit_code for value in vars(errors).values() if isinstance(value, type) and hasattr(value, "exit_code")
    }
    codes |= {code for _, code in (*exit_codes._LEDGER_CODES, *exit_codes._CIRCUIT_CODES)}
    codes |= {exit_codes.FSCK_FOUND, exit_codes.INTERNAL}
    table = (ROOT / "SPEC.md").read_text()
    assert [code for code in sorted(codes) if f"| {code} |" not in table] == []


def test_verify_accepts_weights_files_and_receipt(certify: Certify) -> None:
    certify("receipt", "-r", 1, "--data", "patients.csv", "--id", "p17", "-o", "mine.json")
    given = ("-w", "forgot.safetensors", "-f", "forgot.safetensors", "-r", "mine.json")
    done = certify("verify", "case.bundle", "-t", "ledger/trust.toml", *given, "--json")
    report = json.loads(done.stdout)
    assert report["verified"] and report["grade"] == "attested"
    assert len(report["steps"][8]["established"]) == 4


def test_verify_says_what_failed_in_json(certify: Certify, folder: Path) -> None:
    data = bytearray((folder / "case.bundle").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "bad.bundle").write_bytes(data)
    report = json.loads(certify("verify", "bad.bundle", "-t", "ledger/trust.toml", "--json", expect=11).stdout)
    assert report["step"] == 1 and report["exitCode"] == 11 and report["verified"] is False


def test_weights_of_before_are_refused(certify: Certify) -> None:
    done = certify("verify", "case.bundle", "-t", "ledger/trust.toml", "-w", "model.safetensors", expect=19)
    assert "before the unlearning" in done.stderr


def test_an_expired_look_is_possible(certify: Certify) -> None:
    done = certify("verify", "case.bundle", "-t", "ledger/trust.toml", "--at", "2020-01-01T00:00:00Z", expect=23)
    assert "future" in done.stderr


def test_reading_needs_no_password(certify: Certify, folder: Path) -> None:
    quiet = {"CERTIFY_PASSWORD": ""}
    assert json.loads(certify("log", "entries", "--json", **quiet).stdout)[2]["kind"] == "unlearning"
    assert certify("log", "checkpoint", **quiet).stdout.startswith("clinic.example/ledger\n3\n")
    assert certify("log", "fsck", **quiet).stdout == "3 entries, nothing wrong\n"
    assert "index 2" in certify("log", "prove", "2", **quiet).stdout
    for name in ("case.bundle", "2"):
        assert "unlearning/v1" in certify("show", name, **quiet).stdout


def test_writing_without_a_password_is_refused(certify: Certify) -> None:
    done = certify("request", "--data", "patients.csv", "--id", "p1", expect=30, CERTIFY_PASSWORD="")
    assert "password" in done.stderr


def test_a_wrong_password_is_refused(certify: Certify) -> None:
    done = certify("request", "--data", "patients.csv", "--id", "p1", expect=30, CERTIFY_PASSWORD="wrong")
    assert "wrong password" in done.stderr


def test_the_password_may_come_from_a_private_file(certify: Certify, folder: Path) -> None:
    secret = folder / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o644)
    call = ("request", "--data", "patients.csv", "--id", "p1")
    environment = {"CERTIFY_PASSWORD": "", "CERTIFY_PASSWORD_FILE": str(secret)}
    assert "chmod 600" in certify(*call, expect=30, **environment).stderr
    secret.chmod(0o600)
    certify(*call, **environment)


def test_init_without_a_password_is_refused_unless_asked_for(certify: Certify, folder: Path) -> None:
    assert "--no-password" in certify("init", "other", expect=3, CERTIFY_PASSWORD="").stderr
    assert not (folder / "other").exists()
    certify("init", "other", "--no-password", CERTIFY_PASSWORD="")
    assert "already" in certify("keygen", "other/trust.toml", expect=30).stderr
    assert "not an empty folder" in certify("init", "other", expect=9).stderr


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519", "ml-dsa-65"])
def test_keygen_writes_a_key_that_nobody_else_can_read(certify: Certify, folder: Path, algorithm: str) -> None:
    made = json.loads(certify("keygen", "auditor.pem", "--algorithm", algorithm, "--json").stdout)
    assert (folder / "auditor.pem").stat().st_mode & 0o777 == 0o600
    assert made["algorithm"] == algorithm and (folder / made["public"]).read_text().startswith("-----BEGIN PUBLIC KEY")


def test_a_rotation_that_cannot_be_stated_leaves_no_key(certify: Certify, folder: Path) -> None:
    certify("key", "rotate", "--not-after", "2020-01-01T00:00:00Z", expect=7)
    certify("key", "rotate")


def test_rotation_and_revocation(certify: Certify, folder: Path) -> None:
    certify("key", "rotate", "--algorithm", "ed25519")
    certify("request", "--data", "patients.csv", "--id", "p9")
    same = ("--pre", "forgot.safetensors", "--post", "later.safetensors", "--method", "retrain")
    certify("issue", "-r", "4", *same)
    certify("bundle", "-o", "second.bundle")
    certify("verify", "second.bundle", "-t", "ledger/trust.toml")
    certify("key", "revoke", "--yes")
    assert "revoked" in certify("request", "--data", "patients.csv", "--id", "p8", expect=9).stderr
    certify("bundle", "-o", "third.bundle")
    certify("verify", "third.bundle", "-t", "ledger/trust.toml")


def test_shredding_leaves_a_log_that_verifies(certify: Certify) -> None:
    assert json.loads(certify("shred", "1", "--yes", "--json").stdout)["destroyed"] == 4
    certify("log", "fsck")
    certify("bundle", "-o", "after.bundle")
    certify("verify", "after.bundle", "-t", "ledger/trust.toml")
    done = certify("receipt", "-r", 1, "--training", 0, "--data", "patients.csv", "--id", "p17", expect=9)
    assert "not in the request" in done.stderr


def test_merkletools_accepts_an_exported_proof(certify: Certify) -> None:
    from hashlib import sha256

    class Node:
        """SHA-256 with the prefix of an inner node."""

        def __init__(self, data: bytes) -> None:
            self._digest = sha256(b"\x01" + data).digest()

        def digest(self) -> bytes:
            return self._digest

    tools = merkletools.MerkleTools()
    tools.hash_function = Node
    for entry in range(3):
        proof = json.loads(certify("log", "prove", entry, "--format", "merkletools").stdout)
        assert tools.validate_proof(proof["proof"], proof["targetHash"], proof["merkleRoot"])
        flipped = proof["targetHash"][:-1] + ("0" if proof["targetHash"][-1] != "0" else "1")
        assert not tools.validate_proof(proof["proof"], flipped, proof["merkleRoot"])


def test_diff_and_digest_agree(certify: Certify, folder: Path) -> None:
    difference = json.loads(certify("diff", "model.safetensors", "forgot.safetensors", "--json").stdout)
    assert difference["changed"] == ["head.weight"] and len(difference["unchanged"]) == 2
    digest = json.loads(certify("digest", "forgot.safetensors", "--manifest", "m.json", "--json").stdout)
    assert digest["tensorRoot"] == difference["after"]
    assert json.loads(certify("diff", "m.json", "forgot.safetensors", "--json").stdout)["changed"] == []
    proof = json.loads(certify("digest", "forgot.safetensors", "--prove", "head.bias").stdout)
    assert proof["tensor"]["name"] == "head.bias"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("verify", "patients.csv", "-t", "ledger/trust.toml"), 11, "not a bundle"),
        (("verify", "case.bundle", "-t", "patients.csv"), 8, "trust file"),
        (("verify", "case.bundle"), 2, "--trust"),
        (("verfy",), 2, "Did you mean 'verify'"),
        (("show", "nothing-here"), 9, "no statements match"),
        (("show", "patients.csv"), 3, "is none of"),
        (("log", "prove", "99"), 31, "no entry 99"),
        (("log", "entries", "--ledger", "nowhere"), 9, "certify init"),
        (("request", "--data", "patients.csv", "--id", "nobody"), 3, "no record 'nobody'"),
        (("request", "--data", "patients.csv"), 3, "--id"),
        (
            ("issue", "-r", "0", "--pre", "model.safetensors", "--post", "forgot.safetensors", "--method", "x"),
            9,
            "request",
        ),
        (
            ("issue", "-r", "1", "--pre", "patients.csv", "--post", "forgot.safetensors", "--method", "x"),
            4,
            "patients.csv",
        ),
        (("digest", "patients.csv"), 4, "patients.csv"),
        (("bundle", "1"), 9, "expected a certificate"),
    ],
)
def test_bad_input_gets_a_clear_error_and_its_own_code(
    certify: Certify, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in certify(*arguments, expect=code).stderr


def test_a_model_that_was_never_logged_is_refused(certify: Certify, folder: Path) -> None:
    size = json.loads(certify("log", "checkpoint", "--json").stdout)["size"]
    (folder / "ledger2").mkdir()
    call = ("issue", "-r", "1", "--pre", "other.safetensors", "--post", "forgot.safetensors", "--method", "x")
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.ones(3)}, folder / "other.safetensors")
    assert "log it first" in certify(*call, expect=9).stderr
    assert json.loads(certify("log", "checkpoint", "--json").stdout)["size"] == size


def test_a_bundle_that_cannot_be_written_leaves_nothing(certify: Certify, folder: Path) -> None:
    (folder / "sealed").mkdir()
    done = certify("bundle", "-o", "missing/case.bundle", expect=3)
    assert "missing/case.bundle" in done.stderr and not list(folder.glob("**/.case.bundle*"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(certify: Certify, shell: str) -> None:
    script = certify("completion", shell).stdout
    assert "_CERTIFY_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_completion_completes(folder: Path) -> None:
    environment = {**os.environ, "_CERTIFY_COMPLETE": "bash_complete", "COMP_WORDS": "certify ver", "COMP_CWORD": "1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("certify")], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert "plain,verify" in done.stdout.splitlines()


def test_colour_on_terminals_only(certify: Certify, folder: Path) -> None:
    arguments = ("verify", "case.bundle", "-t", "ledger/trust.toml")
    assert "\x1b[" not in certify(*arguments).stdout
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-m", "certify", *arguments]
    done = subprocess.Popen(command, cwd=folder, stdout=follower, stderr=follower, env=environment | {"TERM": "xterm"})
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert done.wait() == 0
    assert b"\x1b[32m" in shown and b"VERIFIED" in shown


def test_progress_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from certify.cli import output

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(output, "_PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with output.progress("hashing weights", 10_000_000) as update:
        update(1_000_000)
        update(5_000_000)
    assert "hashing weights" in terminal.getvalue() and re.search(r"\d/10.0 MB", terminal.getvalue())


def test_hostile_names_cannot_drive_the_terminal(certify: Certify, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"\x1b[2Jevil\u202e": torch.ones(3)}, folder / "evil.safetensors")
    for call in (("diff", "model.safetensors", "evil.safetensors"), ("digest", "evil.safetensors", "--tensors")):
        shown = certify(*call).stdout
        assert "\x1b" not in shown and "\u202e" not in shown and "evil" in shown


@pytest.mark.parametrize("odd", ["/dev/zero", "pipe", "ledger"])
def test_devices_pipes_and_folders_are_refused_at_once(certify: Certify, folder: Path, odd: str) -> None:
    os.mkfifo(folder / "pipe")
    for call in (
        ("verify", odd, "-t", "ledger/trust.toml"),
        ("verify", "case.bundle", "-t", odd),
        ("verify", "case.bundle", "-t", "ledger/trust.toml", "-r", odd),
        ("request", "--data", odd, "--id", "1"),
    ):
        assert "regular file" in certify(*call, expect=2).stderr or odd == "ledger"


def test_a_certificate_that_nobody_would_accept_is_not_issued(certify: Certify) -> None:
    certify("request", "--data", "patients.csv", "--id", "p3")
    call = ("issue", "-r", "3", "--pre", "forgot.safetensors", "--post", "later.safetensors", "--method", "x")
    early = ("--started", "2020-01-01T00:00:00Z", "--finished", "2020-01-01T00:00:00Z")
    assert "no verifier would accept it" in certify(*call, *early, expect=9).stderr
    assert json.loads(certify("log", "checkpoint", "--json").stdout)["size"] == 4


def test_a_hostile_statement_cannot_drive_the_verifiers_terminal(certify: Certify) -> None:
    certify("request", "--data", "patients.csv", "--id", "p3")
    call = ("issue", "-r", "3", "--pre", "forgot.safetensors", "--post", "later.safetensors")
    certify(*call, "--method", "x\x1b[2J\u202eok")
    certify("bundle", "-o", "hostile.bundle")
    for extra in ((), ("--json",)):
        shown = certify("verify", "hostile.bundle", "-t", "ledger/trust.toml", *extra).stdout
        assert "\x1b" not in shown and "\u202e" not in shown


def test_a_method_name_cannot_forge_the_verdict(certify: Certify) -> None:
    certify("request", "--data", "patients.csv", "--id", "p3")
    call = ("issue", "-r", "3", "--pre", "forgot.safetensors", "--post", "later.safetensors")
    certify(*call, "--method", "x\n\nVERIFIED  grade: exclusion proven")
    certify("bundle", "-o", "forged.bundle")
    lines = certify("verify", "forged.bundle", "-t", "ledger/trust.toml").stdout.splitlines()
    assert [line for line in lines if line.startswith("VERIFIED")] == [lines[lines.index("") + 1]]
    assert not any(line.startswith("VERIFIED  grade: exclusion") for line in lines)


def test_every_file_given_is_checked_also_of_the_same_name(certify: Certify, folder: Path) -> None:
    (folder / "bad").mkdir()
    (folder / "bad" / "forgot.safetensors").write_bytes(b"other")
    files = ("-f", "bad/forgot.safetensors", "-f", "forgot.safetensors")
    certify("verify", "case.bundle", "-t", "ledger/trust.toml", *files, expect=19)
