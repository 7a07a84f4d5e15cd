"""`arbiter models rollout`: a challenger on some customers, then more, and back where it does worse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from engine.cli.console import EXIT_ERRORS, effective_settings, fail, out, print_document
from engine.cli.models_common import registry_errors
from engine.cli.models_promote import Actor, Name, VersionNumber, Why, promotion_errors
from engine.cli.options import AsJson, DataDir, Registry
from model_registry import Root
from model_registry.aliases import CHALLENGER, read_aliases
from model_registry.inventory import model_names
from model_registry.rollout import (
    ChangeKind,
    Guardrails,
    Rollout,
    RolloutRefused,
    Step,
    move,
    read_rollouts,
)
from model_registry.rollout import start as start_rollout

if TYPE_CHECKING:
    from engine.monitor.rollout.counts import ArmCounts, Steps
    from engine.monitor.rollout.sequential import Evidence
    from engine.settings import Settings

_PLAN = "1,5,25,50,100"
_DEFAULT = Guardrails()
_STEP_PARTS = 3

app = typer.Typer(
    help="Give a challenger some customers, then more, and take them back by itself where it does worse.",
    no_args_is_help=True,
    add_completion=False,
)

Steps_ = Annotated[
    str,
    typer.Option(
        "--steps", help="Shares of customers in percent, each PERCENT[:DECISIONS[:HOURS]] to stay at least."
    ),
]


def register(models: typer.Typer) -> None:
    """Adds the commands to `arbiter models`."""
    for command in (start, pause, resume, abort):
        app.command()(command)
    app.command(name="status")(show)
    models.add_typer(app, name="rollout")


def start(
    name: Name,
    version: VersionNumber,
    reason: Why,
    steps: Steps_ = _PLAN,
    decisions: Annotated[
        int, typer.Option(min=0, help="Decisions of the challenger before the next step.")
    ] = 1000,
    hours: Annotated[float, typer.Option(min=0, help="Hours before the next step.")] = 1.0,
    actor: Actor = None,
    error_share: Annotated[
        float, typer.Option(help="How much larger the share of failed decisions may be.")
    ] = _DEFAULT.error_share,
    latency_ratio: Annotated[
        float, typer.Option(help="How often the champion's 95th percentile of time it may take.")
    ] = _DEFAULT.latency_ratio,
    score_psi: Annotated[
        float, typer.Option(help="How much its scores may be distributed otherwise, as a PSI.")
    ] = _DEFAULT.score_psi,
    outcome_alpha: Annotated[
        float, typer.Option(help="Chance that a challenger no worse goes back for its acceptances.")
    ] = _DEFAULT.outcome_alpha,
    guard_from: Annotated[
        int, typer.Option(help="Decisions of each arm from which time and scores are compared.")
    ] = _DEFAULT.decisions,
    promotes: Annotated[
        bool, typer.Option("--promote", help="Promote it when all steps are done; else you do.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Although it went back before.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Although gates refuse it; needs --actor.")] = False,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Start to give customers to a version; running servers follow within a second."""
    settings = effective_settings(registry=registry, log_level="warning")
    if force and not actor:
        fail("--force needs --actor: it is kept who overrode the gates", EXIT_ERRORS)
    try:
        plan = [_step(text, decisions, hours) for text in steps.split(",")]
        guardrails = Guardrails(
            error_share=error_share,
            latency_ratio=latency_ratio,
            score_psi=score_psi,
            outcome_alpha=outcome_alpha,
            decisions=guard_from,
        )
    except (ValueError, ValidationError) as error:
        fail(f"this is no plan: {_first_problem(error)}", EXIT_ERRORS)
    with registry_errors(), promotion_errors():
        if not force:
            _check_gates(settings.registry, name, version)
        rollout = start_rollout(
            settings.registry,
            name,
            version,
            steps=plan,
            guardrails=guardrails,
            reason=reason,
            actor=actor or _user(),
            promotes=promotes,
            again=again,
        )
    _tell(name, rollout, as_json=as_json)


def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A model; all by default.")] = None,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show where rollouts are, what was seen of both arms, and everything that happened."""
    settings = effective_settings(registry=registry, data_dir=data_dir, log_level="warning")
    with registry_errors():
        names = model_names(settings.registry) if name is None else (name,)
        found = {each: read_rollouts(settings.registry, each).present for each in names}
    present = {each: rollout for each, rollout in found.items() if rollout is not None}
    if as_json:
        print_document([_document(settings, each, rollout) for each, rollout in present.items()])
        return
    if not present:
        out.print("no rollout yet")
    for each, rollout in present.items():
        _print_rollout(settings, each, rollout)


def pause(
    name: Name, reason: Why, actor: Actor = None, registry: Registry = None, as_json: AsJson = False
) -> None:
    """Stay at the present share; guardrails are watched on."""
    _move(ChangeKind.PAUSE, name, reason, actor, registry, as_json=as_json)


def resume(
    name: Name, reason: Why, actor: Actor = None, registry: Registry = None, as_json: AsJson = False
) -> None:
    """Go on after a pause."""
    _move(ChangeKind.RESUME, name, reason, actor, registry, as_json=as_json)


