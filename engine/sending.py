"""The life of a process that sends webhooks, until SIGTERM or SIGINT; and what commands ask of its files."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from engine.bootstrap import wall_clock_ms
from engine.decisionlog.cursor import Bookmark, alone
from engine.decisionlog.ledger import OutcomeLog, outcome_log
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.masking import Mask
from engine.errors import SetupInvalid
from engine.logfiles import DECISIONS, ERASED, OUTCOMES, WEBHOOKS, identity_key, log_directory
from engine.outgoing.answers import Answer, Result
from engine.outgoing.courier import Courier
from engine.outgoing.deadletters import DeadWebhook, DeadWebhooks
from engine.outgoing.messages import Messages, naming_key
from engine.outgoing.progress import CURSOR, Progress, SendingProcess, sending_processes
from engine.outgoing.sender import Pace, Sender
from engine.outgoing.signing import Secrets, kept_secrets, read_secrets
from engine.service.erased import ErasedCustomers
from engine.settings import Settings, is_this_machine

_log = structlog.get_logger("engine.sending")


@dataclass(frozen=True, slots=True)
class WebhookStatus:
    """How sending stands: `unread` outcomes were recorded and not yet taken up."""

    running: tuple[int, ...]
    unread: int
    dead: int
    progress: Progress


def send(settings: Settings, mask: Mask, *, once: bool, since_ms: int) -> Progress:
    """Sends until told to stop, with `once` until nothing is new or due; gives how far it has come.

    Raises SetupInvalid, ReceiverGone and LogError.
    """
    courier = _courier(settings)
    folder = _folder(settings)
    with _until_told() as stop, alone(folder), _announced(folder), _letters(settings) as letters:
        place = Bookmark(log_directory(settings, OUTCOMES), folder / CURSOR, Progress)
        sender = Sender(
            place,
            _messages(settings, mask),
            courier,
            letters,
            pace=Pace(give_up_s=settings.webhook_give_up_hours * 3600),
            clock=wall_clock_ms,
            stop=stop,
            connections=settings.webhook_connections,
            since_ms=since_ms,
        )
        _log.info("webhooks.ready", receiver=receiver_shown(settings))

        async def run() -> None:
            async with courier:
                await sender.run(once=once)

        asyncio.run(run())
        _log.info("webhooks.stopped")
        return place.cursor


def send_again(
    settings: Settings, mask: Mask, chosen: Callable[[Sequence[DeadWebhook]], Sequence[DeadWebhook]]
) -> Iterator[tuple[DeadWebhook, Answer | None]]:
    """Sends dead letters once more, each when it is asked for; None where its customer was erased.

    Those that are taken, and those of the erased, are letters no more. Raises SetupInvalid and LogError.
    """
    courier, messages = _courier(settings), _messages(settings, mask)
    with _letters(settings) as letters, asyncio.Runner() as runner:
        try:
            for letter in chosen(letters.letters()):
                message = messages.at(letter.position)
                answer = None if message is None else runner.run(courier.deliver(message))
                if answer is None or answer.result is Result.DELIVERED:
                    letters.remove([letter], now_ms=wall_clock_ms())
                yield letter, answer
        finally:
            runner.run(courier.__aexit__(None, None, None))


def dead_letters(settings: Settings) -> list[DeadWebhook]:
    """Webhooks that were given up. Raises LogError."""
    return _letters(settings).letters()


def drop(settings: Settings, letters: Sequence[DeadWebhook]) -> None:
    """Takes dead letters out without sending them. Raises LogError."""
    with _letters(settings) as kept:
        kept.remove(letters, now_ms=wall_clock_ms())


def recorded(settings: Settings) -> OutcomeLog:
    """Outcomes, to read."""
    return outcome_log(log_directory(settings, OUTCOMES))


def status(settings: Settings) -> WebhookStatus:
    """How sending stands. Raises LogError."""
    place = Bookmark(log_directory(settings, OUTCOMES), _folder(settings) / CURSOR, Progress)
    return WebhookStatus(
        running=tuple(process.pid for process in sending_processes(_folder(settings)).running()),
        unread=sum(1 for _ in place.new()),
        dead=len(dead_letters(settings)),
        progress=place.cursor,
    )


def receiver_shown(settings: Settings) -> str:
    """Where webhooks go, without what may be secret of it."""
    parts = urlsplit(_url(settings))
    return f"{parts.scheme}://{parts.netloc}"


def _url(settings: Settings) -> str:
    if settings.webhook_url is None:
        raise SetupInvalid(
            "there is no receiver; give ARBITER_WEBHOOK_URL, such as https://crm.example.com/arbiter"
        )
    return settings.webhook_url.get_secret_value()


def _courier(settings: Settings) -> Courier:
    url = _url(settings)
    return Courier(
        url,
        _secrets(settings),
        deadline_s=settings.webhook_timeout_s,
        clock=wall_clock_ms,
        by_proxy=not is_this_machine(urlsplit(url).hostname or ""),
    )


def _secrets(settings: Settings) -> Secrets:
    name = "ARBITER_WEBHOOK_SECRET"
    if settings.webhook_secret_file is not None:
        if settings.webhook_secret is not None:
            raise SetupInvalid(f"give either {name} or {name}_FILE, not both")
        return kept_secrets(settings.webhook_secret_file)
    given = settings.webhook_secret
    found = read_secrets("" if given is None else given.get_secret_value(), name)
    return lambda: found


def _messages(settings: Settings, mask: Mask) -> Messages:
    folder = _folder(settings)
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    erased = ErasedCustomers(settings.data_dir / ERASED)
    return Messages(
        recorded(settings),
        DecisionLog(log_directory(settings, DECISIONS)),
        mask=mask,
        is_erased=lambda customer_id: erased.entry(customer_id) is not None,
        naming_key=naming_key(folder, identity_key(settings)),
    )


def _folder(settings: Settings) -> Path:
    return settings.data_dir / WEBHOOKS


def _letters(settings: Settings) -> DeadWebhooks:
    return DeadWebhooks(_folder(settings) / "dead")


@contextmanager
def _until_told() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs."""
    stop = threading.Event()
    former = {
        number: signal.signal(number, lambda _number, _frame: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _announced(folder: Path) -> Iterator[None]:
    """Says that this process sends while the block runs."""
    processes = sending_processes(folder)
    processes.tell(SendingProcess(os.getpid()))
    try:
        yield
    finally:
        processes.forget(os.getpid())
