"""Rollouts: written down with who, when and why; two that act at once do not undo each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from model_registry import promote, publish
from model_registry.errors import ModelCorrupt, ModelNotFound
from model_registry.rollout import (
    ChangeKind,
    Guardrails,
    Rollout,
    RolloutMoved,
    RolloutRefused,
    RolloutState,
    Step,
    move,
    read_rollouts,
    start,
)

STEPS = (Step(percent=5, decisions=100, hours=0), Step(percent=100, decisions=100, hours=0))
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def name(root, offered, files) -> str:
    """A model with three versions, the first its champion."""
    for _ in range(3):
        publish(root, offered, files)
    promote(root, offered["name"], 1, reason="first")
    return str(offered["name"])


@pytest.fixture
def begin(root, name):
    """Starts a rollout of a version."""

    def begin_it(version: int = 2, **fields: object) -> Rollout:
        given = {"steps": STEPS, "reason": "a test", "actor": "ada", "at": BEGAN} | fields
        return start(root, name, version, **given)

    return begin_it


def test_a_rollout_begins_at_its_first_step(root, name, begin) -> None:
    """What was started is what everybody reads."""
    rollout = begin()

    present = read_rollouts(root, name).present

    assert present == rollout
    assert (rollout.champion, rollout.percent, rollout.state) == (1, 5, RolloutState.RUNNING)
    assert [(c.kind, c.actor, c.reason, c.percent) for c in rollout.changes] == [
        (ChangeKind.START, "ada", "a test", 5)
    ]


def test_steps_lead_to_completion_and_each_is_told(root, name, begin) -> None:
    """Shares, states and times of a whole life."""
    rollout = begin()
    later = [BEGAN + timedelta(hours=hours) for hours in (1, 2, 3, 4)]

    rollout = move(root, name, ChangeKind.PAUSE, expected=rollout, reason="lunch", actor="bob", at=later[0])
    rollout = move(root, name, ChangeKind.RESUME, expected=rollout, reason="back", actor="bob", at=later[1])
    rollout = move(root, name, ChangeKind.STEP_UP, expected=rollout, reason="fine", actor="s", at=later[2])
    rollout = move(root, name, ChangeKind.COMPLETE, expected=rollout, reason="fine", actor="s", at=later[3])

    assert read_rollouts(root, name).active == rollout
    assert (rollout.state, rollout.percent, rollout.since) == (RolloutState.COMPLETED, 100, later[2])
    assert [change.percent for change in rollout.changes] == [5, 5, 5, 100, 100]
    assert [rollout.step_at(int(at.timestamp() * 1000)) for at in (BEGAN, later[1], later[2])] == [0, 0, 1]
    assert rollout.step_at(0) == 0


def test_a_version_that_went_back_does_not_come_again_by_itself(root, name, begin) -> None:
    """Somebody has to say so; another version may start."""
    rollout = move(
        root, name, ChangeKind.ROLL_BACK, expected=begin(), reason="errors: many", actor="arbiter serve"
    )

    with pytest.raises(RolloutRefused, match=r"went back on .*errors: many.*--again"):
        begin()
    other, again = begin(3), None
    move(root, name, ChangeKind.ROLL_BACK, expected=other, reason="enough", actor="ada")
    again = begin(again=True)

    assert rollout.percent == 0
    assert [r.version for r in read_rollouts(root, name).rollouts] == [2, 3, 2]
    assert len({r.id for r in read_rollouts(root, name).rollouts}) == 3
    assert read_rollouts(root, name).active == again


def test_whoever_decided_on_an_older_state_changes_nothing(root, name, begin) -> None:
    """A step up that comes after a person's abort must not bring the challenger back."""
    rollout = begin()
    aborted = move(root, name, ChangeKind.ROLL_BACK, expected=rollout, reason="no", actor="ada")

    with pytest.raises(RolloutMoved, match="rolled_back at 0 %"):
        move(root, name, ChangeKind.STEP_UP, expected=rollout, reason="fine", actor="arbiter serve")

    assert read_rollouts(root, name).present == aborted


@pytest.mark.parametrize(
    ("done", "asked", "told"),
    [
        ([], ChangeKind.RESUME, "is running, so it cannot go on"),
        ([ChangeKind.PAUSE], ChangeKind.STEP_UP, "is paused, so it cannot go a step up"),
        ([ChangeKind.ROLL_BACK], ChangeKind.ROLL_BACK, "cannot go back"),
        ([ChangeKind.STEP_UP], ChangeKind.STEP_UP, "at its last step"),
    ],
)
def test_what_the_state_does_not_allow_is_refused(root, name, begin, done, asked, told) -> None:
    """With the state it is in."""
    rollout = begin()
    for kind in done:
        rollout = move(root, name, kind, expected=rollout, reason="a test", actor="ada")

    with pytest.raises(RolloutRefused, match=told):
        move(root, name, asked, expected=rollout, reason="a test", actor="ada")


def test_one_rollout_of_a_model_at_a_time(begin) -> None:
    """Promote or abort the one that is on."""
    begin()

    with pytest.raises(RolloutRefused, match=r"version 2 is running at 5 %; promote or abort"):
        begin(3)


def test_after_its_promotion_the_next_may_start(root, name, begin) -> None:
    """A challenger that became champion holds nobody up."""
    begin()
    promote(root, name, 2, reason="good")

    rollout = begin(3)

    assert (rollout.champion, rollout.version) == (2, 3)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"steps": (Step(percent=50), Step(percent=5))}, "must grow"),
        ({"steps": (Step(percent=5), Step(percent=5))}, "must grow"),
        ({"version": 1}, "is the champion itself"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(begin, fields, told) -> None:
    """Before anything is written."""
    with pytest.raises(RolloutRefused, match=told):
        begin(**fields)


def test_a_version_that_is_not_there_or_not_whole_gets_no_customers(root, name, begin, at) -> None:
    """Its files are read before anybody is scored by it."""
    damaged = at.names(f"{name}/3")[0]
    at.write(f"{name}/3/{damaged}", b"other")

    with pytest.raises(ModelNotFound):
        begin(9)
    with pytest.raises(ModelCorrupt):
        begin(3)

    assert read_rollouts(root, name).present is None


def test_a_damaged_file_is_told_with_its_place(root, name, at) -> None:
    """Nobody guesses who was in which share."""
    at.write(f"{name}/rollout.json", b'{"format": 1, "rollouts": [{}]}')

    with pytest.raises(ModelCorrupt, match=r"rollout\.json"):
        read_rollouts(root, name)


def test_guardrails_are_kept_with_the_rollout(root, name, begin) -> None:
    """What it was judged by can be read later."""
    begin(guardrails=Guardrails(latency_ratio=1.5), promotes=True)

    present = read_rollouts(root, name).present

    assert present is not None
    assert (present.guardrails.latency_ratio, present.promotes) == (1.5, True)
