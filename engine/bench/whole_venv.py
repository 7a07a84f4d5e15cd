"""The environment of the stack of well-known parts: made on first use, in build/."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.bench.parts import PartMissing

REQUIREMENTS: Final = Path(__file__).parent / "whole_parts" / "requirements.txt"
FOLDER: Final = Path("build/parts-venv")
_MADE_OF: Final = "made-of.txt"


def parts_python(folder: Path = FOLDER) -> Path:
    """The interpreter that has the parts; installs them where they are not, or not these.

    Raises PartMissing where they cannot be installed.
    """
    python, mark = folder / "bin" / "python", folder / _MADE_OF
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if python.exists() and mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return python.absolute()
    sys.stderr.write(
        f"installing the parts that Arbiter is compared with into {folder}; once, some minutes\n"
    )
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(REQUIREMENTS)])
    mark.write_text(wanted, encoding="utf-8")
    return python.absolute()


def _run(command: Sequence[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
    if ran.returncode:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        raise PartMissing(f"the parts that Arbiter is compared with cannot be installed: {last[0]}")
