"""QDQ graphs in which every float value is quantized, planner or not: for ops it leaves float."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.numerics.affine import asymmetric_params, dequantize
from tests.passes.planning import session
from tests.targets.tflite.lowering import Arrays, Run, deviation, lowered, parse

Params = tuple[float, int]
"""Scale and zero point."""
INPUT: Params = (1 / 32, -10)
"""Of an input that no test says anything about: real values from -3.7 to 4.3."""


def enclosed(
    model: ir.Model,
    params: Mapping[str, Params] | None = None,
    *,
    floats: Sequence[str] = (),
    dtype: str = "int8",
) -> ir.Model:
    """A copy of a float model with a quantizer and a dequantizer on every float value.

    Ends are integers. Values without ``params`` get those of their range in one run on noise;
    values named in ``floats`` stay float.
    """
    given = _parameters(model, dict(params or {}), dtype)
    made = model.clone()
    first = next(iter(made.graph))
    for index, value in enumerate(list(made.graph.inputs)):
        if _is_float(value) and value.name not in floats:
            made.graph.inputs[index] = _integer_input(made.graph, value, given, dtype, first)
    for node in list(made.graph):
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            for value in node.outputs:
                if _is_float(value) and value.name and value.name not in floats:
                    _requantized(made.graph, value, given, dtype)
    return made


def _parameters(model: ir.Model, given: dict[str, Params], dtype: str) -> dict[str, Params]:
    for value in model.graph.inputs:
        if _is_float(value):
            given.setdefault(value.name or "", INPUT)
    for name, array in _seen(model, given, dtype).items():
        if name in given:
            continue
        scale, zero = asymmetric_params(array.min(), array.max(), dtype)
        if dtype == "int16":
            scale, zero = np.abs(array).max() / np.float32(32767), np.zeros((), np.int64)
        given[name] = float(scale), int(zero)
    return given


def check_enclosed(
    text: str | ir.Model,
    constants: Arrays | None = None,
    *,
    params: Mapping[str, Params] | None = None,
    floats: Sequence[str] = (),
    feeds: Arrays | None = None,
    lsb: int = 0,
    share: float = 0.0,
    dtype: str = "int8",
    runtimes: Sequence[str] = ("reference", "builtin", "xnnpack"),
) -> Run:
    """The integers of LiteRT are those of ONNX Runtime on the same QDQ graph, but for few.

    ``lsb`` and ``share`` bound the largest difference and how many elements may differ. Inputs
    that are not in ``feeds`` get every integer of their type, in random order.
    """
    model = parse(text, constants) if isinstance(text, str) else text
    qdq = enclosed(model, params, floats=floats, dtype=dtype)
    run, given = lowered(qdq), {**integers(qdq), **(feeds or {})}
    wanted = session(qdq).run(given)
    for runtime in runtimes:
        for got, want in zip(run.outputs(given, runtime), wanted, strict=True):
            assert got.dtype == want.dtype
            if want.dtype == np.float32:
                np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)
                continue
            found = deviation(got, want)
            assert found.lsb <= lsb and found.share <= share, (runtime, found)
    return run


def integers(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Integers for the integer inputs of a model: all 256 of them where there is room."""
    rng, found = np.random.default_rng(seed), {}
    for value in model.graph.inputs:
        shape = g.static_shape(value)
        if shape is None or value.dtype not in (ir.DataType.INT8, ir.DataType.INT16):
            continue
        kind = value.dtype.numpy()
        count = int(np.prod(shape))
        low = np.iinfo(kind).min
        span = 256 if kind == np.int8 else 65536
        # In steps that visit the whole range, however few there are.
        steps = (np.arange(count, dtype=np.int64) * 37 * (span // 256)) % span + low
        found[value.name or ""] = rng.permutation(steps).astype(kind).reshape(shape)
    return found


def _seen(model: ir.Model, params: Mapping[str, Params], dtype: str) -> dict[str, np.ndarray]:
    """Every float value that a node makes, in one run on dequantized integers."""
    probe = model.clone()
    wanted = [v for node in probe.graph for v in node.outputs if _is_float(v) and v.name]
    for value in probe.graph.outputs:
        if value not in wanted:
            wanted.append(value)
    probe.graph.outputs.clear()
    probe.graph.outputs.extend(wanted)
    rng, feeds = np.random.default_rng(3), {}
    for value in model.graph.inputs:
        shape, name = g.static_shape(value), value.name or ""
        assert shape is not None and value.dtype is not None
        if _is_float(value):
            scale, zero = params[name]
            low, high = (-128, 128) if dtype == "int8" else (-32768, 32768)
            drawn = rng.integers(low, high, shape)
            feeds[name] = dequantize(drawn, np.float32(scale), np.asarray(zero))
        else:
            feeds[name] = np.zeros(shape, value.dtype.numpy())
    results = session(probe).run(feeds)
    return {v.name or "": array for v, array in zip(wanted, results, strict=True) if _is_float(v)}


def _integer_input(
    graph: ir.Graph, value: ir.Value, params: Mapping[str, Params], dtype: str, first: ir.Node
) -> ir.Value:
    name = value.name or ""
    stored = ir.Value(name=name, shape=value.shape, type=ir.TensorType(ir.DataType[dtype.upper()]))
    value.name = f"{name}_float"
    node = ir.node("DequantizeLinear", [stored, *_pair(graph, name, params[name], dtype)])
    _typed(node, f"{name}_dequantized", value, ir.DataType.FLOAT)
    value.replace_all_uses_with(node.outputs[0])
    graph.insert_before(first, node)
    return stored


def _requantized(
    graph: ir.Graph, value: ir.Value, params: Mapping[str, Params], dtype: str
) -> None:
    name = value.name or ""
    producer = value.producer()
    assert producer is not None
    is_output = value.is_graph_output()
    uses = list(value.uses())
    pair = _pair(graph, name, params[name], dtype)
    quantizer = ir.node("QuantizeLinear", [value, *pair])
    _typed(quantizer, f"{name}_quantized", value, ir.DataType[dtype.upper()])
    graph.insert_after(producer, quantizer)
    if is_output:
        value.name, quantizer.outputs[0].name = f"{name}_float", name
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = quantizer.outputs[0]
    if uses:
        dequantizer = ir.node("DequantizeLinear", [quantizer.outputs[0], *pair])
        _typed(dequantizer, f"{name}_dequantized", value, ir.DataType.FLOAT)
        graph.insert_after(quantizer, dequantizer)
        for use in uses:
            use.node.replace_input_with(use.idx, dequantizer.outputs[0])


def _typed(node: ir.Node, name: str, like: ir.Value, dtype: ir.DataType) -> None:
    node.name = node.outputs[0].name = name
    node.outputs[0].shape, node.outputs[0].type = like.shape, ir.TensorType(dtype)


def _pair(graph: ir.Graph, name: str, params: Params, dtype: str) -> list[ir.Value]:
    return [
        g.make_initializer(graph, f"{name}_scale", np.asarray(params[0], np.float32)),
        g.make_initializer(graph, f"{name}_zero", np.asarray(params[1], dtype)),
    ]


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT
