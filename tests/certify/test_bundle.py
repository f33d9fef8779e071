"""The bundle: one case, one file, one form."""

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify import bundle as bundles
from certify.bundle import README, Bundle
from certify.errors import BundleError, InputError, VerificationError
from certify.verifier import verify
from tests.cases import NOW, PRE, TREE, usual_case

CASE = usual_case()
BUNDLE = CASE.bundle()
DATA = BUNDLE.to_bytes()
TRUST = CASE.trust()


def test_same_case_gives_the_same_bytes() -> None:
    assert BUNDLE.to_bytes() == DATA
    shuffled = Bundle(BUNDLE.entries, dict(reversed(list(BUNDLE.manifests.items()))), BUNDLE.leaves, BUNDLE.removed)
    assert shuffled.to_bytes() == DATA


def test_what_is_read_is_what_was_written() -> None:
    parsed = Bundle.parse(DATA)
    assert parsed == BUNDLE
    assert parsed.to_bytes() == DATA


def test_bundle_is_a_plain_zip_that_other_tools_open() -> None:
    with zipfile.ZipFile(io.BytesIO(DATA)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == sorted(names)
        assert names[0] == "README.txt"
        assert f"datasets/{TREE.root}.leaves" in names
        assert f"tensors/{PRE.root().hex()}.json" in names
        assert "entries/000000000003.dsse.json" in names
        assert archive.read("README.txt").decode() == README
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert not info.comment
            assert not info.extra


def test_readme_says_how_to_check_it() -> None:
    assert "certify verify THIS_FILE --trust trust.toml" in README
    assert "Nothing in this file is to be\nbelieved before that" in README


def test_empty_bundle_parses_and_verifies_as_nothing() -> None:
    empty = Bundle((), {}, {}, {}).to_bytes()
    assert Bundle.parse(empty).entries == ()
    with pytest.raises(BundleError, match="no statement"):
        verify(empty, TRUST, now=NOW)


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "case.bundle"
    assert bundles.write(path, BUNDLE).read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o644

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("certify.inputs.os.fsync", crash)
        with pytest.raises(InputError, match="No space left"):
            bundles.write(path, Bundle((), {}, {}, {}))
    assert path.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="cannot write"):
        bundles.write(tmp_path / "nowhere" / "case.bundle", BUNDLE)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: DATA[:60] + tail))
def test_bytes_are_a_bundle_or_an_error(data: bytes) -> None:
    with pytest.raises(BundleError):
        Bundle.parse(data)


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(0, 7), st.sampled_from(["flip", "insert", "delete", "truncate"]))
def test_altered_bytes_are_refused(at: int, bit: int, how: str) -> None:
    at %= len(DATA)
    altered = {
        "flip": DATA[:at] + bytes([DATA[at] ^ 1 << bit]) + DATA[at + 1 :],
        "insert": DATA[:at] + bytes([1 << bit]) + DATA[at:],
        "delete": DATA[:at] + DATA[at + 1 :],
        "truncate": DATA[:at],
    }[how]
    if altered == DATA[: len(altered)] and len(altered) >= len(DATA):
        return
    with pytest.raises(BundleError):
        verify(altered, TRUST, now=NOW)


MEMBERS = bundles._unzip(DATA)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(MEMBERS)), st.integers(0, 10**6), st.binary(max_size=3), st.sampled_from([0, 0, 1, 2, 32])
)
def test_altered_members_in_a_well_formed_zip_are_refused(name: str, at: int, patch: bytes, skip: int) -> None:
    """The zip's own checksums prove nothing: here they are made right again."""
    content = MEMBERS[name]
    at %= len(content)
    altered = content[:at] + patch + content[at + skip :]
    if altered == content:
        return
    data = bundles._zip(sorted((MEMBERS | {name: altered}).items()))
    with pytest.raises(VerificationError):
        verify(data, TRUST, now=NOW)


@given(st.sampled_from(sorted(MEMBERS)), st.sampled_from(sorted(MEMBERS)))
def test_members_left_out_or_exchanged_are_refused(first: str, second: str) -> None:
    without = {name: content for name, content in MEMBERS.items() if name not in (first, second)}
    if any(name.startswith(("datasets/", "removed/")) for name in (first, second)):
        without = {name: content for name, content in without.items() if not name.startswith(("datasets/", "removed/"))}
    if len(without) < len([name for name in MEMBERS if not name.startswith(("datasets/", "removed/"))]):
        with pytest.raises(VerificationError):
            verify(bundles._zip(sorted(without.items())), TRUST, now=NOW)
    if MEMBERS[first] != MEMBERS[second]:
        exchanged = MEMBERS | {first: MEMBERS[second], second: MEMBERS[first]}
        with pytest.raises(VerificationError):
            verify(bundles._zip(sorted(exchanged.items())), TRUST, now=NOW)
