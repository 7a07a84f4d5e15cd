"""Models: versions and what is known of them, drift, shadow and canary; promoting and going back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from engine.bootstrap import model_servers
from engine.decisionlog.latest import Latest
from engine.decisionlog.ledger import ENTRY_FORMAT, ModelShadowEntry
from engine.decisionlog.record import decode_payload
from engine.drifted import drift_report
from engine.errors import SetupInvalid
from engine.logfiles import MODEL_SHADOW, ROLLOUTS, audit_log, log_directory
from engine.models.links import score_of_margin
from engine.monitor.drift.examining import Section
from engine.monitor.drift.judging import Measure, Verdict
from engine.monitor.drift.report import DriftReport, comparison, moment, shares
from engine.monitor.drift.windows import DAY_MS
from engine.promotion.promoting import judge_version, promote_through_gates
from engine.service.arms import read_counts
from engine.service.audit import CONSOLE, Act
from engine.service.rollouts import evidence_path, read_evidence
from engine.service.shadow_report import shadow_reports
from engine.settings import Settings
from engine.web.console.charts import Chart, Series
from engine.web.console.pages import House, asked, back_to, put, reason_in, said
from engine.web.look.pages import form_of
from engine.web.look.words import Words
from engine.web.sessions import Session
from model_registry import PublishedModel, list_models, open_version, roll_back
from model_registry.aliases import CHAMPION, AliasFile, read_aliases
from model_registry.rollout import Rollout, read_rollouts

_SHADOWED: Final = 5_000
"""Decisions of the shadow that are added up: what was scored last tells most."""
_DRAWN: Final = 4
"""Variables that are drawn: all that drift, and those nearest to it."""
_LEAST_SHARE: Final = 0.002
_shadow_decoder: Final = msgspec.json.Decoder(ModelShadowEntry)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """One model: its versions with their manifests, its aliases, its rollout."""

    name: str
    versions: tuple[PublishedModel, ...]
    aliases: AliasFile
    rollout: Rollout | None

    @property
    def champion(self) -> PublishedModel | None:
        """The version that serves."""
        number = self.aliases.aliases.get(CHAMPION)
        return next((each for each in self.versions if each.manifest.version == number), None)

    def held(self, version: int) -> tuple[str, ...]:
        """The aliases that stand on a version."""
        return tuple(alias for alias, number in self.aliases.aliases.items() if number == version)

    @property
    def figures(self) -> tuple[tuple[str, tuple[float | None, ...]], ...]:
        """Figures by name, one for each version."""
        names = dict.fromkeys(name for each in self.versions for name in each.manifest.metrics)
        return tuple(
            (name, tuple(each.manifest.metrics.get(name) for each in self.versions)) for name in names
        )


def overview(house: House, request: Request, session: Session) -> Response:
    """Every model: what serves, what is tried, what drifts."""
    settings = house.application.settings
    drift = _drift(settings)
    return put(
        request,
        session,
        "models",
        models=[_known(settings, listed.name) for listed in list_models(settings.registry)],
        servers=model_servers(settings).running(),
        drift=drift,
        drifting=() if drift is None else drift.drifting,
    )


def _known(settings: Settings, name: str) -> Known:
    root = settings.registry
    listed = next((each for each in list_models(root) if each.name == name), None)
    if listed is None:
        raise SetupInvalid(f"{name[:80]}: there is no such model in the registry")
    versions = tuple(open_version(root, name, number) for number in reversed(listed.versions))
    return Known(name, versions, read_aliases(root, name), read_rollouts(root, name).present)


def one(house: House, request: Request, session: Session) -> Response:
    """One model in full."""
    settings, words = house.application.settings, said(request)
    known = _known(settings, request.path_params["model"])
    drift = _drift(settings)
    sections = [] if drift is None else [s for s in drift.latest() if s.subject.startswith(f"{known.name}/")]
    return put(
        request,
        session,
        "model",
        known=known,
        arms=_arms(settings, known),
        shadows=shadow_reports(_shadowed(settings), model=known.name),
        sections=[(section, comparison(section), _told(section)) for section in sections],
        pictures=[*_calibration(known, words), *(p for s in sections[:1] for p in _drifts(s, words))],
        previous=known.aliases.before(CHAMPION),
        moment=moment,
        done=asked(request, "done"),
    )


def _drift(settings: Settings) -> DriftReport | None:
    now_ms = time.time_ns() // 1_000_000
    return drift_report(settings, since_ms=now_ms - DAY_MS, now_ms=now_ms)


def _arms(settings: Settings, known: Known) -> Mapping[str, Any] | None:
    """What was seen of champion and challenger in the present rollout."""
    if known.rollout is None:
        return None
    folder = log_directory(settings, ROLLOUTS)
    return {
        "steps": sorted(read_counts(folder, known.name, known.rollout.id).items()),
        "evidence": read_evidence(evidence_path(folder, known.name, known.rollout.id)).value,
        "limit": 1 / known.rollout.guardrails.outcome_alpha,
    }


def _shadowed(settings: Settings) -> tuple[ModelShadowEntry, ...]:
    def read(payload: bytes) -> tuple[int, ModelShadowEntry]:
        entry = decode_payload(
            payload, decoder=_shadow_decoder, format=ENTRY_FORMAT, what="an answer of the shadow"
        )
        return entry.received_at_ms, entry

    return Latest(log_directory(settings, MODEL_SHADOW), read, keep=_SHADOWED).look()


def _calibration(known: Known, words: Words) -> Iterator[Chart]:
    """What each raw score becomes, of the version that serves."""
    if known.champion is None:
        return
    manifest = known.champion.manifest
    if manifest.isotonic is None and not manifest.calibration:
        return
    raw = [place / 20 for place in range(1, 20)]
    margins = np.array([math.log(p / (1 - p)) for p in raw])
    calibrated = [float(p) for p in score_of_margin(manifest, margins)]
    before, after = manifest.metrics.get("ece_test_uncalibrated"), manifest.metrics.get("ece_test")
    yield Chart(
        kind="line",
        title=words("console.models.calibration"),
        words=words(
            "console.models.calibration_words",
            before="–" if before is None else f"{before:.3f}",
            after="–" if after is None else f"{after:.3f}",
        ),
        labels=[f"{p:.2f}" for p in raw],
        series=[
            Series(words("console.models.calibrated"), calibrated),
            Series(words("console.models.uncalibrated"), raw, "quiet", dashed=True),
        ],
        head=[words("console.models.uncalibrated"), words("console.models.calibrated")],
        rows=[(f"{p:.2f}", f"{q:.3f}") for p, q in zip(raw, calibrated, strict=True)],
        across=words("console.models.uncalibrated"),
        up=words("console.models.calibrated"),
    )


def _drifts(section: Section, words: Words) -> Iterator[Chart]:
    """Variables that drift, and those nearest to it: how they are spread now and were before."""
    judged = sorted(
        (verdict for verdict in section.verdicts if verdict.measures),
        key=lambda verdict: (not verdict.alarms, -_nearness(verdict)),
    )
    for place, verdict in enumerate(judged):
        if verdict.alarms or place < _DRAWN:
            yield _spread(verdict, section, words)
    if judged:
        yield _distances(judged, section, words)


def _nearness(verdict: Verdict) -> float:
    """How near a variable is to an alarm: its largest measure over its threshold."""
    return max(m.value / m.threshold if m.threshold else 0.0 for m in verdict.measures.values())


def _spread(verdict: Verdict, section: Section, words: Words) -> Chart:
    rows = [row for row in shares(verdict) if max(row[1:]) >= _LEAST_SHARE]
    alarm = words("console.models.alarm") if verdict.alarms else words("console.models.no_alarm")
    was, now = words("console.models.reference"), words("console.models.now")
    return Chart(
        kind="bar",
        title=words("console.models.spread", subject=section.subject, variable=verdict.variable.name),
        words=words("console.models.spread_words", variable=verdict.variable.name, verdict=alarm),
        labels=[row[0] for row in rows],
        series=[
            Series(was, [100 * row[1] for row in rows], "quiet"),
            Series(now, [100 * row[2] for row in rows], "warn" if verdict.alarms else "accent"),
        ],
        head=[words("console.models.bin"), f"{was}, %", f"{now}, %"],
        rows=[(row[0], f"{100 * row[1]:.1f}", f"{100 * row[2]:.1f}") for row in rows],
        up="%",
    )


def _distances(judged: list[Verdict], section: Section, words: Words) -> Chart:
    """PSI of each variable beside what it must exceed to be an alarm."""
    told = [
        (verdict.variable.name, verdict.measures[Measure.PSI])
        for verdict in judged
        if Measure.PSI in verdict.measures
    ]
    limit = words("console.models.threshold")
    return Chart(
        kind="bar",
        title=words("console.models.distances", subject=section.subject),
        words=words("console.models.distances_words"),
        labels=[name for name, _ in told],
        series=[
            Series("PSI", [measured.value for _, measured in told]),
            Series(limit, [measured.threshold for _, measured in told], "quiet"),
        ],
        head=[words("console.models.variable"), "PSI", limit],
        rows=[(name, f"{m.value:.3f}", f"{m.threshold:.3f}") for name, m in told],
        sideways=True,
    )


def _told(section: Section) -> tuple[tuple[str, str, bool], ...]:
    """Each variable with its measures beside their thresholds, and whether that is an alarm."""
    return tuple(
        (
            verdict.variable.name,
            ", ".join(
                f"{measure.value.replace('_', ' ')} {m.value:.3f} / {m.threshold:.3f}"
                for measure, m in verdict.measures.items()
            ),
            bool(verdict.alarms),
        )
        for verdict in section.verdicts
        if verdict.measures
    )


def confirm(act: Act, house: House, request: Request, session: Session) -> Response:
    """What is about to change: promote a version, with what the gates say of it, or go back."""
    settings = house.application.settings
    known = _known(settings, request.path_params["model"])
    judgement = None
    if act is Act.MODELS_PROMOTE:
        target = _number(asked(request, "version"))
        judgement = judge_version(settings.registry, known.name, target)
    else:
        before = known.aliases.before(CHAMPION)
        if before is None:
            raise SetupInvalid(f"{known.name}: no version served before this one")
        target = before
    return put(
        request,
        session,
        "models_confirm",
        act=act,
        known=known,
        target=target,
        judgement=judgement,
        lacking=asked(request, "lacking") == "reason",
    )


def _number(text: str) -> int:
    """A version of a form. Raises SetupInvalid."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise SetupInvalid("a version of a model is a number, such as 3")
    return int(text)


