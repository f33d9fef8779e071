"""Two servers on one database, killed again and again while clients append through them: what was acknowledged stays.

``LEDGER_SERVER_KILLS`` sets how many (5).
"""

import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.proof import TlogProof
from tests.served import Answer, Served, append_request

KILLS = int(os.environ.get("LEDGER_SERVER_KILLS", "5"))
CLIENTS = 8


class Server:
    """A process."""

    def __init__(self, *arguments: str) -> None:
        root = Path(__file__).parents[2]
        command = [sys.executable, str(Path(__file__).with_name("serve_log.py")), *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)}
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://")

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(60)


class Client(threading.Thread):
    """Appends entries one after the other, each until it is acknowledged, by whichever server answers."""

    def __init__(self, number: int, urls: list[str], log: Log, done: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number, self._urls, self._log, self._done = number, urls, log, done
        self.acknowledged: list[tuple[bytes, bytes]] = []
        self.broken = 0

    def run(self) -> None:
        pick = random.Random(self._number)
        step = 0
        while not self._done.is_set():
            with suppress(OSError), Served(pick.choice(self._urls), self._log).connect() as connection:
                while not self._done.is_set():
                    entry = b"client %d entry %d" % (self._number, step)
                    connection.sendall(append_request(entry))
                    answer = Answer.read(connection)
                    if answer is None or answer.status != 200:
                        break
                    self.acknowledged.append((entry, answer.body))
                    step += 1
            self.broken += 1


def test_what_servers_acknowledged_survives_kills(tmp_path: Path, key: LogKey) -> None:
    path, mark, key_file = tmp_path / "log.db", tmp_path / "mark", tmp_path / "log.key"
    key.save(key_file, None)
    pick = random.Random(1)
    done = threading.Event()
    with Log.create(path, key, watermark=mark) as log:
        servers = [Server(str(path), str(mark), str(key_file)) for _ in range(2)]
        urls = [server.url for server in servers]
        clients = [Client(number, urls, log, done) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for _ in range(KILLS):
                done.wait(pick.uniform(0.05, 0.3))
                number = pick.randrange(2)
                assert servers[number].stop(signal.SIGKILL) == -signal.SIGKILL
                servers[number] = Server(str(path), str(mark), str(key_file))
                urls[number] = servers[number].url
            done.wait(0.2)
        finally:
            done.set()
            for client in clients:
                client.join(60)
            ends = [server.stop(signal.SIGTERM) for server in servers]
        assert ends == [0, 0]

    acknowledged = [pair for client in clients for pair in client.acknowledged]
    assert len(acknowledged) > 10 * KILLS and sum(client.broken for client in clients) > CLIENTS
    with Log.open(path, key, watermark=mark) as log:
        assert list(fsck.check(log)) == []
        stored = list(log.entries())
        assert len({entry for _, entry in stored}) == len(
            stored
        )  # nothing was appended twice, however often it was sent
        by_index = dict(stored)
        trees: dict[int, Checkpoint] = {}
        for entry, answer in acknowledged:
            proof = TlogProof.parse(answer)
            tree = proof.verify(entry, log_keys=key.verifier_keys).checkpoint
            assert by_index[proof.index] == entry
            assert trees.setdefault(tree.size, tree) == tree
        for tree in trees.values():
            log.prove_consistency(tree.size, tree.root)
    print(f"{KILLS} kills, {len(acknowledged)} acknowledged, {len(stored)} entries, {len(trees)} trees")
