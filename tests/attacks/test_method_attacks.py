"""Certificates that claim another run of a method than there was: refused by what a verifier recomputes, and only by that.

Each lie is seen to pass without the method's check. What no certificate can show by itself (which records a gradient was of,
say) is not here: its line begins "by the operator's word".
"""

import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from certify.workspace import Workspace  # noqa: E402
from circuits.steps.ablation import Ablation  # noqa: E402
from circuits.steps.ascent import GradientAscent  # noqa: E402
from circuits.steps.gradient_difference import GradientDifference  # noqa: E402
from circuits.steps.pruning import Pruning  # noqa: E402
from circuits.steps.retrain import Retrain  # noqa: E402
from circuits.steps.scrub import Scrub  # noqa: E402
from circuits.steps.step import UpdateStep  # noqa: E402
from circuits.steps.unsir import Unsir  # noqa: E402
from tests.method_cases import Lie, Said, lying, refused  # noqa: E402

RETRAIN, ASCENT = Retrain(epochs=2, batch=4), GradientAscent(rate=0.1, steps=2)
DIFFERENCE, SCRUB = GradientDifference(rate=0.1, steps=2), Scrub(rate=0.1, rounds=2, up=1, batch=4)
UNSIR, PRUNING, ABLATION = Unsir(noises=4, noise_steps=1, batch=4), Pruning(("0",), 0.3), Ablation(("2",))
SHOWN_PRUNING, SHOWN_ABLATION = Pruning(("0",), 0.3, reveal=True), Ablation(("2",), reveal=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace


def says(**fields: object) -> Lie:
    """State other fields."""
    return lambda said: said.fields.update(fields)


def told(**parameters: object) -> Lie:
    """State that the method was told something else."""
    return lambda said: said.parameters.update(parameters)


def moves(name: str) -> Lie:
    """Change a tensor behind the method's back."""

    def lie(said: Said) -> None:
        with torch.no_grad():
            said.model.state_dict()[name].add_(0.25)

    return lie


def attaches(layer: int, name: str, data: bytes | None) -> Lie:
    """Another attachment, or one whose first number is another."""

    def lie(said: Said) -> None:
        fields = said.fields["layers"][layer] if "layers" in said.fields else said.fields
        at = [sha256(one).hexdigest() for one in said.attachments].index(fields[name])
        new = data if data is not None else struct.pack("<f", 9.5) + said.attachments[at][4:]
        said.attachments[at] = new
        fields[name] = sha256(new).hexdigest()

    return lie


def wider(said: Said) -> None:
    """Another layer's tensors do not belong."""
    said.fields["tensors"] = ["0.weight", "9.weight"]


def all_kept(said: Said) -> None:
    """Scores that let the worst channel off."""
    layer = said.fields["layers"][0]
    scores = list(struct.unpack("<6d", said.attachments[0]))
    scores[scores.index(max(scores))] = 0.0
    said.attachments[0] = struct.pack("<6d", *scores)
    layer["scores"] = sha256(said.attachments[0]).hexdigest()


def hides_bias(said: Said) -> None:
    del said.fields["layers"][0]["biasBefore"]
    said.attachments.pop()


def hides_after(said: Said) -> None:
    del said.fields["layers"][0]["after"]
    said.attachments.pop()


def twice(said: Said) -> None:
    said.fields["layers"] *= 2


LIES: list[tuple[str, UpdateStep, str, Lie, str]] = [
    ("retrained_on_all", RETRAIN, "records", says(records=18, steps=10), "used 18 records as retained ones, 15 are"),
    ("fewer_steps_than_epochs", RETRAIN, "records", says(steps=4), "took 4 steps, 2 epochs of 15 records.* are 8"),
    ("more_epochs_than_told", RETRAIN, "records", says(epochs=9, steps=36), "was told epochs 2, its detail says 9"),
    ("ascent_on_fewer", ASCENT, "records", says(forgotten=1), "used 1 records as removed ones, 3 are removed"),
    ("ascent_moves_more", ASCENT, "records", says(tensors=["0.bias", "0.weight"]), "changed 2.weight|changed 2.bias"),
    ("ascent_of_no_tensor", ASCENT, "records", wider, "works on 9.weight, which the model before does not have"),
    ("tensors_twice", ASCENT, "records", says(tensors=["0.bias", "0.bias"]), "does not name its tensors once each"),
    ("ascent_at_another_rate", ASCENT, "records", told(rate=0.5), "was told rate 0.5, its detail says 0.1"),
    ("difference_keeps_less", DIFFERENCE, "records", says(retained=5), "used 5 records as retained ones, 15 are"),
    ("difference_weight", DIFFERENCE, "records", says(weight=3.0), "was told weight 1, its detail says 3"),
    ("scrub_leaves_rounds_out", SCRUB, "records", says(steps=3), "took 3 steps, 2 rounds of 4 and 1 of 1 are 9"),
    ("scrub_goes_up_less", SCRUB, "records", says(up=0, steps=8), "was told up 1, its detail says 0"),
    ("unsir_for_records", UNSIR, "records", says(), "by a method for the scope class, a request is of records"),
    ("unsir_without_repair", UNSIR, "class", says(steps=4), "took 4 steps, its epochs .* come to 7"),
    ("noise_too_short", UNSIR, "class", attaches(0, "noise", b"\0" * 60), "noise has 60 bytes, expected 4 for each of 16"),
    ("noise_not_finite", UNSIR, "class", attaches(0, "noise", b"\0\0\xc0\x7f" * 16), "a number that is not finite"),
    ("another_mask", PRUNING, "class", attaches(0, "mask", bytes(6)), "its mask is not that of its scores"),
    ("mask_too_short", PRUNING, "class", attaches(0, "mask", bytes(5)), "mask has 5 bytes, expected 1 for each of 6"),
    ("channel_let_off", PRUNING, "class", all_kept, "its mask is not that of its scores and its threshold"),
    ("another_share", PRUNING, "class", says(share=0.6), "was told share 0.3, its detail says 0.6"),
    ("prunes_elsewhere", PRUNING, "class", moves("2.weight"), "changed 2.weight, which is not among the tensors"),
    ("prunes_twice", PRUNING, "class", twice, "prunes a layer twice"),
    ("zeroes_less", SHOWN_PRUNING, "class", moves("0.weight"), "is not 0.weight as the model after has it"),
    ("reveals_others", SHOWN_PRUNING, "class", attaches(0, "weightBefore", None), "not 0.weight as the model before has"),
    ("hides_a_bias", SHOWN_PRUNING, "class", hides_bias, "reveals some of its tensors, and not its bias"),
    ("ablation_for_a_class", ABLATION, "class", says(), "by a method for the scope concept, a request is of class"),
    ("direction_too_long", ABLATION, "concept", attaches(0, "direction", struct.pack("<7d", 1, *[0] * 6)), "56 bytes"),
    ("no_unit_vector", ABLATION, "concept", attaches(0, "direction", struct.pack("<6d", *[0.5] * 6)), "norm 1.22"),
    ("ablates_elsewhere", ABLATION, "concept", moves("2.bias"), "changed 2.bias, which is not among the tensors"),
    ("another_direction", SHOWN_ABLATION, "concept", attaches(0, "direction", struct.pack("<6d", 1, *[0] * 5)), "out: expected"),
    ("reveals_no_model", SHOWN_ABLATION, "concept", attaches(0, "before", None), "not 2.weight as the model before has it"),
    ("hides_what_came_out", SHOWN_ABLATION, "concept", hides_after, "before or after only, expected both"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "scope", "lie", "why"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_lie_is_refused(
    step: UpdateStep,
    scope: str,
    lie: Lie,
    why: str,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused(lying(workspace, step, scope, lie, monkeypatch), tmp_path, why, monkeypatch)
