"""`arbiter consent import`: other systems' consents, through the ledger, each once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, FRENCH, LOYAL, REPOSITORY
from typer.testing import Result

from engine.decisionlog.ledger import ConsentEntry, consent_ledger
from feature_store.embedded import open_embedded

Run = Callable[..., Result]
XDM = REPOSITORY / "docs" / "xdm-consents.toml"


def profile(customer: str, **consents: object) -> dict[str, object]:
    given = {"metadata": {"time": "2026-03-01T10:00:00+00:00"}} | consents
    return {"identityMap": {"CRMID": [{"id": customer}]}, "consents": given}


def before_after(data_dir: Path, act: Callable[[], Result]) -> tuple[Result, list[ConsentEntry]]:
    known = len(list(consent_ledger(data_dir / "consents").replay()))
    result = act()
    return result, list(consent_ledger(data_dir / "consents").replay())[known:]


def said(entries: list[ConsentEntry]) -> list[tuple[str, str, str, str]]:
    return sorted((e.customer_id, e.consent.purpose, e.consent.channel, e.consent.state) for e in entries)


def test_xdm_profiles_become_consents(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """The example mapping of the docs: channels, defaults passed over, own times, one address' refusal."""
    file = tmp_path / "profiles.jsonl"
    profiles = [
        profile(
            LOYAL,
            collect={"val": "VI"},
            marketing={
                "preferred": "email",
                "any": {"val": "y"},
                "email": {"val": "n", "time": "2026-04-01T08:00:00+02:00", "reason": "too many"},
                "push": {"val": "dy"},
            },
            personalize={"content": {"val": "y"}},
        ),
        profile(
            FRENCH,
            marketing={"sms": {"val": "u"}},
            idSpecific={
                "email": {"x@example.org": {"marketing": {"email": {"val": "n"}, "sms": {"val": "y"}}}},
            },
        ),
    ]
    file.write_text("\n".join(map(json.dumps, profiles)), encoding="utf-8")

    result, entries = before_after(
        data_dir,
        lambda: run("consent", "import", file, "--format", "xdm", "--mapping", XDM, "--data-dir", data_dir),
    )

    assert (result.exit_code, result.stderr) == (0, "")
    assert "4 recorded" in result.stdout
    assert "'dy' passed over" in result.stdout
    assert "'y (idSpecific)' passed over" in result.stdout
    assert said(entries) == [
        (LOYAL, "marketing", "any", "granted"),
        (LOYAL, "marketing", "email", "denied"),
        (LOYAL, "personalization", "any", "granted"),
        (FRENCH, "marketing", "email", "denied"),
    ]
    email = next(e.consent for e in entries if (e.customer_id, e.consent.channel) == (LOYAL, "email"))
    assert email.recorded_at_ms == 1_775_023_200_000
    assert email.source == "adobe:profile-export"
    assert email.evidence == "profiles.jsonl:1 consents.marketing.email=n (too many)"
    assert not any("x@example.org" in e.consent.evidence for e in entries)


