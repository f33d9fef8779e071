"""Salt in every KZG column, whatever the shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.commitment import SALT_BITS, check_salted, column_count, salts_needed
from circuits.errors import CommitmentError
from circuits.layout import Layout

LOGROWS = 11


@given(rows=st.integers(1, 700), columns=st.integers(1, 80), proofs=st.integers(0, 40))
def test_every_kzg_column_is_salted(rows: int, columns: int, proofs: int) -> None:
    layout = Layout(rows, columns, LOGROWS, proofs)
    height, width = layout.shape
    places = [p for p in range(height * width) if p % width >= columns or p >= rows * width]
    check_salted(height * width, places, logrows=LOGROWS, expected=salts_needed(proofs))
    assert layout.points == column_count(height * width, LOGROWS)


def test_values_stay_where_places_says() -> None:
    matrix = [[3 + i, -1, 4] for i in range(900)]
    layout = Layout(900, 3, LOGROWS)
    values = layout.salted(matrix)
    assert [[values[p] for p in layout.places(i)] for i in range(900)] == matrix == layout.matrix(values)
    assert len(values) == layout.count and layout.salt_columns == 1
    with pytest.raises(CommitmentError, match="row from 0 to 899"):
        layout.places(900)


def test_what_fits_one_column_has_no_salt_columns() -> None:
    assert Layout(30, 30, LOGROWS).shape == (32, 30)


def test_salt_is_fresh_and_short_enough() -> None:
    one, other = (Layout(1, 1, LOGROWS).salted([[7]])[1:] for _ in range(2))
    assert not set(one) & set(other)
    assert all(0 <= salt < 1 << SALT_BITS for salt in one + other)


def test_more_proofs_take_more_salt() -> None:
    assert Layout(1, 1, LOGROWS, 16).count > Layout(1, 1, LOGROWS, 2).count
    with pytest.raises(CommitmentError, match="leave too few"):
        Layout(1, 1, 5, 16)


def test_ragged_and_empty_matrices_are_refused() -> None:
    with pytest.raises(CommitmentError, match="2 rows of 2 values"):
        Layout(2, 2, LOGROWS).salted([[1, 2], [3]])
    with pytest.raises(CommitmentError, match="one row"):
        Layout(0, 1, LOGROWS)
