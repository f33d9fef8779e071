"""Scores of texts: against a slow computation token by token, and on a tiny model that learnt its texts by heart."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from certify.audit import arms, probes, shadows, text
from certify.audit.adapter import Recipe
from certify.audit.probe_setting import Setting
from certify.audit.text import Language
from certify.audit.verdict import Plan, judge
from certify.audit_probes import check_found, planned, said
from certify.errors import InputError
from tests import text_adapter

WORDS = 24


class Tiny(nn.Module):
    """A causal model: each next token from a recurrent state of those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 24)
        self.state = nn.GRU(24, 64, batch_first=True)
        self.out = nn.Linear(64, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.state(self.embed(ids))[0])


def texts(seed: int, count: int, length: int = 12) -> list[list[int]]:
    return np.random.default_rng(seed).integers(1, WORDS, (count, length)).tolist()


@pytest.fixture(scope="module")
def models() -> tuple[Tiny, Tiny]:
    """One that learnt texts(1) and texts(2), one that learnt texts(2) alone."""

    def learn(ids: list[list[int]]) -> Tiny:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Tiny()
        optimiser, batch = torch.optim.Adam(model.parameters(), 0.02), torch.tensor(ids)
        for _ in range(80):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten()).backward()
            optimiser.step()
        return model.eval()

    return learn(texts(1, 30) + texts(2, 30)), learn(texts(2, 30))


def test_texts_learnt_by_heart_are_found_and_texts_never_learnt_are_not(models: tuple[Tiny, Tiny]) -> None:
    found, lost = (text.attack(text.score(model, texts(1, 30)), text.score(model, texts(3, 30))) for model in models)
    for name in ("loss", "min_k", "min_k_plus", "memorised"):
        assert getattr(found, name).low > 0.85, name
        assert getattr(lost, name).low < 0.5 < getattr(lost, name).high, name
    assert json.loads(json.dumps(asdict(found)))["texts"] == [30, 30]


def test_the_difference_shows_what_the_unlearned_model_kept(models: tuple[Tiny, Tiny]) -> None:
    kept, gone = ((text.score(model, texts(1, 30)), text.score(model, texts(3, 30))) for model in models)
    found = text.difference(kept, [gone])
    assert min(found.loss.low, found.min_k.low, found.min_k_plus.low, found.memorised.low) > 0.2
    assert text.difference(gone, [gone, gone]).loss.value == pytest.approx(0)


def by_hand(model: Tiny, ids: list[int], share: float) -> tuple[float, float, float, float]:
    """One text alone, without padding, one token at a time."""
    own, plus, first = [], [], 0
    for t in range(1, len(ids)):
        logs = torch.log_softmax(model(torch.tensor([ids[:t]]))[0, -1].double(), -1).detach().numpy()
        p = np.exp(logs)
        own.append(logs[ids[t]])
        plus.append((logs[ids[t]] - (p * logs).sum()) / np.sqrt((p * (logs - (p * logs).sum()) ** 2).sum()))
        first += int(logs.argmax() == ids[t])
    k = max(1, int(share * len(own)))
    return -float(np.mean(own)), float(np.mean(sorted(own)[:k])), float(np.mean(sorted(plus)[:k])), first / len(own)


@pytest.mark.parametrize("share", [0.01, 0.2, 1.0])
def test_scores_are_those_computed_token_by_token_whatever_the_padding(models: tuple[Tiny, Tiny], share: float) -> None:
    several = [texts(4, 1, length)[0] for length in (2, 12, 5, 9)]
    found = text.score(models[0], several, share=share, batch=3)
    expected = np.array([by_hand(models[0], ids, share) for ids in several]).T
    for row, name in zip(expected, ("loss", "min_k", "min_k_plus", "memorised"), strict=True):
        assert getattr(found, name) == pytest.approx(row, abs=1e-4), name


def test_min_k_of_all_tokens_is_the_loss(models: tuple[Tiny, Tiny]) -> None:
    found = text.score(models[0], texts(5, 4), share=1.0)
    assert found.min_k == pytest.approx(-found.loss)


def test_words_that_cannot_come_do_not_spoil_the_scores() -> None:
    def model(ids: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, 4)
        logits[..., 3] = -torch.inf
        return logits

    found = text.score(model, [[0, 1, 2]])
    assert np.isfinite([found.loss, found.min_k, found.min_k_plus]).all()
    assert found.loss == pytest.approx([np.log(3)])


def test_what_has_no_token_to_predict_or_no_logits_is_refused(models: tuple[Tiny, Tiny]) -> None:
    with pytest.raises(ValueError, match="two tokens"):
        text.score(models[0], [[1]])
    with pytest.raises(ValueError, match="expected logits"):
        text.score(lambda ids: ids.float(), [[1, 2, 3]])
    with pytest.raises(ValueError, match="share"):
        text.score(models[0], [[1, 2]], share=0.0)


# -- a transformer in the three-arm audit --------------------------------------------------------------------------------


RECORDS = text_adapter.records()
PLACES = np.arange(70)


