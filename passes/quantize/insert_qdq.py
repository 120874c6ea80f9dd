"""Plan in, QDQ graph out: quantizers on activations, integers for weights and biases."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import quantize, storage_type
from qcompile.core.plan import QuantPlan, ValuePlan, wide_name
from qcompile.core.units import Unit, units
from qcompile.passes.quantize.token_scales import TokenRows, token_type
from qcompile.passes.rounding.nearest import bias_integers, weight_integers

VALUE_KEY = "qcompile.value"
"""metadata_props key of a QuantizeLinear: the value of the canonical graph that it quantizes."""

_TWO_BITS, _TWO_BITS_OPSET = frozenset({"int2", "uint2"}), 25
"""Types that DequantizeLinear takes from this opset on."""

Reader = tuple[ir.Node, int]
"""A node and the index of the input by which it reads a value."""


@dataclass
class InsertQDQ(ir.passes.InPlacePass):
    """Write the decisions of a plan into the graph as QuantizeLinear and DequantizeLinear.

    1. A computed activation with parameters gets one QuantizeLinear and one DequantizeLinear
       behind it. If an integer node made it, every reader takes the dequantized value, and so does
       the graph's output; if a float node or the caller made it, only integer readers do, the
       others keep the exact value.
    2. A constant operand and a weight become an integer initializer behind a DequantizeLinear, for
       integer readers only; a float reader keeps the float initializer.
    3. The bias of an integer unit becomes ``rint((b + correction) / (s_x * s_w))`` in int32, with
       that scale and zero point 0.
    4. An activation of a dynamic node is quantized by DynamicQuantizeLinear; with a scale a token
       as ``token_scales`` says.
    5. Nodes with int16 activations read an 8-bit value behind a second pair, from the first one's
       output: QuantizeLinear to int16 and DequantizeLinear, an exact requantize.
    6. With integer ends, an end with parameters is exchanged as integers under its own name.
    7. A ``table`` node reads rows of int8 from its table, which a DequantizeLinear behind it turns
       into floats, one scale a column.

    It changes the function: that is what it is for. Values and nodes the plan does not name, and
    subgraphs, are left alone, except that a subgraph reads what rule 1 gives to every reader. A
    value that has its quantizer already is left alone, so a second run changes nothing.
    """

    plan: QuantPlan
    integer_ends: frozenset[str] = frozenset()
    """Names of graph inputs and outputs that are exchanged as integers (rule 6)."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Insert everything; unused float initializers are removed."""
        writer = _Writer(model.graph, self.plan, self.integer_ends)
        served = list(units(model.graph, self.plan))
        before = model.graph.num_nodes()
        writer.constants(served)
        writer.activations(served)
        writer.dynamic(served)
        writer.tables()
        dropped = writer.drop_unused()
        if any(entry.dtype in _TWO_BITS for entry in self.plan.values.values()):
            # What came between the working opset and this one are types, no other meanings.
            opset = model.opset_imports.get("", _TWO_BITS_OPSET)
            model.opset_imports[""] = max(opset, _TWO_BITS_OPSET)
        return ir.passes.PassResult(model, dropped or model.graph.num_nodes() != before)


