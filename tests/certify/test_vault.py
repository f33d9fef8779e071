"""The vault: nothing readable at rest, nothing moved unnoticed, and what is destroyed is gone."""

import json
import os
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from certify.errors import DatasetError, WorkspaceError
from certify.request import file_request
from certify.vault import Vault, create_key, load_key
from certify.workspace import Workspace
from ledger.errors import KeyFileError
from ledger.fsck import check

RECORDS = [(f"mary.poppins+{i}@example.org", f'{{"diagnosis":"rare-{i}"}}'.encode()) for i in range(5)]
KEY = bytes(range(32))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    vault = Vault.create(tmp_path / "vault.db", KEY)
    yield vault
    vault.close()


def on_disk(vault: Vault) -> bytes:
    return b"".join(path.read_bytes() for path in vault.path.parent.glob("vault.db*"))


def test_openings_come_back(vault: Vault) -> None:
    tree = vault.put_records(RECORDS)
    assert [opening.record_id for opening in vault.openings(tree.root)] == [record_id for record_id, _ in RECORDS]
    found = vault.find(tree.root, RECORDS[3][0])
    assert found is not None
    assert found.position == 3
    assert len(vault.leaves(tree.root)) == 32 * tree.count
    assert vault.find(tree.root, "nobody") is None
    assert vault.find("0" * 64, RECORDS[3][0]) is None
    with pytest.raises(WorkspaceError, match="no records under root"):
        vault.leaves("0" * 64)


def test_two_records_of_one_id_are_refused(vault: Vault) -> None:
    with pytest.raises(DatasetError, match="same id"):
        vault.put_records([("a", b"1"), ("a", b"2")])


def test_notes_are_replaced_and_listed(vault: Vault) -> None:
    vault.put_note("entry/aa", 1)
    vault.put_note("entry/aa", 2)
    vault.put_note("entry/ab", 3)
    vault.put_note("other", {"text": "é"})
    assert dict(vault.notes("entry/a")) == {"entry/aa": 2, "entry/ab": 3}
    assert list(vault.notes("%")) == []
    assert vault.note("other") == {"text": "é"}
    assert vault.note("nothing") is None


def test_nothing_is_readable_at_rest(vault: Vault) -> None:
    tree = vault.put_records(RECORDS)
    salts = [opening.salt for opening in vault.openings(tree.root)]
    vault.put_note(f"note/{tree.root}", "she wrote on a Tuesday")
    data = on_disk(vault)
    assert b"note/" in data  # it is the vault that was searched
    for record_id, record in RECORDS:
        assert record_id.encode() not in data
        assert record not in data
        for hashed in (sha256(record_id.encode()), sha256(record)):
            assert hashed.digest() not in data
            assert hashed.hexdigest().encode() not in data
    assert not [salt for salt in salts if salt in data or salt.hex().encode() in data]
    assert b"Tuesday" not in data
    assert KEY not in data


def test_file_is_for_its_owner_alone(vault: Vault) -> None:
    assert vault.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("column", ["sealed", "position"])
def test_sealed_values_swapped_between_rows_are_detected(vault: Vault, column: str) -> None:
    tree = vault.put_records(RECORDS)
    with sqlite3.connect(vault.path) as database:
        rows = dict(database.execute("SELECT position, sealed FROM openings"))
        if column == "sealed":
            database.execute("UPDATE openings SET sealed = ? WHERE position = 0", (rows[1],))
            database.execute("UPDATE openings SET sealed = ? WHERE position = 1", (rows[0],))
        else:
            database.execute("UPDATE openings SET position = 99 WHERE position = 0")
    with pytest.raises(WorkspaceError, match="was altered"):
        vault.openings(tree.root)


def test_opening_moved_to_another_tree_is_detected(vault: Vault) -> None:
    first, second = vault.put_records(RECORDS[:1]), vault.put_records(RECORDS[:1])
    with sqlite3.connect(vault.path) as database:
        database.execute("DELETE FROM openings WHERE root = ?", (second.root,))
        database.execute("UPDATE openings SET root = ?", (second.root,))
    assert vault.openings(first.root) == []
    with pytest.raises(WorkspaceError, match="was altered"):
        vault.openings(second.root)


def test_note_moved_to_another_name_is_detected(vault: Vault) -> None:
    vault.put_note("removed/a", [1])
    with sqlite3.connect(vault.path) as database:
        database.execute("UPDATE notes SET name = 'removed/b'")
    with pytest.raises(WorkspaceError, match="was altered"):
        vault.note("removed/b")


