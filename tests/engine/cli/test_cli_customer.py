"""`arbiter customer export`, `erase` and `readmit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, LOYAL, copy_customers, query, settings_for
from redis_at_work import RedisServer
from typer.testing import CliRunner, Result

from engine.bootstrap import Application, open_application, wall_clock_ms
from engine.cli.app import app
from engine.events.applying import Verdict
from engine.events.deadletters import DeadLetter, DiskDeadLetters
from engine.events.raw import RawEvent, write_event
from engine.events.types import Reason
from engine.service.outcomes import OutcomeReport
from engine.service.privacy import CLASSES
from engine.settings import Settings
from engine.stores import open_store, open_stream
from feature_store.sealing import key_id
from feature_store.state import Identity, OutcomeType

Run = Callable[..., Result]
ON_REQUEST = ("--reason", "request 7", "--actor", "dpo:17")


def event(name: str, customer_id: str = LOYAL, **changed: object) -> RawEvent:
    fields: dict[str, object] = {
        "id": name,
        "type": "page_viewed",
        "customer_id": customer_id,
        "identity": None,
        "at_ms": None,
        "attributes": {"path": "/cancel"},
        "received_ms": 0,
    }
    return RawEvent(**fields | changed)  # type: ignore[arg-type]  # as RawEvent has them


def at_work(settings: Settings) -> None:
    """A server's day: an event, a decision shown, and letters that name LOYAL by id, by phone, in no JSON."""
    with open_application(settings) as application:
        number = next(i.value for i in application.store.identities(LOYAL) if i.type == "phone")
        phone = Identity("phone", f"{number[:3]} (0){number[3:5]} {number[5:]}")
        fates = application.intake.ingest(
            [
                event("e-1"),
                event("e-2", type="never_declared"),
                event("e-3", "", identity=phone, type="never_declared"),
                event("e-4", AT_RISK, type="never_declared"),
            ]
        )
        assert [fate.verdict for fate in fates] == [Verdict.APPLIED, *[Verdict.REFUSED] * 3]
        for customer_id in (LOYAL, AT_RISK):
            record = application.decisions.decide(query(customer_id)).record
            action_id = record.decision.actions[0].action_id
            report = OutcomeReport("o-1", record.decision_id, action_id, OutcomeType.SHOWN, None)
            application.outcomes.record(report)


def refuse_on_stream(settings: Settings, url: str, customer_id: str) -> None:
    """A dead letter of the stream, as an ingest process leaves it."""
    stream = open_stream(settings, url, name="arbiter:{events}", group="arbiter", consumer="test")
    stream.prepare()
    stream.add([write_event(event("e-5", customer_id, type="never_declared"))])
    (entry,) = stream.read(count=1, block_ms=5_000)
    letter = {
        **entry.fields,
        b"reason": b"R",
        b"words": b"w",
        b"entry": entry.id.encode(),
        b"refused_ms": b"1",
    }
    stream.settle([entry.id], {entry.id: letter})
    stream.close()


def everything_in(data_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data_dir.rglob("*.seg"))


def test_an_export_tells_all_that_is_held(run: Run, data_dir: Path) -> None:
    """Every class with what it is, how long it is kept, and the customer's data; of nobody else."""
    at_work(settings_for(data_dir))

    result = run("customer", "export", LOYAL, "--data-dir", data_dir)
    held = json.loads(result.stdout)["held"]
    data = {name: part["data"] for name, part in held.items()}

    assert (result.exit_code, result.stderr) == (0, "")
    assert set(held) == set(CLASSES)
    assert all(part["what"] and part["kept"] for part in held.values())
    assert data["features"]["values"]["tenure_months"] > 0
    assert data["features"]["view_times_ms"]["behaviour"] > 0
    assert {"phone", "email_sha256"} <= {identity["type"] for identity in data["identities"]}
    assert [entry["customer_id"] for entry in data["consent_ledger"]] == [LOYAL] * len(data["consent_ledger"])
    assert all(entry["position"] > 0 for entry in data["consent_ledger"])
    assert {consent["purpose"] for consent in data["consents"]} >= {"marketing"}
    assert [contact["outcome"] for contact in data["contacts"]][-1] == "shown"
    assert data["events"]["ids"]
    (decision,) = data["decisions"]
    (outcome,) = data["outcomes"]
    assert (decision["request"]["customer_id"], outcome["decision_id"]) == (LOYAL, decision["decision_id"])
    assert outcome["use"]["relied_on"]
    assert len(data["dead_letters"]) == 2
    assert data["erasure"] is None
    assert AT_RISK not in result.stdout


