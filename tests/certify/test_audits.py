"""Audits, from a plan to a verified bundle, with a tiny model: and what ``run`` refuses before it logs anything."""

import shutil
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from dataclasses import replace as copy
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import fields, replace
from safetensors.torch import save_file

from certify import audit_run, audit_subject, auditing, certificate, dataset
from certify.audit import shadows, verdict
from certify.audit_salts import Salts
from certify.audit_terms import (
    MAX_EXAMPLES,
    Arm,
    Claim,
    EpsilonBound,
    Estimate,
    Example,
    Figures,
    Rules,
    Tail,
    TruePositives,
    Utility,
)
from certify.bundle import Bundle
from certify.case import collect
from certify.certificate import Made, new_run_id
from certify.envelope import Envelope, sign
from certify.errors import (
    DatasetError,
    EnvelopeSignatureError,
    FailedAuditError,
    InputError,
    MismatchError,
    StatementError,
    TrustError,
    WorkspaceError,
)
from certify.keys import SigningKey
from certify.records import records_of
from certify.request import file_request
from certify.safetensors import digest_weights
from certify.statement import TENSOR_ROOT, Audit, AuditPlan, Method, Run, Statement, Unlearning, subject
from certify.times import format_time, now
from certify.trust import AuditPolicy, Trust, TrustedAuditor, format_trust
from certify.verifier import verify
from certify.workspace import Logged, Workspace
from tests.audit_cases import FAILED, PASSED, PLAN, audited_case, key, trust
from tests.cases import ENVIRONMENT, NOW

