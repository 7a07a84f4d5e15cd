"""`arbiter top`: a server at work, refreshed until q or Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.cli.console import EXIT_ERRORS, EXIT_UNAVAILABLE, effective_settings, fail, out
from engine.cli.options import DataDir
from engine.cli.status import MetricsAt, size

if TYPE_CHECKING:
    from engine.monitor.work import Work

app = typer.Typer(add_completion=False)

_QUIT = frozenset(b"qQ\x03")


@app.command()
def top(
    data_dir: DataDir = None,
    metrics: MetricsAt = None,
    every: Annotated[
        float, typer.Option("--every", min=0.2, max=60.0, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
) -> None:
    """Watch a server at work: calls, latency, sheds, processes, the slowest step.

    q or Ctrl-C ends it.

    It reads the metrics endpoint and shows what was gained between two looks.
    """
    from engine.condition import metrics_address, server_of
    from engine.monitor.scraping import MetricsUnreachable
    from engine.running import running_servers

    settings = effective_settings(data_dir=data_dir, log_level="error")
    server = server_of(running_servers(settings.data_dir))
    address = metrics_address(metrics, server, settings)
    if not address:
        what = "no server runs on this data directory" if server is None else "this server has no metrics"
        fail(
            f"{what}: start it with `arbiter serve --metrics 127.0.0.1:9464`, or name the metrics of another "
            "with --metrics HOST:PORT",
            EXIT_ERRORS,
        )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _show(address, every_s=every, once=once)
    except MetricsUnreachable as error:
        fail(str(error), EXIT_UNAVAILABLE)


def _show(address: str, *, every_s: float, once: bool) -> None:
    from engine.monitor.scraping import scrape
    from engine.monitor.work import work_between

    before = scrape(address)
    if once:
        time.sleep(every_s)
        out.print(frame(work_between(before, scrape(address)), address))
        return
    with Live(Text("…"), console=out, screen=out.is_terminal, auto_refresh=False) as live, _keys() as pressed:
        while not pressed(every_s):
            now = scrape(address)
            live.update(frame(work_between(before, now), address), refresh=True)
            before = now


@contextmanager
def _keys() -> Iterator[_Pressed]:
    """Single keys of the terminal while the block runs; without a terminal none is ever pressed."""
    if not sys.stdin.isatty():
        yield _Pressed(listens=False)
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _Pressed(listens=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class _Pressed:
    """Waits for a key."""

    def __init__(self, *, listens: bool) -> None:
        self._listens = listens

    def __call__(self, seconds: float) -> bool:
        """Whether somebody wants to leave within so long; returns no later."""
        if not self._listens:
            time.sleep(seconds)
            return False
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            typed = os.read(0, 64) if select.select([0], [], [], left_s)[0] else b""
            if not _QUIT.isdisjoint(typed):  # past Python's buffer, which would keep keys from the next look
                return True
        return False


def frame(work: Work, address: str) -> RenderableType:
    """What is shown of what a server did between two looks."""
    return Group(_headline(work, address), "", _calls(work), "", _steps(work), "", _processes(work))


def _headline(work: Work, address: str) -> Text:
    text = Text(f"arbiter at {address}   ")
    text.append(f"{work.calls_per_s:,.0f} calls/s", style="bold")
    text.append(f"   {work.in_flight} in flight   ")
    text.append(f"{work.shed_per_s:,.1f} shed/s", style="bold red" if work.shed_per_s else "")
    text.append("   ")
    text.append(f"{work.degraded_per_s:,.1f} degraded/s", style="bold red" if work.degraded_per_s else "")
    versions = ", ".join(v.removeprefix("sha256:")[:12] for v in work.rules)
    text.append(f"\nrules {versions or 'none'}   models {', '.join(work.models) or 'none'}   ")
    text.append("store answers" if work.store_reachable else "store does not answer")
    if work.alarms:
        text.append(f"   {work.alarms} variables drift", style="bold red")
    return text


def _calls(work: Work) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("method")
    for name in ("calls/s", "p50 ms", "p99 ms", "failed/s"):
        table.add_column(name, justify="right")
    for method in work.methods:
        table.add_row(
            method.name.rpartition("/")[2],
            f"{method.calls_per_s:,.1f}",
            _ms(method.p50_s),
            _ms(method.p99_s),
            Text(f"{method.faults_per_s:,.1f}", style="bold red" if method.faults_per_s else ""),
        )
    if not work.methods:
        table.add_row(Text("no calls", style="dim"), "", "", "", "")
    return table


def _steps(work: Work) -> RenderableType:
    if not work.steps:
        return Text("no decision was timed", style="dim")
    slowest = max(work.steps, key=lambda step: step.mean_s)
    text = Text("steps of a decision, µs: ")
    for step in work.steps:
        text.append(f"{step.name} {step.mean_s * 1e6:,.0f}", style="bold yellow" if step is slowest else "")
        text.append("  ")
    return text


def _processes(work: Work) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("process")
    for name in ("CPU %", "memory"):
        table.add_column(name, justify="right")
    for process in work.processes:
        cpu = "-" if process.cpu_share is None else f"{process.cpu_share:.0%}".removesuffix("%")
        table.add_row(process.pid or "the server", cpu, size(process.resident_bytes))
    return table


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.2f}"
