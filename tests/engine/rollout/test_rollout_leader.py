"""Rollouts lead themselves: good challengers go up, bad ones go back, and a dead leader has an heir."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from rollout_company import (
    MODEL,
    Noted,
    answer,
    decide,
    follower_of,
    leader_of,
    profiled,
    under_load,
    versions_of,
)
from rollout_models import publish_broken, publish_shifted

from engine.bootstrap import Application, watch_models
from engine.core.scoring import Contribution, Scorer, ScoringError, Vector
from engine.core.snapshot import Snapshot
from engine.models.trees import Floats, Places
from engine.processes import ProcessStates
from engine.service.arms import Arms, read_counts
from engine.service.following_models import ModelServer, ModelsFollower
from engine.service.rollouts import RolloutLeader
from model_registry import promote, resolve
from model_registry.rollout import (
    ChangeKind,
    Guardrails,
    Rollout,
    RolloutState,
    Step,
    move,
    read_rollouts,
    start,
)

GUARDRAILS = Guardrails(decisions=60, outcome_alpha=0.05, latency_ratio=1000)
"""Few decisions, as tests make few; time is watched where it is planted, as the machine is shared."""
SLOW = Guardrails(decisions=60, latency_ratio=2, latency_extra_ms=10)


def steps(*percents: float, decisions: int = 50, hours: float = 0.0) -> tuple[Step, ...]:
    """A plan."""
    return tuple(Step(percent=percent, decisions=decisions, hours=hours) for percent in percents)


def begin(registry: Path, version: int, plan: tuple[Step, ...], **fields: object) -> Rollout:
    """Starts a rollout."""
    given = {"guardrails": GUARDRAILS, "reason": "a test", "actor": "ada"} | fields
    return start(registry, MODEL, version, steps=plan, **given)


def present(registry: Path) -> Rollout:
    """The rollout as it is now."""
    found = read_rollouts(registry, MODEL).present
    assert found is not None
    return found


class Planted:
    """`engine.core.scoring.Scorer` of a challenger that does something wrong before it scores."""

    def __init__(self, scorer: Scorer, *, fails: bool = False, takes_s: float = 0.0) -> None:
        self._scorer = scorer
        self._fails = fails
        self._takes_s = takes_s
        self.versions = scorer.versions

    def churn(self, vector: Vector) -> float | None:
        return self._scorer.churn(vector)

    def propensity(self, vector: Vector, actions: Places) -> Floats:
        if self._fails:
            raise ScoringError(MODEL, "planted")
        until = perf_counter() + self._takes_s
        while perf_counter() < until:
            pass
        return self._scorer.propensity(vector, actions)

    def explain_churn(self, vector: Vector) -> tuple[Contribution, ...]:
        return self._scorer.explain_churn(vector)

    def explain_propensities(
        self, vector: Vector, actions: Sequence[int]
    ) -> Sequence[tuple[Contribution, ...]]:
        return self._scorer.explain_propensities(vector, actions)


def plant(application: Application, *, fails: bool = False, takes_s: float = 0.0) -> None:
    """Makes the challenger that serves do something wrong."""

    def change(current: Snapshot) -> Snapshot:
        assert current.canaries is not None
        bad = tuple(
            replace(each, scorer=Planted(each.scorer, fails=fails, takes_s=takes_s))
            for each in current.canaries.snapshots
        )
        return replace(current, canaries=replace(current.canaries, snapshots=bad))

    assert application.live.switch(change)


@pytest.mark.parametrize(
    ("by", "planted", "guardrails", "told"),
    [
        (0.0, {"fails": True}, GUARDRAILS, "errors: it failed in"),
        (0.0, {"takes_s": 0.06}, SLOW, "latency: 95 % of its decisions took up to"),
        (2.5, {}, GUARDRAILS, "scores: its scores are distributed otherwise: PSI"),
    ],
    ids=["errors", "slow", "shifted scores"],
)
def test_a_bad_challenger_goes_back_by_itself_under_load(
    at_work: Application,
    registry: Path,
    by: float,
    planted: dict[str, float],
    guardrails: Guardrails,
    told: str,
) -> None:
    """While threads decide: the rollout ends with the reason, and everybody has the champion again."""
    customers = profiled(at_work, 200)
    plan = steps(50, 100, decisions=100_000)
    begin(registry, publish_shifted(registry, MODEL, by=by), plan, guardrails=guardrails)
    watch = Noted()
    follower, leader = follower_of(at_work, watch), leader_of(at_work, watch)
    follower.look()
    if planted:
        plant(at_work, **planted)

    with under_load(at_work, customers) as load:
        for _ in range(400):
            leader.tick()
            if present(registry).state is RolloutState.ROLLED_BACK:
                break
            load.stop.wait(0.02)
        follower.look()
    after = versions_of(decide(at_work, customer) for customer in customers[:40])

    last = present(registry).changes[-1]
    assert (last.kind, last.actor, last.percent) == (ChangeKind.ROLL_BACK, "arbiter serve", 0)
    assert told in last.reason
    assert load.wrong == []
    assert set(versions_of(record for _, record in load.records)) == {1, 2}
    assert after == {1: 40}
    assert watch.changes == [(MODEL, "roll_back")]


def test_a_challenger_whose_proposals_people_accept_less_goes_back(
    at_work: Application, registry: Path
) -> None:
    """Half of what the champion's customers accept: found from answers alone, long before all steps."""
    customers = profiled(at_work, 900)  # who is in the share is drawn anew: few would sometimes not do
    begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(50, 100, decisions=100_000))
    follower_of(at_work).look()
    leader, rng = leader_of(at_work), np.random.default_rng(8)

    for number, customer in enumerate(customers):
        record = decide(at_work, customer)
        worse = record.decision.versions.models[MODEL] == 2
        answer(at_work, record, accepts=bool(rng.random() < (0.1 if worse else 0.5)))
        if number % 20 == 19:
            leader.tick()
        if present(registry).state is RolloutState.ROLLED_BACK:
            break

    assert "outcomes: people accept less" in present(registry).changes[-1].reason


