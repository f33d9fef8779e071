"""How writers take turns in PostgreSQL: what :mod:`ledger.storage_postgres` runs in the server, in three round trips a commit.

``take_turn`` puts a request into ``waiting``, in a transaction of its own, and takes the log's lock, unless another writer has
answered the request meanwhile. ``gather`` reads all that the holder of the lock needs to append: the head, leaf hashes that it
has not seen, every request that waits, and which of their leaves are logged already. ``publish`` appends, and answers.

Arrays go to the server in its binary format, which psycopg would write with several calls an element::

    ndim | flags | oid of an element | length | lower bound | (length of an element | element)*
"""

import struct
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

KEY = f"({int.from_bytes(b'log', 'big')}::bigint << 32) + 'head'::regclass::oid::bigint"
"""The log's advisory lock: one for each schema."""
TAKE = "CALL take_turn(NULL, %s, %s, %s)"
GATHER = "SELECT * FROM gather(%s, %s)"
PUBLISH = "CALL publish(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
PUBLISH_AND_UNLOCK = "CALL publish_and_unlock(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
CLEAN = "DELETE FROM waiting WHERE answer IS NOT NULL AND pid NOT IN (SELECT pid FROM pg_stat_activity)"
"""What writers that are gone have left; where there is no answer, it is still to come."""
UNLOCK = f"SELECT pg_advisory_unlock({KEY})"
ADD = """
INSERT INTO entries ("index", leaf, data)
    SELECT %s::bigint + n - 1, l, d FROM unnest(%s, %s) WITH ORDINALITY AS e(l, d, n)"""

_PUBLISH_ARGUMENTS = """
    first bigint, new_leaves bytea[], new_data bytea[], old_size bigint, new_size bigint, note bytea,
    pids bigint[], tickets bigint[], answers bytea[]"""
_PUBLISH = """
    IF new_size IS NOT NULL THEN
        INSERT INTO entries ("index", leaf, data)
            SELECT first + n - 1, l, d FROM unnest(new_leaves, new_data) WITH ORDINALITY AS e(l, d, n);
        UPDATE head h SET size = new_size, checkpoint = note WHERE h.id = 1 AND h.size = old_size;
        IF NOT FOUND THEN RAISE USING MESSAGE = 'the tree has another size than ' || old_size; END IF;
    END IF;
    UPDATE waiting w SET answer = a.answer, request = NULL, leaves = NULL
        FROM unnest(pids, tickets, answers) AS a(pid, ticket, answer) WHERE w.pid = a.pid AND w.ticket = a.ticket;"""
SCHEMA = (
    """
CREATE UNLOGGED TABLE waiting (
    pid integer PRIMARY KEY, ticket bigint NOT NULL, leaves bytea[], request bytea, answer bytea
) WITH (fillfactor = 50)""",
    "ALTER TABLE waiting ALTER request SET STORAGE EXTERNAL",  # not worth compressing
    # A writer's row is changed in place. Its answer is taken by ticket: a process id comes back.
    f"""
CREATE PROCEDURE take_turn(INOUT given bytea, number bigint, asked_leaves bytea[], asked bytea)
LANGUAGE plpgsql AS $$
DECLARE
    me integer := pg_backend_pid();
    key bigint := {KEY};
BEGIN
    UPDATE waiting SET ticket = number, leaves = asked_leaves, request = asked, answer = NULL WHERE pid = me;
    IF NOT FOUND THEN INSERT INTO waiting VALUES (me, number, asked_leaves, asked, NULL); END IF;
    COMMIT;
    IF NOT pg_try_advisory_lock(key) THEN
        PERFORM pg_advisory_lock_shared(key);  -- granted to all who wait, when the one who appends is done
        PERFORM pg_advisory_unlock_shared(key);
        given := (SELECT answer FROM waiting WHERE pid = me);
        IF given IS NOT NULL THEN RETURN; END IF;
        PERFORM pg_advisory_lock(key);
    END IF;
    given := (SELECT answer FROM waiting WHERE pid = me);
    IF given IS NOT NULL THEN PERFORM pg_advisory_unlock(key); END IF;
END $$""",
    """
CREATE FUNCTION gather(
    known bigint, far bigint, OUT version integer, OUT size bigint, OUT checkpoint bytea, OUT tail bytea[],
    OUT pids integer[], OUT tickets bigint[], OUT requests bytea[], OUT logged bytea)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT h.version, h.size, h.checkpoint INTO version, size, checkpoint FROM head h WHERE h.id = 1;
    tail := ARRAY(SELECT e.leaf FROM entries e WHERE e.index >= known AND e.index < far ORDER BY e.index);
    SELECT array_agg(w.pid), array_agg(w.ticket), array_agg(w.request), string_agg((
        SELECT string_agg(l.leaf || int8send(e.index), '') FROM unnest(w.leaves) AS l(leaf) JOIN entries e ON e.leaf = l.leaf
    ), '') INTO pids, tickets, requests, logged FROM waiting w WHERE answer IS NULL AND request IS NOT NULL;
END $$""",
    f"CREATE PROCEDURE publish({_PUBLISH_ARGUMENTS}) LANGUAGE plpgsql AS $$ BEGIN {_PUBLISH} END $$",
    f"""
CREATE PROCEDURE publish_and_unlock({_PUBLISH_ARGUMENTS})
LANGUAGE plpgsql AS $$ BEGIN {_PUBLISH} COMMIT; PERFORM pg_advisory_unlock({KEY}); END $$""",
)
_BYTEA, _BYTEAS, _BIGINT, _BIGINTS = 17, 1001, 20, 1016


def places(logged: bytes) -> dict[bytes, int]:
    """Leaf hashes and indices, as ``gather`` returns them: 32 bytes and 8."""
    return {logged[i : i + 32]: int.from_bytes(logged[i + 32 : i + 40], "big") for i in range(0, len(logged), 40)}


class ByteaArray(list[bytes]):
    """Sent as ``bytea[]``."""

    def __init__(self, values: Iterable[bytes]) -> None:
        super().__init__(values)


class BigintArray(list[int]):
    """Sent as ``bigint[]``."""

    def __init__(self, values: Iterable[int]) -> None:
        super().__init__(values)


def register(connection: "psycopg.Connection[Any]") -> None:
    connection.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
    connection.adapters.register_dumper(BigintArray, _BigintArrayDumper)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def get_key(self, obj: Any, format: PyFormat) -> type:
        return self.cls


class _ByteaArrayDumper(_ArrayDumper):
    oid = _BYTEAS

    def dump(self, obj: ByteaArray) -> bytes:
        parts = [_header(_BYTEA, len(obj))]
        for value in obj:
            parts += (len(value).to_bytes(4, "big"), value)
        return b"".join(parts)


class _BigintArrayDumper(_ArrayDumper):
    oid = _BIGINTS

    def dump(self, obj: BigintArray) -> bytes:
        return _header(_BIGINT, len(obj)) + b"".join(struct.pack(">iq", 8, value) for value in obj)


def _header(oid: int, length: int) -> bytes:
    return struct.pack(">iiiii", 1, 0, oid, length, 1) if length else struct.pack(">iii", 0, 0, oid)
