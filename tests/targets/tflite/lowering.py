"""Lowers small models given as ONNX text, and runs them beside ONNX Runtime, for tests of ops."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from qcompile.core.target import Target
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.lower import IoLayout, Lowered, lower_with_notes
from qcompile.targets.tflite.schema import builtin_names, schema
from qcompile.targets.tflite.verifier import verify_flatbuffer
from tests.passes.planning import planned, session

TARGET = load_target("tflite-arm64")
RESOLVERS = {
    "reference": OpResolverType.BUILTIN_REF,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "xnnpack": OpResolverType.AUTO,
}
Arrays = Mapping[str, np.ndarray]


def parse(text: str, constants: Arrays | None = None) -> ir.Model:
    """A model of one graph; ``constants`` become initializers, shapes are inferred."""
    header = '<ir_version: 10, opset_import: ["" : 21]>\n'
    text = text.replace("<>", "")  # no attributes
    proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else header + text)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    for name, array in (constants or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
    for number, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


@dataclass(frozen=True)
class Run:
    """A lowered model, its operators and what it computes."""

    lowered: Lowered

    @property
    def ops(self) -> list[str]:
        """Operators in the order of the file."""
        model = schema().ModelT.InitFromObj(schema().Model.GetRootAsModel(self.lowered.data, 0))
        names = builtin_names()
        codes = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
        return [codes[op.opcodeIndex] for op in model.subgraphs[0].operators]

    @property
    def count(self) -> Counter[str]:
        """How often each operator occurs."""
        return Counter(self.ops)

    def outputs(self, feeds: Arrays, runtime: str = "reference") -> list[np.ndarray]:
        """Outputs in ONNX's order of axes, of inputs in that order.

        A float array for an integer input, and an integer output, are taken and given as they are.
        """
        interpreter = Interpreter(
            model_content=self.lowered.data,
            experimental_op_resolver_type=RESOLVERS[runtime],
            num_threads=1,
        )
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
        ends = self.lowered.ends
        given = {
            end.name: np.ascontiguousarray(np.transpose(feeds[end.name], end.perm))
            for end in ends.inputs
        }
        found = runner(**given)
        return [np.transpose(found[end.name], np.argsort(end.perm)) for end in ends.outputs]


def lowered(model: ir.Model, *, io_layout: IoLayout | None = None, target: Target = TARGET) -> Run:
    """Lower a model for the test target; the verifier has nothing to say about the file."""
    made = lower_with_notes(model, target, io_layout=io_layout)
    assert verify_flatbuffer(made.data, runtime=made.oldest) == []
    return Run(made)


def noise(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded noise for each input of a model, its mean not zero."""
    rng = np.random.default_rng(seed)
    shapes = {v.name or "": tuple(v.shape.numpy()) for v in model.graph.inputs if v.shape}
    return {
        name: (rng.standard_normal(shape) + 0.3).astype(np.float32)
        for name, shape in shapes.items()
    }


def check_float(
    text: str | ir.Model,
    constants: Arrays | None = None,
    *,
    atol: float = 2e-6,
    runtimes: Sequence[str] = ("reference", "xnnpack"),
    io_layout: IoLayout | None = None,
) -> Run:
    """A float model computes under LiteRT what it does under ONNX Runtime.

    ``atol`` is relative to the largest output, which is what float32 sums allow.
    """
    model = parse(text, constants) if isinstance(text, str) else text
    run, feeds = lowered(model, io_layout=io_layout), noise(model)
    wanted = session(model).run(feeds)
    for runtime in runtimes:
        for got, want in zip(run.outputs(feeds, runtime), wanted, strict=True):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=0, atol=atol * max(1, np.abs(want).max()))
    return run


@dataclass(frozen=True)
class Deviation:
    """How integers differ from the QDQ graph's."""

    lsb: int
    """Largest difference in steps."""
    share: float
    """Share of elements that differ."""


def quantized(
    model: ir.Model,
    *,
    ends: str = "int8",
    granularity: str | None = None,
    target: Target = TARGET,
) -> ir.Model:
    """The QDQ graph that the planner makes of a float model for the test target, all ends int8."""
    feeds = [noise(model, seed) for seed in range(4)]
    made = planned(model, feeds, target=target, ends=ends, granularity=granularity)
    names = [v.name or "" for v in (*model.graph.inputs, *model.graph.outputs)]
    return made.qdq(names if ends != "float" else [])


def check_integer(
    text: str | ir.Model,
    constants: Arrays | None = None,
    *,
    lsb: int = 1,
    share: float = 0.01,
    granularity: str | None = None,
    runtimes: Sequence[str] = ("reference", "xnnpack"),
) -> Run:
    """A quantized model computes under LiteRT the integers of its QDQ graph, but for few.

    Args:
        text: the float model.
        constants: its initializers.
        lsb: largest difference in steps.
        share: share of elements that may differ at all, under the reference kernels; under XNNPACK
            five times as many.
        granularity: of weights.
        runtimes: kernels to run.
    """
    model = parse(text, constants) if isinstance(text, str) else text
    qdq = quantized(model, granularity=granularity)
    assert all(v.dtype == ir.DataType.INT8 for v in (*qdq.graph.inputs, *qdq.graph.outputs))
    return check_integer_graph(qdq, lsb=lsb, share=share, runtimes=runtimes)


def check_integer_graph(
    qdq: ir.Model,
    *,
    lsb: int = 1,
    share: float = 0.01,
    runtimes: Sequence[str] = ("reference", "xnnpack"),
) -> Run:
    """As check_integer, of a QDQ graph with int8 ends."""
    run = lowered(qdq)
    rng = np.random.default_rng(1)
    feeds = {
        v.name or "": rng.integers(-128, 128, tuple(v.shape.numpy()), dtype=np.int8)
        for v in qdq.graph.inputs
        if v.shape is not None
    }
    wanted = session(qdq).run(feeds)
    for runtime in runtimes:
        for got, want in zip(run.outputs(feeds, runtime), wanted, strict=True):
            found = deviation(got, want)
            assert got.dtype == want.dtype
            assert found.lsb <= lsb, (runtime, found)
            assert found.share <= share * (1 if runtime == "reference" else 5), (runtime, found)
    return run


def deviation(got: np.ndarray, want: np.ndarray) -> Deviation:
    """How two integer arrays of equal shape differ."""
    assert got.shape == want.shape
    delta = np.abs(got.astype(np.int64) - want.astype(np.int64))
    return Deviation(int(delta.max(initial=0)), float(np.mean(delta > 0)))