def test_a_challenger_as_good_goes_up_step_by_step_and_waits_for_a_person(
    at_work: Application, registry: Path
) -> None:
    """Each step stays until enough was seen; at the end the champion is still the one that was promoted."""
    customers = cycle(profiled(at_work, 60))
    begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(20, 60, 100, decisions=30))
    follower, leader = follower_of(at_work), leader_of(at_work)
    shares = []

    for _ in range(60):
        follower.look()
        shares.append(present(registry).percent)
        for customer in islice(customers, 30):
            decide(at_work, customer)
        leader.tick()
        if present(registry).state is RolloutState.COMPLETED:
            break

    done = present(registry)
    assert [c.kind for c in done.changes] == [
        ChangeKind.START, ChangeKind.STEP_UP, ChangeKind.STEP_UP, ChangeKind.COMPLETE,
    ]  # fmt: skip
    assert sorted(set(shares)) == [20, 60, 100]
    assert "decisions at 20 % broke no guardrail" in done.changes[1].reason
    assert (resolve(registry, MODEL), done.percent) == (1, 100)


def test_a_rollout_that_promotes_makes_its_challenger_champion(at_work: Application, registry: Path) -> None:
    """Where whoever started it said so; the reason tells what was seen."""
    version = publish_shifted(registry, MODEL, by=0.1)
    begin(registry, version, steps(100, decisions=5), promotes=True)
    follower, leader = follower_of(at_work), leader_of(at_work)
    follower.look()
    for number in range(1, 9):
        decide(at_work, f"C{number:04d}")

    leader.tick()
    follower.look()
    leader.tick()

    assert (resolve(registry, MODEL), present(registry).state) == (version, RolloutState.COMPLETED)
    assert at_work.live.current.versions.models[MODEL] == version
    assert at_work.live.current.canaries is None


def test_a_challenger_that_was_good_for_long_goes_back_when_it_fails(
    at_work: Application, registry: Path
) -> None:
    """Thousands of good decisions do not hide a minute of bad ones."""
    customers = profiled(at_work, 20)
    rollout = begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(99, 100, decisions=10**6))
    follower, leader = follower_of(at_work), leader_of(at_work)
    follower.look()
    good = decide(at_work, customers[0])
    for _ in range(5000):
        at_work.arms.decided(good, 0.001)
    leader.tick()

    plant(at_work, fails=True)
    for customer in customers:
        decide(at_work, customer)
    leader.tick()

    total = read_counts(at_work.arms.folder, MODEL, rollout.id)[0].challenger
    assert total.failed / total.decisions < GUARDRAILS.error_share
    assert "errors: it failed in" in present(registry).changes[-1].reason


