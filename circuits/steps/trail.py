"""A trail: what a training leaves behind, one piece after the other on disk, each committed to as it is made.

A piece is committed to as ``SHA-256("unlearning-ledger/<kind>/v1" 0x00 || salt || u64 index || piece)``, the index
big-endian, with a fresh 32-byte salt. In the folder, which is nobody's but the operator's::

    pieces/00000000.bin …      the pieces
    salts.bin                  32 bytes each
    commitments.bin            32 bytes each: may be published, and its SHA-256 commits to all of them

Only one piece is in memory at a time. ::

    trail = Trail.create("deltas", kind="delta")
    trail.append(b"...")          # 0
    trail.read(0)                 # b"...", if it is what was committed to
"""

import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from circuits.errors import CircuitError

SALT = 32
DIGEST = 32


class TrailError(CircuitError):
    """A piece is missing, or is not what was committed to."""


class Trail:
    """Pieces in ``folder``, all of one kind."""

    def __init__(self, folder: str | os.PathLike[str], kind: str) -> None:
        self.folder, self.kind = Path(folder), kind

    @classmethod
    def create(cls, folder: str | os.PathLike[str], kind: str) -> "Trail":
        """An empty trail that only its owner can read. Raises TrailError if the folder holds one."""
        trail = cls(folder, kind)
        if (trail.folder / "commitments.bin").exists():
            raise TrailError(f"{trail.folder} holds a trail already, expected a folder of its own for each training")
        (trail.folder / "pieces").mkdir(parents=True, exist_ok=True)
        trail.folder.chmod(0o700)
        for name in ("salts.bin", "commitments.bin"):
            (trail.folder / name).write_bytes(b"")
        return trail

    def __len__(self) -> int:
        try:
            return (self.folder / "commitments.bin").stat().st_size // DIGEST
        except OSError as error:
            raise TrailError(f"cannot read the trail in {self.folder}: {error.strerror}") from error

    def commitments(self) -> bytes:
        """All of them, 32 bytes each."""
        try:
            return (self.folder / "commitments.bin").read_bytes()
        except OSError as error:
            raise TrailError(f"cannot read the trail in {self.folder}: {error.strerror}") from error

    def append(self, piece: bytes) -> int:
        """Keep a piece; its index."""
        salt, index = secrets.token_bytes(SALT), len(self)
        self._path(index).write_bytes(piece)
        with (self.folder / "salts.bin").open("ab") as file:
            file.write(salt)
        with (self.folder / "commitments.bin").open("ab") as file:
            file.write(commitment(self.kind, salt, index, piece))
        return index

    def opening(self, index: int) -> tuple[bytes, bytes]:
        """Salt and piece, as they are on disk. Raises TrailError if there is none."""
        try:
            with (self.folder / "salts.bin").open("rb") as file:
                file.seek(SALT * index)
                return file.read(SALT), self._path(index).read_bytes()
        except OSError as error:
            raise TrailError(f"piece {index} of the trail in {self.folder} is missing: {error.strerror}") from error

    def read(self, index: int) -> bytes:
        """The piece. Raises TrailError unless it is what was committed to."""
        salt, piece = self.opening(index)
        check(self.commitments(), index, kind=self.kind, salt=salt, piece=piece)
        return piece

    def shred(self, index: int) -> None:
        """Destroy a piece and its salt; the commitment stays, as noise. Backups and snapshots are beyond this."""
        path = self._path(index)
        if path.exists():
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
                os.fsync(file.fileno())
            path.unlink()
        with (self.folder / "salts.bin").open("r+b") as file:
            file.seek(SALT * index)
            file.write(bytes(SALT))

    def _path(self, index: int) -> Path:
        return self.folder / "pieces" / f"{index:08d}.bin"


def commitment(kind: str, salt: bytes, index: int, piece: bytes) -> bytes:
    """32 bytes."""
    return sha256(f"unlearning-ledger/{kind}/v1\x00".encode() + salt + index.to_bytes(8, "big") + piece).digest()


def check(commitments: bytes, index: int, *, kind: str, salt: bytes, piece: bytes) -> None:
    """Raises TrailError unless that is the piece at ``index`` of a list of commitments."""
    expected = commitments[DIGEST * index : DIGEST * (index + 1)]
    found = commitment(kind, salt, index, piece)
    if found != expected:
        raise TrailError(
            f"{kind} {index} was made up or altered: it leads to {found.hex()[:16]}…, expected {expected.hex()[:16] or 'none'}…, "
            f"which was committed to in training"
        )


Opening = Callable[[int], tuple[bytes, bytes]]
"""Salt and piece at an index."""
