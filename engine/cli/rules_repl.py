"""`arbiter rules repl`: evaluate expressions against a real customer, or one of a suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from typing import Annotated

import typer

from engine.bootstrap import wall_clock_ms
from engine.cli.console import EXIT_ERRORS, effective_settings, err, fail, out, setup_errors
from engine.cli.options import DataDir, Registry, Rules
from engine.cli.values import listed
from engine.core.scoring import Scorer
from engine.core.snapshot import Snapshot
from engine.errors import SetupInvalid
from engine.rulefiles import read_files
from engine.ruleset.diagnostics import RuleSetInvalid, render
from engine.schemas_kept import schema_versions
from engine.settings import Settings
from engine.snapshots import compile_snapshot
from engine.stores import open_store
from engine.suites.asking import Question
from engine.suites.cases import fixture_customer, read_suites
from engine.suites.documents import Given
from engine.suites.facts import Facts
from engine.suites.scores import TableScorer
from engine.suites.wrong import FactWrong
from feature_store.errors import StoreError
from feature_store.schema import FeatureSchema
from feature_store.state import CustomerState


def register(app: typer.Typer) -> None:
    """Adds the command to `arbiter rules`."""
    app.command(name="repl")(repl)


def repl(
    customer: Annotated[
        str, typer.Option(help="Customer id of the data directory, or with --fixture a suite's customer.")
    ],
    fixture: Annotated[bool, typer.Option("--fixture", help="Take the customer from rules/suites.")] = False,
    suite: Annotated[
        str, typer.Option(help="With --fixture: the suite, by name or file, where several have the customer.")
    ] = "",
    channel: Annotated[str, typer.Option(help="Channel of the moment.")] = "web",
    placement: Annotated[str, typer.Option(help="Placement on the channel.")] = "",
    context: Annotated[
        list[str] | None, typer.Option(help="A fact of the moment as NAME=VALUE; may be given several times.")
    ] = None,
    now: Annotated[datetime | None, typer.Option(help="Instant, UTC; by default the present.")] = None,
    action: Annotated[str, typer.Option(help="Action that action.* and scores.propensity are of.")] = "",
    file: Annotated[str, typer.Option(help="Rule file whose constants and variables count.")] = "",
    expression: Annotated[
        str | None, typer.Option("--eval", help="Evaluate this and end, without a prompt.")
    ] = None,
    data_dir: DataDir = None,
    rules: Rules = None,
    registry: Registry = None,
) -> None:
    """Evaluate expressions against a customer and print the tree of values."""
    if suite and not fixture:
        raise typer.BadParameter("names the suite of a --fixture", param_hint="--suite")
    settings = effective_settings(data_dir=data_dir, rules=rules, registry=registry, log_level="warning")
    with setup_errors():
        snapshot = compile_snapshot(read_files(settings), settings.registry)
        facts = _fixture(settings, snapshot, customer, suite) if fixture else None
        if facts is not None and (facts.churn is not None or facts.propensity):
            snapshot = replace(snapshot, scorer=_scores(facts))
        state = _stored(settings, snapshot.schema, customer) if facts is None else facts.state()
        moment = facts or Facts(snapshot.rulebook, snapshot.schema, wall_clock_ms(), customer=customer)
        _set_moment(moment, channel=channel, placement=placement, context=context or (), now=now)
        question = Question(snapshot, moment.request(), state, now_ms=moment.now_ms, file=file)
    if action and question.look_at(action).startswith("unknown"):
        fail(question.look_at(action), EXIT_ERRORS)
    if expression is not None:
        sys.stdout.write(question.evaluate(expression) + "\n")
        raise typer.Exit(EXIT_ERRORS if question.problems(expression) else 0)
    _converse(question, customer)


def _scores(facts: Facts) -> Scorer:
    """The scores a fixture gives itself, in place of the models'."""
    return TableScorer(actions=facts.rulebook.actions, churn=facts.churn, propensity=facts.propensity)


def _set_moment(
    facts: Facts, *, channel: str, placement: str, context: Sequence[str], now: datetime | None
) -> None:
    try:
        facts.set("channel", channel)
        facts.set("placement", placement)
        for item in context:
            name, _, text = item.partition("=")
            facts.set(f"context.{name}", _plain(text))
        if now is not None:
            facts.set("now", now.isoformat())
        facts.check()
    except FactWrong as wrong:
        fail(f"{wrong.message}; {wrong.advice}".rstrip("; "), EXIT_ERRORS)


def _plain(text: str) -> Given:
    """A value by how it looks: true and false, a number, a list or map as JSON has it, else text."""
    found = listed(text)
    if isinstance(found, dict):
        return found
    if found is not None:
        return tuple(found)
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _stored(settings: Settings, schema: FeatureSchema, customer: str) -> CustomerState:
    """The customer as the store holds it, read in today's schema. Raises SetupInvalid."""
    try:
        store = open_store(settings, patient=True)
        try:
            state = store.read(customer)
            if state is not None:
                now_ms = wall_clock_ms()
                state = schema_versions(settings, store).state(state, schema, now_ms=now_ms)
        finally:
            store.close()
    except StoreError as error:
        raise SetupInvalid(str(error)) from error
    if state is None:
        raise SetupInvalid(f"{settings.data_dir}: no customer {customer!r}; `arbiter demo` loads the demo's")
    if state.features is not None and state.features.schema_version != schema.digest:
        err.print(
            f"features of {customer} are of a schema that is not kept, {state.features.schema_version}: "
            "they count as missing; load them again",
            markup=False,
            soft_wrap=True,
        )
    return state


def _fixture(settings: Settings, snapshot: Snapshot, name: str, suite: str) -> Facts:
    """The customer of a suite. Raises SetupInvalid."""
    try:
        sources = read_suites(settings.rules)
    except RuleSetInvalid as error:
        raise SetupInvalid(str(error)) from error
    facts, problems = fixture_customer(sources or {}, name, snapshot.rulebook, snapshot.schema, suite=suite)
    if problems:
        raise SetupInvalid(render(problems))
    if facts is None:
        where = f"suite {suite!r}" if suite else "suite"
        raise SetupInvalid(f"{settings.rules}: no {where} has a customer {name!r}")
    return facts


def _converse(question: Question, customer: str) -> None:
    """Asks until the end of input; lines can be edited and called back where the terminal allows it."""
    with suppress(ImportError):  # not on every platform; gives input() line editing and history
        import_module("readline")
    out.print(f"{customer}; :help helps, Ctrl-D ends")
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            out.print()
            return
        if line.strip() == ":quit":
            return
        if answer := question.answer(line):
            sys.stdout.write(answer + "\n")
