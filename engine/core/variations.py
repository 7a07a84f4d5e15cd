"""One input of a past decision changed, the others kept: which values it could have had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.core import contact
from engine.core.change import (
    CONTACT_PREFIX,
    REQUEST_FILTER,
    Case,
    Change,
    Grounds,
    NumberLine,
    Scalar,
)
from engine.core.inputs import Inputs
from engine.core.rulebook import ContactKind, ContactPolicy, ContextField, InputType
from engine.core.snapshot import Snapshot
from engine.domain import Action, ActionFilter, ConsentUsed, ContextValue, DecisionRequest, MissingCause
from feature_store.schema import DataClass, Feature
from feature_store.state import ConsentRecord, ConsentState, ContactEvent, CustomerState, Signal

_ALWAYS_MS = 1 << 62
_CENT = 0.01
_UNSURE = frozenset({ConsentState.UNKNOWN, ConsentState.EXPIRED})


@dataclass(frozen=True, slots=True, eq=False)
class Variations:
    """Everything about one decision that could have been otherwise, one input at a time."""

    snapshot: Snapshot
    case: Case
    inputs: Inputs
    consents: Mapping[str, ConsentUsed]
    grounds: Grounds
    now_ms: int

    def discrete(self, action: Action) -> list[Change]:
        """Changes that can be listed, smallest first."""
        found = [*self._features(), *self._signals(), *self._context(), *self._places(), *self._rests(action)]
        return sorted(found, key=lambda change: change.order)

    def consent(self, action: Action) -> Change | None:
        """The action's purpose agreed to, where the customer has not said; never against a refusal."""
        used = self.consents[action.purpose]
        if used.permitted or used.state not in _UNSURE:
            return None
        return Change(f"consents.{action.purpose}", used.state.value, ConsentState.GRANTED.value, 1.0)

    def numbers(self) -> list[NumberLine]:
        """The numbers that are known, in the order of inputs."""
        features = [self._feature_line(i, f) for i, f in self._usable() if f.type in ("int", "double")]
        fields = [self._context_line(f) for f in self._read_context() if _is_number(f.type)]
        return [line for line in (*features, *fields) if line is not None]

    def applied(self, change: Change) -> Case:
        """The case with one input changed."""
        owner, _, name = change.input.partition(".")
        request, state = self.case.request, self.case.state
        match owner:
            case "features":
                return replace(self.case, state=self._with_feature(name, change.after))
            case "signals":
                return replace(self.case, state=self._with_signal(name, bool(change.after)))
            case "context":
                asked = replace(request, context=_with(request.context, name, change.after))
                return replace(self.case, request=asked)
            case "consents":
                granted = ConsentRecord(name, request.channel, ConsentState.GRANTED, self.now_ms)
                return replace(self.case, state=replace(state, consents=(*state.consents, granted)))
            case "contact":
                return self._rested(name)
            case _:
                return replace(self.case, request=self._asked(change))

    def _usable(self) -> Iterator[tuple[int, Feature]]:
        """Features whose value may be changed: not those withheld or stale, and none without a vector."""
        packed = self.case.state.features
        if packed is None or packed.schema_version != self.snapshot.schema.digest:
            return
        requested = {place for place, _ in self.snapshot.schema.requested}  # varied as context
        for place, feature in enumerate(self.snapshot.schema.feature):
            if place in requested:
                continue
            value = self.inputs.frame.values[place]
            if value is not None or self.inputs.cause(place) is MissingCause.ABSENT:
                yield place, feature

    def _features(self) -> Iterator[Change]:
        for place, feature in self._usable():
            before = self.inputs.frame.values[place]
            name, protected = f"features.{feature.name}", feature.data_class is DataClass.DEMOGRAPHIC
            if feature.type not in ("int", "double"):
                values: Sequence[Scalar] = (False, True) if feature.type == "bool" else feature.categories
                yield from _other_values(name, before, values, protected=protected)
            elif before is None:
                whole = feature.type == "int"
                for number in self._tried(name, whole=whole):
                    yield Change(name, None, int(number) if whole else number, 1.0, protected)

    def _signals(self) -> Iterator[Change]:
        for name, place in self.snapshot.layout.signals.items():
            before = self.inputs.frame.values[place]
            if isinstance(before, bool) and f"signals.{name}" in self.grounds.read:
                yield Change(f"signals.{name}", before, not before, 1.0)

    def _read_context(self) -> Iterator[ContextField]:
        for item in self.snapshot.rulebook.vocabulary.context.values():
            if f"context.{item.name}" in self.grounds.read:
                yield item

    def _context(self) -> Iterator[Change]:
        for item in self._read_context():
            name, before = f"context.{item.name}", self.case.request.context.get(item.name)
            if isinstance(before, (tuple, dict)):
                continue  # a list has no one other value to try
            if before is not None:
                yield Change(name, before, None, 1.0)
            for value in self._context_values(item, name, given=before is not None):
                if value != before:
                    yield Change(name, before, value, 1.0)

    def _context_values(self, item: ContextField, name: str, *, given: bool) -> Sequence[Scalar]:
        if item.type is InputType.BOOL:
            return (True, False)
        if item.type is InputType.STRING:
            return item.values or [v for v in self.grounds.literals.get(name, ()) if v]
        if _is_number(item.type) and not given:
            return [int(v) if item.type is InputType.INT else v for v in self._tried(name, whole=False)]
        return ()

    def _places(self) -> Iterator[Change]:
        """Other placements of the channel, other channels, and the catalogue without the request's filter."""
        request = self.case.request
        channels = self.snapshot.rulebook.vocabulary.channels
        for placement in ("", *channels[request.channel].placements):
            if placement != request.placement:
                yield Change("request.placement", request.placement or None, placement or None, 1.0)
        for channel in channels:
            if channel != request.channel:
                yield Change("request.channel", request.channel, channel, 1.0)
        if request.filter != ActionFilter():
            yield Change(REQUEST_FILTER, True, False, 1.0)

    def _rests(self, action: Action) -> Iterator[Change]:
        """A rest until a contact policy that forbids the action no longer does."""
        index = self.snapshot.rulebook.actions.index(action)
        for policy in self.snapshot.rulebook.contact:
            told = self._against(policy, action) if policy.scope[index] else None
            if told is not None:
                yield Change(f"{CONTACT_PREFIX}{policy.id}/{action.id}", *told, 1.0)

    def _against(self, policy: ContactPolicy, action: Action) -> tuple[Scalar, Scalar] | None:
        """What a policy holds against the action, and what would have to be; None where it lets it be."""
        quiet = policy.quiet
        if quiet is not None:
            until_ms = contact.quiet_until_ms(quiet, self.snapshot.limits, self._moment)
            zone = contact.zone_of(quiet, self.snapshot.limits, self._moment)
            clock = quiet.period.clock
            return None if until_ms is None else (clock(zone, self.now_ms), clock(zone, until_ms))
        if policy.kind is ContactKind.BUDGET:
            return (0, 1) if contact.units_left(policy, action, self._moment) == 0 else None
        count = len(self._counted(policy, action))
        return (count, policy.limit - 1) if count >= policy.limit else None

    @property
    def _moment(self) -> contact.Moment:
        request, state = self.case.request, self.case.state
        values = self.inputs.frame.values
        return contact.Moment(state.contacts, request.channel, self.now_ms, values, self.case.supply)

    def _counted(self, policy: ContactPolicy, action: Action) -> tuple[ContactEvent, ...]:
        return contact.counted(policy, action, actions=self.snapshot.limits.actions, moment=self._moment)

    def _rested(self, name: str) -> Case:
        """The case without what a policy holds against an action: the oldest contacts that fill its window,
        or the policy itself where it counts none.
        """
        policy_id, _, action_id = name.partition("/")
        rulebook, case = self.snapshot.rulebook, self.case
        action = next(a for a in rulebook.actions if a.id == action_id)
        policy = next(p for p in rulebook.contact if p.id == policy_id)
        if policy in self.snapshot.limits.standing:
            return replace(case, supply=replace(case.supply, waived=(*case.supply.waived, policy_id)))
        counted = self._counted(policy, action)
        gone = counted[: len(counted) - policy.limit + 1]
        rest = tuple(e for e in case.state.contacts if e not in gone)
        return replace(case, state=replace(case.state, contacts=rest))

    def _tried(self, name: str, *, whole: bool) -> list[float]:
        """Values of a number worth trying: on and just across each literal, and the reference's edges."""
        step = 1.0 if whole else _CENT
        literals = [float(v) for v in self.grounds.literals.get(name, ()) if not isinstance(v, (str, bool))]
        across = [v for x in literals for v in (x - step, x, x + step)]
        known = self.grounds.ranges.get(name)
        edges = known.edges if known else ()
        least = min((0.0, *edges))
        values = {round(v) if whole else round(v, 2) for v in (*across, *edges)}
        return sorted(float(v) for v in values if v >= least)

    def _feature_line(self, place: int, feature: Feature) -> NumberLine | None:
        value = self.inputs.frame.values[place]
        if not isinstance(value, (int, float)) or feature.data_class is DataClass.DEMOGRAPHIC:
            return None
        return self._line(f"features.{feature.name}", float(value), whole=feature.type == "int")

    def _context_line(self, item: ContextField) -> NumberLine | None:
        value = self.case.request.context.get(item.name)
        if not isinstance(value, (int, float)):
            return None
        return self._line(f"context.{item.name}", float(value), whole=item.type is InputType.INT)

    def _line(self, name: str, before: float, *, whole: bool) -> NumberLine:
        tried = self._tried(name, whole=whole)
        known = self.grounds.ranges.get(name)
        return NumberLine(
            input=name,
            before=before,
            below=tuple(v for v in reversed(tried) if v < before),
            above=tuple(v for v in tried if v > before),
            spread=known.spread if known else None,
            whole=whole,
        )

    def _with_feature(self, name: str, value: Scalar | None) -> CustomerState:
        packed = self.case.state.features
        if packed is None:
            raise AssertionError(f"{name} was changed where no feature is known")
        values = packed.values.copy()
        place = self.snapshot.schema.index[name]
        values[place] = self.snapshot.schema.feature[place].encode(value)
        unread = tuple(other for other in packed.unread if other != place)
        return replace(self.case.state, features=replace(packed, values=values, unread=unread))

    def _with_signal(self, name: str, holds: bool) -> CustomerState:
        others = tuple(s for s in self.case.state.signals if s.name != name)
        signal = Signal(name, holds, 0, _ALWAYS_MS)
        return replace(self.case.state, signals=(*others, signal))

    def _asked(self, change: Change) -> DecisionRequest:
        """The request at another place, or without its filter."""
        request = self.case.request
        match change.input:
            case "request.channel":
                channel = self.snapshot.rulebook.vocabulary.channels[str(change.after)]
                kept = request.placement if request.placement in channel.placements else ""
                return replace(request, channel=channel.id, placement=kept)
            case "request.placement":
                return replace(request, placement=str(change.after or ""))
            case _:
                return replace(request, filter=ActionFilter())


def _other_values(
    name: str, before: object, values: Sequence[Scalar], *, protected: bool
) -> Iterator[Change]:
    """Every other value of a short list, by how many places it is away; `before` is one of them or None."""
    at = next((i for i, value in enumerate(values) if value == before), None)
    held = None if at is None else values[at]
    for i, value in enumerate(values):
        if i != at:
            steps = 1.0 if at is None else float(abs(i - at))
            yield Change(name, held, value, steps, protected)


def _is_number(kind: InputType) -> bool:
    return kind in (InputType.INT, InputType.DOUBLE)


def _with(context: Mapping[str, ContextValue], name: str, value: Scalar | None) -> Mapping[str, ContextValue]:
    others = {key: held for key, held in context.items() if key != name}
    return others if value is None else {**others, name: value}
