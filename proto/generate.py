"""Generates the Python stubs of proto/ into engine/_pb; run with `make proto`, commit the result."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
PACKAGE = "engine._pb"
_BESIDE = Path(sys.executable).parent
"""Where the plugins of protoc are: beside this Python, whatever the PATH."""
HEADER = '"""Generated from proto/ by `make proto`; do not edit."""\n'


def generate(target: Path) -> None:
    """Writes stubs and type stubs below `target`, importable as `engine._pb.arbiter.v1.*`."""
    sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    includes = [f"-I{PROTO}", f"-I{_well_known_types()}", f"-I{_google_apis()}"]
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    plugins = [
        f"--plugin=protoc-gen-{name}={_BESIDE / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")
    ]
    if protoc.main(["protoc", *includes, *plugins, *outputs, *sources]) != 0:
        raise SystemExit("protoc failed; see its messages above")
    for written in (p for p in target.rglob("*") if p.suffix in (".py", ".pyi")):
        written.write_text(_in_package(written.read_text()))
    for folder in (target, target / "arbiter", target / "arbiter" / "v1"):
        (folder / "__init__.py").write_text(HEADER)


def _in_package(text: str) -> str:
    """The same module, importing its siblings from the package they live in."""
    text = re.sub(r"^from arbiter\.", f"from {PACKAGE}.arbiter.", text, flags=re.MULTILINE)
    text = re.sub(r"^import arbiter\.", f"import {PACKAGE}.arbiter.", text, flags=re.MULTILINE)
    return re.sub(r"(?<![\w./'])arbiter\.v1\.(\w+_pb2)\b", rf"{PACKAGE}.arbiter.v1.\1", text)


def _well_known_types() -> Path:
    return Path(protoc.__file__).parent / "_proto"


def _google_apis() -> Path:
    from google.rpc import status_pb2

    return Path(status_pb2.__file__).parents[2]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO.parent / "engine" / "_pb"
        generate(Path(scratch))
        for new in Path(scratch).rglob("*.py*"):
            place = target / new.relative_to(scratch)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(new.read_bytes())
