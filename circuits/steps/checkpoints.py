"""States of shards before each slice, in memory or in a folder, each with the SHA-256 of its file from the moment it is made.

::

    kept = Checkpoints(Path("checkpoints"))
    kept.put(1, 0, model.state_dict())     # checkpoints/1-0-<sha256>.safetensors; one state at a time is in memory
    kept.get(1, 0)                         # the state, if its file still has that digest
    kept.digests                           # [[], ["<sha256>"]]

A folder that was written before is taken up again. Digests are what a training commits to (certify.sharding).
"""

import re
from hashlib import sha256
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

State = dict[str, Tensor]

_NAME = re.compile(r"(\d+)-(\d+)-([0-9a-f]{64})\.safetensors")


class Checkpoints:
    """By shard and slice. ``folder=None`` keeps all in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.digests: list[list[str]] = []
        """For each shard, the digest of its state before each slice."""
        self._memory: dict[tuple[int, int], bytes] = {}
        found: dict[tuple[int, int], str] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                if match := _NAME.fullmatch(path.name):
                    place = int(match[1]), int(match[2])
                    if place in found:
                        raise ValueError(f"{folder} has two states before slice {place[1]} of shard {place[0]}")
                    found[place] = match[3]
        for (shard, part), digest in sorted(found.items()):
            self._append(shard, part, digest)

    def put(self, shard: int, part: int, state: State) -> str:
        """Keep the state before slice ``part``, which is the next one of its shard; its digest."""
        data = save({name: value.detach().clone().contiguous() for name, value in state.items()})
        digest = sha256(data).hexdigest()
        self._append(shard, part, digest)
        if self.folder is None:
            self._memory[shard, part] = data
        else:
            path = self._path(shard, part)
            path.with_suffix(".part").write_bytes(data)
            path.with_suffix(".part").replace(path)
        return digest

    def get(self, shard: int, part: int) -> State:
        """Raises ValueError if the state is missing, or not the one that was kept."""
        try:
            data = self._memory[shard, part] if self.folder is None else self._path(shard, part).read_bytes()
        except (OSError, LookupError):
            raise ValueError(f"no state before slice {part} of shard {shard} is kept in {self.folder}") from None
        if sha256(data).hexdigest() != self.digests[shard][part]:
            raise ValueError(f"the state before slice {part} of shard {shard} was altered: retrain from an earlier one")
        return dict(load(data))

    def drop(self, shard: int, first: int) -> None:
        """Destroy the states before slices ``first`` and later: they may have seen what is to be forgotten."""
        if shard < len(self.digests):
            for part in range(first, len(self.digests[shard])):
                self._memory.pop((shard, part), None)
                if self.folder is not None:
                    self._path(shard, part).unlink(missing_ok=True)
            del self.digests[shard][first:]

    def _append(self, shard: int, part: int, digest: str) -> None:
        self.digests += [[] for _ in range(shard + 1 - len(self.digests))]
        if part != len(self.digests[shard]):
            raise ValueError(f"expected the state before slice {len(self.digests[shard])} of shard {shard}, got {part}")
        self.digests[shard].append(digest)

    def _path(self, shard: int, part: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{shard}-{part}-{self.digests[shard][part]}.safetensors"
