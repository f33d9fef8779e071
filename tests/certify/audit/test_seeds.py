"""What is drawn follows from the seed and the label, everywhere the same."""

import pytest

from certify.audit.seeds import digest, generator, seed_of


def test_digest_is_fixed_for_ever() -> None:
    assert digest("7", "split").hex() == "42b8d3749cb18c5d5c12d8877d3a7b681a35cb8b83a9ad0c748677cb752c0126"


def test_labels_and_seeds_draw_differently() -> None:
    drawn = {tuple(generator(seed, label).integers(0, 1 << 30, 4)) for seed in "ab" for label in ("x", "y")}
    assert len(drawn) == 4
    assert 0 <= seed_of("a", "x") < 1 << 63


def test_a_seed_cannot_run_into_its_label() -> None:
    with pytest.raises(ValueError, match="NUL"):
        digest("a\0b", "c")
