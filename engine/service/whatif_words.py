"""Puts what-if answers into words, with the sentences and names of the rule set's labels.

The sentences are labels named `explain.*` in `rules/reasons.yaml`, with the placeholders {input}, {before},
{after}, {rank}, {purpose} and {inputs}. A rule set from before they existed is answered in bare facts.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.change import CONTACT_PREFIX, REQUEST_FILTER, Change
from engine.core.counterfactual import Counterfactual, Outcome
from engine.core.inputs import describe
from engine.core.rulebook import ContactKind, InputType
from engine.core.snapshot import Snapshot
from engine.core.words import fill
from engine.domain import Action, Texts

_NOT_GIVEN, _ANY = "explain.not_given", "explain.any_placement"
_CONTACTS = "explain.contacts"
_OF_CONTACT_KIND = {
    ContactKind.QUIET_HOURS: "explain.local_time",
    ContactKind.BUDGET: "explain.budget",
}
_STAYS = "explain.stays"


def tell_what_if(
    found: Counterfactual, *, action: Action, snapshot: Snapshot, language: str, removal: bool = False
) -> str:
    """One sentence for what a search found; `removal` where it was for what takes an action out."""
    labels = snapshot.rulebook.labels
    values = {"rank": str(found.rank), "purpose": action.purpose, "inputs": ", ".join(found.protected)}
    if found.change is not None:
        before, after = texts_of(found.change, snapshot)
        values |= {"input": input_label(found.change.input, snapshot), "before": before, "after": after}
    stays = removal and found.outcome is Outcome.NONE
    template = labels.get(_STAYS if stays else f"explain.{found.outcome}")
    if template is None or language not in template:
        return _bare(found, values)
    return fill(template[language], values, labels, language)


def input_label(name: str, snapshot: Snapshot) -> str:
    """The label key that names an input to people; of contact policies, what each kind looks at."""
    if not name.startswith(CONTACT_PREFIX):
        return name
    policy_id = name.removeprefix(CONTACT_PREFIX).partition("/")[0]
    kind = next((p.kind for p in snapshot.rulebook.contact if p.id == policy_id), None)
    return _CONTACTS if kind is None else _OF_CONTACT_KIND.get(kind, _CONTACTS)


def texts_of(change: Change, snapshot: Snapshot) -> tuple[str, str]:
    """Both values of a change as neutral tokens, which labels translate."""
    return _text(change, change.before, snapshot), _text(change, change.after, snapshot)


def _text(change: Change, value: object, snapshot: Snapshot) -> str:
    if value is None:
        return {"context": _NOT_GIVEN, "request": _ANY}.get(change.input.partition(".")[0], "missing")
    if change.input == REQUEST_FILTER:
        return "yes" if value else "no"
    text = describe(value, InputType.DOUBLE if isinstance(value, float) else InputType.STRING)
    unit = _unit(change.input, snapshot)
    return f"{text} {unit}" if unit else text


def _unit(name: str, snapshot: Snapshot) -> str:
    place = snapshot.schema.index.get(name.removeprefix("features."))
    return "" if place is None or not name.startswith("features.") else snapshot.schema.feature[place].unit


def _bare(found: Counterfactual, values: Mapping[str, str]) -> str:
    if found.outcome in (Outcome.FOUND, Outcome.CLOSEST, Outcome.REMOVED):
        return f"{found.outcome}: {values['input']}: {values['before']} -> {values['after']}"
    return f"{found.outcome}: {values['inputs']}" if found.protected else str(found.outcome)


def labelled(token: str, labels: Mapping[str, Texts], language: str) -> str:
    """A value's words where it has some, else the value."""
    return fill("{value}", {"value": token}, labels, language)