def abort(
    name: Name, reason: Why, actor: Actor = None, registry: Registry = None, as_json: AsJson = False
) -> None:
    """Give all customers back to the champion, within a second."""
    _move(ChangeKind.ROLL_BACK, name, reason, actor, registry, as_json=as_json)


def _step(text: str, decisions: int, hours: float) -> Step:
    """A step as written: PERCENT[:DECISIONS[:HOURS]]. Raises ValueError."""
    parts = text.strip().split(":")
    if len(parts) > _STEP_PARTS:
        raise ValueError(f"{text!r} has more than PERCENT:DECISIONS:HOURS")
    return Step(
        percent=float(parts[0]),
        decisions=int(parts[1]) if len(parts) > 1 else decisions,
        hours=float(parts[2]) if len(parts) == _STEP_PARTS else hours,
    )


def _first_problem(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _check_gates(registry: Root, name: str, version: int) -> None:
    """A version that gates refuse gets no customers. Raises RolloutRefused."""
    from engine.promotion.promoting import judge_version

    if read_aliases(registry, name).aliases.get(CHALLENGER) == version:
        return  # it passed them when it became the challenger, or somebody forced it
    judgement = judge_version(registry, name, version, alias=CHALLENGER)
    if judgement.refusing:
        refusing = ", ".join(judgement.refusing)
        raise RolloutRefused(
            f"model {name}: version {version} does not pass: {refusing}; see `arbiter models promote {name} "
            f"{version} --dry-run`, or say --force"
        )


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return "unknown"


def _move(
    kind: ChangeKind, name: str, reason: str, actor: str | None, registry: str | None, *, as_json: bool
) -> None:
    settings = effective_settings(registry=registry, log_level="warning")
    with registry_errors():
        present = read_rollouts(settings.registry, name).present
        if present is None:
            raise RolloutRefused(
                f"model {name}: there is no rollout; `arbiter models rollout start` begins one"
            )
        rollout = move(settings.registry, name, kind, expected=present, reason=reason, actor=actor or _user())
    _tell(name, rollout, as_json=as_json)


def _tell(name: str, rollout: Rollout, *, as_json: bool) -> None:
    if as_json:
        print_document({"model": name, **rollout.model_dump(mode="json"), "percent": rollout.percent})
        return
    out.print(_headline(name, rollout), markup=False, soft_wrap=True)


def _headline(name: str, rollout: Rollout) -> str:
    words = f"{name}/{rollout.version} is {rollout.state.value.replace('_', ' ')} at {rollout.percent:g} % of"
    return f"{words} customers, beside champion {rollout.champion}"


def _read(settings: Settings, name: str, rollout: Rollout) -> tuple[Steps, Evidence]:
    from engine.logfiles import ROLLOUTS, log_directory
    from engine.service.arms import read_counts
    from engine.service.rollouts import evidence_path, read_evidence

    folder = log_directory(settings, ROLLOUTS)
    counts = read_counts(folder, name, rollout.id)
    return counts, read_evidence(evidence_path(folder, name, rollout.id))


def _arm_document(arm: ArmCounts) -> dict[str, Any]:
    p95 = arm.latency_s(0.95)
    return {
        "decisions": arm.decisions,
        "failed": arm.failed,
        "latency_p95_ms": None if p95 is None else round(p95 * 1000, 3),
        "accepted": arm.accepted,
        "declined": arm.declined,
    }


def _document(settings: Settings, name: str, rollout: Rollout) -> dict[str, Any]:
    counts, evidence = _read(settings, name, rollout)
    seen = {
        str(number): {
            "champion": _arm_document(step.champion),
            "challenger": _arm_document(step.challenger),
        }
        for number, step in sorted(counts.items())
    }
    return {
        "model": name,
        **rollout.model_dump(mode="json"),
        "percent": rollout.percent,
        "seen": seen,
        "evidence": evidence.value,
    }


def _print_rollout(settings: Settings, name: str, rollout: Rollout) -> None:
    counts, evidence = _read(settings, name, rollout)
    out.print(_headline(name, rollout), markup=False, soft_wrap=True)
    table = Table("step", "arm", "decisions", "failed", "95 % within", "accepted", "declined")
    for number, step in sorted(counts.items()):
        share = f"{rollout.steps[number].percent:g} %"
        for arm, seen in (("champion", step.champion), ("challenger", step.challenger)):
            table.add_row(share, arm, *_arm_cells(seen))
    out.print(table)
    limit = 1 / rollout.guardrails.outcome_alpha
    out.print(
        f"evidence that people accept less: {evidence.value:,.2f}; it goes back at {limit:,.0f}", markup=False
    )
    happened = Table("when", "what", "share", "by", "reason")
    for change in reversed(rollout.changes):
        at = f"{change.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        kind = change.kind.value.replace("_", " ")
        happened.add_row(at, kind, f"{change.percent:g} %", change.actor, change.reason)
    out.print(happened)


def _arm_cells(arm: ArmCounts) -> Iterator[str]:
    p95 = arm.latency_s(0.95)
    yield f"{arm.decisions:,}"
    yield f"{arm.failed:,}"
    yield "" if p95 is None else f"{p95 * 1000:.2f} ms"
    yield f"{arm.accepted:,}"
    yield f"{arm.declined:,}"
