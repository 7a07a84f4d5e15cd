"""Checkpoints that cannot be written are counted where an operator looks."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from arbiter_at_work import settings_for

from engine.bootstrap import open_application
from engine.monitor.metrics import Metrics
from engine.service.requests import DecisionQuery


class Waited(Metrics):
    """Metrics that one can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.failed, self.mended = threading.Event(), threading.Event()

    def checkpointed(self, *, well: bool) -> None:
        super().checkpointed(well=well)
        if not well:
            self.failed.set()
        elif self.failed.is_set():
            self.mended.set()

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


def test_a_folder_of_checkpoints_that_goes_away_is_counted(data_dir: Path, tmp_path: Path) -> None:
    """Decisions go on; the counter grows while it is away, and the gauge says when it is back."""
    folder = tmp_path / "witness"
    settings = settings_for(data_dir, checkpoint_dir=folder, checkpoint_interval_s=0.1)
    watch = Waited()
    query = DecisionQuery(customer_id="C0131", channel="web")

    with open_application(settings, watch=watch) as application:
        before = watch.value("arbiter_checkpoint_failures_total")
        shutil.rmtree(folder)
        folder.write_text("no folder")
        application.decisions.decide(query)
        assert watch.failed.wait(20)
        while_away = watch.value("arbiter_last_checkpoint_successful")
        folder.unlink()
        folder.mkdir()
        assert watch.mended.wait(20)

        assert (before, while_away) == (0, 0)
        assert (watch.value("arbiter_checkpoint_failures_total") or 0) >= 1
        assert watch.value("arbiter_last_checkpoint_successful") == 1
