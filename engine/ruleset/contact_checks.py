"""Mistakes in contact policies: fields unfit for their kind, times no clock shows, what cannot count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zoneinfo import available_timezones

from engine.core.rulebook import ContactKind, InputType
from engine.ruleset import diagnostics as codes
from engine.ruleset.checks import check_name, check_reason, check_scope
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.documents import ContactEntry, ContactPackDocument
from engine.ruleset.reading import Located
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.runtime import zone_named
from engine.ruleset.yamltree import Path
from feature_store.state import OutcomeType

CAP, COOLDOWN, EXCLUSION, QUIET_HOURS, BUDGET = ContactKind
_COUNTING: Final = frozenset({CAP, COOLDOWN, EXCLUSION, BUDGET})
_FIELDS: Final = {
    "per": ("per", frozenset({CAP, COOLDOWN, BUDGET})),
    "counts": ("counts", _COUNTING),
    "limit": ("limit", frozenset({CAP, BUDGET})),
    "window": ("window", _COUNTING),
    "from": ("from_time", frozenset({QUIET_HOURS})),
    "to": ("to_time", frozenset({QUIET_HOURS})),
}
"""Fields by their names in files, with the kinds of policy that need them; others may not have them."""
_OPTIONAL: Final = {
    "reserve_for": ("reserve_for", _COUNTING),
    "channels": ("channels", frozenset({QUIET_HOURS})),
    "days": ("days", frozenset({QUIET_HOURS})),
}
_SPENDING: Final = frozenset(
    {OutcomeType.RESERVED, OutcomeType.SHOWN, OutcomeType.CLICKED, OutcomeType.ACCEPTED}
)

Pack = Located[ContactPackDocument]


def check_contacts(rules: RuleSet) -> Iterator[Diagnostic]:
    """Every mistake in contact packs that their form alone does not show."""
    for pack in rules.contact_packs:
        yield from _times(rules, pack)
        for i, policy in enumerate(pack.document.policies):
            path: Path = ("policies", i)
            yield from check_scope(rules, pack, path, policy.applies_to)
            yield from check_reason(rules, pack, (*path, "reason"), policy.reason)
            yield from _fields(pack, path, policy)
            yield from _hours(rules, pack, path, policy)
            yield from _reservations(pack, path, policy)


def _fields(pack: Pack, path: Path, policy: ContactEntry) -> Iterator[Diagnostic]:
    kind = policy.kind
    for name, (attribute, kinds) in (_FIELDS | _OPTIONAL).items():
        given = getattr(policy, attribute) is not None
        if not given and kind in kinds and name in _FIELDS:
            message = f"a policy of kind `{kind.value}` needs `{name}`"
            yield pack.problem((*path, "kind"), codes.UNFIT_EFFECT, message, f"add `{name}`")
        elif given and kind not in kinds:
            message = f"`{name}` is not for policies of kind `{kind.value}`"
            yield pack.problem((*path, name), codes.UNFIT_EFFECT, message, "remove it")


def _times(rules: RuleSet, pack: Pack) -> Iterator[Diagnostic]:
    """The time zone of a pack, and the input that names the customer's."""
    document = pack.document
    if document.time_zone is not None and zone_named(document.time_zone) is None:
        advice = did_you_mean(document.time_zone, available_timezones())
        message = f"unknown time zone `{document.time_zone}`"
        yield pack.problem(("time_zone",), codes.UNKNOWN_NAME, message, advice)
    name = document.time_zone_from
    if name is None:
        return
    if document.time_zone is None:
        message = "`time_zone_from` needs `time_zone`, for customers whose time zone is not known"
        yield pack.problem(("time_zone_from",), codes.UNFIT_EFFECT, message, "add it, e.g. Europe/Zurich")
    if rules.vocabulary is None or rules.consent is None:
        return
    texts = [i.name for i in rules.inputs if i.type is InputType.STRING]
    yield from check_name(pack, ("time_zone_from",), name, texts, "input of type string")
    for value in rules.domains.get(name, ()):
        if zone_named(value) is None:
            message = f"`{name}` may be `{value}`, which is no time zone"
            advice = "name an input whose values are IANA names, e.g. Europe/Zurich"
            yield pack.problem(("time_zone_from",), codes.WRONG_VALUE, message, advice)
            return


def _hours(rules: RuleSet, pack: Pack, path: Path, policy: ContactEntry) -> Iterator[Diagnostic]:
    """Hours that begin and end, on channels that exist."""
    if policy.kind is not QUIET_HOURS:
        return
    if pack.document.time_zone is None:
        message = "quiet hours need the `time_zone` of the pack"
        advice = "add it to the pack, e.g. `time_zone: Europe/Zurich`"
        yield pack.problem((*path, "kind"), codes.UNFIT_EFFECT, message, advice)
    if policy.from_time is not None and policy.from_time == policy.to_time:
        message = "quiet hours that end as they begin are none"
        advice = "write from 00:00 to 24:00 for whole days"
        yield pack.problem((*path, "to"), codes.WRONG_VALUE, message, advice)
    if rules.vocabulary is not None:
        channels = [c.id for c in rules.vocabulary.document.channels]
        for i, channel in enumerate(policy.channels or ()):
            yield from check_name(pack, (*path, "channels", i), channel, channels, "channel")


def _reservations(pack: Pack, path: Path, policy: ContactEntry) -> Iterator[Diagnostic]:
    """Whether what decisions hold ends, and counts without a gap."""
    if policy.counts is None or policy.kind is QUIET_HOURS:
        return
    counts, place = set(policy.counts), (*path, "counts")
    budget, reserves = policy.kind is BUDGET, OutcomeType.RESERVED in policy.counts
    if reserves and not budget and OutcomeType.SHOWN not in counts:
        message = "a reservation ends when the action is shown, and then nothing counts"
        yield pack.problem(place, codes.UNFIT_RESERVATION, message, "count `shown` too")
    if budget and counts - _SPENDING:
        unfit = ", ".join(f"`{name}`" for name in sorted(counts - _SPENDING))
        message = f"{unfit} cannot spend a budget"
        yield pack.problem(
            place, codes.UNFIT_RESERVATION, message, "count reserved, shown, clicked or accepted"
        )
    reserve_ms = pack.document.reserve_ms(policy)
    if (reserves or budget) and not reserve_ms:
        message = "nobody says how long a decision reserves the action"
        advice = "add `reserve_for`, e.g. 30m: how long it may take until it is shown"
        yield pack.problem(place, codes.UNFIT_RESERVATION, message, advice)
    if policy.reserve_for is not None and not (reserves or budget):
        message = f"`reserve_for` is for policies that count `reserved`, which `{policy.id}` does not"
        yield pack.problem(
            (*path, "reserve_for"), codes.UNFIT_RESERVATION, message, "remove it, or count `reserved`"
        )
    if (reserves or budget) and policy.window is not None and reserve_ms > policy.window:
        message = "the reservation is longer than the window it counts in"
        yield pack.problem((*path, "window"), codes.UNFIT_RESERVATION, message, "make `reserve_for` shorter")
