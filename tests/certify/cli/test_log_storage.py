"""certify log migrate, backup and restore."""

import json
import os
from pathlib import Path

import pytest

from tests.certify.cli.conftest import Certify
from tests.postgres import Server


def checkpoint(certify: Certify) -> str:
    note: str = json.loads(certify("log", "checkpoint", "--json").stdout)["note"]
    return note


def test_ledger_moves_to_postgresql_and_back(certify: Certify, folder: Path, postgres: Server) -> None:
    config, url = folder / "ledger" / "certify.toml", postgres.url()
    config.write_text(config.read_text() + "# a comment\n")
    before, note, text = (folder / "case.bundle").read_bytes(), checkpoint(certify), config.read_text()
    moved = json.loads(certify("log", "migrate", url, "--json", CERTIFY_PASSWORD="").stdout)
    assert moved["size"] == 3 and f'log = "{url}"' in config.read_text() and "# a comment" in config.read_text()
    assert checkpoint(certify) == note
    certify("bundle", "-o", "moved.bundle")
    assert (folder / "moved.bundle").read_bytes() == before
    certify("request", "--data", "patients.csv", "--id", "p3")
    assert "4 entries, nothing wrong" in certify("log", "fsck").stdout
    config.write_text(text)  # as somebody with an old configuration would go on
    assert "goes on there" in certify("request", "--data", "patients.csv", "--id", "p4", expect=33).stderr
    config.write_text(text + f'log = "{url}"\n')
    assert "4 entries are now in" in certify("log", "migrate", "log.db").stdout
    assert "log =" not in config.read_text()
    certify("request", "--data", "patients.csv", "--id", "p5")
    certify("log", "fsck")


def test_places_that_are_refused(certify: Certify, folder: Path, tmp_path: Path) -> None:
    refused = {
        "postgresql://ledger:secret@db.example/log": "expected a URL without a password",
        "postgresql://ledger@db.example/log?password=secret": "expected a URL without a password",
        "elsewhere.db": "expected a postgresql:// URL or",
        "https://log.example": "expected a postgresql:// URL or",
    }
    for place, message in refused.items():
        done = certify("log", "migrate", place, expect=3)
        assert message in done.stderr and "secret" not in done.stderr
    assert "failed" in certify("log", "migrate", f"postgresql://ledger@/postgres?host={tmp_path}", expect=31).stderr
    assert "log =" not in (folder / "ledger" / "certify.toml").read_text()
    certify("request", "--data", "patients.csv", "--id", "p3")


def test_backup_is_restored(certify: Certify, folder: Path) -> None:
    log, note = folder / "ledger" / "log.db", checkpoint(certify)
    assert "3 entries, root" in certify("log", "backup", "saved.db", CERTIFY_PASSWORD="").stdout
    certify("log", "backup", "saved.db", expect=31)
    for side in ("", "-wal", "-shm"):
        Path(f"{log}{side}").unlink(missing_ok=True)
    assert json.loads(certify("log", "restore", "saved.db", "--json").stdout) == {
        "size": 3,
        "root": json.loads(certify("log", "checkpoint", "--json").stdout)["root"],
        "lacking": 0,
        "aside": None,
    }
    assert checkpoint(certify) == note
    certify("request", "--data", "patients.csv", "--id", "p3")


def test_older_backup_is_not_signed_over(certify: Certify, folder: Path) -> None:
    """The log refuses to give out an index twice, says what to do, and goes on once the missing entries are back."""
    certify("log", "backup", "saved.db")
    certify("request", "--data", "patients.csv", "--id", "p3")
    certify("log", "export", "web")
    note = checkpoint(certify)
    restored = certify("log", "restore", "saved.db").stdout
    assert "1 are missing" in restored and "--rest" in restored and "log.db.replaced-1" in restored
    for command in (("request", "--data", "patients.csv", "--id", "p4"), ("log", "checkpoint"), ("log", "backup", "x")):
        assert "rolled back" in certify(*command, expect=33).stderr
    assert "rolled back" in certify("log", "fsck", expect=39).stdout
    assert json.loads(certify("log", "restore", "saved.db", "--rest", "web", "--json").stdout)["size"] == 4
    assert checkpoint(certify) == note
    certify("request", "--data", "patients.csv", "--id", "p4")
    certify("log", "fsck")


def test_restore_into_another_database(certify: Certify, folder: Path, postgres: Server) -> None:
    first, second = postgres.url(), postgres.url()
    certify("log", "migrate", first)
    certify("log", "backup", "saved.db")
    assert "holds a log already" in certify("log", "restore", "saved.db", expect=31).stderr
    certify("log", "restore", "saved.db", "--to", second)
    assert f'log = "{second}"' in (folder / "ledger" / "certify.toml").read_text()
    certify("request", "--data", "patients.csv", "--id", "p3")
    certify("log", "fsck")


@pytest.mark.parametrize("what", ["a text", "nothing"])
def test_files_that_are_no_backups(certify: Certify, folder: Path, what: str) -> None:
    (folder / "saved.db").write_text("" if what == "nothing" else "no log" * 1000)
    note = checkpoint(certify)
    certify("log", "restore", "saved.db", expect=31)
    assert checkpoint(certify) == note and not os.path.lexists(folder / "ledger" / "log.db.replaced-1")
