"""Why, why not and what if, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from engine._pb.arbiter.v1 import decision_service_pb2 as messages
from engine._pb.arbiter.v1 import types_pb2

_STAGES = {
    types_pb2.STAGE_AVAILABILITY: "not available here and now",
    types_pb2.STAGE_CONSENT: "no consent",
    types_pb2.STAGE_ELIGIBILITY: "not eligible",
    types_pb2.STAGE_APPLICABILITY: "makes no sense now",
    types_pb2.STAGE_SUITABILITY: "not right for this customer",
    types_pb2.STAGE_CONTACT: "contacted enough",
    types_pb2.STAGE_ARBITRATION: "qualified, but others are better",
}
_TRUTHS = {
    messages.TRUTH_TRUE: "holds",
    messages.TRUTH_FALSE: "does not hold",
    messages.TRUTH_UNKNOWN: "is unknown",
}
_AMOUNTS = {"lever": "{0} {1:+.0%}", "weight": "{0} x {1:g}", "value": "{0} {1:.2f}"}
_NOT_REPRODUCED = Text(
    "deciding again gives another decision (a model failed then?): this is what the rules say today",
    style="yellow",
)
_VERSION_SHOWN = 19  # "sha256:" and twelve digits


def explain_view(response: messages.ExplainResponse) -> RenderableType:
    """The explanations of a response: in full for one action, in a few lines each for all."""
    explanations = response.explanations
    if not explanations:
        return Text("the versions that decided are no longer held: rules cannot be traced", style="yellow")
    if len(explanations) == 1:
        shown = _in_full(explanations[0], _reasons(response.decision, explanations[0].action_id))
    else:
        shown = Group(*(_in_short(each) for each in explanations))
    return shown if response.reproduced else Group(_NOT_REPRODUCED, shown)


def _reasons(decision: messages.DecideResponse, action_id: str) -> list[str]:
    fates: list[messages.RankedAction | messages.SuppressedAction] = [*decision.actions, *decision.suppressed]
    return [r.agent_text for fate in fates if fate.action_id == action_id for r in fate.reasons]


def _in_short(explanation: messages.ActionExplanation) -> RenderableType:
    rules = (line for rule in explanation.rules if rule.removes for line in _rule(rule))
    return Group(_title(explanation), *(_indented(line) for line in rules))


def _in_full(explanation: messages.ActionExplanation, reasons: Iterable[str]) -> RenderableType:
    lines = [Text(text, style="italic") for text in reasons]
    for rule in explanation.rules:
        lines += _rule(rule)
        if rule.HasField("parts") and (rule.removes or rule.truth != messages.TRUTH_FALSE):
            lines += _part(rule.parts, rule.file, depth=2)
    lines += [*_other_stages(explanation), *_what_if(explanation)]
    return Group(_title(explanation), *(_indented(line) for line in lines))


def _title(explanation: messages.ActionExplanation) -> Text:
    removed = bool(explanation.stage)
    fate = _STAGES.get(explanation.stage, "") if removed else f"returned as number {explanation.rank}"
    title = Text.assemble((explanation.action_id, "bold"), "  ", (fate, "red" if removed else "green"))
    if explanation.HasField("priority"):
        title.append(f"  priority {_money(explanation.priority)}", style="dim")
    return title


def _money(priority: messages.Priority) -> str:
    return f"{priority.priority:.2f} {priority.currency}"


def _rule(rule: messages.RuleTrace) -> Iterator[Text]:
    mark, style = ("✗", "red") if rule.removes else ("·", "")
    effect = _AMOUNTS.get(rule.effect, "{0}").format(rule.effect, rule.amount)
    told = [rule.policy_class, effect, _TRUTHS.get(rule.truth, ""), "in shadow" if rule.shadow else ""]
    place = f"{rule.file}:{rule.line}:{rule.column}  {rule.rules_version[:_VERSION_SHOWN]}"
    yield Text.assemble(
        (f"{mark} {rule.rule_id}", style), "  ", " · ".join(t for t in told if t), "  ", (place, "dim")
    )


def _part(part: messages.SubCondition, file: str, *, depth: int) -> Iterator[Text]:
    """A part and all below it; `file` is the rule's, which need not be repeated."""
    value = part.value or f"unknown ({part.missing})"
    elsewhere = f"{part.file}:" if part.file != file else ""
    where = f"  {elsewhere}{part.line}:{part.column}" if part.line else ""
    line = Text.assemble(" " * depth, " ".join(part.text.split()), "  => ", (value, "cyan"), (where, "dim"))
    yield line
    for each in part.parts:
        yield from _part(each, file, depth=depth + 2)