@pytest.mark.parametrize("hours", [0.0, 1.0])
def test_a_step_needs_its_hours_too(at_work: Application, registry: Path, hours: float) -> None:
    """Enough decisions in a minute are not a day's."""
    begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(99.9, 100, decisions=3, hours=hours))
    follower_of(at_work).look()
    for number in range(1, 9):
        decide(at_work, f"C{number:04d}")

    leader_of(at_work).tick()

    assert present(registry).percent == (99.9 if hours else 100)


def test_a_paused_rollout_takes_no_step_and_is_watched_on(at_work: Application, registry: Path) -> None:
    """Errors take it back all the same."""
    rollout = begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(99, 100, decisions=3))
    move(registry, MODEL, ChangeKind.PAUSE, expected=rollout, reason="holiday", actor="ada")
    follower, leader = follower_of(at_work), leader_of(at_work)
    follower.look()
    customers = profiled(at_work, 30)

    leader.tick()
    between = present(registry)
    plant(at_work, fails=True)
    for customer in customers:
        decide(at_work, customer)
    leader.tick()

    assert (between.state, between.percent) == (RolloutState.PAUSED, 99)
    assert present(registry).state is RolloutState.ROLLED_BACK


def test_a_challenger_that_a_process_refuses_goes_back(at_work: Application, registry: Path) -> None:
    """A version whose golden rows do not reproduce never scores anybody, and the history says why."""
    begin(registry, publish_broken(registry, MODEL), steps(50))
    watch = Noted()
    follower_of(at_work, watch).look()

    leader_of(at_work).tick()
    records = [decide(at_work, f"C{number:04d}") for number in range(1, 20)]

    last = present(registry).changes[-1]
    assert last.kind is ChangeKind.ROLL_BACK
    assert "cannot serve it" in last.reason
    assert "golden row" in last.reason
    assert watch.refused == [MODEL]
    assert versions_of(records) == {1: 19}


def test_another_champion_ends_the_comparison(at_work: Application, registry: Path) -> None:
    """A rollout is beside the champion it began with."""
    begin(registry, publish_shifted(registry, MODEL, by=0.1), steps(50))
    follower, leader = follower_of(at_work), leader_of(at_work)
    follower.look()
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.2), reason="meanwhile")

    leader.tick()

    assert "version 3 is the champion now" in present(registry).changes[-1].reason


def test_a_person_who_is_quicker_wins(at_work: Application, registry: Path) -> None:
    """What was promoted during its rollout counts as completed; nobody takes it back."""
    version = publish_shifted(registry, MODEL, by=0.1)
    begin(registry, version, steps(50))
    follower, leader = follower_of(at_work), leader_of(at_work)
    follower.look()
    leader.tick()
    promote(registry, MODEL, version, reason="good enough")

    follower.look()
    leader.tick()

    done = present(registry)
    assert (done.state, done.changes[-1].reason) == (RolloutState.COMPLETED, "it was promoted")


@pytest.fixture
def other_leader(at_work: Application) -> Iterator[subprocess.Popen[str]]:
    """Another process that leads."""
    at_work.arms.folder.mkdir(parents=True, exist_ok=True)
    program = (
        "import fcntl, sys\n"
        "lock = open(sys.argv[1], 'wb')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('leading', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(at_work.arms.folder / "leader.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "leading\n"
    yield process
    process.kill()
    process.communicate()


def test_when_the_leader_is_killed_another_process_goes_on_from_its_files(
    at_work: Application, registry: Path, other_leader: subprocess.Popen[str]
) -> None:
    """Nothing happens twice and nothing is lost: counts and evidence are on disk."""
    begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(99.9, 100, decisions=3))
    follower_of(at_work).look()
    for number in range(1, 9):
        decide(at_work, f"C{number:04d}")
    leader = leader_of(at_work)

    leader.tick()
    while_it_leads = present(registry).percent
    other_leader.kill()
    other_leader.wait()
    leader.tick()

    assert (while_it_leads, present(registry).percent) == (99.9, 100)
    assert [c.kind for c in present(registry).changes] == [ChangeKind.START, ChangeKind.STEP_UP]


