"""C2SP tlog-policy: what is parsed, what is refused, and who makes a quorum when."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MalformedError, WitnessError
from ledger.log_key import LogKey
from ledger.note import COSIGNATURE_ED25519, VerifierKey
from ledger.policy import MAX_LINES, MAX_POLICY_SIZE, Group, Policy, PolicyLog, PolicyWitness
from ledger.signed_checkpoint import SignedCheckpoint
from ledger.witness_key import WitnessKey


def key_of(name: str) -> VerifierKey:
    return VerifierKey(name, COSIGNATURE_ED25519, Ed25519PrivateKey.generate().public_key().public_bytes_raw())


NAMES = ("x1", "x2", "x3", "y1", "y2", "y3")
KEYS = {name: key_of(f"{name}.example") for name in NAMES}
LOG = LogKey.generate("example.com/log", post_quantum=True)
LINES = [f"witness {name} {key.format()}" for name, key in KEYS.items()]
TEXT = "\n".join(
    [
        f"log {LOG.verifier_keys[0].format()}",
        "# those of one house",
        *LINES[:3],
        "group X 2 x1 x2 x3",
        "",
        *(f"{line} https://{i}.example/" for i, line in enumerate(LINES[3:])),
        "group Y any y1 y2 y3",
        "group both all X Y",
        "quorum both",
        "",
    ]
)


def parse(*lines: str) -> Policy:
    return Policy.parse(("\n".join(lines) + "\n").encode())


def example(*names: str) -> set[str]:
    return {f"{name}.example" for name in names}


def test_example_of_the_specification() -> None:
    policy = Policy.parse(TEXT.encode())
    assert [log.key for log in policy.logs] == [LOG.verifier_keys[0]]
    assert policy.witnesses[3].url == "https://0.example/"
    assert policy.groups == (
        Group("X", 2, ("x1", "x2", "x3")),
        Group("Y", 1, ("y1", "y2", "y3")),
        Group("both", 2, ("X", "Y")),
    )
    assert policy.satisfied(example("x1", "x3", "y2"))
    for too_few in ([], ["x1", "y1"], ["x1", "x2", "x3"], ["y1", "y2", "y3"], ["x1", "y1", "y2", "y3"]):
        assert not policy.satisfied(example(*too_few))
    assert (
        policy.describe() == "2 of (2 of x1.example, x2.example, x3.example), (1 of y1.example, y2.example, y3.example)"
    )


def test_what_is_written_reads_back() -> None:
    policy = Policy.parse(TEXT.encode())
    again = Policy.parse(policy.format())
    assert again == policy
    assert again.format() == policy.format()


def test_whitespace_and_comments() -> None:
    loose = TEXT.replace("group X 2", " \t group\t\tX  \t2").replace("quorum both", "\t# quorum X\nquorum both \t")
    assert loose != TEXT
    assert Policy.parse(loose.encode()) == Policy.parse(TEXT.encode())


def test_quorum_of_one_witness_and_of_none() -> None:
    one = parse(*LINES, "quorum y2")
    assert one.satisfied(example("y2")) and not one.satisfied(example("x1", "y1"))
    assert one.witness_keys == [KEYS["y2"]]  # the others do not count, whatever they sign
    none = parse("quorum none")
    assert none.satisfied([]) and none.time({}) is None and none.quorum is None


def test_names_are_bytes() -> None:
    """A Kelvin sign is no K, and bytes that are not UTF-8 are a name like others."""
    lines = [f"witness {name} {KEYS[key].format()}\n".encode() for name, key in (("K", "x1"), ("\u212a", "x2"))]
    latin = b"witness \xe9 " + KEYS["x3"].format().encode() + b"\n"
    policy = Policy.parse(b"".join(lines) + latin + b"group g all \xe9 \xe2\x84\xaa\nquorum g\n")
    assert policy.witness_keys == [KEYS["x2"], KEYS["x3"]]
    assert Policy.parse(policy.format()) == policy


REFUSED = {
    "empty": b"",
    "no newline at the end": TEXT.encode()[:-1],
    "carriage return": TEXT.encode().replace(b"\n", b"\r\n"),
    "NUL": TEXT.encode() + b"\0\n",
    "delete": TEXT.encode() + b"# \x7f\n",
    "too large": b"#" * MAX_POLICY_SIZE + b"\nquorum none\n",
    "no quorum": TEXT.replace("quorum both", "").encode(),
    "two quorums": (TEXT + "quorum X\n").encode(),
    "two quorums of none": b"quorum none\nquorum none\n",
    "unknown quorum": TEXT.replace("quorum both", "quorum neither").encode(),
    "quorum before its group": b"quorum x1\n" + TEXT.replace("quorum both\n", "").encode(),
    "unknown word": TEXT.encode() + b"allow x1\n",
    "words in capitals": TEXT.replace("quorum", "QUORUM").encode(),
    "comment after a line": TEXT.replace("quorum both", "quorum both # all of them").encode(),
    "unknown member": TEXT.replace("X 2 x1", "X 2 x9").encode(),
    "member defined later": TEXT.replace("X 2 x1", "X 2 Y").encode(),
    "group in itself": TEXT.replace("X 2 x1", "X 2 X").encode(),
    "none as a member": TEXT.replace("X 2 x1", "X 2 none").encode(),
    "none as a name": TEXT.replace("group X", "group none").replace("all X", "all none").encode(),
    "a name twice": TEXT.replace("group Y", "group X").replace("X Y", "X X").encode(),
    "a group named as a witness": TEXT.replace("group Y", "group x1").replace("X Y", "X x1").encode(),
    "a member twice in a group": TEXT.replace("x1 x2 x3", "x1 x2 x2").encode(),
    "a member of two groups": TEXT.replace("y1 y2 y3", "y1 y2 x1").encode(),
    "empty group": TEXT.replace("X 2 x1 x2 x3", "X all").encode(),
    "none of a group": TEXT.replace("X 2", "X 0").encode(),
    "more than a group has": TEXT.replace("X 2", "X 4").encode(),
    "leading zero": TEXT.replace("X 2", "X 02").encode(),
    "sign": TEXT.replace("X 2", "X +2").encode(),
    "other digits": TEXT.replace("X 2", "X ٢").encode(),
    "half of a group": TEXT.replace("X 2", "X half").encode(),
    "too many words": TEXT.replace("https://0.example/", "https://0.example/ twice").encode(),
    "a witness without a key": TEXT.encode() + b"witness z\n",
    "a key cut short": TEXT.replace(KEYS["x1"].format(), KEYS["x1"].format()[:-4]).encode(),
    "a key that is not UTF-8": TEXT.encode() + b"witness z \xff" + KEYS["x1"].format().encode() + b"\n",
    "a log's key as a witness's": TEXT.replace(KEYS["x1"].format(), LOG.verifier_keys[0].format()).encode(),
    "a witness's key as a log's": TEXT.replace(LOG.verifier_keys[0].format(), KEYS["x1"].format()).encode(),
    "a log twice": TEXT.encode() + f"log {LOG.verifier_keys[0].format()}\n".encode(),
    "a log that is a witness, too": TEXT.replace(KEYS["x1"].format(), LOG.verifier_keys[1].format())
    .replace(LOG.verifier_keys[0].format(), LOG.verifier_keys[1].format())
    .encode(),
    "a witness's key under two names": TEXT.encode() + f"witness z {KEYS['x1'].format()}\n".encode(),
    "too many witnesses": "".join(
        f"witness w{i} {key_of(f'{i}.example').format()}\n" for i in range(MAX_LINES + 1)
    ).encode()
    + b"quorum none\n",
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    with pytest.raises(MalformedError):
        Policy.parse(REFUSED[what])


def test_one_key_under_two_key_names_is_a_duplicate() -> None:
    """An Ed25519 cosignature does not say whose it is: one signature would do for both."""
    alias = VerifierKey("alias.example", COSIGNATURE_ED25519, KEYS["x1"].public)
    with pytest.raises(MalformedError, match="stands twice"):
        parse(LINES[0], f"witness z {alias.format()}", "group g all x1 z", "quorum g")


def test_an_error_names_the_line() -> None:
    with pytest.raises(MalformedError, match="line 5 of a policy"):
        Policy.parse(TEXT.replace(KEYS["x3"].format(), "nonsense").encode())


def test_as_many_of_each_as_the_specification_recommends() -> None:
    names = [f"w{i}" for i in range(32)]
    logs = [f"log {LogKey.generate(f'{name}.example/log').verifier_keys[0].format()}" for name in names]
    lines = [f"witness {name} {key_of(f'{name}.example').format()}" for name in names]
    nested = [f"group g{i} all w{i} g{i - 1}" if i else "group g0 any w0" for i in range(32)]
    policy = parse(*logs, *lines, *nested, "quorum g31")
    assert policy.satisfied(example(*names)) and not policy.satisfied(example(*names[1:]))


# -- one witness with two keys -----------------------------------------------------------------------------------------


BOTH = WitnessKey.generate("both.example", post_quantum=True)
TWO = [f"witness a{i} {key.format()}" for i, key in enumerate(BOTH.verifier_keys)]


@pytest.mark.parametrize("group", ["group g 2 a0 a1", "group g 2 a0 a1 x1", "group g 2 G x1\ngroup h any a1 g"])
def test_one_witness_with_two_keys_cannot_count_twice(group: str) -> None:
    group = group.replace("group g 2 G", "group G any a0\ngroup g 2 G")
    last = group.split("\n")[-1].split()[1]
    with pytest.raises(MalformedError, match="may count once"):
        parse(*TWO, LINES[0], group, f"quorum {last}")


def test_one_witness_with_two_keys_counts_by_either() -> None:
    policy = parse(*TWO, *LINES[:2], "group A any a0 a1", "group g 2 A x1 x2", "quorum g")
    assert policy.satisfied({"both.example", "x1.example"})
    assert not policy.satisfied({"both.example"})
    assert policy.describe() == "2 of both.example, x1.example, x2.example"
    assert parse(*TWO, "quorum a1").witness_keys == [BOTH.verifier_keys[1]]  # the other key counts for nothing


def test_of_keys_and_a_number() -> None:
    policy = Policy.of([*BOTH.verifier_keys, KEYS["x1"]], 2)
    assert policy.satisfied({"both.example", "x1.example"}) and not policy.satisfied({"both.example"})
    assert Policy.parse(policy.format()) == policy
    assert Policy.of([], 0).quorum is None
    with pytest.raises(MalformedError, match="asks for 3 of 2"):
        Policy.of([*BOTH.verifier_keys, KEYS["x1"]], 3)


def test_made_by_hand_is_checked_as_well() -> None:
    witness = PolicyWitness("w", KEYS["x1"])
    for wrong in (
        {"quorum": "v"},
        {"groups": (Group("g", 2, ("w",)),)},
        {"witnesses": (PolicyWitness("two words", KEYS["x1"]),)},
        {"logs": (PolicyLog(KEYS["x2"]),)},
    ):
        usual: dict[str, Any] = {"logs": (), "witnesses": (witness,), "groups": (), "quorum": None}
        with pytest.raises(MalformedError):
            Policy(**(usual | wrong))


# -- times -------------------------------------------------------------------------------------------------------------


def test_time_is_that_of_the_last_one_needed() -> None:
    policy = Policy.parse(TEXT.encode())
    times = {"x1.example": 50, "x2.example": 10, "x3.example": 30, "y1.example": 20, "y3.example": 70}
    assert policy.time(times) == 30  # two of X by 30, one of Y by 20
    assert policy.time(times | {"y1.example": 40}) == 40
    assert policy.time({"x1.example": 50, "x2.example": 10}) is None


COSIGNED = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 20))


@given(COSIGNED)
def test_time_is_the_earliest_at_which_those_who_had_cosigned_were_a_quorum(cosigned: dict[str, int]) -> None:
    policy = Policy.parse(TEXT.encode())
    times = {f"{name}.example": time for name, time in cosigned.items()}
    by = [t for t in range(21) if policy.satisfied({name for name, time in times.items() if time <= t})]
    assert policy.time(times) == (by[0] if by else None)
    assert policy.satisfied(times) == bool(by)


@given(COSIGNED, st.sampled_from(NAMES), st.integers(0, 20))
def test_one_more_cosignature_never_hurts(cosigned: dict[str, int], name: str, time: int) -> None:
    policy = Policy.parse(TEXT.encode())
    before = {f"{n}.example": t for n, t in cosigned.items()}
    after = {f"{name}.example": time} | before
    if policy.satisfied(before):
        assert policy.satisfied(after)
        assert (policy.time(after) or 0) <= (policy.time(before) or 0)


def test_check_says_who_was_there_and_who_was_expected() -> None:
    from ledger.checkpoint import Checkpoint

    policy = Policy.parse(TEXT.encode())
    signed = SignedCheckpoint(Checkpoint("example.com/log", 7, bytes(32)), b"", {"x1.example": 5})
    with pytest.raises(WitnessError, match=r"7 entries is cosigned by x1\.example, expected 2 of"):
        policy.check(signed)
    assert parse("quorum none").check(signed) is None


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        policy = Policy.parse(data)
    except MalformedError:
        return
    assert Policy.parse(policy.format()) == policy


@given(st.integers(0, len(TEXT) - 1), st.binary(min_size=1, max_size=3))
def test_a_policy_with_some_bytes_changed_parses_or_is_refused(at: int, other: bytes) -> None:
    data = TEXT.encode()
    data = data[:at] + other + data[at + len(other) :]
    try:
        policy = Policy.parse(data)
    except MalformedError:
        return
    assert Policy.parse(policy.format()) == policy
