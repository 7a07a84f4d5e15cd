"""`arbiter webhooks`: recorded outcomes to a receiver such as a CRM, signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    err,
    fail,
    out,
    present,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.log_export import mask_of
from engine.cli.options import AsJson, DataDir
from engine.cli.values import instant_ms

if TYPE_CHECKING:
    from engine.decisionlog.masking import Mask
    from engine.outgoing.deadletters import DeadWebhook
    from engine.outgoing.progress import Progress
    from engine.sending import WebhookStatus
    from engine.settings import Settings

Receiver = Annotated[
    str | None, typer.Option("--to", help="Address of the receiver, instead of ARBITER_WEBHOOK_URL.")
]
Masking = Annotated[
    Path | None,
    typer.Option("--masking", help="Masking policy, a TOML file. By default customers have pseudonyms."),
]
Chosen = Annotated[
    list[str] | None, typer.Argument(help="Ids of webhooks, as `dead` shows them; all where none is given.")
]

app = typer.Typer(
    help="Send outcomes to a receiver such as a CRM, and look after those that it did not take.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def send(
    to: Receiver = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when nothing is new or due, instead of following.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Pass over outcomes recorded before this date or instant.")
    ] = None,
    masking: Masking = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send outcomes to a receiver as they are recorded, until SIGTERM or Ctrl-C.

    Each comes at least once: it goes on where it stopped, whatever dies. Erased customers are left out.
    """
    from engine import sending
    from engine.logfiles import OUTCOMES
    from engine.outgoing.errors import ReceiverGone

    settings = _settings(data_dir, to, masking)
    require_data(settings, OUTCOMES)
    with _ended_by_logs(), setup_errors():
        try:
            progress = sending.send(settings, _mask(settings), once=once, since_ms=instant_ms(since) or 0)
        except ReceiverGone as gone:
            place = sending.receiver_shown(settings)
            fail(
                f"{place}: {gone}: it wants no more webhooks; nothing is lost, ask whose it is and name the "
                "new one in ARBITER_WEBHOOK_URL",
                EXIT_UNAVAILABLE,
            )
    if as_json:
        print_document(_done(progress))
        return
    done = _done(progress)
    out.print(
        f"{done['delivered']:,} outcomes sent since the first start, {done['waiting']:,} waiting, "
        f"{done['dead']:,} given up, {done['erased']:,} of erased customers not"
    )


@app.command()
def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how sending stands: who sends, what waits since when, and what was given up.

    Ends with 4 where something waits or was given up, or is to be sent and nobody sends it.
    """
    from engine import sending
    from engine.logfiles import OUTCOMES

    settings = effective_settings(data_dir=data_dir, log_level="warning")
    require_data(settings, OUTCOMES)
    with _ended_by_logs():
        found = sending.status(settings)
    if as_json:
        print_document(_status(found))
    else:
        _show(found)
    left = found.unread or found.progress.waiting
    if found.dead or (left and not found.running) or any(w.attempts for w in found.progress.waiting):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def dead(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the webhooks that were given up: whose outcome it is, and why."""
    from engine import sending
    from engine.logfiles import OUTCOMES

    settings = effective_settings(data_dir=data_dir, log_level="warning")
    require_data(settings, OUTCOMES)
    with _ended_by_logs():
        rows = [_letter(settings, letter) for letter in sending.dead_letters(settings)]
    if as_json:
        print_document(rows)
        return
    table = Table("id", "since", "tries", "why", "decision", "action", "outcome", box=None)
    for row in rows:
        names = ("id", "failedFirst", "attempts", "cause", "decisionId", "actionId", "outcome")
        table.add_row(*(str(row[name] or "erased") for name in names))
    present(table)
    out.print(f"{len(rows)} dead letters" if len(rows) != 1 else "1 dead letter")


