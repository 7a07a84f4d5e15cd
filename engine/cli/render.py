"""Decisions in plain words for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2

STAGES = {
    types_pb2.STAGE_AVAILABILITY: "not available here and now",
    types_pb2.STAGE_CONSENT: "the customer's will or the law does not permit it",
    types_pb2.STAGE_ELIGIBILITY: "not eligible",
    types_pb2.STAGE_APPLICABILITY: "makes no sense now",
    types_pb2.STAGE_SUITABILITY: "not right for this customer",
    types_pb2.STAGE_CONTACT: "contacted enough",
    types_pb2.STAGE_ARBITRATION: "qualified, but lost",
}
LEGEND = (
    "priority = P x C x V x (1 + levers): chance of acceptance (from the model for this customer, or the "
    "prior of all), context weight, value less cost"
)
_BANDS = {"low": "green", "medium": "yellow", "high": "red"}
_LACKING = {
    "consents": "consents cannot be read, so only what a contract needs is proposed",
    "features:absent": "no features are known",
    "features:schema": "features were written by another schema",
    "contacts:unreadable": "earlier contacts cannot be read",
    "contacts:unreservable": "contacts cannot be reserved",
    "contacts:contended": "others reserve contacts of the customer at the same moment",
    "budgets:unreadable": "what is left of budgets cannot be read",
    "log": "the decision cannot be logged, so only what a contract needs is proposed",
    "deadline": "the deadline was nearly spent, so models give no reasons",
    "models:slow": "models take too long, so rules and priors decide",
    "request_id:unkept": "the request id is not kept, so a retry decides again",
}
_FEW = 6
"""Withheld inputs that are named; more are counted."""


def heading(response: decision_service_pb2.DecideResponse) -> RenderableType:
    """Who, where and when."""
    place = f"{response.channel}, {response.placement}" if response.placement else response.channel
    when = _instant(response.decide_time)
    return Text.assemble((response.customer_id, "bold"), f" on {place}", (f"  {when}", "dim"))


def decision(response: decision_service_pb2.DecideResponse) -> RenderableType:
    """A decision: what, why, and why not."""
    parts: list[RenderableType] = [Text(line, style=style) for line, style in _circumstances(response)]
    if response.churn_risk.band:
        parts.append(_risk(response.churn_risk))
    for action in response.actions:
        parts += [Text(), _action(action)]
    if response.HasField("no_action"):
        parts += [Text(), Text("do nothing, that is best now", style="bold")]
        parts += [_point(_reason(r)) for r in response.no_action.reasons]
    if response.suppressed:
        parts += [Text(), *_suppressed(response.suppressed)]
    return Padding(Group(*parts), (0, 0, 0, 2), expand=False)


def _circumstances(response: decision_service_pb2.DecideResponse) -> Iterator[tuple[str, str]]:
    """Lines and their styles: what the decision rests on, and what it had to do without."""
    yield f"decision {response.decision_id}", "dim"
    if response.consents:
        yield f"consent: {', '.join(map(_will, response.consents))}", "dim"
    if not response.profiled:
        yield "no consent to profiling: rules and value only, no model, no behavioural data", "yellow"
    if response.degraded_by:
        yield f"less than it could be: {'; '.join(map(_lacking, response.degraded_by))}", "red"
    for cause in ("absent", "stale", "withheld"):
        names = [missing.name for missing in response.missing_inputs if missing.cause == cause]
        if names:
            more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
            yield f"inputs {cause}: {', '.join(names[:_FEW])}{more}", "dim"


def _lacking(code: str) -> str:
    """What a decision had to do without, in words."""
    if code in _LACKING:
        return _LACKING[code]
    what, _, name = code.partition(":")
    match what:
        case "model":
            return f"the model {name} does not work"
        case "reasons":
            return f"the model {name} gives no reasons"
        case "features" if name.endswith(":stale"):
            return f"the features of {name.removesuffix(':stale')} are too old"
    return f"{code} does not work"


def _will(used: types_pb2.ConsentUsed) -> str:
    """What the customer said of a purpose; without a word, what the legal basis permits."""
    if used.signal:
        return f"{used.purpose} objected by {used.signal.upper()}"
    if used.state != types_pb2.CONSENT_STATE_UNKNOWN:
        return f"{used.purpose} {_state(used.state)}"
    basis = used.legal_basis.replace("_", " ")
    return f"{used.purpose} {'permitted' if used.permitted else 'not permitted'} ({basis})"


def _risk(risk: decision_service_pb2.ChurnRisk) -> RenderableType:
    title = Text.assemble("churn risk ", (risk.band, f"bold {_BANDS.get(risk.band, 'white')}"))
    return Group(title, *(_point(Text(reason.agent_text)) for reason in risk.reasons))


def _action(action: decision_service_pb2.RankedAction) -> RenderableType:
    title = Text.assemble(
        f"{action.rank}. ",
        (action.name or action.action_id, "bold"),
        (f"  {action.action_id}, {action.group}", "dim"),
    )
    parts: list[RenderableType] = [title]
    if action.treatment.body:
        parts.append(Padding(Text(f"“{action.treatment.body}”", style="italic"), (0, 0, 0, 3)))
    parts += [_point(_reason(r)) for r in action.reasons]
    parts.append(_point(_priority(action.priority), mark="="))
    return Group(*parts)


def _priority(priority: decision_service_pb2.Priority) -> Text:
    model = priority.propensity_source == decision_service_pb2.PROPENSITY_SOURCE_MODEL
    levers = "".join(f", {lever.share:+.0%} {lever.rule_id}" for lever in priority.levers)
    return Text(
        f"priority {priority.priority:.2f}: P {priority.propensity:.3f} ({'model' if model else 'prior'})"
        f" x C {priority.weight:.2f} x V {priority.currency} {priority.value:.2f}{levers}",
        style="dim",
    )


def _reason(reason: types_pb2.Reason) -> Text:
    return Text.assemble(reason.agent_text, (f"  {reason.code}", "dim"))


def _point(text: Text, mark: str = "·") -> RenderableType:
    """A line that hangs below its mark where it is too long."""
    return _hanging(3, Text(mark, style="dim"), text)


def _hanging(indent: int, mark: Text, text: Text) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=mark.cell_len)
    grid.add_column()
    grid.add_row(mark, text)
    return Padding(grid, (0, 0, 0, indent))


def _suppressed(fates: Iterable[decision_service_pb2.SuppressedAction]) -> Iterator[RenderableType]:
    """By stage, then by reasons: actions with the same reasons share a line."""
    stages: dict[int, dict[str, list[str]]] = {}
    for fate in fates:
        reasons = " ".join(reason.agent_text for reason in fate.reasons)
        stages.setdefault(fate.stage, {}).setdefault(reasons, []).append(fate.action_id)
    count = sum(len(names) for reasons in stages.values() for names in reasons.values())
    yield Text(f"suppressed: {count}", style="bold")
    for stage in sorted(stages):
        yield Text(f"   {STAGES.get(types_pb2.Stage.ValueType(stage), 'suppressed')}", style="underline")
        for reasons, names in stages[stage].items():
            line = Text.assemble((", ".join(names), "cyan"), f": {reasons}")
            yield _point(line)


def consents(response: consent_service_pb2.GetConsentsResponse) -> RenderableType:
    """Recorded consents, and what is permitted on each channel."""
    recorded = Table(
        "purpose", "channel", "state", "since", "until", "source", "actor",
        title="recorded", title_justify="left",
    )  # fmt: skip
    for record in response.consents:
        until = _instant(record.expire_time) if record.HasField("expire_time") else ""
        recorded.add_row(
            record.purpose, record.channel, _state(record.state), _instant(record.record_time), until,
            escape(record.source), escape(record.actor),
        )  # fmt: skip
    said: RenderableType = recorded if response.consents else Text("nothing is recorded")
    return Group(said, _effective(response.effective))


def _effective(places: Iterable[consent_service_pb2.EffectiveConsent]) -> RenderableType:
    """One row for each purpose and answer, with the channels where it holds."""
    table = Table(
        "purpose", "permitted", "on channels", "because", title="effective now", title_justify="left"
    )
    channels: dict[tuple[str, bool, str], list[str]] = {}
    for place in places:
        used = place.consent
        unsaid = used.state == types_pb2.CONSENT_STATE_UNKNOWN
        said = "nothing recorded" if unsaid else _state(used.state)
        because = f"{used.legal_basis.replace('_', ' ')}: {said}"
        channels.setdefault((used.purpose, used.permitted, because), []).append(place.channel)
    for (purpose, permitted, because), names in sorted(channels.items()):
        answer = Text("yes", style="green") if permitted else Text("no", style="red")
        table.add_row(purpose, answer, ", ".join(names), because)
    return table


def _state(state: types_pb2.ConsentState.ValueType) -> str:
    return types_pb2.ConsentState.Name(state).removeprefix("CONSENT_STATE_").lower()


def _instant(time: Timestamp) -> str:
    return time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")


def inputs(seen: Mapping[str, str]) -> RenderableType:
    """What the rules saw."""
    if not seen:
        return Text("what the rules saw can no longer be told: the archive lacks their version")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in sorted(seen):
        table.add_row(name, escape(seen[name]))
    return Padding(
        Group(Text("what the rules saw", style="bold"), Padding(table, (0, 0, 0, 3))), (1, 0, 0, 2)
    )


def versions(used: types_pb2.Versions) -> RenderableType:
    """What the decision was made with."""
    models = ", ".join(f"{name}/{number}" for name, number in sorted(used.models.items()))
    return Text(
        f"  made with rules {used.rules[:19]}, models {models or 'none'}, engine {used.engine}", "dim"
    )
