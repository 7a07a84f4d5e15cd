"""What is sealed under the identity key, and how another key takes its place: `arbiter customer seal`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from arbiter_at_work import AT_RISK, LOYAL, query, settings_for
from redis_at_work import RedisServer
from typer.testing import Result

from engine.bootstrap import open_application
from engine.events.raw import RawEvent
from engine.service.consents import ConsentSubmission, RecordedConsent
from engine.stores import open_store, open_stream
from feature_store.sealing import key_id, key_id_of
from feature_store.state import (
    ConsentState,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    Identity,
)

Run = Callable[..., Result]
KEY, FORMER = "a long random text", "one of last year"
ON_REQUEST = ("--reason", "request 7", "--actor", "dpo:17")
OBJECTION = ConsentSubmission(
    LOYAL,
    "marketing",
    "any",
    ConsentState.OBJECTED,
    evidence="call of Zoe Example",
    actor="agent:max@example.org",
)
PHONE = "+41795550001"


class Desk:
    """The demo company, on one of the two kinds of store, and a person who gives commands."""

    def __init__(self, run: Run, data_dir: Path, store: str, environment: pytest.MonkeyPatch) -> None:
        self._run = run
        self._environment = environment
        self.data_dir = data_dir
        self.store = store
        self.former_file = data_dir.parent / "former.key"
        self.former_file.write_text(f"{FORMER}\n")
        environment.setenv("ARBITER_STORE", store)
        environment.setenv("ARBITER_STORE_TIMEOUT_MS", "5000")

    def use(self, key: str | None, *, former: bool = False) -> None:
        """Configures keys."""
        if key is None:
            self._environment.delenv("ARBITER_IDENTITY_KEY", raising=False)
        else:
            self._environment.setenv("ARBITER_IDENTITY_KEY", key)
        self._environment.setenv("ARBITER_FORMER_IDENTITY_KEY_FILES", str(self.former_file) if former else "")

    def run(self, *words: object) -> Result:
        return self._run(*words, "--data-dir", self.data_dir)

    def done(self, *words: object) -> Any:
        """The document of a command that must succeed."""
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if "--json" in words or "export" in words else result.stdout

    def evidence(self) -> str:
        """What an export tells of the customer's consent."""
        (consent,) = self.done("customer", "export", LOYAL)["held"]["consents"]["data"]
        return str(consent["evidence"])

    def work(self, *, refused: bool = True) -> RecordedConsent:
        """A server's day: a customer objects and is decided for, and an event cannot be applied."""
        with open_application(settings_for(self.data_dir)) as application:
            said = application.consents.record(OBJECTION)
            application.decisions.decide(query(LOYAL))
            (held,) = application.consents.get(LOYAL).records
            if refused:
                event = RawEvent("e-1", "never_declared", LOYAL, None, None, {"path": "/x"}, 0)
                application.intake.ingest([event])
        assert held.record == said.record
        return said

    def carriers(self) -> tuple[str, ...]:
        """Whom the phone number names."""
        store = open_store(settings_for(self.data_dir))
        found = store.resolve(Identity("phone", PHONE))
        store.close()
        return found

    def files(self) -> bytes:
        """Every byte of every log."""
        return b"".join(path.read_bytes() for path in self.data_dir.rglob("*.seg"))


@pytest.fixture(scope="session")
def people(own_company: Path) -> Sequence[CustomerState]:
    """Two customers of the demo company."""
    store = open_store(settings_for(own_company))
    found = [state for state in store.read_many([LOYAL, AT_RISK]) if state is not None]
    store.close()
    return found


@pytest.fixture
def at_desk(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: Sequence[CustomerState]
) -> Callable[[str], Desk]:
    """A company of two customers on a store of either kind."""

    def open_on(store: str) -> Desk:
        desk = Desk(run, tmp_path / "data", store, monkeypatch)
        with open_application(settings_for(desk.data_dir)) as application:
            features = [(state.customer_id, state.features) for state in people if state.features is not None]
            application.store.put_customers(features)
        return desk

    return open_on


@pytest.fixture
def desk(at_desk: Callable[[str], Desk]) -> Desk:
    """On the embedded store."""
    return at_desk("embedded")


