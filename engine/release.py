"""What version of the engine this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def engine_version() -> str:
    """Version of the installed package."""
    try:
        return version("arbiter-nba")
    except PackageNotFoundError:
        return "0+unknown"
