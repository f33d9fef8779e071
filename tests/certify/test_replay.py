"""Replaying: what is pinned, what is told beforehand, which data and recipes are refused, and what is stated."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from msgspec.structs import replace  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from certify import case as cases  # noqa: E402
from certify import dataset, replay, replay_child, replay_job  # noqa: E402
from certify.audit_salts import Salts  # noqa: E402
from certify.bundle import Bundle  # noqa: E402
from certify.envelope import sign  # noqa: E402
from certify.environment import VARIABLES, describe  # noqa: E402
from certify.errors import InputError, MismatchError, StatementError, WorkspaceError  # noqa: E402
from certify.keys import SigningKey  # noqa: E402
from certify.records import read_records  # noqa: E402
from certify.statement import Method, Run, Statement, Training  # noqa: E402
from certify.times import format_time, now  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.cases import ENVIRONMENT, usual_case  # noqa: E402
from tests.replay_cases import key  # noqa: E402
from tests.replay_cases import replay as stated  # noqa: E402

RECIPE = """
import torch

def fit(records, epochs, seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2))
    x = torch.tensor([record["x"] for record in records])
    y = torch.tensor([record["y"] for record in records])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model

def train(records, parameters, seeds):
    return fit(records, parameters["epochs"], seeds[0])

def unlearn(records, removed, parameters, seeds):
    kept = [record for position, record in enumerate(records) if position not in set(removed)]
    return fit(kept, parameters["epochs"], seeds[0])
"""

OPERATOR = """
import json, runpy, sys
import torch
import certify
from certify.audit_salts import Salts
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
recipe = runpy.run_path("recipe.py")
rows = {row.pop("id"): row for row in map(json.loads, open("data.jsonl"))}
records = list(rows.values())
told = {"epochs": 12}
with certify.Workspace("ledger") as ledger:
    model = recipe["train"](records, told, [3])
    with certify.training(model, ledger=ledger, data=rows, method="adam", parameters=told, seeds=[3], recipe="recipe.py"):
        pass
    request = certify.file_request(ledger, {"r5": rows["r5"]}, ground="gdpr-17")
    with certify.unlearning(
        model, ledger=ledger, request=request, method="again", parameters=told, seeds=[3], recipe="recipe.py"
    ) as run:
        run.model = recipe["unlearn"](records, [5], told, [3])
    run.bundle("case.bundle")
"""

PINNED = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "11"}


@dataclass(frozen=True)
class World:
    """What an operator has who ran the recipe elsewhere, with other kernels and threads than this process."""

    folder: Path
    about: replay.Target

    @property
    def records(self) -> Any:
        return read_records(self.folder / "data.jsonl")

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.py"

    def salts(self) -> Salts:
        with Workspace(self.folder / "ledger") as workspace:
            training = next(iter(workspace.statements())).statement.predicate
            assert isinstance(training, Training)
            root = training.dataset.root
            salts = tuple(opening.salt for opening in workspace.vault.openings(root))
            return Salts(workspace.vault.leaves(root), salts, self.about.removed)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("replay")
    (folder / "recipe.py").write_text(RECIPE)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 16, generator=generator, dtype=torch.float64)
    lines = [{"id": f"r{i}", "x": row.tolist(), "y": int(row[0] > 0)} for i, row in enumerate(x)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Workspace.init(folder / "ledger", origin="example.com/ledger", issuer="Clinic", password=None).close()
    root = str(Path(__file__).parents[2])
    variables = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    variables |= {"PYTHONPATH": root, **PINNED}
    subprocess.run([sys.executable, "-c", OPERATOR], cwd=folder, env=variables, check=True)
    return World(folder, replay.target(Bundle.parse((folder / "case.bundle").read_bytes())))


def run(world: World, about: replay.Target | None = None) -> tuple[list[str], Any]:
    """What was told beforehand, and what would be stated."""
    about = about or world.about
    data = replay.match_data(about, world.records, world.salts())
    with replay.prepare(about, world.recipe, data) as job:
        told, result = job.not_pinned, job.run()
    return told, replay.state(about, replay.read_recipe(world.recipe), data, result)


def test_recipe_gives_the_same_bits_as_it_did_elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has other threads, kernels and variables; the certificate's are what counts."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MKL_DYNAMIC", "TRUE")
    told, said = run(world)
    assert told == said.not_pinned == []
    assert (said.outcome, said.model) == ("identical", world.about.certificate.post)
    assert said.environment.settings["ATEN_CPU_CAPABILITY"] == "default"
    assert said.environment.threads == 1
    assert said.environment.settings["torch.deterministic_algorithms"] == "true"
    assert "MKL_DYNAMIC" not in said.environment.settings
    assert (said.data, said.unchecked, said.before) == (world.about.training.dataset, 0, "none")
    assert replay.check_recipe(world.about, said.recipe)
    Statement((), said)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="this CPU has one set of kernels, so nothing to pin"
)
def test_what_is_not_pinned_makes_other_bits_and_is_told(world: World) -> None:
    """The same, as if the certificate had recorded this machine's own kernels: what pinning is for."""
    recorded = world.about.certificate.environment
    settings = {
        name: value for name, value in recorded.settings.items() if name not in ("ATEN_CPU_CAPABILITY", "MKL_CBWR")
    }
    own = describe().settings["torch.cpu_capability"]
    changed = replace(recorded, settings=settings | {"torch.cpu_capability": own, "cpu": "another one"})
    about = copy(world.about, certificate=replace(world.about.certificate, environment=changed))
    told, said = run(world, about)
    assert any(line.startswith("cpu was another one, is ") for line in told)
    assert said.outcome == "different" and said.differing == 4
    assert said.names == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert said.not_pinned == told


