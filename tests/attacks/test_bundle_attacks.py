"""Hostile bundles: whatever a zip can be, there is one form, and nothing is read or unpacked before it is known to be it."""

import io
import json
import struct
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from certify import bundle as bundles
from certify.bundle import MAX_BUNDLE_SIZE, README, Bundle
from certify.errors import BundleError
from certify.verifier import verify
from tests.cases import NOW, POST, usual_case

CASE = usual_case()
DATA = CASE.data()
TRUST = CASE.trust()
MEMBERS = bundles._unzip(DATA)


def refuse(data: bytes, match: str | None = None) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        verify(data, TRUST, now=NOW)
    assert (caught.value.step, caught.value.exit_code) == (1, 11)
    assert caught.value.passed == ()


def zipped(members: Mapping[str, bytes] | list[tuple[str, bytes]], **how: Any) -> bytes:
    """Any zip at all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how.get("compression", zipfile.ZIP_STORED)) as archive:
        archive.comment = how.get("comment", b"")
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = zipfile.ZipInfo(name, how.get("date", (1980, 1, 1, 0, 0, 0)))
            info.create_system = 3
            info.compress_type = how.get("compression", zipfile.ZIP_STORED)
            info.external_attr = how.get("mode", 0o100644) << 16
            info.extra = how.get("extra", b"")
            info.comment = how.get("member_comment", b"")
            with warnings.catch_warnings(action="ignore"):
                archive.writestr(info, content)
    return buffer.getvalue()


def test_the_usual_zip_is_the_bundle() -> None:
    """So that every difference below is the one that is named."""
    assert zipped(MEMBERS) == DATA


@pytest.mark.parametrize(
    "how",
    [
        {"comment": b"hello"},
        {"date": (2026, 1, 1, 0, 0, 0)},
        {"compression": zipfile.ZIP_DEFLATED},
        {"mode": 0o120777},  # symbolic links
        {"mode": 0o104755},  # set-user-id
        {"extra": b"\xca\xfe\x02\x00hi"},
        {"member_comment": b"hello"},
    ],
    ids=lambda how: next(iter(how)),
)
def test_zip_with_anything_more_is_refused(how: dict[str, Any]) -> None:
    refuse(zipped(MEMBERS, **how))


def test_members_in_another_order_are_refused() -> None:
    refuse(zipped(list(reversed(MEMBERS.items()))), "only form")


def test_member_twice_is_refused() -> None:
    for name, content in MEMBERS.items():
        refuse(zipped([*MEMBERS.items(), (name, content)]), "twice")
        refuse(zipped(sorted([*MEMBERS.items(), (name, b"another")])), "twice")


@pytest.mark.parametrize("extra", [b"\0", b"#!/bin/sh\n", DATA])
def test_prefix_and_suffix_are_refused(extra: bytes) -> None:
    refuse(extra + DATA)
    refuse(DATA + extra)


def test_bytes_between_members_are_refused() -> None:
    second = DATA.index(b"PK\3\4", 4)
    refuse(DATA[:second] + b"hidden" + DATA[second:])
    directory = DATA.index(b"PK\1\2")
    refuse(DATA[:directory] + b"hidden" + DATA[directory:])


def test_truncated_bundle_is_refused() -> None:
    for size in [*range(200), *range(200, len(DATA), 997), len(DATA) - 22, len(DATA) - 1]:
        refuse(DATA[:size])


HOSTILE_NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "entries/../../x",
    "entries/000000000001.dsse.json/../x",
    "C:\\windows\\x",
    "entries\\000000000001.dsse.json",
    "entries/1.dsse.json",
    "entries/000000000001.DSSE.JSON",
    "entries/000000000001.dsse.json\n",
    "entries/00000000000１.dsse.json",
    "entries/-00000000001.dsse.json",
    "entries/",
    "README.txt/",
    "./README.txt",
    "readme.txt",
    "tensors/" + "A" * 64 + ".json",
    "tensors/" + "a" * 63 + ".json",
    "tensors/x.json",
    "datasets/" + "a" * 64 + ".json",
    "audits/000000000001.json",
    "",
    "\0README.txt",
    "x" * 60_000,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: repr(name[:40]))
def test_other_names_and_path_traversal_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(bundles._zip(sorted([*MEMBERS.items(), (name, b"owned")])))
    refuse(bundles._zip([(name, b"owned")]))
    assert list(tmp_path.iterdir()) == []


def test_deflate_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zipped({"README.txt": bytes(100 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 200_000
    tracemalloc.start()
    refuse(bomb, "compressed")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("size", [2**32 - 1, 2**31, len(DATA)])
def test_claimed_sizes_are_not_believed(size: int) -> None:
    """In the local header, in the central directory, and in both."""
    local, central = bytearray(DATA), bytearray(DATA)
    at = DATA.index(b"PK\1\2")
    struct.pack_into("<LL", local, 18, size, size)
    struct.pack_into("<LL", central, at + 20, size, size)
    both = bytearray(local)
    struct.pack_into("<LL", both, at + 20, size, size)
    tracemalloc.start()
    for data in (local, central, both):
        refuse(bytes(data))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_overlapping_members_are_refused() -> None:
    """A central directory that points several times at one member, as in 'a better zip bomb'."""
    name, content = "README.txt", README.encode()
    small = bundles._zip([(name, content)])
    at = small.index(b"PK\1\2")
    record = small[at : small.index(b"PK\5\6")]
    directory = record * 50
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 50, 50, len(directory), at, 0)
    refuse(small[:at] + directory + end)


def test_central_directory_of_another_story_is_refused() -> None:
    """Readers that believe the central directory and readers that walk along must see the same members."""
    data = bytearray(DATA)
    at = DATA.index(b"README.txt", DATA.index(b"PK\1\2"))
    data[at : at + 10] = b"readme.txt"
    refuse(bytes(data), "only form")


def test_huge_central_directory_costs_nothing() -> None:
    """300,000 names in 16 MB: zipfile would build an object of each before anybody could count them."""
    name = b"README.txt"
    record = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
    directory = (record + name) * 300_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
    start = time.process_time()
    refuse(directory + end)
    refuse(DATA[: DATA.index(b"PK\1\2")] + directory + end)
    assert time.process_time() - start < 0.5


def test_too_many_members_are_refused() -> None:
    members = {f"entries/{i:012d}.tlog-proof": b"" for i in range(4097)}
    refuse(bundles._zip(sorted(members.items())), "more than 4,096 members")


def test_oversized_bundle_is_refused_before_it_is_read() -> None:
    class Claims(bytes):
        def __len__(self) -> int:
            return MAX_BUNDLE_SIZE + 1

    refuse(Claims(DATA), "at most 268,435,456")


def test_oversized_envelope_is_refused() -> None:
    name = "entries/000000000001.dsse.json"
    refuse(
        bundles._zip(sorted((MEMBERS | {name: bytes(70_000)}).items())), "claims 70,000 bytes, expected at most 65,535"
    )


def test_zip64_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in MEMBERS.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                file.write(content)
    refuse(buffer.getvalue())


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\3\4", b"PK\5\6" + bytes(18), bytes(range(256)), b"\x1f\x8b" + bytes(50)]
)
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    refuse(data)


def rebuilt(**changes: bytes | None) -> bytes:
    members = MEMBERS | {name.replace("__", "/"): content for name, content in changes.items() if content is not None}
    return bundles._zip(sorted(item for item in members.items() if changes.get(item[0], b"") is not None))


def test_changed_readme_is_refused() -> None:
    """It is what a judge reads first: 'to check it, visit evil.example'."""
    lie = README.replace("install the unlearning-ledger package", "visit evil.example").encode()
    refuse(rebuilt(**{"README.txt": lie}), "README")
    refuse(rebuilt(**{"README.txt": None}), "README")


def test_statement_without_proof_and_proof_without_statement_are_refused() -> None:
    refuse(rebuilt(**{"entries/000000000001.tlog-proof": None}), "has only dsse.json")
    refuse(rebuilt(**{"entries/000000000001.dsse.json": None}), "has only tlog-proof")


POSITIONS = f"removed/{'0' * 64}.json"
MANIFEST = f"tensors/{POST.root().hex()}.json"
GOOD = MEMBERS[MANIFEST]
HOSTILE_JSON = {
    "not JSON": b"[1,",
    "NaN": b"[NaN]",
    "float": b"[1.0]",
    "exponent": b"[1e3]",
    "huge integer": b"[" + b"9" * 10_000 + b"]",
    "past 2**53": b"[9007199254740993]",
    "flag": b"[true]",
    "text": b'["1"]',
    "null": b"null",
    "object": b"{}",
    "spaces": b"[1, 4]",
    "byte order mark": b"\xef\xbb\xbf[1]",
    "not UTF-8": b'["\xff"]',
    "deep nesting": b"[" * 200_000,
    "deep nesting, closed": b"[" * 100_000 + b"]" * 100_000,
    "leading zero": b"[01]",
    "minus zero": b"[-0]",
}


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON.keys())
def test_hostile_json_in_positions_is_refused(content: bytes) -> None:
    refuse(rebuilt(**{POSITIONS: content}))


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON.keys())
def test_hostile_json_as_a_manifest_is_refused(content: bytes) -> None:
    refuse(rebuilt(**{MANIFEST: content}))


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON.keys())
def test_hostile_json_as_an_envelope_is_refused(content: bytes) -> None:
    refuse(rebuilt(**{"entries/000000000002.dsse.json": content}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":["2"]', b'"shape":["02"]'),
        (b'"shape":["2"]', b'"shape":["-2"]'),
        (b'"shape":["2"]', b'"shape":[2]'),
        (b'"shape":["2"]', b'"shape":["' + b"9" * 30 + b'"]'),
        (b'"shape":["2"]', b'"shape":["4294967296","4294967296","4294967296"]'),
        (b'"nbytes":"8"', b'"nbytes":"7"'),
        (b'"name":"head"', b'"name":"body"'),
        (b'"name":"head"', rb'"name":"\ud800"'),
        (b'"name":"head"', b'"name":"head","name":"head"'),
        (b'"dtype":"F32"', b'"dtype":"F31"'),
        (b'{"format"', b'{"a":1,"format"'),
        (b'{"format"', b'{"format":"x","format"'),
    ],
)
def test_hostile_manifest_is_refused(old: bytes, new: bytes) -> None:
    assert old in GOOD
    refuse(rebuilt(**{MANIFEST: GOOD.replace(old, new, 1)}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"c2sp.org/tlog-proof@v1", b"c2sp.org/tlog-proof@v2"),
        (b"index 1\n", b"index 01\n"),
        (b"index 1\n", b"index -1\n"),
        (b"index 1\n", b"index 99999999999999999999999\n"),
        (b"index 1\n", b"index 1\nindex 1\n"),
        (b"index 1\n", b"index 1\r\n"),
        (b"\n\n", b"\n"),
        (b"=\n", b"\n"),
        (b"example.com/ledger\n4\n", b"example.com/ledger\n04\n"),
        (b"example.com/ledger\n4\n", b"example.com/ledger\n4\nextension\n"),
    ],
)
def test_hostile_proof_is_refused(old: bytes, new: bytes) -> None:
    name = "entries/000000000001.tlog-proof"
    assert old in MEMBERS[name]
    refuse(rebuilt(**{name: MEMBERS[name].replace(old, new, 1)}))


def test_bundle_never_yields_other_bytes() -> None:
    """Whatever parses writes itself again: there is no room to hide anything in."""
    assert Bundle.parse(DATA).to_bytes() == DATA
    assert json.loads(MEMBERS[f"removed/{next(iter(CASE.removed))}.json"]) == [1, 4]
