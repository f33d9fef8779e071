"""A Hugging Face model card: what was forgotten, in counts, for people, and the same as metadata for programs.

Two blocks between markers, one in the YAML at the top of README.md and one at its end; not a byte of the rest changes. Run again,
the blocks are replaced where they stand. ::

    ---
    # >>> unlearning-ledger
    unlearning_certificate:
      certificate: "3f…"
      verified: false
    # <<< unlearning-ledger
    license: mit
    ---
    <!-- unlearning-ledger:begin -->
    ## Unlearning certificate
    …
    <!-- unlearning-ledger:end -->

The metadata are one key of one's own, as huggingface_hub's ``ModelCardData(unlearning_certificate={…})`` takes it. They are not
written through that class: it writes all of the YAML anew, without its comments, quotes and order.
"""

import re
from typing import NamedTuple

from certify.errors import InputError
from certify.formats.source import NOT_VERIFIED, Source
from certify.formats.text import code, line, prose, quoted
from certify.statement import PREFIX
from certify.times import format_time

BEGIN, END = "<!-- unlearning-ledger:begin -->", "<!-- unlearning-ledger:end -->"
YAML_BEGIN, YAML_END = "# >>> unlearning-ledger", "# <<< unlearning-ledger"
KEY = "unlearning_certificate"
MAX_CARD_SIZE = 8 << 20
_FRONT = re.compile(r"\A(\ufeff?\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)?^---[ \t]*(?:\r\n|\n|\Z))", re.MULTILINE)
"""The opening line, the YAML, and the line that closes it with the line end before."""
_ENTRY = re.compile(r"""(?:[A-Za-z0-9_][^:#]*|"[^"\\]*"|'[^']*')\s*:(?:\s|$)""")
_OWN_KEY = re.compile(rf"""^\s*(?:\?\s*)?["']?{KEY}["']?\s*:""", re.MULTILINE)

Value = str | int | bool


class Part(NamedTuple):
    """A text with a block in it: what is before, and after."""

    before: str
    after: str


def card_data(source: Source) -> dict[str, Value]:
    """The metadata: ``ModelCardData(unlearning_certificate=card_data(source))``. A grade is among them only if verified."""
    certificate = source.certificate
    data: dict[str, Value] = {
        "predicate_type": PREFIX + "unlearning/v1",
        "certificate": source.digest,
        "log": line(certificate.log),
        "tensor_root": certificate.post.tensor_root,
        "parent_tensor_root": certificate.pre.tensor_root,
        "requests": len(certificate.requests),
    }
    if certificate.removed is not None:
        data["records_left_out"] = certificate.removed.count
    data["verified"] = source.verified is not None
    if source.verified is not None:
        data |= {"grade": source.verified.report.grade, "verified_at": format_time(source.verified.at)}
    return data


def front_matter(source: Source) -> list[str]:
    """The block of YAML."""
    values = (f"  {name}: {_yaml(value)}" for name, value in card_data(source).items())
    return [YAML_BEGIN, f"{KEY}:", *values, YAML_END]


def section(source: Source) -> list[str]:
    """The block of Markdown, in lines."""
    certificate, changes = source.certificate, source.certificate.changes
    command = f"certify verify {_word(source.name)} --trust trust.toml"
    return [
        BEGIN,
        "## Unlearning certificate",
        "",
        _standing(source),
        "",
        *_findings(source),
        f"- What was asked and done, as stated: {prose(source.summary)}.",
        f"- Method, as stated: {code(certificate.method.name)}; {changes.changed:,} of {certificate.pre.tensors:,} tensors "
        f"changed, {changes.added:,} were added, {changes.removed:,} removed.",
        *_figures(source),
        f"- Stated as finished: {code(certificate.run.finished)}.",
        f"- Certificate: {code(source.digest)}, in the log {code(certificate.log)}.",
        f"- This model, by its tensor root: {code(certificate.post.tensor_root)}.",
        f"- The model before: {code(certificate.pre.tensor_root)}.",
        "",
        "### What this does not show",
        "",
        *(f"- {prose(limit)}" for limit in source.limits),
        "",
        "### How to verify",
        "",
        "Anybody can write a card. With the case's bundle, and the operator's trust file from a channel that you trust:",
        "",
        "    pip install unlearning-ledger",
        f"    {command}",
        f"    {command} --weights PATH_TO_THIS_MODEL",
        END,
    ]


