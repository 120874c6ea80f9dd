"""Channels that products with constant weights alone read, and factors for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from qcompile.passes.prepare.edit import is_op
from qcompile.passes.transform.channels import Group, find_groups


@dataclass(frozen=True, eq=False)
class Read:
    """A group, and the one value that all its readers read."""

    group: Group
    key: str
    name: str
    axis: int

    def matrices(self) -> list[np.ndarray]:
        """The weights of all readers, (channels, output channels) each."""
        layers = [reader.layer for reader in self.group.readers]
        return [layer.weight if layer.out_axis == 2 else layer.weight.T for layer in layers]


def product_reads(
    graph: ir.Graph, twins: Mapping[str, str] = MappingProxyType({}), *, only_twins: bool = False
) -> list[Read]:
    """The groups that MatMuls and Gemms alone read, one value all of them, in graph order.

    Args:
        graph: with what stands in for values that are read elsewhere too.
        twins: value -> what stands in for it; a read goes by the name of the value.
        only_twins: leave out all other groups.
    """
    source_of = {twin: value for value, twin in twins.items()}
    found = []
    for group in find_groups(graph):
        values = {reader.layer.node.inputs[0] for reader in group.readers}
        if group.faults or not (group.norms or group.writers) or len(values) != 1:
            continue
        if group.clips or (only_twins and group.key not in source_of):
            continue
        plain = all(
            is_op(reader.layer.node, "MatMul", "Gemm")
            and np.array_equal(reader.index, np.arange(group.channels))
            for reader in group.readers
        )
        value = values.pop()
        lane = next((lane for v, lane in group.values if v is value), None)
        if plain and value is not None and lane is not None:
            key = source_of.get(group.key, group.key)
            name = source_of.get(value.name or "", value.name or "")
            found.append(Read(group, key, name, lane.axis))
    return found


def floored(sizes: np.ndarray, share: float) -> np.ndarray:
    """Sizes of channels, none of them smaller than a share of the largest."""
    return np.asarray(np.maximum(sizes, (sizes.max(initial=0.0) or 1.0) * share))


def balanced(factors: np.ndarray) -> np.ndarray:
    """Factors over their geometric mean."""
    return np.asarray(factors / np.exp(np.log(factors).mean()))
