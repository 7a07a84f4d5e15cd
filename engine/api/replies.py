"""The reply to Decide as bytes: what reads the same in many replies is put into words and encoded once.

No message object is made on the way. tests/engine/api/test_reply_bytes.py holds replies equal, to the byte,
to messages filled field by field.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from google.rpc import status_pb2

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from engine.api.parts import Kept, consent_part, currency_part, missing_part, priority_part, versions_part
from engine.api.wire import (
    EIGHT_BYTES,
    eight_bytes,
    instant,
    real,
    sized,
    tag_and_size,
    tags,
    text,
    text_map,
    whole,
)
from engine.core.rulebook import Rulebook
from engine.core.snapshot import Snapshot
from engine.core.words import tell
from engine.decisionlog.record import DecisionRecord
from engine.domain import (
    Action,
    ChurnRisk,
    Detail,
    RankedAction,
    Reason,
    ReasonSource,
    ReasonText,
    Stage,
    SuppressedAction,
    Treatment,
)

STAGES: Final = {stage: getattr(types_pb2, f"STAGE_{stage.name}") for stage in Stage}
_SOURCES: Final = {source: getattr(types_pb2, f"REASON_SOURCE_{source.name}") for source in ReasonSource}
_REPLY: Final = tags(decision_service_pb2.DecideResponse)
_RANKED: Final = tags(decision_service_pb2.RankedAction)
_TREATMENT: Final = tags(decision_service_pb2.Treatment)
_FATE: Final = tags(decision_service_pb2.SuppressedAction)
_NO_ACTION: Final = tags(decision_service_pb2.NoAction)
_CHURN: Final = tags(decision_service_pb2.ChurnRisk)
_BATCH: Final = tags(decision_service_pb2.DecideBatchResponse)
_ITEM: Final = tags(decision_service_pb2.DecideBatchResult)
_REASON: Final = tags(types_pb2.Reason)
_LANGUAGES: Final = 16
"""Rule sets times languages whose words are kept: today's, those before a reload, those of old decisions."""

_ReasonKey = tuple[str, ReasonSource, str, str, tuple[tuple[str, str], ...]]
"""Code, source, rule, model and values of a reason: all but its contribution."""
_FateKey = tuple[str, Stage, tuple[_ReasonKey, ...]]
"""Action, stage and reasons: all of a suppressed action but its priority. No model gives its reasons."""
_ShortKey = tuple[str, Stage, str, ReasonSource, str, str, tuple[tuple[str, str], ...]]
"""The same of one with one reason, its parts in line: dozens are in a reply, and it takes half the time."""
_WeighedKey = tuple[bytes, str, ReasonSource, str, str, tuple[tuple[str, str], ...]]
"""A tag and the key of a reason, in line."""


class _Worded(NamedTuple):
    """A reason but for its contribution, which stands between the two."""

    head: bytes
    tail: bytes


class _Weighed(NamedTuple):
    """A reason under its tag, but for the eight bytes of a contribution that is not 0, between the two."""

    head: bytes
    tail: bytes


class _Catalogued(NamedTuple):
    """What the catalogue says of a returned action; rank, priority and reasons stand between."""

    head: bytes
    treatment: bytes
    tail: bytes


