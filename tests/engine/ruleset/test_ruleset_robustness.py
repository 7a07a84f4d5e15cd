"""Whatever is in the files, the answer is a list of diagnostics, soon."""

from __future__ import annotations

import time

from conditions import LANGUAGE, conditions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_ruleset import SCHEMA, base_texts

from engine.ruleset.build import check
from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.sources import RuleSources

_TEXTS = base_texts()
_PIECES = st.sampled_from(
    [
        "", ":", " ", "\n", "  ", "- ", "{", "}", "[", "]", "'", '"', "|", ">", "#", "&a", "*a", "!t",
        "\t", "é", "\x00", "null", "true", "1.5", "1e999", "features.", "has(", "?:", "==", "9" * 20, "---\n",
        "\u2028", "\ufeff", "\ud800", "\r",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(_TEXTS)), st.data())
def test_a_damaged_file_is_diagnosed(file: str, data: st.DataObject) -> None:
    """Any change of a few places gives a right set or diagnostics with places inside the file."""
    text = _TEXTS[file]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(_PIECES) + text[at + data.draw(st.integers(0, 6)) :]

    try:
        problems = check(RuleSources.from_mapping(_TEXTS | {file: text}), SCHEMA)
    except RuleSetInvalid as invalid:
        problems = list(invalid.diagnostics)

    for problem in problems:
        assert problem.message
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.render()


@settings(max_examples=300, deadline=None)
@given(conditions(), st.data())
def test_a_damaged_condition_is_diagnosed(condition: str, data: st.DataObject) -> None:
    """Any text is a condition or has a problem at a place inside it."""
    at = data.draw(st.integers(0, len(condition)))
    damaged = condition[:at] + data.draw(_PIECES) + condition[at + data.draw(st.integers(0, 4)) :]

    node, problems = LANGUAGE.check(damaged)

    assert (node is None) == bool(problems)
    assert all(0 <= problem.offset <= len(damaged) for problem in problems)


def test_a_large_file_is_read_in_bounded_time() -> None:
    """A thousand rules are checked in a time an author waits for."""
    rule = (
        "  - id: more.{0}\n    class: suitability\n    applies_to: {{groups: [retention]}}\n"
        '    when: features.tenure > {0} && context.call_reason == "billing"\n'
        "    effect: deny\n    reason: RISK_LOW\n    state: active\n"
    )
    text = _TEXTS["rules.yaml"].replace("otherwise: RISK_LOW", "otherwise: TOO_OFTEN")
    many = text + "".join(rule.format(i) for i in range(1_000))

    started = time.perf_counter()
    problems = check(RuleSources.from_mapping(_TEXTS | {"rules.yaml": many}), SCHEMA)
    seconds = time.perf_counter() - started

    assert {problem.code for problem in problems} == {"R403"}
    assert seconds < 20
