"""The account of one decision: which candidates are still in, and the fate of those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from engine.core.rulebook import Mask
from engine.domain import Action, Priority, Reason, Stage, SuppressedAction


@lru_cache(maxsize=4096)
def _untold(action: str, stage: Stage) -> SuppressedAction:
    """A fate without reasons, of which comparing many decisions makes the same ones again and again."""
    return SuppressedAction(action, stage, ())


class Account:
    """Every catalogue action ends in `fates` or stays in; no action is ever lost or removed twice."""

    __slots__ = ("_actions", "alive", "fates")

    def __init__(
        self, actions: Sequence[Action], alive: Mask, fates: Sequence[SuppressedAction | None]
    ) -> None:
        self._actions = actions
        self.alive = alive.copy()
        self.fates = list(fates)

    def remove(
        self, index: int, stage: Stage, reasons: tuple[Reason, ...], priority: Priority | None = None
    ) -> None:
        """Takes one candidate out, for reasons; with its priority where it was ranked."""
        action = self._actions[index].id
        if reasons:
            self.end(index, SuppressedAction(action, stage, reasons, priority))
        else:
            self.end(index, _untold(action, stage))

    def end(self, index: int, fate: SuppressedAction) -> None:
        """Takes one candidate out: its fate, which decisions may share."""
        self.fates[index] = fate
        self.alive[index] = False

    def remove_all(self, mask: Mask, stage: Stage, reasons: tuple[Reason, ...]) -> None:
        """Takes every candidate of `mask` that is still in out, for the same reasons."""
        for index in (mask & self.alive).nonzero()[0].tolist():
            self.remove(index, stage, reasons)

    def candidates(self) -> npt.NDArray[np.intp]:
        """Catalogue indices of the candidates still in, ascending."""
        return self.alive.nonzero()[0]

    def suppressed(self) -> Iterable[SuppressedAction]:
        """The fate of every candidate that is out, in catalogue order."""
        return (fate for fate in self.fates if fate is not None)
