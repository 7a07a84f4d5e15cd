"""`arbiter rules test`, `fmt`, `schema` and `repl`, as authors call them."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner, Result

from engine.cli.app import app
from engine.settings import Settings
from feature_store.embedded import open_embedded
from feature_store.schema import load_schema
from feature_store.state import FeatureVector

RULES = Path(__file__).parents[3] / "rules"


def _arbiter(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["rules", *arguments], input=typed)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A copy of the demo rules that a test may change, with one small suite."""
    folder = tmp_path / "rules"
    shutil.copytree(RULES, folder)
    for suite in (folder / "suites").glob("*.yaml"):
        if suite.name != "upgrade_test.yaml":
            suite.unlink()
    return folder


def test_suites_that_hold_end_with_0(rules: Path) -> None:
    """The count is the last line."""
    result = _arbiter("test", "--rules", str(rules))

    assert (result.exit_code, result.stdout.splitlines()[-1][-9:]) == (0, ", all hold"[1:])


def test_a_failing_case_ends_with_4_and_shows_what_its_rules_saw(rules: Path) -> None:
    """A changed rule is found by the suite that says what it should do."""
    pack = rules / "business" / "upgrade.yaml"
    pack.write_text(pack.read_text().replace("tenure_months < 6", "tenure_months < 5"))

    result = _arbiter("test", "--rules", str(rules), "--filter", "six months")

    assert result.exit_code == 4
    assert "suppressed: one_year_contract" in result.stdout
    assert "features.tenure_months < 5  =>  false" in result.stdout
    assert "features.tenure_months  =>  5" in result.stdout


def test_a_suite_with_a_mistake_ends_with_3(rules: Path) -> None:
    """It is told like a mistake in a rule, with its place."""
    suite = rules / "suites" / "upgrade_test.yaml"
    suite.write_text(
        suite.read_text().replace("returned: [two_year_contract]", "returned: [two_year_contrac]")
    )

    result = _arbiter("test", "--rules", str(rules))

    assert result.exit_code == 3
    assert "R401 unknown action `two_year_contrac`" in result.stdout


def test_rules_with_a_mistake_are_not_tested(rules: Path) -> None:
    """First right, then tested."""
    pack = rules / "business" / "upgrade.yaml"
    pack.write_text(pack.read_text().replace("tenure_months < 6", "tenur < 6"))

    result = _arbiter("test", "--rules", str(rules), "--json")

    assert result.exit_code == 3
    assert [d["code"] for d in json.loads(result.stdout)] == ["R302"]


def test_a_filter_that_matches_nothing_is_an_error(rules: Path) -> None:
    """A typing slip in a build script must not pass."""
    result = _arbiter("test", "--rules", str(rules), "--filter", "nothing of the kind")

    assert (result.exit_code, "no case matches" in result.stderr) == (3, True)


def test_low_coverage_ends_with_4(rules: Path) -> None:
    """One suite covers one pack; the threshold says that is not enough."""
    result = _arbiter("test", "--rules", str(rules), "--min-coverage", "80")

    assert result.exit_code == 4
    assert "never held" in result.stdout
    assert "below 80 %" in result.stderr


def test_results_are_written_for_tools(rules: Path, tmp_path: Path) -> None:
    """JSON on stdout and JUnit in a file say the same."""
    junit = tmp_path / "junit.xml"

    result = _arbiter("test", "--rules", str(rules), "--json", "--coverage", "--junit", str(junit))

    document = json.loads(result.stdout)
    suite = ET.fromstring(junit.read_text()).find("testsuite")
    assert suite is not None
    assert suite.get("tests") == str(document["cases"])
    assert document["coverage"]["branches"] > 0


def test_a_threshold_that_is_no_percentage_is_wrong_usage() -> None:
    """Typer refuses it before anything runs."""
    assert _arbiter("test", "--min-coverage", "120").exit_code == 2


def test_fmt_check_shows_the_change_and_ends_with_4(rules: Path) -> None:
    """Nothing is written."""
    pack = rules / "arbitration.yaml"
    text = pack.read_text().replace("threshold: 1.0", "threshold:    1.0")
    pack.write_text(text)

    result = _arbiter("fmt", "--check", "--rules", str(rules))

    assert result.exit_code == 4
    assert "-threshold:    1.0\n+threshold: 1.0\n" in result.stdout
    assert pack.read_text() == text


