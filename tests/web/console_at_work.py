"""A company of the console tests' own: rules with a version to go back to, and decisions to look at."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arbiter_at_work import AT_RISK, LOYAL, copied_registry, copied_rules, query, set_threshold, settings_for
from pages_at_work import Site

from engine import publishing
from engine.bootstrap import Application, open_application, watch_rules
from engine.web.app import create_app
from engine.web.serving import http_served

THRESHOLD = 1_000.0
"""Priority that no action of the demo company reaches: the later version proposes nothing."""
_FOLLOWED_S = 30.0
"""Long enough for a busy machine: it takes half a second."""


class Company:
    """The pages over an application, with what tests ask for by name."""

    def __init__(self, site: Site, application: Application, versions: tuple[str, str]) -> None:
        self.site = site
        self.application = application
        self.first, self.later = versions
        self.decision = application.decisions.decide(query(AT_RISK)).record
        application.decisions.decide(query(LOYAL))

    def activate_later(self) -> None:
        """As an author would before somebody goes back."""
        self._activate(self.first)
        self._activate(self.later)

    def wait_until_serving(self, rules: str) -> None:
        """Returns once decisions are made with a version, which follows within a second."""
        deadline_s = time.monotonic() + _FOLLOWED_S
        pause = threading.Event()
        while self.application.live.current.versions.rules != rules:
            assert time.monotonic() < deadline_s, "the server did not follow"
            pause.wait(0.02)

    def _activate(self, rules: str) -> None:
        publishing.activate(self.application.settings, rules, author="ada", reason="spring")


@contextmanager
def company_at(folder: Path, demo: Path) -> Iterator[Company]:
    """Serves the pages over a copy of the demo company while the block runs."""
    data_dir = folder / "data"
    shutil.copytree(demo, data_dir)
    registry = copied_registry(folder)
    settings = settings_for(data_dir, registry=registry)
    changed = copied_rules(folder)
    set_threshold(changed, THRESHOLD)
    first, _ = publishing.publish(settings, author="ada", message="as shipped")
    later, _ = publishing.publish(
        settings_for(data_dir, registry=registry, rules=changed), author="ada", message="say nothing"
    )
    with open_application(settings) as application, watch_rules(application):
        app = create_app(application)
        with http_served(app, ("127.0.0.1", 0), drain_seconds=1, ending=app.state.calls.close) as port:
            site = Site(f"http://127.0.0.1:{port}", app)
            yield Company(site, application, (first.rules, later.rules))
