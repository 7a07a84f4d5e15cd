"""`arbiter loadtest`: how fast a server answers, and from which load on it does not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from loadtest.access import TlsCa, TlsCert, TlsKey, TokenFile, read_access
from loadtest.comparing import changes
from loadtest.errors import LoadTestError
from loadtest.latency import measure, stay_on
from loadtest.objectives import DEFAULT as OBJECTIVES
from loadtest.objectives import Objectives, judge, kept, knee, load_objectives
from loadtest.overload import Scene, Wave, peak_of, wave
from loadtest.profiles import DEFAULT as PROFILE
from loadtest.profiles import load_profile
from loadtest.results import Result, Step, latency_ms, read_result, write_result
from loadtest.running import Plan, climbing, run
from loadtest.schedule import Arrivals
from loadtest.sending import Senders
from loadtest.stalling import Stall, stalling_server

EXIT_ERRORS: Final = 3
EXIT_FAILED: Final = 4

app = typer.Typer(
    help="Measure a server under load, report, and compare runs.", no_args_is_help=True, add_completion=False
)
out = Console(highlight=False)
_WIDE: Final = 150
"""Columns that the table of waves takes, in however narrow a terminal: half of a number says nothing."""
err = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]
ObjectivesOption = Annotated[
    str, typer.Option("--slo", help="Objectives: a name that Arbiter brings, or a YAML file.")
]
Target = Annotated[
    str, typer.Option(help="A running server. Default: start one with the demo company on core 0.")
]
DataDir = Annotated[str, typer.Option(help="Data directory of the server it starts.")]


@app.command("run")
def run_command(
    target: Target = "",
    profile: Annotated[
        str, typer.Option(help="Who asks what: a name that Arbiter brings, or a YAML file.")
    ] = PROFILE,
    rate: Annotated[
        list[float] | None, typer.Option(min=1, help="Calls a second; give it again for more steps.")
    ] = None,
    ladder: Annotated[
        bool, typer.Option("--ladder", help="Climb from the first rate by --factor until objectives break.")
    ] = False,
    factor: Annotated[
        float, typer.Option(min=1.01, max=4, help="From one step of a ladder to the next.")
    ] = 1.25,
    most: Annotated[float, typer.Option(min=1, help="Highest rate of a ladder.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a step.")] = 10,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds at the first rate that do not count.")] = 5,
    arrivals: Annotated[Arrivals, typer.Option(help="How calls follow each other.")] = "poisson",
    deadline: Annotated[float, typer.Option(min=0.001, max=60, help="Seconds a client waits.")] = 1,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Sender processes.")] = 1,
    channels: Annotated[int, typer.Option(min=1, max=64, help="Connections of each process.")] = 4,
    seed: Annotated[int, typer.Option(help="Draws customers, context and arrivals.")] = 1,
    slo: ObjectivesOption = OBJECTIVES,
    name: Annotated[str, typer.Option(help="What the result is called.")] = "run",
    save: Annotated[Path, typer.Option(help="Where the result is written.")] = Path(
        "build/loadtest/result.json"
    ),
    html: Annotated[Path | None, typer.Option(help="Write the report there, too.")] = None,
    data_dir: DataDir = "data/demo",
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Send calls on a schedule and judge the server by the objectives: exit code 4 where it broke them.

    One rate: that step is judged. Several, or a ladder: broken where already the lowest rate is; the highest
    rate that keeps them, the knee, is told.
    """
    with _errors():
        objectives = load_objectives(slo)
        mix, folder = load_profile(profile)
        access = read_access(target, authorities=tls_ca, certificate=tls_cert, key=tls_key, token=token_file)
        rates = list(rate or [100.0])
        if ladder:
            rates = climbing(rates[0], factor=factor, most=most)
        with nullcontext((target, None)) if target else _own_server(data_dir) as (address, pid):
            cores = () if target else tuple(range(1, os.cpu_count() or 1))
            plan = Plan(
                name=name,
                target=address,
                profile=mix,
                folder=folder,
                rates=rates,
                seconds=seconds,
                arrivals=arrivals,
                warm_up_s=warm_up,
                deadline_s=deadline,
                processes=processes,
                channels=channels,
                seed=seed,
                ladder=objectives if ladder else None,
                cores=cores,
                server_pid=pid,
                server="started by this run, one worker on core 0" if pid else "",
                access=access,
            )
            result = run(plan, told=lambda step: None if as_json else _tell_step(step, objectives))
        write_result(save, result)
        if html is not None:
            _write_report(html, result, objectives)
    _conclude(result, objectives, save, as_json=as_json)