class _Writer:
    """Edits one graph; remembers the parameter tensors it made, so that equal ones are shared."""

    def __init__(self, graph: ir.Graph, plan: QuantPlan, integer_ends: frozenset[str]) -> None:
        self.graph = graph
        self.plan = plan
        self.integer_ends = integer_ends
        self._tensors: dict[tuple[bytes, str, tuple[int, ...]], ir.Value] = {}
        self._first = next(iter(graph), None)

    # --- constants -----------------------------------------------------------------------------

    def constants(self, served: list[Unit]) -> None:
        made: dict[str, ir.Value] = {}
        for unit in served:
            bias = unit.bias
            for node in unit.nodes:
                for index, value in enumerate(node.inputs):
                    seen = self.plan.seen_by(unit.node.name, value.name) if value else None
                    entry = self.plan.quantized(seen)
                    if value is None or entry is None or g.constant(value) is None:
                        continue
                    if node is not unit.node and value is not bias:
                        continue  # a bound of a Clip may be the operand of another node
                    if entry.name not in made:
                        made[entry.name] = self._constant(value, entry, unit)
                    node.replace_input_with(index, made[entry.name])

    def _constant(self, value: ir.Value, entry: ValuePlan, unit: Unit) -> ir.Value:
        array = g.constant(value)
        assert array is not None and entry.params is not None
        if entry.role == "bias":
            integers = bias_integers(array, entry.params, self.plan.corrections.get(entry.name))
        elif entry.role == "weight":
            integers = weight_integers(array, entry, self.plan.rounded.get(entry.name))
        else:
            integers = quantize(array, entry.params.scale, entry.params.zero_point, entry.dtype)
        kind = None if entry.role == "bias" else ir.DataType[entry.dtype.upper()]
        stored = g.make_initializer(self.graph, f"{entry.name}_quantized", integers, kind)
        return self._dequantize(stored, entry, value, unit.node, unit.node)

    # --- activations ---------------------------------------------------------------------------

    def activations(self, served: list[Unit]) -> None:
        integer = {
            node
            for unit in served
            for node in unit.nodes
            if self.plan.mode(unit.node.name) == "integer"
        }
        for name, entry in self.plan.values.items():
            if entry.role != "activation" or entry.params is None:
                continue
            value = self._find(name)
            if value is None or g.constant(value) is not None or _has_quantizer(value):
                continue
            is_end = name in self.integer_ends
            everyone = value.producer() in integer or (value.is_graph_input() and is_end)
            readers = [(u.node, u.idx) for u in value.uses() if everyone or u.node in integer]
            is_output = value.is_graph_output() and not value.is_graph_input()
            is_output = is_output and (everyone or is_end)
            if readers or is_output:
                self._quantizer(value, entry, readers, is_output)

    def _quantizer(
        self, value: ir.Value, entry: ValuePlan, readers: list[Reader], is_output: bool
    ) -> None:
        assert entry.params is not None
        name = entry.name
        dequantized: ir.Value | None
        if value.is_graph_input() and name in self.integer_ends:
            dequantized = self._integer_input(value, entry)
        else:
            anchor = value.producer()
            quantized = self._quantize(value, entry, anchor)
            if is_output and name in self.integer_ends:
                self._take_output(value, quantized)
                is_output = False
            dequantized = (
                self._dequantize(quantized, entry, value, quantized.producer(), anchor)
                if readers or is_output
                else None
            )
        if dequantized is not None:
            self._hand_out(dequantized, entry, readers)
        if is_output:
            assert dequantized is not None
            self._take_output(value, dequantized)

    def _hand_out(self, value: ir.Value, entry: ValuePlan, readers: list[Reader]) -> None:
        """Let the readers take the dequantized value, those with int16 activations in int16."""
        wide = self.plan.quantized(wide_name(entry.name))
        wider: ir.Value | None = None
        for reader, index in readers:
            if wide is None or not self.plan.is_wide(reader.name):
                reader.replace_input_with(index, value)
                continue
            if wider is None:
                anchor = value.producer()
                quantized = self._quantize(value, wide, anchor)
                wider = self._dequantize(quantized, wide, value, quantized.producer(), anchor)
            reader.replace_input_with(index, wider)

    def _integer_input(self, value: ir.Value, entry: ValuePlan) -> ir.Value:
        integer_type = _type_of(entry)
        dequantized = self._dequantize(value, entry, value, None, None)
        value.type = integer_type
        return dequantized

    def _take_output(self, old: ir.Value, new: ir.Value) -> None:
        """Let ``new`` be the graph output in place of ``old``, under its name."""
        name = old.name
        old.name = g.unique_name(self.graph, f"{name}_float")
        new.name = name
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[index] = new

    def _quantize(self, value: ir.Value, entry: ValuePlan, anchor: ir.Node | None) -> ir.Value:
        node = ir.node("QuantizeLinear", [value, *self._parameters(entry)])
        output = node.outputs[0]
        output.name = g.unique_name(self.graph, f"{_stem(entry)}_quantized")
        output.shape, output.type = value.shape, _type_of(entry)
        node.name = output.name
        node.metadata_props[VALUE_KEY] = entry.name
        self._insert(node, anchor, anchor)
        return output

    def _dequantize(
        self,
        stored: ir.Value,
        entry: ValuePlan,
        like: ir.Value,
        after: ir.Node | None,
        source: ir.Node | None,
    ) -> ir.Value:
        attributes = {} if entry.axis is None else {"axis": entry.axis}
        parameters = self._parameters(entry)
        if entry.role == "bias":
            parameters = parameters[:1]  # always 0, and so the default
        node = ir.node("DequantizeLinear", [stored, *parameters], attributes)
        output = node.outputs[0]
        output.name = g.unique_name(self.graph, f"{_stem(entry)}_dequantized")
        output.shape, output.type = like.shape, ir.TensorType(ir.DataType.FLOAT)
        node.name = output.name
        before = stored.is_initializer()
        self._insert(node, after, source, before=before)
        return output

    def _insert(
        self, node: ir.Node, anchor: ir.Node | None, source: ir.Node | None, *, before: bool = False
    ) -> None:
        g.inherit(node, "InsertQDQ", *([] if source is None else [source]))
        if anchor is not None and before:
            self.graph.insert_before(anchor, node)
        elif anchor is not None:
            self.graph.insert_after(anchor, node)
        elif self._first is not None:
            self.graph.insert_before(self._first, node)
        else:
            self.graph.append(node)

    def _parameters(self, entry: ValuePlan) -> list[ir.Value]:
        assert entry.params is not None
        scale = self._tensor(f"{_stem(entry)}_scale", entry.params.scale.astype(np.float32))
        zero = entry.params.zero_point.astype(storage_type(entry.dtype))
        if entry.role == "weight":
            # One of its own even where it is 0: with session.x64quantprecision ONNX Runtime 1.32
            # rewrites S8 weights, and stumbles over a zero point that is missing or shared.
            kind = ir.DataType[entry.dtype.upper()]
            return [scale, g.make_initializer(self.graph, f"{entry.name}_zero_point", zero, kind)]
        return [scale, self._tensor(f"{_stem(entry)}_zero_point", zero)]

    def _tensor(self, name: str, array: np.ndarray) -> ir.Value:
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._tensors:
            self._tensors[key] = g.make_initializer(self.graph, name, array)
        return self._tensors[key]

    # --- dynamic -------------------------------------------------------------------------------

    def dynamic(self, served: list[Unit]) -> None:
        made: dict[ir.Value, ir.Value] = {}
        rows: TokenRows = TokenRows(self.graph)
        for unit in served:
            if self.plan.mode(unit.node.name) != "dynamic":
                continue
            value = unit.node.inputs[0]
            assert value is not None
            if _is_dynamic(value):
                continue
            own = token_type(self.plan.nodes[unit.node.name or ""].activations)
            if own:
                rows.serve(unit.node, own)
                continue
            if value not in made:
                made[value] = self._dynamic(value, unit.node)
            unit.node.replace_input_with(0, made[value])
        for node in list(self.graph):
            entry = self.plan.nodes.get(node.name or "")
            if entry is not None and entry.mode == "weights" and token_type(entry.activations):
                rows.serve(node, token_type(entry.activations))

    def _dynamic(self, value: ir.Value, reader: ir.Node) -> ir.Value:
        quantizer = ir.node("DynamicQuantizeLinear", [value], num_outputs=3)
        for output, suffix in zip(
            quantizer.outputs, ("quantized", "scale", "zero_point"), strict=True
        ):
            output.name = g.unique_name(self.graph, f"{value.name}_{suffix}")
        quantized, scale, zero_point = quantizer.outputs
        quantized.shape = value.shape
        quantized.type = zero_point.type = ir.TensorType(ir.DataType.UINT8)
        scale.type = ir.TensorType(ir.DataType.FLOAT)
        scale.shape = zero_point.shape = ir.Shape(())
        node = ir.node("DequantizeLinear", [quantized, scale, zero_point])
        node.outputs[0].name = g.unique_name(self.graph, f"{value.name}_dequantized")
        node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
        for made in (quantizer, node):
            made.name = made.outputs[0].name
            g.inherit(made, "InsertQDQ", reader)
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, [quantizer, node])
        else:
            assert self._first is not None
            self.graph.insert_before(self._first, [quantizer, node])
        return node.outputs[0]

    # --- tables --------------------------------------------------------------------------------

    def tables(self) -> None:
        """Let lookups read rows of integers, and dequantize those along their last axis."""
        stored: dict[str, ir.Value] = {}
        for node in list(self.graph):
            value = node.inputs[0] if self.plan.mode(node.name) == "table" else None
            entry = self.plan.quantized(value.name) if value is not None else None
            array = g.constant(value) if value is not None else None
            if entry is None or array is None or value is None:
                continue
            if entry.name not in stored:
                integers = weight_integers(array, entry, self.plan.rounded.get(entry.name))
                stored[entry.name] = g.make_initializer(
                    self.graph, f"{entry.name}_quantized", integers
                )
            self._read_rows(node, stored[entry.name], entry)

    def _read_rows(self, node: ir.Node, table: ir.Value, entry: ValuePlan) -> None:
        output = node.outputs[0]
        behind = ir.node("DequantizeLinear", [output, *self._parameters(entry)], {"axis": -1})
        rows = behind.outputs[0]
        rows.shape, rows.type = output.shape, output.type
        self.graph.insert_after(node, behind)
        output.replace_all_uses_with(rows, replace_graph_outputs=True)
        behind.replace_input_with(0, output)
        rows.name, output.name = output.name, g.unique_name(self.graph, f"{entry.name}_rows")
        behind.name = g.unique_node_name(self.graph, f"{node.name}_dequantized")
        output.type = _type_of(entry)
        node.replace_input_with(0, table)
        g.inherit(behind, "InsertQDQ", node)

    # --- clean-up ------------------------------------------------------------------------------

    def drop_unused(self) -> bool:
        unused = [
            name
            for name, value in self.graph.initializers.items()
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input()
        ]
        for name in unused:
            del self.graph.initializers[name]
        return bool(unused)

    def _find(self, name: str) -> ir.Value | None:
        if not hasattr(self, "_by_name"):
            self._by_name = {v.name: v for v in g.values(self.graph)}
        return self._by_name.get(name)


def _stem(entry: ValuePlan) -> str:
    """What the names of new values begin with."""
    return entry.name.replace(" as int16", "_int16")


def _type_of(entry: ValuePlan) -> ir.TensorType:
    return ir.TensorType(ir.DataType[entry.dtype.upper()])


def _has_quantizer(value: ir.Value) -> bool:
    """Whether this pass has served a value already."""
    if value.dtype is not None and not value.dtype.is_floating_point():
        return True  # an integer input
    around: list[ir.Node | None] = [use.node for use in value.uses()]
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":  # may bear an output's name
        around += [v.producer() for v in producer.inputs[:1] if v is not None]
    return any(n is not None and n.metadata_props.get(VALUE_KEY) == value.name for n in around)


def _is_dynamic(value: ir.Value) -> bool:
    """Whether a value comes out of a DynamicQuantizeLinear already."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return False
    source = node.inputs[0].producer()
    return source is not None and source.op_type == "DynamicQuantizeLinear"
