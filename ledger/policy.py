"""Which logs, which witnesses, and how many of them have to cosign: C2SP tlog-policy.

::

    log example.com/log+0f3b…+AQ…
    witness A1 witness.example/a+5c…+BA… https://a.example/
    witness A2 witness.example/a+77…+Bg… https://a.example/
    witness B  b.example/w+91…+BA…       https://b.example/
    group A any A1 A2
    group both all A B
    quorum both

A name in the file stands for a verifier key. Two keys with the same *key name* are one witness (an Ed25519 key and an ML-DSA-44
key, an old key and a new one): they have to stand in one group of which any member is enough, so that they count once. The
specification does not ask for that, nor that no key be both a log's and a witness's.

Names are bytes to the specification. They are kept as text here, with bytes that are not UTF-8 escaped.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ledger.checkpoint import parse_decimal
from ledger.errors import MalformedError, WitnessError
from ledger.note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, ED25519, VerifierKey
from ledger.signed_checkpoint import SignedCheckpoint

MAX_POLICY_SIZE = 1 << 18
MAX_LINES = 60
"""Of logs, of witnesses, of groups. A note holds 64 signatures: the log's two, and one of each witness."""
_NONE = "none"
_ALL, _ANY = "all", "any"
_LOG_TYPES = (ED25519, COSIGNATURE_MLDSA44)
_WITNESS_TYPES = (COSIGNATURE_ED25519, COSIGNATURE_MLDSA44)


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log by one of its keys. ``url`` is whatever the file says."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A witness's key under its name in the file. ``url`` should be where checkpoints are submitted to."""

    name: str
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Has cosigned when ``threshold`` of its members, witnesses or other groups, have."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy file says. ``quorum`` is the name of a witness or group, or None if no cosignature is asked for."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[Group, ...]
    quorum: str | None

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def parse(cls, data: bytes) -> "Policy":
        """Raises MalformedError, which names the line."""
        if len(data) > MAX_POLICY_SIZE:
            raise MalformedError(f"a policy has {len(data):,} bytes, expected at most {MAX_POLICY_SIZE:,}")
        if data and not data.endswith(b"\n"):
            raise MalformedError("the last line of a policy does not end in a newline: it may have been cut short")
        if found := re.search(rb"[^\t\n\x20-\x7e\x80-\xff]", data):
            raise MalformedError(f"a policy has the control character {found[0]!r}, expected tabs and newlines only")
        return _parse(data.split(b"\n"))

    @classmethod
    def of(cls, keys: Sequence[VerifierKey], threshold: int) -> "Policy":
        """``threshold`` of the witnesses with these keys, each of which may have several; 0 asks for none."""
        by_name: dict[str, list[VerifierKey]] = {}
        for key in keys:
            by_name.setdefault(key.name, []).append(key)
        witnesses: list[PolicyWitness] = []
        groups: list[Group] = []
        members: list[str] = []
        for number, its in enumerate(by_name.values(), 1):
            lines = [PolicyWitness(f"w{number}.{i}", key) for i, key in enumerate(its, 1)]
            witnesses += lines
            members.append(lines[0].name)
            if len(lines) > 1:
                groups.append(Group(f"w{number}", 1, tuple(line.name for line in lines)))
                members[-1] = f"w{number}"
        if not threshold:
            return cls((), tuple(witnesses), tuple(groups), None)
        return cls((), tuple(witnesses), (*groups, Group("quorum", threshold, tuple(members))), "quorum")

    def format(self) -> bytes:
        """The policy as a file, in one form: without comments, ``any`` and ``all`` where they fit."""
        lines = [f"log {log.key.format()}{_after(log.url)}" for log in self.logs]
        lines += [f"witness {line.name} {line.key.format()}{_after(line.url)}" for line in self.witnesses]
        for group in self.groups:
            words = {len(group.members): _ALL, 1: _ANY}
            count = words.get(group.threshold, str(group.threshold))
            lines.append(f"group {group.name} {count} {' '.join(group.members)}")
        lines.append(f"quorum {self.quorum or _NONE}")
        return ("\n".join(lines) + "\n").encode(errors="surrogateescape")

    @property
    def counted(self) -> tuple[PolicyWitness, ...]:
        """The witnesses that the quorum depends on."""
        names = set(self._below(self.quorum)) if self.quorum is not None else set()
        return tuple(witness for witness in self.witnesses if witness.name in names)

    @property
    def witness_keys(self) -> list[VerifierKey]:
        """The keys of :attr:`counted`: what to open a checkpoint with before it is held against this policy."""
        return [witness.key for witness in self.counted]

    def satisfied(self, cosigned: Collection[str]) -> bool:
        """Whether witnesses with these *key names*, as in ``SignedCheckpoint.cosigned``, are a quorum."""
        return self.quorum is None or self._time(self.quorum, dict.fromkeys(cosigned, 0)) is not None

    def time(self, cosigned: Mapping[str, int]) -> int | None:
        """The earliest time by which a quorum had cosigned; None if none has, or none is asked for.

        ``cosigned``: key names and POSIX seconds. A group has cosigned when the last of its first ``threshold`` members had.
        """
        return self._time(self.quorum, cosigned) if self.quorum is not None else None

    def check(self, signed: SignedCheckpoint) -> int | None:
        """As :meth:`time`, of a checkpoint opened with :attr:`witness_keys`. Raises WitnessError if there is no quorum."""
        if not self.satisfied(signed.cosigned):
            names = ", ".join(sorted(signed.cosigned)) or "nobody"
            raise WitnessError(
                f"the checkpoint of {signed.checkpoint.size} entries is cosigned by {names}, expected {self.describe()}"
            )
        return self.time(signed.cosigned)

    def describe(self) -> str:
        """The quorum in words, by key names: ``2 of (2 of x1, x2, x3), (1 of y1, y2)``."""
        return "no witness" if self.quorum is None else self._describe(self.quorum)

    def _time(self, name: str, cosigned: Mapping[str, int]) -> int | None:
        group = self._group(name)
        if group is None:
            return cosigned.get(self._witness(name).key.name)
        times = sorted(time for member in group.members if (time := self._time(member, cosigned)) is not None)
        return times[group.threshold - 1] if len(times) >= group.threshold else None

    def _describe(self, name: str) -> str:
        group = self._group(name)
        if group is None:
            return self._witness(name).key.name
        members = dict.fromkeys(
            self._describe(member) for member in group.members
        )  # a witness's keys are described alike
        parts = [f"({text})" if " " in text else text for text in members]
        if len(parts) == 1:
            return next(iter(members))
        return f"{group.threshold} of {', '.join(parts)}"

    def _below(self, name: str) -> Iterator[str]:
        """The names of the witnesses below a name, itself if it is one."""
        group = self._group(name)
        if group is None:
            yield name
        else:
            for member in group.members:
                yield from self._below(member)

    def _group(self, name: str) -> Group | None:
        return next((group for group in self.groups if group.name == name), None)

    def _witness(self, name: str) -> PolicyWitness:
        return next(witness for witness in self.witnesses if witness.name == name)


