"""One decision as a way through the stages, put together for people: who was taken out where, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.core.counterfactual import Counterfactual
from engine.core.inputs import current_vector
from engine.core.rulebook import FALSE, TRUE, PolicyRule, SourcePosition
from engine.core.snapshot import Snapshot
from engine.core.words import fill, tell
from engine.domain import (
    Action,
    PropensitySource,
    RankedAction,
    Reason,
    ReasonSource,
    Stage,
    SuppressedAction,
)
from engine.models.scorer import Margins, OnnxScorer
from engine.service.accounts import ActionAccount
from engine.service.explanations import Explanation
from engine.service.whatif_words import tell_what_if
from engine.web.console.charts import Chart, Step, waterfall
from engine.web.look.words import Words

TRUTHS: Final[Mapping[int, str]] = {TRUE: "holds", FALSE: "fails"}
"""Words of what a condition was; any other truth is that nobody can tell."""
_WORTH_A_BAR: Final = 0.005
"""Log-odds of all other concepts together below which they get no bar."""


@dataclass(frozen=True, slots=True)
class Told:
    """A reason in words; `place` is where its rule is written, where it is one's."""

    code: str
    words: str
    source: ReasonSource
    rule_id: str
    place: SourcePosition | None
    model: str
    contribution: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One action and what became of it; `stage` None where it was returned, as number `rank`."""

    action_id: str
    name: str
    group: str
    stage: Stage | None
    rank: int
    fate: RankedAction | SuppressedAction
    reasons: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """One stage: how many came to it, and whom it took out."""

    stage: Stage
    came: int
    out: tuple[Candidate, ...]

    @property
    def left(self) -> int:
        """How many went on."""
        return self.came - len(self.out)


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """The whole decision. `pictures` say what drives its scores."""

    explanation: Explanation
    chosen: tuple[Candidate, ...]
    passages: tuple[Passage, ...]
    nothing: tuple[Told, ...]
    pictures: tuple[Chart, ...]

    @property
    def candidates(self) -> int:
        """How many actions were looked at."""
        return len(self.chosen) + sum(len(passage.out) for passage in self.passages)


def story_of(explanation: Explanation, words: Words) -> Story:
    """The decision of an explanation, with its reasons in the explanation's language."""
    decision, teller = explanation.record.decision, Teller(explanation.snapshot, explanation.language)
    chosen = tuple(teller.candidate(action) for action in decision.actions)
    out = [teller.candidate(fate) for fate in decision.suppressed]
    return Story(
        explanation=explanation,
        chosen=chosen,
        passages=tuple(_passages(out, len(chosen) + len(out))),
        nothing=tuple(teller.told(reason) for reason in decision.no_action or ()),
        pictures=tuple(_pictures(explanation, teller, words)),
    )


def _passages(out: Sequence[Candidate], came: int) -> Iterator[Passage]:
    for stage in Stage:
        taken = tuple(candidate for candidate in out if candidate.stage is stage)
        yield Passage(stage, came, taken)
        came -= len(taken)


class Teller:
    """Puts what one rule set says into one language; what it no longer knows goes by its id."""

    def __init__(self, snapshot: Snapshot, language: str) -> None:
        self.snapshot = snapshot
        self.language = language
        book = snapshot.rulebook
        self._actions: Mapping[str, Action] = {action.id: action for action in book.actions}
        rules = (*book.before_scores.rules, *book.after_scores.rules)
        self._rules: Mapping[str, PolicyRule] = {rule.id: rule for rule in rules}
        self._contacts = {policy.id: policy.position for policy in book.contact}

    def name(self, action_id: str) -> str:
        """What people call an action."""
        action = self._actions.get(action_id)
        return action_id if action is None else action.name[self.language]

    def candidate(self, fate: RankedAction | SuppressedAction) -> Candidate:
        """An action with its reasons."""
        action = self._actions.get(fate.action_id)
        return Candidate(
            action_id=fate.action_id,
            name=self.name(fate.action_id),
            group="" if action is None else action.group,
            stage=fate.stage if isinstance(fate, SuppressedAction) else None,
            rank=fate.rank if isinstance(fate, RankedAction) else 0,
            fate=fate,
            reasons=tuple(self.told(reason) for reason in fate.reasons),
        )

    def told(self, reason: Reason) -> Told:
        """A reason in the agent's words."""
        book = self.snapshot.rulebook
        text = book.reasons.get(reason.code)
        words = reason.code if text is None else tell(reason, text, book.labels, self.language)[0]
        return Told(
            code=reason.code,
            words=words,
            source=reason.source,
            rule_id=reason.rule_id,
            place=self._place(reason.rule_id),
            model=reason.model,
            contribution=reason.contribution,
        )

    def value(self, text: str) -> str:
        """A value as people say it."""
        return fill("{value}", {"value": text}, self.snapshot.rulebook.labels, self.language)

    def _place(self, rule_id: str) -> SourcePosition | None:
        rule = self._rules.get(rule_id)
        return self._contacts.get(rule_id) if rule is None else rule.position


