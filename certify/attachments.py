"""What stands beside the log and is named in it by SHA-256: points, proofs, circuits and reference strings. All of it is public.

::

    ledger/zk/points/<digest>.points      as in a bundle, under the same names

A file is whole or not there, and what is read has the digest that it was asked for by.
"""

from hashlib import sha256
from pathlib import Path

from certify.bundle import CircuitFiles
from certify.errors import StatementError, WorkspaceError
from certify.inputs import write_file
from certify.wire import decode
from certify.zk import CircuitDescription

MAX_DESCRIPTION = 1 << 16


class Attachments:
    """Files by their content, under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, kind: str, data: bytes) -> str:
        """Keep bytes, in the place of a damaged file too; their SHA-256 in hex.

        ``kind``: points, proofs, srs, circuits, settings, vk or details.
        """
        digest = sha256(data).hexdigest()
        path = self._path(kind, digest)
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, data)
        return digest

    def get(self, kind: str, digest: str) -> bytes:
        """The bytes of that SHA-256. Raises WorkspaceError when they are missing or altered."""
        path = self._path(kind, digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WorkspaceError(f"cannot read {path}, which the log names: {error.strerror}") from error
        if sha256(data).hexdigest() != digest:
            raise WorkspaceError(f"{path} was altered: it has SHA-256 {sha256(data).hexdigest()}")
        return data

    def put_circuit(self, circuit: CircuitFiles) -> str:
        """Keep a circuit; the digest of its description."""
        self.put("settings", circuit.settings)
        self.put("vk", circuit.vk)
        return self.put("circuits", circuit.description.to_json())

    def get_circuit(self, digest: str) -> CircuitFiles:
        data = self.get("circuits", digest)
        what = f"circuit {digest[:16]}"
        description = decode(data, CircuitDescription, limit=MAX_DESCRIPTION, what=what, error=StatementError)
        return CircuitFiles(description, self.get("settings", description.settings), self.get("vk", description.vk))

    def _path(self, kind: str, digest: str) -> Path:
        suffix = {"points": "points", "proofs": "proof", "srs": "srs", "circuits": "json", "details": "bin"}.get(
            kind, kind
        )
        return self.folder / kind / f"{digest}.{suffix}"
