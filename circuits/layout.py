"""Where salt stands in a committed matrix: columns on its right and rows below it, which the circuit cuts off.

::

    x  x  x  s        Layout(2, 3, logrows=11, proofs=0).shape == (6, 3): everything fits one KZG column, and rows of salt do
    x  x  x  s        Layout(900, 3, logrows=11).shape == (902, 4): there are two, and each record has a salt of its own
    s  s  s  s

    layout = Layout(900, 3, logrows=11)
    values = layout.salted(matrix)                # 3,608 integers, row by row
    points = commit(values, srs)                  # circuits.commitment

Columns salt every one of the KZG columns that a long matrix is spread over, rows salt a short matrix and the last of them.
Each proof about a commitment discloses one evaluation of each of its KZG columns; there is salt for ``proofs`` of them. No torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from circuits.commitment import column_count, salts, salts_needed, usable_rows
from circuits.errors import CommitmentError

PROOFS = 2
"""Proofs about one commitment that its salt outlasts, where nothing else is said."""
MAX_PROOFS = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """A (rows, columns) matrix with its salt, for circuits of 2**logrows rows. Raises CommitmentError for what cannot be."""

    rows: int
    columns: int
    logrows: int
    proofs: int = PROOFS

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise CommitmentError(
                f"expected a matrix of one row and one column at least, got {self.rows}x{self.columns}"
            )
        if not 0 <= self.proofs <= MAX_PROOFS:
            raise CommitmentError(f"expected 0 to {MAX_PROOFS} proofs about a commitment, got {self.proofs}")
        _salt(self.rows, self.columns, self.logrows, self.proofs)

    @property
    def salt_columns(self) -> int:
        return _salt(self.rows, self.columns, self.logrows, self.proofs)[0]

    @property
    def salt_rows(self) -> int:
        return _salt(self.rows, self.columns, self.logrows, self.proofs)[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix with its salt."""
        return self.rows + self.salt_rows, self.columns + self.salt_columns

    @property
    def count(self) -> int:
        """Values with salt."""
        return self.shape[0] * self.shape[1]

    @property
    def points(self) -> int:
        """Points of a commitment."""
        return column_count(self.count, self.logrows)

    def salted(self, matrix: Sequence[Sequence[int]]) -> list[int]:
        """The integers of a matrix with fresh salt, row by row: what is committed to, and what a circuit takes."""
        if len(matrix) != self.rows or any(len(row) != self.columns for row in matrix):
            widths = sorted({len(row) for row in matrix})
            raise CommitmentError(f"expected {self.rows} rows of {self.columns} values, got {len(matrix)} of {widths}")
        wide = self.salt_columns
        fresh = salts(self.count - self.rows * self.columns) if self.count > self.rows * self.columns else []
        values: list[int] = []
        for index, row in enumerate(matrix):
            values += [*row, *fresh[index * wide : (index + 1) * wide]]
        return values + fresh[self.rows * wide :]

    def matrix(self, values: Sequence[int]) -> list[list[int]]:
        """The matrix in salted values."""
        if len(values) != self.count:
            raise CommitmentError(f"expected {self.count} values, got {len(values)}")
        width = self.shape[1]
        return [list(values[row * width : row * width + self.columns]) for row in range(self.rows)]

    def places(self, row: int) -> range:
        """Places of a row's values, without its salt, among the salted values: for openings."""
        if not 0 <= row < self.rows:
            raise CommitmentError(f"expected a row from 0 to {self.rows - 1}, got {row}")
        width = self.shape[1]
        return range(row * width, row * width + self.columns)


@lru_cache(maxsize=1024)
def _salt(rows: int, columns: int, logrows: int, proofs: int) -> tuple[int, int]:
    """Columns and rows of salt: as few columns, then as few rows, as it takes to salt each KZG column and avoid an exact fit."""
    needed, usable = salts_needed(proofs), usable_rows(logrows)
    for wide in range(usable):
        width = columns + wide
        if rows * width > usable and usable // width * wide + max(0, usable % width - columns) < needed:
            continue  # even a column in the middle has too few
        fewest = max(0, -(-(needed - rows * wide) // width))
        for below in range(fewest, fewest + usable // width + 2):
            count = (rows + below) * width
            if count % usable and _fewest(rows, columns, wide, count, usable) >= needed:
                return wide, below
    raise CommitmentError(
        f"expected {needed} salts in each column of logrows {logrows}, {columns} columns of data leave too few"
    )


def _fewest(rows: int, columns: int, wide: int, count: int, usable: int) -> int:
    """Salts in the KZG column that has the fewest."""
    width = columns + wide

    def before(place: int) -> int:
        if place >= rows * width:
            return rows * wide + place - rows * width
        return place // width * wide + max(0, place % width - columns)

    starts = range(0, count, usable)
    return min(before(min(start + usable, count)) - before(start) for start in starts)
