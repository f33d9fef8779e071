"""Writers to one log in PostgreSQL, each a process, until they are killed. Run by test_postgres_faults.py.

Arguments: URL, watermark, key file, number of the writer. Prints each acknowledged append as ``index entry checkpoint``, after
each failed one ``failed``; a failure is no reason to stop: the server may come back.
"""

import os
import random
import sys
from pathlib import Path

from ledger.errors import StorageError, TamperedError
from ledger.log import Log
from ledger.log_key import LogKey


def main(url: str, mark: str, key_file: str, number: str) -> None:
    parent = os.getppid()
    key, pick = LogKey.load(Path(key_file), "example.com/log", None), random.Random(number)
    with Log.open(url, key, watermark=Path(mark)) as log:
        print("ready", flush=True)
        for step in range(1_000_000):
            count = pick.choice([1, 1, 1, 1, 3, 200])
            entries = [b"%s %d %d" % (number.encode(), step, i) for i in range(count)]
            if step:
                entries.append(b"%s %d 0" % (number.encode(), step - 1))  # again
            while True:
                try:
                    done = list(zip(entries, log.append_many(entries), strict=True))
                    break
                except TamperedError:
                    raise
                except StorageError:
                    os.write(1, b"failed\n")
                    if os.getppid() != parent:
                        return  # nobody is left to end it
            text = "".join(f"{one.index} {entry.hex()} {one.checkpoint.hex()}\n" for entry, one in done[-3:])
            os.write(1, text.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
