"""Salt in every KZG column, whatever the shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.commitment import SALT_BITS, check_salted, column_count, salts_needed
from circuits.errors import CommitmentError
from circuits.layout import PROOFS, committed_shape, points_of, record_places, salted

LOGROWS = 11


@given(rows=st.integers(1, 700), columns=st.integers(1, 50))
def test_every_kzg_column_is_salted(rows: int, columns: int) -> None:
    height, width = committed_shape(rows, columns, LOGROWS)
    places = [p for p in range(height * width) if p % width == columns or p >= rows * width]
    check_salted(height * width, places, logrows=LOGROWS, expected=salts_needed(PROOFS))
    assert points_of(rows, columns, LOGROWS) == column_count(height * width, LOGROWS)


def test_values_stay_where_record_places_says() -> None:
    matrix = [[3, -1, 4], [1, 5, -9]]
    values = salted(matrix, logrows=LOGROWS)
    assert [[values[p] for p in record_places(i, 3)][:-1] for i in range(2)] == matrix
    height, width = committed_shape(2, 3, LOGROWS)
    assert len(values) == height * width


def test_salt_is_fresh_and_short_enough() -> None:
    one, other = (salted([[7]], logrows=LOGROWS)[1:] for _ in range(2))
    assert not set(one) & set(other)
    assert all(0 <= salt < 1 << SALT_BITS for salt in one + other)


def test_a_matrix_too_wide_to_be_salted_is_refused() -> None:
    with pytest.raises(CommitmentError, match="leave too few"):
        committed_shape(1000, 500, LOGROWS)


def test_ragged_and_empty_matrices_are_refused() -> None:
    with pytest.raises(CommitmentError, match="rows of 2 values"):
        salted([[1, 2], [3]], logrows=LOGROWS)
    with pytest.raises(CommitmentError, match="one row"):
        salted([], logrows=LOGROWS)