def _after(url: str | None) -> str:
    return "" if url is None else f" {url}"


# -- parsing -----------------------------------------------------------------------------------------------------------


def _parse(lines: Sequence[bytes]) -> Policy:
    logs: list[PolicyLog] = []
    witnesses: list[PolicyWitness] = []
    groups: list[Group] = []
    quorum: list[str] = []
    for number, line in enumerate(lines, 1):
        items = [item.decode(errors="surrogateescape") for item in re.split(rb"[ \t]+", line.strip(b" \t"))]
        try:
            match items:
                case [""]:
                    continue
                case [word, *_] if word.startswith("#"):
                    continue
                case ["log", key]:
                    logs.append(PolicyLog(_key(key)))
                case ["log", key, url]:
                    logs.append(PolicyLog(_key(key), url))
                case ["witness", name, key]:
                    witnesses.append(PolicyWitness(name, _key(key)))
                case ["witness", name, key, url]:
                    witnesses.append(PolicyWitness(name, _key(key), url))
                case ["group", name, count, *members] if members:
                    groups.append(Group(name, _threshold(count, len(members)), tuple(members)))
                case ["quorum", name]:
                    quorum.append(name)
                case _:
                    raise MalformedError("expected 'log', 'witness', 'group' or 'quorum' and what belongs to it")
            _check_order(items, witnesses, groups, quorum)
        except MalformedError as error:
            raise MalformedError(f"line {number} of a policy: {error}") from error
    if not quorum:
        raise MalformedError("a policy has no quorum line: expected 'quorum NAME' or 'quorum none'")
    return Policy(tuple(logs), tuple(witnesses), tuple(groups), None if quorum[0] == _NONE else quorum[0])


