"""What a run has done, on disk: a step is noted when it is done, so that a killed run goes on with the next.

`retraining/<run>/` is a run's folder. A lock of the kernel keeps a second process out, and is free as soon as
the first one is dead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engine.retraining.errors import RunUnderway
from model_registry.disk import replace_durably, sync_folder

JOURNAL: Final = "journal.json"
LOCK: Final = "lock"
FORMAT: Final = 1

Document = dict[str, Any]


def run_id(inputs: Mapping[str, object]) -> str:
    """The name of the run that these inputs make: the same inputs, the same run."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """The journal of one run. `inputs` tell people what the run was of."""

    def __init__(self, folder: Path, *, inputs: Mapping[str, object]) -> None:
        self.folder = folder
        self._inputs = dict(inputs)
        self._steps: dict[str, Document] = {}
        path = folder / JOURNAL
        if path.is_file():
            self._steps = json.loads(path.read_text(encoding="utf-8"))["steps"]

    @property
    def id(self) -> str:
        """The name of the run."""
        return self.folder.name

    def done(self, step: str) -> Document | None:
        """What a step left, None where it is not done."""
        return self._steps.get(step)

    def note(self, step: str, document: Document) -> Document:
        """Notes that a step is done; on disk when it returns."""
        self._steps[step] = document
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "run": self.id, "inputs": self._inputs, "steps": self._steps}
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        replace_durably(self.folder / JOURNAL, text.encode())
        sync_folder(self.folder.parent)
        return document

    def forget(self, step: str) -> None:
        """Takes back that a step is done: what it left can no longer be used."""
        self._steps.pop(step, None)

    def cleared(self, name: str) -> Path:
        """An empty folder in that of the run, for a step that begins."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def drop(self, name: str) -> None:
        """Removes what no later step needs."""
        shutil.rmtree(self.folder / name, ignore_errors=True)


def finished_runs(folder: Path) -> Iterator[tuple[str, Document]]:
    """Steps of every run of a data directory by its name, those that were cut short too."""
    for path in sorted(folder.glob(f"*/{JOURNAL}")):
        yield path.parent.name, json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keeps other processes from retraining meanwhile. Raises RunUnderway where one is at it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunUnderway(
                f"{folder}: another process retrains a model; wait for it, or end it and run again"
            ) from error
        yield
    finally:
        os.close(descriptor)