@pytest.mark.parametrize("kind", ["embedded", "redis"])
def test_a_key_takes_the_place_of_another_everywhere(
    kind: str, at_desk: Callable[[str], Desk], request: pytest.FixtureRequest
) -> None:
    """Found and read under both, then sealed anew: nothing but logs needs the former one any more."""
    desk = at_desk(kind if kind == "embedded" else request.getfixturevalue("redis_server").url)
    desk.use(FORMER)
    desk.done("customer", "link", LOYAL, f"phone={PHONE}", *ON_REQUEST)
    desk.work()
    desk.use(KEY, former=True)
    found = desk.carriers()
    read = desk.evidence()

    first, again = desk.done("customer", "seal", "--json"), desk.done("customer", "seal", "--json")
    desk.use(KEY)
    alone = desk.carriers()
    held = desk.done("customer", "export", LOYAL)["held"]
    history = desk.done("customer", "identities", LOYAL, "--json")["history"]
    rebuilt = desk.run("consent", "rebuild", "--check")

    assert found == alone == (LOYAL,)
    assert read == "call of Zoe Example"
    assert (first["identities"] > 0, first["consents"] > 0, first["deadLetters"]) == (True, True, 1)
    assert (again["identities"], again["consents"], again["deadLetters"], again["unreadDeadLetters"]) == (
        0,
        0,
        0,
        0,
    )
    assert first["inIdentityLog"] == {key_id(FORMER.encode()): 1}
    assert first["inConsentLedger"][key_id(FORMER.encode())] == 2
    assert held["consents"]["data"][0]["evidence"] == "call of Zoe Example"
    assert {"type": "phone", "value": PHONE} in held["identities"]["data"]
    assert "never_declared" in held["dead_letters"]["data"][0]["event"]
    assert key_id(FORMER.encode()) in history[0]["value"]
    assert key_id(FORMER.encode()) in held["consent_ledger"]["data"][-1]["consent"]["evidence"]
    assert rebuilt.exit_code == 0


def test_under_a_key_no_log_holds_free_text(desk: Desk) -> None:
    """Not the ledger, not the decision log, not the dead letters; whoever has the key reads all of it."""
    desk.use(KEY)
    said = desk.work()

    export = desk.done("customer", "export", LOYAL)["held"]

    assert said.record.evidence == export["consents"]["data"][0]["evidence"] == "call of Zoe Example"
    newest = export["consent_ledger"]["data"][-1]["consent"]
    assert (newest["evidence"], newest["actor"]) == ("call of Zoe Example", "agent:max@example.org")
    in_decision = [c["evidence"] for c in export["decisions"]["data"][0]["state"]["consents"]]
    assert "call of Zoe Example" in in_decision
    assert b"Zoe" not in desk.files()
    assert b"max@example.org" not in desk.files()
    assert b"never_declared" not in desk.files()


def test_proof_and_projection_need_no_key(desk: Desk) -> None:
    """Verifying and rebuilding work without it and leave what is sealed sealed."""
    desk.use(KEY)
    desk.work(refused=False)
    desk.use(None)
    store = open_store(settings_for(desk.data_dir))
    store.update([LOYAL], lambda _, record: without_consents(record))
    store.close()

    checked = [desk.run(*words).exit_code for words in (("consent", "verify"), ("log", "verify"))]
    differs = desk.run("consent", "rebuild", "--check").exit_code
    rebuilt = desk.run("consent", "rebuild").exit_code
    same = desk.run("consent", "rebuild", "--check").exit_code
    sealed = desk.evidence()
    desk.use(KEY)

    assert (checked, differs, rebuilt, same) == ([0, 0], 4, 0, 0)
    assert f"opens by identity key {key_id(KEY.encode())}" in sealed
    assert "ARBITER_IDENTITY_KEY_FILE" in sealed
    assert desk.evidence() == "call of Zoe Example"


def test_letters_and_exports_without_the_key_say_which_it_takes(desk: Desk) -> None:
    """A list shows the reasons, a replay changes nothing, and nobody is erased by halves."""
    desk.use(FORMER)
    desk.work()
    desk.use(KEY)

    listed, shown = desk.run("events", "dlq", "list"), desk.run("events", "dlq", "show")
    document = desk.done("events", "dlq", "show", "--json")
    replayed = desk.run("events", "dlq", "replay", "--local")
    sealed = desk.run("customer", "seal", "--json")
    exported = desk.run("customer", "export", AT_RISK)
    erased = desk.run("customer", "erase", AT_RISK, *ON_REQUEST, "--yes")
    dropped = desk.run("events", "dlq", "drop", document[0]["id"])
    after = desk.run("customer", "erase", AT_RISK, *ON_REQUEST, "--yes")

    needed = f"opens by identity key {key_id(FORMER.encode())}"
    assert "EVENT_TYPE_UNKNOWN" in listed.stdout
    assert needed in shown.stdout
    assert needed in document[0]["unread"]
    assert (replayed.exit_code, needed in replayed.stderr) == (3, True)
    assert (sealed.exit_code, json.loads(sealed.stdout)["unreadDeadLetters"]) == (4, 1)
    assert (exported.exit_code, needed in exported.stderr) == (4, True)
    assert (erased.exit_code, "or drop the letter" in erased.stderr) == (4, True)
    assert (dropped.exit_code, after.exit_code) == (0, 0)


