"""The contract in proto/: generated code is what it says, and everything in it is documented."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from arbiter_at_work import REPOSITORY
from google.protobuf import descriptor_pb2
from google.rpc import status_pb2
from grpc_tools import protoc

PROTO = REPOSITORY / "proto"
STUBS = REPOSITORY / "engine" / "_pb"
FileDescriptor = descriptor_pb2.FileDescriptorProto


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptor]:
    """Descriptors of our files, with comments."""
    written = tmp_path_factory.mktemp("contract") / "set.binpb"
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    includes = (PROTO, Path(protoc.__file__).parent / "_proto", Path(status_pb2.__file__).parents[2])
    arguments = [*(f"-I{path}" for path in includes), "--include_source_info"]
    assert protoc.main(["protoc", *arguments, f"--descriptor_set_out={written}", *sources]) == 0
    return list(descriptor_pb2.FileDescriptorSet.FromString(written.read_bytes()).file)


def test_generated_code_is_what_proto_says(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    subprocess.run([sys.executable, PROTO / "generate.py", tmp_path], check=True, timeout=60)

    def modules(root: Path) -> dict[str, str]:
        return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py")}

    assert modules(tmp_path) == modules(STUBS)


def _named(file: FileDescriptor) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path in the descriptor and name of everything that a reader may look up."""
    for m, message in enumerate(file.message_type):
        yield (4, m), message.name
        yield from (((4, m, 2, f), f"{message.name}.{field.name}") for f, field in enumerate(message.field))
        assert [n for n in message.nested_type if not n.options.map_entry] == [], "look into nested messages"
        assert list(message.enum_type) == [], "look into nested enums"
    for e, enum in enumerate(file.enum_type):
        yield (5, e), enum.name
        yield from (((5, e, 2, v), f"{enum.name}.{value.name}") for v, value in enumerate(enum.value))
    for s, service in enumerate(file.service):
        yield (6, s), service.name
        yield from (((6, s, 2, r), f"{service.name}.{rpc.name}") for r, rpc in enumerate(service.method))


def test_everything_in_the_contract_has_a_comment(contract: list[FileDescriptor]) -> None:
    """Messages, fields, enum values and calls are all explained where they are declared."""
    silent = []
    for file in contract:
        told = {
            tuple(location.path)
            for location in file.source_code_info.location
            if (location.leading_comments or location.trailing_comments).strip()
        }
        silent += [f"{file.name}: {name}" for path, name in _named(file) if path not in told]

    assert silent == []


def test_every_enum_starts_with_unspecified(contract: list[FileDescriptor]) -> None:
    """Zero is never a meaning, and values carry the name of their enum."""
    for file in contract:
        for enum in file.enum_type:
            prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name).lstrip("_")
            assert (enum.value[0].name, enum.value[0].number) == (f"{prefix}_UNSPECIFIED", 0)
            assert all(value.name.startswith(f"{prefix}_") for value in enum.value)
