"""`arbiter consent verify`, `rebuild`, `uses` and `arbiter log verify`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from arbiter_at_work import LOYAL, query, settings_for
from typer.testing import Result

from engine.bootstrap import open_application
from engine.decisionlog.erasure import erase_entries
from engine.decisionlog.ledger import ConsentEntry, consent_ledger
from engine.logfiles import checkpoints_of
from engine.service.consents import ConsentSubmission
from engine.service.outcomes import OutcomeReport
from feature_store.embedded import open_embedded
from feature_store.state import ConsentRecord, ConsentState, OutcomeType

Run = Callable[..., Result]


def at_work(data_dir: Path, **settings: object) -> tuple[str, str]:
    """A server's day: a consent, a decision, and the action shown; gives decision and action."""
    with open_application(settings_for(data_dir, **settings)) as application:
        application.consents.record(
            ConsentSubmission(
                customer_id=LOYAL, purpose="marketing", channel="any", state=ConsentState.GRANTED
            )
        )
        record = application.decisions.decide(query(LOYAL)).record
        action_id = record.decision.actions[0].action_id
        report = OutcomeReport("o-1", record.decision_id, action_id, OutcomeType.SHOWN, None)
        application.outcomes.record(report)
    return record.decision_id, action_id


def here(data_dir: Path) -> dict[str, bytes]:
    """Checkpoints in the data directory itself."""
    return {path.name: path.read_bytes() for path in (data_dir / "checkpoints").glob("*")}


