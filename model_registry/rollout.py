"""Rollouts: how a challenger gets more and more of the customers, and why it goes on or back.

`root/<name>/rollout.json` holds every rollout of a model, oldest first; the last one is the present one.
Servers follow it, and the one that leads them changes it by itself. A change says which state it was decided
on, and is refused where another came first.

RegistryError
├── RolloutRefused     what was asked cannot be done in the state the rollout is in
└── RolloutMoved       somebody else changed the rollout meanwhile
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_registry.aliases import CHAMPION, read_aliases, resolve
from model_registry.errors import ModelCorrupt, RegistryError
from model_registry.manifest import Digest
from model_registry.publishing import explain_invalid
from model_registry.storage import Root, Storage, storage_of
from model_registry.versions import open_version

ROLLOUT: Final = "rollout.json"
MAX_ROLLOUT_BYTES: Final = 4 * 1024 * 1024
_ID_BYTES: Final = 8

Version = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class RolloutRefused(RegistryError):
    """What was asked cannot be done in the state the rollout is in."""


class RolloutMoved(RegistryError):
    """Somebody else changed the rollout meanwhile: look at it again and decide anew."""


class RolloutState(StrEnum):
    """Where a rollout is."""

    RUNNING = "running"
    PAUSED = "paused"  # keeps its share, takes no step, and is watched all the same
    COMPLETED = "completed"  # all steps are taken; keeps its share until somebody promotes or aborts
    ROLLED_BACK = "rolled_back"  # no customer is scored by the challenger any more


class ChangeKind(StrEnum):
    """What happened to a rollout."""

    START = "start"
    STEP_UP = "step_up"
    PAUSE = "pause"
    RESUME = "resume"
    COMPLETE = "complete"
    ROLL_BACK = "roll_back"


_LEADS_TO: Final = {
    ChangeKind.STEP_UP: RolloutState.RUNNING,
    ChangeKind.PAUSE: RolloutState.PAUSED,
    ChangeKind.RESUME: RolloutState.RUNNING,
    ChangeKind.COMPLETE: RolloutState.COMPLETED,
    ChangeKind.ROLL_BACK: RolloutState.ROLLED_BACK,
}
_POSSIBLE_IN: Final = {
    ChangeKind.STEP_UP: (RolloutState.RUNNING,),
    ChangeKind.PAUSE: (RolloutState.RUNNING,),
    ChangeKind.RESUME: (RolloutState.PAUSED,),
    ChangeKind.COMPLETE: (RolloutState.RUNNING, RolloutState.PAUSED),
    ChangeKind.ROLL_BACK: (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.COMPLETED),
}
ACTIVE: Final = (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.COMPLETED)
"""States in which the challenger scores its share of the customers."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Strict):
    """A share of the customers, and what must be seen at it before the next one."""

    percent: Annotated[float, Field(gt=0, le=100)]
    decisions: Annotated[int, Field(ge=0)] = 1000
    hours: Annotated[float, Field(ge=0)] = 1.0


class Guardrails(_Strict):
    """What must hold for the challenger beside the champion; else the rollout goes back at once.

    `error_share` is how much larger the share of decisions may be that it failed in, looked at from `errors`
    failures on. `latency_ratio` and `latency_extra_ms` bound its 95th percentile, both at once, as a ratio of
    microseconds alone says little. `score_psi` bounds the population stability index of its scores. These are
    looked at from `decisions` decisions on. `outcome_alpha` is the chance, over the whole rollout and however
    often one looks, that a challenger no worse than the champion is rolled back for its acceptances.
    """

    error_share: Share = 0.01
    errors: Annotated[int, Field(ge=1)] = 3
    decisions: Annotated[int, Field(ge=20)] = 500
    latency_ratio: Annotated[float, Field(gt=1)] = 2.0
    latency_extra_ms: Annotated[float, Field(ge=0)] = 1.0
    score_psi: Annotated[float, Field(gt=0)] = 0.25
    outcome_alpha: Share = 0.01


class Change(_Strict):
    """One thing that happened: when, what, by whom, why, and the share from then on."""

    at: datetime
    kind: ChangeKind
    actor: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]
    percent: float


