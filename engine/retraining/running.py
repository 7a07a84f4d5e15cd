"""One run: table, train, gates, register, challenger, and champion where the plan says so.

Every step is noted when it is done and can be done again without harm: the table is the same bytes, a
candidate is published whole or not at all, a version is known by its run, an alias that is set is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from engine.promotion.gates import judge
from engine.promotion.judgement import Judgement, Verdict
from engine.promotion.limits import limits_of
from engine.promotion.promoting import champion_of
from engine.release import engine_version
from engine.retraining.candidate import offered, train_candidate
from engine.retraining.company import Company
from engine.retraining.errors import ChallengerBusy, LearntFromRefused, ModelRefused
from engine.retraining.journal import Journal, finished_runs, run_id
from engine.retraining.leavers import NOBODY, Leavers, read_leavers
from engine.retraining.observing import (
    DAY_MS,
    Period,
    Row,
    answers_of,
    churn_rows,
    counted,
    propensity_rows,
)
from engine.retraining.plan import RetrainingPlan
from engine.retraining.tables import targets_of, write_actions, write_table
from model_registry import PublishedModel, open_version, promote, publish, storage_of
from model_registry.aliases import CHALLENGER, CHAMPION, read_aliases
from model_registry.rollout import RolloutState, read_rollouts
from training.errors import TrainingError
from training.instants import written_instant

ACTOR: Final = "arbiter retrain"
TABLE, TRAIN, GATES, REGISTER, CHALLENGED, CHAMPIONED, END = (
    "table", "train", "gates", "register", "challenger", "champion", "end",
)  # fmt: skip
_CANDIDATE: Final = "candidate"
_REFUSED: Final = "refused"
_EVERY_DAYS: Final = 30

Told = Callable[[str], None]
"""Told of each step when it is done."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be retrained on which part of the logs. `folder` is where the plan's paths begin."""

    plan: RetrainingPlan
    folder: Path
    since_ms: int
    until_ms: int
    leavers: Leavers

    @property
    def name(self) -> str:
        """The model."""
        return self.plan.metadata.name

    @property
    def period(self) -> Period:
        """Which decisions are old enough."""
        until_ms, complete_ms = self.until_ms, self.leavers.complete_until_ms
        known_ms = until_ms if complete_ms is None else min(until_ms, complete_ms)
        return Period(self.since_ms, known_ms, self.plan.task.horizon_days * DAY_MS)

    @property
    def words(self) -> str:
        """The part of the logs, for people and the manifest."""
        return (
            f"decisions from {written_instant(self.since_ms)} to {written_instant(self.period.last_ms)}, "
            f"outcomes to {written_instant(self.period.until_ms)}"
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run. `again` is true where it had been done before, and nothing was done now."""

    run: str
    model: str
    champion: int | None
    version: int | None
    promoted: bool
    again: bool
    same_rows_as: str
    table: dict[str, Any]
    gates: list[dict[str, Any]]


def asked(
    plan: RetrainingPlan, *, folder: Path, since_ms: int | None, until_ms: int | None, now_ms: int
) -> Asked:
    """The part of the logs to learn from: by default up to the beginning of today, so that a run has a name.

    What lies in the future is not known, so it never ends later than now. Raises PlanUnusable.
    """
    end_ms = now_ms // DAY_MS * DAY_MS if until_ms is None else min(until_ms, now_ms)
    start_ms = end_ms - plan.decisions.window_days * DAY_MS if since_ms is None else since_ms
    leavers = NOBODY if plan.task.left is None else read_leavers(plan.task.left, folder=folder)
    return Asked(plan, folder, max(0, start_ms), end_ms, leavers)


def rows_of(company: Company, asked: Asked, *, now_ms: int) -> tuple[list[Row], Counter[str]]:
    """Every row of the part of the logs, and what was left out. Raises LogError and StoreError."""
    plan, period = asked.plan, asked.period
    admission = company.admission(channels=plan.decisions.channels, now_ms=now_ms)
    records = company.decisions.scan(since_ms=period.since_ms, until_ms=period.last_ms)
    if plan.task.kind == "churn":
        every_ms = (plan.task.every_days or _EVERY_DAYS) * DAY_MS
        rows = churn_rows(
            records, asked.leavers.left_ms, period=period, admission=admission, every_ms=every_ms
        )
    else:
        begins_ms = period.since_ms - DAY_MS  # clocks differ, not by days
        recent = (outcome for outcome in company.outcomes() if outcome.received_at_ms >= begins_ms)
        rows = propensity_rows(
            records,
            answers_of(recent, until_ms=period.until_ms),
            period=period,
            admission=admission,
            targets=targets_of(company.rulebook.actions),
            contacted_only=plan.decisions.rows == "contacted",
        )
    return rows, admission.left_out


def check_enough(asked: Asked, rows: list[Row], left_out: Counter[str]) -> None:
    """Raises LearntFromRefused where too few outcomes are in the rows."""
    answered, wanted = sum(row.answered for row in rows), asked.plan.decisions.min_outcomes
    if answered >= wanted:
        return
    what = "customers who left" if asked.plan.task.kind == "churn" else "answers (accepted or declined)"
    without = f"; left out: {', '.join(counted(left_out))}" if any(left_out.values()) else ""
    raise LearntFromRefused(
        f"{asked.name}: {answered:,} {what} in {len(rows):,} rows, and `decisions.min_outcomes` is "
        f"{wanted:,} ({asked.words}){without}. Wait for more, take a longer "
        "`decisions.window_days`, or ask for fewer"
    )


def retrain(company: Company, asked: Asked, *, now_ms: int, told: Told = lambda _step: None) -> Result:
    """Makes a challenger, or says that it is made. The caller holds `only_run`.

    Raises RetrainingError, TrainingError, PromotionError, RegistryError, LogError, StoreError.
    """
    return _Run(company, asked, now_ms, told).result()


class _Run:
    def __init__(self, company: Company, asked: Asked, now_ms: int, told: Told) -> None:
        inputs = {
            "model": asked.name,
            "plan": asked.plan.digest,
            "schema": company.schema.digest,
            "since": written_instant(asked.since_ms),
            "until": written_instant(asked.until_ms),
            "left": asked.leavers.digest,
            "code": engine_version(),
        }
        self._company, self._asked, self._now_ms, self._told = company, asked, now_ms, told
        self._journal = Journal(company.runs / run_id(inputs), inputs=inputs)
        self._registry, self._name = company.registry, asked.name
        self._champion = (
            champion_of(company.registry, asked.name)
            if storage_of(company.registry).has_model(asked.name)
            else None
        )

    @property
    def _champion_version(self) -> int | None:
        return None if self._champion is None else self._champion.manifest.version

    def result(self) -> Result:
        """Does what is not done yet."""
        self._drop_leftovers()
        if (done := self._journal.done(END)) is not None:
            self._clear()
            return Result(**done | {"again": True})
        if (refused := self._journal.done(_REFUSED)) is not None:
            raise ModelRefused(f"{refused['why']} (as found before; nothing has changed since)")
        table = self._table()
        if (same := self._same_rows(table)) is not None:
            return self._end(table, None, same)
        self._step(TRAIN, self._train)
        candidate = open_version(self._journal.folder / _CANDIDATE, self._name, 1)
        judgement = self._judged(candidate)
        version = int(self._step(REGISTER, partial(self._register, candidate))["version"])
        self._step(CHALLENGED, partial(self._challenge, version))
        if self._asked.plan.approve == "automatic" and _all_passed(judgement):
            self._step(CHAMPIONED, partial(self._promote, version))
        return self._end(table, version, "")

    def _step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        done = self._journal.done(name)
        if done is None:
            done = self._journal.note(name, work())
            self._told(name)
        return done

    def _drop_leftovers(self) -> None:
        """Removes tables of runs that were cut short for good: they hold customers' features."""
        for other, _ in finished_runs(self._company.runs):
            if other != self._journal.id:
                Journal(self._company.runs / other, inputs={}).drop(TABLE)

    def _table(self) -> dict[str, Any]:
        """The table, made again where decisions were erased since, until a model is trained on it."""
        done, erased = self._journal.done(TABLE), self._company.erased_records()
        if done is not None and self._journal.done(TRAIN) is None:
            there = (self._journal.folder / TABLE).is_dir()
            if not there or done["erased_records"] != erased:
                self._journal.forget(TABLE)
        return self._step(TABLE, partial(self._make_table, erased))

    def _make_table(self, erased_records: int) -> dict[str, Any]:
        company, asked = self._company, self._asked
        rows, left_out = rows_of(company, asked, now_ms=self._now_ms)
        check_enough(asked, rows, left_out)
        folder = self._journal.cleared(TABLE)
        written = write_table(
            folder, rows, schema=company.schema, schema_text=company.schema_text,
            horizon_ms=asked.period.horizon_ms,
        )  # fmt: skip
        if asked.plan.task.action_features:
            write_actions(folder, company.rulebook.actions, asked.plan.task.action_features)
        return {**asdict(written), "left_out": dict(left_out), "erased_records": erased_records}

    def _same_rows(self, table: dict[str, Any]) -> str | None:
        """The run that made a version of these very rows by this very plan."""
        mine = self._journal.id
        for other, document in finished_runs(self._company.runs):
            steps, inputs = document["steps"], document["inputs"]
            same_plan = (inputs["plan"], inputs["schema"]) == (
                self._asked.plan.digest, self._company.schema.digest,
            )  # fmt: skip
            if (
                other != mine
                and same_plan
                and REGISTER in steps
                and steps[TABLE]["digest"] == table["digest"]
            ):
                return other
        return None

    def _train(self) -> dict[str, Any]:
        """The candidate; a refusal leaves no table, and one by gates of the plan is not tried again."""
        try:
            return self._trained()
        except ModelRefused as error:
            self._journal.note(_REFUSED, {"why": str(error)})
            self._journal.drop(TABLE)
            raise
        except TrainingError:
            self._journal.drop(TABLE)
            raise

    def _trained(self) -> dict[str, Any]:
        asked, day = self._asked, datetime.fromtimestamp(self._asked.until_ms / 1000, UTC).date()
        metrics = train_candidate(
            asked.plan,
            table=self._journal.folder / TABLE,
            registry=self._journal.cleared(_CANDIDATE),
            champion=None if self._champion is None else self._champion.manifest,
            created=day.isoformat(),
            lineage={
                "run": self._journal.id,
                "source": asked.words,
                "from": written_instant(asked.since_ms),
                "until": written_instant(asked.period.last_ms),
            },
        )
        return {"metrics": dict(metrics), "champion": self._champion_version}

    def _judged(self, candidate: PublishedModel) -> Judgement:
        """What the gates say, noted once they pass: limits and champion may change, so a refusal is not kept.

        Raises ModelRefused.
        """
        self._journal.drop(TABLE)
        limits = limits_of(self._registry, self._name)
        judgement = judge(candidate, champion=self._champion, alias=CHALLENGER, limits=limits)
        if judgement.refusing and self._journal.done(REGISTER) is None:
            gates = [gate for gate in judgement.gates if gate.name in judgement.refusing]
            said = "; ".join(f"{gate.name} {gate.verdict}: {gate.words}" for gate in gates)
            raise ModelRefused(
                f"{self._name}: the model of run {self._journal.id} is not registered: {said}. It is kept in "
                f"{self._journal.folder / _CANDIDATE}, and judged again when the run is repeated"
            )
        self._step(GATES, lambda: {"gates": [asdict(gate) for gate in judgement.gates]})
        return judgement

    def _register(self, candidate: PublishedModel) -> dict[str, Any]:
        """Publishes the candidate, unless that was done and not noted."""
        storage = storage_of(self._registry)
        for version in reversed(storage.versions(self._name)):
            lineage = open_version(self._registry, self._name, version).manifest.lineage
            if lineage is not None and lineage.run == self._journal.id:
                return {"version": version}
        if "://" not in str(self._registry):
            Path(self._registry).mkdir(parents=True, exist_ok=True)
        fields, files = offered(candidate)
        return {"version": int(publish(self._registry, fields, files).name)}

    def _challenge(self, version: int) -> dict[str, Any]:
        """Points the alias at the version. Raises ChallengerBusy where another challenger has customers."""
        rollout = read_rollouts(self._registry, self._name).active
        busy = rollout is not None and rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED)
        if rollout is not None and busy and rollout.version != version:
            raise ChallengerBusy(
                f"{self._name}/{version} is registered; challenger stays {rollout.version}, whose rollout is "
                f"{rollout.state} at {rollout.percent:g} %. Run again when it is over"
            )
        self._point(version, CHALLENGER, "passed the gates")
        return {"version": version}

    def _promote(self, version: int) -> dict[str, Any]:
        self._point(version, CHAMPION, "passed every gate, approved by `approve: automatic`")
        return {"version": version}

    def _point(self, version: int, alias: str, why: str) -> None:
        if read_aliases(self._registry, self._name).aliases.get(alias) != version:
            reason = f"retrained in run {self._journal.id}, {why}"
            promote(self._registry, self._name, version, alias=alias, reason=reason, actor=ACTOR)

    def _end(self, table: dict[str, Any], version: int | None, same: str) -> Result:
        gates, trained = self._journal.done(GATES), self._journal.done(TRAIN)
        result = Result(
            run=self._journal.id,
            model=self._name,
            champion=self._champion_version if trained is None else trained["champion"],
            version=version,
            promoted=self._journal.done(CHAMPIONED) is not None,
            again=False,
            same_rows_as=same,
            table=table,
            gates=[] if gates is None else gates["gates"],
        )
        self._journal.note(END, asdict(result))
        self._told(END)
        self._clear()
        return result

    def _clear(self) -> None:
        """Removes what the logs and the registry hold."""
        self._journal.drop(TABLE)
        self._journal.drop(_CANDIDATE)


def _all_passed(judgement: Judgement) -> bool:
    """Whether nothing was left unknown: a model that nobody could compare is not made champion by itself."""
    return all(gate.verdict in (Verdict.PASSED, Verdict.OFF) for gate in judgement.gates)
