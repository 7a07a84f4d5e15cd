"""The command `arbiter`: what it can do, in the order one needs it."""

from __future__ import annotations

import typer

from engine.cli.lazy import LazyCommand, LazyGroup

COMMANDS = (
    LazyCommand("demo", "Start a server with the demo company, decide for telling customers, and say why."),
    LazyCommand("serve", "Serve decisions over gRPC until SIGTERM or Ctrl-C."),
    LazyCommand("decide", "Decide for one customer on one channel now, and say why."),
    LazyCommand("explain", "Explain a past decision: every candidate's fate, and what the rules saw."),
    LazyCommand("consent", "Show, record, import and prove consents and objections."),
    LazyCommand("customer", "Export and erase what is held of a customer; link identities."),
    LazyCommand("retention", "Erase what is older than the settings keep it."),
    LazyCommand("events", "Show event types, send events, and mend those that were refused."),
    LazyCommand("ingest", "Apply the events of a Redis Stream until SIGTERM or Ctrl-C."),
    LazyCommand(
        "webhooks",
        "Send outcomes to a receiver such as a CRM, and look after those that it did not take.",
    ),
    LazyCommand("log", "Read and prove the decision log, and replay decisions."),
    LazyCommand("audit", "Show who changed what, and prove that nothing was taken out."),
    LazyCommand("rules", "Check the rule set."),
    LazyCommand("store", "Check the store, say what it holds, load and export features."),
    LazyCommand("train", "Train, calibrate, measure, export and register a model on a table of your own."),
    LazyCommand(
        "retrain", "Train a challenger on logged decisions and what came of them, if it passes the gates."
    ),
    LazyCommand("models", "List, verify, compare, promote, roll out and carry published models."),
    LazyCommand("drift", "Show what has changed in inputs, scores and actions, and declare what is normal."),
    LazyCommand("loadtest", "Measure a server under load, report, and compare runs."),
    LazyCommand("status", "Show in one look how a server stands, and what is wrong."),
    LazyCommand("top", "Watch a server at work: calls, latency, sheds, processes, the slowest step."),
    LazyCommand("settings", "Show every setting: its value, where it comes from, and what it is for."),
    LazyCommand("version", "Show the version of the engine."),
)
"""Each is `app` of the module of that name in this package, imported when it is called."""


class Commands(LazyGroup):
    """The commands above."""

    lazily = COMMANDS


app = typer.Typer(
    name="arbiter",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 fine, 2 wrong usage, 3 errors in the input, 4 a check failed, 5 no server, "
    "130 interrupted.",
)


@app.callback()
def arbiter() -> None:
    """Next-best-action decisions: which action, and why."""
