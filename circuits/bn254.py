"""The group G1 of the pairing curve BN254 (EIP-196's alt_bn128): y^2 = x^3 + 3 over F_p, of prime order r, cofactor one.

Points are affine pairs of Python integers, ``None`` is the point at infinity. Two encodings, those of halo2curves 0.7:

* *raw*, 64 bytes: x then y, each little-endian in Montgomery form (times 2**256 mod p); infinity is 64 zero bytes;
* *compressed*, 32 bytes: x little-endian, bit 255 says that y is odd, bit 254 that the point is infinity.

Reading is strict: coordinates below p, a point on the curve, one encoding per point::

    >>> compress((1, 2)).hex()
    '0100000000000000000000000000000000000000000000000000000000000000'
    >>> decompress(compress(multiply((1, 2), 5))) == multi_scalar([(1, 2), (1, 2)], [2, 3])
    True

Nothing here runs in constant time: salts are multiplied where no one else can measure.
"""

from collections.abc import Iterable, Sequence

from circuits.errors import CommitmentError

P = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
"""The field of coordinates."""
R = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
"""The order of the group: the field of committed values."""

Point = tuple[int, int] | None
Jacobian = tuple[int, int, int]  # (x / z**2, y / z**3); z = 0 is infinity

GENERATOR = (1, 2)
TWO_ADICITY = 28
RAW_SIZE = 64
COMPRESSED_SIZE = 32

_FROM_MONTGOMERY = pow(2, -256, P)
_INFINITY: Jacobian = (1, 1, 0)
_ODD = 1 << 255
_INFINITE = 1 << 254


def on_curve(point: tuple[int, int]) -> bool:
    """Whether y^2 = x^3 + 3, both coordinates below p. As the cofactor is one, such a point is in the group."""
    x, y = point
    return 0 <= x < P and 0 <= y < P and (y * y - x * x * x - 3) % P == 0


def read_raw(data: bytes) -> Point:
    """A point from its 64 raw bytes. Raises CommitmentError."""
    if len(data) != RAW_SIZE:
        raise CommitmentError(f"a raw point has {len(data)} bytes, expected {RAW_SIZE}")
    if not any(data):
        return None
    x, y = read_coordinate(data[:32]), read_coordinate(data[32:])
    if not on_curve((x, y)):
        raise CommitmentError(f"expected a point on BN254, ({x:#x}, {y:#x}) came")
    return x, y


def read_coordinate(data: bytes) -> int:
    """A coordinate from its 32 bytes in Montgomery form. Raises CommitmentError when not below p."""
    number = int.from_bytes(data, "little")
    if number >= P:
        raise CommitmentError(f"expected a coordinate below p, {number:#x} came")
    return number * _FROM_MONTGOMERY % P


def write_raw(point: Point) -> bytes:
    """The 64 raw bytes of a point."""
    if point is None:
        return bytes(RAW_SIZE)
    return b"".join(((coordinate << 256) % P).to_bytes(32, "little") for coordinate in point)


def compress(point: Point) -> bytes:
    """The 32 compressed bytes of a point."""
    if point is None:
        return _INFINITE.to_bytes(32, "little")
    x, y = point
    return (x | (_ODD if y & 1 else 0)).to_bytes(32, "little")