def test_fmt_writes_decimals_and_has_nothing_left_to_do(rules: Path) -> None:
    """What `rules check` advises, `rules fmt` does."""
    pack = rules / "business" / "retention.yaml"
    right = pack.read_text()
    pack.write_text(right.replace("monthly_charges >= 70.0", "monthly_charges >= 70"))

    first = _arbiter("fmt", "--rules", str(rules))
    second = _arbiter("fmt", "--check", "--rules", str(rules))

    assert (first.exit_code, first.stdout.strip(), second.exit_code) == (0, "business/retention.yaml", 0)
    assert pack.read_text() == right


def test_fmt_tells_files_it_cannot_read(rules: Path) -> None:
    """They stay as they are."""
    (rules / "arbitration.yaml").write_text("a: [\n")

    result = _arbiter("fmt", "--rules", str(rules))

    assert (result.exit_code, "arbitration.yaml:2:1 R104" in result.stdout) == (3, True)
    assert (rules / "arbitration.yaml").read_text() == "a: [\n"


def test_schemas_are_checked_and_written(rules: Path) -> None:
    """A missing one is made, one of no kind is removed."""
    (rules / "schema" / "policy-pack.json").unlink()
    (rules / "schema" / "unknown.json").write_text("{}")

    stale = _arbiter("schema", "--rules", str(rules))
    written = _arbiter("schema", "--write", "--rules", str(rules))
    fresh = _arbiter("schema", "--rules", str(rules))

    assert (stale.exit_code, written.exit_code, fresh.exit_code) == (4, 0, 0)
    assert {"policy-pack.json", "unknown.json"} <= set(written.stdout.split())


def _repl(*arguments: str, typed: str = "") -> Result:
    return _arbiter("repl", "--fixture", "--customer", "lea", *arguments, typed=typed)


def test_an_expression_is_shown_as_a_tree_of_values() -> None:
    """Any expression, not only conditions."""
    result = _repl("--eval", "features.tenure_months % 12 == 6 && scores.churn > 0.3")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "features.tenure_months % 12 == 6 && scores.churn > 0.3  =>  true",
        "  features.tenure_months % 12 == 6  =>  true",
        "    features.tenure_months % 12  =>  6",
        "      features.tenure_months  =>  30",
        "  scores.churn > 0.3  =>  true",
        "    scores.churn  =>  0.4",
    ]


def test_a_segment_is_shown_with_the_constants_of_its_own_file(rules: Path) -> None:
    """Also where the file that is asked from has none of them, or another of that name."""
    shutil.copy(RULES / "suites" / "service_test.yaml", rules / "suites")
    (rules / "segments").mkdir(exist_ok=True)
    (rules / "segments" / "long.yaml").write_text(
        "apiVersion: arbiter/v1\nkind: SegmentPack\n"
        "metadata: {name: long, owner: tests, description: Long with us}\nconstants: {YEARS: 2}\n"
        "segments:\n  - id: long\n    description: Long with us\n"
        "    when: features.tenure_months >= constants.YEARS * 12\n"
    )
    ask = ["repl", "--rules", str(rules), "--fixture", "--customer", "lea", "--eval", "segments.long"]

    result = _arbiter(*ask)

    assert result.stdout.splitlines() == [
        "segments.long  =>  true",
        "  features.tenure_months >= constants.YEARS * 12  =>  true  (segments/long.yaml:8:11)",
        "    features.tenure_months  =>  30  (segments/long.yaml:8:11)",
        "    constants.YEARS * 12  =>  24  (segments/long.yaml:8:37)",
        "      constants.YEARS  =>  2  (segments/long.yaml:8:37)",
    ]


def test_a_wrong_expression_is_told_with_a_caret_and_ends_with_3() -> None:
    """As `rules check` would tell it."""
    result = _repl("--eval", "features.tenur > 3")

    assert result.exit_code == 3
    assert "\n    features.tenur > 3\n             ^\n" in result.stdout


