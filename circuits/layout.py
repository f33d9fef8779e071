"""Where salt stands in a committed matrix: a column on its right and rows below it, which the circuit cuts off.

::

    x  x  x  s        committed_shape(2, 3, logrows=11) == (11, 4): 2 records of 3 features,
    x  x  x  s        each with a salt of its own, and 9 rows of salt
    s  s  s  s …

    values = salted([[3, -1, 4], [1, 5, -9]], logrows=11)      # 44 integers, row by row
    points = commit(values, srs)                               # circuits.commitment

The column salts every one of the KZG columns that a long matrix is spread over, the rows salt a short one and the last.
Record i stands at the places ``record_places(i, 3)``, for openings. No torch.
"""

from collections.abc import Sequence

from circuits.commitment import check_salted, column_count, salts, salts_needed, usable_rows
from circuits.errors import CommitmentError

PROOFS = 2
"""Proofs about one commitment that its salt outlasts."""


def salt_rows(rows: int, columns: int, logrows: int) -> int:
    """Rows of salt below a (rows, columns) matrix: as many as it takes to salt each KZG column, and to avoid an exact fit.

    Raises CommitmentError for a matrix with too few salts in a KZG column, as one of hundreds of features has.
    """
    if rows < 1 or columns < 1:
        raise CommitmentError(f"expected a matrix of one row and one column at least, got {rows}x{columns}")
    width = columns + 1
    needed = salts_needed(PROOFS)
    fewest = -(-needed // width)
    for below in range(fewest, fewest + usable_rows(logrows) // width + 2):
        places = [row * width + columns for row in range(rows)] + list(range(rows * width, (rows + below) * width))
        try:
            check_salted((rows + below) * width, places, logrows=logrows, expected=needed)
        except CommitmentError:
            continue  # the last KZG column holds too few of them, or is filled exactly
        return below
    raise CommitmentError(
        f"expected {needed} salts in each column of logrows {logrows}, {columns} features leave too few"
    )


def committed_shape(rows: int, columns: int, logrows: int) -> tuple[int, int]:
    """The shape of a (rows, columns) matrix with its salt."""
    return rows + salt_rows(rows, columns, logrows), columns + 1


def points_of(rows: int, columns: int, logrows: int) -> int:
    """Points of the commitment to a (rows, columns) matrix with its salt."""
    height, width = committed_shape(rows, columns, logrows)
    return column_count(height * width, logrows)


def salted(matrix: Sequence[Sequence[int]], *, logrows: int) -> list[int]:
    """A matrix of integers with fresh salt, flattened row by row: what is committed to, and what a circuit takes."""
    columns = len(matrix[0]) if matrix else 0
    if any(len(row) != columns for row in matrix):
        raise CommitmentError(f"expected rows of {columns} values, got other lengths")
    height, width = committed_shape(len(matrix), columns, logrows)
    own = salts(len(matrix))
    values = [value for row, salt in zip(matrix, own, strict=True) for value in (*row, salt)]
    return values + salts((height - len(matrix)) * width)


def record_places(index: int, columns: int) -> range:
    """Places of row ``index`` and its salt in the flattened matrix."""
    return range(index * (columns + 1), (index + 1) * (columns + 1))
