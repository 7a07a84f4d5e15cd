"""`arbiter models status` and `shadow-report`: what servers score with, and what shadows said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engine.cli.console import EXIT_ERRORS, effective_settings, fail, out, print_document
from engine.cli.models_promote import Name
from engine.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from engine.service.shadow_report import ShadowReport


def register(models: typer.Typer) -> None:
    """Adds the commands to `arbiter models`."""
    models.command()(status)
    models.command(name="shadow-report")(shadow_report)


def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show what each running server process scores with, and what it refuses."""
    from engine.bootstrap import model_servers

    settings = effective_settings(data_dir=data_dir, log_level="warning")
    servers = model_servers(settings).running()
    if as_json:
        print_document([asdict(server) for server in servers])
        return
    if not servers:
        out.print(f"no server runs on {settings.data_dir}", soft_wrap=True)
        return
    table = Table("process", "scores with", "shares", "ready", "in the shadow", "refused")
    for server in servers:
        table.add_row(
            str(server.pid),
            ", ".join(f"{model}/{version}" for model, version in sorted(server.models.items())),
            ", ".join(f"{version} {percent:g} %" for version, percent in sorted(server.percents.items())),
            ", ".join(server.prepared),
            "\n".join(_shadow_words(version, counts) for version, counts in server.shadow.items()),
            "\n".join(f"{version}: {cause}" for version, cause in sorted(server.refused.items())),
        )
    out.print(table)


def shadow_report(
    name: Name,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="One version; by default each that was there.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what versions in the shadow said otherwise, and what they would have changed."""
    from engine.decisionlog.errors import LogError
    from engine.decisionlog.ledger import model_shadow_log
    from engine.logfiles import MODEL_SHADOW, log_directory
    from engine.service.shadow_report import shadow_reports

    settings = effective_settings(data_dir=data_dir, log_level="warning")
    directory = log_directory(settings, MODEL_SHADOW)
    try:
        entries = model_shadow_log(directory).replay() if directory.is_dir() else iter(())
        reports = [r for r in shadow_reports(entries, model=name) if version in (None, r.shadow)]
    except LogError as error:
        fail(str(error), EXIT_ERRORS)
    if as_json:
        print_document([_report_document(report) for report in reports])
        return
    if not reports:
        out.print(f"{name}: no decision was scored in the shadow", markup=False)
    for report in reports:
        _print_report(report)


def _shadow_words(version: str, counts: Mapping[str, int]) -> str:
    return f"{version}: " + ", ".join(f"{count:,} {result}" for result, count in sorted(counts.items()))


def _report_document(report: ShadowReport) -> dict[str, Any]:
    became = [{"from": before, "to": after, "decisions": n} for (before, after), n in report.became.items()]
    return {**asdict(report), "became": became}


def _print_report(report: ShadowReport) -> None:
    beside = ", ".join(map(str, report.beside))
    days = " to ".join(
        f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}Z"
        for at_ms in (report.from_ms, report.until_ms)
    )
    out.print(f"{report.model}/{report.shadow} beside {beside}, {days}", markup=False)
    out.print(
        f"{report.decisions:,} decisions; another first action in {report.first:,} "
        f"({report.first / report.decisions:.1%}), another order in {report.order:,} "
        f"({report.order / report.decisions:.1%})",
        markup=False,
    )
    table = Table("score of", "decisions", "live", "shadow", "difference", "95 % within", "largest")
    for name, score in report.scores.items():
        table.add_row(
            name,
            f"{score.count:,}",
            f"{score.live:.4f}",
            f"{score.shadow:.4f}",
            f"{score.mean:+.4f}",
            f"{score.p95:.4f}",
            f"{score.largest:.4f}",
        )
    out.print(table)
    for (before, after), count in list(report.became.items())[:10]:
        out.print(f"{before or 'nothing'} became {after or 'nothing'}: {count:,}", markup=False)
