"""Regions of a planned graph, what plans of it are made of, and a guess of what each part takes."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import onnx_ir as ir

from qcompile.compiler.mixed.groups import Group, groups
from qcompile.core import graph as g
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.core.units import COMPUTE_OPS, output_channel_axis
from qcompile.targets.cost_table import BORDER, CostTable

CALL = "call"
"""The part that every plan has: what is neither a region nor a border."""

THIN: Final = 1024
"""Most weights of a dense convolution whose integer kernel pays for pixels rather than products."""

Parts = Mapping[str, float]
"""What a plan is made of: part -> how often."""


@dataclass(frozen=True)
class Border:
    """A value that is quantized where integers begin, and dequantized where they end."""

    value: str
    part: str
    producer: str
    """Name of the node that makes it; empty for an input of the model."""
    readers: tuple[str, ...]
    """Names of the nodes that read it; an empty one for an output of the model."""


@dataclass(frozen=True)
class Regions:
    """The layers of a plan that may be integer or float, by what they take.

    Equal layers (op, attributes, shapes) are one part: measuring one of them measures all.

    Args:
        graph: that the plan is laid on.
        plan: in which all of them are integer (or dynamic).
        target: what it is made for.
    """

    graph: ir.Graph
    plan: QuantPlan
    target: Target
    _numbers: dict[str, int] = field(default_factory=dict)

    @cached_property
    def groups(self) -> list[Group]:
        """The layers in graph order."""
        return groups(self.graph, self.plan, self.target)

    @cached_property
    def first_of(self) -> dict[str, str]:
        """Layer -> the first layer that is equal to it."""
        seen: dict[str, str] = {}
        return {
            group.name: seen.setdefault(
                f"{self.plan.mode(group.name)} {group.structure}", group.name
            )
            for group in self.groups
        }

    def float_layers(self, plan: QuantPlan) -> frozenset[str]:
        """The layers that are float in another plan of the same graph."""
        return frozenset(gr.name for gr in self.groups if plan.mode(gr.name) == "float")

    def parts(self, plan: QuantPlan) -> Counter[str]:
        """What a plan of the same graph is made of."""
        found = Counter({CALL: 1})
        for group in self.groups:
            kind = "float" if plan.mode(group.name) == "float" else "integer"
            found[f"{kind} {self.first_of[group.name]}"] += 1
        for border in self.borders:
            found[border.part] += _crossings(border, plan)
        return found

    @property
    def all_float(self) -> Counter[str]:
        """What the float model is made of."""
        return Counter({CALL: 1}) + Counter(f"float {first}" for first in self.first_of.values())

    @cached_property
    def borders(self) -> list[Border]:
        """The quantized activations, in graph order."""
        found = []
        for value in g.values(self.graph):
            entry = self.plan.quantized(value.name)
            if entry is None or entry.role != "activation" or g.constant(value) is not None:
                continue
            producer = value.producer()
            ends = [""] if value.is_graph_output() and self.plan.ends == "float" else []
            found.append(
                Border(
                    value.name or "",
                    f"{BORDER} {elements(value)}",
                    "" if producer is None else producer.name or "",
                    (*dict.fromkeys(use.node.name or "" for use in value.uses()), *ends),
                )
            )
        return found

    def guess(self, table: CostTable) -> dict[str, float]:
        """Cost of every part by a table, in its unit; of the call, nothing is known."""
        found = {CALL: 0.0}
        nodes = {node.name: node for node in self.graph}
        for group in self.groups:
            if self.first_of[group.name] != group.name:
                continue
            node = nodes[group.name]
            kind, work = kind_of(node), work_of(node, group)
            dynamic = self.plan.mode(group.name) == "dynamic"
            floats, integers = table.at(kind, work)
            if dynamic:
                integers = table.at("dynamic", work)[1] if "dynamic" in table.kinds else integers
            found[f"float {group.name}"], found[f"integer {group.name}"] = floats, integers
        for border in self.borders:
            count = float(border.part.removeprefix(f"{BORDER} "))
            found[border.part] = table.at(BORDER, count)[1]
        return found


def is_quantized_end(name: str, plan: QuantPlan) -> bool:
    """Whether a node exchanges integers with its neighbours; a dynamic one takes floats."""
    return plan.is_integer(name)


def _crossings(border: Border, plan: QuantPlan) -> int:
    """1 where integers begin or end at a value, 0 where all of its ends are of one kind."""
    made = is_quantized_end(border.producer, plan) if border.producer else plan.ends != "float"
    read = [is_quantized_end(name, plan) for name in border.readers]
    return int(any(one != made for one in read))


def kind_of(node: ir.Node) -> str:
    """The kind of a node in tables of costs."""
    match node.op_type:
        case "Conv" | "ConvTranspose":
            return _convolution(node)
        case "Gemm" | "MatMul":
            weight = g.constant(node.inputs[1])
            if weight is None:
                return "matmul"
            axis = output_channel_axis(node, weight.ndim)
            columns = weight.shape[axis] if axis is not None else weight.shape[-1]
            if elements(node.outputs[0]) > columns:
                return "gemm"
            return f"gemv{_form(int(weight.size) // max(columns, 1), int(columns))}"
        case "AveragePool":
            return "pool"
        case op:
            return op.lower()


def _form(inputs: int, outputs: int) -> str:
    """Whether a layer gives much fewer numbers than it takes, or much more: each costs extra."""
    if inputs >= 2 * outputs:
        return "-narrowing"
    return "-widening" if outputs >= 2 * inputs else ""


def _convolution(node: ir.Node) -> str:
    weight = g.static_shape(node.inputs[1])
    group = g.attribute_int(node, "group", 1)
    if weight is not None and group > 1:
        return "depthwise" if group == weight[0] else "grouped"
    if weight is None:
        return "conv"
    thin = "-thin" if math.prod(weight) <= THIN else ""
    return f"pointwise{thin}" if math.prod(weight[2:]) == 1 else f"conv{thin}"


def work_of(node: ir.Node, group: Group) -> float:
    """Multiply-adds of a layer, sums of a pool; of all else the elements that it reads or gives."""
    if node.op_type in COMPUTE_OPS:
        return float(max(group.macs, 1))
    if node.op_type == "AveragePool":
        window = node.attributes.get_ints("kernel_shape", ())
        return float(elements(node.outputs[0]) * math.prod(window))
    return float(max(map(elements, (*node.outputs, *_computed(node))), default=1))


def _computed(node: ir.Node) -> Iterator[ir.Value]:
    yield from (v for v in node.inputs if v is not None and g.constant(v) is None)


def elements(value: ir.Value) -> int:
    """Elements of a value; unknown dimensions (the batch) count as 1."""
    if value.shape is None:
        return 1
    return math.prod(d if isinstance(d, int) else 1 for d in value.shape)