def test_importing_again_adds_nothing(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """The same content is recorded once, wherever in a file it stands, and is online after the import."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    recently = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    one = profile(LOYAL, marketing={"any": {"val": "n"}})
    other = profile(FRENCH, marketing={"sms": {"val": "y", "time": recently}})
    first.write_text(json.dumps([one]), encoding="utf-8")
    second.write_text(json.dumps([other, one, other], indent=2), encoding="utf-8")
    command = ("--format", "xdm", "--mapping", XDM, "--data-dir", data_dir)
    run("consent", "import", first, *command)

    result, entries = before_after(data_dir, lambda: run("consent", "import", second, *command, "--json"))

    assert said(entries) == [(FRENCH, "marketing", "sms", "granted")]
    assert json.loads(result.stdout) == {
        "rows": 3,
        "new": 1,
        "known": 2,
        "imported": 1,
        "passedOver": {},
        "problems": [],
    }
    position = next(p for p, e in consent_ledger(data_dir / "consents").replay_places() if e == entries[0])
    with closing(open_embedded(data_dir / "store")) as store:
        state = store.read(FRENCH)
    assert state is not None
    assert position in [record.position for record in state.consents]


def test_one_wrong_row_imports_none(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """Every error of the file is told at once with its line, and nothing is recorded."""
    file = tmp_path / "consents.csv"
    rows = [
        {"customer_id": LOYAL, "purpose": "marketing", "state": "granted", "recorded_at": "2026-01-01"},
        {"customer_id": LOYAL, "purpose": "markting", "state": "granted", "recorded_at": "2026-01-01"},
        {"customer_id": LOYAL, "purpose": "marketing", "state": "perhaps", "recorded_at": "yesterday"},
        {"customer_id": "nobody", "purpose": "marketing", "state": "denied", "recorded_at": "2026-01-01"},
        {"customer_id": LOYAL, "purpose": "marketing", "state": "denied", "recorded_at": ""},
    ]
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    result, entries = before_after(
        data_dir, lambda: run("consent", "import", file, "--format", "csv", "--data-dir", data_dir)
    )

    assert result.exit_code == 3
    assert entries == []
    assert "nothing recorded, as rows are wrong" in result.stdout
    told = [line.removeprefix(f"{file}:") for line in result.stderr.splitlines()]
    assert [int(line.partition(":")[0]) for line in told] == [3, 4, 4, 5, 6]
    assert told[0].startswith("3: consent.purpose is none of marketing")
    assert told[1].startswith("4: the value 'perhaps' is none of granted")
    assert told[3] == "5: there is no customer nobody"
    assert "recorded_at is missing" in told[4]


def test_a_dry_run_records_nothing(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """It says what would be recorded."""
    file = tmp_path / "consents.jsonl"
    row = {"customer_id": LOYAL, "purpose": "marketing", "state": "denied", "recorded_at": "2026-01-01"}
    file.write_text(json.dumps(row), encoding="utf-8")

    result, entries = before_after(
        data_dir,
        lambda: run("consent", "import", file, "--format", "jsonl", "--dry-run", "--data-dir", data_dir),
    )

    assert (result.exit_code, entries) == (0, [])
    assert "nothing recorded; 1 would be" in result.stdout


def test_columns_and_values_may_be_mapped(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """Another system's column names and words; lists in a cell; customers who are not known yet."""
    file, mapping = tmp_path / "crm.csv", tmp_path / "crm.toml"
    file.write_text(
        "kunde,zweck,antwort,am,empfaenger,grundlage\n"
        "NEW-1,marketing,ja,2026-01-01T00:00:00Z,Acme; Bolt,consent\n"
        f"{AT_RISK},marketing,weiss nicht,2026-01-01T00:00:00Z,,\n",
        encoding="utf-8",
    )
    mapping.write_text(
        'source = "crm"\n[columns]\ncustomer_id = "kunde"\npurpose = "zweck"\nstate = "antwort"\n'
        'recorded_at = "am"\nrecipients = "empfaenger"\nlegal_basis = "grundlage"\n'
        '[values]\nja = "granted"\n"weiss nicht" = ""\n',
        encoding="utf-8",
    )

    result, entries = before_after(
        data_dir,
        lambda: run(
            *("consent", "import", file, "--format", "csv", "--mapping", mapping),
            *("--allow-unknown", "--data-dir", data_dir),
        ),
    )

    assert (result.exit_code, result.stderr) == (0, "")
    assert said(entries) == [("NEW-1", "marketing", "any", "granted")]
    assert entries[0].terms is not None
    assert entries[0].terms.recipients == ("Acme", "Bolt")
    assert entries[0].consent.evidence == "crm.csv:2"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("values = 3", "cannot be read as a mapping"),
        ("[values]\ny = 'yes'", "values: yes is none of granted"),
        ("[columns]\nwho = 'x'", "columns: who is none of customer_id"),
        ("unknown = 1", "cannot be read as a mapping"),
        ("", "needs --mapping"),
    ],
)
def test_a_mapping_that_does_not_fit_is_told(
    run: Run, own_company: Path, tmp_path: Path, text: str, what: str
) -> None:
    """A mapping with a mistake imports nothing by accident."""
    file, mapping = tmp_path / "a.jsonl", tmp_path / "mapping.toml"
    file.write_text("{}", encoding="utf-8")
    mapping.write_text(text, encoding="utf-8")

    result = run(
        "consent", "import", file, "--format", "xdm", "--mapping", mapping, "--data-dir", own_company
    )

    assert result.exit_code == 3
    assert what in result.stderr
