"""Reads an ONNX file: any opset from 7, external data, functions, old habits; float onnx_ir out."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from qcompile.compiler.importers.check import OperatorKey, Operators, check_model, opsets_of
from qcompile.compiler.importers.constants import drop_default_inputs, lift_constants
from qcompile.compiler.importers.dimensions import fix_dimensions, open_nameless_dimensions
from qcompile.compiler.importers.external_data import ExternalFiles
from qcompile.compiler.importers.functions import inline_functions
from qcompile.compiler.importers.inference import Inference, infer
from qcompile.compiler.importers.naming import make_names_unique, record_sources
from qcompile.compiler.importers.opset import WORKING_OPSET, convert_opset
from qcompile.compiler.importers.reading import read_model_proto
from qcompile.compiler.importers.tensors import detach_tensors, graphs_of, subgraphs_of
from qcompile.core.backend import SIMULATED_KEY
from qcompile.core.ends import End
from qcompile.core.errors import Code, QCompileError
from qcompile.core.memory import give_back
from qcompile.core.notes import Note
from qcompile.core.on_disk import map_external, to_disk
from qcompile.core.signature import Signature, signature_of
from qcompile.passes.prepare.operators_to_qdq import OperatorsToQDQ
from qcompile.passes.prepare.real_ends import RealEnds
from qcompile.passes.prepare.real_moves import RealMoves
from qcompile.targets.onnxruntime.backend import ends_of

_FLOAT: Final = ir.DataType.FLOAT
_INTEGER_STEMS: Final = ("QLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantize")
_INTEGER_OPERATORS: Final = frozenset(
    {"QGemm", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat"}
)


@dataclass(frozen=True)
class Imported:
    """A float model as the rest of the compiler takes it, or a quantized one in QDQ form.

    Every node and value has a unique name, every node knows the user's node it comes from, weights
    are initializers (external ones stay where they are), and there are no functions.
    """

    model: ir.Model
    signature: Signature
    """The ends of the model as it will be compiled, with fixed dimensions fixed."""
    notes: tuple[Note, ...]
    float_nodes: Mapping[str, str]
    """Node name -> why it must stay float."""
    files: tuple[Path, ...] = ()
    """The model file and those that hold its external data."""
    source_opset: int = 0
    """Opset of the file, before conversion."""
    source_nodes: int = 0
    """Nodes of its main graph, as written."""
    name: str = ""
    """What reports call the model where the file is not the user's own."""
    converted: tuple[Path, ...] = ()
    """The files that hold its weights where ``files`` are of another format, or code."""

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """What the model's size is measured by, while it is open."""
        return self.converted or self.files

    ends: Mapping[str, End] = field(default_factory=dict)
    """Ends that are integers in the file and, in the model, the real numbers they stand for."""


def load_onnx(
    path: Path,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    static: bool = False,
    allow_integer: bool = False,
) -> Imported:
    """Read an ONNX model and bring it to the working form. The user's files are only read.

    Args:
        path: the .onnx file; its external data are looked for beside it.
        shapes: input name -> full shape, for inputs with dimensions that are not known.
        static: the target needs static shapes: fix an unknown batch to 1, refuse other unknowns.
        allow_integer: also take a model that computes nothing in float (to inspect it).

    Raises:
        QCompileError: see ``reading``, ``check``, ``external_data``, ``opset`` and ``dimensions``;
            NOTHING_TO_QUANTIZE for a model without a float node.
    """
    proto = read_model_proto(path)
    functions = frozenset((f.domain, f.name) for f in proto.functions)
    check_model(proto, Operators(opsets_of(proto), functions, runtime_operators))
    model = _deserialize(proto, path)
    del proto
    source_opset, source_nodes = model.opset_imports.get("", 0), model.graph.num_nodes()
    record_sources(model)
    detach_tensors(model, ExternalFiles(path))
    to_disk(model)
    inline_functions(model)
    for graph in graphs_of(model):
        graph.sort()
    notes = drop_default_inputs(model)
    make_names_unique(model)
    lift_constants(model)
    open_nameless_dimensions(model)
    notes += fix_dimensions(model, shapes or {}, static=static)
    inlined: list[str] = []
    if model.opset_imports.get("", WORKING_OPSET) != WORKING_OPSET:
        inlined = infer(model).inlined  # some changes between opsets depend on types and ranks
    if not (allow_integer and SIMULATED_KEY in model.metadata_props):  # that is read as it is
        notes += convert_opset(model)
    make_names_unique(model)
    lift_constants(model)
    ends = {} if allow_integer else _to_qdq(model)
    inference = infer(model)
    inference.inlined[:0] = inlined
    notes += _inference_notes(inference)
    float_nodes = _float_nodes(model, inference)
    if not allow_integer:
        _insist_on_float(model, path)
    files = (path, *external_files(model))
    map_external(model)
    give_back()
    return Imported(
        model,
        signature_of(model),
        tuple(notes),
        float_nodes,
        files,
        source_opset,
        source_nodes,
        ends=ends,
    )