def test_no_secret_reaches_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTIFY_PASSWORD", "correct horse")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    found = replay_job.variables(ENVIRONMENT)
    assert not set(found) & {"CERTIFY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MKL_CBWR"}


def test_kernels_are_held_to_those_recorded() -> None:
    old = replace(ENVIRONMENT, settings={"torch.cpu_capability": "AVX2"})
    assert replay_job.variables(old)["ATEN_CPU_CAPABILITY"] == "avx2"
    named = replace(ENVIRONMENT, settings={"torch.cpu_capability": "AVX2", "ATEN_CPU_CAPABILITY": "default"})
    assert replay_job.variables(named)["ATEN_CPU_CAPABILITY"] == "default"


def test_every_recorded_setting_is_pinned_or_told() -> None:
    """For whatever the environment records, another value does not go unnoticed."""
    found = describe()
    settings = dict.fromkeys(VARIABLES, "a") | found.settings | {"torch.cudnn.benchmark": "true"}
    recorded = replace(found, settings=settings)
    assert replay_job.not_pinned(recorded, recorded) == []
    silent = [
        name
        for name in settings
        if not replay_job.not_pinned(
            recorded, replace(found, settings=settings | {name: "1" if name == "cpus" else "b"})
        )
    ]
    assert silent == (["cpus"] if found.settings["cpus"] == "1" else [])
    for changes in (
        {"python": "2.7"},
        {"platform": "Plan9 mips"},
        {"libraries": {**found.libraries, "torch": "1.0"}},
        {"libraries": {}},
        {"threads": found.threads + 1},
        {"device": "NVIDIA X"},
    ):
        assert replay_job.not_pinned(recorded, replace(recorded, **changes)), changes


def test_hostile_settings_do_no_harm() -> None:
    """A certificate is somebody else's: it cannot ask for a million threads, or for variables that no process can have."""
    for text, found in (("4", 4), ("-4", 0), ("9" * 5000, 0), ("²", 0), (None, 0)):
        assert replay_child.number(text) == found
    with pytest.raises(InputError, match="expected printable"):
        replay_job.variables(replace(ENVIRONMENT, settings={"MKL_CBWR": "a\0b"}))
    assert "LD_PRELOAD" not in replay_job.variables(replace(ENVIRONMENT, settings={"LD_PRELOAD": "evil.so"}))
    replay_job.not_pinned(replace(ENVIRONMENT, settings={"cpus": "many"}), describe())


def test_what_was_not_recorded_is_told() -> None:
    told = replay_job.not_pinned(ENVIRONMENT, describe())
    assert any(line.startswith("cpu was not recorded") for line in told)
    assert any(line.startswith("torch.interop_threads was not recorded") for line in told)


