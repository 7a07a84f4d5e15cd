"""The command `arbiter`."""

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line."""
    try:
        from engine.cli.app import app  # here, so that Ctrl-C during the import ends as quietly as later

        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except UnicodeEncodeError:
        sys.stderr.write("error: an argument holds bytes that are not UTF-8 text\n")
        raise SystemExit(2) from None