def _pictures(explanation: Explanation, teller: Teller, words: Words) -> Iterator[Chart]:
    """Waterfalls of the first action's acceptance and of churn, where models had a say."""
    record, scorer = explanation.record, teller.snapshot.scorer
    decision = record.decision
    if not decision.profiled or not isinstance(scorer, OnnxScorer):
        return
    vector = current_vector(teller.snapshot.schema, record.request, record.state, now_ms=record.now_ms)
    for action in decision.actions:
        index = next(
            (i for i, a in enumerate(teller.snapshot.rulebook.actions) if a.id == action.action_id), None
        )
        by_model = action.priority.propensity_source is PropensitySource.MODEL
        margins = scorer.propensity_margins(vector, index) if by_model and index is not None else None
        if margins is not None:
            title = words("console.story.acceptance", action=teller.name(action.action_id))
            yield _waterfall(title, action.reasons, margins, teller, words, good_up=True)
    margins = scorer.churn_margins(vector)
    if decision.churn is not None and margins is not None:
        title = words("console.story.churn", band=words(f"console.band.{decision.churn.band}"))
        yield _waterfall(title, decision.churn.reasons, margins, teller, words, good_up=False)


def _waterfall(
    title: str,
    reasons: Sequence[Reason],
    margins: Margins,
    teller: Teller,
    words: Words,
    *,
    good_up: bool,
) -> Chart:
    """From what is expected of anybody to this customer; what is not told by name is one step at the end."""
    of_model = [reason for reason in reasons if reason.source is ReasonSource.MODEL]
    steps = [
        Step(
            teller.value(reason.values.get("value", reason.code)),
            reason.contribution,
            words("console.story.typical", value=teller.value(reason.values.get("typical", ""))),
        )
        for reason in of_model
    ]
    rest = margins.own - margins.expected - sum(step.change for step in steps)
    if abs(rest) >= _WORTH_A_BAR:
        steps.append(Step(words("console.story.rest"), rest))
    told = ", ".join(f"{step.name} {step.change:+.2f}" for step in steps)
    return waterfall(
        title,
        words("console.story.waterfall", steps=told),
        begins=(words("console.story.anybody"), margins.expected),
        steps=steps,
        ends=words("console.story.customer"),
        head=[words(f"console.story.{name}") for name in ("step", "change", "reached", "compared")],
        good_up=good_up,
    )


@dataclass(frozen=True, slots=True, eq=False)
class WhyNot:
    """One candidate in full: every rule that judged it, and what would have changed its fate, in words."""

    candidate: Candidate
    account: ActionAccount
    to_first: str
    to_removal: str


def why_not(explanation: Explanation, action_id: str) -> WhyNot | None:
    """One action of a decision; None where the versions that decided are no longer held."""
    if not explanation.accounts:
        return None
    (account,) = explanation.accounts
    decision, snapshot = explanation.record.decision, explanation.snapshot
    teller = Teller(snapshot, explanation.language)
    fates: list[RankedAction | SuppressedAction] = [*decision.actions, *decision.suppressed]
    fate = next(fate for fate in fates if fate.action_id == action_id)
    found, action = account.what_if, account.found.action
    removal = None if found is None else found.to_removal
    return WhyNot(
        candidate=teller.candidate(fate),
        account=account,
        to_first=_told_change(None if found is None else found.to_first, action, teller),
        to_removal=_told_change(removal, action, teller, removal=True),
    )


def _told_change(
    found: Counterfactual | None, action: Action, teller: Teller, *, removal: bool = False
) -> str:
    if found is None:
        return ""
    return tell_what_if(
        found, action=action, snapshot=teller.snapshot, language=teller.language, removal=removal
    )
