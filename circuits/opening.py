"""Openings of commitments: which values stand in some rows of a column, and nothing about the others.

A commitment C is to the polynomial f that takes value v_j at w**j, w the 2**logrows-th root of unity. One row is shown as in
Kate, Zaverucha, Goldberg (2010): pi commits to (f(X) - v) / (X - w**row), and one pairing equation holds it to C ::

    e(C - v g + w**row pi, g2) = e(pi, tau g2)

Many rows S of one column take two points and the same equation once, as in Boneh, Drake, Fisch, Gabizon (eprint 2020/081, the
second scheme), which is how halo2 opens its own polynomials. R is the polynomial of least degree through their values, Z the
product of all X - w**s::

    Q = (f - R) / Z,      z = hash(everything above),      pi commits to (f - R(z) - Z(z) Q) / (X - z)
    e(C - R(z) g - Z(z) Q + z pi, g2) = e(pi, tau g2)

The verifier needs the column's commitment, the logrows it was made for and the 516 bytes of :func:`circuits.srs.reduced`::

    opening = open_rows(column, [30, 31], srs)
    verify_rows(point, opening, {30: 5, 31: -2}, trust_root, logrows=11)
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha512

from circuits import bn254, domain
from circuits.bn254 import COMPRESSED_SIZE, GENERATOR, Point, R
from circuits.commitment import UNUSABLE_ROWS, column_count, integer, read_point, split, usable_rows
from circuits.errors import CommitmentError
from circuits.srs import Srs, parse, require_ceremony

_PREFIX = b"unlearning-ledger/kzg-opening/v1\x00"
_KNOWN_PREFIX = b"unlearning-ledger/kzg-known-column/v1\x00"


@dataclass(frozen=True, slots=True)
class Opening:
    """Compressed points: ``proof`` is pi, ``quotient`` commits to Q and is empty where a single row is opened."""

    proof: bytes
    quotient: bytes = b""

    def to_bytes(self) -> bytes:
        """32 bytes for one row, 64 for several: pi, then Q."""
        return self.proof + self.quotient

    @classmethod
    def parse(cls, data: bytes) -> "Opening":
        """Read :meth:`to_bytes`' bytes, and nothing else. Raises CommitmentError."""
        if len(data) not in (COMPRESSED_SIZE, 2 * COMPRESSED_SIZE):
            raise CommitmentError(f"an opening has {len(data)} bytes, expected {COMPRESSED_SIZE} or twice as many")
        for at in range(0, len(data), COMPRESSED_SIZE):
            bn254.decompress(data[at : at + COMPRESSED_SIZE])
        return cls(data[:COMPRESSED_SIZE], data[COMPRESSED_SIZE:])


def open_at(column: Sequence[int], row: int, srs: Srs) -> Opening:
    """Show the value in one row of a column. Raises CommitmentError when there is no such row."""
    return Opening(_commit(domain.divide(_evaluations(column, [row], srs), row), srs))


def open_rows(column: Sequence[int], rows: Sequence[int], srs: Srs) -> Opening:
    """Show the values in some rows of one column: 64 bytes however many. Raises CommitmentError."""
    rows = _check_rows(rows, srs.logrows)
    evaluations = _evaluations(column, rows, srs)
    opened = {row: column[row] for row in rows}
    # Q = sum of (f - v_s) / (X - w**s) / Z'(w**s): partial fractions, so that rows in S need no special care.
    quotient = [0] * srs.rows
    for row, weight in zip(rows, domain.weights(rows, srs.logrows), strict=True):
        for place, value in enumerate(domain.divide(evaluations, row)):
            quotient[place] += weight * value
    quotient = [value % R for value in quotient]
    committed = _commit(quotient, srs)
    point = _commit(evaluations, srs)
    challenge = _challenge(point, committed, opened, srs)
    remainder, vanishing = domain.interpolate(opened, challenge, srs.logrows)
    inverses = domain.invert([root - challenge for root in domain.roots(srs.logrows)])
    proof = [
        (value - remainder - vanishing * part) * inverse % R
        for value, part, inverse in zip(evaluations, quotient, inverses, strict=True)
    ]
    return Opening(_commit(proof, srs), committed)