# -- data ----------------------------------------------------------------------------------------------------------------


def test_data_that_were_not_committed_to_are_refused(world: World) -> None:
    salts, records = world.salts(), list(world.records)
    records[7] = (records[7][0], records[7][1].replace(b'"y":', b'"z":'))
    with pytest.raises(MismatchError, match="record 7 of the data"):
        replay.match_data(world.about, records, salts)
    assert replay.match_data(world.about, records, None).checked is None
    with pytest.raises(MismatchError, match="38 records, expected 40, or the 39"):
        replay.match_data(world.about, world.records[2:], salts)
    swapped = [records[1], records[0], *world.records[2:]]
    with pytest.raises(MismatchError, match="record 0 of the data"):
        replay.match_data(world.about, swapped, salts)


def test_forgotten_records_need_not_be_at_hand(world: World) -> None:
    records = [record for position, record in enumerate(world.records) if position != 5]
    data = replay.match_data(world.about, records, world.salts())
    assert data.records[5] is None and data.records[6] == world.records[6][1]
    assert (data.checked, data.unchecked) == (world.about.training.dataset, 0)


def test_destroyed_salts_are_counted(world: World) -> None:
    salts = world.salts()
    gone = Salts(salts.leaves, (b"", *salts.salts[1:]), salts.removed)
    assert replay.match_data(world.about, world.records, gone).unchecked == 1


def test_salts_of_other_data_are_refused(world: World) -> None:
    made = dataset.commit(record for _, record in world.records)
    others = Salts(made.leaves, tuple(dataset.split(made.salts)), world.about.removed)
    with pytest.raises(MismatchError, match="the salts are of dataset"):
        replay.match_data(world.about, world.records, others)


