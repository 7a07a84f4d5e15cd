"""Rules: what serves and since when, what a change does and to whom, going forward and going back."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine import publishing
from engine.comparing import Asked, RuleDiff, diff
from engine.core.rulebook import PolicyRule, Rulebook
from engine.errors import SetupInvalid
from engine.publishing import named_set
from engine.rulefiles import check_rules
from engine.ruleset.changes import changes
from engine.ruleset.versions import Pointers, RuleVersions, Version, VersionError, short
from engine.service.audit import CONSOLE, Act
from engine.service.glancing import rules_seen
from engine.service.impact import Impact
from engine.snapshots import rule_versions
from engine.suitesets import suite_cases, suite_run
from engine.web.console.charts import Chart, Series
from engine.web.console.pages import House, asked, back_to, put, reason_in, said
from engine.web.console.story import Teller
from engine.web.look.pages import form_of
from engine.web.look.words import Words
from engine.web.sessions import Session
from feature_store.schema import load_schema

_CASES: Final = 500
"""Logged decisions that are decided twice for a comparison: two seconds of one core."""
_MOVED: Final = 12
_VERSION: Final = re.compile("[0-9a-f]{4,64}")
_at_work: Final = threading.Lock()
"""One comparison or run of suites at a time: each takes a core for seconds, which calls need."""
_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SeenRule:
    """A rule of the version that serves, and in how many of the latest decisions it gave a reason."""

    rule: PolicyRule
    seen: int


def overview(house: House, request: Request, session: Session) -> Response:
    """What serves, all versions and changes, every rule."""
    settings, snapshot = house.application.settings, house.application.live.current
    versions = rule_versions(settings)
    glances = house.recent.decisions()
    published, pointers = _read(versions)
    return put(
        request,
        session,
        "rules",
        serving=snapshot.versions.rules,
        pointers=pointers,
        previous=pointers.previous(),
        published=tuple(reversed(published)),
        names=_names(published, pointers),
        servers=versions.servers.running(),
        rules=_seen(snapshot.rulebook, rules_seen(glances)),
        count=len(glances),
        short=short,
        done=asked(request, "done"),
    )


def _read(versions: RuleVersions) -> tuple[tuple[Version, ...], Pointers]:
    try:
        return versions.published(), versions.pointers()
    except VersionError as error:
        raise SetupInvalid(str(error)) from error


def _names(published: Sequence[Version], pointers: Pointers) -> tuple[str, ...]:
    """What may be compared, by the names of the command."""
    pointed = ["current", *(["shadow"] if pointers.shadow else [])]
    return (*pointed, *(version.short for version in reversed(published)))


def _seen(rulebook: Rulebook, seen: dict[str, int]) -> tuple[SeenRule, ...]:
    rules = (*rulebook.before_scores.rules, *rulebook.after_scores.rules)
    ordered = sorted(rules, key=lambda rule: (rule.position.file, rule.position.line))
    return tuple(SeenRule(rule, seen.get(rule.id, 0)) for rule in ordered)


def difference(house: House, request: Request, session: Session) -> Response:
    """Two versions in words, and with `impact` on the latest decisions: who gains, and who loses."""
    settings, words = house.application.settings, said(request)
    before, after = asked(request, "before") or "current", asked(request, "after") or "latest"
    _require_version(before, after)
    impact = asked(request, "impact") == "yes"
    found: RuleDiff | None = None
    if impact:
        found = _compared(house, before, after)
        listed = found.changes
    else:
        was, now = (named_set(settings, name).archived.sources for name in (before, after))
        listed = changes(was, now)
    published, pointers = _read(rule_versions(settings))
    return put(
        request,
        session,
        "difference",
        before=before,
        after=after,
        names=_names(published, pointers),
        changes=listed,
        found=found,
        pictures=[] if found is None else [_gains(found, house, words)],
        cases=_CASES,
    )


def _require_version(*names: str) -> None:
    """Folders and revisions are for who has a shell on this machine. Raises SetupInvalid."""
    for name in names:
        if name not in ("current", "shadow", "latest") and not _VERSION.fullmatch(name):
            raise SetupInvalid(f"{name[:80]}: compare published versions, current, shadow or latest")


def _compared(house: House, before: str, after: str) -> RuleDiff:
    with _alone():
        return diff(house.application.settings, before, after, asked=Asked(logged=_CASES))


@contextmanager
def _alone() -> Iterator[None]:
    """Waits for its turn. Raises SetupInvalid where that does not come soon."""
    if not _at_work.acquire(timeout=_WAIT_S):
        raise SetupInvalid("another comparison is under way; ask again in a few seconds")
    try:
        yield
    finally:
        _at_work.release()


def _gains(found: RuleDiff, house: House, words: Words) -> Chart:
    impact: Impact = found.impact
    teller = Teller(house.application.live.current, words.language)
    moved = sorted(impact.actions.items(), key=lambda item: -(item[1].gained + item[1].lost))[:_MOVED]
    gained, lost = words("console.rules.gained"), words("console.rules.lost")
    return Chart(
        kind="bar",
        title=words("console.rules.gains"),
        words=words("console.rules.gains_words", changed=impact.changed, cases=impact.cases),
        labels=[teller.name(action) for action, _ in moved],
        series=[
            Series(gained, [shift.gained for _, shift in moved], "good"),
            Series(lost, [-shift.lost for _, shift in moved], "warn"),
        ],
        head=[
            words("console.action"),
            gained,
            lost,
            words("console.rules.first_gained"),
            words("console.rules.first_lost"),
        ],
        rows=[
            (teller.name(action), f"{s.gained:,}", f"{s.lost:,}", f"{s.first_gained:,}", f"{s.first_lost:,}")
            for action, s in moved
        ],
        sideways=True,
        stacked=True,
    )


def coverage(house: House, request: Request, session: Session) -> Response:
    """What the suites beside the rules folder cover, run now."""
    settings = house.application.settings
    problems, rulebook = check_rules(settings)
    schema = load_schema(settings.feature_schema)
    if rulebook is None or problems:
        raise SetupInvalid("; ".join(str(problem) for problem in problems[:5]))
    cases, wrong = suite_cases(settings, rulebook, schema)
    if wrong or not cases:
        raise SetupInvalid("; ".join(str(problem) for problem in wrong[:5]) or "there are no suites")
    run = suite_run(settings, rulebook, schema)
    with _alone():
        results = run.run(cases)
    missed = sorted((rule for rule in run.coverage.rules() if rule.missed), key=lambda rule: -rule.missed)
    return put(
        request,
        session,
        "coverage",
        folder=rulebook.version,
        serving=house.application.live.current.versions.rules,
        totals=run.coverage.totals(),
        cases=len(results),
        failed=[result for result in results if not result.holds],
        missed=missed,
        short=short,
    )


def confirm(act: Act, house: House, request: Request, session: Session) -> Response:
    """What is about to change, before it does: activate or shadow a version, or go back."""
    settings = house.application.settings
    published, pointers = _read(rule_versions(settings))
    name = asked(request, "version")
    if act is Act.RULES_ROLLBACK:
        target = pointers.previous()
        if target is None:
            raise SetupInvalid("no version served before this one, so there is nothing to go back to")
    else:
        target = "off" if name == "off" else _found(rule_versions(settings), name).rules
    version = next((each for each in published if each.rules == target), None)
    listed = None
    if target != "off":
        was = named_set(settings, "current").archived.sources
        listed = changes(was, named_set(settings, short(target)).archived.sources)
    return put(
        request,
        session,
        "rules_confirm",
        act=act,
        target=target,
        version=version,
        serving=house.application.live.current.versions.rules,
        shadow=pointers.shadow,
        changes=listed,
        short=short,
        lacking=asked(request, "lacking") == "reason",
    )


def _found(versions: RuleVersions, name: str) -> Version:
    try:
        return versions.find(name)
    except VersionError as error:
        raise SetupInvalid(str(error)) from error


def activate(house: House, request: Request, session: Session) -> Response:
    """Makes a version serve. Raises SetupInvalid."""
    return _change(house, request, session, Act.RULES_ACTIVATE)


def rollback(house: House, request: Request, session: Session) -> Response:
    """Goes back. Raises SetupInvalid."""
    return _change(house, request, session, Act.RULES_ROLLBACK)


def shadow(house: House, request: Request, session: Session) -> Response:
    """Puts a version into the shadow, or none. Raises SetupInvalid."""
    return _change(house, request, session, Act.RULES_SHADOW)


def _change(house: House, request: Request, session: Session, act: Act) -> Response:
    settings, reason, name = (
        house.application.settings,
        reason_in(request),
        form_of(request).get("version", ""),
    )
    kind = act.value.removeprefix("rules.")
    if not reason:
        return back_to(f"/rules/{kind}", version=short(name), lacking="reason")
    if act is Act.RULES_ROLLBACK:
        expected = rule_versions(settings).pointers().previous()
        if expected != name:  # somebody else went back since the page was shown
            raise SetupInvalid("what would be gone back to has changed meanwhile; look at it again")
        publishing.rollback(settings, author=session.who, reason=reason, by=CONSOLE)
    elif act is Act.RULES_ACTIVATE:
        publishing.activate(settings, name, author=session.who, reason=reason, by=CONSOLE)
    else:
        publishing.shadow(settings, name, author=session.who, reason=reason, by=CONSOLE)
    return back_to("/rules", done=kind)
