"""Which model serves where, as the operator says, and the models that this one was made from."""

from collections.abc import Sequence

from certify.deployments import Deployed
from certify.report.markup import Markup, join, section, table, tag
from certify.upstream import Upstream

_WORDS = {"current": "contains this unlearning", "behind": "from before it", "rollback": "ROLLBACK"}
_LOOKS = {"current": "good", "behind": "warn", "rollback": "bad"}


def deployments(found: Sequence[Deployed], issuer: str) -> Markup:
    """A section; nothing where no deployment is in the case."""
    if not found:
        return join()
    rows = [
        (
            one.name,
            tag("span", _WORDS[one.state], class_=f"mark {_LOOKS[one.state]}"),
            f"entry {one.model_entry}",
            one.since.replace("T", " ").removesuffix("Z"),
            f"entry {one.index}",
            one.reason if one.reason is not None else "–",
        )
        for one in found
    ]
    columns = ("Service", "Its model", "Logged by", "Since (UTC)", "Deployment", "Reason stated")
    caption = f"The last deployment of each name in this case, as {issuer} states them."
    return section("What serves", table(caption, columns, rows))


def bases(found: Sequence[Upstream]) -> Markup:
    """A section; nothing where the training names no model that it started from."""
    if not found:
        return join()
    rows = [
        (
            f"{'↳ ' * (one.depth - 1)}{one.base}",
            one.issuer if one.issuer is not None else "nobody known",
            tag("span", one.grade, class_=f"mark {'good' if one.issuer is not None else 'warn'}"),
            f"{one.kind} at entry {one.index} of {one.log}" if one.issuer is not None else one.log or "not named",
            one.licence if one.licence is not None else "none stated",
            tag("code", one.tensor_root[:16]),
        )
        for one in found
    ]
    columns = ("Base model", "By", "Grade", "Where", "Licence, as stated", "Tensor root")
    caption = "Each under a trust file of its own. The grade of this case is not changed by theirs."
    return section("Models that this one was made from", table(caption, columns, rows))