def _other_stages(explanation: messages.ActionExplanation) -> Iterator[Text]:
    for consent in explanation.consents:
        yield _consent(consent)
    for contact in explanation.contacts:
        if contact.forbids or contact.counted:
            yield _contact(contact)
    for rival in explanation.rivals:
        yield _rival(rival)


def _consent(trace: messages.ConsentTrace) -> Text:
    used = trace.used
    state = types_pb2.ConsentState.Name(used.state).removeprefix("CONSENT_STATE_").lower()
    since = f" since {used.since.ToDatetime():%Y-%m-%d}" if used.HasField("since") else ""
    source = f", from {trace.source}" if trace.source else ""
    notice = f", notice {trace.notice_version}" if trace.notice_version else ""
    permitted = ("permitted", "green") if used.permitted else ("not permitted", "red")
    record = f": {state}{since} on {used.channel}{source}{notice}; legal basis {used.legal_basis}"
    return Text.assemble(f"consent to {used.purpose} ", permitted, record)


def _contact(trace: messages.ContactTrace) -> Text:
    text = Text.assemble(
        ("✗ " if trace.forbids else "· ", "red" if trace.forbids else ""),
        f"{trace.policy_id}: {_contact_state(trace)}",
        (f"  {trace.file}:{trace.line}:{trace.column}", "dim"),
    )
    if trace.HasField("free_time"):
        text.append(f"  free again {trace.free_time.ToDatetime():%Y-%m-%d %H:%M} UTC", style="yellow")
    return text


def _contact_state(trace: messages.ContactTrace) -> str:
    """What was so at the decision: a count, the time on the customer's clock, or what was left."""
    if trace.kind == "quiet_hours":
        hours = "quiet hours" if trace.forbids else "no quiet hours"
        return f"{hours}, {trace.local_time} in {trace.time_zone}"
    days = f"in {trace.window_seconds / 86_400:g} days per {trace.per}"
    if trace.kind == "budget":
        left = str(trace.left) if trace.HasField("left") else "plenty"
        return f"{left} left of {trace.limit} for all customers {days}"
    told = ", ".join(_counted(event) for event in trace.counted)
    return f"{len(trace.counted)} of {trace.limit} {days}" + (f" ({told})" if told else "")


def _counted(event: messages.CountedContact) -> str:
    until = (
        f" until {event.reserved_until.ToDatetime():%H:%M} UTC" if event.HasField("reserved_until") else ""
    )
    return f"{event.outcome} {event.time.ToDatetime():%Y-%m-%d %H:%M}{until}"


def _rival(rival: messages.RivalTrace) -> Text:
    made = [f"its {', '.join(rival.factors)}"] if rival.factors else []
    made += [", ".join(rival.rule_ids)] if rival.rule_ids else []
    difference = f"; the difference is {' or '.join(made)}" if made else ""
    return Text(f"behind {rival.rank}. {rival.action_id}, priority {_money(rival.priority)}{difference}")


def _what_if(explanation: messages.ActionExplanation) -> Iterator[Text]:
    for name in ("what_if", "removal"):
        found: messages.Counterfactual = getattr(explanation, name)
        if found.words:
            yield Text.assemble(("what if  ", "dim"), (found.words, "bold"))


def _indented(line: Text) -> Padding:
    return Padding(line, (0, 0, 0, 2))