def _key(text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text.encode().decode())
    except UnicodeError as error:
        raise MalformedError(f"not a verifier key: {text[:80]!a} is not valid UTF-8") from error


def _threshold(count: str, members: int) -> int:
    if count == _ANY:
        return 1
    return members if count == _ALL else parse_decimal(count, "how many of a group")


def _check_order(
    items: list[str], witnesses: Sequence[PolicyWitness], groups: Sequence[Group], quorum: Sequence[str]
) -> None:
    """What a line names stands on lines before it; there is one quorum."""
    if items[0] == "log":
        return
    if items[0] == "witness":
        wanted: list[str] = []
    elif items[0] == "group":
        wanted, groups = items[3:], groups[:-1]
    else:
        wanted = [] if items[1] == _NONE else items[1:]
        if len(quorum) > 1:
            raise MalformedError("a second quorum line, expected exactly one")
    known = {line.name for line in witnesses} | {line.name for line in groups}
    for name in wanted:
        if name not in known:
            raise MalformedError(f"{name[:80]!a} is not a witness or group of the lines before")


def _check(policy: Policy) -> None:
    """What holds for the whole of a policy, however it was made. Raises MalformedError."""
    for what, lines in (("logs", policy.logs), ("witnesses", policy.witnesses), ("groups", policy.groups)):
        if len(lines) > MAX_LINES:
            raise MalformedError(f"a policy has {len(lines)} {what}, expected at most {MAX_LINES}")
    _check_keys(policy)
    names: set[str] = set()
    for name in [*(line.name for line in policy.witnesses), *(line.name for line in policy.groups)]:
        if not name or re.search(r"[\x00-\x20\x7f]", name):
            raise MalformedError(f"not a name for a policy: {name[:80]!a} (expected no space)")
        if name == _NONE or name in names:
            raise MalformedError(f"a policy defines the name {name[:80]!a} twice, or 'none', which has a meaning")
        names.add(name)
    known = {witness.name for witness in policy.witnesses}
    members: set[str] = set()
    for group in policy.groups:
        if not 1 <= group.threshold <= len(group.members):
            raise MalformedError(
                f"group {group.name[:80]!a} asks for {group.threshold} of {len(group.members)} members"
            )
        for member in group.members:
            if member not in known:  # groups before this one: so there is no circle
                raise MalformedError(f"group {group.name[:80]!a} has an unknown member {member[:80]!a}")
            if member in members:
                raise MalformedError(f"{member[:80]!a} is a member twice: each witness counts in one way only")
            members.add(member)
        known.add(group.name)
    if policy.quorum is not None and policy.quorum not in known:
        raise MalformedError(f"the quorum {policy.quorum[:80]!a} is not a witness or group of the policy")
    _check_counted_once(policy)


def _check_keys(policy: Policy) -> None:
    public: set[bytes] = set()
    for key, types, what in (
        *((log.key, _LOG_TYPES, "log") for log in policy.logs),
        *((witness.key, _WITNESS_TYPES, "witness") for witness in policy.witnesses),
    ):
        if key.type not in types:
            raise MalformedError(
                f"the key of {what} {key.name!r} has type {key.type:02x}, expected {' or '.join(f'{t:02x}' for t in types)}"
            )
        if key.public in public:
            raise MalformedError(f"the key of {what} {key.name!r} stands twice in the policy, perhaps under two names")
        public.add(key.public)


def _check_counted_once(policy: Policy) -> None:
    """Keys with one key name are one witness: they stand in one group, where any is enough, or but one of them counts."""
    by_name: dict[str, list[str]] = {}
    for witness in policy.counted:
        by_name.setdefault(witness.key.name, []).append(witness.name)
    for name, lines in by_name.items():
        if len(lines) > 1 and not any(
            group.threshold == 1 and set(lines) <= set(group.members) for group in policy.groups
        ):
            raise MalformedError(
                f"witness {name!r} has {len(lines)} keys in the policy, which may count once: expected a group "
                f"'any {' '.join(lines)}'"
            )
