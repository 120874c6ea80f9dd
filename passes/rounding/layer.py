"""What must be known of one layer to choose the integers of its weight."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import (
    LIMITS,
    along_axis,
    is_signed,
    storage_type,
    weight_limits,
    zero_offset,
)
from qcompile.core.numerics.saturation import channels_at_risk, columns, kind_of, sum_limits
from qcompile.core.plan import QuantPlan, ValuePlan
from qcompile.core.target import Saturation, Target
from qcompile.core.units import Unit, output_channel_axis
from qcompile.passes.rounding.bounds import Bounds
from qcompile.passes.rounding.nearest import weight_integers
from qcompile.passes.rounding.weight_matrix import WeightMatrix, weight_matrix

MOST_DEPTH: Final = 8192
"""Most inputs of an output; the Gram matrix of more takes more than half a GiB."""

MOST_BITS: Final = 8
"""Weights of more bits are rounded well enough by the nearest integer."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight to be rounded, as a stack of matrices (groups, K, M)."""

    unit: Unit
    entry: ValuePlan
    """The plan's, with the scales the weight is rounded at."""
    weight: np.ndarray
    """float32, ONNX layout."""
    form: WeightMatrix
    steps: np.ndarray
    """float64: the weight divided by its scale."""
    zero: np.ndarray
    """int64, broadcasts to (groups, K, M)."""
    nearest: np.ndarray
    """float64: the nearest integers, less their zero points."""
    bounds: Bounds
    pairing: str
    """Of the kernel's products, on a target whose sums saturate; else empty."""

    @property
    def depth(self) -> int:
        """K: inputs of an output."""
        return int(self.steps.shape[1])

    @property
    def groups(self) -> int:
        """Groups of channels."""
        return int(self.steps.shape[0])

    @property
    def kernel(self) -> tuple[int, ...]:
        """Extent of the kernel; empty for a matrix product."""
        return self.form.shape[2:] if self.form.op in {"Conv", "ConvTranspose"} else ()

    def stored(self, chosen: np.ndarray) -> np.ndarray:
        """Integers of the weight's shape and storage type, of those less their zero points."""
        integers = (chosen + self.zero).astype(storage_type(self.entry.dtype))
        return self.form.weight(integers)

    def at_risk(self, chosen: np.ndarray, target: Target) -> np.ndarray:
        """Which outputs some activations could make saturate, bool, broadcasts to (groups, M)."""
        if not self.pairing or target.saturation is None:
            return np.zeros((1, 1), np.bool_)
        axis = _channel_axis(self.unit, self.weight.ndim)
        found = channels_at_risk(self.stored(chosen), axis, self.pairing, target.saturation)
        return found.reshape(self.groups, -1)


def layer_of(unit: Unit, plan: QuantPlan, target: Target) -> Layer | str:
    """The layer of a unit with a weight, or why its weight is left to the nearest integers."""
    weight = g.constant(unit.weight)
    assert unit.weight is not None and weight is not None
    entry = plan.values[unit.weight.name or ""]
    form = weight_matrix(unit.node, weight.shape)
    why = _why_not(unit, entry, plan)
    if why or isinstance(form, str):
        return why or str(form)
    assert not isinstance(form, str) and entry.params is not None
    scale, zero = (
        form.matrix(along_axis(vector, entry.axis, weight.ndim))
        for vector in (entry.params.scale, entry.params.zero_point)
    )
    if np.any(scale != scale[:, :1]) or np.any(zero != zero[:, :1]):
        return "its scales do not lie along its outputs"
    if scale.shape[1] > MOST_DEPTH:
        return f"with {scale.shape[1]} inputs an output it is too large"
    nearest = form.matrix(weight_integers(weight, entry, None)) - zero
    pairing = _pairing(unit, entry, weight.shape, target)
    return Layer(
        unit,
        entry,
        weight,
        form,
        form.matrix(weight) / scale.astype(np.float64),
        zero[:, :1],
        nearest.astype(np.float64),
        _bounds(unit, entry, form, zero[:, 0], pairing, target.saturation),
        pairing,
    )


def _why_not(unit: Unit, entry: ValuePlan, plan: QuantPlan) -> str:
    """The reason that lies in the plan; empty when there is none."""
    low, high = LIMITS[entry.dtype]
    if entry.params is None:
        return "it is not quantized"
    if high - low >= 2**MOST_BITS:
        return f"{entry.dtype} is fine enough"
    if entry.rule == "grid":
        return "it lies on its grid already"
    if unit.weight is not None and _readers(unit.weight, plan) != 1:
        return "several layers read it"
    if g.constant(unit.node.inputs[0]) is not None:
        return "its input is constant"
    return ""


def _readers(weight: ir.Value, plan: QuantPlan) -> int:
    """How many quantized nodes read a weight; a float reader keeps the float numbers."""
    return sum(plan.mode(use.node.name) != "float" for use in weight.uses())


def _channel_axis(unit: Unit, rank: int) -> int:
    axis = output_channel_axis(unit.node, rank)
    return rank - 1 if axis is None else axis


def _pairing(unit: Unit, entry: ValuePlan, shape: tuple[int, ...], target: Target) -> str:
    """Which products the kernel adds in too small a type; empty when none."""
    kind = kind_of(unit.node.op_type, shape, g.attribute_int(unit.node, "group", 1))
    if target.saturation is None or kind is None or not is_signed(entry.dtype):
        return ""
    pairing = target.saturation.pairing.get(kind, "any")
    return "" if pairing == "none" else pairing


def _bounds(
    unit: Unit,
    entry: ValuePlan,
    form: WeightMatrix,
    zero: np.ndarray,
    pairing: str,
    saturation: Saturation | None,
) -> Bounds:
    """The integers a weight may take: as many below zero as above where it is symmetric in 8 bits.

    (int8 from -127: TFLite and XNNPACK take no -128.) Which products meet is known for
    ``neighbours`` alone; under ``any`` the finished integers are checked.
    """
    lowest, highest = weight_limits(entry.dtype)
    low, high = (lowest - zero).astype(np.float64), (highest - zero).astype(np.float64)
    if highest - lowest == 255:
        low = np.where(zero == zero_offset(entry.dtype), -high, low)
    if pairing != "neighbours" or saturation is None:
        return Bounds(low, high)
    return Bounds(low, high, _sets(unit, form, saturation.products), *sum_limits(saturation))


def _sets(unit: Unit, form: WeightMatrix, products: int) -> np.ndarray:
    """The set of products that each input's falls into, (K,)."""
    shape = form.matrix(np.zeros((), np.int8)).shape
    index = np.arange(shape[1])
    places = form.weight(np.broadcast_to(index[:, np.newaxis], shape))
    sets = np.empty(shape[1], np.int64)
    sets[columns(places, _channel_axis(unit, places.ndim))[0, 0]] = index // products
    return sets