def test_what_nobody_touched_verifies(run: Run, data_dir: Path) -> None:
    """Both commands end with 0 and say until when it is proven, in words and as JSON."""
    at_work(data_dir)

    told = run("consent", "verify", "--data-dir", data_dir)
    document = json.loads(run("consent", "verify", "--data-dir", data_dir, "--json").stdout)
    log = run("log", "verify", "--data-dir", data_dir)

    assert (told.exit_code, told.stderr, log.exit_code) == (0, "", 0)
    assert "consents: whole" in told.stdout
    assert "outcomes: whole" in told.stdout
    assert "decisions: whole: 1 records in 1 segments" in log.stdout
    assert "proven until" in log.stdout
    assert document["whole"] is True
    consents = document["logs"]["consents"]
    assert consents["records"] > 10_000
    assert (consents["unprovenRecords"], consents["findings"]) == (0, [])
    assert consents["provenUntil"] == consents["checkpoints"]["lastTime"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A data directory with nothing but three consents, in ledger and store."""
    data_dir = tmp_path / "small"
    store = open_embedded(data_dir / "store", map_size_bytes=1 << 24)
    with consent_ledger(
        data_dir / "consents", checkpoints=checkpoints_of(settings_for(data_dir), "consents")
    ) as ledger:
        for n in range(3):
            record = ConsentRecord("marketing", "any", ConsentState.WITHDRAWN, 1000 + n)
            entry = ConsentEntry(customer_id=f"c-{n}", consent=record, received_at_ms=1000 + n)
            store.put_consents([(f"c-{n}", replace(record, position=ledger.append(entry)))])
    store.close()
    return data_dir


def test_a_changed_ledger_ends_with_4(run: Run, small: Path) -> None:
    """The damage is named with file, place and meaning; the projection is not rebuilt from it unasked."""
    path = small / "consents" / "0000000001.seg"
    path.write_bytes(path.read_bytes()[:28])

    told = run("consent", "verify", "--data-dir", small)
    document = json.loads(run("consent", "verify", "--data-dir", small, "--json").stdout)
    rebuilt = run("consent", "rebuild", "--data-dir", small)
    unverified = run("consent", "rebuild", "--unverified", "--data-dir", small)

    (finding,) = document["logs"]["consents"]["findings"]
    assert told.exit_code == 4
    assert f"{path}: byte 28: cut: a checkpoint saw records after this place" in told.stderr
    assert "consents: NOT WHOLE" in told.stdout
    assert (finding["kind"], finding["file"], finding["offset"]) == ("cut", str(path), 28)
    assert rebuilt.exit_code == 4
    assert "the ledger is not whole" in rebuilt.stderr
    assert unverified.exit_code == 0


def test_a_witness_is_looked_for(run: Run, data_dir: Path) -> None:
    """The checkpoint that verify prints is found again; another is missed; nonsense is a usage error."""
    at_work(data_dir)
    document = json.loads(run("log", "verify", "--data-dir", data_dir, "--json").stdout)
    last = document["logs"]["decisions"]["checkpoints"]["last"]
    number = last.partition(":")[0]

    found = run("log", "verify", "--data-dir", data_dir, "--witness", last[:24])
    missed = run("log", "verify", "--data-dir", data_dir, "--witness", f"{number}:{'0' * 16}")
    wrong = run("log", "verify", "--data-dir", data_dir, "--witness", "yesterday")

    assert (found.exit_code, missed.exit_code, wrong.exit_code) == (0, 4, 2)
    assert "unwitnessed" in missed.stderr


def test_checkpoints_may_lie_elsewhere_under_a_key(
    run: Run, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With directory and key in the environment, verify says that the key sealed them; another did not."""
    elsewhere, key = tmp_path / "elsewhere", tmp_path / "key"
    key.write_text("battery staple horse\n", encoding="utf-8")
    before = here(data_dir)
    at_work(data_dir, checkpoint_dir=elsewhere, checkpoint_key_file=key)

    monkeypatch.setenv("ARBITER_CHECKPOINT_DIR", str(elsewhere))
    monkeypatch.setenv("ARBITER_CHECKPOINT_KEY", "battery staple horse")
    right = run("log", "verify", "--data-dir", data_dir)
    shown = run("settings", "--json")
    monkeypatch.setenv("ARBITER_CHECKPOINT_KEY", "another")
    wrong = run("log", "verify", "--data-dir", data_dir)
    monkeypatch.setenv("ARBITER_CHECKPOINT_KEY_FILE", str(key))
    both = run("log", "verify", "--data-dir", data_dir)
    monkeypatch.delenv("ARBITER_CHECKPOINT_KEY")
    monkeypatch.setenv("ARBITER_CHECKPOINT_KEY_FILE", str(tmp_path / "nowhere"))
    missing = run("log", "verify", "--data-dir", data_dir)

    assert here(data_dir) == before
    assert (elsewhere / "decisions.checkpoints").stat().st_size > 0
    assert right.exit_code == 0
    assert "sealed by the key" in right.stdout
    assert "staple" not in shown.stdout
    assert wrong.exit_code == 4
    assert "HMAC does not match" in wrong.stderr
    assert (both.exit_code, missing.exit_code) == (3, 3)


def test_erased_by_right_is_no_damage(run: Run, data_dir: Path) -> None:
    """After a customer was forgotten everything still verifies, and the report counts what was erased."""
    at_work(data_dir)
    settings = settings_for(data_dir)
    for log in ("consents", "outcomes", "decisions"):
        erased = erase_entries(
            data_dir / log,
            LOYAL,
            actor="dpo",
            reason="request 7",
            now_ms=1,
            checkpoints=checkpoints_of(settings, log),
        )
        assert erased > 0

    consents, decisions = (
        run("consent", "verify", "--data-dir", data_dir),
        run("log", "verify", "--data-dir", data_dir),
    )

    assert (consents.exit_code, decisions.exit_code) == (0, 0)
    assert "1 records in 1 segments, 1 of them erased by right" in decisions.stdout
    assert "no contact" in run("consent", "uses", "--customer", LOYAL, "--data-dir", data_dir).stdout


def test_rebuild_repairs_what_decisions_see(run: Run, small: Path) -> None:
    """A grant that only the online copy holds is found by --check, and gone after a rebuild."""
    with closing(open_embedded(small / "store", map_size_bytes=1 << 24)) as store:
        forged = ConsentRecord("marketing", "sms", ConsentState.GRANTED, 2_000_000_000_000, position=9)
        store.put_consents([("c-1", forged)])

    checked = run("consent", "rebuild", "--check", "--data-dir", small)
    rebuilt = run("consent", "rebuild", "--data-dir", small, "--json")
    again = run("consent", "rebuild", "--check", "--data-dir", small)

    document = json.loads(rebuilt.stdout)
    assert checked.exit_code == 4
    assert "c-1: extra: decisions see marketing/any withdrawn, marketing/sms granted" in checked.stderr
    assert "3 customers compared, 1 differ; nothing was changed" in checked.stdout
    assert (rebuilt.exit_code, document["replaced"]) == (0, 1)
    assert [(d["customer"], d["kind"]) for d in document["differences"]] == [("c-1", "extra")]
    assert (again.exit_code, again.stderr) == (0, "")


def test_uses_name_the_consents_of_each_contact(run: Run, data_dir: Path) -> None:
    """One line for each contact; as JSON with the ledger's positions."""
    decision_id, action_id = at_work(data_dir)

    told = run("consent", "uses", "--customer", LOYAL, "--data-dir", data_dir)
    (document,) = json.loads(
        run("consent", "uses", "--customer", LOYAL, "--data-dir", data_dir, "--json").stdout
    )

    assert (told.exit_code, told.stderr) == (0, "")
    assert action_id in told.stdout
    assert (document["decisionId"], document["actionId"], document["outcome"]) == (
        decision_id,
        action_id,
        "shown",
    )
    relied = {used["purpose"]: used for used in document["reliedOn"]}
    assert document["purpose"] in relied
    assert all(used["ledgerPosition"] > 0 for used in relied.values() if used["since"])


@pytest.mark.parametrize("command", [("consent", "verify"), ("log", "verify"), ("consent", "rebuild")])
def test_where_nothing_is_there_is_nothing_to_verify(
    run: Run, tmp_path: Path, command: tuple[str, str]
) -> None:
    """A wrong folder is an error of its own, not a proof."""
    result = run(*command, "--data-dir", tmp_path)

    assert result.exit_code == 3
    assert "holds no data of Arbiter" in result.stderr


def test_decide_passes_global_privacy_control_on(run: Run, own_company: Path) -> None:
    """The answer says which purposes the browser objected to."""
    place = ("--channel", "web", "--local", "--data-dir", own_company)

    with_signal = run("decide", "--customer", LOYAL, "--gpc", *place)
    without = run("decide", "--customer", LOYAL, *place)

    assert "marketing objected by GPC" in with_signal.stdout
    assert "GPC" not in without.stdout
