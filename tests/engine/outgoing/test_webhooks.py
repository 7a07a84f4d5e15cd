"""Outcomes sent to a real receiver over HTTP: signed, at least once, in order, and to nobody else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from receiver_at_work import OTHER_SECRET, SECRET, Arrival, Receiver, entry, log_outcomes, receiving
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.responses import Response, StreamingResponse
from structlog.testing import capture_logs

from engine.decisionlog.compressing import compress
from engine.decisionlog.cursor import Bookmark
from engine.decisionlog.erasure import erase_entries
from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.ledger import outcome_log
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.masking import Handling, Mask, MaskingPolicy
from engine.errors import SetupInvalid
from engine.outgoing import sender as sending
from engine.outgoing.answers import Answer, Result
from engine.outgoing.courier import Courier
from engine.outgoing.deadletters import DeadWebhooks
from engine.outgoing.errors import ReceiverGone
from engine.outgoing.messages import Message, Messages, naming_key
from engine.outgoing.progress import CURSOR, Progress, look
from engine.outgoing.sender import Pace, Sender
from engine.outgoing.signing import Secrets, kept_secrets, read_secrets, signed_headers
from engine.ports import held_port

KEEP_ALL = MaskingPolicy(customer_id=Handling.KEEP, request_id=Handling.KEEP)
QUICK = {"first_s": 0.01, "longest_s": 0.05, "longest_away_s": 0.05}


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def at_work() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(at_work: Receiver) -> Receiver:
    """One that got nothing so far and takes all."""
    at_work.begin_anew()
    return at_work


class Webhooks:
    """Sends the outcomes of a data directory to a receiver, in this process."""

    def __init__(self, data_dir: Path, receiver: Receiver) -> None:
        self.data_dir = data_dir
        self.receiver = receiver
        self.folder = data_dir / "webhooks"
        self.erased: set[str] = set()
        self.folder.mkdir(exist_ok=True)

    def messages(self, policy: MaskingPolicy = KEEP_ALL) -> Messages:
        return Messages(
            outcome_log(self.data_dir / "outcomes"),
            DecisionLog(self.data_dir / "decisions"),
            mask=Mask(policy, key=b"key", feature_names=lambda _versions: ()),
            is_erased=self.erased.__contains__,
            naming_key=naming_key(self.folder, b""),
        )

    def send(
        self,
        *,
        once: bool = True,
        policy: MaskingPolicy = KEEP_ALL,
        secrets: Secrets | None = None,
        give_up_s: float = 3600.0,
        deadline_s: float = 5.0,
        connections: int = 4,
        url: str = "",
        since_ms: int = 0,
    ) -> Progress:
        """Sends until nothing is new or due, or with `once` False until the receiver has enough."""
        place = Bookmark(self.data_dir / "outcomes", self.folder / CURSOR, Progress)

        async def run(letters: DeadWebhooks) -> None:
            async with Courier(
                url or self.receiver.url,
                secrets or (lambda: read_secrets(SECRET, "test")),
                deadline_s=deadline_s,
                clock=wall_clock_ms,
                by_proxy=False,
            ) as courier:
                await Sender(
                    place,
                    self.messages(policy),
                    courier,
                    letters,
                    pace=Pace(give_up_s, **QUICK),
                    clock=wall_clock_ms,
                    stop=self.receiver.stop,
                    connections=connections,
                    since_ms=since_ms,
                ).run(once=once)

        with DeadWebhooks(self.folder / "dead") as letters:
            asyncio.run(run(letters))
        return place.cursor

    def until(self, taken: int, **how: Any) -> Progress:
        """Sends until so many were taken."""
        self.receiver.enough = taken
        self.receiver.stop.clear()
        return self.send(once=False, **how)

    @property
    def letters(self) -> list[tuple[str, str]]:
        """Outcomes that were given up, and why."""
        log = outcome_log(self.data_dir / "outcomes")
        found = []
        for letter in DeadWebhooks(self.folder / "dead").letters():
            outcome = log.read(letter.position)
            found.append(("" if outcome is None else outcome.outcome_id, letter.cause))
        return found


@pytest.fixture
def webhooks(tmp_path: Path, receiver: Receiver) -> Webhooks:
    return Webhooks(tmp_path, receiver)


def refusing(status: int, which: Callable[[Arrival], bool], **headers: str) -> Callable[[Arrival], Response]:
    """Answers some messages with a status."""

    def answer(arrival: Arrival) -> Response:
        refused = which(arrival)
        return Response(status_code=status if refused else 204, headers=headers if refused else None)

    return answer


def first(count: int) -> Callable[[Arrival], bool]:
    """Of all arrivals the first ones."""
    left = iter(range(count))
    return lambda _arrival: next(left, None) is not None


def outcome(*ids: str) -> Callable[[Arrival], bool]:
    return lambda arrival: arrival.data["outcomeId"] in ids


def test_outcomes_come_once_in_order_and_signed(webhooks: Webhooks, receiver: Receiver) -> None:
    """Where nothing fails; the next run sends what is new, compressed or not."""
    ids = log_outcomes(webhooks.data_dir, 5, customers=1)
    webhooks.send()
    list(compress(webhooks.data_dir / "outcomes", ended_before_s=1e12))
    ids += log_outcomes(webhooks.data_dir, 2, start=5, customers=1)

    progress = webhooks.send()

    verifier = Webhook(SECRET)
    assert receiver.outcome_ids == ids
    assert [verifier.verify(a.body, a.headers)["type"] for a in receiver.taken] == ["outcome.recorded"] * 7
    assert len({a.webhook_id for a in receiver.taken}) == 7
    assert (progress.attempts, progress.waiting) == ({"delivered": 7}, [])


def test_a_message_says_what_happened_and_of_whom_a_pseudonym(webhooks: Webhooks, receiver: Receiver) -> None:
    """By default nothing that names a person leaves, the client's own ids neither."""
    with outcome_log(webhooks.data_dir / "outcomes") as log:
        log.append(entry(0, "c-0", reason="price"))

    webhooks.send(policy=MaskingPolicy())

    (arrival,) = receiver.taken
    assert arrival.headers["content-type"] == "application/json"
    assert set(arrival.data) == {
        "outcome", "decisionId", "actionId", "recordTime", "channel", "purpose", "reason", "customer",
    }  # fmt: skip
    assert (arrival.data["outcome"], arrival.data["reason"]) == ("accepted", "price")
    assert arrival.data["customer"].startswith("p-")
    assert b"c-0" not in arrival.body
    assert b"o-0" not in arrival.body
    assert arrival.data["recordTime"] == "2026-05-28T20:26:40.000Z"