def test_other_weights_to_start_from_are_refused(world: World, tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(MismatchError, match="the weights before have tensor root"):
        replay.check_before(world.about, tmp_path / "w.safetensors")


def test_bundle_without_positions_cannot_be_replayed() -> None:
    bare = copy(usual_case().bundle(), leaves={}, removed={})
    with pytest.raises(InputError, match="does not say which records were removed"):
        replay.target(bare)


# -- recipes -------------------------------------------------------------------------------------------------------------


def child(tmp_path: Path, recipe: str, **changes: Any) -> Mapping[str, Any]:
    """Run a recipe in this process; the tensors that came out."""
    (tmp_path / "recipe.py").write_text(textwrap.dedent(recipe))
    (tmp_path / "records.jsonl").write_text('{"x":1}\nnull\n{"x":3}\n')
    method = {"parameters": {"rate": 2}, "seeds": ["5"]}
    job = {
        "recipe": str(tmp_path / "recipe.py"),
        "removed": [1],
        "earlier": [],
        **method,
        "training": {"parameters": {"rate": 3}, "seeds": ["6"]},
        "before": None,
        "trains": True,
    }
    replay_child._run(tmp_path, job | changes)
    found: Mapping[str, Any] = load_file(tmp_path / "after.safetensors")
    return found


def test_recipe_takes_what_it_names(tmp_path: Path) -> None:
    recipe = """
        import torch
        def unlearn(seeds, records, removed, parameters, earlier):
            assert records == [{"x": 1}, None, {"x": 3}] and removed == [1] and earlier == [2]
            return {"w": torch.tensor([parameters["rate"], seeds[0]])}
    """
    assert child(tmp_path, recipe, earlier=[2])["w"].tolist() == [2, 5]


def test_recipe_trains_first_where_it_starts_from_weights(tmp_path: Path) -> None:
    recipe = """
        import torch
        def train(records, parameters, seeds):
            return {"w": torch.tensor([float(parameters["rate"] + seeds[0])])}
        def unlearn(before):
            return {"w": before["w"] + 1, "t": before["w"].t()}
    """
    with pytest.raises(TypeError, match="train\\(\\) needs all records"):
        child(tmp_path, recipe)
    (tmp_path / "before.safetensors").unlink(missing_ok=True)
    save_file({"w": torch.tensor([7.0])}, tmp_path / "given.safetensors")
    assert child(tmp_path, recipe, before=str(tmp_path / "given.safetensors"))["w"].tolist() == [8]


@pytest.mark.parametrize(
    ("recipe", "changes", "why"),
    [
        ("def forget(): ...", {}, "expected a function unlearn"),
        ("def unlearn(model): ...", {}, "unlearn\\(\\) takes model, expected some of"),
        ("def unlearn(records): return 3", {}, "expected a state dict or a module from the recipe, got int"),
        ("def unlearn(records): return {'w': 3}", {}, "expected a state dict"),
        ("def unlearn(before): return before", {}, "give them with --before, or have a train"),
        ("def train(records): ...\ndef unlearn(before): ...", {"trains": False}, "give them with --before"),
        ("def unlearn(records): ...", {"earlier": [0]}, "expected unlearn\\(\\) to take `earlier`"),
    ],
)
def test_recipes_that_cannot_be_run_say_why(tmp_path: Path, recipe: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TypeError, match=why):
        child(tmp_path, recipe, **changes)


@contextmanager
def job(tmp_path: Path, recipe: str) -> Iterator[replay_job.Job]:
    path = tmp_path / "broken.py"
    path.write_text(recipe)
    environment = replace(describe(), settings={})
    with replay_job.Job(
        path,
        [b'{"x":1}'],
        removed=[],
        earlier=[],
        method=Method("own"),
        training=Method("adam"),
        recorded=environment,
    ) as made:
        yield made


def test_recipe_that_fails_is_one_line_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = """
import os
print("to the replayer")
def unlearn(records):
    assert "CERTIFY_PASSWORD" not in os.environ
    raise ValueError("no such thing")
"""
    with job(tmp_path, recipe) as made:
        folder = made._folder
        assert not (folder / "after.safetensors").exists()
        with pytest.raises(InputError, match=r"the recipe failed: ValueError: no such thing \(broken.py, line 6\)"):
            made.run()
    assert not folder.exists()
    out, err = capfd.readouterr()
    assert out == "" and "to the replayer" in err


def test_nothing_of_the_recipe_runs_before_it_is_told_to(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with job(tmp_path, f"open({str(mark)!r}, 'w')\ndef unlearn(): ...\n") as made:
        assert made.environment.python
        assert made._process.poll() is None and not mark.exists()
    assert made._process.returncode is not None and not mark.exists()


# -- statements ----------------------------------------------------------------------------------------------------------


def test_statement_is_logged_as_it_came(world: World) -> None:
    with Workspace(world.folder / "ledger") as workspace:
        case = workspace.latest("unlearning")
        said = stated(case.envelope, log=workspace.origin, run=_today()).predicate
        envelope = replay.signed(key(), said)  # type: ignore[arg-type]
        with pytest.raises(StatementError, match="an issuer signed this"):
            replay.log_envelope(workspace, replay.signed(workspace.issuer_key, said).data)  # type: ignore[arg-type]
        assert replay.log_envelope(workspace, envelope.data)[1] is None
        logged, signer = replay.log_envelope(workspace, envelope.data, [key().public])
        assert signer == key().public
        collected = cases.collect(workspace, case)
        assert [entry.index for entry in collected.entries][-1] == logged.index
        for changes, why, kind in (
            ({"certificate": "ab" * 32}, "the log has no certificate", WorkspaceError),
            ({"log": "other.example/log"}, "made for log", StatementError),
            ({"run": replace(said.run, finished="2999-01-01T00:00:00Z")}, "in the future", StatementError),
        ):
            wrong = replay.signed(SigningKey.generate("ed25519"), replace(said, **changes))  # type: ignore[arg-type]
            with pytest.raises(kind, match=why):
                replay.log_envelope(workspace, wrong.data)
        with pytest.raises(StatementError, match="expected a replay"):
            replay.log_envelope(workspace, sign(case.envelope.payload, [key()]).data)


def _today() -> Run:
    return Run("0" * 32, format_time(now()), format_time(now()))


def test_more_differences_than_a_statement_holds_are_counted() -> None:
    assert replay.short(["a\nb"]) == ["a b"]
    found = replay.short([f"line {i}" for i in range(100)])
    assert len(found) == 48 and found[-1] == "53 more"