class Rollout(_Strict):
    """One rollout. `id` also salts the hash that chooses customers; `manifest` pins the challenger.

    `promotes` says that it makes the challenger champion when all steps are done; else a person does.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    version: Version
    manifest: Digest
    champion: Version
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20)]
    step: Annotated[int, Field(ge=0)] = 0
    state: RolloutState = RolloutState.RUNNING
    guardrails: Guardrails = Guardrails()
    promotes: bool = False
    changes: Annotated[tuple[Change, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        percents = [step.percent for step in self.steps]
        if percents != sorted(set(percents)):
            raise ValueError(f"shares of steps must grow, not {', '.join(f'{p:g}' for p in percents)}")
        if self.step >= len(self.steps):
            raise ValueError("`step` is beyond the last one")
        if self.version == self.champion:
            raise ValueError("`version` is the champion itself")
        return self

    @property
    def percent(self) -> float:
        """Share of the customers that the challenger scores."""
        return 0.0 if self.state is RolloutState.ROLLED_BACK else self.steps[self.step].percent

    @property
    def since(self) -> datetime:
        """When the present step began."""
        return self._steps_began()[-1]

    def step_at(self, at_ms: int) -> int:
        """The step that was on at an instant."""
        began = [int(at.timestamp() * 1000) for at in self._steps_began()]
        return max(0, sum(at <= at_ms for at in began) - 1)

    def _steps_began(self) -> list[datetime]:
        return [c.at for c in self.changes if c.kind in (ChangeKind.START, ChangeKind.STEP_UP)]


class RolloutFile(_Strict):
    """`rollout.json`."""

    format: Literal[1] = 1
    rollouts: tuple[Rollout, ...] = ()

    @property
    def present(self) -> Rollout | None:
        """The last one that was started; None where none ever was."""
        return self.rollouts[-1] if self.rollouts else None

    @property
    def active(self) -> Rollout | None:
        """The present one where its challenger scores customers."""
        present = self.present
        return present if present is not None and present.state in ACTIVE else None

    def failure(self, version: int) -> Change | None:
        """Why the last rollout of a version went back; None where it did not."""
        found = [r for r in self.rollouts if r.version == version]
        if not found or found[-1].state is not RolloutState.ROLLED_BACK:
            return None
        return found[-1].changes[-1]


def read_rollouts(root: Root, name: str) -> RolloutFile:
    """The rollouts of a model; empty where there were none. Raises ModelNotFound or ModelCorrupt."""
    read_aliases(root, name)  # refuses a name that is none
    return _read(storage_of(root), name)


def start(
    root: Root,
    name: str,
    version: int,
    *,
    steps: Sequence[Step],
    reason: str,
    actor: str,
    guardrails: Guardrails | None = None,
    promotes: bool = False,
    again: bool = False,
    at: datetime | None = None,
) -> Rollout:
    """Begins to give customers to a version, which is read and checked first.

    `again` allows a version that went back before. Raises RolloutRefused, and what `open_version` raises.
    """
    published = open_version(root, name, version)
    for filename in published.manifest.files:
        published.read(filename, from_store=True)
    champion = resolve(root, name, CHAMPION)
    began = Change(
        at=at or _now(), kind=ChangeKind.START, actor=actor, reason=reason, percent=steps[0].percent
    )
    try:
        rollout = Rollout(
            id=secrets.token_hex(_ID_BYTES),
            version=version,
            manifest=published.digest,
            champion=champion,
            steps=tuple(steps),
            guardrails=guardrails or Guardrails(),
            promotes=promotes,
            changes=(began,),
        )
    except ValidationError as error:
        raise RolloutRefused(f"model {name}: {explain_invalid(error)}") from error

    def add(known: RolloutFile) -> RolloutFile:
        _check_startable(name, known, rollout, champion=champion, again=again)
        return RolloutFile(rollouts=(*known.rollouts, rollout))

    _change(root, name, add)
    return rollout


def _check_startable(name: str, known: RolloutFile, rollout: Rollout, *, champion: int, again: bool) -> None:
    active = known.active
    if active is not None and active.version != champion:
        raise RolloutRefused(
            f"model {name}: version {active.version} is {active.state} at {active.percent:g} %; promote or "
            "abort it first"
        )
    failed = known.failure(rollout.version)
    if failed is not None and not again:
        raise RolloutRefused(
            f"model {name}: version {rollout.version} went back on {failed.at:%Y-%m-%d %H:%M}Z: "
            f"{failed.reason}; publish a better one, or say --again"
        )


def move(
    root: Root,
    name: str,
    kind: ChangeKind,
    *,
    expected: Rollout,
    reason: str,
    actor: str,
    at: datetime | None = None,
) -> Rollout:
    """Changes the present rollout from the state that was looked at; the rollout from then on.

    Raises RolloutMoved where it is no longer in that state, RolloutRefused where the state allows no such
    change.
    """
    moved = _moved(name, kind, expected, reason=reason, actor=actor, at=at or _now())

    def replace_last(known: RolloutFile) -> RolloutFile:
        present = known.present
        if present != expected:
            now = "gone" if present is None else f"{present.state} at {present.percent:g} %"
            raise RolloutMoved(f"model {name}: the rollout changed meanwhile, it is {now}; look again")
        return RolloutFile(rollouts=(*known.rollouts[:-1], moved))

    _change(root, name, replace_last)
    return moved


def _moved(
    name: str, kind: ChangeKind, rollout: Rollout, *, reason: str, actor: str, at: datetime
) -> Rollout:
    if rollout.state not in _POSSIBLE_IN.get(kind, ()):
        raise RolloutRefused(f"model {name}: the rollout is {rollout.state}, so it cannot {_VERBS[kind]}")
    step = rollout.step + (kind is ChangeKind.STEP_UP)
    if step >= len(rollout.steps):
        raise RolloutRefused(f"model {name}: the rollout is at its last step")
    changed = rollout.model_copy(update={"state": _LEADS_TO[kind], "step": step})
    change = Change(at=at, kind=kind, actor=actor, reason=reason, percent=changed.percent)
    return changed.model_copy(update={"changes": (*rollout.changes, change)})


_VERBS: Final = {
    ChangeKind.START: "start",
    ChangeKind.STEP_UP: "go a step up",
    ChangeKind.PAUSE: "pause",
    ChangeKind.RESUME: "go on",
    ChangeKind.COMPLETE: "be completed",
    ChangeKind.ROLL_BACK: "go back",
}


def _change(root: Root, name: str, changed: Callable[[RolloutFile], RolloutFile]) -> None:
    storage = storage_of(root)
    with storage.sole_writer(name):
        content = changed(_read(storage, name)).model_dump_json(indent=2).encode() + b"\n"
        storage.replace(name, ROLLOUT, content)


def _read(storage: Storage, name: str) -> RolloutFile:
    if not storage.has_file(name, ROLLOUT):
        return RolloutFile()
    content = storage.read(name, ROLLOUT, max_bytes=MAX_ROLLOUT_BYTES)
    try:
        return RolloutFile.model_validate_json(content)
    except ValidationError as error:
        found = explain_invalid(error)
        raise ModelCorrupt(storage.place(name, ROLLOUT), expected="valid rollouts", found=found) from error


def _now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
