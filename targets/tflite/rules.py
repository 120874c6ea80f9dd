"""What every operator of a finished file must keep to: a sentence a rule, and the check of it.

Most of this the runtime does not look at when it loads a file: it would compute something else, or
leave XNNPACK, without a word.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.targets.tflite.operator_table import Form, Role, Row
from qcompile.targets.tflite.reading import Operator, Tensor
from qcompile.targets.tflite.schema import schema
from qcompile.targets.tflite.shapes import SHAPES, Operands

Found = Iterator[tuple[Tensor | None, str]]
"""Tensor that breaks a rule (None: the operator itself), and how."""

QUANTIZED: Final = frozenset({"int8", "uint8", "int16", "int4", "int2"})
"""Element types that stand for real numbers when they are data or weights."""

_CLOSE: Final = 1e-6
"""How near to s_x * s_w, relative, the scale of a bias must be: one rounding in float32."""


@dataclass(frozen=True, eq=False)
class Seen:
    """An operator with its operands and its row of the table."""

    operator: Operator
    row: Row
    form: Form | None
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    runtime: str

    def with_role(self, role: Role) -> list[Tensor]:
        """Inputs of a role that are there, in order."""
        return [
            tensor
            for index, tensor in enumerate(self.inputs)
            if tensor is not None and self.row.role(index) == role
        ]

    @property
    def data(self) -> list[Tensor]:
        """The data that go in and come out."""
        made = [t for i, t in enumerate(self.outputs) if self.row.output_role(i) == "data"]
        return [*self.with_role("data"), *made]

    @property
    def integers(self) -> list[Tensor]:
        """Data that stand for real numbers."""
        return [tensor for tensor in self.data if tensor.dtype in QUANTIZED]

    @property
    def is_integer(self) -> bool:
        """Whether all data are integers that stand for real numbers."""
        return len(self.integers) == len(self.data) > 0


def _has_form(seen: Seen) -> Found:
    if seen.form is None:
        given = " ".join("-" if t is None else t.dtype for t in seen.inputs)
        yield None, f"{given} -> {' '.join(t.dtype for t in seen.outputs)}"


def _has_version(seen: Seen) -> Found:
    newest = seen.row.newest.get(seen.runtime, min(seen.row.newest.values()))
    if not 1 <= seen.operator.version <= newest:
        known = f"{seen.runtime} knows 1 to {newest}"
        yield None, f"version {seen.operator.version}, {known}"


def _constants_are_there(seen: Seen) -> Found:
    for tensor in seen.with_role("constant"):
        if not tensor.is_constant:
            yield tensor, "it is computed"


def _integers_have_scales(seen: Seen) -> Found:
    operands = [*seen.integers, *(w for w in seen.with_role("weight") if w.dtype in QUANTIZED)]
    if seen.is_integer:
        operands += seen.with_role("bias")
    for tensor in operands:
        if tensor.quantization is None:
            yield tensor, f"{tensor.dtype} without a scale"


def _scales_a_tensor(seen: Seen) -> Found:
    for tensor in seen.data:
        if seen.operator.name == "DEQUANTIZE" and tensor.is_constant:
            continue  # weights that are only stored small
        if tensor.quantization is not None and tensor.quantization.scale.size > 1:
            yield tensor, f"{tensor.quantization.scale.size} scales"


def _scales_a_channel(seen: Seen) -> Found:
    for role, axis in (("weight", seen.row.weight_axis), ("bias", 0)):
        for tensor in seen.with_role(role):  # type: ignore[arg-type]
            q = tensor.quantization
            if q is not None and q.scale.size > 1 and q.axis != axis:
                yield tensor, f"along axis {q.axis}, not {axis}"


def _symmetric_constants(seen: Seen) -> Found:
    for tensor in (*seen.with_role("weight"), *seen.with_role("bias")):
        q = tensor.quantization
        if (
            q is not None
            and tensor.dtype in {*QUANTIZED, "int32", "int64"}
            and np.any(q.zero_point)
        ):
            yield tensor, f"zero point {q.zero_point[np.flatnonzero(q.zero_point)[0]]}"


def _symmetric_int16(seen: Seen) -> Found:
    for tensor in seen.data:
        q = tensor.quantization
        if tensor.dtype == "int16" and q is not None and np.any(q.zero_point):
            yield tensor, f"zero point {q.zero_point[0]}"


def _bias_scale(seen: Seen) -> Found:
    weights, biases, data = seen.with_role("weight"), seen.with_role("bias"), seen.integers
    if not (weights and biases and data and seen.is_integer):
        return
    x, w, b = data[0].quantization, weights[0].quantization, biases[0].quantization
    if x is None or w is None or b is None:
        return
    wanted = x.scale.astype(np.float64) * w.scale.astype(np.float64)
    if b.scale.size != wanted.size:
        yield biases[0], f"{b.scale.size} scales for {wanted.size} of the weights"
        return
    wrong = np.abs(b.scale - wanted) > _CLOSE * wanted
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        yield biases[0], f"{b.scale[at]:.9g} in channel {at}, not {wanted[at]:.9g}"


def _same_parameters(seen: Seen) -> Found:
    first = seen.integers[0].quantization if seen.row.same and seen.integers else None
    for tensor in seen.integers[1:] if first is not None else []:
        q = tensor.quantization
        if q is not None and first is not None and not first.same_as(q):
            yield tensor, f"{_told(tensor)}, not {_told(seen.integers[0])}"


def _fixed_parameters(seen: Seen) -> Found:
    for tensor in seen.outputs:
        wanted, q = seen.row.fixed.get(tensor.dtype), tensor.quantization
        if wanted is None or q is None:
            continue
        if (float(q.scale[0]), int(q.zero_point[0])) != (float(np.float32(wanted[0])), wanted[1]):
            yield tensor, f"{_told(tensor)}, not scale {wanted[0]:.9g} zero point {wanted[1]}"


def _fused(seen: Seen) -> Found:
    number = seen.operator.options.get("fusedActivationFunction", 0)
    kinds = vars(schema().ActivationFunctionType)
    name = next((k for k, v in kinds.items() if v == number and k.isupper()), str(number))
    if name not in seen.row.fused:
        yield None, f"{name}"


def _nonnegative(seen: Seen) -> Found:
    for tensor in seen.with_role("data") if seen.row.nonnegative else []:
        q = tensor.quantization
        if tensor.dtype == "int8" and q is not None and q.zero_point[0] != -128:
            yield tensor, f"zero point {q.zero_point[0]}: integers below it stand for negatives"


def _narrow_int4(seen: Seen) -> Found:
    for tensor in seen.with_role("weight"):
        if tensor.dtype == "int4" and tensor.is_constant and tensor.array.min(initial=0) < -7:
            yield tensor, "a weight of -8"


def ratios(seen: Seen) -> list[float]:
    """Scales of the inputs over the output's, as ``Ratio.of`` of the row counts them."""
    if seen.row.ratio is None or not seen.is_integer:
        return []
    given = [*seen.with_role("data"), *seen.with_role("weight")]
    scales = [t.quantization.scale.astype(np.float64) for t in given if t.quantization is not None]
    result = seen.outputs[0].quantization
    if result is None or len(scales) != len(given):
        return []
    if seen.row.ratio.of == "product":
        largest, least = (np.prod([f(s) for s in scales]) for f in (np.max, np.min))
        return [float(largest / result.scale[0]), float(least / result.scale[0])]
    return [float(s[0] / result.scale[0]) for s in scales]


