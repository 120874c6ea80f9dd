"""Writes a formula as float operators, one behind another, in one layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import Perm, stored_axis
from qcompile.targets.tflite.operand import Operand
from qcompile.targets.tflite.unit import NONE

Term = Operand | float

TABLES: Final = {
    "ABS": "AbsOptions",
    "COS": "CosOptions",
    "EXP": "ExpOptions",
    "GELU": "GeluOptions",
    "NEG": "NegOptions",
    "SIGN": "SignOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "POW": "PowOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
}
"""Operator -> table of builtin options without fields that matter; others than these have none."""

_ARITHMETIC: Final = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
}


@dataclass(frozen=True)
class Formula:
    """Float operators that stand for one node; all values are stored by ``perm``."""

    ctx: Context
    node: ir.Node
    perm: Perm

    def unary(self, op: str, x: Operand) -> Operand:
        """An operator that keeps the shape."""
        made = self._made(op, x.shape)
        self.ctx.emit(op, [x], [made], options(op))
        return made

    def binary(self, op: str, a: Term, b: Term, activation: int = NONE) -> Operand:
        """An operator of two operands that broadcasts."""
        left, right = self.operand(a), self.operand(b)
        made = self._made(op, np.broadcast_shapes(left.shape, right.shape))
        self.ctx.emit(op, [left, right], [made], options(op, activation))
        return made

    def mean(self, x: Operand, axes: Sequence[int]) -> Operand:
        """Mean over logical axes, which stay with size 1."""
        return self.reduced("MEAN", x, axes)

    def reduced(self, op: str, x: Operand, axes: Sequence[int]) -> Operand:
        """MEAN or SUM over logical axes, which stay with size 1."""
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        made = self._made(op, shape)
        stored = np.asarray(sorted(stored_axis(self.perm, axis) for axis in axes), np.int32)
        inputs = [x, self.ctx.constant("axes", stored)]
        self.ctx.emit(op, inputs, [made], Options("ReducerOptions", {"keepDims": True}))
        return made

    def result(self, op: str, *terms: Term, activation: int = NONE) -> None:
        """The last operator: it makes the node's first output."""
        inputs = [self.operand(term) for term in terms]
        made = self.ctx.define(self.node, self.perm)
        self.ctx.emit(op, inputs, [made], options(op, activation))

    def operand(self, term: Term) -> Operand:
        """A number as a constant that broadcasts; an operand as it is."""
        if isinstance(term, Operand):
            return term
        array = np.full((1,) * len(self.perm), term, np.float32)
        return self.ctx.constant(f"{self.node.name}_number", array, perm=self.perm)

    def _made(self, op: str, shape: Sequence[int]) -> Operand:
        name = f"{self.node.outputs[0].name}_{op.lower()}"
        return self.ctx.tensor(name, shape, "float32", None, self.perm)


def options(op: str, activation: int = NONE) -> Options | None:
    """Builtin options of an operator that needs to be told nothing but an activation."""
    if op in _ARITHMETIC:
        return Options(_ARITHMETIC[op], {"fusedActivationFunction": activation})
    return Options(TABLES[op], {}) if op in TABLES else None
