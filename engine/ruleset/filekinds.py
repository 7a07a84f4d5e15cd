"""Every kind of file a rule set may hold, by the name its `kind:` gives."""

from __future__ import annotations

from typing import Final

from engine.ruleset.documents import KINDS as _OF_DECISIONS
from engine.ruleset.documents import Document
from engine.ruleset.event_documents import EventPackDocument
from engine.ruleset.signal_documents import SignalPackDocument
from engine.ruleset.table_documents import DecisionTableDocument

KINDS: Final[dict[str, type[Document]]] = {
    **_OF_DECISIONS,
    "DecisionTable": DecisionTableDocument,
    "EventPack": EventPackDocument,
    "SignalPack": SignalPackDocument,
}
