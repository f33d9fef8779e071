"""JSON nested so deeply that a parser's recursion would overflow the stack.

Python's own limit stops that, but libraries raise the limit for the whole process. So the attack is tried in a process where it
is as good as gone: there a parser that recurses dies of a segmentation fault.
"""

import subprocess
import sys

import pytest

SETUP = """
import sys
from pathlib import Path
sys.setrecursionlimit(10**8)
deep = b"[" * 200_000
"""
PARSERS = {
    "envelope": "from certify.envelope import Envelope; Envelope.parse(b'{\"payload\":' + deep[:60_000])",
    "statement": "from certify.statement import Statement; Statement.parse(b'{\"predicate\":' + deep[:60_000])",
    "manifest": "from certify.digest import Manifest; Manifest.parse(b'{\"tensors\":' + deep)",
    "receipt": "from certify.receipt import Receipt; Receipt.parse(b'{\"record\":' + deep)",
    "opening": "from certify.dataset import RecordOpening; RecordOpening.parse(b'{\"path\":' + deep[:16_000])",
    "safetensors": "from certify.safetensors import parse_header; parse_header(b'{\"a\":' + deep, 0)",
    "records": "from certify.records import read_records; p = Path(sys.argv[1]); p.write_bytes(deep); read_records(p)",
}


@pytest.mark.parametrize("name", PARSERS)
def test_deep_nesting_is_a_clean_error_whatever_the_recursion_limit(name: str, tmp_path: object) -> None:
    script = SETUP + PARSERS[name]
    done = subprocess.run([sys.executable, "-c", script, f"{tmp_path}/d.jsonl"], capture_output=True, text=True)
    assert done.returncode == 1, f"ended with {done.returncode}: {done.stderr[-500:]}"
    assert "nested more than" in done.stderr or "of the expected" in done.stderr, done.stderr[-500:]


def test_brackets_in_strings_do_not_count() -> None:
    from certify.records import record_bytes
    from certify.wire import check_depth

    check_depth(record_bytes({"text": '"[{' * 1000, "more": ["\\"] * 300}), what="a record", error=ValueError)
    check_depth(b"[]" * 10_000, what="many", error=ValueError)
