"""A request id is one decision, however often and from wherever it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from arbiter_at_work import AT_RISK, LOYAL, failure_of, in_threads, query, reason_of, scene

from engine.bootstrap import Application, wall_clock_ms
from engine.client import ArbiterClient
from engine.decisionlog.log import DecisionLog
from engine.errors import RequestIdReused, RequestInProgress
from engine.service.decisions import Decisions

TTL_MS = 60_000


class _Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ms = wall_clock_ms()

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> _Clock:
    """A clock that stands still."""
    return _Clock()


@pytest.fixture
def decisions(application: Application, clock: _Clock) -> Iterator[Decisions]:
    """The use case on the test's clock, with a log of its own as another worker would have."""
    with DecisionLog(application.settings.data_dir / "decisions") as log:
        yield Decisions(
            live=application.live,
            store=application.store,
            log=log,
            clock=clock,
            request_id_ttl_ms=TTL_MS,
        )


def logged(application: Application, customer_id: str) -> list[str]:
    """Ids of the logged decisions of a customer."""
    return [record.decision_id for record in application.log.scan(customer_id=customer_id)]


def test_repeated_request_gets_the_first_reply_to_the_byte(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """The same request with the same id is answered alike and logged once."""
    customer = like(AT_RISK)
    request = scene(AT_RISK, customer, request_id=f"again-{customer}")

    first = arbiter.decide(request)
    second = arbiter.decide(request)

    assert second.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert logged(application, customer) == [first.decision_id]


def test_requests_without_an_id_are_decided_each(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """Nothing is remembered of a request that does not ask for it."""
    customer = like(LOYAL)

    ids = [arbiter.decide(scene(LOYAL, customer)).decision_id for _ in range(2)]

    assert sorted(logged(application, customer)) == sorted(ids)
    assert len(set(ids)) == 2


@pytest.mark.parametrize("change", [{"limit": 1}, {"placement": ""}, {"language": "fr"}])
def test_another_request_with_a_used_id_is_refused(
    arbiter: ArbiterClient, like: Callable[[str], str], change: dict[str, object]
) -> None:
    """ALREADY_EXISTS rather than an answer to something else."""
    customer = like(AT_RISK)
    arbiter.decide(scene(AT_RISK, customer, request_id=f"once-{customer}"))

    failure = failure_of(
        lambda: arbiter.decide(scene(AT_RISK, customer, request_id=f"once-{customer}", **change))
    )

    assert failure.code == "ALREADY_EXISTS"
    assert reason_of(failure) == ("REQUEST_ID_REUSED", "arbiter")


def test_one_id_for_two_customers_is_refused(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """No customer gets another one's decision."""
    first, second = like(AT_RISK), like(AT_RISK)
    arbiter.decide(scene(AT_RISK, first, request_id=f"mine-{first}"))

    failure = failure_of(lambda: arbiter.decide(scene(AT_RISK, second, request_id=f"mine-{first}")))

    assert failure.code == "ALREADY_EXISTS"
    assert first not in str(failure.status).replace(f"mine-{first}", "")


def test_many_threads_with_one_id_make_one_decision(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """Clients that retry at the same moment all get the same decision."""
    customer = like(LOYAL)
    request = scene(LOYAL, customer, request_id=f"together-{customer}")
    replies: list[bytes] = []

    in_threads(
        8,
        lambda _: replies.append(arbiter.decide(request).SerializeToString(deterministic=True)),
    )

    assert len(replies) == 8
    assert len(set(replies)) == 1
    assert len(logged(application, customer)) == 1


def test_workers_share_request_ids(
    application: Application, decisions: Decisions, like: Callable[[str], str]
) -> None:
    """A retry that another worker takes finds the first decision."""
    customer = like(LOYAL)
    asked = query(LOYAL, customer, request_id=f"shared-{customer}")

    first = decisions.decide(asked).record
    second = application.decisions.decide(asked).record

    assert (second.decision_id, second.decision) == (first.decision_id, first.decision)


def claim_of_a_dead_worker(application: Application, asked: object, decisions: Decisions) -> None:
    """Leaves a claim as a worker leaves it that dies between claiming and writing."""
    record = decisions.decide(asked).record  # type: ignore[arg-type]  # a DecisionQuery
    key = f"decide:{record.request_id}"
    held = application.store.claim(key, b"", now_ms=record.now_ms, ttl_ms=0)
    assert held is not None
    fingerprint, claimed_ms, _ = held.decode().split(" ")
    application.store.release(key, held)
    with application.log.next(now_ms=record.now_ms) as slot:
        dead = f"{fingerprint} {claimed_ms} {slot.decision_id}".encode()
    application.store.claim(key, dead, now_ms=record.now_ms, ttl_ms=TTL_MS)


def test_claim_without_a_decision_is_in_progress_for_five_seconds(
    application: Application, decisions: Decisions, clock: _Clock, like: Callable[[str], str]
) -> None:
    """Until then the worker that holds it may still be writing."""
    customer = like(LOYAL)
    asked = query(LOYAL, customer, request_id=f"dying-{customer}")
    claim_of_a_dead_worker(application, asked, decisions)

    clock.now_ms += 4_999

    for _ in range(2):
        with pytest.raises(RequestInProgress):
            decisions.decide(asked)


def test_claim_of_a_dead_worker_is_taken_over_after_five_seconds(
    application: Application, decisions: Decisions, clock: _Clock, like: Callable[[str], str]
) -> None:
    """The retry after that is decided, once."""
    customer = like(LOYAL)
    asked = query(LOYAL, customer, request_id=f"dead-{customer}")
    claim_of_a_dead_worker(application, asked, decisions)
    before = logged(application, customer)

    clock.now_ms += 5_000
    with pytest.raises(RequestInProgress):
        decisions.decide(asked)
    first = decisions.decide(asked).record
    second = decisions.decide(asked).record

    assert (first.decision_id, first.decision) == (second.decision_id, second.decision)
    assert logged(application, customer) == [*before, first.decision_id]


def test_request_id_is_forgotten_after_its_time(
    decisions: Decisions, clock: _Clock, like: Callable[[str], str]
) -> None:
    """Then the same request is a new one."""
    customer = like(LOYAL)
    asked = query(LOYAL, customer, request_id=f"old-{customer}")
    first = decisions.decide(asked).record

    clock.now_ms += TTL_MS
    second = decisions.decide(asked).record

    assert second.decision_id != first.decision_id


def test_used_id_is_refused_in_the_use_case(decisions: Decisions, like: Callable[[str], str]) -> None:
    """The error of the service is RequestIdReused."""
    customer = like(LOYAL)
    decisions.decide(query(LOYAL, customer, request_id=f"reused-{customer}"))

    with pytest.raises(RequestIdReused):
        decisions.decide(query(LOYAL, customer, request_id=f"reused-{customer}", limit=1))


def test_refused_request_leaves_its_id_free(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """What was not decided may be sent again, corrected, with the same id."""
    customer = like(LOYAL)
    failure_of(lambda: arbiter.decide(scene(LOYAL, customer, request_id=f"free-{customer}", limit=0)))

    response = arbiter.decide(scene(LOYAL, customer, request_id=f"free-{customer}", limit=1))

    assert response.decision_id
