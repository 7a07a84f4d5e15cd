"""`python -m loadtest`: the same as `arbiter loadtest`."""

from loadtest.cli import app

app()
