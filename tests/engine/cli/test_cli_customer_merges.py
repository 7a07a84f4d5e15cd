"""`arbiter customer merge`, `unmerge` and `merges`: two customers who are one person, told over gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import LOYAL, RunningServer, scene, settings_for
from typer.testing import Result

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, outcome_service_pb2, types_pb2
from engine.client import ArbiterClient
from engine.service.identities import IdentityChange, IdentityEntry, identity_log
from engine.stores import open_store
from feature_store.state import Identity

Run = Callable[..., Result]
ON_REQUEST = ("--reason", "ticket 7", "--actor", "crm:3")
OLD, NEW = "T-old", "T-new"
PHONE = Identity("phone", "+41790009999")


@pytest.fixture
def two_ids(data_dir: Path) -> Path:
    """The demo company with one more person, who is there twice and carries the same phone both times."""
    store = open_store(settings_for(data_dir))
    state = store.read(LOYAL)
    assert state is not None
    assert state.features is not None
    store.put_customers([(OLD, state.features), (NEW, state.features)])
    store.link([(PHONE, OLD), (PHONE, NEW)])
    store.close()
    return data_dir


def says(
    arbiter: ArbiterClient, customer_id: str, state: str, purpose: str = "marketing"
) -> consent_service_pb2.RecordConsentResponse:
    """Tells the server what a customer said, for all channels."""
    record = consent_service_pb2.ConsentRecord(
        purpose=purpose, channel="any", state=types_pb2.ConsentState.Value(f"CONSENT_STATE_{state}")
    )
    request = consent_service_pb2.RecordConsentRequest(customer_id=customer_id, consent=record)
    return arbiter.record_consent(request)


def declines(arbiter: ArbiterClient, made: decision_service_pb2.DecideResponse, action_id: str) -> None:
    """Reports a no to one of the actions."""
    arbiter.record_outcome(
        outcome_service_pb2.RecordOutcomeRequest(
            outcome_id=f"no-{made.decision_id}",
            decision_id=made.decision_id,
            action_id=action_id,
            type=types_pb2.OUTCOME_TYPE_DECLINED,
        )
    )


def by_phone() -> decision_service_pb2.DecideRequest:
    """The scene, for whoever carries the phone."""
    request = scene(LOYAL, OLD)
    request.identity.type, request.identity.value = PHONE.type, PHONE.value
    return request


def codes(made: decision_service_pb2.DecideResponse, action_id: str) -> set[str]:
    """Why an action was suppressed; nothing where it was not."""
    found = [action for action in made.suppressed if action.action_id == action_id]
    return {reason.code for action in found for reason in action.reasons}


def test_two_customers_become_one_person_and_two_again(
    two_ids: Path, run: Run, start_server: Callable[..., RunningServer]
) -> None:
    """One objected, the other declined an offer: merged, both count by either id; parted, each its own."""
    with start_server().connect() as arbiter:
        for customer_id in (OLD, NEW):
            says(arbiter, customer_id, "GRANTED")
            says(arbiter, customer_id, "GRANTED", "profiling")
        first = arbiter.decide(scene(LOYAL, OLD))
        offer = first.actions[0].action_id
        declines(arbiter, first, offer)
        says(arbiter, NEW, "OBJECTED")

        merged = run("customer", "merge", OLD, NEW, *ON_REQUEST, "--data-dir", two_ids)
        objected = [arbiter.decide(request) for request in (scene(LOYAL, OLD), scene(LOYAL, NEW), by_phone())]
        held = arbiter.get_consents(consent_service_pb2.GetConsentsRequest(customer_id=OLD))
        answered = says(arbiter, OLD, "GRANTED")
        capped = arbiter.decide(scene(LOYAL, NEW))
        parted = run("customer", "unmerge", OLD, *ON_REQUEST, "--data-dir", two_ids)
        old, new = arbiter.decide(scene(LOYAL, OLD)), arbiter.decide(scene(LOYAL, NEW))

    proofs = [
        run(*command, "--data-dir", two_ids)
        for command in (("consent", "verify"), ("log", "verify"), ("consent", "rebuild", "--check"))
    ]
    assert (merged.exit_code, merged.stdout) == (0, f"{OLD}: merged into {NEW}, who answers for both\n")
    assert {made.customer_id for made in objected} == {NEW}
    assert all("CONSENT_OBJECTED" in codes(made, offer) for made in objected)
    assert (held.customer_id, answered.customer_id) == (NEW, NEW)
    assert types_pb2.CONSENT_STATE_OBJECTED in {record.state for record in held.consents}
    assert "COOLDOWN_DECLINED" in codes(capped, offer)
    assert parted.exit_code == 0, parted.stderr
    assert (old.customer_id, new.customer_id) == (OLD, NEW)
    assert "COOLDOWN_DECLINED" in codes(old, offer)
    assert "CONSENT_OBJECTED" in codes(new, offer)
    assert [proof.exit_code for proof in proofs] == [0, 0, 0], [proof.stderr for proof in proofs]


def test_merges_are_listed_with_who_made_and_undid_them(data_dir: Path, run: Run) -> None:
    """In the order they were made; of one customer, of either side; and nothing is not a list."""
    where = ("--data-dir", data_dir)
    none = run("customer", "merges", *where)
    with identity_log(data_dir / "identities") as log:
        for at_ms, change, customer_id, into in (
            (1_000, IdentityChange.MERGED, OLD, NEW),
            (2_000, IdentityChange.UNMERGED, OLD, NEW),
            (3_000, IdentityChange.MERGED, NEW, OLD),
            (4_000, IdentityChange.MERGED, "T-other", LOYAL),
        ):
            log.append(
                IdentityEntry(
                    customer_id=customer_id,
                    change=change,
                    into=into,
                    actor="crm:3",
                    reason="ticket 7",
                    received_at_ms=at_ms,
                )
            )

    listed = json.loads(run("customer", "merges", OLD, *where, "--json").stdout)["merges"]
    shown = run("customer", "merges", *where)

    assert (none.exit_code, "no merge is noted" in none.stderr) == (3, True)
    assert [
        (each["customer"], each["into"], each["undone"] and each["undone"]["actor"]) for each in listed
    ] == [
        (OLD, NEW, "crm:3"),
        (NEW, OLD, None),
    ]
    assert shown.stdout.count("ticket 7") == 4
    assert run("customer", "identities", OLD, *where, "--json").exit_code == 0


def test_what_is_refused_says_why(two_ids: Path, run: Run) -> None:
    """Who is asked twice, is not there, or is not merged."""
    where = ("--data-dir", two_ids)

    refused = [
        run("customer", *command, *ON_REQUEST, *where)
        for command in (("merge", OLD, OLD), ("merge", OLD, "nobody"), ("unmerge", OLD))
    ]

    assert [result.exit_code for result in refused] == [3, 3, 3]
    assert ["itself" in refused[0].stderr, "no such customer" in refused[1].stderr] == [True, True]
    assert f"{OLD}: is not merged" in refused[2].stderr


def test_whoever_is_erased_takes_merged_ones_along(two_ids: Path, run: Run) -> None:
    """An export tells both histories; erasing says whom it erases, leaves nothing of either, and verifies."""
    where = ("--data-dir", two_ids)
    run("customer", "merge", OLD, NEW, *ON_REQUEST, *where)

    exported = json.loads(run("customer", "export", OLD, *where).stdout)
    refused = run("customer", "erase", OLD, "--reason", "request", "--actor", "dpo:1", "--yes", *where)
    told = run("customer", "erase", NEW, "--reason", "request", "--actor", "dpo:1", "--yes", *where)
    left = [run("customer", "export", name, *where).exit_code for name in (OLD, NEW)]
    verified = [run(*command, *where).exit_code for command in (("consent", "verify"), ("log", "verify"))]
    again = run("customer", "merge", OLD, LOYAL, *ON_REQUEST, *where)

    (part,) = exported["held"]["merged"]["data"]
    assert (exported["customer_id"], part["customer_id"], part["into"]) == (NEW, OLD, NEW)
    assert part["features"]["values"]["tenure_months"] > 0
    assert [identity["value"] for identity in part["identities"]] == [PHONE.value]
    assert (refused.exit_code, f"is merged into {NEW}" in refused.stderr) == (3, True)
    assert f"{OLD}: erased with {NEW}, as it is merged into it" in told.stdout
    assert left == [3, 3]
    assert verified == [0, 0]
    assert "was erased" in again.stderr
    assert not [path for path in two_ids.rglob("*.seg") if b"T-old" in path.read_bytes()]
