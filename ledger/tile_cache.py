"""Full tiles and bundles, kept in memory as ready replies: they never change. The least recently used ones go first.

::

    cache = TileCache(64 << 20)
    cache.put("/tile/0/000", response)
    cache.get("/tile/0/000")            # the response, without a thread or a database
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

_LARGEST_PART = 4
"""What takes more than a quarter of the room isn't kept: it would push out everything else."""


class TileCache:
    """Replies by path, up to ``limit`` bytes of their bodies. For the event loop's thread alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._replies: OrderedDict[str, Response] = OrderedDict()

    def get(self, path: str) -> "Response | None":
        reply = self._replies.get(path)
        if reply is not None:
            self._replies.move_to_end(path)
        return reply

    def put(self, path: str, reply: "Response") -> None:
        if path in self._replies or len(reply.body) * _LARGEST_PART > self.limit:
            return
        self._replies[path] = reply
        self.size += len(reply.body)
        while self.size > self.limit:
            _, old = self._replies.popitem(last=False)
            self.size -= len(old.body)
