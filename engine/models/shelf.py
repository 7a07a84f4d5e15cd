"""Models that were loaded and proven stay ready: a switch, a rollback or a replay loads nothing again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from engine.models.errors import ModelRefused
from engine.models.loading import ServingModel, load_model
from model_registry import PublishedModel
from model_registry.errors import RegistryError

KEPT: Final = 12
"""Models held: champions, challengers, shadows and what served before, some megabytes each."""


class ModelShelf:
    """The last models that were used, by the content of their version. Safe for threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._models: OrderedDict[str, ServingModel] = OrderedDict()
        self._taking = threading.Lock()

    def load(self, published: PublishedModel) -> ServingModel:
        """The model of a version, warm. Raises ModelRefused, also where its files changed since."""
        with self._taking:
            model = self._models.get(published.digest)
        if model is None:
            model = load_model(published)  # not under the lock: whoever needs another one goes on
        else:
            _check_files(published)
        with self._taking:
            self._models[published.digest] = model
            self._models.move_to_end(published.digest)
            while len(self._models) > self._kept:
                self._models.popitem(last=False)
        return model


def _check_files(published: PublishedModel) -> None:
    manifest = published.manifest
    try:
        for filename in ("model.onnx", "trees.npz", "golden.npz"):
            published.read(filename)
    except RegistryError as error:
        raise ModelRefused(f"{manifest.name}/{manifest.version}", cause=str(error)) from error