def test_signatures_are_those_of_the_specification() -> None:
    """The example that its libraries are tested with."""
    headers = signed_headers(
        read_secrets(SECRET, "test"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        now_ms=1_614_265_330_000,
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_secret_signs_while_one_takes_the_place_of_another(
    webhooks: Webhooks, receiver: Receiver, tmp_path: Path
) -> None:
    """So receivers can change at any moment between; the file is read anew, and a bad one leaves the last."""
    file = tmp_path / "secrets"
    file.write_text(f"{SECRET}\n")
    secrets = kept_secrets(file, look_s=0.0)
    for n, content in enumerate((SECRET, f"{OTHER_SECRET}\n{SECRET}\n", "whsec_no", OTHER_SECRET)):
        file.write_text(content)
        log_outcomes(webhooks.data_dir, 1, start=n)
        webhooks.send(secrets=secrets)

    known = [[verifies(arrival, secret) for secret in (SECRET, OTHER_SECRET)] for arrival in receiver.taken]
    assert known == [[True, False], [True, True], [True, True], [False, True]]


def verifies(arrival: Arrival, secret: str) -> bool:
    try:
        Webhook(secret).verify(arrival.body, arrival.headers)
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no secret"),
        ("planted", "does not begin with whsec_"),
        ("whsec_planted!", "is not base64"),
        ("whsec_c2hvcnQ=", "has 5 bytes"),
    ],
)
def test_a_bad_secret_is_refused_and_not_quoted(text: str, told: str) -> None:
    """With what to do."""
    with pytest.raises(SetupInvalid, match=told) as refused:
        read_secrets(text, "ARBITER_WEBHOOK_SECRET")

    assert "openssl rand" in str(refused.value)
    assert not text or text not in str(refused.value)


def test_what_may_be_taken_later_is_sent_again(webhooks: Webhooks, receiver: Receiver) -> None:
    """By the same name, so that the receiver knows it again."""
    statuses = [408, 409, 425, 429, 500, 502, 503]
    log_outcomes(webhooks.data_dir, len(statuses), customers=len(statuses))
    failures = {f"o-{n}": [status] * 2 for n, status in enumerate(statuses)}

    def answer(arrival: Arrival) -> Response:
        left = failures[arrival.data["outcomeId"]]
        return Response(status_code=left.pop() if left else 204)

    receiver.answer = answer

    webhooks.until(len(statuses))

    assert len(receiver.arrivals) == 3 * len(statuses)
    assert len({(arrival.webhook_id, arrival.body) for arrival in receiver.arrivals}) == len(statuses)
    assert webhooks.letters == []


