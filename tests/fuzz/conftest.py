"""The rule set that tests of rules share is fuzzed too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "engine" / "ruleset"))
