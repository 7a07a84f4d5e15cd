"""Decisions in plain words for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2

_STAGES = {
    types_pb2.STAGE_AVAILABILITY: "not available here and now",
    types_pb2.STAGE_CONSENT: "no consent",
    types_pb2.STAGE_ELIGIBILITY: "not eligible",
    types_pb2.STAGE_APPLICABILITY: "makes no sense now",
    types_pb2.STAGE_SUITABILITY: "not right for this customer",
    types_pb2.STAGE_CONTACT: "contacted enough",
    types_pb2.STAGE_ARBITRATION: "qualified, but others are better",
}
_BANDS = {"low": "green", "medium": "yellow", "high": "red"}


def decision(response: decision_service_pb2.DecideResponse, *, suppressed: bool = True) -> RenderableType:
    """A decision: what, why, and why not."""
    parts: list[RenderableType] = [_head(response)]
    parts += [_action(a) for a in response.actions]
    if response.HasField("no_action"):
        parts.append(Text("  no action", style="bold"))
        parts += [_reason(r) for r in response.no_action.reasons]
    if suppressed and response.suppressed:
        parts.append(_suppressed(response.suppressed))
    return Group(*parts)


def _head(response: decision_service_pb2.DecideResponse) -> Text:
    head = Text.assemble("  ", (response.decision_id, "dim"))
    risk = response.churn_risk
    if risk.band:
        head.append("  churn risk ").append(risk.band, style=f"bold {_BANDS.get(risk.band, 'white')}")
    if not response.profiled:
        head.append("  not profiled: rules and value only, no model, no behavioural data", style="yellow")
    if response.degraded_by:
        head.append(f"  degraded by {', '.join(response.degraded_by)}", style="red")
    for reason in risk.reasons:
        head.append(f"\n     · {reason.agent_text}", style="dim")
    return head


def _action(action: decision_service_pb2.RankedAction) -> RenderableType:
    priority = action.priority
    title = Text.assemble(
        f"  {action.rank}. ",
        (action.name or action.action_id, "bold"),
        (f"  {action.action_id} · {action.group}", "dim"),
    )
    source = (
        "model" if priority.propensity_source == decision_service_pb2.PROPENSITY_SOURCE_MODEL else "prior"
    )
    levers = "".join(f" · {lever.rule_id} {lever.share:+.0%}" for lever in priority.levers)
    factors = Text(
        f"     priority {priority.priority:.2f} = P {priority.propensity:.3f} ({source}) x C {priority.weight:.2f}"
        f" x V {priority.value:.2f} {priority.currency}{levers}",
        style="dim",
    )
    said = Padding(Text(f"“{action.treatment.body}”", style="italic"), (0, 0, 0, 5))
    return Group(title, factors, said, *(_reason(r) for r in action.reasons))


def _reason(reason: types_pb2.Reason) -> RenderableType:
    by = reason.rule_id or reason.model
    line = Text.assemble("· ", reason.agent_text, (f"  {reason.code}" + (f" · {by}" if by else ""), "dim"))
    return Padding(line, (0, 0, 0, 5))


def _suppressed(fates: Iterable[decision_service_pb2.SuppressedAction]) -> RenderableType:
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    by_stage = sorted(fates, key=lambda f: f.stage)
    for stage, members in groupby(by_stage, key=lambda f: f.stage):
        table.add_row(Text(_STAGES.get(stage, ""), style="dim"), "")
        for fate in members:
            table.add_row(f"  {fate.action_id}", Text(" ".join(r.agent_text for r in fate.reasons)))
    return Padding(Group(Text("suppressed", style="bold"), table), (0, 0, 0, 2))


def consents(response: consent_service_pb2.GetConsentsResponse) -> RenderableType:
    """Recorded consents, and what is permitted on each channel."""
    recorded = Table("purpose", "channel", "state", "since", "source", title="recorded", title_justify="left")
    for record in response.consents:
        since = record.record_time.ToDatetime().strftime("%Y-%m-%d %H:%M")
        recorded.add_row(record.purpose, record.channel, _state(record.state), since, escape(record.source))
    effective = Table(
        "channel", "purpose", "permitted", "state", "legal basis", "rests on",
        title="effective", title_justify="left",
    )  # fmt: skip
    for place in response.effective:
        used = place.consent
        permitted = Text("yes", style="green") if used.permitted else Text("no", style="red")
        effective.add_row(
            place.channel, used.purpose, permitted, _state(used.state), used.legal_basis, used.channel
        )
    return Group(recorded, effective)


def _state(state: types_pb2.ConsentState.ValueType) -> str:
    return types_pb2.ConsentState.Name(state).removeprefix("CONSENT_STATE_").lower()


def inputs(seen: Mapping[str, str]) -> RenderableType:
    """What the rules saw."""
    table = Table("input", "value", title="what the rules saw", title_justify="left")
    for name in sorted(seen):
        table.add_row(name, escape(seen[name]))
    return table
