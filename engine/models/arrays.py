"""Reading `.npz` files of a model version: named arrays, checked, and nothing executable."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engine.models.errors import ModelRefused


def read_arrays(
    content: bytes, *, names: Sequence[str], model: str, filename: str
) -> Mapping[str, npt.NDArray[np.generic]]:
    """The named numeric arrays. Raises ModelRefused where the file is damaged or lacks one."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in names}
    except KeyError as error:
        raise ModelRefused(model, cause=f"{filename} lacks an array: {error.args[0]}") from error
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelRefused(model, cause=f"{filename} is not a file of numeric arrays: {error}") from error
    odd = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if odd:
        raise ModelRefused(model, cause=f"{filename}: {', '.join(odd)} is not numeric")
    return arrays
