"""A server of a log, to be killed. Run by test_server_kill.py. Arguments: log, watermark, key file. Prints its URL."""

import sys
from pathlib import Path

from ledger.log import Log
from ledger.log_key import LogKey
from ledger.server import app
from ledger.serving import serve
from tests.served import admit


def main(log: str, mark: str, key_file: str) -> None:
    key = LogKey.load(Path(key_file), "example.com/log", None)
    with Log.open(Path(log), key, watermark=Path(mark)) as opened:
        serve(app(opened, admit=admit), host="127.0.0.1", port=0, announce=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
