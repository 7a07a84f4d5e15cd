"""One ONNX model ready to run: checked against what the engine expects of it, one thread, no surprises."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from engine.core.scoring import ScoringError
from engine.models.errors import ModelRefused
from engine.models.onnx_format import FormatRefused, check_model
from engine.models.trees import Floats, Rows

INPUT = "input"
MARGIN = "margin"
PROBABILITY = "probability"
_LOG_NOTHING = 4  # what the runtime would print is told by our own errors
_LONGEST_WORDS = 240


class OnnxModel:
    """A session that scores rows. Its methods may be called from several threads at once.

    Create it after a process was forked or spawned, never before.
    """

    def __init__(
        self, content: bytes, *, name: str, input_count: int, score_output: str = PROBABILITY
    ) -> None:
        """Loads verified bytes. Raises ModelRefused where they are not a model that fits.

        `score_output` is the output beside the margin: a classifier's probability, or what its kind says.
        """
        self._name = name
        self._score_output = score_output
        self._input_count = input_count
        try:
            check_model(content)
            self._session = _session(content)
        except FormatRefused as error:
            raise ModelRefused(name, cause=f"model.onnx: {error}") from error
        except Exception as error:  # the runtime's own errors share no base class
            raise ModelRefused(name, cause=f"model.onnx: {_first_line(error)}") from error
        self._check_input()
        self._check_outputs()

    @property
    def name(self) -> str:
        """The model's name in the registry."""
        return self._name

    def probability(self, rows: Rows) -> Floats:
        """Calibrated probability of each row, float64 of shape (n,). Raises ScoringError."""
        (probability,) = self._run([self._score_output], rows)
        return probability

    def margin_and_score(self, rows: Rows) -> tuple[Floats, Floats]:
        """Raw margin and score of each row, shape (n,) each: of a classifier log-odds and probability.

        Raises ScoringError.
        """
        margin, score = self._run([MARGIN, self._score_output], rows)
        return margin, score

    def _run(self, outputs: list[str], rows: Rows) -> list[Floats]:
        if rows.ndim != 2 or rows.shape[1] != self._input_count or rows.dtype != np.float32:
            cause = f"rows are {rows.dtype} {rows.shape}, not float32 (n, {self._input_count})"
            raise ScoringError(self._name, cause)
        try:
            found = self._session.run(outputs, {INPUT: rows})
        except Exception as error:  # the runtime's own errors share no base class
            raise ScoringError(self._name, _first_line(error)) from error
        return [
            _checked(self._name, output, array, len(rows))
            for output, array in zip(outputs, found, strict=True)
        ]

    def _check_input(self) -> None:
        inputs = self._session.get_inputs()
        if [i.name for i in inputs] != [INPUT]:
            self._refuse(f"its inputs are {[i.name for i in inputs]}; one named {INPUT!r} is expected")
        shape = inputs[0].shape
        free_rows = len(shape) == 2 and not isinstance(shape[0], int)
        if inputs[0].type != "tensor(float)" or not free_rows or shape[1] != self._input_count:
            self._refuse(
                f"its input is {inputs[0].type} {shape}; float32 (any, {self._input_count}) is expected, "
                "as the manifest lists that many inputs"
            )

    def _check_outputs(self) -> None:
        outputs = {o.name: o for o in self._session.get_outputs()}
        for name in (MARGIN, self._score_output):
            if name not in outputs:
                self._refuse(f"it has no output {name!r}, only {sorted(outputs)}")
            shape = outputs[name].shape
            one_a_row = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
            if outputs[name].type != "tensor(float)" or not one_a_row:
                self._refuse(f"its output {name} is {outputs[name].type} {shape}, not one float32 a row")

    def _refuse(self, cause: str) -> None:
        raise ModelRefused(self._name, cause=f"model.onnx: {cause}")


class OnnxLink:
    """The steps of a model from its trees' sum to the score, as onnxruntime runs them. Safe for threads."""

    def __init__(self, content: bytes, *, name: str, score_output: str = PROBABILITY) -> None:
        """`content` is `OnnxParts.rest` of a model that loads. Raises ModelRefused."""
        self._name = name
        self._outputs = [score_output]
        try:
            self._session = _session(content)
        except Exception as error:  # the runtime's own errors share no base class
            raise ModelRefused(name, cause=f"model.onnx: {_first_line(error)}") from error

    def scores(self, margins: Floats) -> Floats:
        """The score of each margin, float64 of shape (n,). Raises ScoringError."""
        try:
            (found,) = self._session.run(self._outputs, {MARGIN: margins.astype(np.float32)[:, None]})
        except Exception as error:  # the runtime's own errors share no base class
            raise ScoringError(self._name, _first_line(error)) from error
        return _checked(self._name, self._outputs[0], found, len(margins))


def _checked(name: str, output: str, array: npt.NDArray[np.float32], count: int) -> Floats:
    """One finite number a row, shape (count,). Raises ScoringError."""
    if array.size != count:
        raise ScoringError(name, f"{output} has shape {array.shape} for {count} rows")
    values: Floats = array.reshape(count).astype(np.float64)
    if not np.isfinite(values).all():
        raise ScoringError(name, f"{output} is not a finite number")
    return values


def _session(content: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(
        content, sess_options=_options(), providers=["CPUExecutionProvider"], enable_fallback=0
    )


def _options() -> ort.SessionOptions:
    """One thread, run inline: a run takes microseconds, and a process serves one core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _LOG_NOTHING
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _first_line(error: Exception) -> str:
    """The runtime's words in one line; of long ones, which name its own sources, beginning and end."""
    lines = str(error).strip().splitlines()
    words = lines[0] if lines else type(error).__name__
    if len(words) <= _LONGEST_WORDS:
        return words
    return f"{words[: _LONGEST_WORDS // 3]} ... {words[-_LONGEST_WORDS * 2 // 3 :]}"


ort.disable_telemetry_events()  # process-wide, and nothing of a decision may leave the machine
