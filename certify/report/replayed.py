"""The replays of a case: who ran the recipe again, what came out, and what was not as it had been."""

from collections.abc import Sequence

from certify.replays import Replayed
from certify.report.markup import Markup, join, section, table, tag


def replays(found: Sequence[Replayed]) -> Markup:
    """A section; nothing where nobody that counts ran the recipe again."""
    if not found:
        return join()
    rows = [
        (
            one.replayer,
            tag("span", one.outcome, class_=f"mark {'bad' if one.failed else 'good'}"),
            f"entry {one.index}",
            f"{one.differing}{': ' + ', '.join(one.names[:6]) if one.names else ''}" if one.failed else "none",
            "named in the certificate" if one.named else "not named in the certificate",
            _data(one),
        )
        for one in found
    ]
    columns = ("By", "Outcome", "In the log", "Tensors that differ", "Recipe", "Data")
    caption = "Each replayer's last replay. Identical: the recipe gave the certificate's weights, bit for bit."
    parts = [table(caption, columns, rows)]
    for one in found:
        if one.not_pinned:
            lines = (tag("li", what) for what in one.not_pinned)
            summary = f"Not as it was, when {one.replayer} ran it again"
            parts.append(tag("details", tag("summary", summary), tag("ul", lines), open=one.failed or None))
    return section("Replays", parts)


def _data(one: Replayed) -> str:
    if not one.data_checked:
        return "not compared with what was committed to"
    return f"as committed to, but for {one.unchecked} not compared" if one.unchecked else "as committed to"
