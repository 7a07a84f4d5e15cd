"""`arbiter loadtest`: the load test has its own package, which knows the contract alone."""

from engine.cli.console import EXIT_ERRORS, fail

try:
    from loadtest.cli import app
except ImportError as error:
    fail(f"the load test needs {error.name}: pip install 'arbiter-nba[loadtest]'", EXIT_ERRORS)

__all__ = ["app"]
