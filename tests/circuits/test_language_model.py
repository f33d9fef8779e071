"""A small transformer against torch's own layers, and unlearning of texts against the papers' formulas and stated behaviour."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.nn import functional as F  # noqa: E402

from circuits.steps.generic_labels import GenericLabels, generic  # noqa: E402
from circuits.steps.language_model import (  # noqa: E402
    PAD,
    Block,
    Gpt,
    accuracy,
    log_probabilities,
    perplexity,
    sequences,
    token_loss,
)
from circuits.steps.npo import Npo, npo_loss, whole  # noqa: E402
from circuits.steps.step import Task  # noqa: E402

torch.set_num_threads(1)
VOCABULARY, END = 24, 0
GENERATOR = torch.Generator().manual_seed(2)


def texts(first: int, count: int) -> list[list[int]]:
    """Texts that begin with a name, and go on with the same few words in an order of each one's own."""
    return [[first, *(5 + torch.randperm(12, generator=GENERATOR)[:6]).tolist(), first + 18] for _ in range(count)]


FORGET = sequences(texts(1, 6), end=END)
RETAIN = sequences(texts(2, 18), end=END)


def built() -> Any:
    torch.manual_seed(0)
    return Gpt(VOCABULARY, context=12, width=32, heads=4, layers=2)


