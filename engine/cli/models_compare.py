"""`arbiter models compare`: two versions side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli.console import effective_settings, err, present, print_document
from engine.cli.models_common import registry_errors, version_of
from engine.cli.models_promote import promotion_errors
from engine.cli.options import AsJson, Registry

if TYPE_CHECKING:
    from engine.promotion.comparing import Comparison
    from engine.promotion.figures import Compared
    from engine.promotion.judgement import Interval

First = Annotated[str, typer.Argument(metavar="A", help="A version, such as churn/1 or churn/champion.")]
Second = Annotated[str, typer.Argument(metavar="B", help="The version to hold against it.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(compare)


def compare(first: First, second: Second, registry: Registry = None, as_json: AsJson = False) -> None:
    """Compare two versions: figures, both models on the same held-out rows, inputs, size and lineage."""
    from engine.promotion.comparing import compare_versions  # here, as listing needs no runtime
    from engine.promotion.limits import limits_of

    settings = effective_settings(registry=registry, log_level="warning")
    with registry_errors(), promotion_errors(), err.status("comparing"):
        one, other = version_of(settings.registry, first), version_of(settings.registry, second)
        limits = limits_of(settings.registry, other.manifest.name)
        found = compare_versions(one, other, limits=limits)
    if as_json:
        print_document(asdict(found))
        return
    present(*_tables(found))


def _tables(found: Comparison) -> list[Table]:
    tables = []
    if not isinstance(found.measured, str):
        tables.append(_measured(found, found.measured))
    for title, pairs in (
        ("in the manifests", found.metrics),
        ("bytes", found.sizes),
        ("differences", found.differences),
    ):
        table = Table(title, found.first, found.second, show_lines=False)
        for name, pair in pairs.items():
            table.add_row(name, _shown(pair.first), _shown(pair.second))
        tables.append(table)
    inputs = Table("inputs", "names")
    inputs.add_row(f"only in {found.second}", ", ".join(found.inputs_added) or "none")
    inputs.add_row(f"only in {found.first}", ", ".join(found.inputs_removed) or "none")
    if isinstance(found.measured, str):
        inputs.add_row("not measured", found.measured)
    return [*tables, inputs]


def _measured(found: Comparison, measured: Compared) -> Table:
    table = Table("on the same held-out rows", found.first, found.second, "difference")
    rows = (("AUC", measured.auc, measured.auc_gain), ("log loss", measured.log_loss, measured.log_loss_gain))
    for name, (second, first), gain in rows:
        table.add_row(name, _interval(first), _interval(second), _interval(gain, signed=True))
    return table


def _interval(figure: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{figure.value:{sign}.4f} [{figure.low:{sign}.4f}, {figure.high:{sign}.4f}]"


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
