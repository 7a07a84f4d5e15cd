"""What stops a load test, in words for the person who runs it."""

from __future__ import annotations


class LoadTestError(Exception):
    """Says what is wrong, where, and what to do."""


class FileInvalid(LoadTestError):
    """A profile, objectives or result file that cannot be used."""

    def __init__(self, path: object, cause: str) -> None:
        super().__init__(f"{path}: {cause}")


class TargetUnreachable(LoadTestError):
    """Nobody serves at the target."""

    def __init__(self, target: str, cause: str) -> None:
        super().__init__(target, cause)  # as they are, so that a sender process can hand it over

    def __str__(self) -> str:
        target, cause = self.args
        return f"{target}: no server answered ({cause}); start one with `arbiter serve`, or correct --target"