@app.command()
def report(
    result: Annotated[Path, typer.Argument(help="A file that `run` wrote.")],
    html: Annotated[Path, typer.Option(help="Where to write the report.")] = Path(
        "build/loadtest/report.html"
    ),
    slo: ObjectivesOption = OBJECTIVES,
) -> None:
    """Write the report of a run as one HTML file."""
    with _errors():
        _write_report(html, read_result(result), load_objectives(slo))
    out.print(f"report: {html}", soft_wrap=True)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A result.")],
    after: Annotated[Path, typer.Argument(help="A later result, of the same rates.")],
    fail_above: Annotated[
        float | None,
        typer.Option(min=1, help="Exit code 4 where p50 or p99 clearly grew by more than this factor."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs, rate by rate. A change is clear where its 95 % interval leaves 1 out."""
    with _errors():
        found = changes(read_result(before), read_result(after))
    if not found:
        _fail("the two runs have no rate in common; run them with the same --rate", EXIT_ERRORS)
    worse = [c for c in found if fail_above is not None and c.clear and c.ratio > fail_above]
    if as_json:
        sys.stdout.write(json.dumps([{**asdict(c), "clear": c.clear} for c in found]) + "\n")
    else:
        table = Table("rate", "figure", "before", "after", "ratio", "95 % interval", "")
        for change in found:
            interval = (
                "–" if change.interval is None else f"{change.interval[0]:.2f} to {change.interval[1]:.2f}"
            )
            word = ("slower" if change.ratio > 1 else "faster") if change.clear else ""
            table.add_row(
                f"{change.rate:,.0f}",
                change.figure,
                f"{change.before:.2f}",
                f"{change.after:.2f}",
                f"{change.ratio:.2f}",
                interval,
                word,
            )
        out.print(table)
    if worse:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def selftest(
    rate: Annotated[float, typer.Option(min=10, help="Calls a second.")] = 200,
    seconds: Annotated[float, typer.Option(min=2, help="Length of the test.")] = 6,
    stall: Annotated[float, typer.Option(min=0.1, help="Seconds that the server stands still.")] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Measure a server with a known stall: exit code 4 where the load test does not show it."""
    with _errors(), stalling_server(Stall(at_s=seconds / 2, for_s=stall)) as address:
        mix, folder = load_profile(PROFILE)
        plan = Plan(
            name="selftest",
            target=address,
            profile=mix,
            folder=folder,
            rates=[rate],
            seconds=seconds,
            arrivals="constant",
            warm_up_s=0,
            deadline_s=10 * stall,
            processes=1,
            channels=4,
            seed=1,
        )
        (step,) = run(plan, told=lambda _: None).steps
    waited = step.share_above(500 * stall)
    expected = stall / 2 / seconds
    good = step.at_ms(100.0) >= 900 * stall and 0.7 * expected <= waited <= 1.5 * expected
    told = {
        "worst_ms": step.at_ms(100.0),
        "share_that_waited": round(waited, 4),
        "share_expected": round(expected, 4),
        "shown": good,
    }
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        out.print(
            f"A stall of {stall * 1000:.0f} ms: the worst call took {told['worst_ms']:.0f} ms, and "
            f"{waited:.1%} of all waited for at least half of it ({expected:.1%} were to be sent then). "
            + ("The stall is shown." if good else "THE STALL IS NOT SHOWN."),
            soft_wrap=True,
        )
    if not good:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def overload(
    times: Annotated[
        list[float] | None, typer.Option(min=1, help="Times the peak; again for more. Default: 2 and 5.")
    ] = None,
    waves: Annotated[int, typer.Option(min=1, help="Waves of each.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a wave.")] = 4,
    start: Annotated[float, typer.Option(min=1, help="Calls a second from which the peak is sought.")] = 200,
    target: Target = "",
    data_dir: DataDir = "data/demo",
    as_json: AsJson = False,
) -> None:
    """Send waves of more calls than the server can take, from clients that send all and that throttle."""
    with _errors(), nullcontext((target, None)) if target else _own_server(data_dir) as (address, pid):
        mix, folder = load_profile(PROFILE)
        cores = tuple(range(1, os.cpu_count() or 1)) if pid else ()
        with Senders(address, processes=1, channels=4, cores=cores) as senders:
            scene = Scene(senders, mix, folder, np.random.default_rng(1))
            scene.send([(start / 2, 3.0)])
            peak = peak_of(scene, start=start, told=lambda *step: None if as_json else _tell_climb(*step))
            found = [
                (throttled, wave(scene, peak=peak, times=each, seconds=seconds, throttled=throttled))
                for throttled in (False, True)
                for each in times or (2.0, 5.0)
                for _ in range(waves)
            ]
    if as_json:
        rows = [{"throttled": throttled, **asdict(each)} for throttled, each in found]
        sys.stdout.write(json.dumps({"peak": peak, "waves": rows}) + "\n")
    else:
        out.print(f"peak {peak:,.0f} answers a second")
        Console(width=max(out.width, _WIDE)).print(_wave_table(found))


def _tell_climb(offered: float, answered: float) -> None:
    out.print(f"{offered:8,.0f}/s offered, {answered:8,.0f}/s answered")


def _wave_table(found: Sequence[tuple[bool, Wave]]) -> Table:
    table = Table(
        "clients", "times", "offered/s", "goodput/s", "of peak", "admitted ms", "refused/s", "refusal ms",
        "held back/s", "lost/s", "well after s", "call centre", "web", "batch",
        caption="Times are p50 / p99; the last three columns are shares of what was sent that were refused.",
    )  # fmt: skip
    for throttled, each in found:
        table.add_row(
            "throttle" if throttled else "send all",
            f"{each.times_peak:g}",
            f"{each.offered:,.0f}",
            f"{each.goodput:,.0f}",
            f"{each.of_peak:.0%}",
            f"{each.admitted_p50_ms:.1f} / {each.admitted_p99_ms:.1f}",
            f"{each.refused:,.0f}",
            f"{each.refusal_p50_ms:.1f} / {each.refusal_p99_ms:.1f}",
            f"{each.held_back:,.0f}",
            f"{each.lost:,.0f}",
            f"{each.recovered_s:.2f}",
            *(f"{share:.0%}" for share in each.refused_by_priority.values()),
        )
    return table


@app.command()
def latency(
    calls: Annotated[int, typer.Option(min=1, help="Calls that count.")] = 10_000,
    warm_up: Annotated[int, typer.Option(min=1, help="Calls before that do not.")] = 1_000,
    target: Target = "",
    data_dir: DataDir = "data/demo",
    as_json: AsJson = False,
) -> None:
    """Latency of Decide with nobody else about, one call after the other: the floor, not a load test."""
    with _errors(), nullcontext((target, None)) if target else _own_server(data_dir) as (address, pid):
        if pid:
            stay_on(1 % (os.cpu_count() or 1))
        found = measure(address, calls=calls, warm_up=warm_up)
    figures = {f"p{p:g}_ms": round(found.at(p), 3) for p in (50, 90, 99, 99.9, 100)}
    if as_json:
        sys.stdout.write(json.dumps({"calls": calls, "failed": found.failed, **figures}) + "\n")
    else:
        told = ", ".join(f"{name.removesuffix('_ms')} {value} ms" for name, value in figures.items())
        out.print(f"{calls} calls, {found.failed} failed: {told}")
    if found.failed:
        raise typer.Exit(EXIT_FAILED)


def _tell_step(step: Step, objectives: Objectives) -> None:
    latencies = step.latencies()
    figures = ", ".join(f"p{p:g} {latency_ms(latencies, p):.2f}" for p in (50.0, 99.0, 99.9))
    word = "kept" if kept(step, objectives) else "broken"
    out.print(
        f"{step.rate:8,.0f}/s offered, {step.answered_rate:8,.0f}/s answered: {figures} ms; "
        f"errors {step.failed_share:.2%}, shed {step.shed_share:.2%}; {word}",
        soft_wrap=True,
    )


def _conclude(result: Result, objectives: Objectives, save: Path, *, as_json: bool) -> None:
    """Says how it went; exit code 4 where the objectives were broken at the lowest rate."""
    best = knee(result.steps, objectives)
    judged = judge(best or result.steps[0], objectives)
    if as_json:
        document = {
            "kept": best is not None,
            "knee": best.rate if best else None,
            "objectives": [asdict(j) for j in judged],
            "result": str(save),
            "steps": [_figures(step, objectives) for step in result.steps],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        for broken in (j for j in judged if not j.kept):
            out.print(f"broken: {broken.objective} {broken.found:.4g}, at most {broken.limit:.4g}")
        if best is not None and len(result.steps) > 1:
            out.print(f"knee: {best.rate:,.0f} calls/s, the highest rate that kept `{objectives.name}`")
        out.print(f"result: {save}", soft_wrap=True)
    if best is None:
        raise typer.Exit(EXIT_FAILED)


def _figures(step: Step, objectives: Objectives) -> dict[str, object]:
    """A step without its histogram."""
    latencies = step.latencies()
    figures = step.model_dump(exclude={"histogram", "over_time"})
    marks = {f"p{p:g}_ms": latency_ms(latencies, p) for p in (50.0, 90.0, 99.0, 99.9, 100.0)}
    return {**figures, **marks, "kept": kept(step, objectives)}


def _write_report(path: Path, result: Result, objectives: Objectives) -> None:
    try:
        from loadtest.report import report_page  # matplotlib takes a second, and not every machine has it
    except ImportError as error:
        raise LoadTestError(f"the report needs {error.name}: pip install 'arbiter-nba[loadtest]'") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_page(result, objectives).html(), encoding="utf-8")


@contextmanager
def _own_server(data_dir: str) -> Iterator[tuple[str, int]]:
    """A server with the demo company on core 0: its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "engine", "serve", "--demo", "--port", str(port), "--data-dir", data_dir]
    server = subprocess.Popen(command, env={**os.environ, "ARBITER_LOG_LEVEL": "warning"})  # noqa: S603  # ours
    os.sched_setaffinity(server.pid, {0})
    try:
        yield f"127.0.0.1:{port}", server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


@contextmanager
def _errors() -> Iterator[None]:
    """Ends the command with the text of what is wrong."""
    try:
        yield
    except LoadTestError as error:
        _fail(str(error), EXIT_ERRORS)


def _fail(message: str, code: int) -> NoReturn:
    err.print("[bold red]error[/]:", end=" ")
    err.print(message, markup=False, soft_wrap=True)
    raise typer.Exit(code)
