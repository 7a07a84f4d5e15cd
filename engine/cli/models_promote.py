"""`arbiter models promote`, `rollback` and `shadow`: which version serves, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli.console import EXIT_ERRORS, EXIT_FAILED, effective_settings, err, fail, out, print_document
from engine.cli.models_common import registry_errors
from engine.cli.options import AsJson, Registry
from model_registry import release, roll_back
from model_registry.aliases import CHALLENGER, CHAMPION, SHADOW

if TYPE_CHECKING:
    from engine.promotion.judgement import Gate, Judgement

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, such as churn.")]
VersionNumber = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="A published version.")]
Actor = Annotated[str | None, typer.Option("--actor", help="Who does it, such as risk:17; kept for good.")]
WhyPromoted = Annotated[
    str | None, typer.Option("--reason", help="Why; kept for good. By default: passed the gates.")
]
Why = Annotated[str, typer.Option("--reason", help="Why; kept for good.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(promote)
    app.command()(rollback)
    app.command()(shadow)


@contextmanager
def promotion_errors() -> Iterator[None]:
    """Ends the command where evidence or limits cannot be read."""
    from engine.promotion.errors import PromotionError

    try:
        yield
    except PromotionError as error:
        fail(str(error), EXIT_ERRORS)


def promote(
    name: Name,
    version: VersionNumber,
    alias: Annotated[str, typer.Option("--alias", help="champion, or challenger for a rollout.")] = CHAMPION,
    reason: WhyPromoted = None,
    actor: Actor = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote in spite of gates; needs --actor and --reason.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge only; promote nothing.")] = False,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Promote a version that passes the gates; running servers switch within a second."""
    if alias not in (CHAMPION, CHALLENGER):
        fail(f"--alias {alias}: give {CHAMPION} or {CHALLENGER}; a shadow is set by `shadow`", EXIT_ERRORS)
    if force and not (reason and actor):
        fail("--force needs --actor and --reason: it is kept who overrode the gates, and why", EXIT_ERRORS)
    _promote(
        name, version, alias=alias, reason=reason, actor=actor, force=force, dry_run=dry_run,
        registry=registry, as_json=as_json,
    )  # fmt: skip


def rollback(
    name: Name, reason: Why, actor: Actor = None, registry: Registry = None, as_json: AsJson = False
) -> None:
    """Go back to the champion before the present one; gates are not asked, it served before."""
    settings = effective_settings(registry=registry, log_level="warning")
    if not reason:
        fail("--reason is empty: say why, it is kept for good", EXIT_ERRORS)
    with registry_errors():
        left, served_before = roll_back(settings.registry, name, reason=reason, actor=actor)
    if as_json:
        print_document({"model": name, "alias": CHAMPION, "from": left, "to": served_before})
        return
    out.print(f"{name}: champion {left} to {served_before}", markup=False)


def shadow(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", min=1, help="A published version.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="No shadow any more.")] = False,
    reason: WhyPromoted = None,
    actor: Actor = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Let a version score in the shadow of the champion; no reply ever shows it."""
    if (version is None) != none:
        fail("give either a version or --none", EXIT_ERRORS)
    if version is not None:
        _promote(
            name, version, alias=SHADOW, reason=reason or "shadow", actor=actor, force=False, dry_run=False,
            registry=registry, as_json=as_json,
        )  # fmt: skip
        return
    settings = effective_settings(registry=registry, log_level="warning")
    with registry_errors():
        release(settings.registry, name, alias=SHADOW, reason=reason or "seen enough", actor=actor)
    if as_json:
        print_document({"model": name, "alias": SHADOW, "version": None})
        return
    out.print(f"{name}: no shadow", markup=False)


def _promote(
    name: str, version: int, *, alias: str, reason: str | None, actor: str | None, force: bool,
    dry_run: bool, registry: str | None, as_json: bool,
) -> None:  # fmt: skip
    from engine.promotion.errors import PromotionRefused
    from engine.promotion.promoting import PASSED, judge_version, promote_through_gates

    settings = effective_settings(registry=registry, log_level="warning")
    refused = None
    with registry_errors(), promotion_errors(), err.status("judging"):
        if dry_run:
            judgement = judge_version(settings.registry, name, version, alias=alias)
        else:
            try:
                judgement = promote_through_gates(
                    settings.registry, name, version,
                    alias=alias, reason=reason or PASSED, actor=actor, force=force,
                )  # fmt: skip
            except PromotionRefused as error:
                refused, judgement = error, error.judgement
    _tell(judgement, promoted=refused is None and not dry_run, as_json=as_json)
    if refused is not None:
        fail(str(refused), EXIT_FAILED)
    if dry_run and judgement.refusing:
        raise typer.Exit(EXIT_FAILED)


def _tell(judgement: Judgement, *, promoted: bool, as_json: bool) -> None:
    if as_json:
        print_document({**asdict(judgement), "refusing": judgement.refusing, "promoted": promoted})
        return
    table = Table("gate", "figure", "limit", "verdict", "what it says")
    for gate in judgement.gates:
        table.add_row(gate.name, _figure(gate), _number(gate.limit), str(gate.verdict), gate.words)
    out.print(table)
    if promoted:
        over = f", forced past {', '.join(judgement.refusing)}" if judgement.refusing else ""
        out.print(f"{judgement.model}: {judgement.alias} {judgement.version}{over}", markup=False)


def _figure(gate: Gate) -> str:
    if gate.interval is None:
        return _number(gate.figure)
    low, high = gate.interval
    return f"{_number(gate.figure)} [{_number(low)}, {_number(high)}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
