"""Salted KZG commitments to tensors of integers, the same points as EZKL's ``polycommit`` visibility, without EZKL.

A tensor is flattened, row-major, and dealt out to columns of n = 2**logrows - 6 rows: value j is in column j // n, row j % n. A
negative v is r - v. The column's last six rows, which the circuit cannot use, hold 1. A column is committed to as ::

    C = sum over rows j < n of v_j L_j  +  sum over the last six rows of L_j

with L the reference string's Lagrange points, compressed to 32 bytes as in :mod:`circuits.bn254`. There are len // n + 1
columns. An exact fit would add one of zeros: two such are equal points, at which EZKL panics, and so is refused here. ::

    salt = salts(salts_needed(proofs=2))
    [point] = commit([3, -1, 4, *salt], srs)

A commitment without salt hides nothing: whoever guesses the values can compute it. Each proof about a committed column
discloses, besides, one evaluation of it, a linear equation over all of its values, so that a few short salts fall to
lattice reduction. And **salt hides only the column it is in**: :func:`check_salted` counts them. An opening
(:mod:`circuits.opening`) follows from the commitment and the values that it shows, and takes nothing off the hiding.
"""

import operator
import secrets
from collections.abc import Iterable, Sequence

from circuits import bn254
from circuits.errors import CommitmentError, SrsError
from circuits.srs import Srs

UNUSABLE_ROWS = 6
"""Rows that halo2 keeps for itself in these circuits. A verification key with another number is not for these commitments."""
LARGEST = (bn254.R - 1) // 2
"""Values are from -LARGEST to LARGEST, so that no two of them stand for the same field element."""
SALT_BITS = 30
"""Short enough for the range check of every circuit input (1024**4 and 4096**3 are above 2**30)."""
MAX_SALT_BITS = 252

_SECURITY_BITS = 128
_FIELD_BITS = 254


def usable_rows(logrows: int) -> int:
    """Values in a column: 2,042 for logrows 11."""
    rows = (1 << logrows) - UNUSABLE_ROWS if 0 <= logrows <= bn254.TWO_ADICITY else 0
    if rows < 1:
        raise CommitmentError(f"expected logrows from 3 to {bn254.TWO_ADICITY}, {logrows} came")
    return rows


def column_count(count: int, logrows: int) -> int:
    """Points that commit to ``count`` values. Raises CommitmentError for none, and for an exact fit."""
    rows = usable_rows(logrows)
    if count < 1:
        raise CommitmentError(f"expected at least one value, {count} came")
    if count % rows == 0:
        raise CommitmentError(
            f"{count} values exactly fill {count // rows} column(s) of {rows} rows, expected one more or one fewer (add a "
            "salt): a column of zeros would follow, whose commitment everybody knows and EZKL panics at"
        )
    return count // rows + 1


def commit(values: Sequence[int], srs: Srs) -> list[bytes]:
    """The compressed point of each column of a flattened tensor.

    Raises CommitmentError for a value beyond ±LARGEST, a shape that cannot be committed to, or two columns alike.
    """
    count = column_count(len(values), srs.logrows)
    points = [_commit_column(column, srs) for column in split(values, srs.logrows)]
    if len(set(points)) != count:
        raise CommitmentError(f"expected {count} different columns, two are alike: EZKL panics at equal commitments")
    return points


def split(values: Sequence[int], logrows: int) -> list[list[int]]:
    """The columns of a flattened tensor, without the rows of ones. Raises CommitmentError."""
    rows = usable_rows(logrows)
    numbers = [integer(value) for value in values]
    return [numbers[first : first + rows] for first in range(0, column_count(len(numbers), logrows) * rows, rows)]


def add(left: bytes, right: bytes, srs: Srs) -> bytes:
    """The commitment to the sums of two columns' values, from their commitments alone. Raises CommitmentError."""
    ones = bn254.total(srs.lagrange(row) for row in range(usable_rows(srs.logrows), srs.rows))
    return bn254.compress(bn254.total([read_point(left), read_point(right), bn254.negate(ones)]))


def read_point(data: bytes) -> tuple[int, int]:
    """A commitment's point. Raises CommitmentError for bytes that are not canonical, off the curve or infinite."""
    point = bn254.decompress(data)
    if point is None:
        raise CommitmentError("a commitment is the point at infinity, expected another point")
    return point


def integer(value: object) -> int:
    """``value`` as a Python integer. Raises CommitmentError when it is none, or beyond ±LARGEST."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise CommitmentError(f"expected integers, {value!r} came: quantise first") from None
    if abs(number) > LARGEST:
        raise CommitmentError(f"expected values from -(r - 1) / 2 to (r - 1) / 2, {number} came")
    return number


def salts(count: int, *, bits: int = SALT_BITS) -> list[int]:
    """Fresh random values from 0 to 2**bits - 1. Never use them for another tensor. Raises CommitmentError."""
    if not 1 <= bits <= MAX_SALT_BITS:
        raise CommitmentError(f"expected salts of 1 to {MAX_SALT_BITS} bits, {bits} came")
    return [secrets.randbits(bits) for _ in range(count)]


def salts_needed(proofs: int, *, bits: int = SALT_BITS) -> int:
    """Salts that a column needs to stay hidden after so many proofs about it: 17 of 30 bits for none, 26 for one.

    The commitment and the evaluation in each proof are linear functions of the salts, 254 bits each. By the leftover hash
    lemma they are within 2**-128 of uniform, whatever the values are, once the salts have 256 bits more than that.
    """
    if proofs < 0:
        raise CommitmentError(f"expected the number of proofs to come, {proofs} came")
    return -(-(_FIELD_BITS * (proofs + 1) + 2 * _SECURITY_BITS) // bits)


def check_salted(count: int, salted: Iterable[int], *, logrows: int, expected: int) -> None:
    """Raise CommitmentError unless each column has ``expected`` salts.

    ``salted`` are the places of the salts among the tensor's ``count`` flattened values. Salts at the end of a tensor of
    several columns hide the last of them only: deal them out, or commit to blocks that fit one column each.
    """
    rows = usable_rows(logrows)
    found = [0] * column_count(count, logrows)
    for place in set(salted):
        if not 0 <= place < count:
            raise CommitmentError(f"a salt at place {place}, expected one from 0 to {count - 1}")
        found[place // rows] += 1
    for column, number in enumerate(found):
        if number < expected:
            raise CommitmentError(f"column {column} of {len(found)} has {number} salts, expected {expected}")


def _commit_column(column: Sequence[int], srs: Srs) -> bytes:
    places = [*range(len(column)), *range(usable_rows(srs.logrows), srs.rows)]
    try:
        points = [srs.lagrange(place) for place in places]
    except SrsError as reason:
        raise CommitmentError(str(reason)) from reason
    return bn254.compress(bn254.multi_scalar(points, [*column, *[1] * UNUSABLE_ROWS]))