def test_the_moment_can_be_set() -> None:
    """Channel, context, instant and action are options."""
    options = ["--channel", "call_center", "--placement", "screen_pop", "--context", "call_reason=cancel"]
    expression = 'request.channel == "call_center" && context.call_reason == "cancel" && now.getHours() == 23'

    result = _repl(*options, "--now", "2026-01-01T23:00:00", "--action", "plan_check", "--eval", expression)

    assert result.stdout.splitlines()[0].endswith("=>  true")


def test_a_customer_of_the_store_can_be_asked_about(tmp_path: Path) -> None:
    """The values are those a decision would read now."""
    schema = load_schema(Settings().feature_schema)
    now_ms = time.time_ns() // 1_000_000
    values = schema.pack({"tenure_months": 7, "contract": "one-year"})
    store = open_embedded(tmp_path / "store")
    store.put_customers([("X1", FeatureVector(schema.digest, (now_ms,) * len(schema.view), values))])
    store.close()
    expression = 'features.tenure_months < 12 && features.contract == "one-year" && !consents.profiling'

    result = _arbiter("repl", "--customer", "X1", "--data-dir", str(tmp_path), "--eval", expression)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{expression}  =>  true"


def test_a_conversation_answers_line_by_line() -> None:
    """Commands begin with a colon; mistakes do not end it."""
    typed = "action.id\n:action plan_check\naction.id\n:action plan_chek\nfeatures.x\n:inputs\n:what\n:quit\n"

    result = _repl(typed=typed)

    assert result.exit_code == 0
    assert "action.id  =>  unknown (no action is looked at)" in result.stdout
    assert 'action.id  =>  "plan_check"' in result.stdout
    assert "did you mean `plan_check`?" in result.stdout
    assert "context.page = missing (absent)" in result.stdout
    assert "unknown command :what" in result.stdout


def test_a_name_that_two_suites_give_a_customer_is_an_error_that_names_both(rules: Path) -> None:
    """Neither is taken silently; --suite chooses, by name or by file."""
    suites = rules / "suites"
    shutil.copy(RULES / "suites" / "retention_test.yaml", suites / "retention_test.yaml")
    text = (suites / "retention_test.yaml").read_text()
    (suites / "other_test.yaml").write_text(text.replace("  name: retention\n", "  name: other\n"))
    ask = ["repl", "--rules", str(rules), "--fixture", "--customer", "nora", "--eval", "features.contract"]

    unclear = _arbiter(*ask)
    by_name = _arbiter(*ask, "--suite", "retention")
    by_file = _arbiter(*ask, "--suite", "suites/other_test.yaml")
    nowhere = _arbiter(*ask, "--suite", "nothing")

    assert unclear.exit_code == 3
    assert "the suite `other` has a customer `nora`, and so has `retention`" in unclear.stderr
    assert "choose it by --suite other" in unclear.stderr
    assert "choose it by --suite retention" in unclear.stderr
    assert (by_name.exit_code, by_name.stdout) == (by_file.exit_code, by_file.stdout) == (0, by_name.stdout)
    assert "no suite 'nothing' has a customer 'nora'" in nowhere.stderr


def test_a_suite_is_named_for_a_fixture_only() -> None:
    """Customers of the store belong to no suite."""
    assert _arbiter("repl", "--customer", "C0131", "--suite", "retention").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--fixture", "--customer", "nobody"], "no suite has a customer 'nobody'"),
        (["--fixture", "--customer", "lea", "--channel", "fax"], "unknown channel `fax`"),
        (["--fixture", "--customer", "lea", "--action", "plan_chek"], "unknown action `plan_chek`"),
        (["--fixture", "--customer", "lea", "--context", "pagee=3"], "unknown context field `pagee`"),
        (["--customer", "C0131"], "no customer 'C0131'"),
    ],
)
def test_what_is_not_there_is_an_error(arguments: list[str], told: str, tmp_path: Path) -> None:
    """Exit code 3, with what to do."""
    result = _arbiter("repl", *arguments, "--data-dir", str(tmp_path), "--eval", "true")

    assert (result.exit_code, told in result.stderr) == (3, True)
