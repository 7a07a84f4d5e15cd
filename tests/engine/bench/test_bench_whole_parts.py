"""The stack of well-known parts decides the same as Arbiter: its rules, models, limits and ranking."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.api import reading, writing
from engine.bench import whole_venv
from engine.bench.parts import Disagreement, PartMissing
from engine.bench.whole_checks import Answer, Response, check_same, check_whole
from engine.bench.whole_customers import customer_id
from engine.bench.whole_parts.deciding import Decider
from engine.bench.whole_parts.plan import Plan, read_plan
from engine.bench.whole_plan import write_plan
from engine.bench.whole_shape import Company
from engine.bench.whole_sides import CHANNEL, LIMIT, PAGE, decide_request
from engine.bootstrap import open_application


@pytest.fixture(scope="module")
def plan(whole_company: Company, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """What the stack decides with."""
    return read_plan(write_plan(whole_company, tmp_path_factory.mktemp("parts"), redis="localhost:1"))


@pytest.fixture(scope="module")
def replies(whole_company: Company) -> Mapping[str, bytes]:
    """What Arbiter answers, by customer."""
    found = {}
    with open_application(whole_company.settings()) as application:
        for number in range(whole_company.size.customers):
            name = customer_id(number)
            answer = application.decisions.decide(reading.decision_query(decide_request(name)))
            reply = writing.decide_response(answer.record, answer.snapshot)
            found[name] = reply.SerializeToString()
    return found


def _known(plan: Plan) -> Callable[[str], Mapping[str, Any]]:
    """What the online store would say, from the file that it is loaded from."""
    with np.load(plan.customers) as held:
        kept = dict(held)
    ids = kept["ids"].tolist()

    def read(name: str) -> Mapping[str, Any]:
        place = ids.index(name)
        values = dict(zip((f.name for f in plan.features), kept["values"][place].tolist(), strict=True))
        counts = {count: kept[count][place].tolist() for count in ("shown_14d", "declined_90d")}
        return {**values, **counts, "marketing": True, "personalization": True, "profiling": True}

    return read


def test_it_decides_the_same_for_every_customer(plan: Plan, replies: Mapping[str, bytes]) -> None:
    """The same actions in the same order, with the same priorities; the same removed; the same risk."""
    pytest.importorskip("zen")
    decider = Decider(plan, _known(plan))

    decided = {name: decider.decide(name, CHANNEL, LIMIT, PAGE).reply for name in replies}

    for name, reply in decided.items():
        theirs = json.dumps({**reply, "decide_time": ""}).encode()
        check_same(name, Answer.of_arbiter(replies[name]), Answer.of_parts(theirs))
    assert sum(bool(reply["actions"]) for reply in decided.values()) > len(decided) / 2
    assert all(action["reasons"] for reply in decided.values() for action in reply["actions"])


def test_a_refusal_to_marketing_removes_what_it_is_for(plan: Plan) -> None:
    """The gate of the stack works, though every customer of the benchmark consents."""
    pytest.importorskip("zen")
    read = _known(plan)
    decider = Decider(plan, lambda name: {**read(name), "marketing": False})

    reply = decider.decide(customer_id(0), CHANNEL, LIMIT, PAGE).reply

    assert {action["purpose"] for action in reply["actions"]} <= {"personalization", "service"}


def test_answers_that_differ_are_told() -> None:
    """Another action, another priority, another set of removed ones; equals may swap places."""
    one = Answer([("a", 5.0), ("b", 5.0)], frozenset("cd"), "low")

    check_same("W1", one, Answer([("b", 5.0), ("a", 5.0)], frozenset("cd"), "low"))

    for other in (
        Answer([("a", 5.0), ("b", 4.0)], frozenset("cd"), "low"),
        Answer([("a", 5.0)], frozenset("bcd"), "low"),
        Answer([("a", 5.0), ("b", 5.0)], frozenset("cde"), "low"),
        Answer([("a", 5.0), ("b", 5.0)], frozenset("cd"), "high"),
    ):
        with pytest.raises(Disagreement, match="customer W1"):
            check_same("W1", one, other)


def test_a_reply_that_is_not_the_whole_job_is_told(replies: Mapping[str, bytes]) -> None:
    """What lacks is named."""
    whole = [reply for reply in replies.values() if len(Response.FromString(reply).actions) == LIMIT]
    less = Response.FromString(whole[0])
    del less.suppressed[:1]
    del less.churn_risk.reasons[:]

    check_whole(whole, candidates=30)

    with pytest.raises(Disagreement, match="lacks 30 candidates, reasons for the churn score:"):
        check_whole([less.SerializeToString()], candidates=30)
    with pytest.raises(Disagreement, match="no reply"):
        check_whole([], candidates=30)


def test_the_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On first use and when the requirements change; what pip says is told where it fails."""
    commands: list[list[str]] = []

    def ran(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / "python").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", ran)
    first, second = whole_venv.parts_python(tmp_path), whole_venv.parts_python(tmp_path)

    assert first == second == tmp_path / "bin" / "python"
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
    assert commands[1][-1] == str(whole_venv.REQUIREMENTS)


def test_parts_that_cannot_be_installed_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was said last."""

    def failed(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "looking\nno network")

    monkeypatch.setattr(subprocess, "run", failed)

    with pytest.raises(PartMissing, match="cannot be installed: no network"):
        whole_venv.parts_python(tmp_path)
