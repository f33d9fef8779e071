"""Ledgers whose log is far away: connecting, by URL wherever a path is, several issuers in one log, and the server down."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify import case, places  # noqa: E402
from certify import connect as connecting  # noqa: E402
from certify.bundle import Bundle, write  # noqa: E402
from certify.cli import cli  # noqa: E402
from certify.connect import LogTrust, connect, of_keys, of_trust  # noqa: E402
from certify.envelope import sign  # noqa: E402
from certify.errors import TrustError, VerificationError, WorkspaceError  # noqa: E402
from certify.keys import SigningKey  # noqa: E402
from certify.rotation import revoke_key, rotate_key  # noqa: E402
from certify.statement import Unlearning  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Logged, Workspace  # noqa: E402
from ledger import http  # noqa: E402
from ledger.errors import (  # noqa: E402
    AdmissionError,
    KeyFileError,
    RemoteError,
    RolledBackError,
    SignatureError,
    WitnessError,
)
from ledger.keyfile import write_private  # noqa: E402
from ledger.log import Log  # noqa: E402
from ledger.log_key import LogKey  # noqa: E402
from tests.plain_server import Answer, PlainServer, Seen, serving  # noqa: E402

ORIGIN = "log.example/shared"
PEOPLE = {f"mary.poppins+{i}@example.org": {"rare-disease": i * 1000 + 7} for i in range(6)}
IDS = list(PEOPLE)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's, and no waiting for a server that is down."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CERTIFY_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "PATIENCE", 0.0)
    monkeypatch.setattr(connecting, "PATIENCE", 0.0)


@pytest.fixture
def key() -> LogKey:
    return LogKey.generate(ORIGIN)


@pytest.fixture
def server(tmp_path: Path, key: LogKey) -> Iterator[PlainServer]:
    with Log.create(tmp_path / "far-away.db", key) as log, serving(log) as server:
        yield server


@pytest.fixture
def trusted(key: LogKey) -> list[LogTrust]:
    return of_keys([known.format() for known in key.verifier_keys])


Make = Callable[..., Workspace]


@pytest.fixture
def make(server: PlainServer, trusted: list[LogTrust], tmp_path: Path) -> Iterator[Make]:
    """``make("Clinic")`` is a ledger of that issuer, connected to the server."""
    made: list[Workspace] = []

    def make(issuer: str = "Clinic") -> Workspace:
        folder = tmp_path / f"of {issuer}"
        connect(server.url, trusted, issuer=issuer, folder=folder, token="secret", password=None)
        made.append(Workspace(folder))
        return made[-1]

    yield make
    for workspace in made:
        workspace.close()


def step(model: Any) -> None:
    with torch.no_grad():
        model.weight.add_(1)


def train(ledger: Workspace | str, seed: int = 3) -> tuple[Any, Logged]:
    torch.manual_seed(seed)
    model = torch.nn.Linear(4, 3)
    with certify.training(model, ledger=ledger, data=PEOPLE, method="sgd", seeds=[seed]) as run:
        step(model)
    assert run.certificate is not None
    return model, run.certificate


def ask(ledger: Workspace | str, name: str = IDS[1]) -> Logged:
    return certify.file_request(ledger, {name: PEOPLE[name]}, ground="gdpr-17")


def forget(ledger: Workspace | str, model: Any, request: Logged) -> Logged:
    with certify.unlearning(model, ledger=ledger, request=request, method="retrain", seeds=[3]) as run:
        step(model)
    assert run.certificate is not None
    return run.certificate


def bundle_of(workspace: Workspace, certificate: Logged) -> bytes:
    return case.collect(workspace, certificate).to_bytes()


def down(server: PlainServer) -> None:
    server.faults[""] = lambda _: Answer(cut=True)


# -- connecting --------------------------------------------------------------------------------------------------------


def test_connected_ledger_has_no_log_of_its_own_and_keeps_its_token_to_itself(make: Make, server: PlainServer) -> None:
    folder = make().path
    assert sorted(path.name for path in folder.iterdir()) == ["certify.toml", "keys", "trust.toml", "vault.db"]
    assert sorted(path.name for path in (folder / "keys").iterdir()) == [
        "issuer.pem",
        "log.seen",
        "token",
        "vault.json",
    ]
    assert (folder / "keys").stat().st_mode & 0o777 == 0o700
    for name in ("token", "issuer.pem", "vault.json"):
        assert (folder / "keys" / name).stat().st_mode & 0o777 == 0o600
    assert b"secret" not in b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "token"
    )
    (folder / "keys" / "token").chmod(0o644)
    with Workspace(folder) as workspace, pytest.raises(KeyFileError, match="expected 0600"):
        ask(workspace)


def test_log_signed_by_another_key_is_refused_and_nothing_is_made(server: PlainServer, tmp_path: Path) -> None:
    for name in (ORIGIN, "log.example/other"):
        wrong = of_keys([LogKey.generate(name).verifier_keys[0].format()])
        with pytest.raises(SignatureError):
            connect(server.url, wrong, issuer="Clinic", folder=tmp_path / "new", password=None)
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))
    assert not (tmp_path / "data" / "unlearning-ledger" / "connected").exists()


def test_keys_of_two_logs_are_not_one_log(key: LogKey) -> None:
    with pytest.raises(TrustError, match="one log"):
        of_keys([key.verifier_keys[0].format(), LogKey.generate("other").verifier_keys[0].format()])


def test_trust_file_gives_the_log_and_its_witnesses_and_nobody_else(
    server: PlainServer, key: LogKey, tmp_path: Path, make: Make
) -> None:
    given = (make("Operator").path / "trust.toml").read_text()
    witness = LogKey.generate("witness.example").verifier_keys[0]
    from ledger.note import COSIGNATURE_ED25519, VerifierKey

    cosigner = VerifierKey("witness.example", COSIGNATURE_ED25519, witness.public)
    (tmp_path / "trust.toml").write_text(given)
    connect(server.url, of_trust(tmp_path / "trust.toml"), issuer="Clinic", folder=tmp_path / "b", password=None)
    trust = Trust.load(tmp_path / "b" / "trust.toml")
    assert [issuer.name for issuer in trust.issuers] == ["Clinic"]
    assert trust.logs[0].keys == key.verifier_keys
    policy = f"witness w {cosigner.format()}\nquorum w"
    for witnesses in (f'quorum = 1\nkeys = ["{cosigner.format()}"]', f'policy = """\n{policy}\n"""'):
        (tmp_path / "trust.toml").write_text(f"{given}\n[witnesses]\n{witnesses}\n")
        candidates = of_trust(tmp_path / "trust.toml")
        assert Trust.parse((given + candidates[0].table).encode()).witnessing.witness_keys == [cosigner]
        with pytest.raises(WitnessError, match="cosigned by nobody"):  # the checkpoint there is not
            connect(server.url, candidates, issuer="Clinic", folder=tmp_path / "c", password=None)
    assert not (tmp_path / "c").exists()


def test_occupied_folder_is_left_alone(make: Make, server: PlainServer, trusted: list[LogTrust]) -> None:
    folder = make().path
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    with pytest.raises(WorkspaceError, match="not an empty folder"):
        connect(server.url, trusted, issuer="Clinic", folder=folder, password=None)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


@pytest.mark.parametrize("log", ["ftp://x", "log.db", "", "/etc/passwd"])
def test_log_that_is_no_place(make: Make, log: str) -> None:
    folder = make().path
    config = folder / "certify.toml"
    config.write_text("".join(f'log = "{log}"\n' if line.startswith("log") else line for line in config.open()))
    with pytest.raises(WorkspaceError, match="expected https"):
        Workspace(folder)


def test_lost_watermark_is_noticed(make: Make) -> None:
    folder = make().path
    (folder / "keys" / "log.seen").write_bytes(b"")
    with Workspace(folder) as workspace, pytest.raises(WorkspaceError, match="rollback"):
        workspace.reader.checkpoint()


# -- by URL wherever a path is -----------------------------------------------------------------------------------------


def test_url_stands_for_the_ledger(server: PlainServer, trusted: list[LogTrust], tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="certify connect"):
        Workspace(server.url)
    made = connect(server.url, trusted, issuer="Clinic", token="secret", password=None)
    assert (
        made.folder == made.stands_for == tmp_path / "data" / "unlearning-ledger" / "ledgers" / "log.example%2Fshared"
    )
    for place in (server.url, f"{server.url}/", Path(server.url), server.url.replace("http", "HTTP")):
        assert Workspace(place).path == made.folder
    model, _ = train(server.url)
    certificate = forget(server.url, model, ask(server.url))
    assert (certificate.index, server.log.size()) == (2, 3)


def test_url_goes_on_standing_for_the_first_ledger(
    server: PlainServer, trusted: list[LogTrust], tmp_path: Path
) -> None:
    first = connect(server.url, trusted, issuer="Clinic", folder=tmp_path / "a", password=None)
    second = connect(server.url, trusted, issuer="Bank", folder=tmp_path / "b", password=None)
    assert (second.folder, second.stands_for) == (tmp_path / "b", first.folder)
    assert Workspace(server.url).issuer == "Clinic"
    (tmp_path / "a").rename(tmp_path / "gone")
    third = connect(server.url, trusted, issuer="Bakery", folder=tmp_path / "c", password=None)
    assert Workspace(server.url).path == third.folder


def test_folder_that_looks_like_a_url_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "https:" / "log.example").mkdir(parents=True)
    assert places.folder_of(Path("https:/log.example")) == Path("https:/log.example")
    for place in ("ledger", "./http", "https", tmp_path):
        assert places.folder_of(place) == Path(place)


def run(*arguments: object, expect: int = 0) -> Any:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=True)
    if expect == 0:
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout
    assert done.exception is not None
    return done.exception


def test_command_line_by_url(server: PlainServer, key: LogKey, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    keys = ["--log-key", key.verifier_keys[0].format(), "--token-file", "token", "--no-password"]
    assert isinstance(run("connect", server.url, "--issuer", "Clinic", expect=1), Exception)
    made = run("connect", server.url, "--issuer", "Clinic", *keys, "--json")
    assert made["url"] == server.url and "BEGIN PUBLIC KEY" in made["publicKey"]
    ledger = ["--ledger", server.url]
    (tmp_path / "people.csv").write_text("id,age\n" + "".join(f"p{i},{i}\n" for i in range(9)))
    asked = run("request", *ledger, "--data", "people.csv", "--id", "p3", "--ground", "gdpr-17", "--json")
    server.log.append(b"of somebody else, and no statement")
    assert asked["entry"] == 0
    assert run("log", "checkpoint", *ledger, "--json")["size"] == 2
    proof = run("log", "prove", "0", *ledger)
    assert proof.startswith("c2sp.org/tlog-proof@v1\nindex 0\n")
    listed = run("log", "entries", *ledger, "--json")
    assert [entry["kind"] for entry in listed] == ["request", "no statement"]
    assert run("log", "fsck", *ledger, "--json") == {"entries": 2, "findings": []}
    assert run("connect", "--flush", *ledger, "--json") == []
    server.faults["append"] = lambda _: Answer(cut=True)
    arguments = ["--data", "people.csv", "--id", "p4", "--ground", "gdpr-17"]
    assert "nothing is lost" in str(run("request", *ledger, *arguments, expect=1))
    server.faults.clear()
    assert [entry["entry"] for entry in run("connect", "--flush", *ledger, "--json")] == [2]


def test_fsck_of_a_remote_log_names_what_is_wrong(make: Make, server: PlainServer) -> None:
    workspace = make()
    for name in IDS[:3]:
        ask(workspace, name)
    server.faults["tile/entries"] = lambda request: Answer(
        200, server.good(request).body.replace(b"payload", b"paylaod")
    )
    done = CliRunner().invoke(cli, ["log", "fsck", "--ledger", str(workspace.path), "--json"])
    assert done.exit_code == 39
    assert json.loads(done.stdout)["findings"]


# -- several issuers in one log ----------------------------------------------------------------------------------------


def test_two_issuers_share_a_log_and_each_sees_its_own(make: Make, server: PlainServer) -> None:
    clinic, bank = make("Clinic"), make("Bank")
    server.log.append(b"no statement at all")
    clinic_model, clinic_training = train(clinic, seed=1)
    bank_model, _ = train(bank, seed=2)
    clinic_request = ask(clinic)
    bank_request = ask(bank, IDS[2])
    rotate_key(bank)
    server.log.append(b'{"payload": "eA==", "payloadType": "x", "signatures": []}')
    clinic_certificate = forget(clinic, clinic_model, clinic_request)
    bank_certificate = forget(bank, bank_model, bank_request)
    for workspace, certificate in ((clinic, clinic_certificate), (bank, bank_certificate)):
        assert workspace.latest("unlearning").index == certificate.index
        assert [logged.index for logged in workspace.of_kind("unlearning")] == [certificate.index]
        trust = Trust.load(workspace.path / "trust.toml")
        data = bundle_of(workspace, certificate)
        assert verify(data, trust).issuer == workspace.issuer
        other = bank if workspace is clinic else clinic
        with pytest.raises(VerificationError):
            verify(data, Trust.load(other.path / "trust.toml"))
    assert [logged.index for logged in clinic.of_kind("key")] == []
    assert len(list(bank.of_kind("key"))) == 1
    assert len(list(clinic.statements())) == 7
    assert clinic.find(bank_certificate.digest).index == bank_certificate.index
    with pytest.raises(WorkspaceError):
        case.collect(clinic, bank.entry(bank_certificate.index))
    assert isinstance(clinic_training.statement.predicate.log, str)


def test_the_operators_own_ledger_is_one_of_them(tmp_path: Path) -> None:
    """A log that is here, and that others append to as well."""
    operator = Workspace.init(tmp_path / "operator", origin=ORIGIN, issuer="Operator", password=None)
    with operator, serving(operator.log) as server:  # type: ignore[arg-type]
        trusted = of_trust(operator.path / "trust.toml")
        connect(server.url, trusted, issuer="Clinic", folder=tmp_path / "clinic", token="secret", password=None)
        with Workspace(tmp_path / "clinic") as clinic:
            for workspace, name in ((operator, IDS[0]), (clinic, IDS[1]), (operator, IDS[2]), (clinic, IDS[3])):
                ask(workspace, name)
            assert [logged.index for logged in operator.of_kind("request")] == [0, 2]
            assert [logged.index for logged in clinic.of_kind("request")] == [1, 3]


def test_own_statements_survive_rotation_and_a_new_vault_index(make: Make) -> None:
    workspace = make()
    ask(workspace, IDS[0])
    rotate_key(workspace)
    ask(workspace, IDS[1])
    rotate_key(workspace, "ed25519")
    ask(workspace, IDS[2])
    assert [logged.index for logged in workspace.of_kind("request")] == [0, 2, 4]
    for name, _ in [*workspace.vault.notes("own/"), *workspace.vault.notes("kind/"), *workspace.vault.notes("entry/")]:
        workspace.vault.drop_note(name)
    workspace.vault.put_note("indexed", 0)
    assert [logged.index for logged in workspace.of_kind("request")] == [0, 2, 4]
    assert [logged.index for logged in workspace.of_kind("key")] == [1, 3]
    revoke_key(workspace, "retired")
    assert len(list(workspace.of_kind("key"))) == 3


def test_statement_that_only_claims_to_be_ours_is_not(make: Make, server: PlainServer) -> None:
    """Our key's id over somebody else's signature, and our own statement of another log: both would spoil every bundle."""
    clinic, bank = make("Clinic"), make("Bank")
    asked = ask(clinic)
    stolen = SigningKey.generate("ecdsa-p256")
    forged = sign(asked.statement.payload(), [stolen]).data
    forged = forged.replace(stolen.public.keyid.encode(), clinic.issuer_key.public.keyid.encode())
    server.log.append(forged)
    statement = asked.statement.payload().replace(ORIGIN.encode(), b"log.example/others")
    server.log.append(sign(statement, [clinic.issuer_key]).data)
    assert server.log.size() == 3
    assert [logged.index for logged in clinic.of_kind("request")] == [0]
    assert list(bank.of_kind("request")) == []


# -- the server is down, or refuses ------------------------------------------------------------------------------------


def test_training_while_the_server_is_down_waits_in_the_outbox(make: Make, server: PlainServer) -> None:
    workspace = make()
    down(server)
    with pytest.raises(RemoteError, match=r"Nothing is certified yet, and nothing is lost.*certify connect --flush"):
        train(workspace)
    [kept] = workspace.outbox.waiting()
    assert server.log.size() == 0
    server.faults.clear()
    with Workspace(workspace.path) as later:
        assert later.flush() == {kept.read_bytes() if kept.exists() else server.log.entry(0): 0}
        assert later.latest("training").index == 0
        assert later.outbox.waiting() == []


def test_unlearning_that_ends_while_the_server_is_down(make: Make, server: PlainServer) -> None:
    """Hours of work are signed when they are done, and are logged before whatever comes next."""
    workspace = make()
    model, _ = train(workspace)
    request = ask(workspace)
    with pytest.raises(RemoteError, match="nothing is lost"):
        with certify.unlearning(model, ledger=workspace, request=request, method="retrain", seeds=[3]) as run:
            step(model)
            down(server)
    assert run.certificate is None
    assert len(workspace.outbox.waiting()) == 1
    server.faults.clear()
    assert ask(workspace, IDS[3]).index == 3
    certificate = workspace.latest("unlearning")
    assert isinstance(certificate.statement.predicate, Unlearning) and certificate.index == 2
    assert verify(bundle_of(workspace, certificate), Trust.load(workspace.path / "trust.toml")).issuer == "Clinic"


def test_reading_while_the_server_is_down_never_answers_from_memory(make: Make, server: PlainServer) -> None:
    workspace = make()
    ask(workspace)
    assert workspace.latest("request").index == 0
    down(server)
    reads: list[Callable[[Workspace], object]] = [
        lambda later: later.latest("request"),
        lambda later: later.entry(0),
        lambda later: later.find("0"),
        lambda later: later.reader.checkpoint(),
    ]
    for read in reads:
        with Workspace(workspace.path) as later, pytest.raises(RemoteError):
            read(later)


@pytest.mark.parametrize(
    "lost", ["before sending", "before the log has it", "after the log has it", "before the file goes"]
)
def test_crash_around_sending_certifies_once(
    make: Make, server: PlainServer, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    workspace = make()
    ask(workspace, IDS[0])

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    def logged_then_crash(request: Seen) -> Answer:
        if lost == "after the log has it":
            server.good(request)
        return Answer(cut=True)

    with monkeypatch.context() as patch:
        error: type[BaseException] = Crash
        if lost == "before sending":
            patch.setattr("ledger.client.RemoteLog.append", crash)
        elif lost == "before the file goes":
            patch.setattr("pathlib.Path.unlink", crash)
        else:
            server.faults["append"] = logged_then_crash
            error = RemoteError
        with pytest.raises(error):
            ask(workspace, IDS[1])
    server.faults.clear()
    with Workspace(workspace.path) as later:
        assert len(later.outbox.waiting()) == 1
        ask(later, IDS[2])
        assert later.outbox.waiting() == []
        assert len(list(later.of_kind("request"))) == 3
    assert server.log.size() == 3


def test_envelopes_go_out_in_the_order_in_which_they_were_signed(make: Make, server: PlainServer) -> None:
    workspace = make()
    server.faults["append"] = lambda _: Answer(cut=True)
    for name in IDS[:3]:
        with pytest.raises(RemoteError):
            ask(workspace, name)
    waiting = [path.read_bytes() for path in workspace.outbox.waiting()]
    assert len(waiting) == 3
    server.faults.clear()
    assert list(workspace.flush().values()) == [0, 1, 2]
    assert [data for _, data in server.log.entries()] == waiting


def test_refused_envelope_is_not_certified_and_waits(make: Make, server: PlainServer) -> None:
    workspace = make()
    server.token = "another now"
    with pytest.raises(AdmissionError, match="nothing is lost"):
        ask(workspace)
    assert server.log.size() == 0
    (workspace.path / "keys" / "token").write_text("another now")
    with Workspace(workspace.path) as later:
        assert list(later.flush().values()) == [0]


def test_two_processes_flush_one_outbox(make: Make, server: PlainServer) -> None:
    workspace = make()
    server.faults["append"] = lambda _: Answer(cut=True)
    for name in IDS:
        with pytest.raises(RemoteError):
            ask(workspace, name)
    server.faults.clear()
    errors: list[BaseException] = []

    def flush() -> None:
        try:
            with Workspace(workspace.path) as other:
                other.flush()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=flush) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert server.log.size() == len(IDS)
    assert workspace.outbox.waiting() == []


def test_rotation_while_the_server_is_down_is_finished_later_and_not_sent_twice(
    make: Make, server: PlainServer
) -> None:
    workspace = make()
    ask(workspace)
    server.faults["append"] = lambda _: Answer(cut=True)
    with pytest.raises(RemoteError):
        rotate_key(workspace)
    assert workspace.outbox.waiting() == []  # it is kept with the new key, until both change
    server.faults.clear()
    with Workspace(workspace.path) as later:
        ask(later, IDS[2])
        assert [logged.statement.kind for logged in later.statements()] == ["request", "key", "request"]


def test_fork_is_refused_by_what_the_ledger_remembers(
    make: Make, server: PlainServer, key: LogKey, tmp_path: Path
) -> None:
    workspace = make()
    ask(workspace, IDS[0])
    ask(workspace, IDS[1])
    with Log.create(tmp_path / "forked.db", key) as forked:
        forked.append(server.log.entry(0))
        server.log = forked
        with Workspace(workspace.path) as later, pytest.raises(RolledBackError):
            ask(later, IDS[2])
        assert forked.size() <= 2
        with Workspace(workspace.path) as later, pytest.raises(RolledBackError):
            later.latest("request")


def test_bundle_written_from_afar_is_one_that_parses(make: Make, tmp_path: Path) -> None:
    workspace = make()
    model, _ = train(workspace)
    certificate = forget(workspace, model, ask(workspace))
    path = write(tmp_path / "case.bundle", case.collect(workspace, certificate))
    assert [entry.index for entry in Bundle.parse(path.read_bytes()).entries] == [0, 1, 2]


# -- with a server of its own process ----------------------------------------------------------------------------------


def flush_until_admitted(workspace: Workspace) -> None:
    deadline = time.monotonic() + 20
    while workspace.outbox.waiting():
        try:
            workspace.flush()
        except AdmissionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_two_issuers_through_a_real_server_to_bundles_that_verify_offline(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    folder = tmp_path / "operator"
    with Workspace.init(folder, origin=ORIGIN, issuer="Operator", password=None):
        pass
    command = [sys.executable, "-m", "certify", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    workspaces: list[Workspace] = []
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        cases: list[tuple[bytes, Trust]] = []
        for number, issuer in enumerate(("Clinic", "Bank")):
            made = connect(url, of_trust(folder / "trust.toml"), issuer=issuer, folder=tmp_path / issuer, password=None)
            (tmp_path / f"{issuer}.pub").write_text(made.public_key.pem())
            added = ("--ledger", folder, issuer, "--issuer", tmp_path / f"{issuer}.pub", "--json")
            write_private(made.folder / "keys" / "token", run("serve", "token", "add", *added)["token"].encode())
            workspaces.append(Workspace(made.folder))
            with suppress(AdmissionError):  # the server has not read its new tokens yet
                train(workspaces[-1], number)
        for number, workspace in enumerate(workspaces):
            flush_until_admitted(workspace)
            torch.manual_seed(number)
            model = torch.nn.Linear(4, 3)
            step(model)
            rotate_key(workspace)
            certificate = forget(workspace, model, ask(workspace, IDS[number]))
            cases.append((bundle_of(workspace, certificate), Trust.load(workspace.path / "trust.toml")))
        token = workspaces[0].path / "keys" / "token"
        token.write_bytes((workspaces[1].path / "keys" / "token").read_bytes())
        with Workspace(workspaces[0].path) as thief, pytest.raises(AdmissionError, match="not for who signed"):
            ask(thief, IDS[4])
        assert workspaces[1].reader.size() == 8
    finally:
        process.terminate()
        process.wait(20)
        for workspace in workspaces:
            workspace.close()
    for data, trust in cases:  # nobody serves anything any more
        assert verify(data, trust).issuer in ("Clinic", "Bank")
    with pytest.raises(VerificationError):
        verify(cases[0][0], cases[1][1])
    with Workspace(folder) as operator:
        assert CliRunner().invoke(cli, ["log", "fsck", "--ledger", str(folder)]).exit_code == 0
        assert list(operator.of_kind("request")) == []
