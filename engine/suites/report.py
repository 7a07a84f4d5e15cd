"""What a run of suites says: for a terminal, as JSON, and as JUnit XML for build servers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from engine.domain import Decision
from engine.ruleset.trace import Trace, render_trace, shown
from engine.suites.coverage import Coverage, RuleCoverage
from engine.suites.running import Result, RuleTrace


def as_text(results: Sequence[Result]) -> str:
    """Every failing case with its differences and traces, and the count of all."""
    failed = [result for result in results if not result.holds]
    blocks = ["\n".join(_failure_lines(result)) for result in failed]
    return "\n\n".join([*blocks, _count(len(results), len(failed))])


def _count(cases: int, failed: int) -> str:
    words = "1 case" if cases == 1 else f"{cases} cases"
    return f"{words}, {failed} failed" if failed else f"{words}, all hold"


def _failure_lines(result: Result) -> Iterator[str]:
    place = result.case.position
    yield f"FAILED {result.case.id}"
    yield f"  {place.file}:{place.line}:{place.column}"
    for difference in result.differences:
        yield f"  {difference.sentence}"
    yield f"  decided: {_decided(result.decision)}"
    for traced in result.traces:
        yield from _trace_lines(traced)


def _decided(decision: Decision) -> str:
    if decision.no_action is not None:
        return "no action (" + ", ".join(reason.code for reason in decision.no_action) + ")"
    return ", ".join(f"{a.rank}. {a.action_id} ({a.priority.priority:.2f})" for a in decision.actions)


def _trace_lines(traced: RuleTrace) -> Iterator[str]:
    place = traced.position
    yield f"  {traced.effect.value} {traced.rule_id}, asked about {traced.action_id}"
    yield f"    {place.file}:{place.line}:{place.column}"
    yield from render_trace(traced.trace, indent="    ")


def as_json(results: Sequence[Result], coverage: Coverage | None) -> str:
    """All results as one JSON object, with coverage where given."""
    document: dict[str, Any] = {
        "cases": len(results),
        "failed": sum(not result.holds for result in results),
        "results": [_result_object(result) for result in results],
    }
    if coverage is not None:
        document["coverage"] = coverage_object(coverage)
    return json.dumps(document, ensure_ascii=False, indent=2)


def _result_object(result: Result) -> dict[str, Any]:
    place = result.case.position
    return {
        "suite": result.case.suite,
        "case": result.case.name,
        "file": place.file,
        "line": place.line,
        "holds": result.holds,
        "differences": [difference.sentence for difference in result.differences],
        "actions": [action.action_id for action in result.decision.actions],
        "traces": [
            {
                "rule": traced.rule_id,
                "action": traced.action_id,
                "file": traced.position.file,
                "line": traced.position.line,
                "column": traced.position.column,
                "condition": trace_object(traced.trace),
            }
            for traced in result.traces
        ],
    }


def trace_object(trace: Trace) -> dict[str, Any]:
    """A trace as plain values; with a place where a part is not in the rule's own condition."""
    place = trace.position
    told: dict[str, Any] = {"text": trace.text, "offset": trace.offset, "value": shown(trace)}
    if place is not None:
        told |= {"file": place.file, "line": place.line, "column": place.column}
    return {**told, "parts": [trace_object(part) for part in trace.parts]}


def coverage_object(coverage: Coverage) -> dict[str, Any]:
    """Coverage as plain values."""
    totals = coverage.totals()
    return {
        "rules": totals.rules,
        "rules_held": totals.rules_held,
        "rules_covered": totals.rules_covered,
        "rule_percent": round(totals.rule_percent, 1),
        "branches": totals.branches,
        "branches_seen": totals.branches_seen,
        "branch_percent": round(totals.branch_percent, 1),
        "by_rule": [_rule_object(rule) for rule in coverage.rules()],
    }


def _rule_object(covered: RuleCoverage) -> dict[str, Any]:
    return {
        "rule": covered.rule.id,
        "file": covered.position.file,
        "line": covered.position.line,
        "held": covered.held,
        "not_held": covered.not_held,
        "missed": [
            {
                "text": branch.text,
                "value": value,
                "file": branch.position.file,
                "line": branch.position.line,
                "column": branch.position.column,
            }
            for branch in covered.branches
            for value in branch.missed
        ],
    }


def coverage_text(coverage: Coverage, *, every_rule: bool = True) -> str:
    """A table of all rules, or of those not seen whole; then what was missed, by place; then the sums."""
    rules = list(coverage.rules())
    listed = [rule for rule in rules if every_rule or rule.missed]
    width = max((len(rule.rule.id) for rule in listed), default=4)
    lines = [f"{'rule':<{width}}  held  not held  branches"] if listed else []
    lines += [_row(rule, width) for rule in listed]
    missed = [line for rule in rules for line in _missed_lines(rule)]
    lines += ["", "not seen:", *missed] if missed else []
    totals = coverage.totals()
    lines += [
        "",
        f"rules:    {totals.rules_covered} of {totals.rules} held and did not hold "
        f"({totals.rule_percent:.1f} %); {totals.rules_held} held",
        f"branches: {totals.branches_seen} of {totals.branches} seen ({totals.branch_percent:.1f} %)",
    ]
    return "\n".join(lines)


def _row(covered: RuleCoverage, width: int) -> str:
    seen = sum(len(branch.seen) for branch in covered.branches)
    held, not_held = ("yes" if flag else "no" for flag in (covered.held, covered.not_held))
    return f"{covered.rule.id:<{width}}  {held:<4}  {not_held:<8}  {seen}/{2 * len(covered.branches)}"


def _missed_lines(covered: RuleCoverage) -> Iterator[str]:
    place = covered.position
    here = f"  {place.file}:{place.line}:{place.column} {covered.rule.id}"
    if not covered.held:
        yield f"{here} never held"
    if not covered.not_held:
        yield f"{here} always held"
    for branch in covered.branches:
        at = branch.position
        for value in branch.missed:
            text = " ".join(branch.text.split())
            yield f"  {at.file}:{at.line}:{at.column} `{text}` never {'true' if value else 'false'}"


def as_junit(results: Sequence[Result]) -> str:
    """The results as JUnit XML, one test suite for each suite."""
    root = ET.Element("testsuites", name="arbiter rules test")
    by_suite: dict[str, list[Result]] = {}
    for result in results:
        by_suite.setdefault(result.case.suite, []).append(result)
    for name, ran in by_suite.items():
        failed = sum(not result.holds for result in ran)
        suite = ET.SubElement(
            root, "testsuite", name=name, tests=str(len(ran)), failures=str(failed), errors="0"
        )
        for result in ran:
            _add_case(suite, result)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ET.Element, result: Result) -> None:
    place = result.case.position
    case = ET.SubElement(
        suite,
        "testcase",
        classname=result.case.suite,
        name=_xml_text(result.case.name),
        file=place.file,
        line=str(place.line),
    )
    if not result.holds:
        first = _xml_text(result.differences[0].sentence)
        failure = ET.SubElement(case, "failure", message=first, type="expectation")
        failure.text = _xml_text("\n".join(_failure_lines(result)))


def _xml_text(text: str) -> str:
    """Text without the control characters XML cannot hold."""
    return "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "?" for c in text)
