"""The ``certify`` command. One module a group of commands, each loaded when it is called."""

import sys
from importlib import import_module
from typing import Any

import click

_COMMANDS = {
    "init": "certify.cli.setup",
    "keygen": "certify.cli.setup",
    "key": "certify.cli.keys",
    "completion": "certify.cli.setup",
    "train-commit": "certify.cli.cases",
    "request": "certify.cli.cases",
    "issue": "certify.cli.cases",
    "fit": "certify.cli.prove",
    "prove": "certify.cli.prove",
    "bundle": "certify.cli.cases",
    "receipt": "certify.cli.cases",
    "shred": "certify.cli.cases",
    "verify": "certify.cli.verify",
    "report": "certify.cli.report",
    "show": "certify.cli.inspect",
    "diff": "certify.cli.inspect",
    "digest": "certify.cli.inspect",
    "deploy": "certify.cli.deploy",
    "model": "certify.cli.model",
    "trace": "certify.cli.trace",
    "satisfied": "certify.cli.trace",
    "replay": "certify.cli.replay",
    "replay-log": "certify.cli.replay",
    "log": "certify.cli.log",
    "audit": "certify.cli.audit",
    "circuit": "certify.cli.circuit",
    "srs": "certify.cli.srs",
    "connect": "certify.cli.connect",
    "monitor": "certify.cli.monitor",
    "witness": "certify.cli.witness",
    "search": "certify.cli.search",
    "serve": "certify.cli.serve",
    "export": "certify.cli.export",
}
_SECTIONS = (
    ("Check what others say", ("verify", "report", "audit", "replay", "replay-log", "show", "diff", "digest")),
    ("Keep a ledger", ("init", "train-commit", "request", "issue", "deploy", "bundle", "export", "receipt", "shred")),
    ("Look into a ledger's own past", ("model", "trace", "satisfied")),
    ("Prove, with zero-knowledge proofs", ("fit", "prove", "circuit", "srs")),
    ("The log and its keys", ("log", "keygen", "key", "completion")),
    ("The log for outsiders", ("serve", "connect", "witness", "monitor", "search")),
)


class LazyGroup(click.Group):
    """Loads a command's module when it is called, so that ``certify verify`` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _SECTIONS:
            with formatter.section(title):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl([(name, command.get_short_help_str(90)) for name, command in commands if command])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else " See 'certify --help'."
            raise click.UsageError(f"There is no command '{args[0]}'.{hint}", ctx) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="unlearning-ledger", prog_name="certify")
def cli() -> None:
    """Certificates that a trained model was made to forget, which a stranger can verify offline.

    \b
    As a regulator, with a case and the operator's trust file:
        certify verify case.bundle --trust trust.toml

    \b
    As an operator, from training to a certificate:
        certify init
        certify train-commit --data patients.csv --weights model.safetensors --method adam
        certify request --data patients.csv --id 17 --ground gdpr-17
        certify issue --request 1 --pre model.safetensors --post forgot.safetensors --method retrain
        certify bundle -o case.bundle

    \b
    With a zero-knowledge proof, for a model that is the optimum of a convex objective:
        certify fit --data patients.csv --target diagnosis
        certify request --data patients.csv --id 17 --ground gdpr-17
        certify prove --request 1
        certify bundle -o case.bundle

    Every command takes --json. Exit codes say what kind of failure it was; SPEC.md lists them.
    """


def main() -> None:
    """Run the command; errors become one clear line and an exit code, never a traceback."""
    arguments = sys.argv[1:]
    try:
        sys.exit(cli.main(args=arguments, prog_name="certify", standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        from certify.cli.exit_codes import INTERRUPTED

        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        sys.exit(_report(error, as_json="--json" in arguments))


def _report(error: Exception, *, as_json: bool) -> int:
    import os

    from certify.cli.exit_codes import INTERNAL, exit_code
    from certify.cli.output import bad, emit, plain
    from certify.errors import InputError, VerificationError

    if os.environ.get("CERTIFY_DEBUG"):
        raise error
    if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
        error = InputError(f"{error.filename or 'the system'}: {error.strerror or error}")
    code = exit_code(error)
    message = str(error)
    if code == INTERNAL:
        message = f"this is a defect of certify, please report it: {type(error).__name__}: {error}"
    value: dict[str, Any] = {"error": type(error).__name__, "message": message, "exitCode": code}
    if isinstance(error, VerificationError):
        value |= {"verified": False, "step": error.step}
    if as_json:
        emit(True, value)
    else:
        click.echo(f"{bad('error:')} {plain(message)}", err=True)
    return code
