"""Alerts, dashboards and runbooks are of the metrics there are, and their stories come out as told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from ruamel.yaml import YAML
from test_monitoring_docs import there_are

from engine.api.status import CODES
from engine.core.steps import Step
from engine.domain import Stage
from engine.monitor.metrics import BUCKETS_S, FAULTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ALERTS, RUNBOOKS = DOCS / "operations" / "alerts", DOCS / "runbooks"
BOARDS = sorted((DOCS / "operations" / "dashboards").glob("*.json"))
GROUPS = YAML(typ="safe").load((ALERTS / "arbiter.rules.yaml").read_text(encoding="utf-8"))["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
NAMED = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
OF_PROMETHEUS = {"up", "ALERTS"}
OF_SCRAPES = {"job", "instance", "pid"}
VALUES: dict[str, set[str]] = {
    "step": {step.value for step in Step},
    "stage": {stage.value for stage in Stage},
    "reason": {error.reason for error in CODES} | {"INTERNAL"},
    "window": {"hour", "day"},
    "operation": {"resolve", "read", "hold"},
    "change": {"step_up", "complete", "roll_back"},
    "le": {str(limit) for limit in BUCKETS_S},
    "job": {"arbiter"},
}
"""What labels may say, where a query asks for one."""


def selectors(expression: str) -> list[Any]:
    """The series that an expression asks for; it is parsed by what parses it in production."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        for name in ("lhs", "rhs", "expr", "vector_selector"):
            inner = getattr(node, name, None)
            if inner is not None:
                visit(inner)
        for inner in getattr(node, "args", None) or ():
            visit(inner)

    visit(promql.parse(expression))
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Every expression of rules and dashboards, by where it stands."""
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for path in BOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                asked = target["expr"].replace("$__rate_interval", "5m").replace("$job", ".*")
                yield f"{path.stem}: {panel['title']}", asked


QUERIES = list(queries())


@pytest.fixture(scope="module")
def metrics() -> dict[str, set[str]]:
    """Every metric to its labels."""
    return there_are()


@pytest.mark.parametrize(
    ("place", "expression"), QUERIES, ids=[f"{n}-{p}" for n, (p, _) in enumerate(QUERIES)]
)
def test_queries_ask_for_metrics_labels_and_values_that_exist(
    place: str, expression: str, metrics: dict[str, set[str]]
) -> None:
    """A query for what nobody counts shows nothing and alerts nobody."""
    asked = selectors(expression)

    assert asked
    for selector in asked:
        if selector.name in OF_PROMETHEUS | RECORDED:
            continue
        name = re.sub(r"_(bucket|sum|count)$", "", selector.name)
        assert name in metrics, selector.name
        for matcher in selector.matchers.matchers:
            assert matcher.name in metrics[name] | OF_SCRAPES | {"le"}, (selector.name, matcher.name)
            if matcher.op == promql.MatchOp.Equal and matcher.name in VALUES:
                assert matcher.value in VALUES[matcher.name], (selector.name, matcher.value)


def test_a_query_for_what_is_not_there_would_be_found(metrics: dict[str, set[str]]) -> None:
    """The reader of queries sees every series, however deep."""
    found = selectors("sum by (a) (rate(x[5m])) / (1 - (y or vector(0))) > scalar(max_over_time(z[1h:1m]))")

    assert [selector.name for selector in found] == ["x", "y", "z"]
    assert not {"x", "y", "z"} & set(metrics)


@pytest.mark.parametrize("rule", NAMED, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_is_and_has_a_runbook_that_tells_all(rule: dict[str, Any]) -> None:
    """What it means, what customers notice, where to look with commands, how to mend it, what then."""
    runbook = DOCS.parent / rule["annotations"]["runbook"]
    text = runbook.read_text(encoding="utf-8")

    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert text.startswith(f"# {rule['alert']}\n")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads == ["What it means", "What customers notice", "First look", "Mend", "After"]
    assert re.search(r"## First look\n\n```\n.+?\n```", text, re.DOTALL)
    for page, anchor in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", text):
        linked = (runbook.parent / page).resolve().read_text(encoding="utf-8")
        heads = {head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", linked, re.MULTILINE)}
        assert anchor in heads | {""}, (page, anchor)


def test_every_runbook_is_of_an_alert_and_in_the_list() -> None:
    """None that no alert leads to."""
    pages = {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (RUNBOOKS / "README.md").read_text(encoding="utf-8")))

    assert pages == {Path(rule["annotations"]["runbook"]).name for rule in NAMED} == listed


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_has_a_title_a_unit_queries_and_its_place(path: Path) -> None:
    """Panels neither overlap nor leave the 24 columns."""
    board = json.loads(path.read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()

    assert board["uid"] == f"arbiter-{path.stem}"
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "job"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["expr"] for target in panel["targets"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not taken & cells
        taken |= cells


def test_objectives_count_the_faults_that_the_server_counts() -> None:
    """What `arbiter status` calls failed is what spends the budget."""
    (rule,) = [rule for rule in RULES if rule.get("record") == "arbiter:decide_errors:ratio_rate5m"]
    (codes,) = re.findall(r'code=~"([^"]+)"', rule["expr"])

    assert codes.split("|") == list(FAULTS)


def test_the_page_of_objectives_has_the_figures_of_the_rules() -> None:
    """Objectives, burn rates and the limit of latency."""
    page = (DOCS / "slo.md").read_text(encoding="utf-8")
    failing, slow = (
        next(rule["expr"] for rule in NAMED if rule["alert"] == name)
        for name in ("ArbiterDecideFailing", "ArbiterDecideSlow")
    )

    assert set(re.findall(r"([\d.]+) \* ([\d.]+)", failing)) == {("14.4", "0.001"), ("6", "0.001")}
    assert set(re.findall(r"([\d.]+) \* ([\d.]+)", slow)) == {("14.4", "0.01"), ("6", "0.01")}
    assert 'le="0.01"' in next(
        r["expr"] for r in RULES if r.get("record") == "arbiter:decide_slow:ratio_rate1h"
    )
    for figure in ("99.9 %", "| 99 % |", "10 ms", "| 14.4 |", "| 6 |", "| 3 |", "| 1 |"):
        assert figure in page


def test_every_alert_has_a_story() -> None:
    """In the file that promtool tells."""
    stories = (ALERTS / "arbiter.tests.yaml").read_text(encoding="utf-8")

    assert {rule["alert"] for rule in NAMED} <= set(re.findall(r"Arbiter\w+", stories))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_stories_of_the_alerts_come_out_as_told() -> None:
    """By Prometheus's own tool."""
    done = subprocess.run(
        ["promtool", "test", "rules", "arbiter.tests.yaml"], cwd=ALERTS, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
