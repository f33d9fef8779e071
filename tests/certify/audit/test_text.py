"""Scores of texts: against a slow computation token by token, and on a tiny model that learnt its texts by heart."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from certify.audit import text

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