def test_lookup_led_astray_finds_nobody_else(vault: Vault) -> None:
    """The keyed hash of one id written over another's: the opening says whose it is."""
    tree = vault.put_records(RECORDS)
    with sqlite3.connect(vault.path) as database:
        keys = dict(database.execute("SELECT position, key FROM openings"))
        database.execute("UPDATE openings SET key = ? WHERE position = 0", (keys[1],))
    assert vault.find(tree.root, RECORDS[0][0]) is None
    found = vault.find(tree.root, RECORDS[1][0])
    assert found is not None
    assert found.position == 1


def test_flipped_bit_is_detected(vault: Vault) -> None:
    vault.put_note("a", 1)
    with sqlite3.connect(vault.path) as database:
        (sealed,) = database.execute("SELECT sealed FROM notes").fetchone()
        database.execute("UPDATE notes SET sealed = ?", (sealed[:-1] + bytes([sealed[-1] ^ 1]),))
    with pytest.raises(WorkspaceError, match="was altered"):
        vault.note("a")
    with sqlite3.connect(vault.path) as database:
        database.execute("UPDATE notes SET sealed = x'00'")
    with pytest.raises(WorkspaceError, match="was altered"):
        vault.note("a")


def test_wrong_key_opens_nothing(vault: Vault) -> None:
    tree = vault.put_records(RECORDS)
    vault.put_note("a", 1)
    other = Vault(vault.path, bytes(32))
    for open_ in (lambda: other.openings(tree.root), lambda: other.note("a"), lambda: list(other.notes("a"))):
        with pytest.raises(WorkspaceError, match="not its key"):
            open_()
    assert other.find(tree.root, RECORDS[0][0]) is None  # even the look-up needs the key
    other.close()


def test_equal_values_are_sealed_differently(vault: Vault) -> None:
    vault.put_note("a", "same")
    vault.put_note("b", "same")
    with sqlite3.connect(vault.path) as database:
        sealed = [row[0] for row in database.execute("SELECT sealed FROM notes")]
    assert len({bytes(value[12:]) for value in sealed}) == len({bytes(value[:12]) for value in sealed}) == 2


def test_shred_leaves_no_sealed_byte_in_the_file(vault: Vault) -> None:
    tree = vault.put_records(RECORDS)
    with sqlite3.connect(vault.path) as database:
        rows = dict(database.execute("SELECT position, sealed FROM openings"))
        keys = dict(database.execute("SELECT position, key FROM openings"))
    assert all(sealed in on_disk(vault) for sealed in rows.values())
    assert vault.shred(tree.root, [1, 3]) == 2
    data = on_disk(vault)
    for position in rows:
        kept = position not in (1, 3)
        assert (rows[position] in data) == kept
        assert (rows[position][:24] in data) == kept
        assert (keys[position] in data) == kept
    assert [opening.position for opening in vault.openings(tree.root)] == [0, 2, 4]
    assert vault.find(tree.root, RECORDS[1][0]) is None
    assert vault.shred(tree.root) == 3
    assert vault.openings(tree.root) == []
    assert vault.shred(tree.root) == 0
    assert not [sealed for sealed in rows.values() if sealed in on_disk(vault)]


def test_log_still_verifies_after_shredding(workspace: Workspace) -> None:
    request = file_request(workspace, dict(RECORDS), ground="gdpr-17")
    before = workspace.log.checkpoint()
    root = request.statement.subjects[0].sha256
    assert workspace.vault.shred(root) == len(RECORDS)
    assert workspace.log.checkpoint() == before
    assert workspace.entry(request.index) == request
    assert list(check(workspace.log)) == []


def test_key_file(tmp_path: Path) -> None:
    key = create_key(tmp_path / "vault.json", b"secret")
    assert load_key(tmp_path / "vault.json", b"secret") == key
    assert key not in (tmp_path / "vault.json").read_bytes()
    for password in (b"guess", None):
        with pytest.raises(KeyFileError, match="password"):
            load_key(tmp_path / "vault.json", password)
    (tmp_path / "vault.json").chmod(0o644)
    with pytest.raises(KeyFileError, match="expected 0600"):
        load_key(tmp_path / "vault.json", b"secret")
    with pytest.raises(KeyFileError, match="exists already"):
        create_key(tmp_path / "vault.json", b"secret")


@pytest.mark.parametrize(
    "fields",
    [{}, [], 1, None, {"key": 1}, {"key": "!"}, {"key": "AAAA"}, {"salt": "AAAA", "nonce": "AAAA", "sealed": ""}],
)
def test_damaged_key_file_is_refused(tmp_path: Path, fields: object) -> None:
    path = tmp_path / "vault.json"
    path.write_text(json.dumps(fields))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="cannot open"):
        load_key(path, b"secret")


def test_what_is_not_a_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "vault.db").write_bytes(os.urandom(5000))
    with pytest.raises(WorkspaceError, match="failed"):
        Vault(tmp_path / "vault.db", KEY).leaves("0" * 64)


def test_a_vault_that_is_gone_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no vault"):
        Vault(tmp_path / "vault.db", KEY)