def decompress(data: bytes) -> Point:
    """A point from its 32 compressed bytes. Raises CommitmentError."""
    if len(data) != COMPRESSED_SIZE:
        raise CommitmentError(f"a compressed point has {len(data)} bytes, expected {COMPRESSED_SIZE}")
    number = int.from_bytes(data, "little")
    if number & _INFINITE:
        if number != _INFINITE:
            raise CommitmentError(f"expected nothing beside the flag of infinity, {data.hex()} came")
        return None
    odd, x = number >> 255, number & (_INFINITE - 1)
    if x >= P:
        raise CommitmentError(f"expected a coordinate below p, {x:#x} came")
    square = (x * x * x + 3) % P
    y = pow(square, (P + 1) // 4, P)  # p = 3 mod 4
    if y * y % P != square:
        raise CommitmentError(f"expected a point on BN254, none has x = {x:#x}")
    return x, y if y & 1 == odd else P - y


def root_of_unity(logrows: int) -> int:
    """The generator of the 2**logrows-th roots of unity in F_r that halo2 uses: 7 ** ((r - 1) / 2**logrows)."""
    if not 0 <= logrows <= TWO_ADICITY:
        raise CommitmentError(f"expected logrows from 0 to {TWO_ADICITY}, {logrows} came")
    return pow(7, (R - 1) >> logrows, R)


def negate(point: Point) -> Point:
    return None if point is None else (point[0], -point[1] % P)


def add(left: Point, right: Point) -> Point:
    """left + right."""
    return total([left, right])


def total(points: Iterable[Point]) -> Point:
    """The sum of points."""
    sum_ = _INFINITY
    for point in points:
        if point is not None:
            sum_ = _add_affine(sum_, point)
    return _affine(sum_)


def multiply(point: Point, scalar: int) -> Point:
    """scalar * point, for any integer."""
    return multi_scalar([point], [scalar])


def multi_scalar(points: Sequence[Point], scalars: Sequence[int]) -> Point:
    """The sum of scalar * point, for any integers: Pippenger's buckets. Those near 0 or near r, of either sign, cost least."""
    if len(points) != len(scalars):
        raise CommitmentError(f"expected as many scalars as points, {len(scalars)} and {len(points)} came")
    terms: list[tuple[tuple[int, int], int]] = []
    bits = 0
    for point, scalar in zip(points, scalars, strict=True):
        scalar %= R
        if point is None or scalar == 0:
            continue
        if scalar > R >> 1:
            point, scalar = (point[0], P - point[1]), R - scalar
        terms.append((point, scalar))
        bits = max(bits, scalar.bit_length())
    if not terms:
        return None
    # A window costs an addition for each term that is not yet shifted away, and two for each bucket.
    lengths = [scalar.bit_length() for _, scalar in terms]
    window = min(range(2, 13), key=lambda w: sum(length // w + 1 for length in lengths) + (bits // w + 1) * (2 << w))
    sum_ = _INFINITY
    for shift in range((bits - 1) // window * window, -1, -window):
        for _ in range(window):
            sum_ = _double(sum_)
        sum_ = _add(sum_, _window_sum(terms, shift, (1 << window) - 1))
    return _affine(sum_)


def _window_sum(terms: list[tuple[tuple[int, int], int]], shift: int, mask: int) -> Jacobian:
    buckets: list[Jacobian | None] = [None] * (mask + 1)
    for point, scalar in terms:
        digit = scalar >> shift & mask
        if digit:
            bucket = buckets[digit]
            buckets[digit] = (point[0], point[1], 1) if bucket is None else _add_affine(bucket, point)
    running = sum_ = _INFINITY
    for bucket in reversed(buckets[1:]):
        if bucket is not None:
            running = _add(running, bucket)
        sum_ = _add(sum_, running)
    return sum_


def _double(point: Jacobian) -> Jacobian:
    """dbl-2009-l of the Explicit-Formulas Database, for a = 0."""
    x, y, z = point
    if z == 0:
        return point
    a, b = x * x % P, y * y % P
    c = b * b % P
    d = 2 * ((x + b) ** 2 - a - c) % P
    e = 3 * a
    x3 = (e * e - 2 * d) % P
    return x3, (e * (d - x3) - 8 * c) % P, 2 * y * z % P


def _add_affine(left: Jacobian, right: tuple[int, int]) -> Jacobian:
    """Mixed addition: ``right`` has z = 1."""
    x1, y1, z1 = left
    x2, y2 = right
    if z1 == 0:
        return x2, y2, 1
    zz = z1 * z1 % P
    h = (x2 * zz - x1) % P
    slope = (y2 * zz * z1 - y1) % P
    if h == 0:
        return _double(left) if slope == 0 else _INFINITY
    hh = h * h % P
    hhh = h * hh % P
    v = x1 * hh % P
    x3 = (slope * slope - hhh - 2 * v) % P
    return x3, (slope * (v - x3) - y1 * hhh) % P, z1 * h % P


def _add(left: Jacobian, right: Jacobian) -> Jacobian:
    x1, y1, z1 = left
    x2, y2, z2 = right
    if z1 == 0:
        return right
    if z2 == 0:
        return left
    zz1, zz2 = z1 * z1 % P, z2 * z2 % P
    u, s = x1 * zz2 % P, y1 * zz2 * z2 % P
    h, slope = (x2 * zz1 - u) % P, (y2 * zz1 * z1 - s) % P
    if h == 0:
        return _double(left) if slope == 0 else _INFINITY
    hh = h * h % P
    hhh = h * hh % P
    v = u * hh % P
    x3 = (slope * slope - hhh - 2 * v) % P
    return x3, (slope * (v - x3) - s * hhh) % P, z1 * z2 * h % P


def _affine(point: Jacobian) -> Point:
    x, y, z = point
    if z == 0:
        return None
    inverse = pow(z, -1, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P
