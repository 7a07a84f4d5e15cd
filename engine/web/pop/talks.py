"""One telephone conversation: who it is with, what is proposed, what was said. The use cases do the deeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from engine.bootstrap import Application
from engine.core.rulebook import ConsentPolicy, InputType
from engine.domain import LegalBasis
from engine.errors import (
    ActionNotReturned,
    ArbiterError,
    CallUnknown,
    CustomerUnknown,
    RequestInvalid,
    StateUnavailable,
    Violation,
)
from engine.security.callers import subject
from engine.service.consents import ConsentSubmission
from engine.service.decisions import Answer
from engine.service.requests import MAX_TEXT, DecisionQuery
from engine.web.calls import Call, Calls, Event
from engine.web.pop.answers import Answers, Said
from feature_store.errors import StoreError
from feature_store.identities import IdentityForms
from feature_store.state import ANY_CHANNEL, ConsentState, CustomerState, Identity, OutcomeType

CHANNEL: Final = "call_center"
PLACEMENT: Final = "screen_pop"
"""Where the page's proposals are made; both are looked up in the vocabulary and left out where not there."""
CALL_REASON: Final = "call_reason"
"""The context field that the agent fills."""
CUSTOMER_ID: Final = "customer_id"
"""How an agent may name a customer besides the identities of the vocabulary."""
DECLINED: Final = ("price", "not_needed", "has_it", "bad_time", "other")
"""Reasons for a no that an agent may give; codes, as they go into a log that is kept."""
MAX_NOTE: Final = 500
ANSWERS: Final = {
    "accept": OutcomeType.ACCEPTED,
    "not_now": OutcomeType.SNOOZED,
    "decline": OutcomeType.DECLINED,
}
_SOURCE: Final = "pop:call"

_log = structlog.get_logger("engine.web.pop")


@dataclass(slots=True, eq=False)
class Talk:
    """What is known and was said in one call. `fault` says why nobody was found: malformed or unknown.

    Where there is no `answer` though the customer is known, `trouble` is the reason why: nothing is proposed
    then, least of all what was proposed before.

    `version` counts what changed, so that other pages of the call can tell; `stale` where what is known of
    the customer has changed since the decision.
    """

    looked_for: Identity | None = None
    fault: str = ""
    matches: tuple[str, ...] = ()
    customer_id: str = ""
    picked: bool = False
    intent: str = ""
    note: str = ""
    answer: Answer | None = None
    trouble: str = ""
    said: dict[str, Said] = field(default_factory=dict)
    objected: bool = False
    version: int = 0
    stale: bool = False
    seen: bytes = b""


