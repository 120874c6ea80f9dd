"""Small decoders as ONNX models, written as exporters write them, with weights from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from qcompile.compiler.importers.inference import infer

VOCABULARY = 40


@dataclass
class Net:
    """Nodes and initializers as they are added; values are names."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, outputs: int = 1, to: str = "", **attributes: Any) -> Any:
        at = len(self.nodes)
        names = [to] if to else [f"{kind.lower()}_{at}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, f"{kind}_{at}", **attributes))
        return names[0] if outputs == 1 else names

    def const(self, value: Any, dtype: str = "int64") -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        spread = shape[0] ** -0.5 if scale is None else scale
        return self.const(self.rng.normal(size=shape) * spread, "float32")


@dataclass(frozen=True)
class Shape:
    """What a decoder is like."""

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    size: int = 16
    value_size: int = 0
    """Of heads of values, where it is not that of keys."""
    hidden: int = 32
    cache: bool = True
    rotary: str = "half"
    """``half``, ``interleaved``, ``partial`` or nothing."""
    norm: str = "rms"
    bias: bool = False
    gated: bool = True
    positions: bool = True
    """Whether positions are an input; else they are counted from the length of the mask."""
    window: int = 0
    """How many tokens back one sees; 0 for all."""
    causal: bool = True
    counts_past: bool = False
    """Whether the shape of a cache tells the number of all tokens, else that of the mask."""

    @property
    def sizes(self) -> dict[str, int]:
        """Channels of a head of keys, and of values."""
        return {"key": self.size, "value": self.value_size or self.size}


def decoder(shape: Shape = Shape(), seed: int = 0) -> onnx.ModelProto:
    """A decoder of that shape: ``input_ids`` and so on to ``logits`` and ``present.*``."""
    net = Net(np.random.default_rng(seed))
    width = shape.hidden
    table = net.weight(VOCABULARY, width, scale=1.0)
    stream = net.op("Gather", table, "input_ids")
    cos, sin = _angles(net, shape)
    mask = _mask(net, shape)
    for i in range(shape.layers):
        stream = _block(net, shape, i, stream, cos, sin, mask)
    normed = _norm(net, shape, stream)
    turned = net.op("Transpose", table, perm=[1, 0])
    net.op("MatMul", normed, turned, to="logits")
    return _model(net, shape)


def canonical(model: onnx.ModelProto) -> ir.Model:
    """The model with the shapes that can be told, as importers leave it."""
    made = ir.serde.deserialize_model(model)
    infer(made)
    return made


def feeds(
    shape: Shape, tokens: np.ndarray, past: Sequence[np.ndarray] | None = None, **given: np.ndarray
) -> dict[str, np.ndarray]:
    """Inputs for tokens (batch, sequence), behind a cache of earlier ones."""
    batch, length = tokens.shape
    empty = [np.zeros((batch, shape.kv_heads, 0, n), np.float32) for n in shape.sizes.values()]
    caches = empty * shape.layers if past is None else list(past)
    before = caches[0].shape[2] if shape.cache else 0
    made = {"input_ids": tokens.astype(np.int64)}
    made["attention_mask"] = np.ones((batch, before + length), np.int64)
    if shape.positions and shape.rotary:
        made["position_ids"] = np.tile(np.arange(before, before + length), (batch, 1))
    if shape.cache:
        made |= dict(zip(cache_names(shape, "past_key_values"), caches, strict=True))
    return made | given


def cache_names(shape: Shape, prefix: str) -> list[str]:
    """Names of a decoder's cache inputs or outputs."""
    return [f"{prefix}.{i}.{kind}" for i in range(shape.layers) for kind in ("key", "value")]


def _angles(net: Net, shape: Shape) -> tuple[str, str]:
    if not shape.rotary:
        return "", ""
    if shape.positions and shape.rotary:
        at = net.op("Unsqueeze", "position_ids", net.const([1, 3]))
    else:
        total, length = _total(net, shape), _length(net, "input_ids")
        start = net.op("Sub", total, length)
        at = net.op("Range", start, total, net.const(1))
        at = net.op("Unsqueeze", at, net.const([0, 1, 3]))
    turned = shape.size // 2 if shape.rotary == "partial" else shape.size
    rates = 100.0 ** (-np.arange(0, turned, 2) / turned)
    angle = net.op("Mul", net.op("Cast", at), net.const(rates, "float32"))
    if shape.rotary != "interleaved":
        angle = net.op("Concat", angle, angle, axis=-1)
    return net.op("Cos", angle), net.op("Sin", angle)


def _length(net: Net, name: str) -> str:
    return str(net.op("Squeeze", net.op("Shape", name, start=1, end=2)))


def _total(net: Net, shape: Shape) -> str:
    if not shape.counts_past:
        return _length(net, "attention_mask")
    sizes = net.op("Shape", "past_key_values.0.key")
    past = net.op("Squeeze", net.op("Gather", sizes, net.const([2])))
    return str(net.op("Add", past, _length(net, "input_ids")))


def _mask(net: Net, shape: Shape) -> str:
    """Added to the scores: batch or 1, 1, sequence, total."""
    total, length = _total(net, shape), _length(net, "input_ids")
    one, zero = net.const(1), net.const(0)
    column = net.op("Unsqueeze", net.op("Range", zero, total, one), net.const([0, 1, 2]))
    row = net.op("Range", net.op("Sub", total, length), total, one)
    row = net.op("Unsqueeze", row, net.const([0, 1, 3]))
    given = net.op("Unsqueeze", "attention_mask", net.const([1, 2]))
    seen = net.op("Greater", given, zero)
    if shape.causal:
        seen = net.op("And", net.op("LessOrEqual", column, row), seen)
    if shape.window:
        back = net.op("Sub", row, net.const(shape.window))
        seen = net.op("And", net.op("Greater", column, back), seen)
    return str(net.op("Where", seen, net.const(0, "float32"), net.const(-1e9, "float32")))


def _norm(net: Net, shape: Shape, x: str) -> str:
    gain = net.const(net.rng.uniform(0.5, 1.5, shape.hidden), "float32")
    if shape.norm == "layer":
        return str(net.op("LayerNormalization", x, gain, net.weight(shape.hidden, scale=0.1)))
    square = net.op("Pow", x, net.const(2, "float32"))
    mean = net.op("ReduceMean", square, net.const([-1]), keepdims=1)
    root = net.op("Sqrt", net.op("Add", mean, net.const(1e-5, "float32")))
    return str(net.op("Mul", net.op("Mul", x, net.op("Reciprocal", root)), gain))


def _linear(net: Net, shape: Shape, x: str, inputs: int, outputs: int) -> str:
    made = net.op("MatMul", x, net.weight(inputs, outputs))
    return str(net.op("Add", made, net.weight(outputs, scale=0.3)) if shape.bias else made)


def _heads(net: Net, shape: Shape, x: str, heads: int, size: int) -> str:
    """Heads second: batch, heads, sequence, size."""
    made = _linear(net, shape, x, shape.hidden, heads * size)
    split = net.op("Reshape", made, net.const([0, 0, heads, size]))
    return str(net.op("Transpose", split, perm=[0, 2, 1, 3]))


def _turn(net: Net, shape: Shape, x: str, heads: int, cos: str, sin: str) -> str:
    if not shape.rotary:
        return x
    if shape.rotary == "interleaved":
        last, step = net.const([3]), net.const([2])
        end = net.const([1 << 40])
        a = net.op("Slice", x, net.const([0]), end, last, step)
        b = net.op("Slice", x, net.const([1]), end, last, step)
        low = net.op("Sub", net.op("Mul", a, cos), net.op("Mul", b, sin))
        high = net.op("Add", net.op("Mul", a, sin), net.op("Mul", b, cos))
        axis = net.const([-1])
        both = [net.op("Unsqueeze", low, axis), net.op("Unsqueeze", high, axis)]
        pairs = net.op("Concat", *both, axis=-1)
        return str(net.op("Reshape", pairs, net.const([0, heads, -1, shape.size])))
    rest = ""
    if shape.rotary == "partial":
        x, rest = net.op("Split", x, outputs=2, axis=-1, num_outputs=2)
    a, b = net.op("Split", x, outputs=2, axis=-1, num_outputs=2)
    turned = net.op("Concat", net.op("Neg", b), a, axis=-1)
    made = net.op("Add", net.op("Mul", x, cos), net.op("Mul", turned, sin))
    return str(net.op("Concat", made, rest, axis=-1) if rest else made)


def _repeat(net: Net, shape: Shape, x: str, size: int) -> str:
    times = shape.heads // shape.kv_heads
    if times == 1:
        return x
    wide = net.op("Unsqueeze", x, net.const([2]))
    wide = net.op("Expand", wide, net.const([1, 1, times, 1, 1]))
    return str(net.op("Reshape", wide, net.const([0, shape.heads, -1, size])))


def _block(net: Net, shape: Shape, at: int, x: str, cos: str, sin: str, mask: str) -> str:
    size, of_value = shape.sizes.values()
    normed, wide = _norm(net, shape, x), shape.heads * of_value
    q, k = (
        _turn(net, shape, _heads(net, shape, normed, heads, size), heads, cos, sin)
        for heads in (shape.heads, shape.kv_heads)
    )
    v = _heads(net, shape, normed, shape.kv_heads, of_value)
    if shape.cache:
        pasts = [f"past_key_values.{at}.{kind}" for kind in ("key", "value")]
        k = net.op("Concat", pasts[0], k, axis=2, to=f"present.{at}.key")
        v = net.op("Concat", pasts[1], v, axis=2, to=f"present.{at}.value")
    keys = net.op("Transpose", _repeat(net, shape, k, size), perm=[0, 1, 3, 2])
    scores = net.op("Mul", net.op("MatMul", q, keys), net.const(size**-0.5, "float32"))
    chances = net.op("Softmax", net.op("Add", scores, mask), axis=-1)
    mixed = net.op("MatMul", chances, _repeat(net, shape, v, of_value))
    mixed = net.op("Transpose", mixed, perm=[0, 2, 1, 3])
    side = net.op("Reshape", mixed, net.const([0, 0, wide]))
    x = net.op("Add", x, _linear(net, shape, side, wide, shape.hidden))
    normed, inner = _norm(net, shape, x), 2 * shape.hidden
    up = _linear(net, shape, normed, shape.hidden, inner)
    if shape.gated:
        gate = _linear(net, shape, normed, shape.hidden, inner)
        hidden = net.op("Mul", net.op("Mul", gate, net.op("Sigmoid", gate)), up)
    else:
        hidden = net.op("Relu", up)
    return str(net.op("Add", x, _linear(net, shape, hidden, inner, shape.hidden)))


def _model(net: Net, shape: Shape) -> onnx.ModelProto:
    for node in net.nodes:  # the one attribute whose name is a keyword of ours
        if node.op_type == "Cast":
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    integers = {"input_ids": "sequence", "attention_mask": "total"}
    if shape.positions and shape.rotary:
        integers["position_ids"] = "sequence"
    info = helper.make_tensor_value_info
    inputs = [info(n, TensorProto.INT64, ["batch", d]) for n, d in integers.items()]
    outputs = [info("logits", TensorProto.FLOAT, ["batch", "sequence", VOCABULARY])]
    if shape.cache:
        kinds = (("past_key_values", "past", inputs), ("present", "total", outputs))
        for prefix, length, ends in kinds:
            for name in cache_names(shape, prefix):
                size = shape.sizes[name.rpartition(".")[2]]
                dims = ["batch", shape.kv_heads, length, size]
                ends.append(info(name, TensorProto.FLOAT, dims))
    graph = helper.make_graph(net.nodes, "decoder", inputs, outputs, net.tensors)
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)
