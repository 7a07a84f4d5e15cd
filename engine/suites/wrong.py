"""What is wrong with a fact of a suite, or of a prompt."""

from __future__ import annotations


class FactWrong(Exception):
    """A fact does not fit the rule set; `advice` says what to do, `at` which element of it is meant."""

    def __init__(self, message: str, advice: str = "", at: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.at = at
