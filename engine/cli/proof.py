"""What `verify` says of a log: what was checked, until when it is proven, every damage and what it means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from engine.cli.console import EXIT_FAILED, effective_settings, err, out, print_document, setup_errors
from engine.cli.options import DataDir
from engine.decisionlog.verifying import Finding, Verification, Witness, verify
from engine.logfiles import checkpoints_of, log_directory

_WITNESS: Final = re.compile(r"([0-9]+):([0-9a-f]{8,64})")
_SHOWN_DIGEST: Final = 16

Witnessed = Annotated[
    str | None,
    typer.Option(
        "--witness", help="Checkpoint that was written down earlier, NUMBER:DIGEST, as verify prints it."
    ),
]


def prove(logs: Sequence[str], *, data_dir: DataDir, witness: str | None, as_json: bool) -> None:
    """Verifies logs of the data directory; the witness is of the first. Ends with 4 where one is damaged."""
    expected = _witness(witness)
    settings = effective_settings(data_dir=data_dir, log_level="error")
    checked = {}
    with setup_errors():
        for place, log in enumerate(logs):
            checkpoints = checkpoints_of(settings, log)
            expected_here = expected if place == 0 else None
            checked[log] = verify(log_directory(settings, log), checkpoints, witness=expected_here)
    whole = all(found.is_whole for found in checked.values())
    if as_json:
        print_document({"whole": whole, "logs": {log: document(found) for log, found in checked.items()}})
    else:
        for log, found in checked.items():
            _tell(log, found)
    if not whole:
        raise typer.Exit(EXIT_FAILED)


def _witness(text: str | None) -> Witness | None:
    if text is None:
        return None
    match = _WITNESS.fullmatch(text)
    if match is None:
        raise typer.BadParameter("write NUMBER:DIGEST, as verify prints it", param_hint="--witness")
    return Witness(int(match[1]), match[2])


def instant(at_ms: int | None) -> str | None:
    """An instant as text, to the second, UTC."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def document(found: Verification) -> dict[str, object]:
    """The report as `--json` prints it."""
    last = found.last
    return {
        "whole": found.is_whole,
        "directory": str(found.directory),
        "segments": found.segments,
        "records": found.records,
        "erased": found.erased,
        "unchainedSegments": found.unchained_segments,
        "unchainedRecords": found.unchained_records,
        "tornBytes": found.torn_bytes,
        "checkpoints": {
            "file": str(found.checkpoints_path),
            "count": found.checkpoints,
            "last": None if last is None else f"{last.number}:{last.digest}",
            "lastTime": None if last is None else instant(last.at_ms),
            "authenticated": found.authenticated,
        },
        "provenUntil": instant(found.proven_until_ms),
        "unprovenRecords": found.unproven_records,
        "findings": [_finding(finding) for finding in found.all_findings],
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "kind": str(finding.kind),
        "file": str(finding.path),
        "offset": finding.offset,
        "meaning": finding.meaning,
        "detail": finding.detail,
        "time": instant(finding.at_ms),
    }


def _tell(log: str, found: Verification) -> None:
    for finding in found.all_findings:
        since = f" ({instant(finding.at_ms)})" if finding.at_ms is not None else ""
        detail = f"; {finding.detail}" if finding.detail else ""
        err.print(
            f"{finding.path}: byte {finding.offset}: {finding.kind}: {finding.meaning}{since}{detail}",
            markup=False,
            soft_wrap=True,
        )
    lines = [
        f"{log}: {'whole' if found.is_whole else 'NOT WHOLE'}: {found.records} records in "
        f"{found.segments} segments, {found.erased} of them erased by right",
        *_proven(found),
    ]
    if found.unchained_records:
        lines.append(
            f"  not chained: {found.unchained_records} records in {found.unchained_segments} segments that "
            "an earlier engine wrote; only their checksums were checked"
        )
    if found.torn_bytes:
        lines.append(
            f"  torn: {found.torn_bytes} bytes at the ends of files whose writer died; nobody was told they "
            "were recorded"
        )
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _proven(found: Verification) -> list[str]:
    last = found.last
    if last is None or found.proven_until_ms is None:
        return [
            f"  no checkpoint in {found.checkpoints_path}: the chain is checked, but a cut end or a chain "
            "made anew would not show"
        ]
    lines = [
        f"  proven until {instant(found.proven_until_ms)} by {found.checkpoints} checkpoints, "
        f"{_sealed(found.authenticated)}; write the last one down elsewhere: "
        f"{last.number}:{last.digest[:_SHOWN_DIGEST]}"
    ]
    if found.unproven_records:
        lines.append(
            f"  {found.unproven_records} records came after that: they are chained, but if more of them had "
            "been cut off it would not show"
        )
    return lines


def _sealed(authenticated: bool | None) -> str:
    if authenticated is None:
        return "not sealed by a key"
    return "sealed by the key" if authenticated else "NOT sealed by this key"
