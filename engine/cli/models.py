"""`arbiter models`: what is published, whether it is intact and good enough, and which version serves."""

from __future__ import annotations

import typer

from engine.cli import (
    models_archives,
    models_compare,
    models_promote,
    models_rollout,
    models_serving,
    models_show,
)

app = typer.Typer(
    help="List, verify, compare, promote, roll out and carry published models.",
    no_args_is_help=True,
    add_completion=False,
)
models_show.register(app)
models_compare.register(app)
models_promote.register(app)
models_rollout.register(app)
models_serving.register(app)
models_archives.register(app)
