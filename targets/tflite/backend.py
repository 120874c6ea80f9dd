"""The TFLite back end as the compiler sees it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompile.core.accelerator import Kernels, Offload
from qcompile.core.backend import IO_LAYOUT_KEY, TARGET_KEY, Facts, Lowered
from qcompile.core.ends import End
from qcompile.core.errors import Code, QCompileError
from qcompile.core.pixels import PIXELS_KEY, Pixels, pixels_from_json
from qcompile.core.proof import Planned, Proof
from qcompile.core.signature import TensorSpec
from qcompile.core.target import Target
from qcompile.targets.tflite.lower import LAYOUT_KEY, IoLayout, lower_with_notes
from qcompile.targets.tflite.offload import offload
from qcompile.targets.tflite.prove import prove
from qcompile.targets.tflite.reading import Graph, Tensor, read_graph
from qcompile.targets.tflite.runtime import TfliteSession
from qcompile.targets.tflite.verifier import verify_flatbuffer


@dataclass(frozen=True)
class TfliteBackend:
    """See ``core.backend.Backend``."""

    suffix: str = ".tflite"
    runs_float_file: bool = False
    elsewhere: str = "this machine's LiteRT kernels; the target's may differ by 1 LSB an operator"

    def lower(self, qdq: ir.Model, target: Target) -> Lowered:
        """Write a TFLite file, and hold it against the operator table: the loader does not.

        Raises:
            QCompileError: INTERNAL for a file that breaks a rule of the table.
        """
        lowered = lower_with_notes(qdq, target, io_layout=_layout(qdq))
        faults = verify_flatbuffer(lowered.data, runtime=lowered.oldest)
        if faults:
            raise QCompileError(Code.INTERNAL, f"the file that was written is wrong: {faults[0]}")
        return Lowered(lowered.data, lowered.notes)

    def facts(self, artefact: bytes | Path) -> Facts:
        """Read a TFLite file."""
        graph = read_graph(artefact if isinstance(artefact, bytes) else artefact.read_bytes())
        pixels = pixels_from_json(graph.metadata.get(PIXELS_KEY))
        perms = json.loads(graph.metadata.get(LAYOUT_KEY, b"{}"))
        inputs = _named(graph, graph.inputs, 0)
        outputs = _named(graph, graph.outputs, 1)
        ends = {
            name: _end(tensor, perms.get(name), pixels.get(name))
            for name, tensor in (*inputs.items(), *outputs.items())
        }
        return Facts(
            len(graph.operators),
            0,
            tuple(TensorSpec(name, t.dtype, t.shape) for name, t in inputs.items()),
            tuple(TensorSpec(name, t.dtype, t.shape) for name, t in outputs.items()),
            ends,
            graph.metadata.get(TARGET_KEY, b"").decode(),
        )

    def open(
        self, artefact: bytes | Path, *, exact: bool = False, kernels: Kernels = "default"
    ) -> TfliteSession:
        """Load a TFLite file, by default with XNNPACK; no integer sum of any kernel saturates."""
        return TfliteSession(artefact, "xnnpack" if kernels == "default" else kernels)

    def offload(self, artefact: bytes | Path, target: Target) -> Offload:
        """Tell the operators that XNNPACK leaves, and in how many pieces it takes the others."""
        return offload(artefact)

    def off_share(
        self, artefact: bytes | Path, feeds: Mapping[str, np.ndarray], target: Target
    ) -> float | None:
        """LiteRT's Python interpreter has no profile."""
        return None

    def prove(self, artefact: bytes | Path, planned: Sequence[Planned], target: Target) -> Proof:
        """Look up the planned nodes in the file."""
        return prove(artefact, planned, target)


def _layout(qdq: ir.Model) -> IoLayout | None:
    match qdq.metadata_props.get(IO_LAYOUT_KEY):
        case "nhwc":
            return "nhwc"
        case "nchw":
            return "nchw"
        case _:
            return None


def _named(graph: Graph, indices: Sequence[int], side: int) -> dict[str, Tensor]:
    """Ends by the names of the signature, by those of the tensors where there is none."""
    signature = next(iter(graph.signatures.values()), ({}, {}))[side]
    names = {index: name for name, index in signature.items()}
    return {names.get(i, graph.tensors[i].name): graph.tensors[i] for i in indices}


def _end(tensor: Tensor, perm: Sequence[int] | None, pixels: Pixels | None) -> End:
    order = None if perm is None else tuple(perm)
    q = tensor.quantization
    if q is None or q.scale.size != 1:
        return End(tensor.dtype, perm=order)
    made_of = pixels if tensor.dtype in {"uint8", "int8"} else None
    zero_point = np.asarray(q.zero_point).reshape(())
    return End(tensor.dtype, q.scale.reshape(()), zero_point, order, made_of)