def test_former_keys_need_a_present_one(desk: Desk) -> None:
    """Else nothing would be sealed though somebody thinks so; a key that cannot be read is named."""
    desk.use(None, former=True)
    alone = desk.run("customer", "seal")
    desk.use(KEY, former=True)
    desk.former_file.unlink()
    missing = desk.run("customer", "seal")

    assert (alone.exit_code, missing.exit_code) == (3, 3)
    assert "there is no present key" in alone.stderr
    assert "former.key: the key of ARBITER_FORMER_IDENTITY_KEY_FILES cannot be read" in missing.stderr


def test_what_was_kept_before_there_was_a_key_reads_on(desk: Desk) -> None:
    """Sealing takes what may be rewritten; what the ledger holds in the clear is counted and stays proof."""
    desk.use(None)
    desk.work()
    desk.use(KEY)

    before = desk.evidence()
    told = desk.done("customer", "seal")
    held = consents_in(desk)
    verified = desk.run("consent", "verify")

    assert before == desk.evidence() == "call of Zoe Example"
    assert "1 dead letters written anew" in told
    assert "consent ledger: stays as it was written:" in told
    assert "in the clear" in told
    assert {key_id_of(text) for text in held.values()} == {key_id(KEY.encode())}
    assert b"never_declared" not in desk.files()
    assert b"Zoe" in desk.files()
    assert verified.exit_code == 0


def test_a_file_of_consents_is_imported_once_under_a_key(desk: Desk, tmp_path: Path) -> None:
    """The same file again adds nothing, though what is kept of it looks otherwise each time."""
    desk.use(KEY)
    file = tmp_path / "crm.csv"
    file.write_text(
        "customer_id,purpose,channel,state,recorded_at,actor,evidence\n"
        f"{LOYAL},marketing,any,objected,2026-01-31,agent:max,call of Zoe\n"
    )

    first, again = (desk.done("consent", "import", file, "--format", "csv", "--json") for _ in range(2))

    assert (first["imported"], again["imported"], again["known"]) == (1, 0, 1)
    assert b"Zoe" not in desk.files()


def test_the_erased_do_not_come_back_by_a_file(desk: Desk, tmp_path: Path) -> None:
    """Not with --allow-unknown either; after a readmission they do."""
    desk.use(None)
    file = tmp_path / "crm.csv"
    row = f"{LOYAL},marketing,any,granted,2026-01-31"
    file.write_text(f"customer_id,purpose,channel,state,recorded_at\n{row}\n")
    importing = ("consent", "import", file, "--format", "csv", "--allow-unknown", "--json")
    desk.done("customer", "erase", LOYAL, *ON_REQUEST, "--yes")

    refused = desk.run(*importing)
    desk.done("customer", "readmit", LOYAL, *ON_REQUEST)
    taken = desk.done(*importing)

    assert refused.exit_code == 3
    assert "was erased; `arbiter customer readmit` lets them in" in refused.stdout
    assert taken["imported"] == 1


def test_dead_letters_of_a_stream_are_sealed_anew(desk: Desk, redis_server: RedisServer) -> None:
    """What was kept in the clear is read by the key only, keeps its time, and none is lost or doubled."""
    settings = settings_for(desk.data_dir)
    stream = open_stream(settings, redis_server.url, name="arbiter:{events}", group="g", consumer="test")
    stream.prepare()
    desk.use(KEY, former=True)
    on_stream = ("--stream", redis_server.url)
    letter = {b"event": b'{"event_id": "zoe"}', b"reason": b"R", b"words": b"w", b"entry": b"7-0"}
    letter |= {b"refused_ms": b"9"}
    stream.add([b"1"])
    (entry,) = stream.read(count=1, block_ms=5_000)
    stream.settle([entry.id], {entry.id: letter})

    sealed = desk.done("customer", "seal", *on_stream, "--json")
    again = desk.done("customer", "seal", *on_stream, "--json")
    (shown,) = desk.done("events", "dlq", "show", *on_stream, "--json")
    kept = [entry.fields for entry in stream.letters()]
    stream.close()

    assert (sealed["deadLetters"], again["deadLetters"]) == (1, 0)
    assert (shown["event"], shown["words"], shown["reason"]) == ({"event_id": "zoe"}, "w", "R")
    assert len(kept) == 1
    assert b"zoe" not in b"".join(kept[0].values())
    assert kept[0][b"refused_ms"] == b"9"


def without_consents(record: CustomerRecord) -> CustomerChange:
    """A projection that was lost."""
    assert record.consents
    return CustomerChange(consents=())


def consents_in(desk: Desk) -> Mapping[str, str]:
    """Texts of the customer's consents as the store keeps them, by purpose and channel."""
    store = open_store(settings_for(desk.data_dir))
    state = store.read(LOYAL)
    store.close()
    assert state is not None
    return {f"{c.purpose} {c.channel}": c.evidence for c in state.consents if c.evidence}
