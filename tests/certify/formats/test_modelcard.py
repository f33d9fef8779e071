"""Model cards: huggingface_hub reads the metadata, a Markdown parser the section, and nothing else changes."""

from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from certify.errors import InputError
from certify.formats import modelcard
from certify.formats.modelcard import BEGIN, END, YAML_BEGIN, YAML_END
from certify.formats.source import Source, read
from tests.audit_cases import audited_case, key
from tests.cases import NOW, Case
from tests.certify.formats.conftest import trust_of

NEEDED = "needs huggingface_hub: pip install 'unlearning-ledger[test]'"
CARD = """\
---
# kept as it is
license:   mit
tags: ['a', "b"]   # and this
---

# My model

Text.
"""


def without_blocks(card: str) -> str:
    """What is left of a card when both blocks are cut out."""
    for begin, end in ((YAML_BEGIN, YAML_END), (BEGIN, END)):
        before, _, rest = card.partition(begin)
        card = before + rest.partition(end)[2]
    return card


def metadata(card: bytes) -> dict[str, Any]:
    hub = pytest.importorskip("huggingface_hub", reason=NEEDED)
    data: dict[str, Any] = hub.ModelCard(card.decode()).data.to_dict()
    return data


def test_huggingface_hub_reads_the_metadata(source: Source) -> None:
    hub = pytest.importorskip("huggingface_hub", reason=NEEDED)
    ours = modelcard.card_data(source)
    found = metadata(modelcard.insert(CARD.encode(), source))
    assert found == {"license": "mit", "tags": ["a", "b"], "unlearning_certificate": ours}
    theirs = hub.ModelCardData(license="mit", tags=["a", "b"], unlearning_certificate=ours)
    assert theirs.to_dict() == found
    again = hub.ModelCard(f"---\n{theirs.to_yaml()}\n---\n")
    assert again.data.to_dict() == found


def test_a_grade_only_where_it_was_verified(stated: Source, verified: Source) -> None:
    said, found = (modelcard.insert(b"", each).decode() for each in (stated, verified))
    assert "**Not verified here.**" in said and "Verified as" not in said and "grade:" not in said
    assert yaml.safe_load(said.split("---")[1])["unlearning_certificate"]["verified"] is False
    assert "**Verified as attested**: the operator says so" in found and "Certified by `Clinic`" in found
    assert yaml.safe_load(found.split("---")[1])["unlearning_certificate"]["grade"] == "attested"
    assert verified.verified is not None
    for limit in verified.verified.report.limits:
        assert limit in found


def test_what_an_auditor_found_is_in_it() -> None:
    case = audited_case()
    auditor = f'\n[[auditor]]\nname = "Example Audits"\npublic_key = """{key().public.pem()}"""\n'
    found = read(case.data(), trust=trust_of(case) + auditor.encode(), now=NOW)
    card = modelcard.insert(b"", found).decode()
    assert "- Audited: PASS by Example Audits, power 0.93" in card
    unknown = modelcard.insert(b"", read(case.data(), trust=trust_of(case), now=NOW)).decode()
    assert "- Audited" not in unknown


def test_what_a_reader_sees(verified: Source) -> None:
    body = modelcard.insert(CARD.encode(), verified).decode().split("---\n", 2)[2]
    tokens = MarkdownIt("commonmark").parse(body)
    headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings == ["My model", "Unlearning certificate", "What this does not show", "How to verify"]
    [commands] = [token.content for token in tokens if token.type == "code_block"]
    assert "certify verify case.bundle --trust trust.toml\n" in commands
    text = " ".join(token.content for token in tokens if token.type == "inline")
    assert "1 request to forget 2 records; 2 records left out of the 8 trained on" in text


ELSEWHERE = {
    "usual": CARD,
    "empty": "",
    "no metadata": "# My model\n",
    "no line end": "---\nlicense: mit\n---\n# My model",
    "empty metadata": "---\n---\n# My model\n",
    "windows": CARD.replace("\n", "\r\n"),
    "rules": "# A\n\n---\n\ntext\n\n---\n",
    "comments only": "---\n# nothing\n---\n",
    "quoted key": '---\n"license": mit\n---\n',
    "no body": "---\nlicense: mit\n---",
}


@pytest.mark.parametrize("card", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_nothing_else_changes(source: Source, card: str) -> None:
    made = modelcard.insert(card.encode(), source)
    left = without_blocks(made.decode()).split()
    added = [] if card.startswith("---") else ["---", "---"]
    assert left == added + card.split()
    assert modelcard.insert(made, source) == made
    assert yaml.safe_load(made.decode().split("---")[1])["unlearning_certificate"]["certificate"] == source.digest


def test_bytes_around_the_blocks_are_the_same_to_the_byte(stated: Source, verified: Source) -> None:
    made = modelcard.insert(CARD.encode(), stated).decode()
    moved = made.replace("Text.\n", "").replace(END + "\n", END + "\n\n  After the block.  \n\n\n")
    again = modelcard.insert(moved.encode(), verified).decode()
    assert again != moved and without_blocks(again) == without_blocks(moved)


def test_windows_lines_stay_windows_lines(stated: Source) -> None:
    made = modelcard.insert(CARD.replace("\n", "\r\n").encode(), stated)
    assert made.count(b"\n") == made.count(b"\r\n")
    assert metadata(made)["license"] == "mit"


REFUSED = {
    "two begins": (f"{BEGIN}\n{BEGIN}\n{END}\n", "2 lines"),
    "two blocks": (f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n", "2 lines"),
    "no end": (f"{BEGIN}\ntext\n", "0 lines"),
    "no begin": (f"text\n{END}\n", "0 lines"),
    "the wrong way round": (f"{END}\n{BEGIN}\n", "expected one and then the other"),
    "metadata twice": (f"---\n{YAML_BEGIN}\n{YAML_END}\n{YAML_BEGIN}\n{YAML_END}\nlicense: mit\n---\n", "2 lines"),
    "metadata without an end": (f"---\n{YAML_BEGIN}\nlicense: mit\n---\n", "the card's metadata has 1"),
    "the key by hand": ("---\nlicense: mit\nunlearning_certificate: {}\n---\n", "outside of the markers"),
    "the key in quotes": ('---\n"unlearning_certificate" : {}\n---\n', "outside of the markers"),
    "a flow mapping": ("---\n{license: mit}\n---\n", "expected 'key: value'"),
    "a list": ("---\n- a\n---\n", "expected 'key: value'"),
    "indented": ("---\n  license: mit\n---\n", "expected 'key: value'"),
    "rules, not metadata": ("---\nsome text\n---\n", "expected 'key: value'"),
}


@pytest.mark.parametrize(("card", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_clear_is_refused(stated: Source, card: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        modelcard.insert(card.encode(), stated)


def test_bytes_that_are_no_text(stated: Source) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        modelcard.insert(b"\xff", stated)


def test_the_same_case_gives_the_same_bytes(case: Case, verified: Source) -> None:
    again = read(case.data(), trust=trust_of(case), now=NOW)
    assert modelcard.insert(CARD.encode(), verified) == modelcard.insert(CARD.encode(), again)