def _multiplier(seen: Seen) -> Found:
    ratio = seen.row.ratio
    for value in ratios(seen) if ratio is not None and ratio.required else []:
        if ratio is not None and not ratio.low <= value < ratio.high:
            yield seen.outputs[0], f"{value:.6g}"
            return


def _output_shape(seen: Seen) -> Found:
    follows = SHAPES.get(seen.row.shape)
    if follows is None:
        return
    ordered = seen.inputs
    try:
        wanted = follows(Operands(ordered, seen.operator.options))
    except (ValueError, IndexError, KeyError, ZeroDivisionError) as error:
        yield None, f"its operands do not fit: {error}"
        return
    for tensor in seen.outputs:
        if tensor.shape != wanted:
            yield tensor, f"{tensor.shape}, not {wanted}"


def _told(tensor: Tensor) -> str:
    q = tensor.quantization
    assert q is not None
    return f"scale {q.scale[0]:.9g} zero point {q.zero_point[0]}"


RULES: Final[tuple[tuple[str, Callable[[Seen], Found]], ...]] = (
    ("an operator takes the element types of one of its forms", _has_form),
    ("an operator's version is one that min_runtime registers", _has_version),
    ("shapes, axes and paddings are constants", _constants_are_there),
    ("integers that stand for real numbers have a scale, biases too", _integers_have_scales),
    ("activations, and operands of BATCH_MATMUL, have one scale", _scales_a_tensor),
    ("weights have scales along the operator's axis, biases along 0", _scales_a_channel),
    ("weights and biases have zero point 0", _symmetric_constants),
    ("4-bit weights are -7 to 7: built-in kernels misread -8", _narrow_int4),
    ("int16 activations have zero point 0", _symmetric_int16),
    ("a bias has the scale of the data times that of the weights", _bias_scale),
    ("an operator that moves integers has equal parameters on all sides", _same_parameters),
    ("an output has the parameters that its kernel takes for granted", _fixed_parameters),
    ("a fused activation is one that the operator can do", _fused),
    ("a root is taken of integers that stand for no negative number", _nonnegative),
    ("a product of input scales is under 256 times the output's scale", _multiplier),
    ("an output has the shape that follows from the inputs", _output_shape),
)
"""Rules of operators: the sentence is the message, and what the documentation says."""