def test_counts_of_a_process_that_ended_still_count(at_work: Application, registry: Path) -> None:
    """Its file stays, and one that was cut off counts for nothing."""
    rollout = begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(50))
    follower_of(at_work).look()
    records = [decide(at_work, f"C{number:04d}") for number in range(1, 20)]
    at_work.arms.write()
    folder = at_work.arms.folder
    (held,) = (folder / MODEL / rollout.id).glob("*.json")
    (held.parent / "1-1.json").write_bytes(held.read_bytes())
    (held.parent / "2-2.json").write_bytes(held.read_bytes()[:-20])

    counts = read_counts(folder, MODEL, rollout.id)

    step = counts[0]
    assert step.champion.decisions + step.challenger.decisions == 2 * len(records)
    assert step.challenger.decisions == 2 * versions_of(records)[2]


def test_a_customers_first_answer_counts_for_the_arm_that_scored(
    at_work: Application, registry: Path
) -> None:
    """Whoever answers again, and whatever was decided before the rollout, says nothing of it."""
    customer = profiled(at_work, 1)[0]
    earlier = decide(at_work, customer)
    rollout = begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(100))
    follower_of(at_work).look()
    answer(at_work, earlier, accepts=False)

    for accepts in (True, False, False):
        record = decide(at_work, customer)
        if record.decision.actions:
            answer(at_work, record, accepts=accepts)
    at_work.arms.write()

    step = read_counts(at_work.arms.folder, MODEL, rollout.id)[0]
    assert (step.challenger.accepted, step.challenger.declined) == (1, 0)
    assert step.champion.answers.count == 0


def test_a_customers_first_score_counts(at_work: Application, registry: Path) -> None:
    """Somebody who looks at the page all day is one observation of the scores; all decisions are timed."""
    rollout = begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(100))
    customer = profiled(at_work, 1)[0]
    follower_of(at_work).look()

    for _ in range(5):
        decide(at_work, customer)
    at_work.arms.write()

    arm = read_counts(at_work.arms.folder, MODEL, rollout.id)[0].challenger
    assert (arm.decisions, sum(arm.latency), sum(arm.scores)) == (5, 5, 1)


def test_a_decision_that_ends_in_a_bug_counts_against_its_version(
    at_work: Application, registry: Path
) -> None:
    """No reply was given, so no record tells of it; the guardrail on errors still does."""
    rollout = begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(100))
    customer = profiled(at_work, 1)[0]
    follower_of(at_work).look()

    def change(current: Snapshot) -> Snapshot:
        assert current.canaries is not None
        (canary,) = current.canaries.snapshots
        broken = replace(canary, scorer=None)  # type: ignore[arg-type]  # the bug
        return replace(current, canaries=replace(current.canaries, snapshots=(broken,)))

    at_work.live.switch(change)
    with pytest.raises(AttributeError):
        decide(at_work, customer)
    at_work.arms.write()

    step = read_counts(at_work.arms.folder, MODEL, rollout.id)[0]
    assert (step.challenger.decisions, step.challenger.failed) == (1, 1)


def test_a_server_leads_by_itself(at_work: Application, registry: Path) -> None:
    """Follower and leader in their own threads: a broken version goes back without anybody's doing."""
    with watch_models(at_work) as follower, under_load(at_work, ["C0131", "C0133"], threads=1) as load:
        assert isinstance(follower, ModelsFollower)
        begin(registry, publish_broken(registry, MODEL), steps(50))
        for _ in range(1000):
            if present(registry).state is RolloutState.ROLLED_BACK:
                break
            load.stop.wait(0.01)

    assert present(registry).state is RolloutState.ROLLED_BACK
    assert load.wrong == []
    assert versions_of(record for _, record in load.records).keys() == {1}


def test_a_full_disk_does_not_stop_a_server(at_work: Application, registry: Path, tmp_path: Path) -> None:
    """Counts that cannot be written are kept and written later; nobody leads without a lock."""
    blocked = tmp_path / "blocked"
    blocked.write_text("", encoding="utf-8")
    arms = Arms(blocked / "rollouts")
    arms.watch({MODEL: begin(registry, publish_shifted(registry, MODEL, by=0.0), steps(100))})
    servers: ProcessStates[ModelServer] = ProcessStates(blocked / "servers", ModelServer)
    leader = RolloutLeader(
        registry=registry,
        arms=arms,
        servers=servers,
        promote=lambda _model, _version, _reason: None,
        clock=lambda: 0,
        watch=Noted(),
    )
    arms.decided(decide(at_work, "C0131"), 0.001)

    leader.tick()
    blocked.unlink()
    leader.tick()

    rollout = present(registry)
    assert read_counts(arms.folder, MODEL, rollout.id)[0].champion.decisions == 1