@pytest.fixture(scope="module")
def weights() -> Any:
    """Of a model that knows all texts."""
    model = built()
    x, y = (torch.cat(parts) for parts in zip(FORGET, RETAIN, strict=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        token_loss(model(x), y).backward()
        optimizer.step()
    return model.state_dict()


@pytest.fixture
def model(weights: Any) -> Any:
    made = built()
    made.load_state_dict(weights)
    return made


def test_block_is_torchs_own_layer() -> None:
    torch.manual_seed(1)
    ours = Block(32, 4)
    theirs = torch.nn.TransformerEncoderLayer(32, 4, 128, 0.0, F.gelu, batch_first=True, norm_first=True)
    names = {
        "norm1": "norm1",
        "norm2": "norm2",
        "up": "linear1",
        "down": "linear2",
        "out": "self_attn.out_proj",
    }
    state = {
        f"{their}.{part}": ours.state_dict()[f"{our}.{part}"]
        for our, their in names.items()
        for part in ("weight", "bias")
    }
    state |= {f"self_attn.in_proj_{part}": ours.state_dict()[f"qkv.{part}"] for part in ("weight", "bias")}
    theirs.load_state_dict(state)
    h = torch.randn(3, 7, 32)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(7)
    assert torch.allclose(ours(h), theirs(h, src_mask=mask, is_causal=True), atol=1e-5)


def test_what_comes_later_changes_nothing_before() -> None:
    model = built()
    x = torch.randint(VOCABULARY, (1, 8), generator=GENERATOR)
    other = x.clone()
    other[0, 5:] = (other[0, 5:] + 1) % VOCABULARY
    assert torch.allclose(model(x)[:, :5], model(other)[:, :5], atol=1e-6)
    assert not torch.allclose(model(x)[:, 5:], model(other)[:, 5:])


def test_sequences_are_shifted_by_one_and_padded() -> None:
    x, y = sequences([[4, 5], [6]], end=0)
    assert x.tolist() == [[0, 4, 5], [0, 6, 0]] and y.tolist() == [[4, 5, 0], [6, 0, PAD]]
    x, y = sequences([[4, 5, 6, 7]], end=0, context=3)
    assert x.tolist() == [[0, 4, 5]] and y.tolist() == [[4, 5, 6]]


def by_hand(model: Any, x: Any, y: Any) -> np.ndarray:
    """ln π of each text, token by token, in numpy."""
    logits = model(x).detach().double().numpy()
    found = []
    for row in range(len(x)):
        total = 0.0
        for place, wanted in enumerate(y[row].tolist()):
            if wanted != PAD:
                scores = logits[row, place]
                total += scores[wanted] - scores.max() - np.log(np.exp(scores - scores.max()).sum())
        found.append(total)
    return np.array(found)


def test_log_probabilities_and_perplexity_are_those_by_hand(model: Any) -> None:
    found = by_hand(model, *RETAIN)
    assert np.allclose(log_probabilities(model(RETAIN[0]), RETAIN[1]).detach().numpy(), found, atol=1e-3)
    tokens = int((RETAIN[1] != PAD).sum())
    assert perplexity(model, *RETAIN) == pytest.approx(math.exp(-found.sum() / tokens), rel=1e-4)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
def test_npo_loss_is_the_papers_formula_by_hand(model: Any, beta: float) -> None:
    """Zhang et al. 2024: 2/β E ln(1 + (π/π_ref)^β)."""
    before = by_hand(built(), *FORGET)
    now = by_hand(model, *FORGET)
    wanted = float(np.mean([2 / beta * math.log1p(math.exp(beta * (a - b))) for a, b in zip(now, before, strict=True)]))
    found = npo_loss(torch.tensor(now), torch.tensor(before), beta)
    assert float(found) == pytest.approx(wanted, rel=1e-9)


def gradient(model: Any, value: Any) -> Any:
    return torch.cat([part.reshape(-1) for part in torch.autograd.grad(value, list(model.parameters()))])


def test_npo_tends_to_gradient_ascent_as_beta_tends_to_zero(model: Any) -> None:
    """Their proposition 1: of the loss less its constant, and of its gradient; the distance falls in proportion to β."""
    model = model.double()
    before = torch.tensor(by_hand(built(), *FORGET))
    now = log_probabilities(model(FORGET[0]), FORGET[1])
    ascent = gradient(model, now.mean())
    distances = []
    for beta in (1e-2, 1e-3, 1e-4):
        now = log_probabilities(model(FORGET[0]), FORGET[1])
        loss = npo_loss(now, before, beta)
        gap = float((loss - 2 / beta * math.log(2) - (now - before).mean()).abs().detach())
        far = float((gradient(model, loss) - ascent).norm() / ascent.norm())
        distances.append((gap, far))
    for (gap, far), (less, nearer) in pairwise(distances):
        assert less < gap / 5 and nearer < far / 5
    assert distances[-1][1] < 1e-2


def test_npo_weighs_each_text_by_how_likely_it_still_is(model: Any) -> None:
    """Their adaptive weight: ∇L = E w ∇ln π, w = 2 π^β / (π^β + π_ref^β): 1 at the start."""
    beta = 0.3
    model = model.double()
    before = torch.tensor(by_hand(built(), *FORGET))
    now = log_probabilities(model(FORGET[0]), FORGET[1])
    w = (2 * torch.exp(beta * now) / (torch.exp(beta * now) + torch.exp(beta * before))).detach()
    found = gradient(model, npo_loss(now, before, beta))
    now = log_probabilities(model(FORGET[0]), FORGET[1])
    assert torch.allclose(found, gradient(model, (w * now).mean()), atol=1e-9)
    now = log_probabilities(model(FORGET[0]), FORGET[1])
    first = gradient(model, npo_loss(now, now.detach(), beta))
    now = log_probabilities(model(FORGET[0]), FORGET[1])
    assert torch.allclose(first, gradient(model, now.mean()), atol=1e-9)


def test_npo_forgets_texts_and_keeps_others(model: Any) -> None:
    before = perplexity(model, *FORGET), perplexity(model, *RETAIN), accuracy(model, *RETAIN)
    shown = Npo(beta=0.1, rate=1e-3, steps=30, batch=6).run(model, Task(FORGET, RETAIN, token_loss))
    after = perplexity(model, *FORGET), perplexity(model, *RETAIN), accuracy(model, *RETAIN)
    assert after[0] > 5 * before[0]
    assert after[1] < 1.3 * before[1] and after[2] > before[2] - 0.05
    assert math.exp(shown.fields["lossBefore"]) == pytest.approx(before[0], rel=1e-4)  # type: ignore[arg-type]
    assert math.exp(shown.fields["lossAfter"]) == pytest.approx(after[0], rel=1e-4)  # type: ignore[arg-type]


def test_npo_collapses_later_than_gradient_ascent(model: Any, weights: Any) -> None:
    """What they show of divergence: with nothing to keep, ascent goes on and on, npo slows as texts become unlikely."""
    task = Task(FORGET, RETAIN, token_loss)
    Npo(beta=1.0, rate=1e-3, steps=60, batch=6, retain=0.0).run(model, task)
    ascended = built()
    ascended.load_state_dict(weights)
    Npo(beta=1e-6, rate=1e-3, steps=60, batch=6, retain=0.0).run(ascended, task)  # gradient ascent, to six places
    assert perplexity(model, *RETAIN) < perplexity(ascended, *RETAIN) / 2


def test_npo_needs_a_beta(model: Any) -> None:
    with pytest.raises(ValueError, match="expected a beta above 0"):
        Npo(beta=0.0).run(model, Task(FORGET, RETAIN, token_loss))


def test_same_seed_same_weights(weights: Any) -> None:
    made = []
    for step in (
        Npo(steps=3),
        Npo(steps=3),
        GenericLabels(reinforced=2, steps=3),
        GenericLabels(reinforced=2, steps=3),
    ):
        one = built()
        one.load_state_dict(weights)
        step.run(one, Task(FORGET, RETAIN, token_loss))
        made.append(one.tokens.weight.detach().clone())
    assert torch.equal(made[0], made[1]) and torch.equal(made[2], made[3]) and not torch.equal(made[0], made[2])


def test_generic_labels_are_the_papers_formula_by_hand(model: Any) -> None:
    """Eldan and Russinovich 2023, in numpy."""
    x, y = FORGET
    base, better = built(), model
    found = generic(base, better, x, y, alpha=4.0, batch=4)
    v, r = base(x).detach().numpy(), better(x).detach().numpy()
    wanted = (v - 4.0 * np.maximum(0, r - v)).argmax(-1)
    there = (y != PAD).numpy()
    assert np.array_equal(found.numpy()[there], wanted[there])
    assert (found[y == PAD] == PAD).all()
    same = generic(base, base, x, y, alpha=4.0)
    assert np.array_equal(same.numpy()[there], v.argmax(-1)[there])


def test_generic_labels_forget_texts_and_keep_others(model: Any) -> None:
    before = perplexity(model, *FORGET), accuracy(model, *FORGET), accuracy(model, *RETAIN)
    step = GenericLabels(alpha=5.0, reinforced=20, steps=40, batch=6)
    shown = step.run(model, Task(FORGET, RETAIN, token_loss))
    assert perplexity(model, *FORGET) > 2 * before[0]
    assert accuracy(model, *FORGET) <= before[1] and accuracy(model, *RETAIN) > before[2] - 0.05
    tokens = int((FORGET[1] != PAD).sum())
    assert shown.fields["tokens"] == tokens and 0 < shown.fields["replaced"] <= tokens  # type: ignore[operator]
    labels = np.frombuffer(step.kept["labels"][32:], dtype="<u4")
    assert len(labels) == tokens and (labels < VOCABULARY).all()
    assert int((labels != FORGET[1][FORGET[1] != PAD].numpy()).sum()) == shown.fields["replaced"]


def test_label_file_of_the_same_labels_has_another_digest(weights: Any) -> None:
    digests = []
    for _ in range(2):
        one = built()
        one.load_state_dict(weights)
        digests.append(GenericLabels(reinforced=2, steps=2).run(one, Task(FORGET, RETAIN, token_loss)).fields["labels"])
    assert digests[0] != digests[1]


def test_texts_are_scored_in_parts(model: Any) -> None:
    assert torch.allclose(whole(model, *RETAIN, batch=5), whole(model, *RETAIN), atol=1e-5)