def verify_opening(
    commitment: bytes,
    opening: Opening,
    value: int,
    row: int,
    srs: Srs | bytes,
    *,
    logrows: int,
    allow_development: bool = False,
) -> int:
    """``value``, once the opening shows that it stands in ``row`` of the column committed to. Raises otherwise.

    ``logrows`` must come from where the commitment was logged, and ``srs`` from the verifier: any file of the ceremony, or
    its 516 bytes. CommitmentError when the opening does not hold, SrsError unless the reference string is the ceremony's.
    """
    srs = _trusted(srs, allow_development=allow_development)
    [row] = _check_rows([row], logrows)
    value = integer(value)
    if opening.quotient:
        raise CommitmentError("expected the opening of one row, one of several rows came")
    pi = bn254.decompress(opening.proof)
    root = pow(bn254.root_of_unity(logrows), row, R)
    left = bn254.multi_scalar([read_point(commitment), GENERATOR, pi], [1, -value, root])
    _check_pairing(left, pi, srs, f"row {row} of the committed column does not hold {value}, as the opening says")
    return value


def verify_rows(
    commitment: bytes,
    opening: Opening,
    opened: Mapping[int, int],
    srs: Srs | bytes,
    *,
    logrows: int,
    allow_development: bool = False,
) -> Mapping[int, int]:
    """``opened``, values by row, once the opening shows that they stand there. Raises as :func:`verify_opening` does."""
    srs = _trusted(srs, allow_development=allow_development)
    rows = _check_rows(list(opened), logrows)
    opened = {row: integer(opened[row]) for row in rows}
    if not opening.quotient:
        raise CommitmentError("expected the opening of several rows, one of a single row came")
    pi, quotient = bn254.decompress(opening.proof), bn254.decompress(opening.quotient)
    point = read_point(commitment)
    challenge = _challenge(commitment, opening.quotient, opened, srs, logrows)
    remainder, vanishing = domain.interpolate(opened, challenge, logrows)
    left = bn254.multi_scalar([point, GENERATOR, quotient, pi], [1, -remainder, -vanishing, challenge])
    _check_pairing(left, pi, srs, f"{len(rows)} rows of the committed column do not hold what the opening says")
    return opened


def open_known(column: Sequence[int], srs: Srs) -> Opening:
    """Show a whole column to those who know it already: 32 bytes. Raises CommitmentError."""
    values = _evaluations(column, [0], srs)
    point = _commit(values, srs)
    challenge = _known_challenge(point, values, srs)
    value = domain.evaluate(values, challenge)
    inverses = domain.invert([root - challenge for root in domain.roots(srs.logrows)])
    return Opening(_commit([(own - value) * inverse % R for own, inverse in zip(values, inverses, strict=True)], srs))


def verify_known(
    commitment: bytes,
    opening: Opening,
    column: Sequence[int],
    srs: Srs | bytes,
    *,
    logrows: int,
    allow_development: bool = False,
) -> Sequence[int]:
    """``column``, once the opening shows that exactly this was committed to: f is compared at a point hashed from all of it.

    For weights that everybody can compute. Raises as :func:`verify_opening` does.
    """
    srs = _trusted(srs, allow_development=allow_development)
    if opening.quotient:
        raise CommitmentError("expected the opening of a known column, one of several rows came")
    values = _filled(column, logrows)
    point, pi = read_point(commitment), bn254.decompress(opening.proof)
    challenge = _known_challenge(commitment, values, srs)
    value = domain.evaluate(values, challenge)
    left = bn254.multi_scalar([point, GENERATOR, pi], [1, -value, challenge])
    _check_pairing(left, pi, srs, "the commitment is to another column than the known one")
    return column


def open_places(values: Sequence[int], places: Sequence[int], srs: Srs) -> dict[int, Opening]:
    """Show some of a flattened tensor's values: an opening for each column that they stand in. Raises CommitmentError."""
    columns = split(values, srs.logrows)
    by_column = _by_column(dict.fromkeys(places, 0), len(values), srs.logrows)
    return {column: open_rows(columns[column], list(rows), srs) for column, rows in by_column.items()}


def verify_places(
    commitments: Sequence[bytes],
    openings: Mapping[int, Opening],
    opened: Mapping[int, int],
    srs: Srs | bytes,
    *,
    count: int,
    logrows: int,
    allow_development: bool = False,
) -> Mapping[int, int]:
    """``opened``, values by place in the flattened tensor of ``count`` values. Raises as :func:`verify_opening` does."""
    expected = column_count(count, logrows)
    if len(commitments) != expected:
        raise CommitmentError(f"expected {expected} commitments to {count} values, {len(commitments)} came")
    by_column = _by_column(opened, count, logrows)
    if set(openings) != set(by_column):
        raise CommitmentError(f"expected openings of columns {sorted(by_column)}, {sorted(openings)} came")
    for column, rows in by_column.items():
        commitment, opening = commitments[column], openings[column]
        verify_rows(commitment, opening, rows, srs, logrows=logrows, allow_development=allow_development)
    return opened


