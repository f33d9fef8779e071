"""Reports: what a judge reads follows from what was verified, in a page that works everywhere and needs nothing."""

import itertools
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest

from certify import audit_probes
from certify.audit import verdict
from certify.audit_probes import KINDS
from certify.bundle import Bundle
from certify.report import html
from certify.report.markup import join, tag, text
from certify.report.style import CSS
from certify.verifier import GRADES, TITLES, Report, verify
from tests.audit_cases import (
    ALSO,
    FAILED,
    OVER,
    PASSED,
    PROBES,
    UNSEEN,
    Auditor,
    around,
    audited_case,
    probe,
    trust,
)
from tests.cases import NOW, Case, operator, usual_case
from tests.reports import Page, page_of, read, source
from tests.verdict import CASE


@cache
def audited(found: verdict.Figures = PASSED) -> Page:
    case = audited_case(found)
    return read(page_of(case, trust(case), allow_failed_audit=True))


def plain() -> tuple[Report, Bundle, bytes]:
    data = CASE.data()
    return verify(data, CASE.trust(), now=NOW), Bundle.parse(data), data


# -- what it says ------------------------------------------------------------------------------------------------------


def test_everything_the_verifier_says_is_in_it() -> None:
    report, bundle, data = plain()
    page = read(html(report, bundle, source(data)))
    for said in (
        "✓ VERIFIED",
        f"Grade: {report.grade} , which means: {GRADES['attested']}.",
        *report.limits,
        *(line for step in report.steps for line in step.established),
        *(f"{number}. {title}" for number, title in TITLES.items()),
        report.certificate,
        report.tensor_root,
        sha256(data).hexdigest(),
        "certify verify case.bundle --trust trust.toml",
    ):
        assert " ".join(said.split()) in page.seen
    assert [where for where, said in page.texts if said == report.certificate] == ["code"]


def test_the_timeline_is_in_the_order_of_stated_times() -> None:
    report, bundle, data = plain()
    page = read(html(report, bundle, source(data)))
    times = [str(found["datetime"]) for found in page.all("time")]
    assert times == sorted(times) and len(times) == 5
    told = page.seen[page.seen.index("What happened, and when") :]
    places = [told.index(what) for what in ("trained on 8 records", "forget 2 records", "It ended", "entry 2 was due")]
    assert places == sorted(places)
    assert "2026-01-02 00:00:00 entry 1 The model was trained on 8 records" in told
    assert "2026-02-10 00:00:00 – The request at entry 2 was due" in told


def test_later_cases_have_all_certificates_in_the_timeline() -> None:
    case = Case()
    from tests.cases import LATER, POST, request, run, training

    trained = case.say(training())
    first = case.certify(trained, case.say(request()))
    again = case.say(request((2,)))
    case.models = (*case.models, LATER)
    case.certify(first, again, positions=(2,), gone=(1, 4), pre=POST, post=LATER, run=run(21, 22))
    seen = read(page_of(case)).seen
    assert "an earlier certificate" in seen and "the certificate of this case" in seen


@pytest.mark.parametrize(
    ("figures", "outcome", "word"),
    [
        (PASSED, "PASS", "✓ VERIFIED"),
        (UNSEEN, "INCONCLUSIVE", "✓ VERIFIED"),
        (FAILED, "FAIL", "✗ FAILED AUDIT"),
        (OVER, "OVER-FORGOTTEN", "✗ FAILED AUDIT"),
    ],
)
def test_audits_with_verdict_power_and_figures(figures: verdict.Figures, outcome: str, word: str) -> None:
    page = audited(figures)
    assert word in page.seen
    assert f"Audited: {outcome} by Example Audits, power 0.93 ." in page.seen
    assert ("VERIFIED" in page.seen) == (word == "✓ VERIFIED")
    auc = figures.unlearned.auc
    assert f"{auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})" in page.seen
    assert (
        "ε ≥ 1.00" in page.seen and "2.50, the greatest that an attack without a mistake could have shown" in page.seen
    )
    assert "Not tested by Example Audits: copies elsewhere" in page.seen
    assert "attempt 1 of Example Audits finished" in page.seen
    assert len(page.all("svg")) == 3


