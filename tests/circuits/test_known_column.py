"""A whole column, shown to those who know it: 32 bytes, and nothing but this very column passes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import bn254, domain
from circuits.bn254 import R
from circuits.commitment import commit
from circuits.errors import CommitmentError, SrsError
from circuits.opening import Opening, open_at, open_known, open_rows, verify_known, verify_opening
from circuits.srs import Srs, parse
from tests.circuits.development import development_srs

SRS = parse(development_srs(4, 0xBAD))  # ten usable rows
OTHER = parse(development_srs(4, 0xACE))
COLUMN = [5, -2, 7, 5, 11, 0, 3]
[POINT] = commit(COLUMN, SRS)


def verify(
    column: list[int],
    opening: Opening | None = None,
    *,
    point: bytes = POINT,
    srs: Srs = SRS,
    logrows: int = 4,
    development: bool = True,
) -> None:
    opening = opening or open_known(column, SRS)
    verify_known(point, opening, column, srs, logrows=logrows, allow_development=development)


def test_the_column_that_was_committed_to() -> None:
    assert len(open_known(COLUMN, SRS).to_bytes()) == 32
    verify(COLUMN)
    verify([*COLUMN, 0, 0])  # zeros follow in any case
    first, _ = commit([*range(-5, 6)], SRS)
    verify([*range(-5, 5)], point=first)  # one that is full, of a tensor of two


@settings(max_examples=10)
@given(place=st.integers(0, 6), off=st.sampled_from([1, -1, R // 3]))
def test_no_other_column(place: int, off: int) -> None:
    other = list(COLUMN)
    other[place] += off
    for opening in (open_known(COLUMN, SRS), open_known(other, SRS)):
        with pytest.raises(CommitmentError, match="to another column than the known one"):
            verify(other, opening)


def test_shifted_shorter_and_longer_columns() -> None:
    for other in (COLUMN[1:], COLUMN[:-1], [0, *COLUMN], [*COLUMN, 1]):
        with pytest.raises(CommitmentError, match="to another column"):
            verify(other)
    with pytest.raises(CommitmentError, match="1 to 10 values, 11 came"):
        verify([1] * 11)
    with pytest.raises(CommitmentError, match="1 to 10 values, 0 came"):
        verify([], open_known(COLUMN, SRS))


def test_openings_of_another_kind() -> None:
    """Of one row; of several; of the same column's commitment under another reference string."""
    with pytest.raises(CommitmentError, match="to another column"):
        verify(COLUMN, open_at(COLUMN, 0, SRS))
    with pytest.raises(CommitmentError, match="one of several rows came"):
        verify(COLUMN, open_rows(COLUMN, [0, 1], SRS))
    with pytest.raises(CommitmentError, match="to another column"):
        verify(COLUMN, open_known(COLUMN, OTHER))
    with pytest.raises(CommitmentError):
        verify_opening(POINT, open_known(COLUMN, SRS), 5, 0, SRS, logrows=4, allow_development=True)


def test_a_development_string_is_refused_unless_allowed() -> None:
    with pytest.raises(SrsError):
        verify(COLUMN, development=False)


def test_another_commitment_with_a_suitable_opening() -> None:
    """The point of evaluation depends on the commitment: whoever fits one to an opening gets another point."""
    opening, target = open_known(COLUMN, SRS), [*COLUMN[:-1], 4]
    values = [value % R for value in target] + [0] * 3 + [1] * 6
    at = 12345  # were it known beforehand, or did it not depend on the commitment
    value = domain.evaluate(values, at)
    # C = pi·(tau − at) + value·g holds the equation at that point: any pi will do, without the column
    pi = bn254.decompress(opening.proof)
    forged = bn254.multi_scalar(
        [pi, bn254.GENERATOR], [(0xBAD - at) % R, value]
    )  # the secret stands in for tau's powers
    with pytest.raises(CommitmentError, match="to another column"):
        verify(target, opening, point=bn254.compress(forged))


def test_evaluate_is_interpolation_over_the_whole_domain() -> None:
    values = [3, 1, 4, 1, 5, 9, 2, 6]
    for point in (2, 12345, R - 7):
        expected, _ = domain.interpolate(dict(enumerate(values)), point, 3)
        assert domain.evaluate(values, point) == expected
    assert domain.evaluate([7] * 8, 12345) == 7
    line = [(3 * root + 2) % R for root in domain.roots(3)]
    assert domain.evaluate(line, 1000) == 3002
