"""Words stay words: as one line, in Markdown and in YAML, judged by others' parsers."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from certify.formats.text import code, line, prose, quoted

TEXTS = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
MARKUP = st.text(alphabet="`*_~[]()<>#!|&\\:/@.=+-1w \n\r\tab", min_size=1, max_size=24)
READER = MarkdownIt("gfm-like", {"linkify": False})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("a\nb\r\n", "a\\nb\\r\\n"),
        ("\x1b[2J", "\\x1b[2J"),
        ("by \u202etsurt", "by \\u202etsurt"),
        ("x" + "\u0336" * 6, "x" + "\u0336" * 4 + "\\u0336\\u0336"),
    ],
)
def test_line(value: str, expected: str) -> None:
    assert line(value) == expected


@given(TEXTS | MARKUP)
def test_code_is_one_span_of_its_text(value: str) -> None:
    shown = code(value)
    assert "\n" not in shown
    tokens = READER.parse(f"- method: {shown}, and more")
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 1 and inline[0].children is not None
    if shown == "(blank)":
        assert not line(value).strip()
        return
    assert [child.type for child in inline[0].children] == ["text", "code_inline", "text"]
    assert inline[0].children[1].content.strip() == line(value).replace("`", "\\x60").strip()


@given(TEXTS | MARKUP)
def test_prose_is_text_and_nothing_else(value: str) -> None:
    shown = prose(value)
    tokens = READER.parse(f"- {shown}\n- next")
    assert [token.type for token in tokens].count("list_item_open") == 2
    assert [token.type for token in tokens].count("bullet_list_open") == 1
    inline = next(token for token in tokens if token.type == "inline")
    assert inline.children is not None
    types = {child.type for child in inline.children}
    assert types <= {"text", "text_special"} or types == {"code_inline"}
    if "code_inline" not in types and shown != "(blank)":
        assert "".join(child.content for child in inline.children) == line(value).strip()


def test_sentences_stay_readable() -> None:
    sentence = (
        "That it is the operator's word, but to whoever holds a receipt (--receipt): 40 % of 3.5, 2026-04-11T00:00:00Z."
    )
    assert prose(sentence) == sentence


@given(TEXTS)
def test_quoted_is_the_line_in_yaml(value: str) -> None:
    shown = quoted(value)
    assert shown.isascii() and "\n" not in shown
    assert yaml.safe_load(f"key: {shown} # comment") == {"key": line(value)}