def with_probes(**how: float) -> Case:
    """An audit with every probe."""
    case = usual_case()
    auditor = Auditor(case)
    auditor.plan(also=ALSO)
    auditor.start()
    auditor.finish(probes=[probe(one.name, **(how if one.name == "canaries" else {})) for one in PROBES])
    return case


def test_probes_are_told_beside_the_verdict() -> None:
    case = with_probes()
    page = read(page_of(case, trust(case)))
    for one in PROBES:
        words = audit_probes.said(one)
        assert f"{one.name}: {KINDS[one.name].asks} {words[0].upper()}{words[1:]}." in page.seen
        assert f"{audit_probes.limits(one.name)}." in page.seen
        assert " ".join(audit_probes.KINDS[one.name].worst.split()) in page.seen
        assert f"All {len(one.figures)} figures of {one.name}" in page.seen
    assert "✓ VERIFIED" in page.seen and "Nothing of it changes the verdict." in page.seen
    assert "planted canaries found" not in page.seen and "had planted records" not in page.seen
    assert "Beside the verdict" not in audited().seen


def test_planted_canaries_that_were_found_are_said_first() -> None:
    case = with_probes(epsilon=1.5)
    page = read(page_of(case, trust(case)))
    assert ("span", "planted canaries found") in page.texts
    first = page.seen.index(
        "says that it had planted records in the training data, and that this model shows them still."
    )
    assert first < page.seen.index("What this does not show")
    assert "PLANTED CANARIES FOUND: in the unlearned model" in page.seen


def test_what_changed_since_the_audit_before() -> None:
    case = usual_case()
    auditor = Auditor(case)
    auditor.whole(replace(PASSED, difference=around(-0.05, 0.03)))
    auditor.start(26)
    auditor.finish(replace(PASSED, difference=around(0.02, 0.03)), 27)
    page = read(page_of(case, trust(case)))
    assert ("span", "worse than before") in page.texts
    assert "-0.050 (-0.080 to -0.020) +0.020 (-0.010 to +0.050) worse: beyond both intervals" in page.seen
    assert "lower bound of ε 0.00 0.00 –" in page.seen
    assert "Since the audit by" not in audited().seen


def test_a_failed_audit_refuses_and_says_that_all_is_authentic() -> None:
    case = audited_case(FAILED)
    page = read(page_of(case, trust(case)))
    assert f"✗ FAILED AUDIT Step 8 failed: {TITLES[8]}. The case is authentic, and the model is not shown" in page.seen
    assert "VERIFIED" not in page.seen


def test_an_audit_that_was_not_brought_to_an_end() -> None:
    case = usual_case()
    auditor = Auditor(case)
    auditor.plan()
    auditor.start()
    seen = read(page_of(case, trust(case))).seen
    assert "UNFINISHED An attempt was started and not brought to its end" in seen
    assert "The last attempt" not in seen


def test_without_audits_it_says_so() -> None:
    assert "No auditor that the trust file names has attacked this model" in read(page_of(CASE)).seen


def test_audits_by_nobody_trusted_give_no_figures() -> None:
    case = audited_case()
    page = read(page_of(case))
    assert not page.all("svg") and "it counts for nothing" in page.seen


def test_a_proof_that_counts_for_nothing_is_said_first() -> None:
    report, bundle, data = plain()
    seen = read(html(replace(report, development_srs=True), bundle, source(data))).seen
    assert "! VERIFIED" in seen and "Its zero-knowledge proof counts for nothing" in seen


def test_the_operators_own_figures_are_called_that() -> None:
    seen = read(page_of(usual_case(metrics={"retain-ratio": 0.997}))).seen
    assert "checked by nobody else. Measure Value retain-ratio 0.997" in seen


