"""`arbiter rules diff` from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.bootstrap import open_application
from engine.cli.rules import app
from engine.service.requests import DecisionQuery
from engine.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]
RULES = str(REPOSITORY / "rules")
Edited = Callable[[str, str, str], Path]


def run(settings: Settings, *arguments: str) -> Result:
    """Runs `arbiter rules diff` on the demo company, on few customers unless told otherwise."""
    return CliRunner().invoke(
        app, ["diff", *arguments, "--data-dir", str(settings.data_dir), "--customers", "150"]
    )


def test_the_comparison_is_markdown_for_a_pull_request(diff_settings: Settings, rules_edited: Edited) -> None:
    """A headline, the changes in words, tables of who gains and loses, and what it cost."""
    folder = rules_edited("arbitration.yaml", "threshold:", "threshold: 8.0 #")

    done = run(diff_settings, RULES, str(folder))

    assert done.exit_code == 0, done.output
    text = done.stdout
    assert text.startswith("## Rules: ")
    assert "changed **arbitration** (arbitration.yaml:1): threshold " in text
    for part in ("Of 150 customers", "| action | gain it |", "| contract: ", "| arbitration | "):
        assert part in text
    assert text.rstrip().endswith("</sub>")


def test_a_reviewer_reads_who_gains_which_segment_and_what_consent_and_contact_do(
    diff_settings: Settings, rules_edited: Edited
) -> None:
    """Named segments first, consent and contact limits also where they do nothing, run time last."""
    rules_edited("signals/payments.yaml", "at_least: 3, within: 7d", "at_least: 2, within: 10d")
    rules_edited("business/retention.yaml", '== "cancel") || scores.churn >= 0.3', '== "cancel") || false')
    folder = rules_edited("consent/purposes.yaml", "      web: legitimate_interest\n", "")
    (folder / "segments.yaml").write_text(
        "apiVersion: arbiter/v1\nkind: SegmentPack\n"
        "metadata: {name: customers, owner: loyalty-team, description: Names}\n"
        "segments: [{id: loyal, description: Long, when: features.tenure_months >= 48}]\n"
    )

    text = run(diff_settings, RULES, str(folder)).stdout

    for part in (
        "basis on web `legitimate_interest` → `consent`",
        'condition `… == "cancel") || scores.churn >= 0.3` → `… == "cancel") || false`',
        "Signals count as they are stored",
        "| **loyal** | ",
        "| personalization | 0 | ",
        "| consent | ",
        "| contact limits | 0 | 0 |",
        "### Largest movers",
        "<sub>run time ",
        " of them once, as the change cannot touch them</sub>",
    ):
        assert part in text, part
    named, contract = text.index("| **loyal** |"), text.index("| contract: ")
    assert named < contract
    assert "**loyal**: no" not in text


def test_json_holds_the_same_figures(diff_settings: Settings, rules_edited: Edited) -> None:
    """Alone on stdout."""
    folder = rules_edited("arbitration.yaml", "threshold:", "threshold: 8.0 #")

    document = json.loads(run(diff_settings, RULES, str(folder), "--json", "--channel", "web").stdout)

    assert document["impact"]["cases"] == 150
    assert document["impact"]["changed"] == sum(
        shift["changed"] for shift in document["impact"]["segments"]["channel"].values()
    )
    assert list(document["impact"]["segments"]["channel"]) == ["web"]
    assert [change["noun"] for change in document["changes"]] == ["arbitration"]


def test_logged_decisions_are_decided_again_as_they_were_asked(
    demo_company: Path, tmp_path: Path, rules_edited: Edited
) -> None:
    """With their context, their instant and the state read then."""
    settings = Settings(data_dir=Path(shutil.copytree(demo_company, tmp_path / "data")))
    with open_application(settings) as application:
        for customer in ("C0131", "C0133", "C0060"):
            query = DecisionQuery(customer_id=customer, channel="web", placement="", context={})
            application.decisions.decide(query)
    folder = rules_edited("arbitration.yaml", "threshold:", "threshold: 500000.0 #")

    done = run(settings, RULES, str(folder), "--log", "2")

    assert "Of 2 of the last 2 logged decisions, 2 (100.0 %) get other actions" in done.stdout, done.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "no such folder"),
        ("latest", "nothing is published"),
        ("shadow", "no shadow version"),
        ("abcdef", "no published version"),
        ("git:no-such-revision", "git does not know"),
    ],
)
def test_a_name_that_means_nothing_is_refused_in_words(
    diff_settings: Settings, name: str, words: str
) -> None:
    """Exit code 3, and what could be written instead."""
    done = run(diff_settings, name, RULES)

    assert done.exit_code == 3
    assert words in " ".join(done.stderr.split())


def test_a_set_that_cannot_serve_is_shown_with_its_problems(
    diff_settings: Settings, rules_edited: Edited
) -> None:
    """As `arbiter rules check` shows them."""
    folder = rules_edited("business/care.yaml", "tenure_months", "tenur_months")

    done = run(diff_settings, RULES, str(folder))

    assert done.exit_code == 3
    assert "business/care.yaml:" in done.stderr


def test_a_channel_nobody_has_is_refused(diff_settings: Settings) -> None:
    """With the ones there are."""
    done = run(diff_settings, RULES, RULES, "--channel", "fax")

    assert done.exit_code == 3
    assert "web" in done.stderr


def test_without_customers_only_the_words_are_compared(tmp_path: Path, rules_edited: Edited) -> None:
    """And the comparison says so."""
    folder = rules_edited("business/care.yaml", "share: 0.5", "share: 0.25")

    done = run(Settings(data_dir=tmp_path / "empty"), RULES, str(folder))

    assert done.exit_code == 0
    assert "share `+50 %` → `+25 %`" in done.stdout
    assert "Not tried on customers: the data directory has none." in done.stdout


def test_current_is_the_folder_until_a_version_is_active(diff_settings: Settings) -> None:
    """So that a pull request can always be compared with what serves."""
    done = run(diff_settings, "current", RULES, "--rules", RULES)

    assert done.exit_code == 0
    assert "**Nothing.**" in done.stdout