class _Speaker:
    """Says everything of one rule set in one language."""

    def __init__(self, rulebook: Rulebook, language: str) -> None:
        self._rulebook = rulebook
        self._language = language
        self._currency = currency_part(rulebook.currency)
        self._worded = Kept(self._word)
        self._plain = Kept(self._contribute_nothing)
        self._weighed = Kept(self._contribute_something)
        self._catalogued = Kept(self._look_up)
        self._fates = Kept(self._frame)
        self._short_fates = Kept(self._frame_short)

    def ranked(self, action: RankedAction) -> bytes:
        """A returned action."""
        known = self._catalogued[action.action_id, action.treatment_id]
        body = b"".join(
            (
                known.head,
                whole(_RANKED.rank, action.rank),
                known.treatment,
                sized(_RANKED.priority, priority_part(action.priority, self._currency)),
                self.reasons(_RANKED.reasons, action.reasons),
                known.tail,
            )
        )
        return sized(_REPLY.actions, body)

    def suppressed(self, fates: Sequence[SuppressedAction]) -> bytes:
        """Suppressed actions without their priorities."""
        told, short = self._fates, self._short_fates
        return b"".join(
            [short[_short_key(fate)] if len(fate.reasons) == 1 else told[_fate_key(fate)] for fate in fates]
        )

    def suppressed_in_full(self, fates: Sequence[SuppressedAction]) -> bytes:
        """Suppressed actions with the priorities of those that got so far."""
        return b"".join([sized(_REPLY.suppressed, self._in_full(fate)) for fate in fates])

    def _in_full(self, fate: SuppressedAction) -> bytes:
        told = self._tell(_fate_key(fate))
        if fate.priority is None:
            return told
        return told + sized(_FATE.priority, priority_part(fate.priority, self._currency))

    def reasons(self, of: bytes, given: Sequence[Reason]) -> bytes:
        """Reasons under the tag of what they are for."""
        return b"".join([self._contributed(of, r) if r.model else self._plain[of, _key(r)] for r in given])

    def _contributed(self, of: bytes, reason: Reason) -> bytes:
        """A reason that a model gave."""
        contribution = reason.contribution
        if not contribution:
            head, tail = self._worded[_key(reason)]
            return sized(of, head + real(_REASON.contribution, contribution) + tail)
        values = (*reason.values.items(),)
        head, tail = self._weighed[of, reason.code, reason.source, reason.rule_id, reason.model, values]
        return head + eight_bytes(contribution) + tail

    def _contribute_nothing(self, key: tuple[bytes, _ReasonKey]) -> bytes:
        of, reason = key
        return sized(of, b"".join(self._worded[reason]))

    def _contribute_something(self, key: _WeighedKey) -> _Weighed:
        of, code, source, rule_id, model, values = key
        worded = self._word((code, source, rule_id, model, values))
        head = worded.head + _REASON.contribution
        return _Weighed(tag_and_size(of, len(head) + EIGHT_BYTES + len(worded.tail)) + head, worded.tail)

    def _word(self, key: _ReasonKey) -> _Worded:
        code, source, rule_id, model, values = key
        reason = Reason(code, source, rule_id, model, values=dict(values))
        words = self._rulebook.reasons.get(code) or _unworded(code, self._language)
        agent, customer = tell(reason, words, self._rulebook.labels, self._language)
        head = (
            text(_REASON.code, code),
            whole(_REASON.source, _SOURCES[source]),
            text(_REASON.agent_text, agent),
            text(_REASON.customer_text, customer),
            text(_REASON.rule_id, rule_id),
            text(_REASON.model, model),
        )
        return _Worded(b"".join(head), text_map(_REASON.values, reason.values))

    def _tell(self, key: _FateKey) -> bytes:
        action_id, stage, reasons = key
        return b"".join(
            (
                text(_FATE.action_id, action_id),
                whole(_FATE.stage, STAGES[stage]),
                *[self._plain[_FATE.reasons, reason] for reason in reasons],
            )
        )

    def _frame(self, key: _FateKey) -> bytes:
        return sized(_REPLY.suppressed, self._tell(key))

    def _frame_short(self, key: _ShortKey) -> bytes:
        action_id, stage, code, source, rule_id, model, values = key
        return self._frame((action_id, stage, ((code, source, rule_id, model, values),)))

    def _look_up(self, key: tuple[str, str]) -> _Catalogued:
        """The catalogue may no longer hold what an old decision returned."""
        action_id, treatment_id = key
        action = next((action for action in self._rulebook.actions if action.id == action_id), None)
        if action is None:
            unknown = text(_TREATMENT.treatment_id, treatment_id)
            return _Catalogued(text(_RANKED.action_id, action_id), sized(_RANKED.treatment, unknown), b"")
        head = (
            text(_RANKED.action_id, action_id),
            text(_RANKED.name, action.name[self._language]),
            text(_RANKED.group, action.group),
            text(_RANKED.purpose, action.purpose),
        )
        ends = action.valid_to_ms
        return _Catalogued(
            b"".join(head),
            sized(_RANKED.treatment, self._treatment(action, treatment_id)),
            b"" if ends is None else sized(_RANKED.valid_until, instant(ends)),
        )

    def _treatment(self, action: Action, treatment_id: str) -> bytes:
        named = text(_TREATMENT.treatment_id, treatment_id)
        treatment = next((each for each in action.treatments if each.id == treatment_id), None)
        return named if treatment is None else named + _treatment_words(treatment, self._language)