def test_refused_with_step_and_reason_and_nothing_that_the_bundle_claims() -> None:
    seen = read(page_of(usual_case(), usual_case(operator("Other")).trust())).seen
    assert "✗ REFUSED Step 2 failed: signatures are by trusted keys. Do not rely on this bundle." in seen
    assert "Reason: statement" in seen and "which is not one of the trusted" in seen
    assert "1. the bundle is well-formed" in seen and "3. every entry" not in seen
    for claimed in ("VERIFIED", "Grade", "sisa-retrain", "gdpr-17", "Clinic", "What happened"):
        assert claimed not in seen


# -- how it is made ----------------------------------------------------------------------------------------------------


def test_the_same_case_gives_the_same_bytes() -> None:
    report, bundle, data = plain()
    pages = {html(report, bundle, source(data)) for _ in range(2)}
    program = (
        "import sys; from certify.report import *; from certify.bundle import Bundle; from certify.trust import Trust\n"
        "import certify.report.audited, certify.report.chart\n"
        "print(*sorted({'torch', 'numpy', 'matplotlib', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(pages) == 1 and done.stdout == "\n"


@pytest.mark.parametrize("figures", [PASSED, FAILED])
def test_nothing_runs_and_nothing_is_fetched(figures: verdict.Figures) -> None:
    page = audited(figures)
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form", "base", "a", "use"}
    assert not {name for name in names if name.startswith("on")} | names & {"href", "src", "style", "srcset", "action"}
    assert "url(" not in CSS and "@import" not in CSS
    policy = next(found["content"] for found in page.all("meta") if found.get("http-equiv"))
    [style] = [said for where, said in page.texts if where == "style"]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_headings_captions_and_names_for_those_who_do_not_see_it() -> None:
    page = audited()
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(name[1]) for name, _ in page.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("table")) == len(page.all("caption")) > 1
    assert all(found.get("scope") in ("row", "col") for found in page.all("th"))
    assert all(found.get("role") == "img" for found in page.all("svg"))
    assert sum(where == "title" for where, _ in page.texts) == 1 + len(page.all("svg"))
    signs = [found for found in page.all("span") if found.get("role") == "img"]
    assert len(signs) == 10 and all(found["aria-label"] for found in signs)


def luminance(colour: str) -> float:
    """WCAG 2.2, of ``#rgb`` or ``#rrggbb``."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast(scheme: int) -> None:
    named = [dict(re.findall(r"--([a-z-]+):(#[0-9a-f]+)", block)) for block in re.findall(r":root\{([^}]*)\}", CSS)]
    assert len(named) == 3
    colours = named[scheme]
    pairs = [(ink, back) for ink in ("ink", "soft") for back in ("paper", "panel")]
    pairs += [(look, f"{look}-back") for look in ("good", "bad", "warn")] + [
        (look, "paper") for look in ("good", "bad", "original", "unlearned", "retrained")
    ]
    pairs += [("ink", f"{look}-back") for look in ("good", "bad", "warn")]
    for front, back in pairs:
        high, low = sorted([luminance(colours[front]), luminance(colours[back])], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)


def test_markup_is_text_unless_it_was_made() -> None:
    made = tag("p", "<b>", tag("b", "&"), None, 7, ["x", tag("i")], class_='"><x y="', stroke_width=1.5)
    assert str(made) == '<p class="&quot;&gt;&lt;x y=&quot;" stroke-width="1.5">&lt;b&gt;<b>&amp;</b>7x<i></i></p>'
    assert str(join("a", "<")) == "a&lt;"
    assert str(text("ı́ε 東京 שלום")) == "ı́ε 東京 שלום"  # what people write stays


def test_a_name_with_spaces_is_quoted_in_the_command() -> None:
    report, bundle, data = plain()
    seen = read(html(report, bundle, source(data, name="my case; rm -r.bundle"))).seen
    assert "certify verify 'my case; rm -r.bundle' --trust trust.toml" in seen