@app.command()
def retry(
    webhooks: Chosen = None, to: Receiver = None, masking: Masking = None, data_dir: DataDir = None
) -> None:
    """Send dead letters once more, as the log has them now, and take out those that are taken.

    Ends with 4 where one is not taken; it stays. A process that sends may run meanwhile.
    """
    from engine import sending
    from engine.logfiles import OUTCOMES

    settings = _settings(data_dir, to, masking)
    require_data(settings, OUTCOMES)
    taken = erased = left = 0
    with _ended_by_logs(), setup_errors():
        for letter, answer in sending.send_again(
            settings, _mask(settings), lambda letters: _chosen(letters, webhooks)
        ):
            if answer is None:
                erased += 1
            elif answer.result == "delivered":
                taken += 1
            else:
                left += 1
                err.print(f"{letter.webhook_id}: {answer.cause}", markup=False, soft_wrap=True)
    out.print(f"{taken} sent, {erased} of erased customers dropped, {left} not taken")
    if left:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def drop(
    webhooks: Annotated[list[str], typer.Argument(help="Ids of webhooks, as `dead` shows them.")],
    data_dir: DataDir = None,
) -> None:
    """Take dead letters out without sending them."""
    from engine import sending
    from engine.logfiles import OUTCOMES

    settings = effective_settings(data_dir=data_dir, log_level="warning")
    require_data(settings, OUTCOMES)
    with _ended_by_logs():
        found = _chosen(sending.dead_letters(settings), webhooks)
        sending.drop(settings, found)
    out.print(f"{len(found)} dropped")


def _settings(data_dir: Path | None, to: str | None, masking: Path | None) -> Settings:
    return effective_settings(data_dir=data_dir, webhook_url=to, webhook_masking=masking)


def _mask(settings: Settings) -> Mask:
    """The mask of webhooks, which is not that of the log. Raises SetupInvalid."""
    return mask_of(settings.model_copy(update={"log_masking": settings.webhook_masking}))


@contextmanager
def _ended_by_logs() -> Iterator[None]:
    """Ends the command where the log of outcomes, or what is noted of it, does not work."""
    from engine.decisionlog.errors import LogError, LogUnavailable

    try:
        yield
    except LogUnavailable as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except LogError as error:
        fail(str(error), EXIT_ERRORS)


def _chosen(letters: Sequence[DeadWebhook], ids: Sequence[str] | None) -> list[DeadWebhook]:
    if not ids:
        return list(letters)
    unknown = sorted(set(ids) - {letter.webhook_id for letter in letters})
    if unknown:
        fail(f"no dead letter {', '.join(unknown)}; `arbiter webhooks dead` lists all", EXIT_ERRORS)
    return [letter for letter in letters if letter.webhook_id in ids]


def _letter(settings: Settings, letter: DeadWebhook) -> dict[str, Any]:
    """A dead letter with what the log has of its outcome; nothing of it where it was erased."""
    from engine import sending

    outcome = sending.recorded(settings).read(letter.position)
    return {
        "id": letter.webhook_id,
        "failedFirst": _instant(letter.failed_first_ms),
        "givenUp": _instant(letter.received_at_ms),
        "attempts": letter.attempts,
        "cause": letter.cause,
        "decisionId": None if outcome is None else outcome.decision_id,
        "actionId": None if outcome is None else outcome.action_id,
        "outcome": None if outcome is None else str(outcome.type),
    }


def _done(progress: Progress) -> dict[str, int]:
    return {
        "delivered": progress.attempts.get("delivered", 0),
        "waiting": len(progress.waiting),
        "dead": progress.dead,
        "erased": progress.erased,
    }


def _status(found: WebhookStatus) -> dict[str, Any]:
    return {
        "processes": list(found.running),
        "unread": found.unread,
        "waiting": len(found.progress.waiting),
        "waitingSince": _instant(found.progress.failing_since_ms),
        "deadLetters": found.dead,
        "lastDelivered": _instant(found.progress.done_ms),
        "attempts": dict(found.progress.attempts),
        "erased": found.progress.erased,
    }


def _show(found: WebhookStatus) -> None:
    told = _status(found)
    who = ", ".join(map(str, found.running))
    out.print(f"sent by process {who}" if who else "nobody sends; start `arbiter webhooks send`")
    attempts = ", ".join(f"{count:,} {result}" for result, count in sorted(told["attempts"].items()))
    out.print(f"attempts: {attempts or 'none yet'}; last taken {told['lastDelivered'] or 'never'}")
    since = f", failing since {told['waitingSince']}" if told["waitingSince"] else ""
    out.print(f"{told['unread']:,} not taken up, {told['waiting']:,} waiting{since}")
    letters = "1 dead letter" if found.dead == 1 else f"{found.dead:,} dead letters"
    out.print(f"{letters}{'; see `arbiter webhooks dead`' if found.dead else ''}", markup=False)


def _instant(at_ms: int) -> str | None:
    if not at_ms:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