@lru_cache(maxsize=_LANGUAGES)
def _speaker(rulebook: Rulebook, language: str) -> _Speaker:
    return _Speaker(rulebook, language)


def decide_reply(
    record: DecisionRecord, snapshot: Snapshot, *, detail: Detail | None = None, language: str = ""
) -> bytes:
    """The DecideResponse for one logged decision. `detail` and `language` default to those of its request."""
    decision, request = record.decision, record.request
    detail = detail or request.detail
    speaker = _speaker(snapshot.rulebook, language or request.language)
    return b"".join(
        (
            text(_REPLY.decision_id, record.decision_id),
            sized(_REPLY.decide_time, instant(record.now_ms)),
            text(_REPLY.customer_id, request.customer_id),
            text(_REPLY.channel, request.channel),
            *[speaker.ranked(action) for action in decision.actions],
            _no_action(speaker, decision.no_action),
            _suppressed(speaker, decision.suppressed, detail),
            sized(_REPLY.versions, versions_part(decision.versions)),
            *[sized(_REPLY.consents, consent_part(used)) for used in decision.consents],
            whole(_REPLY.profiled, decision.profiled),
            *[sized(_REPLY.degraded_by, cause.encode()) for cause in decision.degraded_by],
            *[sized(_REPLY.missing_inputs, missing_part(each)) for each in decision.missing_inputs],
            _churn_risk(speaker, decision.churn),
            text(_REPLY.placement, request.placement),
        )
    )


def batch_reply(results: Sequence[bytes]) -> bytes:
    """The DecideBatchResponse of these results."""
    return b"".join([sized(_BATCH.results, result) for result in results])


def item_answered(correlation_id: str, reply: bytes) -> bytes:
    """The DecideBatchResult of an item that has a reply."""
    return text(_ITEM.correlation_id, correlation_id) + sized(_ITEM.response, reply)


def item_refused(correlation_id: str, status: status_pb2.Status) -> bytes:
    """The DecideBatchResult of an item that has none."""
    told = status.SerializeToString(deterministic=True)
    return text(_ITEM.correlation_id, correlation_id) + sized(_ITEM.error, told)


def _no_action(speaker: _Speaker, reasons: Sequence[Reason] | None) -> bytes:
    if reasons is None:
        return b""
    return sized(_REPLY.no_action, speaker.reasons(_NO_ACTION.reasons, reasons))


def _suppressed(speaker: _Speaker, fates: Sequence[SuppressedAction], detail: Detail) -> bytes:
    if detail is Detail.SUMMARY:
        return b""
    return speaker.suppressed_in_full(fates) if detail is Detail.FULL else speaker.suppressed(fates)


def _churn_risk(speaker: _Speaker, churn: ChurnRisk | None) -> bytes:
    if churn is None:
        return b""
    body = text(_CHURN.band, churn.band) + speaker.reasons(_CHURN.reasons, churn.reasons)
    return sized(_REPLY.churn_risk, body)


def _key(reason: Reason) -> _ReasonKey:
    values = (*reason.values.items(),) if reason.values else ()
    return reason.code, reason.source, reason.rule_id, reason.model, values


def _fate_key(fate: SuppressedAction) -> _FateKey:
    return fate.action_id, fate.stage, tuple([_key(reason) for reason in fate.reasons])


def _short_key(fate: SuppressedAction) -> _ShortKey:
    (reason,) = fate.reasons
    values = (*reason.values.items(),) if reason.values else ()
    return fate.action_id, fate.stage, reason.code, reason.source, reason.rule_id, reason.model, values


def _unworded(code: str, language: str) -> ReasonText:
    """A code that today's rule set no longer words, told by its name (explanations of old decisions)."""
    return ReasonText(code, {language: code}, {language: code})


def _treatment_words(treatment: Treatment, language: str) -> bytes:
    return b"".join(
        (
            text(_TREATMENT.headline, treatment.headline[language]),
            text(_TREATMENT.body, treatment.body[language]),
            text(_TREATMENT.template_id, treatment.template_id),
        )
    )
