"""The command `arbiter`."""

from engine.cli.app import main

__all__ = ["main"]