def promote(house: House, request: Request, session: Session) -> Response:
    """Makes a version champion where it passes the gates. Raises PromotionError, RegistryError."""
    settings = house.application.settings
    name = _known(settings, request.path_params["model"]).name
    version, reason = _number(form_of(request).get("version", "")), reason_in(request)
    if not reason:
        return back_to(f"/models/{name}/promote", version=str(version), lacking="reason")
    before = {name: _champion(settings, name)}
    with audit_log(settings).change(
        Act.MODELS_PROMOTE, who=session.who, by=CONSOLE, reason=reason, before=before
    ) as told:
        told.after[name] = str(version)
        promote_through_gates(settings.registry, name, version, reason=reason, actor=session.who)
    return back_to(f"/models/{name}", done="promote")


def rollback(house: House, request: Request, session: Session) -> Response:
    """Makes the champion before this one serve. Raises RegistryError."""
    settings = house.application.settings
    name = _known(settings, request.path_params["model"]).name
    expected, reason = _number(form_of(request).get("version", "")), reason_in(request)
    if not reason:
        return back_to(f"/models/{name}/rollback", lacking="reason")
    if read_aliases(settings.registry, name).before(CHAMPION) != expected:
        raise SetupInvalid("what would be gone back to has changed meanwhile; look at it again")
    before = {name: _champion(settings, name)}
    with audit_log(settings).change(
        Act.MODELS_ROLLBACK, who=session.who, by=CONSOLE, reason=reason, before=before
    ) as told:
        _, now = roll_back(settings.registry, name, reason=reason, actor=session.who)
        told.after[name] = str(now)
    return back_to(f"/models/{name}", done="rollback")


def _champion(settings: Settings, name: str) -> str:
    return str(read_aliases(settings.registry, name).aliases.get(CHAMPION, "none"))
