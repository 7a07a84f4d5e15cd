"""Pseudonyms in our own log: with a key, no event of it holds a customer id or an identity as it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, MutableMapping
from hashlib import blake2b
from typing import Any, Final

import structlog

_NAMED: Final = frozenset({"customer", "customer_id", "customers", "identity", "identities"})
"""Fields of log events whose every text names somebody."""
_QUOTED: Final = re.compile(r"""(customer(?: id)? )('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
"""How the texts of errors name a customer."""
_PERSON: Final = b"arbiter-log"


class Pseudonyms:
    """A processor of structlog. The same customer has the same pseudonym in every process with the key."""

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key, digest_size=32, person=_PERSON).digest()

    def of(self, name: str) -> str:
        """The pseudonym of an id or of an identity's value."""
        encoded = name.encode(errors="surrogatepass")
        return "p-" + blake2b(encoded, key=self._key, digest_size=8).hexdigest()

    def __call__(
        self,
        logger: Any,  # noqa: ANN401  # structlog's
        method: str,
        event: MutableMapping[str, Any],
    ) -> MutableMapping[str, Any]:
        """The event without names; of an exception without the variables of its frames, which hold any."""
        event = structlog.processors.format_exc_info(logger, method, event)
        for field, value in event.items():
            event[field] = self._changed(value, self.of if field in _NAMED else self._in_words)
        return event

    def _changed(self, value: object, change: Callable[[str], str]) -> object:
        """Every text anywhere in a value, changed; exceptions become their changed text."""
        if isinstance(value, str):
            return change(value)
        if isinstance(value, Mapping):
            return {
                name: self._changed(each, self.of if name in _NAMED else change)
                for name, each in value.items()
                if name != "locals"
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._changed(each, change) for each in value]
        return change(str(value)) if isinstance(value, Exception) else value

    def _in_words(self, text: str) -> str:
        return _QUOTED.sub(lambda match: match[1] + self.of(_unquoted(match[2])), text)


def _unquoted(text: str) -> str:
    """What `repr` wrote."""
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def pseudonymise(key: bytes) -> None:
    """Makes the log of this process use pseudonyms from now on; without a key it stays as it is."""
    if not key:
        return
    *others, renderer = [p for p in structlog.get_config()["processors"] if not isinstance(p, Pseudonyms)]
    structlog.configure(processors=[*others, Pseudonyms(key), renderer])