def _to_qdq(model: ir.Model) -> dict[str, End]:
    """Bring a model that is quantized already to QDQ form; what its integer ends stand for."""
    if not any(is_integer_arithmetic(node) for node in model.graph):
        return {}
    OperatorsToQDQ()(model)
    infer(model)  # types behind operators that ONNX does not know
    RealMoves()(model)
    ends = ends_of(model)
    RealEnds()(model)
    real = {v.name for v in (*model.graph.inputs, *model.graph.outputs) if v.dtype == _FLOAT}
    return {name: end for name, end in ends.items() if name in real}


def is_integer_arithmetic(node: ir.Node) -> bool:
    """Whether a node is one of those that quantized models are made of."""
    name = node.op_type
    return name.startswith(_INTEGER_STEMS) or name in _INTEGER_OPERATORS


@functools.cache
def runtime_operators() -> frozenset[OperatorKey] | None:
    """Operators that ONNX Runtime has beyond ONNX's, or None if this build does not tell.

    Only asked for a model that has an operator ONNX does not know.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    schemas = getattr(runtime, "get_all_operator_schema", None)
    if schemas is None:
        return None
    return frozenset((schema.domain, schema.name) for schema in schemas())


def external_files(model: ir.Model) -> list[Path]:
    """The files in which a model keeps its large tensors, sorted."""
    tensors = (v.const_value for graph in graphs_of(model) for v in graph.initializers.values())
    return sorted({Path(t.path) for t in tensors if isinstance(t, ir.ExternalTensor)})


def _deserialize(proto: onnx.ModelProto, path: Path) -> ir.Model:
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # whatever it is: the message was sound, its content is not
        cause = error.__cause__ or error
        raise QCompileError(Code.MODEL_INVALID, f"{path} is not a valid model: {cause}") from error
    for graph in graphs_of(model):
        for node in graph:
            if node.domain == "ai.onnx":
                node.domain = ""
            for value in node.outputs:
                if value.dtype == ir.DataType.UNDEFINED:
                    value.type = None
    for imports in (model.opset_imports, *(f.opset_imports for f in model.functions.values())):
        if "ai.onnx" in imports:
            imports[""] = imports.pop("ai.onnx")
    return model


def _inference_notes(inference: Inference) -> list[Note]:
    notes: list[Note] = []
    if inference.inlined:
        some = ", ".join(inference.inlined[:3]) + (", ..." if len(inference.inlined) > 3 else "")
        text = f"{len(inference.inlined)} If whose condition is known became the branch that runs"
        notes.append(Note("info", f"{text}: {some}"))
    if inference.distrusted:
        text = "the shapes that the file declares contradict its own nodes; they were dropped"
        notes.append(Note("info", text))
    for name, reason in inference.failures.items():
        text = f"no shape can be inferred here, it is left float: {reason}"
        notes.append(Note("warning", text, node=name))
    return notes


def _float_nodes(model: ir.Model, inference: Inference) -> dict[str, str]:
    """Node name -> reason, in graph order."""
    reasons: dict[str, str] = {}
    culprit = ""
    for node in model.graph:
        name = node.name or ""
        if name in inference.failures:
            culprit = name
            reasons[name] = f"no shape can be inferred: {inference.failures[name]}"
        elif any(subgraphs_of(node)):
            reasons[name] = f"{node.op_type} holds a subgraph, which is kept as it is"
        elif node.domain not in ("", "ai.onnx.ml"):
            culprit = culprit or name
            reasons[name] = f"{node.domain}.{node.op_type} is an operator of ONNX Runtime's own"
        elif node.domain:
            reasons[name] = f"{node.domain}.{node.op_type} is not a neural network operator"
        elif _of_unknown_type(node):
            behind = f" behind node {culprit}" if culprit else ""
            reasons[name] = f"the types around it are not known{behind}"
    return reasons


def _of_unknown_type(node: ir.Node) -> bool:
    values = (*node.inputs, *node.outputs)
    return any(v is not None and v.name and v.type is None for v in values)


def _insist_on_float(model: ir.Model, path: Path) -> None:
    for graph in graphs_of(model):
        for node in graph:
            for value in (*node.inputs, *node.outputs):  # ArgMax and Greater read floats
                if value is not None and (value.dtype is None or value.dtype.is_floating_point()):
                    return
    raise QCompileError(
        Code.NOTHING_TO_QUANTIZE,
        f"{path} computes nothing in floating point",
        hint="only float models can be quantized",
    )
