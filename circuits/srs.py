"""Structured reference strings of KZG over BN254, in halo2's raw format, and which of them nobody can forge with.

A file holds the powers of a secret tau in the exponent. Whoever knows tau can prove anything. tau of the perpetual
powers of tau was shared by its participants and is known to none of them unless all conspired: these files are *ceremony*,
recognised by SHA-256 and in no other way. Every other file is *unknown*: ``ezkl.gen_srs`` makes such ones in a second, for
development, and whoever ran it can forge. ::

    u32-LE logrows k || 2**k points tau**i g || 2**k points L_i(tau) g || g2 || tau g2

Points are uncompressed, 64 bytes in G1 and 128 in G2, coordinates little-endian in Montgomery form. g is (1, 2), and L_i the
Lagrange polynomials over the 2**k-th roots of unity. The file of logrows 1 has 516 bytes, and holds all that a verifier needs of
the whole ceremony: it is the verifier's root of trust, and :func:`reduced` cuts it from any larger one. ::

    srs = require_ceremony(load(find(11)))
    len(reduced(srs))                        # 516
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from circuits import bn254
from circuits.errors import CommitmentError, SrsError

# The table that EZKL checks its downloads against, as its source has it (zkonduit/ezkl, src/srs_sha.rs, keyed by logrows). The
# binary of ezkl 23.0.5 holds the same 26 hashes one after the other in this order. 1 and 11 were checked against the files.
CEREMONY: dict[int, str] = {
    1: "cafb2aa72c200ddc4e28aacabb8066e829207e2484b8d17059a566232f8a297b",
    2: "8194ec51da5d332d2e17283ade34920644774452c2fadf33742e8c739e275d8e",
    3: "0729e815bce2ac4dfad7819982c6479c3b22c32b71f64dca05e8fdd90e8535ef",
    4: "2c0785da20217fcafd3b12cc363a95eb2529037cc8a9bddf8fb15025cbc8cdc9",
    5: "5b950e3b76e7a9923d69f6d6585ce6b5f9458e5ec57a71c9de5005d32d544692",
    6: "85030b2924111fc60acaf4fb8a7bad89531fbe0271aeab0c21e545f71eee273d",
    7: "e65f95150519fe01c2bedf8f832f5249822ef84c9c017307419e10374ff9eeb1",
    8: "446092fd1d6030e5bb2f2a8368267d5ed0fbdb6a766f6c5e4a4841827ad3106f",
    9: "493d088951882ad81af11e08c791a38a37c0ffff14578cf2c7fb9b7bca654d8b",
    10: "9705d450e5dfd06adb673705f7bc34418ec86339203198beceb2ae7f1ffefedb",
    11: "257fa566ed9bc0767d3e63e92b5e966829fa3347d320a32055dc31ee7d33f8a4",
    12: "28b151069f41abc121baa6d2eaa8f9e4c4d8326ddbefee2bd9c0776b80ac6fad",
    13: "d5d94bb25bdc024f649213593027d861042ee807cafd94b49b54f1663f8f267d",
    14: "c09129f064c08ecb07ea3689a2247dcc177de6837e7d2f5f946e30453abbccef",
    15: "90807800a1c3b248a452e1732c45ee5099f38b737356f5542c0584ec9c3ebb45",
    16: "2a1a494630e71bc026dd5c0eab4c1b9a5dbc656228c1f0d48f5dbd3909b161d3",
    17: "41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
    18: "d0148475717a2ba269784a178cb0ab617bc77f16c58d4a3cbdfe785b591c7034",
    19: "d1a1655b4366a766d1578beb257849a92bf91cb1358c1a2c37ab180c5d3a204d",
    20: "54ef75911da76d7a6b7ea341998aaf66cb06c679c53e0a88a4fe070dd3add963",
    21: "486e044cf98704e07f41137d2b89698dc03d1fbf34d13b60902fea19a6013b4b",
    22: "1ee9b4396db3e4e2516ac5016626ab6ba967f091d5d23afbdb7df122a0bb9d0c",
    23: "748e48b9b6d06f9c82d26bf551d0af43ee2e801e4be56d7ccb20312e267fd1d6",
    24: "f94fa4afa2f5147680f907d4dd96a8826206c26bd3328cd379feaed614b234de",
    25: "dec49a69893fbcd66cd06296b2d936a6aceb431c130b2e52675fe4274b504f57",
    26: "b198a51d48b88181508d8e4ea9dea39db285e4585663b29b7e4ded0c22a94875",
}
"""SHA-256 of the ceremony's files, by logrows."""

