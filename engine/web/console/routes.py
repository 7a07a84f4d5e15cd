"""Where each page of the console is."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from starlette.routing import Route

from engine.bootstrap import Application
from engine.monitor.scraping import scrape
from engine.service.audit import Act
from engine.web.console import changes, consents, decisions, models, overview, rules
from engine.web.console.access import Area
from engine.web.console.pages import ROOT, VISITORS, House, done, entrance, shown
from engine.web.console.recent import Recent
from engine.web.console.traffic import Traffic
from engine.web.look.pages import page


def routes(application: Application) -> list[Route]:
    """The pages over an application."""
    traffic = Traffic(
        application.settings, ask=lambda address: scrape(address, timeout_s=2.0), clock_s=time.monotonic
    )
    house = House(application, traffic, Recent(application))
    return [page(ROOT, entrance, role=VISITORS), *_seen(house), *_done(house)]


_SEARCHED: Final = ("GET", "POST")
"""A customer's id comes in a form: in an address it would end in the logs of proxies and in histories."""


def _seen(house: House) -> list[Route]:
    return [
        shown(Area.OVERVIEW, "/overview", house, overview.overview),
        shown(Area.OVERVIEW, "/live", house, overview.live),
        shown(Area.DECISIONS, "/decisions", house, decisions.found, methods=_SEARCHED),
        shown(Area.DECISIONS, "/decisions/{decision}", house, decisions.one),
        shown(Area.DECISIONS, "/decisions/{decision}/replay", house, decisions.replayed),
        shown(Area.DECISIONS, "/decisions/{decision}/{action}", house, decisions.candidate),
        shown(Area.RULES, "/rules", house, rules.overview),
        shown(Area.RULES, "/rules/difference", house, rules.difference),
        shown(Area.RULES, "/rules/coverage", house, rules.coverage),
        *(
            shown(Area.RULES, f"/rules/{_kind(act)}", house, partial(rules.confirm, act), act=act)
            for act in (Act.RULES_ACTIVATE, Act.RULES_ROLLBACK, Act.RULES_SHADOW)
        ),
        shown(Area.MODELS, "/models", house, models.overview),
        shown(Area.MODELS, "/models/{model}", house, models.one),
        *(
            shown(
                Area.MODELS, f"/models/{{model}}/{_kind(act)}", house, partial(models.confirm, act), act=act
            )
            for act in (Act.MODELS_PROMOTE, Act.MODELS_ROLLBACK)
        ),
        shown(Area.CONSENTS, "/consents", house, consents.found, methods=_SEARCHED),
        shown(Area.CONSENTS, "/consents/verify", house, consents.verified),
        shown(Area.AUDIT, "/audit", house, changes.listed),
    ]


def _kind(act: Act) -> str:
    """What it does, without what to."""
    return act.value.partition(".")[2]


def _done(house: House) -> list[Route]:
    return [
        done(Area.RULES, Act.RULES_ACTIVATE, "/rules/activate", house, rules.activate),
        done(Area.RULES, Act.RULES_ROLLBACK, "/rules/rollback", house, rules.rollback),
        done(Area.RULES, Act.RULES_SHADOW, "/rules/shadow", house, rules.shadow),
        done(Area.MODELS, Act.MODELS_PROMOTE, "/models/{model}/promote", house, models.promote),
        done(Area.MODELS, Act.MODELS_ROLLBACK, "/models/{model}/rollback", house, models.rollback),
        done(Area.CONSENTS, Act.CUSTOMER_EXPORT, "/consents/export", house, consents.export),
        done(Area.CONSENTS, Act.CUSTOMER_ERASE, "/consents/erase/confirm", house, consents.confirm),
        done(Area.CONSENTS, Act.CUSTOMER_ERASE, "/consents/erase", house, consents.erase),
    ]
