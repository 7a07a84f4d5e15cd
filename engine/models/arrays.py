"""Reading `.npz` files of a model version: named arrays, checked, and nothing executable.

NumPy's own reader believes a file's header about sizes, and reserves that much memory before it reads. Here
nothing larger is made than what the file really holds, and a file may unpack to so many bytes only.
"""

from __future__ import annotations

import ast
import io
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from engine.models.errors import ModelRefused

MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
"""Largest array file unpacked: as much as a file of a version may hold packed."""
MAX_ARRAYS: Final = 64
MAX_DIMENSIONS: Final = 4
MAX_HEADER_BYTES: Final = 4096
_NUMERIC: Final = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248])")
_MAGIC: Final = b"\x93NUMPY"
_SUFFIX: Final = ".npy"
_UNREADABLE: Final = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # a compression this Python has not
    MemoryError,
    RecursionError,
    SyntaxError,  # a header that is no Python literal
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(
    content: bytes, *, names: Sequence[str], model: str, filename: str
) -> Mapping[str, npt.NDArray[np.generic]]:
    """The named numeric arrays. Raises ModelRefused where the file is damaged or lacks one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_size(archive)
            return {name: _array(archive, name) for name in names}
    except KeyError as error:
        lacking = ", ".join(sorted(set(names) - set(array_names(content))))
        raise ModelRefused(model, cause=f"{filename} lacks an array: {lacking}") from error
    except _UNREADABLE as error:
        raise ModelRefused(model, cause=f"{filename} is not a file of numeric arrays: {error}") from error


def array_names(content: bytes) -> tuple[str, ...]:
    """Names of the arrays in a file; none where it is no such file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return tuple(n.removesuffix(_SUFFIX) for n in archive.namelist() if n.endswith(_SUFFIX))
    except _UNREADABLE:
        return ()


def _check_size(archive: zipfile.ZipFile) -> None:
    """Raises ValueError where a file holds too many arrays, one twice, or unpacks to too much."""
    members = archive.infolist()
    if len(members) > MAX_ARRAYS or len({m.filename for m in members}) != len(members):
        raise ValueError(
            f"it holds {len(members)} arrays, or one of them twice; at most {MAX_ARRAYS} are read"
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise ValueError(f"it unpacks to {unpacked} bytes; at most {MAX_UNPACKED_BYTES} are read")


def _array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[np.generic]:
    """One array; its header must describe exactly the bytes that follow it."""
    content = archive.read(name + _SUFFIX)  # no more than the size checked above
    if content[: len(_MAGIC)] != _MAGIC or content[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise ValueError(f"{name} does not begin as an array of format 1 or 2 does")
    start = 10 if content[6] == 1 else 12
    data = start + int.from_bytes(content[8:start], "little")
    header = ast.literal_eval(content[start : min(data, MAX_HEADER_BYTES)].decode("latin-1").strip())
    dtype, shape, order = _described(header, name)
    if math.prod(shape) * dtype.itemsize != len(content) - data:
        raise ValueError(
            f"{name} is said to have shape {shape} of {dtype}, and holds {len(content) - data} bytes"
        )
    return np.frombuffer(content, dtype=dtype, offset=data).reshape(shape, order=order)


def _described(header: object, name: str) -> tuple[np.dtype[np.generic], tuple[int, ...], Literal["C", "F"]]:
    """Type, shape and order of an array. Raises ValueError where it is none of numbers."""
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"{name} has no header of an array")
    shape, kind = header["shape"], header["descr"]
    if not isinstance(kind, str) or not _NUMERIC.fullmatch(kind):
        raise ValueError(f"{name} is not numeric")
    sized = isinstance(shape, tuple) and len(shape) <= MAX_DIMENSIONS
    if not sized or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{name} has no shape of an array")
    return np.dtype(kind), shape, "F" if header["fortran_order"] else "C"
