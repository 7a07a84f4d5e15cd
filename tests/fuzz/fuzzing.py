"""`python tests/fuzz/fuzzing.py --inputs 1000000`: every surface, with its counts, time and findings."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # as pytest finds them
    sys.path[:0] = [str(REPOSITORY / part) for part in ("", "tests", "tests/engine/ruleset")]

import structlog
from arbiter_at_work import DemoCompany, RunningServer, settings_for
from files_fuzzed import surfaces as file_surfaces
from requests_fuzzed import Requests, Texts
from surfaces import Counts, Surface, fuzz
from wire_fuzzed import Port, Served, WireRequests, slow_clients

from engine.bootstrap import open_application
from engine.demo.company import load_company

FUZZED, WITNESS = "F0001", "W0001"
SHARES = {
    "requests: changed bytes": 0.40,
    "requests: hostile texts": 0.18,
    "tokens": 0.10,
    "token claims": 0.06,
    "roles files": 0.06,
    "key files": 0.06,
    "feature schemas": 0.02,
    "manifests": 0.04,
    "conditions": 0.02,
    "client certificates": 0.025,
    "rule files": 0.005,
    "wire: messages and metadata": 0.025,
    "port: raw bytes": 0.005,
}
"""Of all inputs: fewer where one takes longer."""
SLOW_CLIENTS = 200


@contextmanager
def every_surface(folder: Path) -> Iterator[list[Surface]]:
    """The surfaces, over the demo company in a folder, and a server over a company of its own."""
    here, there = folder / "here", folder / "there"
    for data_dir in (here, there):
        data_dir.mkdir()
        load_company(settings_for(data_dir))
    with ExitStack() as stack:
        application = stack.enter_context(open_application(settings_for(here)))
        for model, customer_id in (("C0131", FUZZED), ("C0133", WITNESS)):
            DemoCompany(application.store).copy_customer(model, customer_id)
        requests = Requests(application, FUZZED, WITNESS)
        server = RunningServer(there, [], {"ARBITER_LOG_LEVEL": "warning"})
        stack.callback(server.kill)
        server.wait_until_serving()
        served = Served(server)
        stack.enter_context(slow_clients(served, SLOW_CLIENTS))
        yield [
            requests,
            Texts(application, FUZZED, WITNESS),
            *file_surfaces(),
            WireRequests(served, requests.messages),
            Port(served),
        ]


def run(inputs: int, seed: int, *, only: str = "") -> list[Counts]:
    """Fuzzes every surface with its share of the inputs, and prints what came of it."""
    done: list[Counts] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, every_surface(Path(folder)) as surfaces:
        for surface in surfaces:
            if any(part in surface.name for part in only.split(",")):
                counts = fuzz(surface, max(1, round(inputs * SHARES[surface.name])), seed)
                done.append(counts)
                print(line(counts), flush=True)
    return done


def line(counts: Counts) -> str:
    """A surface in a line, and its findings below."""
    became = ", ".join(f"{what} {many:,}" for what, many in counts.became.most_common())
    head = f"{counts.surface:28} {counts.inputs:>9,} inputs {counts.seconds:7.1f} s"
    told = f"{head}  slowest {counts.slowest_ms:6.1f} ms  findings {len(counts.findings)}  [{became}]"
    return "\n".join((told, *(f"    {finding}" for finding in counts.findings)))


def main() -> int:
    """Ends with 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="surfaces whose names hold one of these, parted by commas")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    began = time.perf_counter()
    done = run(given.inputs, given.seed, only=given.only)
    findings = sum(len(counts.findings) for counts in done)
    inputs = sum(counts.inputs for counts in done)
    print(f"{inputs:,} inputs, {findings} findings, {time.perf_counter() - began:.0f} s, seed {given.seed}")
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    told = {counts.surface: {"inputs": counts.inputs, "became": counts.became} for counts in done}
    (build / "fuzz.json").write_text(json.dumps({"findings": findings, "surfaces": told}, indent=2))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
