"""Shard maps: openings against RFC 6962's inclusion proofs, and what they leave unsaid."""

import hmac
import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify import dataset
from certify.errors import DatasetError
from certify.fields import Tree
from certify.shard_map import Opened, ShardMap, leaf_of
from ledger.merkle import inclusion_path, verify_inclusion

COUNT = 13
PLACES = [(i % 3, i % 2) for i in range(COUNT)]
MAP = ShardMap.of(PLACES)
LEAVES = dataset.split(dataset.commit([b"%d" % i for i in range(COUNT)]).leaves)


def trees(positions: list[int], leaves: list[bytes] = LEAVES) -> dict[str, object]:
    joined = b"".join(leaves)
    return {
        "dataset": Tree(dataset.retained(joined, ())[0].hex(), len(leaves)),
        "removed": Tree(dataset.subset_root(joined, positions).hex(), len(positions)),
    }


def opened(positions: list[int]) -> Opened:
    found = MAP.open(positions, LEAVES)
    assert Opened.parse(found.to_json()) == found
    return found


@given(st.integers(1, 40), st.data())
def test_any_records_of_any_dataset_can_be_opened(count: int, data: st.DataObject) -> None:
    places = [(i * 7 % 4, i % 3) for i in range(count)]
    found, leaves = ShardMap.of(places), [bytes([i]) * 32 for i in range(count)]
    positions = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))
    shown = Opened.parse(found.open(positions, leaves).to_json())
    shown.check(map_root=found.root().hex(), **trees(positions, leaves))  # type: ignore[arg-type]
    assert shown.places == tuple(places[p] for p in positions)
    assert shown.first_slices() == {
        k: min(i for p, (j, i) in enumerate(places) if j == k and p in positions)
        for k in {places[p][0] for p in positions}
    }


def test_entries_are_as_described() -> None:
    salt = hmac.new(MAP.secret, (5).to_bytes(8, "big"), sha256).digest()
    entry = sha256(b"unlearning-ledger/shard/v1\0" + salt + bytes([0, 0, 0, 2, 0, 0, 0, 1])).digest()
    assert PLACES[5] == (2, 1) and leaf_of(MAP.salt(5), (2, 1)) == sha256(b"\0" + entry).digest() == MAP.leaves()[5]


def test_one_record_is_opened_by_its_inclusion_proofs() -> None:
    """The same hashes as RFC 6962's, from left to right instead of from leaf to root."""
    found = opened([6])
    for leaves, path, root in (
        (MAP.leaves(), found.map_path, MAP.root()),
        (LEAVES, found.dataset_path, bytes.fromhex(trees([6])["dataset"].root)),  # type: ignore[attr-defined]
    ):
        proof = inclusion_path(leaves, 6)
        assert sorted(proof) == sorted(path)
        verify_inclusion(root=root, size=COUNT, index=6, leaf=leaves[6], path=proof)


def test_nothing_is_said_of_others() -> None:
    text = opened([2, 9]).to_json()
    assert json.loads(text)["places"] == [list(PLACES[2]), list(PLACES[9])]
    assert MAP.secret.hex().encode() not in text
    assert not any(MAP.salt(p).hex().encode() in text for p in range(COUNT) if p not in (2, 9))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"places": [[0, 0], [1, 1]]}, "not those that were committed to"),
        ({"salts": ["00" * 32] * 2}, "not those that were committed to"),
        ({"records": ["00" * 32] * 2}, "not those of the 2 removed records"),
        ({"positions": [2, 8]}, "not of the training's dataset"),
        ({"positions": [9, 2]}, "positions that do not rise"),
        ({"positions": [2, 13]}, "positions that do not rise, or lie beyond 13"),
        ({"positions": [2]}, "not as many places, salts and records"),
        ({"size": 14}, "are of 14 records, the dataset has 13"),
        ({"mapPath": []}, "lack hashes on the way"),
        ({"datasetPath": []}, "lack hashes on the way"),
        ({"places": [[0, 0], [-1, 1]]}, "out of range"),
        ({"more": 1}, "not the expected JSON"),
    ],
)
def test_false_openings_are_refused(change: dict[str, object], why: str) -> None:
    value = json.loads(opened([2, 9]).to_json()) | change
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(DatasetError, match=why):
        Opened.parse(data).check(map_root=MAP.root().hex(), **trees([2, 9]))  # type: ignore[arg-type]


def test_surplus_hashes_are_refused() -> None:
    value = json.loads(opened([2]).to_json())
    value["mapPath"].append("00" * 32)
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(DatasetError, match="1 hashes more than lead to the root"):
        Opened.parse(data).check(map_root=MAP.root().hex(), **trees([2]))  # type: ignore[arg-type]


def test_impossible_maps_and_openings_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"from 0 to 2\*\*32"):
        ShardMap.of([(-1, 0)])
    for positions in ([], [COUNT]):
        with pytest.raises(DatasetError, match="expected positions below 13"):
            MAP.open(positions, LEAVES)
    with pytest.raises(DatasetError, match="has 13 records, the dataset 12"):
        MAP.open([1], LEAVES[:-1])