def test_what_will_never_be_taken_is_a_dead_letter(webhooks: Webhooks, receiver: Receiver) -> None:
    """At once, and the others go on; no redirect is followed."""
    statuses = [400, 401, 404, 422, 301, 307]
    log_outcomes(webhooks.data_dir, len(statuses) + 2, customers=2)

    def answer(arrival: Arrival) -> Response:
        n = int(arrival.data["outcomeId"][2:])
        if n >= len(statuses):
            return Response(status_code=204)
        return Response(status_code=statuses[n], headers={"Location": receiver.url + "/elsewhere"})

    receiver.answer = answer

    progress = webhooks.send()

    assert sorted(receiver.outcome_ids) == ["o-6", "o-7"]
    assert len(receiver.arrivals) == len(statuses) + 2
    causes = dict(webhooks.letters)
    assert [causes[f"o-{n}"].split()[1] for n in range(len(statuses))] == list(map(str, statuses))
    assert (progress.dead, progress.waiting) == (len(statuses), [])


def test_a_receiver_that_is_gone_gets_nothing_more(webhooks: Webhooks, receiver: Receiver) -> None:
    """Sending ends, and nothing is lost: it goes on where somebody takes it."""
    ids = log_outcomes(webhooks.data_dir, 6, customers=1)
    receiver.answer = refusing(410, lambda _arrival: True)
    with pytest.raises(ReceiverGone, match="410"):
        webhooks.send()
    asked = len(receiver.arrivals)

    receiver.answer = lambda _arrival: Response(status_code=200)
    receiver.stop.clear()
    webhooks.send()

    assert asked == 1
    assert receiver.outcome_ids == ids
    assert webhooks.letters == []


def test_what_waits_holds_back_its_customer_and_nobody_else(webhooks: Webhooks, receiver: Receiver) -> None:
    """The outcomes of one customer come in their order, however often one fails."""
    ids = log_outcomes(webhooks.data_dir, 9)
    failures = first(3)
    receiver.answer = refusing(500, lambda a: outcome("o-3")(a) and failures(a))

    webhooks.until(9)

    came = receiver.outcome_ids
    assert sorted(came) == ids
    for customer in range(3):
        assert [each for each in came if int(each[2:]) % 3 == customer] == ids[customer::3]
    assert came[-2:] == ["o-3", "o-6"]


def test_who_has_no_success_for_long_is_given_up(webhooks: Webhooks, receiver: Receiver) -> None:
    """After its time, as a dead letter with the last cause; those behind it then have their turn."""
    log_outcomes(webhooks.data_dir, 2, customers=1)
    receiver.answer = refusing(500, outcome("o-0"))

    progress = webhooks.until(1, give_up_s=0.05)

    assert webhooks.letters == [("o-0", "answered 500 Internal Server Error")]
    assert receiver.outcome_ids == ["o-1"]
    assert progress.attempts["failed"] >= 2


def test_what_waits_is_taken_up_by_the_next_process(webhooks: Webhooks, receiver: Receiver) -> None:
    """With its attempts; in the folder of the sender there is nothing of a customer."""
    ids = log_outcomes(webhooks.data_dir, 3)
    receiver.answer = refusing(500, lambda _arrival: True)
    left = webhooks.send()
    kept = (webhooks.folder / CURSOR).read_bytes()
    failing = look(webhooks.folder)

    receiver.answer = lambda _arrival: Response(status_code=200)
    webhooks.send()

    assert [(w.attempts > 0, w.failed_first_ms > 0) for w in left.waiting] == [(True, True)] * 3
    assert b"c-" not in kept
    assert failing is not None
    assert (failing.waiting, failing.senders, failing.waiting_since_ms > 0) == (3, 0, True)
    assert sorted(receiver.outcome_ids) == ids


