"""SiLU and HardSwish: activations that multiply a value by a gate of itself.

Their smallest values are -0.28 and -0.38 while the largest are as large as the input's: on an 8-bit
grid the whole negative side, which holds half of the inputs, has a handful of steps or one. Written
as a Sigmoid and a Mul, the gate has a grid of its own between. Nothing is known to help but 16 bits
in all that follows, so that nothing is eased.
"""

from typing import Final

import onnx_ir as ir

from qcompile.passes.plan.patterns.pattern import Pattern, pattern

SILU: Final = "SiLU"
HARD_SWISH: Final = "HardSwish"
_REASON: Final = "its negative side has a handful of 8-bit steps"
_GATES: Final = {"Sigmoid": SILU, "HardSigmoid": HARD_SWISH}


def find(graph: ir.Graph) -> list[Pattern]:
    """HardSwish as one node, and ``Mul(x, Sigmoid(x))`` or ``Mul(x, HardSigmoid(x))``."""
    found = []
    for node in graph:
        if node.op_type == "HardSwish":
            found.append(pattern(HARD_SWISH, f"{HARD_SWISH}: {_REASON}", [node], []))
        elif node.op_type == "Mul" and (gate := gate_of(node)) is not None:
            name = _GATES[gate.op_type]
            found.append(pattern(name, f"{name}: {_REASON}", [gate, node], []))
    return found


def gate_of(product: ir.Node) -> ir.Node | None:
    """The Sigmoid or HardSigmoid of a Mul's one input that is its other; None without."""
    first, second = product.inputs
    for x, gate in ((first, second), (second, first)):
        node = gate.producer() if gate is not None else None
        if node is not None and node.op_type in _GATES and node.inputs[0] is x:
            return node
    return None
