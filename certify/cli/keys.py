"""The key that signs a ledger's statements: show, list, rotate, revoke, and finish what was cut off."""

from datetime import datetime
from pathlib import Path
from typing import cast

import click

from certify.cli.options import Time, json_option, ledger_option
from certify.cli.output import bad, emit, fields, good, table
from certify.cli.setup import algorithm_option
from certify.keys import Algorithm

_WARN_DAYS = 30


@click.group()
def key() -> None:
    """Show, rotate or revoke the key that signs a ledger's statements."""


@key.command()
@ledger_option
@json_option
def show(ledger: Path, as_json: bool) -> None:
    """Show the key that signs now, and where it is held. A token or a key service is not asked.

    \b
    Example:
        certify key show
    """
    from certify import issuer
    from certify.rotation import pending
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        held = issuer.reference(ledger)
        public = issuer.public(ledger / "keys" / issuer.PUBLIC) if held else workspace.issuer_key.public
        change = pending(workspace)
    where = held or str(ledger / "keys" / issuer.FILE)
    value = {"keyid": public.keyid, "algorithm": public.algorithm, "held": where, "public": public.pem()}
    lines = fields(("key id", public.keyid), ("algorithm", public.algorithm), ("held", where))
    if change is not None:
        value["pending"] = change.action
        lines.append(bad(f"a change was cut off ({change.action}): 'certify key finish' does the rest"))
    emit(as_json, value, *lines, public.pem().rstrip())


@key.command("list")
@ledger_option
@json_option
def list_(ledger: Path, as_json: bool) -> None:
    """List the keys that have signed for this ledger: from when, until when, what ended them, and the days left.

    \b
    Example:
        certify key list
    """
    from certify.key_history import history
    from certify.times import format_time, now
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        keys = history(workspace)
    time = now()
    rows, values, warnings = [], [], []
    for known in keys:
        keyid = known.public.keyid
        left = (known.not_after - time).days if known.not_after is not None else None
        state = f"{known.ended} at entry {known.ended_at}" if known.ended else "signs" if known.current else "may sign"
        if left is not None and left < _WARN_DAYS and not known.ended:
            when = "has expired" if left < 0 else f"expires in {left} days"
            warnings.append(
                f"key {keyid[:16]} {when}: hand over with 'certify key rotate', or hand out another trust.toml"
            )
        until = format_time(known.not_after) if known.not_after is not None else None
        rows.append((keyid[:16], known.public.algorithm, state, until or "", "" if left is None else str(left)))
        values.append(
            {
                "keyid": keyid,
                "algorithm": known.public.algorithm,
                "current": known.current,
                "ended": known.ended,
                "endedAt": known.ended_at,
                "notAfter": until,
                "daysLeft": left,
            }
        )
    emit(as_json, {"keys": values, "warnings": warnings})
    if not as_json:
        table(("key", "algorithm", "state", "not after", "days left"), rows)
        for line in warnings:
            click.echo(bad(line))


@key.command()
@ledger_option
@algorithm_option
@click.option("--to", "held", help="Where the new key is held, if not in a file, like 'hsm:2?label=Clinic'.")
@click.option("--not-after", type=Time(), help="When the new key expires.")
@json_option
def rotate(ledger: Path, algorithm: str, held: str | None, not_after: object, as_json: bool) -> None:
    """Hand over to a new key, by an entry that both keys sign. Old statements stay verifiable.

    Cut off in between, the next command that signs finishes it.

    \b
    Examples:
        certify key rotate --algorithm ml-dsa-65
        certify key rotate --to 'hsm:2?label=Clinic' --not-after 2028-01-01T00:00:00Z
    """
    from certify.rotation import rotate_key
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        until = not_after if isinstance(not_after, datetime) else None
        logged, new = rotate_key(workspace, cast(Algorithm, algorithm), held=held, not_after=until)
    value = {"entry": logged.index, "keyid": new.keyid, "algorithm": new.algorithm}
    emit(
        as_json,
        value,
        *fields(("entry", logged.index), ("new key", f"{new.keyid} ({new.algorithm})")),
        "a verifier follows the rotation from the old key by this entry; trust.toml may name the new key from now on",
    )


@key.command()
@ledger_option
@click.option(
    "--reason", type=click.Choice(["compromised", "retired", "superseded"]), default="compromised", show_default=True
)
@click.confirmation_option(prompt="No statement can be signed with this key afterwards. Revoke it?")
@json_option
def revoke(ledger: Path, reason: str, as_json: bool) -> None:
    """End the current key, by an entry that it signs itself. Nothing can be issued afterwards.

    \b
    Example:
        certify key revoke --reason compromised
    """
    from certify.rotation import revoke_key
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        keyid = workspace.issuer_key.public.keyid
        logged = revoke_key(workspace, reason)
    emit(
        as_json,
        {"entry": logged.index, "keyid": keyid, "reason": reason},
        *fields(("entry", logged.index), ("revoked", keyid)),
        "tell those who verify to set 'revoked' in their trust.toml: a bundle made elsewhere may leave this entry out",
    )


@key.command()
@ledger_option
@json_option
def finish(ledger: Path, as_json: bool) -> None:
    """Finish a rotation or revocation that was cut off. Every command that signs does so by itself.

    \b
    Example:
        certify key finish
    """
    from certify.rotation import finish as finish_change
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        logged = finish_change(workspace)
    entry = logged.index if logged is not None else None
    emit(as_json, {"entry": entry}, "nothing was cut off" if entry is None else good(f"done, by entry {entry}"))


@key.command("give-up")
@ledger_option
@json_option
def give_up(ledger: Path, as_json: bool) -> None:
    """Put a rotation or revocation aside that the log does not take. Refused once it is logged.

    \b
    Example:
        certify key give-up
    """
    from certify.rotation import give_up as give_up_change
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        kept = give_up_change(workspace)
    emit(as_json, {"kept": str(kept)}, f"the key from before goes on; the change and its new key are in {kept}")


@key.command("add-post-quantum")
@ledger_option
@json_option
def add_post_quantum(ledger: Path, as_json: bool) -> None:
    """Let the log sign with ML-DSA-44 beside Ed25519 from now on. Stop whatever else has the log open.

    The trust file then asks for both. Bundles made before have one signature: they verify with the trust file from before, or are
    made again with 'certify bundle'.

    \b
    Example:
        certify key add-post-quantum
    """
    from certify.post_quantum import add_post_quantum as add
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        new = add(workspace)
    trust = ledger / "trust.toml"
    emit(
        as_json,
        {"key": new.format(), "trust": str(trust)},
        good(f"the log signs with {new.algorithm} too"),
        *fields(("trust file", f"{trust}  (hand it out anew)")),
    )