ADAPTER = Path(__file__).parents[1] / "audit_adapter.py"
RULES = verdict.Plan(seed="2", shadows=16, retrained=2, margin=0.2, utility_margin=0.3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for one another on a busy machine take a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class World:
    """An operator's ledger with a certificate at entry 2, an auditor, and what both have on disk."""

    folder: Path
    key: SigningKey

    @property
    def keys(self) -> Path:
        return self.folder / "auditor.pem"

    def ledger(self) -> Workspace:
        return Workspace(self.folder / "ledger")

    def weights(self, name: str) -> list[Path]:
        return [self.folder / f"{name}.safetensors"]

    def trust(self, **policy: bool) -> Trust:
        theirs = Trust.load(self.folder / "ledger" / "trust.toml")
        auditor = TrustedAuditor("Example Audits", self.key.public)
        return copy(theirs, auditors=(auditor,), audits=AuditPolicy(**policy))


def make_world(folder: Path, post: str = "unlearned") -> World:
    """Trained on 110 records, asked to forget 50 of them, retrained without them."""
    loaded = audit_subject.load(ADAPTER)
    subject, records = loaded.subject, loaded.records
    for name, places in (("original", loaded.training), ("unlearned", records.retain)):
        [made] = shadows.unstack(shadows.train(subject, [places], [name]))
        save_file({tensor: value.contiguous() for tensor, value in made.items()}, folder / f"{name}.safetensors")
        touched = {tensor: value + 1e-5 for tensor, value in made.items()}
        save_file(touched, folder / f"{name}-touched.safetensors")
    rows = {f"p{place}": loaded.record(int(place)) for place in loaded.training}
    with Workspace.init(folder / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as ledger:
        certificate.log_training(ledger, _made(folder / "original.safetensors"), records_of(rows))
        asked = file_request(ledger, {f"p{place}": rows[f"p{place}"] for place in records.forget}, ground="gdpr-17")
        before = digest_weights(folder / "original.safetensors")
        certificate.log_unlearning(ledger, _made(folder / f"{post}.safetensors"), pre=before, requests=[asked])
    key = SigningKey.generate("ed25519")
    key.save(folder / "auditor.pem", None)
    return World(folder, key)


def _made(weights: Path) -> Made:
    moment = format_time(now())
    return Made(digest_weights(weights), Method("adam"), Run(new_run_id(), moment, moment), ENVIRONMENT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Not to be changed."""
    return make_world(tmp_path_factory.mktemp("audited"))


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy to work in."""
    return World(Path(shutil.copytree(made.folder, tmp_path / "world")), made.key)


class Auditing:
    """Plans and runs, as the command does."""

    def __init__(self, world: World, adapter: Path = ADAPTER) -> None:
        self.world = world
        self.loaded = audit_subject.load(adapter)
        self.committed = audit_subject.hold_out(self.loaded)

    def chain(self, ledger: Workspace) -> list[Logged]:
        return auditing.chain_of(ledger, auditing.find(ledger), [self.world.key.public])

    def plan(self, rules: verdict.Plan = RULES) -> Logged:
        with self.world.ledger() as ledger:
            chain = self.chain(ledger)
            stated = audit_run.make_plan(
                ledger.origin,
                auditing.find(ledger),
                self.loaded,
                rules,
                audit_subject.held_out(self.loaded, self.committed.salts),
                stale_after_days=90,
                previous=chain[-1].digest if chain else None,
            )
            return auditing.log(ledger, self.world.key, stated)

    def prepare(
        self, ledger: Workspace, *, unlearned: str = "unlearned", original: str = "original", salts: Salts | None = None
    ) -> audit_run.Attack:
        return audit_run.prepare(
            auditing.current(self.chain(ledger))[1],
            auditing.find(ledger),
            self.loaded,
            held_out_salts=self.committed.salts,
            original=self.world.weights(original),
            unlearned=self.world.weights(unlearned),
            salts=salts,
        )

    def run(self, **models: str) -> tuple[Logged, audit_run.Result]:
        with self.world.ledger() as ledger:
            chain = self.chain(ledger)
            attack = self.prepare(ledger, salts=salts_of(self.world), **models)
            with audit_run.attempt(ledger, self.world.key, chain, auditing.current(chain)[0], attack) as attempt:
                result = attack.run(self.world.folder / "audit")
                return attempt.finish(result, attack.untested), result


def salts_of(world: World) -> Salts:
    """As ``certify audit salts`` writes them."""
    with world.ledger() as ledger:
        target = auditing.find(ledger)
        openings = ledger.vault.openings(target.training.root)
        removed = ledger.vault.note(f"removed/{target.logged.digest}")
        return Salts(
            ledger.vault.leaves(target.training.root), tuple(opening.salt for opening in openings), tuple(removed)
        )


def bundle_of(world: World) -> bytes:
    with world.ledger() as ledger:
        return collect(ledger, ledger.latest("unlearning")).to_bytes()


# -- end to end ----------------------------------------------------------------------------------------------------------


def test_from_a_plan_to_what_a_regulator_sees(world: World) -> None:
    auditor = Auditing(world)
    planned = auditor.plan()
    logged, result = auditor.run()
    assert result.verdict.outcome == "PASS"
    data = bundle_of(world)
    assert [entry.index for entry in Bundle.parse(data).entries] == [0, 1, 2, 3, 4, 5]
    report = verify(data, world.trust(required=True))
    [audited] = report.audits
    assert (audited.auditor, audited.verdict, audited.index) == ("Example Audits", "PASS", logged.index)
    assert audited.power == result.figures.power > 0.5
    assert report.grade == "attested"
    assert str(audited) in " ".join(report.steps[9].established)
    assert [planned.index, 4, 5] == [int(line.split()[1].rstrip(":")) for line in audited.history]
    assert any("lower bound" in limit for limit in report.limits)
    assert any("the model's copy on paper" in limit for limit in report.limits)
    assert not any("committed to at training" in what for what in audited.untested)  # the salts were at hand
    unknown = verify(data, copy(world.trust(), auditors=()))
    assert unknown.audits == ()
    said = logged.statement.predicate
    assert isinstance(said, Audit) and said.model.tensor_root == report.tensor_root
    assert {"agreement", "retain-ratio", "test-ratio", "retraining-seconds"} <= said.metrics.keys()


def test_model_that_forgot_nothing_fails(tmp_path: Path) -> None:
    world = make_world(tmp_path, post="original-touched")
    auditor = Auditing(world)
    auditor.plan()
    _, result = auditor.run(unlearned="original-touched")
    assert result.verdict.outcome == "FAIL"
    data = bundle_of(world)
    with pytest.raises(FailedAuditError, match="FAILED AUDIT: Example Audits found FAIL") as caught:
        verify(data, world.trust())
    assert caught.value.exit_code == 18
    report = verify(data, world.trust(), allow_failed_audit=True)
    assert report.audits[0].verdict == "FAIL"
    assert report.audits[0].reasons == result.verdict.reasons


def test_same_plan_finds_the_same_and_takes_up_shadows(world: World) -> None:
    auditor = Auditing(world)
    auditor.plan()
    _, first = auditor.run()
    chunks = sorted((world.folder / "audit" / "shadows").iterdir())
    before = [chunk.stat().st_mtime_ns for chunk in chunks]
    logged, second = auditor.run()
    assert chunks and [chunk.stat().st_mtime_ns for chunk in chunks] == before
    assert first.figures == second.figures and first.scores == second.scores
    said = logged.statement.predicate
    assert isinstance(said, Audit) and said.attempt == 2
    assert verify(bundle_of(world), world.trust()).audits[0].earlier == ("PASS",)


# -- what is refused before anything is logged -----------------------------------------------------------------------


def edited(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = ADAPTER.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "adapter.py"
    path.write_text(text)
    return path


def refused(world: World, match: str, *, adapter: Path = ADAPTER, salts: Salts | None = None, **models: str) -> None:
    auditor = Auditing(world)
    auditor.plan()
    other = Auditing(world, adapter)
    other.committed = auditor.committed
    with world.ledger() as ledger:
        size = ledger.extent()
        with pytest.raises(MismatchError, match=match):
            other.prepare(ledger, salts=salts, **models)
        assert ledger.extent() == size


def test_run_refuses_another_model_than_the_certified_one(world: World) -> None:
    refused(world, "the unlearned model given has tensor root", unlearned="unlearned-touched")
    refused(world, "the original model given has tensor root", original="unlearned")


def test_run_refuses_another_adapter_than_the_planned_one(world: World, tmp_path: Path) -> None:
    refused(world, "the adapter has SHA-256", adapter=edited(tmp_path, ("hidden=24", "hidden=25")))


def test_run_refuses_held_out_records_that_were_changed(world: World) -> None:
    auditor = Auditing(world)
    auditor.plan()
    auditor.committed = audit_subject.hold_out(auditor.loaded)  # other salts
    with world.ledger() as ledger, pytest.raises(MismatchError, match="they were changed"):
        auditor.prepare(ledger)
    auditor.committed = copy_bytes(auditor.committed.salts[:-32])
    with world.ledger() as ledger, pytest.raises(InputError, match="expected 50 salts"):
        auditor.prepare(ledger)


def copy_bytes(salts: bytes) -> dataset.Commitments:
    return dataset.Commitments(salts, salts)


def test_held_out_records_that_overlap_training_are_refused(tmp_path: Path) -> None:
    """By the file's own records, whoever wrote it."""
    overlapping = ("held_out=places[110:160]", "held_out=places[100:150]")
    with pytest.raises(InputError, match="at most one of"):
        audit_subject.load(edited(tmp_path, overlapping))
    copies = (
        "x, y = torch.tensor",
        "_features[110:115] = _features[0:5]; _labels[110:115] = _labels[0:5]\nx, y = torch.tensor",
    )
    with pytest.raises(InputError, match="nobody learnt"):
        audit_subject.load(edited(tmp_path, copies))


def test_held_out_records_that_open_leaves_of_the_training_data_are_refused(world: World, tmp_path: Path) -> None:
    """The file gives other numbers for what it trains on, so that its own records look different: the leaves decide."""
    disguised = (
        "    return [*x[place].tolist(), int(y[place])]",
        "    place = place if not 110 <= place < 113 else place - 110\n    return [*x[place].tolist(), int(y[place])]",
    )
    adapter = edited(tmp_path, disguised)
    auditor = Auditing(world, adapter)
    auditor.plan()
    with world.ledger() as ledger:
        auditor.prepare(ledger)  # nothing to see without salts
        with pytest.raises(MismatchError, match="held-out record 0 is training record 0, and 2 more"):
            auditor.prepare(ledger, salts=salts_of(world))


def test_data_that_were_not_committed_to_are_refused(world: World, tmp_path: Path) -> None:
    other = edited(tmp_path, ("int(y[place])]", "int(y[place] == 0)]"))
    auditor = Auditing(world, other)
    auditor.plan()
    with world.ledger() as ledger, pytest.raises(MismatchError, match=r"training record 0 .* is not the one"):
        auditor.prepare(ledger, salts=salts_of(world))


def test_other_records_to_forget_than_the_certificate_removed_are_refused(world: World, tmp_path: Path) -> None:
    swapped = ("retain=places[:60], forget=places[60:110]", "retain=places[50:110], forget=places[:50]")
    auditor = Auditing(world, edited(tmp_path, swapped))
    auditor.plan()
    with world.ledger() as ledger, pytest.raises(MismatchError, match="not those that the certificate removed"):
        auditor.prepare(ledger, salts=salts_of(world))


def test_salts_of_another_data_set_are_refused(world: World) -> None:
    salts = salts_of(world)
    for wrong, match in (
        (copy(salts, leaves=salts.leaves[::-1]), "the salts are of dataset"),
        (copy(salts, removed=salts.removed[1:]), "the positions beside the salts"),
    ):
        refused(world, match, salts=wrong)
    assert Salts.parse(salts.to_json()) == salts
    for data in (b"{}", salts.to_json().replace(b"audit-salts/v1", b"audit-salts/v2"), salts.to_json() + b" "):
        with pytest.raises(DatasetError):
            Salts.parse(data)


def test_salts_that_were_destroyed_are_said_to_be(world: World) -> None:
    salts = salts_of(world)
    gone = copy(salts, salts=(b"", *salts.salts[1:]))
    auditor = Auditing(world)
    auditor.plan()
    with world.ledger() as ledger:
        assert any("1 training records" in what for what in auditor.prepare(ledger, salts=gone).untested)


@pytest.mark.parametrize(
    ("text", "match"),
    [("", r"expected a function subject"), ("def subject(): return 1\n", r"expected a function records")],
)
def test_adapter_without_its_functions_is_refused(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "adapter.py").write_text(text)
    with pytest.raises(InputError, match=match):
        audit_subject.load(tmp_path / "adapter.py")


# -- attempts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "interrupted"), (ValueError("no luck"), "failed")])
def test_attempt_that_does_not_end_well_is_logged(world: World, error: BaseException, state: str) -> None:
    auditor = Auditing(world)
    auditor.plan()
    with world.ledger() as ledger:
        chain = auditor.chain(ledger)
        attack = auditor.prepare(ledger)
        with (
            pytest.raises(type(error)),
            audit_run.attempt(ledger, world.key, chain, auditing.current(chain)[0], attack),
        ):
            raise error
        said = [logged.statement.predicate for logged in auditor.chain(ledger)[1:]]
    assert [one.state for one in said if isinstance(one, Audit)] == ["started", state]
    assert verify(bundle_of(world), world.trust()).audits[0].verdict == "UNFINISHED"
    auditor.run()
    report = verify(bundle_of(world), world.trust())
    assert report.audits[0].verdict == "PASS"
    assert any(f"attempt 1 of Example Audits {state}" in line for line in report.audits[0].history)


def test_attempt_of_a_killed_process_is_taken_up(world: World) -> None:
    auditor = Auditing(world)
    auditor.plan()
    with world.ledger() as ledger:
        chain = auditor.chain(ledger)
        attempt = audit_run.attempt(ledger, world.key, chain, auditing.current(chain)[0], auditor.prepare(ledger))
        attempt.__enter__()  # and no more is heard of it
    report = verify(bundle_of(world), world.trust())
    assert report.audits[0].verdict == "UNFINISHED"
    assert "has no end" in report.audits[0].history[-1]
    logged, _ = auditor.run()
    said = logged.statement.predicate
    assert isinstance(said, Audit) and (said.attempt, said.state) == (1, "finished")
    assert verify(bundle_of(world), world.trust()).audits[0].verdict == "PASS"


def test_scores_lead_to_the_figures_that_are_logged(world: World) -> None:
    auditor = Auditing(world)
    plan = auditor.plan().statement.predicate
    said = auditor.run()
    audit, data = said[0].statement.predicate, said[1].scores
    assert isinstance(plan, AuditPlan) and isinstance(audit, Audit)
    scores = audit_run.check_scores(plan, audit, data)
    assert scores.shape == (2 + RULES.retrained, 100)
    swapped = np.array([scores[2], scores[1], scores[0], *scores[3:]])
    other = audit_run._written(swapped, said[1].figures)
    with pytest.raises(MismatchError, match="the scores have SHA-256"):
        audit_run.check_scores(plan, audit, other)
    lied = replace(audit, scores=sha256(other).hexdigest())
    with pytest.raises(MismatchError, match="do not follow from its scores"):
        audit_run.check_scores(plan, lied, other)
    for wrong in (b"{}", data.replace(b"audit-scores/v1", b"audit-scores/v2")):
        with pytest.raises(InputError):
            audit_run.recompute(RULES, wrong)


# -- the log -------------------------------------------------------------------------------------------------------------


def test_schedule_goes_by_the_log_alone(world: World) -> None:
    auditor, trust = Auditing(world), world.trust()
    with world.ledger() as ledger:
        [status] = auditing.schedule(ledger, trust)
        assert status.due is None and status.is_due(now()) and status.verdict is None
    auditor.plan()
    auditor.run()
    with world.ledger() as ledger:
        [status] = auditing.schedule(ledger, trust)
        assert status.verdict == "PASS" and status.due is not None and not status.is_due(now())
        assert not status.is_due(now() + timedelta(days=89)) and status.is_due(now() + timedelta(days=91))
        [strict] = auditing.schedule(ledger, copy(trust, audits=AuditPolicy(10)))
        assert strict.is_due(now() + timedelta(days=11))
        [strange] = auditing.schedule(ledger, copy(trust, auditors=()))
        assert strange.due is None
        chain = auditor.chain(ledger)
        audit_run.attempt(ledger, world.key, chain, auditing.current(chain)[0], auditor.prepare(ledger)).__enter__()
        [status] = auditing.schedule(ledger, trust)
        assert status.unfinished and status.is_due(now())


def test_regressions_are_what_got_worse() -> None:
    before, after = (_finished(found) for found in (PASSED, FAILED))
    worse = list(auditing.regressions(before, after))
    assert len(worse) == 2 and "PASS -> FAIL" in worse[0] and "more is given away" in worse[1]
    assert list(auditing.regressions(after, before)) == []
    assert list(auditing.regressions(before, before)) == []
    with pytest.raises(InputError):
        list(auditing.regressions(before, replace(after, figures=None)))


def _finished(found: verdict.Figures) -> Audit:
    said = Statement.parse(Envelope.parse(audited_case(found).entries[-1]).payload).predicate
    assert isinstance(said, Audit)
    return said


def test_statements_signed_elsewhere_are_logged_as_they_came(world: World) -> None:
    auditor = Auditing(world)
    with world.ledger() as ledger:
        target = auditing.find(ledger)
        stated = audit_run.make_plan(
            ledger.origin, target, auditor.loaded, RULES, audit_subject.held_out(auditor.loaded, auditor.committed.salts),
            stale_after_days=90, previous=None,
        )  # fmt: skip
        payload = Statement((subject(TENSOR_ROOT, stated.model.tensor_root),), stated).payload()
        envelope = sign(payload, [world.key])
        logged, signer = auditing.log_envelope(ledger, envelope.data, [world.key.public])
        assert (logged.envelope.data, signer) == (envelope.data, world.key.public)
        assert auditing.log_envelope(ledger, sign(payload, [key("somebody")]).data)[1] is None
        forged = envelope.data.replace(b64encode(envelope.signatures[0].sig), b64encode(b"0" * 64))
        issuer = SigningKey.load(world.folder / "ledger" / "keys" / "issuer.pem", None)
        for data, error, match in (
            (forged, EnvelopeSignatureError, "wrong|signature"),
            (sign(payload, [issuer]).data, StatementError, "nobody audits"),
            (ledger.entry(0).envelope.data, StatementError, "expected an audit"),
            (_signed(stated, log="elsewhere"), StatementError, "made for log"),
            (_signed(stated, planned="2999-01-01T00:00:00Z"), StatementError, "in the future"),
            (_signed(stated, certificate="ab" * 32), WorkspaceError, "no certificates match"),
        ):
            with pytest.raises(error, match=match):
                auditing.log_envelope(ledger, data, [world.key.public])


def _signed(stated: AuditPlan, **changes: str) -> bytes:
    payload = Statement((subject(TENSOR_ROOT, stated.model.tensor_root),), replace(stated, **changes)).payload()
    return sign(payload, [key("somebody")]).data


def test_certificates_are_found_by_index_and_digest(world: World) -> None:
    with world.ledger() as ledger:
        target = auditing.find(ledger)
        assert isinstance(target.logged.statement.predicate, Unlearning)
        for name in ("2", target.logged.digest, target.logged.digest[:8]):
            assert auditing.find(ledger, name) == target
        for name in ("0", "17", "abc", "ab" * 32):
            with pytest.raises(WorkspaceError, match="no certificates match"):
                auditing.find(ledger, name)
        with pytest.raises(WorkspaceError, match="certify audit plan comes first"):
            auditing.current([])


# -- terms ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "judged"),
    [
        (Rules, verdict.Plan),
        (Figures, verdict.Figures),
        (Arm, verdict.Arm),
        (EpsilonBound, verdict.EpsilonBound),
        (Tail, verdict.Tail),
        (TruePositives, verdict.TruePositives),
        (Utility, verdict.Utility),
        (Example, verdict.Example),
        (Claim, verdict.Claim),
        (Estimate, verdict.Estimate),
    ],
)
def test_statements_hold_every_field_that_the_verdict_knows(stated: type, judged: type) -> None:
    assert [field.name for field in fields(stated)] == [field.name for field in dataclass_fields(judged)]


def test_rules_and_figures_survive_being_stated() -> None:
    assert Rules.of(PLAN).plan() == PLAN
    claimed = copy(PLAN, claim=verdict.Claim("original", 2.0))
    assert Rules.of(claimed).plan() == claimed
    assert Figures.of(PASSED).found() == PASSED
    many = copy(PASSED, examples=PASSED.examples * 20)
    assert len(Figures.of(many).examples) == MAX_EXAMPLES
    for wrong in (copy(PASSED, power=1.5), copy(PASSED, retrained=PASSED.retrained[:1])):
        with pytest.raises(StatementError):
            Figures.of(wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"figures": None},
        {"scores": None},
        {"verdict": None},
        {"reasons": []},
        {"untested": []},
        {"reason": "why not"},
        {"state": "started"},
        {"state": "failed", "reason": "no luck"},
        {"attempt": 0},
        {"verdict": "FINE"},
    ],
)
def test_attempt_says_what_belongs_to_its_state(changes: dict[str, object]) -> None:
    statement = Statement.parse(Envelope.parse(audited_case().entries[-1]).payload)
    other = Statement(statement.subjects, replace(statement.predicate, **changes))
    with pytest.raises(StatementError):
        other.payload()


def test_rules_that_nobody_could_follow_are_not_stated() -> None:
    statement = Statement.parse(Envelope.parse(audited_case().entries[4]).payload)
    plan = statement.predicate
    assert isinstance(plan, AuditPlan)
    for changes in ({"shadows": 3}, {"retrained": 1}, {"margin": 0.0}, {"confidence": 1.0}):
        with pytest.raises(StatementError):
            Statement(statement.subjects, replace(plan, rules=replace(plan.rules, **changes))).payload()


def test_trust_file_names_auditors_and_how_old_audits_may_be() -> None:
    case = audited_case()
    text = format_trust(case.trust().logs, case.trust().issuers)
    auditor = f'\n[[auditor]]\nname = "A"\npublic_key = """\n{key().public.pem()}"""\n'
    window = "not_before = 2026-01-01T00:00:00Z\nrevoked = 2026-06-01T00:00:00Z\n"
    found = Trust.parse(f"{text}{auditor}{window}[audits]\nmax_age_days = 30\nrequired = true\n".encode())
    assert found.audits == AuditPolicy(30, True)
    assert found.auditors[0].not_before is not None and found.auditors[0].revoked is not None
    assert Trust.parse(text.encode()).audits == AuditPolicy(180, False)
    assert verify(case.data(), Trust.parse(f"{text}{auditor}".encode()), now=NOW).audits[0].verdict == "PASS"
    for more, match in (
        (f"{auditor}[audits]\nmax_age_days = 0\n", "at least 1"),
        ("[audits]\nrequired = true\n", "no .*auditor"),
        (f"{auditor}not_after = 2026-01-01T00:00:00\n", "auditor 'A' has no offset"),
        (f"{auditor}[audits]\nage = 1\n", "not as expected"),
    ):
        with pytest.raises(TrustError, match=match):
            Trust.parse(f"{text}{more}".encode())


def test_audited_says_it_in_a_line() -> None:
    case = audited_case()
    [audited] = verify(case.data(), trust(case), now=NOW).audits
    assert str(audited) == "PASS by Example Audits, power 0.93"
    assert str(copy(audited, stale=True, earlier=("FAIL",))).endswith(", stale, after FAIL")