def test_an_export_to_a_file_is_for_its_owner(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """Nobody else of the machine may read it; of nobody there is nothing to tell."""
    file = tmp_path / "all.json"

    result = run("customer", "export", LOYAL, "--output", file, "--data-dir", data_dir)
    nobody = run("customer", "export", "nobody", "--data-dir", data_dir)

    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(file.read_text())["customer_id"] == LOYAL
    assert file.stat().st_mode & 0o077 == 0
    assert nobody.exit_code == 3
    assert "nothing is held of nobody" in nobody.stderr


def test_who_was_erased_is_nowhere_and_all_still_verifies(run: Run, data_dir: Path) -> None:
    """Not in store, logs or letters; the logs are whole, others keep theirs, and again changes nothing."""
    settings = settings_for(data_dir)
    at_work(settings)

    told = run("customer", "erase", LOYAL, *ON_REQUEST, "--yes", "--data-dir", data_dir)
    consents, decisions = (
        run("consent", "verify", "--data-dir", data_dir),
        run("log", "verify", "--data-dir", data_dir),
    )
    rebuilt = run("consent", "rebuild", "--check", "--data-dir", data_dir)
    left = run("customer", "export", LOYAL, "--data-dir", data_dir)
    other = json.loads(run("customer", "export", AT_RISK, "--data-dir", data_dir).stdout)["held"]
    again = run("customer", "erase", LOYAL, *ON_REQUEST, "--data-dir", data_dir, "--json")

    store = open_store(settings)
    state, identities = store.read(LOYAL), store.identities(LOYAL)
    store.close()
    held = json.loads(left.stdout)["held"]
    assert told.exit_code == 0
    assert "state in the store" in told.stdout
    assert "1 entries of decisions" in told.stdout
    assert "2 dead letters" in told.stdout
    assert (state, identities) == (None, ())
    assert LOYAL.encode() not in everything_in(data_dir)
    assert (consents.exit_code, decisions.exit_code, rebuilt.exit_code) == (0, 0, 0)
    assert "1 of them erased by right" in decisions.stdout
    assert left.exit_code == 3
    assert not any(part["data"] for name, part in held.items() if name != "erasure")
    assert (held["erasure"]["data"]["actor"], held["erasure"]["data"]["reason"]) == ("dpo:17", "request 7")
    assert other["features"]["data"]
    assert [len(other[name]["data"]) for name in ("decisions", "outcomes", "dead_letters")] == [1, 1, 1]
    assert again.exit_code == 0
    assert set(json.loads(again.stdout)["entries"].values()) == {0}


def test_a_dry_run_changes_nothing(run: Run, data_dir: Path) -> None:
    """It counts; without --yes one is asked, and a no changes nothing either."""
    at_work(settings_for(data_dir))
    before = everything_in(data_dir)

    dry = run("customer", "erase", LOYAL, *ON_REQUEST, "--dry-run", "--data-dir", data_dir)
    arguments = ["customer", "erase", LOYAL, *ON_REQUEST, "--data-dir", str(data_dir)]
    refused = CliRunner().invoke(app, arguments, input="n\n")
    nobody = run("customer", "erase", "nobody", *ON_REQUEST, "--yes", "--data-dir", data_dir)

    assert "would be erased: state in the store" in dry.stdout
    assert (dry.exit_code, refused.exit_code, nobody.exit_code) == (0, 3, 3)
    assert "nothing was changed" in refused.stderr
    assert everything_in(data_dir) == before
    assert not (data_dir / "erased").exists()


@pytest.mark.parametrize(("option", "value"), [("--reason", f"{LOYAL} asked"), ("--actor", " ")])
def test_the_proof_names_an_actor_and_never_the_person(
    run: Run, data_dir: Path, option: str, value: str
) -> None:
    """What stays for good must say who and why, and not whom."""
    given = dict(zip(ON_REQUEST[::2], ON_REQUEST[1::2], strict=True)) | {option: value}
    words = [word for pair in given.items() for word in pair]

    result = run("customer", "erase", LOYAL, *words, "--yes", "--data-dir", data_dir)

    assert result.exit_code == 2


def test_events_of_the_erased_stay_out_until_readmitted(run: Run, data_dir: Path) -> None:
    """A running process refuses them at once and keeps no letter; after a readmission they count again."""
    with open_application(settings_for(data_dir)) as application:
        application.store.close()  # so that the command may open it in this same process
    erased = run("customer", "erase", LOYAL, *ON_REQUEST, "--yes", "--data-dir", data_dir)
    with open_application(settings_for(data_dir)) as application:
        refused, other = application.intake.ingest([event("e-9"), event("e-9", AT_RISK)])
        letters = list(application.letters.letters())
        gone = application.store.read(LOYAL)
        readmitted = run("customer", "readmit", LOYAL, *ON_REQUEST, "--data-dir", data_dir)
        (applied,) = application.intake.ingest([event("e-10")])
        twice = run("customer", "readmit", LOYAL, *ON_REQUEST, "--data-dir", data_dir)

    assert (erased.exit_code, readmitted.exit_code, twice.exit_code) == (0, 0, 3)
    assert (refused.reason, other.verdict) == (Reason.CUSTOMER_ERASED, Verdict.APPLIED)
    assert (letters, gone) == ([], None)
    assert applied.verdict is Verdict.APPLIED


def test_a_lost_key_refuses_events_rather_than_let_anybody_in(run: Run, data_dir: Path) -> None:
    """Without the key of the register nobody can say who was erased, so it is said and nothing applied."""
    from engine.errors import StateUnavailable

    run("customer", "erase", LOYAL, *ON_REQUEST, "--yes", "--data-dir", data_dir)
    key = data_dir / "erased" / "key"
    mode = key.stat().st_mode
    key.unlink()

    again = run("customer", "erase", AT_RISK, *ON_REQUEST, "--yes", "--data-dir", data_dir)
    with open_application(settings_for(data_dir)) as application, pytest.raises(StateUnavailable):
        application.intake.ingest([event("e-1")])

    assert mode & 0o077 == 0
    assert again.exit_code == 5
    assert "restore it" in again.stderr


def test_it_is_the_same_on_redis(
    run: Run, application: Application, data_dir: Path, redis_server: RedisServer
) -> None:
    """State in Redis is told and erased, and so are dead letters of a stream."""
    settings = settings_for(data_dir, store=redis_server.url, store_timeout_ms=5_000)
    with closing(open_store(settings, patient=True)) as store:
        copy_customers(application.store, store, [LOYAL, AT_RISK])
    at_work(settings)
    for customer_id in (LOYAL, AT_RISK):
        refuse_on_stream(settings, redis_server.url, customer_id)
    where = ("--store", redis_server.url, "--data-dir", settings.data_dir, "--stream", redis_server.url)

    before = json.loads(run("customer", "export", LOYAL, *where).stdout)["held"]
    erased = run("customer", "erase", LOYAL, *ON_REQUEST, "--yes", *where)
    after = run("customer", "export", LOYAL, *where)
    other = json.loads(run("customer", "export", AT_RISK, *where).stdout)["held"]

    assert before["features"]["data"]["values"]
    assert before["identities"]["data"]
    assert (len(before["dead_letters"]["data"]), len(other["dead_letters"]["data"])) == (3, 2)
    assert erased.exit_code == 0
    assert after.exit_code == 3


def test_the_register_knows_only_keyed_digests(run: Run, data_dir: Path) -> None:
    """Not the id, and under another key another digest."""
    for place in ("a", "b"):
        from engine.service.erased import ErasedCustomers

        register = ErasedCustomers(data_dir / place)
        register.add(LOYAL, actor="dpo", reason="7", now_ms=wall_clock_ms())
        assert register.entry(LOYAL) is not None
        assert register.entry(AT_RISK) is None

    written = [b"".join(p.read_bytes() for p in (data_dir / x).glob("*.seg")) for x in ("a", "b")]
    subjects = [text.split(b'"subject":"')[1][:32] for text in written]
    assert LOYAL.encode() not in written[0]
    assert subjects[0] != subjects[1]


def test_links_are_changed_and_kept_in_a_history(run: Run, data_dir: Path) -> None:
    """The number written otherwise is the same; who linked it when and why stays known."""
    where = ("--data-dir", data_dir)

    linked = run("customer", "link", LOYAL, "phone=+41 (0)79 555 00 01", *ON_REQUEST, *where)
    shared = run("customer", "link", AT_RISK, "phone=+41795550001", *ON_REQUEST, *where)
    unlinked = run("customer", "unlink", AT_RISK, "phone=+41 79 555 0001", *ON_REQUEST, *where)
    decided = run(
        "decide", "--identity", "phone=+41 79 555 00 01", "--channel", "web", "--local", *where, "--json"
    )
    document = json.loads(run("customer", "identities", LOYAL, *where, "--json").stdout)
    history = json.loads(run("customer", "identities", AT_RISK, *where, "--json").stdout)["history"]
    told = run("customer", "identities", LOYAL, *where)

    assert [linked.exit_code, shared.exit_code, unlinked.exit_code, decided.exit_code] == [0, 0, 0, 0]
    assert "2 customers carry it, so it names none of them" in shared.stdout
    assert "1 customers carry it now" in unlinked.stdout
    assert {"type": "phone", "value": "+41795550001"} in document["identities"]
    assert [(row["change"], row["actor"]) for row in history] == [
        ("linked", "dpo:17"),
        ("unlinked", "dpo:17"),
    ]
    assert "phone=+41795550001" in told.stdout


@pytest.mark.parametrize(
    ("identity", "code", "words"),
    [
        ("phone=abc", 3, "is no phone number"),
        ("shoe_size=43", 3, "is none of phone"),
        ("phone", 2, "TYPE=VALUE"),
    ],
)
def test_what_is_no_identity_is_not_linked(
    run: Run, data_dir: Path, identity: str, code: int, words: str
) -> None:
    """Neither stored nor noted."""
    result = run("customer", "link", LOYAL, identity, *ON_REQUEST, "--data-dir", data_dir)

    assert result.exit_code == code
    assert words in result.stderr
    assert not list((data_dir / "identities").glob("*.seg"))


def test_under_a_key_no_file_holds_a_number(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store and identity log hold sealed values, sealing takes what was there before; the check says so."""
    where = ("--data-dir", data_dir)
    before = run("store", "check", *where)
    monkeypatch.setenv("ARBITER_IDENTITY_KEY", "a long random text")

    linked = run("customer", "link", LOYAL, "phone=+41795550001", *ON_REQUEST, *where)
    sealed, again = run("customer", "seal", *where), run("customer", "seal", *where)
    document = json.loads(run("customer", "identities", LOYAL, *where, "--json").stdout)
    after = run("store", "check", *where)
    exported = run("customer", "export", LOYAL, *where)
    monkeypatch.setenv("ARBITER_IDENTITY_KEY", "another")
    other = run("customer", "identities", LOYAL, *where)

    assert "NOT ENCRYPTED" in before.stdout
    assert (linked.exit_code, sealed.exit_code, again.exit_code, after.exit_code) == (0, 0, 0, 0)
    assert sealed.stdout.startswith("7,0")
    nothing_anew = "0 customers' identities written anew\n0 customers' consents written anew\n"
    assert again.stdout.startswith(nothing_anew)
    assert {"type": "phone", "value": "+41795550001"} in document["identities"]
    assert [row["value"] for row in document["history"]] == ["+41795550001"]
    assert "encrypted (AES-SIV)" in after.stdout
    assert "+41795550001" in exported.stdout
    assert b"795550001" not in everything_in(data_dir / "identities")
    assert other.exit_code == 4
    assert f"opens by identity key {key_id(b'a long random text')}, which is not configured" in other.stderr


def test_retention_is_run_by_the_settings(run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing by default; with limits it counts and erases; a limit below a policy's window is refused."""
    at_work(settings_for(data_dir))
    where = ("--data-dir", data_dir)

    nothing = run("retention", "run", *where)
    monkeypatch.setenv("ARBITER_KEEP_DECISIONS_DAYS", "1")
    monkeypatch.setenv("ARBITER_KEEP_SUPERSEDED_CONSENTS_DAYS", "1")
    told = run("retention", "run", *where)
    document = json.loads(run("retention", "run", "--dry-run", *where, "--json").stdout)
    monkeypatch.setenv("ARBITER_KEEP_CONTACTS_DAYS", "1")
    short = run("retention", "run", *where)
    verified = run("log", "verify", *where)

    assert "all else is kept for good" in nothing.stdout
    assert told.exit_code == 0
    assert "decisions: 0 erased" in told.stdout
    classes = {"decisions": 0, "shadow": 0, "model-shadow": 0, "consents": 0, "events": 0}
    assert document == {"erased": False, "classes": classes}
    assert short.exit_code == 3
    assert "counts longer" in short.stderr
    assert verified.exit_code == 0


def test_what_cannot_be_read_is_erased_too(run: Run, data_dir: Path) -> None:
    """A damaged value cannot be told, but goes; so does a letter in no JSON in which the id stands."""
    store = open_store(settings_for(data_dir))
    store.merge_features([LOYAL], lambda places, _: [b"damaged"] * len(places))
    store.close()
    broken, other = f'{{"customer_id": "{LOYAL}"', '["of nobody"]'
    with DiskDeadLetters(data_dir / "dead-letters") as letters:
        letters.put([DeadLetter(text, "EVENT_MALFORMED", "words", 0, 1) for text in (broken, other)])

    told = run("customer", "export", LOYAL, "--data-dir", data_dir)
    erased = run("customer", "erase", LOYAL, *ON_REQUEST, "--yes", "--data-dir", data_dir)
    again = run("customer", "export", LOYAL, "--data-dir", data_dir)

    with DiskDeadLetters(data_dir / "dead-letters") as letters:
        left = [letter.event for letter in letters.letters()]
    assert (told.exit_code, erased.exit_code, again.exit_code) == (4, 0, 3)
    assert "state in the store" in erased.stdout
    assert left == [other]
