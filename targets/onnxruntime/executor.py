"""Runs graphs in ONNX Runtime for the passes and the verification (``core.executor``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import SEEK_END
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from qcompile.core.backend import SIMULATED_KEY
from qcompile.core.errors import Code, QCompileError
from qcompile.core.memory import trim
from qcompile.core.on_disk import LARGE, LEAST
from qcompile.core.scratch import scratch_folder
from qcompile.targets.onnxruntime.exact_sums import give_own_weights
from qcompile.targets.onnxruntime.keep_float import KeepFloat, forgotten
from qcompile.targets.onnxruntime.split_file import split_file

_METADATA_BYTES = 4096
"""More than the metadata of an artefact take."""

ONE_FILE = 2**31 - 2**24
"""Bytes of weights up to which a file is one protobuf message, whose limit is 2 GiB."""

_ONE_MESSAGE = 64 << 20
"""Bytes of weights up to which a model is handed over as one message. Of larger ones the message,
its bytes and what ONNX Runtime makes of them would each be a copy; a file is mapped."""


@dataclass(frozen=True)
class OrtSession:
    """A model loaded by ONNX Runtime; ``run`` is thread-safe and keeps no state."""

    raw: ort.InferenceSession
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_types: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[ort.OrtValue, ...] = ()
    """Weights that it reads where they are."""
    lean: bool = False
    """What a run took goes back to the system; else it is kept for the next one."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the model once.

        Raises:
            QCompileError: RUNTIME_FAILED with ONNX Runtime's own message.

        """
        try:
            found = [np.asarray(x) for x in self.raw.run(self.output_names, dict(feeds))]
        except Exception as error:  # ONNX Runtime raises classes of its own, and RuntimeError
            raise QCompileError(
                Code.RUNTIME_FAILED,
                f"ONNX Runtime failed while running the model: {_reason(error)}",
            ) from error
        if self.lean:
            trim()
        return found


@dataclass(frozen=True)
class OrtExecutor:
    """Loads onnx_ir models and artefacts; stateless."""

    as_written: bool = False
    """Run quantized graphs (those that ask for ``exact`` sums) node by node. ONNX Runtime merges
    quantizers with weights of 4 bits, or around activations of 16, into kernels that compute
    something else; a QLinearConv with 2-bit weights does not load."""

    def load(
        self,
        model: ir.Model,
        outputs: Sequence[str] | None = None,
        *,
        threads: int = 1,
        exact: bool = False,
        optimize: bool = True,
    ) -> OrtSession:
        """See ``core.executor.Executor.load``."""
        optimize = optimize and not (exact and self.as_written)
        options = session_options(threads=threads, exact=exact, optimize=optimize)
        names = None if outputs is None else list(outputs)
        model = _kept_float(model) if optimize else model
        if weight_bytes(model) <= _ONE_MESSAGE:
            proto = ir.to_proto(_with_weights(model))
            if names is not None:
                _expose(proto, names)
            if exact:
                give_own_weights(proto)
            return open_session(proto.SerializeToString(), options, names)
        with scratch_folder() as folder:
            path = folder / "model.onnx"
            ir.save(_with_outputs(model, names), path, external_data="model.data")
            proto = onnx.load(str(path), load_external_data=False)
            if exact and give_own_weights(proto):
                path.write_bytes(proto.SerializeToString())
            kept = _share_weights(model, options)
            return replace(open_session(path, options, names), kept=kept, lean=True)


def _share_weights(model: ir.Model, options: ort.SessionOptions) -> tuple[ort.OrtValue, ...]:
    """Let a session read a large model's weights where they are; what must outlive the session.

    It would pack them into copies otherwise, and its arena, which grows by powers of two, would
    keep what the largest outputs once took.
    """
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    kept = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if type(tensor) is ir.Tensor and tensor.dtype == ir.DataType.FLOAT:
            array = tensor.numpy()
            if array.nbytes >= LARGE and array.flags.c_contiguous and array.flags.aligned:
                kept.append(ort.OrtValue.ortvalue_from_numpy(array))
                options.add_initializer(name, kept[-1])
    return tuple(kept)


def open_artefact(
    artefact: bytes | Path, outputs: Sequence[str] | None = None, *, exact: bool = False
) -> OrtSession:
    """Load a finished model, one file or its bytes, to run with one thread.

    Args:
        artefact: the model.
        outputs: values to return, also from its inside; its own outputs when None.
        exact: as in ``session_options``.

    Raises:
        QCompileError: RUNTIME_REFUSED.

    """
    simulated = is_simulated(artefact)
    exact = exact and not simulated
    options = session_options(exact=exact, optimize=not simulated)
    if outputs is None and not exact:
        return open_session(artefact, options)
    proto = onnx.load_from_string(artefact if isinstance(artefact, bytes) else _read(artefact))
    if outputs is not None:
        _expose(proto, outputs)
    if exact:
        give_own_weights(proto)
    return open_session(proto.SerializeToString(), options, outputs)


def open_file(path: Path, *, threads: int = 1, lean: bool = False) -> OrtSession:
    """Load a model file of the user's; a large one through a copy that can be mapped.

    Args:
        path: the file; its external data are looked for beside it.
        threads: threads one run may use.
        lean: no arena for a large one: a run takes a little longer, and gives back what it took.

    Raises:
        QCompileError: RUNTIME_REFUSED.
    """
    options = session_options(threads=threads)
    if not path.is_file() or path.stat().st_size < LEAST:
        return open_session(path, options)
    options.enable_cpu_mem_arena = not lean
    with scratch_folder() as folder:
        try:
            made = split_file(path, folder)
        except OSError:  # no room for the copy
            made = None
        return replace(open_session(made or path, options), lean=lean)


def is_simulated(artefact: bytes | Path) -> bool:
    """Whether an artefact of ours says that its integers are to be computed with as floats.

    The metadata stand at the end of the file; nothing else of it is read.
    """
    if isinstance(artefact, bytes):
        return SIMULATED_KEY.encode() in artefact[-_METADATA_BYTES:]
    try:
        with artefact.open("rb") as file:
            size = file.seek(0, SEEK_END)
            file.seek(max(0, size - _METADATA_BYTES))
            return SIMULATED_KEY.encode() in file.read()
    except OSError:
        return False  # whoever loads it says what is wrong


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise QCompileError(
            Code.RUNTIME_REFUSED, f"{path} cannot be read: {error.strerror}"
        ) from error


def session_options(
    *, threads: int = 1, exact: bool = False, optimize: bool = True
) -> ort.SessionOptions:
    """Options of a session that prints nothing and uses ``threads`` threads a run.

    ``exact`` sets ``session.x64quantprecision``: on x86-64 without VNNI the U8S8 kernels, whose
    sums saturate at 16 bits, are replaced by exact ones. A model for such a session must first have
    been through ``give_own_weights``.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = (
        ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        if optimize
        else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(
    source: bytes | Path, options: ort.SessionOptions, outputs: Sequence[str] | None = None
) -> OrtSession:
    """Load a finished model file, or its bytes.

    Raises:
        QCompileError: RUNTIME_REFUSED with ONNX Runtime's own reason.

    """
    try:
        raw = ort.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # ONNX Runtime raises classes of its own, and RuntimeError
        raise QCompileError(
            Code.RUNTIME_REFUSED,
            f"ONNX Runtime {ort.__version__} does not load the model: {_reason(error)}",
        ) from error
    names = tuple(outputs) if outputs is not None else tuple(o.name for o in raw.get_outputs())
    types = {i.name: i.type for i in raw.get_inputs()}
    return OrtSession(raw, tuple(types), names, types)


def take_in(model: ir.Model) -> None:
    """Map tensors that lie in the user's files, so that their bytes are written and not places."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def _kept_float(model: ir.Model) -> ir.Model:
    """The model, or where ONNX Runtime would quantize some of its float layers a guarded copy."""
    if not forgotten(model.graph):
        return model
    clone = model.clone()
    KeepFloat()(clone)
    return clone


def _with_weights(model: ir.Model) -> ir.Model:
    """The model, or where some of its tensors lie in files a copy into which they are taken."""
    tensors = (v.const_value for g in model.graphs() for v in g.initializers.values())
    if not any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
        return model
    clone = model.clone()
    take_in(clone)
    return clone


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of a model, subgraphs included."""
    return sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )


def _expose(proto: onnx.ModelProto, names: Sequence[str]) -> None:
    known = {o.name: o for o in proto.graph.output}
    wanted = [known.get(name) or onnx.ValueInfoProto(name=name) for name in names]
    del proto.graph.output[:]
    proto.graph.output.extend(wanted)


def _with_outputs(model: ir.Model, names: Sequence[str] | None) -> ir.Model:
    clone = model.clone()
    if names is not None:
        by_name = {v.name: v for node in clone.graph for v in node.outputs}
        by_name.update({v.name: v for v in clone.graph.inputs})
        clone.graph.outputs.clear()
        clone.graph.outputs.extend(by_name[name] for name in names)
    return clone


def _reason(error: Exception) -> str:
    """The useful part of ONNX Runtime's message, on one line."""
    text = " ".join(str(error).split())
    return text.removeprefix("[ONNXRuntimeError] : ")
