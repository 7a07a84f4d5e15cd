"""`python -m engine` is `arbiter`."""

from engine.cli import main

main()
