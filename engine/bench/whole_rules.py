"""The rules of the benchmark's company: as many as asked, of the kinds that companies have, from a formula.

Each is written once, in words that CEL and zen's expressions share, so that another engine can be asked the
same. The more rules there are the more rarely each holds, so however many there are, about as many actions
stay, and a reply has about as much to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.bench.whole_features import CATEGORIES, Known

GROUPS: Final = ("retention", "cross_sell", "upgrade", "service", "care")
TAGS: Final = ("addon", "bundle", "commitment", "discount", "seasonal", "technical")
_REMOVED_BY_ALL: Final = 5.0
"""Rules of a set that remove what they are about from the average customer, were each about every action."""
_HELD_BY_ALL: Final = 25.0
"""Rules of a set that would pull a lever for the average customer, did each pull one."""
_ACTIONS_NAMED: Final = 6

Effect = Literal["allow", "deny", "lever", "weight"]
Engagement = Literal["", "eligibility", "applicability", "suitability"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What rules of one kind have in common. `shown` is whether their reason shows the figure they read."""

    name: str
    effect: Effect
    when: str
    engagement: Engagement = ""
    asks_about_action: bool = False
    shown: bool = False


KINDS: Final = (
    Kind("not-above", "deny", "{figure} >= {rare}", "eligibility", shown=True),
    Kind("only-below", "allow", "{figure} < {rare}", "eligibility", shown=True),
    Kind("not-with", "deny", "{flag} && {figure} >= {seldom}", "applicability", shown=True),
    Kind("only-plans", "allow", "{plans} || {figure} < {seldom}", "applicability"),
    Kind("not-at-risk", "deny", "scores.churn >= 0.5 && {figure} >= {seldom}", "suitability"),
    Kind("interested", "allow", "scores.propensity >= {interest}", "suitability", asks_about_action=True),
    Kind("heavy-use", "lever", "{count} >= 2 && {figure} >= {often}", shown=True),
    Kind("at-risk", "lever", "scores.churn >= 0.4 && {figure} >= {often}"),
    Kind("dear-action", "lever", "action.value >= 80.0 && {figure} >= {often}", asks_about_action=True),
    Kind("billing-page", "weight", 'context.page == "/billing" && {figure} >= {often}'),
)
"""As often each. `{figure}`, `{count}`, `{flag}` and `{plans}` read features that differ between rules."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `when` uses `&&`, `||` and `in` as CEL does; `scope` is as `applies_to` has it.

    `amount` is the share of a lever or the factor of a weight, `shown` an input that the reason shows.
    """

    id: str
    kind: Kind
    when: str
    scope: Mapping[str, Sequence[str]]
    amount: float
    shown: str

    @property
    def code(self) -> str:
        """The code of its reason."""
        return self.id.replace(".", "_").replace("-", "_").upper()


def rules_of(count: int, *, features: Sequence[Known], actions: Sequence[str]) -> list[Rule]:
    """So many rules over these features and actions."""
    read = [known for known in features if known.read_by_rules]
    return [_rule(number, count, read, actions) for number in range(count)]


def _rule(number: int, count: int, read: Sequence[Known], actions: Sequence[str]) -> Rule:
    kind, turn = KINDS[number % len(KINDS)], number // len(KINDS)
    figure = _of_type(read, "double", number + turn)
    share = min(0.4, _REMOVED_BY_ALL / count)
    amount = round(0.05 + 0.01 * (number % 17), 2)
    when = kind.when.format(
        figure=figure,
        count=_of_type(read, "int", turn),
        flag=_flag(read, turn),
        plans=_plans(read, turn),
        rare=_top(share),
        seldom=_top(2 * share),
        often=_top(min(0.5, _HELD_BY_ALL / count)),
        interest=f"{0.02 + 0.001 * (turn % 20):.3f}",
    )
    return Rule(
        id=f"whole.{number:04}-{kind.name}",
        kind=kind,
        when=when,
        scope=_scope(number + turn, actions),
        amount=round(1.0 + amount, 2) if kind.effect == "weight" else amount,
        shown=figure if kind.shown else "",
    )


def _scope(number: int, actions: Sequence[str]) -> dict[str, list[str]]:
    """A group, a tag, or some actions by name: each is about a fifth or sixth of the catalogue."""
    if number % 3 == 0:
        return {"groups": [GROUPS[number // 3 % len(GROUPS)]]}
    if number % 3 == 1:
        return {"tags": [TAGS[number // 3 % len(TAGS)]]}
    start = number * 7
    return {"actions": sorted({actions[(start + 5 * step) % len(actions)] for step in range(_ACTIONS_NAMED)})}


def _top(share: float) -> float:
    """A number that about this share of the values 0.0, 0.1 to 100.0 exceeds; none equals it."""
    return round(min(99.95, round(100 * (1 - share), 1) + 0.05), 2)


def _of_type(read: Sequence[Known], wanted: str, number: int) -> str:
    """A feature of a type; of another where there is none, which small schemas have."""
    found = [known for known in read if known.type == wanted] or [k for k in read if k.type == "double"]
    return f"features.{found[number % len(found)].name}"


def _flag(read: Sequence[Known], number: int) -> str:
    """What half the customers fulfil."""
    if any(known.type == "bool" for known in read):
        return f"{_of_type(read, 'bool', number)} == true"
    return f"{_of_type(read, 'double', number + 1)} < 50.05"


def _plans(read: Sequence[Known], number: int) -> str:
    """What half the customers fulfil, about a category where there is one."""
    if not any(known.type == "category" for known in read):
        return _flag(read, number)
    first, second = (CATEGORIES[(number + step) % len(CATEGORIES)] for step in (0, 1))
    return f'{_of_type(read, "category", number)} in ["{first}", "{second}"]'
