"""Subjects: stacked outputs are those of the modules one by one, and what cannot be stacked is refused."""

import pytest
import torch
from torch import Tensor, nn

from certify.audit.adapter import Params, Recipe, Torch, linear, logit_confidence, mlp
from certify.audit.shadows import unstack
from certify.errors import InputError

RECIPE = Recipe(epochs=1, rate=0.1)


def data(records: int = 12, features: int = 5, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(records, features, generator=generator), torch.arange(records) % classes


def stack(subject: Torch, count: int) -> Params:
    models = [subject.initial(seed) for seed in range(count)]
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}


@pytest.mark.parametrize("make", [linear, mlp])
def test_stacked_layers_are_the_modules_one_by_one(make: type) -> None:
    x, y = data()
    subject = make(x, y, RECIPE)
    params = stack(subject, 4)
    batches = torch.randn(4, 7, 5)
    for own, batch, outputs in zip(unstack(params), batches, subject.stacked(params, batches), strict=True):
        torch.testing.assert_close(outputs, subject.apply(own, batch))


def test_any_module_is_stacked() -> None:
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 2

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 1)
        )

    subject = Torch(make, x, y, RECIPE)
    params = stack(subject, 3)
    batches = x.expand(3, *x.shape)
    for own, outputs in zip(unstack(params), subject.stacked(params, batches), strict=True):
        torch.testing.assert_close(outputs, subject.apply(own, x), rtol=1e-4, atol=1e-5)
    trained = subject.stacked(params, batches, training=True)
    assert subject.loss(trained, y.expand(3, -1)).shape == (3, 6)
    assert not torch.allclose(trained, subject.stacked(params, batches))  # dropout works in training alone


def test_confidence_is_the_logit_of_the_own_labels_probability() -> None:
    generator = torch.Generator().manual_seed(1)
    outputs, y = torch.randn(50, 4, generator=generator, dtype=torch.float64) * 3, torch.arange(50) % 4
    own = outputs.softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(logit_confidence(outputs, y), own.logit())
    one = outputs[:, :1]
    expected = torch.where(y % 2 == 1, one[:, 0].sigmoid(), 1 - one[:, 0].sigmoid()).logit()
    torch.testing.assert_close(logit_confidence(one, y % 2), expected)


def test_confidence_of_extreme_outputs_is_finite() -> None:
    outputs = torch.tensor([[3e4, 0.0, -3e4], [-3e4, 0.0, 3e4]])
    assert logit_confidence(outputs, torch.tensor([0, 0])).tolist() == [3e4, -6e4]


def test_one_logit_and_two_classes_learn_alike() -> None:
    y = torch.tensor([0, 1, 1])
    z = torch.tensor([[-1.0], [2.0], [-3.0]])
    subject = linear(torch.randn(3, 2), y, RECIPE)
    torch.testing.assert_close(subject.loss(z, y), subject.loss(torch.cat([torch.zeros(3, 1), z], 1), y))
    assert subject.predict(z).tolist() == subject.predict(torch.cat([torch.zeros(3, 1), z], 1)).tolist() == [0, 1, 0]


def test_initial_parameters_follow_from_their_seed_alone() -> None:
    subject = mlp(*data(), RECIPE)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = subject.initial(3), subject.initial(3)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(first["0.weight"], subject.initial(4)["0.weight"])


def test_frozen_parameters_belong_to_the_base() -> None:
    def make() -> nn.Module:
        network = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
        network[0].requires_grad_(False)
        return network

    assert list(Torch(make, *data(), RECIPE).initial(0)) == ["1.weight", "1.bias"]


def test_state_of_another_model_is_refused() -> None:
    subject = mlp(*data(), RECIPE, hidden=8)
    with pytest.raises(InputError, match=r"expected a tensor '0.weight' of shape \(8, 5\), got \(9, 5\)"):
        subject.params(mlp(*data(), RECIPE, hidden=9).initial(0))
    with pytest.raises(InputError, match="got none"):
        subject.params({})


def test_a_subject_on_another_device_is_another_subject() -> None:
    """torch's meta device, which every machine has, stands for a GPU."""
    for make in (linear, mlp):
        here = make(*data(), RECIPE)
        there = here.to("meta")
        assert type(there) is type(here)
        assert {there.x.device.type, there.y.device.type, *(v.device.type for v in there.initial(1).values())} == {
            "meta"
        }
        assert {here.x.device.type, *(v.device.type for v in here.initial(1).values())} == {"cpu"}
        assert there.apply(there.initial(1), there.x).device.type == "meta"
        assert there.stacked(stack(there, 2), there.x.expand(2, -1, -1)).device.type == "meta"


def test_batch_statistics_are_refused() -> None:
    with pytest.raises(InputError, match="expected no running statistics, got BatchNorm1d at '1'"):
        Torch(lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), *data(), RECIPE)


@pytest.mark.parametrize(
    "labels", [torch.zeros(12), torch.zeros(11, dtype=torch.long), torch.zeros(12, 1, dtype=torch.long)]
)
def test_labels_of_another_kind_are_refused(labels: Tensor) -> None:
    with pytest.raises(InputError, match="whole-number labels"):
        Torch(lambda: nn.Linear(5, 3), data()[0], labels, RECIPE)


def test_a_recipe_that_trains_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Recipe(epochs=0, rate=0.1)