MAX_LOGROWS = 26
REDUCED_SIZE = 516
FOLDERS_VARIABLE = "CERTIFY_SRS"

G2 = tuple[int, int, int, int]
"""x.c0, x.c1, y.c0, y.c1 of a point in G2, as x = c0 + c1 u."""

_G2_RAW = 128
_TWIST = (  # y^2 = x^3 + 3 / (9 + u)
    0x2B149D40CEB8AAAE81BE18991BE06AC3B5B4C5E559DBEFA33267E6DC24A138E5,
    0x009713B03AF0FED4CD2CAFADEED8FDF4A74FA084E52D1852E4A2BD0685C315D2,
)


@dataclass(frozen=True, slots=True)
class Srs:
    """A reference string whose size, first power and G2 points are sound. Other points are checked when they are read.

    ``digest`` is the file's SHA-256 in hexadecimal, ``g2`` the generator of G2, ``tau_g2`` the secret times it.
    """

    logrows: int
    digest: str
    g2: G2
    tau_g2: G2
    data: bytes | mmap.mmap = field(repr=False, compare=False)

    @property
    def kind(self) -> Literal["ceremony", "unknown"]:
        """Whether this is a pinned file of the ceremony. Nothing but its bytes decides."""
        return "ceremony" if CEREMONY.get(self.logrows) == self.digest else "unknown"

    @property
    def development(self) -> bool:
        """Whether somebody may know the secret: everything that is not of the ceremony."""
        return self.kind != "ceremony"

    @property
    def rows(self) -> int:
        return 1 << self.logrows

    def power(self, index: int) -> bn254.Point:
        """tau**index g. Raises SrsError."""
        return self._point(index, first=0)

    def lagrange(self, index: int) -> bn254.Point:
        """L_index(tau) g. Raises SrsError."""
        return self._point(index, first=self.rows)

    def _point(self, index: int, *, first: int) -> bn254.Point:
        if not 0 <= index < self.rows:
            raise SrsError(f"no point {index}, expected one of {self.rows} for logrows {self.logrows}")
        at = 4 + bn254.RAW_SIZE * (first + index)
        try:
            point = bn254.read_raw(self.data[at : at + bn254.RAW_SIZE])
        except CommitmentError as reason:
            raise SrsError(f"point {index} of the reference string: {reason}") from None
        if point is None:
            raise SrsError(f"point {index} of the reference string is infinity, expected a point of order r")
        return point


