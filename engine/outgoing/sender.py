"""Sends outcomes to a receiver as they are recorded: each at least once, whatever dies.

How far it has come is on disk, with what was taken up and is still to be sent, and moves on once a message
was taken or given up; so after a kill some come again, by the same name, and none is left out. The outcomes
of a customer go one after the other, and where one has to wait, those behind it wait too.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, assert_never

import structlog

from engine.decisionlog.cursor import Bookmark, NewRecord
from engine.outgoing.answers import Answer, Result
from engine.outgoing.courier import Courier
from engine.outgoing.deadletters import DeadWebhook, DeadWebhooks
from engine.outgoing.errors import ReceiverGone
from engine.outgoing.messages import Message, Messages
from engine.outgoing.progress import Progress, Waiting

_LOOK_S: Final = 0.2
"""Between looks for new outcomes."""
_TURN: Final = 100
"""Most messages between two notes of how far it has come: as many may come twice after a kill."""
_MOST_WAITING: Final = 1_000
"""Messages taken up and not sent; beyond, what is new stays in the log."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How failing attempts are spaced: twice as long each time, up to `longest_s`; of a receiver that is
    away `longest_away_s`. After `give_up_s` a message is given up. `most_asked_s` is the most that a receiver
    may ask for.
    """

    give_up_s: float
    first_s: float = 1.0
    longest_s: float = 900.0
    longest_away_s: float = 30.0
    most_asked_s: float = 3600.0
    dice: Callable[[], float] = random.random

    def pause_s(self, failures: int, longest_s: float, asked_s: float) -> float:
        """Time until the next attempt after so many; some of it by chance, so that senders part."""
        pause = min(longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return max(pause * (1 + self.dice()) / 2, min(asked_s, self.most_asked_s))


@dataclass(slots=True, eq=False)
class _Parcel:
    """A message taken up, and when it is due."""

    position: int
    customer_id: str
    attempts: int = 0
    failed_first_ms: int = 0
    due_s: float = 0.0


class Sender:
    """Sends from where the last one stopped. `place` must be nobody else's meanwhile."""

    def __init__(
        self,
        place: Bookmark[Progress],
        messages: Messages,
        courier: Courier,
        letters: DeadWebhooks,
        *,
        pace: Pace,
        clock: Callable[[], int],
        stop: threading.Event,
        connections: int = 4,
        since_ms: int = 0,
    ) -> None:
        """Outcomes recorded before `since_ms` are passed over."""
        self._place = place
        self._messages = messages
        self._courier = courier
        self._letters = letters
        self._pace = pace
        self._clock = clock
        self._stop = stop
        self._connections = asyncio.Semaphore(connections)
        self._since_ms = since_ms
        self._new: Iterator[NewRecord] = iter(())
        self._parcels: dict[int, _Parcel] = {}
        self._away = 0
        self._paused_until_s = 0.0
        self._log = structlog.get_logger("engine.outgoing")

    async def run(self, *, once: bool) -> None:
        """Until `stop` is set; with `once` until nothing is new or due.

        Raises ReceiverGone, and LogError rather than pass over a damaged record.
        """
        self._take_up_again()
        self._note()
        while not self._stop.is_set():
            if not await self._turn():
                if once:
                    return
                await asyncio.sleep(self._idle_s())

    async def _turn(self) -> bool:
        """Takes up what is new and sends what is due; whether there was any."""
        took, due = self._take_up(), self._due()
        if not took and not due:
            return False
        results = await asyncio.gather(*map(self._send, due), return_exceptions=True)
        self._note()
        for error in results:
            if error is not None:
                raise error
        return True

    def _take_up_again(self) -> None:
        """What a sender before this one left."""
        for waiting in self._progress.waiting:
            message = self._messages.at(waiting.position)
            if message is None:
                self._progress.erased += 1
            else:
                self._parcels[waiting.position] = _Parcel(
                    waiting.position, message.customer_id, waiting.attempts, waiting.failed_first_ms
                )

    def _take_up(self) -> bool:
        """Makes parcels of new records, by the time they came in; whether there were any."""
        if len(self._parcels) >= _MOST_WAITING:
            return False
        records = list(islice(self._new, _TURN))
        if not records:
            self._new = self._place.new()
            records = list(islice(self._new, _TURN))
        found: list[tuple[int, Message]] = []
        for record in records:
            position = record.segment_id << 40 | record.offset
            message = self._messages.at(position)
            if message is None:
                self._progress.erased += 1
            elif message.received_at_ms >= self._since_ms:
                found.append((position, message))
        for position, message in sorted(found, key=lambda each: each[1].received_at_ms):
            self._parcels[position] = _Parcel(position, message.customer_id)
        self._place.passed(records)
        return bool(records)

    def _due(self) -> list[list[_Parcel]]:
        """Parcels to send now, those of one customer together and in their order."""
        now_s = time.monotonic()
        if now_s < self._paused_until_s:
            return []
        of: dict[str, list[_Parcel]] = {}
        for parcel in self._parcels.values():
            of.setdefault(parcel.customer_id, []).append(parcel)
        due: list[list[_Parcel]] = []
        left = _TURN
        for parcels in of.values():
            if left and parcels[0].due_s <= now_s:
                due.append(parcels[:left])
                left -= len(due[-1])
        return due

    def _idle_s(self) -> float:
        """Time until something may be due."""
        due_s = min((parcel.due_s for parcel in self._parcels.values()), default=0.0)
        left_s = max(due_s, self._paused_until_s) - time.monotonic()
        return min(left_s, _LOOK_S) if left_s > 0 else _LOOK_S

    async def _send(self, parcels: list[_Parcel]) -> None:
        """Sends parcels of one customer until one has to wait."""
        async with self._connections:
            for parcel in parcels:
                if self._stop.is_set() or time.monotonic() < self._paused_until_s:
                    return
                if not await self._is_settled(parcel):
                    return

    async def _is_settled(self, parcel: _Parcel) -> bool:
        """Makes an attempt; False where the parcel has to wait."""
        message = self._messages.at(parcel.position)
        if message is None:
            self._progress.erased += 1
            del self._parcels[parcel.position]
            return True
        answer = await self._courier.deliver(message)
        self._count(answer)
        parcel.attempts += 1
        match answer.result:
            case Result.DELIVERED:
                self._progress.done_ms = self._clock()
            case Result.REFUSED:
                self._give_up(parcel, message, answer)
            case Result.GONE:
                self._stop.set()
                raise ReceiverGone(answer.cause)
            case Result.FAILED | Result.AWAY:
                if not self._is_hopeless(parcel):
                    self._wait(parcel, answer)
                    return False
                self._give_up(parcel, message, answer)
            case _:
                assert_never(answer.result)
        del self._parcels[parcel.position]
        return True

    def _is_hopeless(self, parcel: _Parcel) -> bool:
        """Whether it has failed for long enough; the first failure is noted."""
        now_ms = self._clock()
        parcel.failed_first_ms = parcel.failed_first_ms or now_ms
        return now_ms - parcel.failed_first_ms >= self._pace.give_up_s * 1000

    def _wait(self, parcel: _Parcel, answer: Answer) -> None:
        """Says when a parcel is due again and, of a receiver that is away, when any is."""
        pace, now_s = self._pace, time.monotonic()
        away = answer.result is Result.AWAY
        longest_s = pace.longest_away_s if away else pace.longest_s
        parcel.due_s = now_s + pace.pause_s(parcel.attempts, longest_s, answer.wait_s)
        if away and now_s >= self._paused_until_s:
            if self._away == 0:
                self._log.error("webhooks.receiver_away", cause=answer.cause)
            self._away += 1
            self._paused_until_s = now_s + pace.pause_s(self._away, longest_s, answer.wait_s)

    def _count(self, answer: Answer) -> None:
        attempts = self._progress.attempts
        attempts[answer.result] = attempts.get(answer.result, 0) + 1
        if answer.result is not Result.AWAY and self._away:
            self._log.info("webhooks.receiver_back", attempts=self._away)
            self._away = 0

    def _give_up(self, parcel: _Parcel, message: Message, answer: Answer) -> None:
        now_ms = self._clock()
        self._letters.put(
            DeadWebhook(
                webhook_id=message.webhook_id,
                position=parcel.position,
                received_at_ms=now_ms,
                cause=answer.cause,
                attempts=parcel.attempts,
                failed_first_ms=parcel.failed_first_ms or now_ms,
            )
        )
        self._progress.dead += 1
        self._log.warning("webhooks.dead", webhook_id=message.webhook_id, cause=answer.cause)

    def _note(self) -> None:
        """Puts on disk how far it has come."""
        self._progress.waiting = [
            Waiting(p.position, p.attempts, p.failed_first_ms) for p in self._parcels.values()
        ]
        self._place.keep()

    @property
    def _progress(self) -> Progress:
        return self._place.cursor