def test_many_that_wait_leave_the_rest_in_the_log(
    webhooks: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a receiver is away, what is kept beside the log is bounded."""
    monkeypatch.setattr(sending, "_MOST_WAITING", 4)
    monkeypatch.setattr(sending, "_TURN", 2)
    ids = log_outcomes(webhooks.data_dir, 20, customers=20)
    receiver.answer = refusing(503, lambda _arrival: True)

    left = webhooks.send()
    receiver.answer = lambda _arrival: Response(status_code=200)
    webhooks.until(20)

    assert len(left.waiting) == 4
    assert sorted(receiver.outcome_ids) == sorted(ids)


def test_erased_customers_are_left_out(webhooks: Webhooks, receiver: Receiver) -> None:
    """Whose records are blank, who is in the register, and who was erased while a message waited."""
    log_outcomes(webhooks.data_dir, 8, customers=4)
    erase_entries(webhooks.data_dir / "outcomes", "c-1", actor="dpo", reason="r", now_ms=1)
    webhooks.erased.add("c-2")
    receiver.answer = refusing(500, outcome("o-3", "o-7"))
    webhooks.send()

    receiver.answer = lambda _arrival: Response(status_code=200)
    webhooks.erased.add("c-3")
    progress = webhooks.send()

    assert receiver.outcome_ids == ["o-0", "o-4"]
    assert (progress.erased, progress.waiting) == (6, [])


def test_an_outcome_logged_twice_has_one_name(webhooks: Webhooks, receiver: Receiver) -> None:
    """A client that reports again after an error is logged again; names differ by customer and outcome."""
    with outcome_log(webhooks.data_dir / "outcomes") as log:
        for n, customer_id in ((0, "c-0"), (0, "c-0"), (0, "c-1"), (1, "c-0")):
            log.append(entry(n, customer_id))

    webhooks.send(connections=1)

    of_customers = sorted((a.data["customer"], a.data["outcomeId"], a.webhook_id) for a in receiver.taken)
    assert of_customers[0] == of_customers[1]
    assert len({name for *_, name in of_customers}) == 3


def test_an_older_outcome_is_sent_where_its_decision_says_whose_it_is(
    webhooks: Webhooks, receiver: Receiver
) -> None:
    """Else nobody can tell whether its customer was erased."""
    with outcome_log(webhooks.data_dir / "outcomes") as log:
        log.append(entry(0, "", use=None, decision_id="0" * 26))

    progress = webhooks.send()

    assert receiver.arrivals == []
    assert progress.erased == 1


def test_outcomes_before_an_instant_are_passed_over(webhooks: Webhooks, receiver: Receiver) -> None:
    """A receiver that is new need not get the history."""
    log_outcomes(webhooks.data_dir, 4, customers=1)

    webhooks.send(since_ms=1_780_000_000_002)

    assert receiver.outcome_ids == ["o-2", "o-3"]


def test_a_receiver_that_is_away_is_waited_for_and_told_of_once(
    webhooks: Webhooks, receiver: Receiver
) -> None:
    """Nothing is given up for it, and it is not asked by every message."""
    ids = log_outcomes(webhooks.data_dir, 30, customers=30)
    receiver.answer = refusing(503, first(3))
    with capture_logs() as told:
        webhooks.until(30)

    assert sorted(receiver.outcome_ids) == sorted(ids)
    assert len(receiver.arrivals) == 33
    events = [event["event"] for event in told]
    assert events == ["webhooks.receiver_away", "webhooks.receiver_back"]


def one_attempt(url: str, deadline_s: float = 5.0) -> Answer:
    """What comes of sending a message there."""

    async def deliver() -> Answer:
        secrets = read_secrets(SECRET, "test")
        async with Courier(
            url, lambda: secrets, deadline_s=deadline_s, clock=wall_clock_ms, by_proxy=False
        ) as courier:
            return await courier.deliver(Message("out_1", b"{}", "c-1", 0))

    return asyncio.run(deliver())


def test_an_attempt_ends_at_its_deadline(receiver: Receiver) -> None:
    """Of a receiver that answers with a status and then drips, the status counts."""

    async def drip() -> Any:
        while True:
            yield b"."
            await asyncio.sleep(0.02)

    receiver.answer = lambda _arrival: StreamingResponse(drip())
    began = time.monotonic()

    answer = one_attempt(receiver.url, deadline_s=0.15)

    assert answer.result is Result.DELIVERED
    assert time.monotonic() - began < 3


def test_who_does_not_answer_in_time_is_away() -> None:
    """So is who refuses the connection."""
    with closing(held_port(("127.0.0.1", 0), "--port")) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        refused = one_attempt(url)
        held.listen()
        silent = one_attempt(url, deadline_s=0.1)

    assert (refused.result, refused.status) == (Result.AWAY, None)
    assert refused.cause.startswith("ConnectError")
    assert (silent.result, silent.cause) == (Result.AWAY, "did not answer within 0.1 s")


@pytest.mark.parametrize(
    ("said", "least_s", "most_s"),
    [
        ("7", 7, 7),
        ("soon", 0, 0),
        ("-3", 0, 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 1e9, 3e9),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("99999999999999999999", 999_999_999, 999_999_999),
    ],
)
def test_a_receiver_may_say_when_to_come_again(
    receiver: Receiver, said: str, least_s: float, most_s: float
) -> None:
    """In seconds or as a date."""
    receiver.answer = lambda _arrival: Response(status_code=429, headers={"Retry-After": said})

    answer = one_attempt(receiver.url)

    assert least_s <= answer.wait_s <= most_s


def test_attempts_are_spaced_twice_as_far_each_time() -> None:
    """Up to a bound, in part by chance, and no sooner than the receiver asks, within an hour."""
    sure, lucky = Pace(1.0, dice=lambda: 1.0), Pace(1.0, dice=lambda: 0.0)

    assert [sure.pause_s(n, 900, 0) for n in (1, 2, 3, 10, 11, 5000)] == [1, 2, 4, 512, 900, 900]
    assert lucky.pause_s(3, 900, 0) == 2
    assert sure.pause_s(1, 900, 120) == 120
    assert sure.pause_s(1, 900, 1e9) == 3600


def test_what_a_receiver_asks_for_holds_back_all_messages(webhooks: Webhooks, receiver: Receiver) -> None:
    """It is too much for it, not this message."""
    log_outcomes(webhooks.data_dir, 5, customers=5)
    receiver.answer = refusing(429, lambda _arrival: True, **{"Retry-After": "3600"})

    progress = webhooks.send(connections=1)

    assert len(receiver.arrivals) == 1
    assert len(progress.waiting) == 5


def test_any_mix_of_failures_loses_nothing_and_keeps_order(webhooks: Webhooks, receiver: Receiver) -> None:
    """At random: every outcome is taken or a dead letter, and customers see theirs in order."""
    dice = random.Random(8)
    ids = log_outcomes(webhooks.data_dir, 120, customers=12)
    receiver.answer = lambda _arrival: Response(status_code=dice.choice((200, 200, 200, 500, 503, 422)))

    for _ in range(200):
        if not webhooks.send().waiting:
            break

    dead = [name for name, _ in webhooks.letters]
    assert sorted(receiver.outcome_ids + dead) == sorted(ids)
    assert dead
    for customer in range(12):
        numbers = [int(each[2:]) for each in receiver.outcome_ids if int(each[2:]) % 12 == customer]
        assert numbers == sorted(numbers)


def test_who_is_erased_while_a_message_waits_is_not_sent(webhooks: Webhooks, receiver: Receiver) -> None:
    """By the process that has taken it up, too."""
    log_outcomes(webhooks.data_dir, 2, customers=2)

    def answer(arrival: Arrival) -> Response:
        if arrival.data["outcomeId"] == "o-1":
            return Response(status_code=204)
        webhooks.erased.add("c-0")
        log_outcomes(webhooks.data_dir, 1, start=3, customers=2)
        return Response(status_code=500)

    receiver.answer = answer

    webhooks.until(1)
    receiver.answer = lambda _arrival: Response(status_code=204)
    receiver.stop.clear()
    progress = webhooks.send()

    assert receiver.outcome_ids == ["o-1", "o-3"]
    assert (progress.erased, progress.waiting) == (1, [])


def test_names_are_the_same_on_every_machine_that_has_the_identity_key(tmp_path: Path) -> None:
    """Without one each data directory keeps a key of its own, readable by its owner only."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()

    shared = {naming_key(folder, b"identity") for folder in folders}
    own = [naming_key(folder, b"") for folder in folders]

    assert len(shared) == 1
    assert len(set(own)) == 2
    assert own == [naming_key(folder, b"") for folder in folders]
    assert (folders[0] / "naming-key").stat().st_mode & 0o077 == 0
    (folders[0] / "naming-key").write_bytes(b"short")
    with pytest.raises(LogUnavailable, match="it is no key"):
        naming_key(folders[0], b"")


def test_an_answer_is_not_read_without_end(receiver: Receiver) -> None:
    """Its status is all that is wanted of it."""

    async def endless() -> Any:
        while True:
            yield b"." * 10_000
            await asyncio.sleep(0)

    receiver.answer = lambda _arrival: StreamingResponse(endless(), status_code=422)

    assert one_attempt(receiver.url, deadline_s=60).cause == "answered 422 Unprocessable Entity"


def test_metrics_go_on_where_what_was_sent_cannot_be_read(tmp_path: Path) -> None:
    """The sender says so itself."""
    before = look(tmp_path)
    (tmp_path / CURSOR).write_bytes(b"{")

    assert before is None
    assert look(tmp_path) is None