class Talks:
    """Begins, continues and ends conversations. Safe for threads: each call has a lock of its own."""

    def __init__(self, application: Application, calls: Calls, *, clock_s: Callable[[], float]) -> None:
        self._application = application
        self._calls = calls
        self._forms = IdentityForms(application.settings.phone_region)
        self.answers = Answers(record=application.outcomes.record, clock_s=clock_s)
        calls.ended.append(self._end)

    def of(self, call: Call) -> Talk:
        """The conversation of a call, begun with its first look. Call it with the call's lock held.

        Raises CallUnknown where the call has ended.
        """
        if call.ended_s is not None or call.identity is None:
            raise CallUnknown("this call has ended")
        if call.talk is None:
            talk = Talk()
            self._look_for(talk, call.identity)
            call.talk = talk
        found: Talk = call.talk
        if found.customer_id and found.answer is None:
            self._decide(found)
        return found

    def look_for(self, call: Call, identity: Identity) -> None:
        """Looks for the customer by something else that they say."""
        talk = self.of(call)
        self._settle(talk)
        call.talk = fresh = Talk(intent=talk.intent, note=talk.note, version=talk.version)
        self._look_for(fresh, identity)
        self._changed(call)

    def pick(self, call: Call, customer_id: str) -> None:
        """The agent says which of several it is. Raises RequestInvalid for one who is not among them."""
        talk = self.of(call)
        if customer_id not in talk.matches:
            raise RequestInvalid([Violation("customer", "is none of those who carry the identity")])
        talk.customer_id, talk.picked = customer_id, True
        self._changed(call)

    def understand(self, call: Call, intent: str) -> None:
        """Why the customer calls; decides anew."""
        talk = self.of(call)
        if intent == talk.intent:
            return
        talk.intent = intent
        self._again(talk)
        self._changed(call)

    def note(self, call: Call, text: str) -> None:
        """Keeps what the agent wrote down until the call ends; an objection takes it along as evidence."""
        talk = self.of(call)
        talk.note = " ".join(text.split())[:MAX_NOTE]

    def say(self, call: Call, decision_id: str, action_id: str, answer: str, reason: str) -> None:
        """What the customer said to a proposal. Raises ActionNotReturned for one that is not proposed now."""
        talk = self.of(call)
        record = None if talk.answer is None else talk.answer.record
        if record is None or record.decision_id != decision_id:
            raise ActionNotReturned("the proposals have changed since")
        if all(action.action_id != action_id for action in record.decision.actions):
            raise ActionNotReturned("the decision did not return this action")
        if answer not in ANSWERS or (reason and reason not in DECLINED):
            raise RequestInvalid([Violation("answer", f"is none of {', '.join(ANSWERS)}")])
        earlier = talk.said.get(action_id)
        if earlier is not None and (earlier.outcome is ANSWERS[answer] or not self.answers.undo(earlier)):
            return  # said twice, by two clicks or two pages; or recorded, and so for good
        told = reason if answer == "decline" else ""
        talk.said[action_id] = self.answers.say(decision_id, action_id, ANSWERS[answer], told)
        self._changed(call)

    def undo(self, call: Call, action_id: str) -> None:
        """Takes back what was said to a proposal, as long as that can be done."""
        talk = self.of(call)
        said = talk.said.get(action_id)
        if said is not None and self.answers.undo(said):
            del talk.said[action_id]
            self._changed(call)

    def object(self, call: Call) -> None:
        """The customer objects to marketing, on every channel; decides anew. Raises as consents do."""
        talk = self.of(call)
        if not talk.customer_id:
            raise CustomerUnknown("it is not settled who calls")
        for purpose in objectionable(self._application.live.current.rulebook.consent):
            self._application.consents.record(
                ConsentSubmission(
                    customer_id=talk.customer_id,
                    purpose=purpose,
                    channel=ANY_CHANNEL,
                    state=ConsentState.OBJECTED,
                    source=_SOURCE,
                    actor=f"agent:{subject() or call.agent}"[:MAX_TEXT],
                    evidence=talk.note,
                    recorded_by=subject() or None,
                )
            )
        talk.objected = True
        self._again(talk)
        self._changed(call)

    def again(self, call: Call) -> None:
        """Decides anew where something about the customer has changed."""
        talk = self.of(call)
        if talk.stale:
            self._again(talk)
            self._changed(call)

    def look_around(self) -> None:
        """Records answers that are due, and tells pages whose customer has changed meanwhile."""
        self.answers.settle()
        for call in self._calls.of_agent(None):
            with call.guard:
                talk: Talk | None = call.talk
                if talk is None or talk.answer is None or talk.stale:
                    continue
                if self._seen(talk.customer_id) not in (talk.seen, b""):
                    talk.stale = True
                    self._calls.tell(f"call:{call.id}", Event("changed", str(talk.version)))

    def candidates(self, talk: Talk) -> list[CustomerState]:
        """Those who may be calling. Raises StateUnavailable."""
        try:
            found = [self._application.store.read(customer_id) for customer_id in talk.matches]
        except StoreError as error:
            raise StateUnavailable("the customers cannot be read now; try again") from error
        return [state for state in found if state is not None]

    def _look_for(self, talk: Talk, identity: Identity) -> None:
        """None, one or several: three answers, never a guess."""
        talk.looked_for = identity
        try:
            talk.matches, talk.fault = self._found(identity)
        except StoreError as error:
            raise StateUnavailable("the customer cannot be looked for now; try again") from error
        talk.customer_id = talk.matches[0] if len(talk.matches) == 1 else ""

    def _found(self, identity: Identity) -> tuple[tuple[str, ...], str]:
        store = self._application.store
        if identity.type == CUSTOMER_ID:
            known = identity.value.isprintable() and store.read(identity.value) is not None
            return ((identity.value,), "") if known else ((), "unknown")
        types = self._application.live.current.rulebook.vocabulary.identity_types
        if identity.type not in types or self._forms.fault(identity) is not None:
            return (), "malformed"
        matches = store.resolve(identity)
        return matches, "" if matches else "unknown"

    def _decide(self, talk: Talk) -> None:
        """Decides on what is known now; where it cannot, nothing is proposed, and it is tried again."""
        vocabulary = self._application.live.current.rulebook.vocabulary
        channel = vocabulary.channels.get(CHANNEL)
        placed = channel is not None and PLACEMENT in channel.placements
        context = {CALL_REASON: (InputType.STRING, talk.intent)} if talk.intent else {}
        query = DecisionQuery(
            customer_id=talk.customer_id,
            channel=CHANNEL,
            placement=PLACEMENT if placed else "",
            context=context,
        )
        talk.seen, talk.trouble = self._seen(talk.customer_id), ""
        talk.said, talk.stale = {}, False
        try:
            talk.answer = self._application.decisions.decide(query)
        except ArbiterError as error:
            talk.trouble = error.reason.lower()
            _log.warning("pop.undecided", reason=error.reason)

    def _again(self, talk: Talk) -> None:
        """Decides anew, on what was said so far too."""
        self._settle(talk)
        talk.answer = None
        if talk.customer_id:
            self._decide(talk)

    def _settle(self, talk: Talk) -> None:
        if talk.answer is not None:
            self.answers.settle(talk.answer.record.decision_id)

    def _seen(self, customer_id: str) -> bytes:
        """A mark of what decisions read of a customer; b"" where that cannot be read now.

        Contacts are left out: what was said in this very call is among them.
        """
        try:
            state = self._application.store.read(customer_id)
        except StoreError:
            return b""
        if state is None:
            return b""
        values = b"" if state.features is None else state.features.values.tobytes()
        return hashlib.blake2b(values + repr((state.consents, state.signals)).encode()).digest()

    def _changed(self, call: Call) -> None:
        """Tells other pages of the call."""
        call.talk.version += 1
        self._calls.tell(f"call:{call.id}", Event("changed", str(call.talk.version)))

    def _end(self, call: Call) -> None:
        """Records what was said, as it can be undone no more."""
        if call.talk is not None:
            self._settle(call.talk)


def objectionable(policy: ConsentPolicy) -> list[str]:
    """Purposes that somebody means who wants no marketing: those that their browser can object to as well.

    Profiling is left out: the objection reaches the profiling for it by itself.
    """
    refusable = {name for name, rule in policy.purposes.items() if rule.basis is not LegalBasis.CONTRACT}
    meant = (policy.gpc_purposes & refusable) - {policy.profiling_purpose}
    return sorted(meant or refusable - {policy.profiling_purpose})
