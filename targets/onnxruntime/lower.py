"""QDQ graph in, finished ONNX Runtime model out; nothing else is read."""

from typing import Final

import onnx_ir as ir

from qcompile.core.app_info import APP_KEY
from qcompile.core.backend import SIMULATED_KEY, TARGET_KEY
from qcompile.core.errors import Code, QCompileError
from qcompile.core.pixels import PIXELS_KEY
from qcompile.core.target import Target
from qcompile.targets.absorb_clamps import AbsorbClamps
from qcompile.targets.onnxruntime.block_weights import BlockWeights
from qcompile.targets.onnxruntime.divide_by_root import DivideByRoot
from qcompile.targets.onnxruntime.dynamic_matmul import DynamicMatMul
from qcompile.targets.onnxruntime.executor import ONE_FILE, take_in, weight_bytes
from qcompile.targets.onnxruntime.keep_float import KeepFloat
from qcompile.targets.onnxruntime.opset import stamp
from qcompile.targets.onnxruntime.point_conv import PointConv
from qcompile.targets.onnxruntime.tflite_sums import TfliteSums

PRODUCER = "qcompile"
_RUNTIME: Final = "onnxruntime"
"""Whose arithmetic ``TfliteSums`` knows."""
_PASSES: Final = (
    AbsorbClamps(),
    PointConv(),
    DynamicMatMul(),
    BlockWeights(),
    DivideByRoot(),
    KeepFloat(),
)


def lower(qdq: ir.Model, target: Target) -> bytes:
    """Write a QDQ (or float) graph as an ONNX file for ONNX Runtime.

    Clamps that quantizers do are dropped, dynamic MatMuls become integer ops, what reads stored
    weights becomes a node of the block kernels, layers that are to be float are kept so, external
    tensors are taken into the file, and it is stamped with the lowest opset it needs. ``qdq`` is
    not changed. Equal graphs give equal bytes.

    Raises:
        QCompileError: OPSET_UNSUPPORTED for the target's oldest runtime; SCHEME_UNSUPPORTED when
            the result does not fit in one file.

    """
    model = qdq.clone()
    take_in(model)
    kept = {key: qdq.metadata_props.get(key) for key in (SIMULATED_KEY, APP_KEY, PIXELS_KEY)}
    simulated = kept[SIMULATED_KEY]
    if target.runtime == _RUNTIME and not simulated:
        TfliteSums()(model)  # QNN adds otherwise, and takes one scale a tensor
    for one in () if simulated else _PASSES:
        one(model)
    stamp(model, target)
    _strip(model)
    model.producer_name = PRODUCER
    model.metadata_props[TARGET_KEY] = target.name
    model.metadata_props.update({key: text for key, text in kept.items() if text})
    size = weight_bytes(model)
    if size > ONE_FILE:
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED,
            f"the compiled model holds {size / 2**30:.1f} GiB of weights, more than a file can",
            hint="choose a scheme with smaller weights",
        )
    proto = ir.to_proto(model)
    for value in model.graph.initializers.values():  # the clone lives on in circles
        value.const_value = None
    del proto.graph.value_info[:]  # of initializers, which say their type and shape themselves
    return bytes(proto.SerializeToString(deterministic=True))


def _strip(model: ir.Model) -> None:
    """Drop notes to ourselves: they are in the QDQ graph, and old runtimes do not know them."""
    model.metadata_props.clear()
    model.doc_string = model.producer_version = model.domain = model.model_version = None
    for graph in model.graphs():
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
            value.doc_string = None
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for output in node.outputs:
                output.metadata_props.clear()
                output.doc_string = None
                # Shapes are inferred again at load; in the file they only cost bytes.
                if not output.is_graph_output():
                    output.shape, output.type = None, None
        used = {v for node in graph for v in node.inputs if v is not None}
        for name, value in list(graph.initializers.items()):
            if value not in used and not value.uses() and not value.is_graph_output():
                del graph.initializers[name]