def load(path: Path) -> Srs:
    """The file, mapped and hashed. Raises SrsError when it is missing, of another size or not a reference string."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= REDUCED_SIZE:
                return parse(file.read())
            return parse(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as reason:
        raise SrsError(f"cannot read {path}: {reason.strerror}") from None
    except SrsError as reason:
        raise SrsError(f"{path}: {reason}") from None


def parse(data: bytes | mmap.mmap) -> Srs:
    """A reference string from its bytes. Raises SrsError for another size, a wrong generator, a G2 point off its curve."""
    logrows = int.from_bytes(data[:4], "little")
    if len(data) < 4 or not 1 <= logrows <= MAX_LOGROWS:
        raise SrsError(
            f"expected logrows from 1 to {MAX_LOGROWS} in the first 4 bytes, {data[:4].hex() or 'none'} came"
        )
    if len(data) != size_of(logrows):
        raise SrsError(f"expected {size_of(logrows)} bytes for logrows {logrows}, {len(data)} came")
    if data[4:68] != bn254.write_raw(bn254.GENERATOR):
        raise SrsError(f"expected the generator (1, 2) as the first point, {data[4:68].hex()} came")
    g2, tau_g2 = _read_g2(data[-2 * _G2_RAW : -_G2_RAW]), _read_g2(data[-_G2_RAW:])
    return Srs(logrows, sha256(data).hexdigest(), g2, tau_g2, data)


def size_of(logrows: int) -> int:
    """Bytes of a file: 516 for logrows 1, 262,404 for 11."""
    return 4 + 2 * (bn254.RAW_SIZE << logrows) + 2 * _G2_RAW


def require_ceremony(srs: Srs) -> Srs:
    """``srs`` itself. Raises SrsError unless it is of the ceremony."""
    if srs.development:
        expected = CEREMONY.get(srs.logrows, "none")
        raise SrsError(
            f"expected the ceremony's reference string of logrows {srs.logrows} (SHA-256 {expected}), {srs.digest} came: "
            "whoever made it may know its secret, and then can forge"
        )
    return srs


def reduced(srs: Srs) -> bytes:
    """The 516 bytes, logrows 1, with which proofs made with ``srs`` are verified. The same for all files of one secret."""
    if srs.logrows == 1:
        return bytes(srs.data[:])
    g, tau_g = srs.power(0), srs.power(1)
    half = pow(2, -1, bn254.R)
    lagrange = [bn254.multiply(bn254.add(g, point), half) for point in (tau_g, bn254.negate(tau_g))]  # (1 ± X) / 2
    points = b"".join(bn254.write_raw(point) for point in [g, tau_g, *lagrange])
    return (1).to_bytes(4, "little") + points + srs.data[-2 * _G2_RAW :]


def file_name(logrows: int, *, development: bool = False) -> str:
    """``kzg11.srs``, or ``kzg11.development.srs`` for what is not of the ceremony."""
    return f"kzg{logrows}.development.srs" if development else f"kzg{logrows}.srs"


def find(logrows: int, folders: Sequence[Path] | None = None, *, development: bool = False) -> Path:
    """The file ``kzg<logrows>.srs`` in the first of the folders that has it. Raises SrsError. Nothing is downloaded.

    With ``development``, where none has it, ``kzg<logrows>.development.srs`` will do. Only names are looked at: what a
    file is, :func:`load` tells.
    """
    if folders is None:
        folders = folders_of(os.environ)
    for name in [file_name(logrows)] + [file_name(logrows, development=True)] * development:
        for folder in folders:
            path = folder / name
            if path.is_file():
                return path
    places = ", ".join(map(str, folders)) or "none"
    raise SrsError(
        f"no kzg{logrows}.srs in the folders {places}; get it with certify srs fetch {logrows}, or set {FOLDERS_VARIABLE} "
        "to the folder that has it"
    )


def folders_of(environment: Mapping[str, str]) -> list[Path]:
    """Where files are looked for: the folders in ``CERTIFY_SRS``, otherwise the user's cache and EZKL's."""
    chosen = environment.get(FOLDERS_VARIABLE)
    if chosen:
        return [Path(folder) for folder in chosen.split(os.pathsep) if folder]
    home = Path(environment.get("HOME") or Path.home())
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return [cache / "unlearning-ledger" / "srs", home / ".ezkl" / "srs"]


def _read_g2(data: bytes) -> G2:
    """A point of the twist. Its order is not checked: a ceremony's file is known by its hash, another proves nothing."""
    try:
        x0, x1, y0, y1 = (bn254.read_coordinate(data[at : at + 32]) for at in range(0, _G2_RAW, 32))
    except CommitmentError as reason:
        raise SrsError(f"a point of G2 in the reference string: {reason}") from None
    square = (x0 * x0 - x1 * x1, 2 * x0 * x1)
    right = (square[0] * x0 - square[1] * x1 + _TWIST[0], square[0] * x1 + square[1] * x0 + _TWIST[1])
    left = (y0 * y0 - y1 * y1, 2 * y0 * y1)
    if any((a - b) % bn254.P for a, b in zip(left, right, strict=True)):
        raise SrsError(f"expected a point of G2 in the reference string, {data.hex()} came")
    return x0, x1, y0, y1