def insert(card: bytes, source: Source) -> bytes:
    """README.md with both blocks, new or in place of those that are there.

    Raises InputError where it is not clear what to replace, or where the key stands outside of the markers.
    """
    if len(card) > MAX_CARD_SIZE:
        raise InputError(f"the model card has {len(card):,} bytes, expected at most {MAX_CARD_SIZE:,}")
    try:
        text = card.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"the model card is not UTF-8: {error.reason} at byte {error.start}") from error
    end = "\r\n" if "\r\n" in text else "\n"
    front = _FRONT.match(text)
    if front is None:
        yaml = f"---{end}{_joined(front_matter(source), end)}---{end}"
        body = text
    else:
        opening, inside, closing = front.groups()
        if not closing.startswith(("\r", "\n")):  # nothing between the two lines
            closing = end + closing
        if not closing.endswith(("\r", "\n")):  # nothing after them
            closing += end
        yaml = opening + _with_metadata(inside, source, end) + closing
        body = text[front.end() :]
    return (yaml + _with_section(body, source, end)).encode()


def _with_metadata(inside: str, source: Source, end: str) -> str:
    part = _between(inside, YAML_BEGIN, YAML_END, "the card's metadata")
    rest = inside if part is None else part.before + part.after
    if _OWN_KEY.search(rest):
        raise InputError(f"the card's metadata have {KEY} outside of the markers: take it out, this command writes it")
    block = front_matter(source)
    if part is not None:
        return part.before + end.join(block) + part.after
    first = next((each for each in re.split(r"\r\n|\r|\n", inside) if each.strip() and each.lstrip()[0] != "#"), None)
    if first is not None and not _ENTRY.match(first):
        raise InputError(
            f"the card's metadata begin {line(first)[:40]!r}, expected 'key: value' at the start of a line: rewrite them so"
        )
    return end.join(block) + (end + inside if inside else "")


def _with_section(body: str, source: Source, end: str) -> str:
    part = _between(body, BEGIN, END, "the card")
    block = end.join(section(source))
    if part is not None:
        return part.before + block + part.after
    if not body.strip():
        return body + block + end
    gap = "" if body.endswith(2 * end) else end if body.endswith(end) else 2 * end
    return body + gap + block + end


def _between(text: str, begin: str, end: str, where: str) -> Part | None:
    """The text around the one block between two marker lines; None where there is no marker at all."""
    places = [
        (found.start(), found.end(), found[0])
        for found in re.finditer(rf"^(?:{re.escape(begin)}|{re.escape(end)})(?=[ \t]*(?:\r|\n|\Z))", text, re.MULTILINE)
    ]
    if not places:
        return None
    if [marker for *_, marker in places] != [begin, end]:
        raise InputError(
            f"{where} has {sum(marker == begin for *_, marker in places)} lines {begin!r} and "
            f"{sum(marker == end for *_, marker in places)} lines {end!r}, expected one and then the other: nothing was "
            f"changed. Take out what is between them by hand"
        )
    return Part(text[: places[0][0]], text[places[1][1] :])


def _standing(source: Source) -> str:
    if source.verified is None:
        return f"**{NOT_VERIFIED.capitalize()}.** What follows is what the operator's certificate states. No grade is given."
    report = source.verified.report
    return f"**Verified as {report.grade}**: {prose(report.meaning)}."


def _findings(source: Source) -> list[str]:
    """What only a verification shows."""
    if source.verified is None:
        return []
    report, at = source.verified.report, format_time(source.verified.at)
    return [
        f"- Verified on {at} with the trust file of SHA-256 {code(source.verified.trust)}.",
        f"- Certified by {code(report.issuer)}, as that file names them.",
        *(f"- Audited: {prose(str(audit))}." for audit in report.audits),
        *(f"- Replayed: {prose(str(replay))}." for replay in report.replays),
    ]


def _figures(source: Source) -> list[str]:
    metrics = source.certificate.metrics
    if not metrics:
        return []
    stated = ", ".join(f"{code(name)} = {value:g}" for name, value in sorted(metrics.items()))
    return [f"- The operator's own figures, checked by nobody: {stated}."]


def _word(name: str) -> str:
    """A file's name as one word of a command."""
    from shlex import quote

    return quote(line(name))


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else quoted(value)


def _joined(lines: list[str], end: str) -> str:
    return "".join(each + end for each in lines)
