"""The mask against the definition, record by record."""

import torch

from circuits.exclusion import distances, mask, without_salt
from circuits.layout import Layout


def test_distances_are_those_of_the_definition() -> None:
    x, f = torch.randint(-900, 900, (50, 7)).double(), torch.randint(-900, 900, (3, 7)).double()
    direct = ((x[:, None, :] - f[None, :, :]) ** 2).sum(-1)
    assert torch.equal(distances(x, f), direct)  # integers: exact


def test_a_record_at_the_border_is_out_and_one_beyond_is_in() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 6.0], [5.0, 1.0], [0.0, 0.0]])
    f = torch.zeros(1, 2)
    assert mask(x, [f], 25)[:, 0].tolist() == [0, 1, 1, 0]
    assert mask(x, [f], 26)[:, 0].tolist() == [0, 1, 0, 0]


def test_each_of_several_forgotten_records_excludes_its_neighbours() -> None:
    x = torch.tensor([[0.0], [10.0], [20.0], [30.0], [11.0]])
    f = torch.tensor([[0.0], [10.0], [30.0]])
    assert mask(x, [f], 1)[:, 0].tolist() == [0, 0, 1, 0, 0]
    assert mask(x, [f[:1], f[1:]], 1)[:, 0].tolist() == [0, 0, 1, 0, 0]  # of two requests


def test_salt_is_cut_off() -> None:
    layout = Layout(2, 2, 11, proofs=0)
    salted = torch.arange(layout.count).reshape(layout.shape)
    assert without_salt(salted, layout).tolist() == layout.matrix(list(range(layout.count)))