@pytest.fixture(scope="module")
def setting() -> Setting:
    """A transformer that learnt the texts to forget and forgot nothing, and four that never saw them."""
    subject, retain = text_adapter.subject(), RECORDS.retain
    learnt = np.concatenate([retain, RECORDS.forget])
    [original] = shadows.unstack(shadows.train(subject, [learnt], ["original"]))
    retrained = list(shadows.unstack(shadows.train(subject, [retain] * 4, ["a", "b", "c", "d"])))
    plan = Plan(seed="text", shadows=4, retrained=4, utility_margin=0.9)
    return Setting(plan, subject, RECORDS, original, dict(original), retrained, {})


def test_the_transformer_looks_back_alone(setting: Setting) -> None:
    assert isinstance(setting.subject, Language)
    ids = setting.subject.x[:4].clamp_min(0)
    other = ids.clone()
    other[:, 8:] = 1
    before, after = (setting.subject.logits(setting.original, each) for each in (ids, other))
    assert torch.allclose(before[:, :8], after[:, :8], atol=1e-5) and not torch.allclose(before[:, 8:], after[:, 8:])


def test_stacked_transformers_are_the_single_ones(setting: Setting) -> None:
    subject, x = setting.subject, setting.subject.x[:6]
    models = [setting.original, *setting.retrained]
    stacked = {name: torch.stack([params[name] for params in models]) for name in setting.original}
    together = subject.stacked(stacked, x.expand(len(models), *x.shape))
    for one, params in zip(together, models, strict=True):
        assert torch.allclose(one, subject.apply(params, x), atol=1e-5)


def test_loss_and_confidence_are_those_of_the_texts_own_tokens(setting: Setting) -> None:
    subject = setting.subject
    assert isinstance(subject, Language)
    outputs, y = subject.apply(setting.original, subject.x), subject.y
    scores = text.score(lambda ids: subject.logits(setting.original, ids), subject.texts(PLACES))
    assert subject.loss(outputs, y).detach().numpy() == pytest.approx(scores.loss, abs=1e-4)
    p = np.exp(-scores.loss)
    assert subject.confidence(outputs, y).detach().numpy() == pytest.approx(np.log(p / (1 - p)), abs=1e-3)
    assert subject.predict(outputs).tolist() == (scores.memorised >= subject.known - 1e-9).astype(int).tolist()


def test_three_arms_of_transformers(setting: Setting) -> None:
    """LiRA on texts detects the original, and so the model that forgot nothing fails."""
    figures = arms.audit(
        setting.rules, setting.subject, RECORDS, original=setting.original, unlearned=setting.unlearned,
        retrained=setting.retrained,
    )  # fmt: skip
    assert figures.original.auc.low > 0.75 > figures.retrained[0].auc.value
    assert judge(setting.rules, figures).outcome == "FAIL"


def test_text_probe_finds_texts_that_a_transformer_kept(setting: Setting) -> None:
    also = planned("text", {})
    probes.check([also], setting.subject, RECORDS, {})
    kept = probes.run(also, setting).probe
    check_found([kept])
    for name in ("loss", "min-k", "memorised"):
        assert kept.figures[f"{name}-auc-unlearned-low"] > 0.7, name
        assert kept.figures[f"{name}-difference-low"] > 0, name
    assert "more than retrained models give away" in said(kept) and len(kept.worst) == 10
    [gone] = shadows.unstack(shadows.train(setting.subject, [RECORDS.retain], ["e"]))
    lost = probes.run(also, Setting(**{**vars(setting), "unlearned": gone})).probe
    assert lost.figures["loss-difference-low"] < 0.2 and lost.figures["loss-auc-unlearned-low"] < 0.6


def test_text_probe_through_functions_of_the_adapter(setting: Setting) -> None:
    """For subjects of another kind: the same figures."""
    subject = setting.subject
    assert isinstance(subject, Language)
    functions = {
        "texts": lambda places: subject.texts(places),
        "language_model": lambda params: lambda ids: subject.logits(params, ids),
    }
    own = probes.run(planned("text", {}), setting).probe
    other = Setting(**{**vars(setting), "subject": _Other(subject), "functions": functions})
    probes.check([planned("text", {})], other.subject, RECORDS, functions)
    assert probes.run(planned("text", {}), other).probe == own
    with pytest.raises(InputError, match=r"needs a function texts\(\)"):
        probes.check([planned("text", {})], other.subject, RECORDS, {"language_model": print})


class _Other:
    def __init__(self, subject: Language) -> None:
        self.x, self.y, self.recipe = subject.x, subject.y, subject.recipe


def test_probes_of_classes_do_not_take_texts(setting: Setting) -> None:
    for name, match in (("kpis", "gives classes"), ("label-only", "disturb"), ("neighbours", "embed")):
        with pytest.raises(InputError, match=match):
            probes.check([planned(name, {})], setting.subject, RECORDS, {})


@pytest.mark.parametrize("ids", [[[1, -1, 2]], [[1, -1, -1]], [[0.5, 1.0]], [1, 2, 3]])
def test_what_is_no_text_is_refused(ids: list[list[int]]) -> None:
    with pytest.raises(InputError, match="expected t"):
        Language(text_adapter.Transformer, torch.tensor(ids), Recipe(epochs=1, rate=0.1))
