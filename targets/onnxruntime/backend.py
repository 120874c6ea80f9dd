"""The ONNX Runtime back end as the compiler sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from qcompile.core.accelerator import Kernels, Offload
from qcompile.core.backend import SIMULATED_KEY, TARGET_KEY, Facts, Lowered
from qcompile.core.decoder_ends import decoder_ends
from qcompile.core.ends import End
from qcompile.core.graph import constant
from qcompile.core.pixels import PIXELS_KEY, pixels_from_json
from qcompile.core.proof import Planned, Proof
from qcompile.core.signature import signature_of
from qcompile.core.target import Target
from qcompile.targets.onnxruntime.executor import OrtSession, open_artefact
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.offload import offload
from qcompile.targets.onnxruntime.profile import off_share
from qcompile.targets.onnxruntime.prove import prove

_QUANTIZED = frozenset({ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT16})


@dataclass(frozen=True)
class OrtBackend:
    """See ``core.backend.Backend``."""

    suffix: str = ".onnx"
    runs_float_file: bool = True
    elsewhere: str = "exact integer sums; this machine is not the target"

    def lower(self, qdq: ir.Model, target: Target) -> Lowered:
        """Write an ONNX file."""
        return Lowered(lower(qdq, target))

    def facts(self, artefact: bytes | Path) -> Facts:
        """Read an ONNX file of ours."""
        raw = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
        model = ir.from_proto(onnx.load_from_string(raw))
        signature = signature_of(model)
        return Facts(
            model.graph.num_nodes(),
            model.opset_imports.get("", 0),
            signature.inputs,
            signature.outputs,
            ends_of(model),
            model.metadata_props.get(TARGET_KEY, ""),
            model.metadata_props.get(SIMULATED_KEY, ""),
        )

    def open(
        self, artefact: bytes | Path, *, exact: bool = False, kernels: Kernels = "default"
    ) -> OrtSession:
        """Load an ONNX file; there is one set of kernels."""
        return open_artefact(artefact, exact=exact)

    def offload(self, artefact: bytes | Path, target: Target) -> Offload:
        """Tell the nodes that run in floats, and the islands they form."""
        return offload(artefact, target)

    def off_share(
        self, artefact: bytes | Path, feeds: Mapping[str, np.ndarray], target: Target
    ) -> float | None:
        """Profile the artefact on one sample."""
        return off_share(artefact, feeds, target)

    def prove(self, artefact: bytes | Path, planned: Sequence[Planned], target: Target) -> Proof:
        """Look up the planned nodes in ONNX Runtime's optimized graph."""
        return prove(artefact, planned, target)


def ends_of(model: ir.Model) -> dict[str, End]:
    """The integer ends of an artefact that stand for floats.

    An input says its scale in the DequantizeLinear that reads it, an output in the QuantizeLinear
    that makes it. Caches of integers say none: their scales are of the node that keeps them, and
    all that can be fed from outside is an empty one.
    """
    decoder = decoder_ends(signature_of(model))
    found = {
        cache.taken.name: End(cache.taken.dtype, shape=cache.taken.shape)
        for cache in (decoder.caches if decoder is not None else ())
        if cache.taken.dtype in {"int8", "uint8"}
    }
    pixels = pixels_from_json(model.metadata_props.get(PIXELS_KEY))
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.dtype not in _QUANTIZED or value.name is None:
            continue
        producer = value.producer()
        nodes = [producer] if producer is not None else list(value.consumers())
        wanted = "DequantizeLinear" if producer is None else "QuantizeLinear"
        node = next((n for n in nodes if n.op_type == wanted), None)
        if node is None or value.dtype is None:
            continue
        scale = constant(node.inputs[1])
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.int64)
        if scale is not None and zero is not None:
            kind, made_of = value.dtype.name.lower(), pixels.get(value.name)
            found[value.name] = End(kind, scale, zero.astype(np.int64), pixels=made_of)
    return found