def _by_column(places: Mapping[int, int], count: int, logrows: int) -> dict[int, dict[int, int]]:
    rows = usable_rows(logrows)
    columns: dict[int, dict[int, int]] = {}
    for place, value in sorted(places.items()):
        if not 0 <= place < count:
            raise CommitmentError(f"expected places from 0 to {count - 1}, {place} came")
        columns.setdefault(place // rows, {})[place % rows] = value
    return columns


def _trusted(srs: Srs | bytes, *, allow_development: bool) -> Srs:
    found = srs if isinstance(srs, Srs) else parse(srs)
    return found if allow_development else require_ceremony(found)


def _check_rows(rows: Sequence[int], logrows: int) -> list[int]:
    usable = usable_rows(logrows)
    for row in rows:
        if not 0 <= row < usable:
            raise CommitmentError(f"expected rows from 0 to {usable - 1} for logrows {logrows}, {row} came")
    if not rows or len(set(rows)) != len(rows):
        raise CommitmentError(f"expected different rows, at least one, {len(rows)} came")
    return sorted(rows)


def _evaluations(column: Sequence[int], rows: Sequence[int], srs: Srs) -> list[int]:
    """f over the domain: the column, zeros up to the unusable rows, ones."""
    values = _filled(column, srs.logrows)
    _check_rows(rows, srs.logrows)
    for row in rows:
        if row >= len(column):
            raise CommitmentError(f"expected rows from 0 to {len(column) - 1} of the column, {row} came")
    return values


def _filled(column: Sequence[int], logrows: int) -> list[int]:
    usable = usable_rows(logrows)
    if not 0 < len(column) <= usable:
        raise CommitmentError(f"expected a column of 1 to {usable} values, {len(column)} came")
    return [integer(value) % R for value in column] + [0] * (usable - len(column)) + [1] * UNUSABLE_ROWS


def _known_challenge(commitment: bytes, values: Sequence[int], srs: Srs) -> int:
    """A point outside the domain: SHA-512 of the commitment and of every value, modulo r."""
    parts = [_KNOWN_PREFIX, *(number.to_bytes(32, "little") for number in srs.tau_g2), commitment]
    parts += [value.to_bytes(32, "little") for value in values]
    challenge = int.from_bytes(sha512(b"".join(parts)).digest(), "little") % R
    if pow(challenge, len(values), R) == 1:
        raise CommitmentError("the challenge is a root of unity, expected another element: a chance of 2**-226")
    return challenge


def _challenge(
    commitment: bytes, quotient: bytes, opened: Mapping[int, int], srs: Srs, logrows: int | None = None
) -> int:
    """z, outside the domain: SHA-512 of all that was fixed before it, modulo r."""
    logrows = srs.logrows if logrows is None else logrows
    parts = [_PREFIX, *(number.to_bytes(32, "little") for number in srs.tau_g2), logrows.to_bytes(4, "little")]
    parts += [commitment, len(opened).to_bytes(4, "little")]
    for row in sorted(opened):
        parts += [row.to_bytes(4, "little"), (opened[row] % R).to_bytes(32, "little")]
    challenge = int.from_bytes(sha512(b"".join([*parts, quotient])).digest(), "little") % R
    if pow(challenge, 1 << logrows, R) == 1:
        raise CommitmentError("the challenge is a root of unity, expected another element: a chance of 2**-226")
    return challenge


def _commit(evaluations: Sequence[int], srs: Srs) -> bytes:
    points: list[Point] = [srs.lagrange(row) for row in range(srs.rows)]
    return bn254.compress(bn254.multi_scalar(points, evaluations))


def _check_pairing(left: Point, right: Point, srs: Srs, message: str) -> None:
    """Raise CommitmentError unless e(left, g2) = e(right, tau g2)."""
    depth = sys.getrecursionlimit()
    from py_ecc.fields import optimized_bn128_FQ as FQ  # 0.1 s to import, and a prover never needs it
    from py_ecc.fields import optimized_bn128_FQ2 as FQ2
    from py_ecc.fields import optimized_bn128_FQ12 as FQ12
    from py_ecc.optimized_bn128.optimized_pairing import final_exponentiate, pairing

    sys.setrecursionlimit(depth)  # py_ecc raises it to where hostile nesting would overflow the stack

    def lift(point: Point) -> tuple[FQ, FQ, FQ]:
        return (FQ.one(), FQ.one(), FQ.zero()) if point is None else (FQ(point[0]), FQ(point[1]), FQ.one())

    product = FQ12.one()
    for point, (x0, x1, y0, y1) in [(left, srs.g2), (bn254.negate(right), srs.tau_g2)]:
        product *= pairing((FQ2([x0, x1]), FQ2([y0, y1]), FQ2.one()), lift(point), final_exponentiate=False)
    if final_exponentiate(product) != FQ12.one():
        raise CommitmentError(message)
