"""Runs a finished artefact beside its float model: accuracy, latency, and what the files are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.data.lint import Watched
from qcompile.compiler.data.scaling import check_scaling, first_layers
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.progress import Counter
from qcompile.compiler.report.model import Accuracy, Latency, ModelInfo
from qcompile.compiler.verify.accuracy import evaluate
from qcompile.compiler.verify.ends import FloatEnds, QuantizedEnd
from qcompile.compiler.verify.latency import compare_latency
from qcompile.core.executor import Executor, Session
from qcompile.core.graph import constant
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.signature import Signature, signature_of
from qcompile.core.target import Target
from qcompile.targets.catalog import load_target, target_names
from qcompile.targets.host import runs_here
from qcompile.targets.onnxruntime.executor import open_artefact, open_session, session_options
from qcompile.targets.onnxruntime.lower import TARGET_KEY

Feeds = Mapping[str, np.ndarray]

_LINEAR = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Reference:
    """The user's float model, run as it is where the runtime takes it."""

    path: Path
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def session(self, threads: int = 1) -> Session:
        """Load the user's own file; not our reading of it, so that a fault of ours shows."""
        return open_session(self.path, session_options(threads=threads))


@dataclass(frozen=True)
class Pair:
    """A float model and what was made of it."""

    reference: Reference
    artefact: bytes | Path
    ends: Mapping[str, QuantizedEnd] = field(default_factory=dict)
    target: Target | None = None

    def candidate(self, *, exact: bool) -> Session:
        """The artefact, to be fed and read as floats."""
        session = open_artefact(self.artefact, exact=exact)
        return FloatEnds(session, self.ends) if self.ends else session

    @property
    def at_home(self) -> bool:
        """Whether this machine is one that the artefact was made for."""
        return self.target is None or runs_here(self.target)


def quantized_ends(model: ir.Model, plan: QuantPlan) -> dict[str, QuantizedEnd]:
    """How to feed and read the integer ends of a build."""
    if plan.ends == "float":
        return {}
    found = {}
    for value in (*model.graph.inputs, *model.graph.outputs):
        entry = plan.quantized(value.name)
        if entry is not None and entry.params is not None:
            found[entry.name] = QuantizedEnd(
                entry.dtype, entry.params.scale, entry.params.zero_point
            )
    return found


def ends_of_artefact(model: ir.Model, reference: Signature) -> dict[str, QuantizedEnd]:
    """How to feed and read the integer ends of a finished artefact.

    An input that is integer where the float model's is float says its scale in the
    DequantizeLinear that reads it, an output in the QuantizeLinear that makes it.
    """
    floats = {s.name for s in (*reference.inputs, *reference.outputs) if s.dtype == "float32"}
    found = {}
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name not in floats or value.dtype == ir.DataType.FLOAT:
            continue
        producer = value.producer()
        readers = [producer] if producer is not None else list(value.consumers())
        node = next((n for n in readers if n and n.op_type in _LINEAR), None)
        if node is None or value.dtype is None:
            continue
        scale = constant(node.inputs[1])
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.int64)
        if scale is not None and zero is not None:
            end = QuantizedEnd(value.dtype.name.lower(), scale, zero.astype(np.int64))
            found[value.name] = end
    return found


def made_for(artefact: ir.Model) -> Target | None:
    """The target that an artefact says it was made for, if it is one that qcompile knows."""
    name = artefact.metadata_props.get(TARGET_KEY)
    return load_target(name) if name in target_names() else None


def accuracy(
    pair: Pair, data: Dataset, described: str, threads: int, counter: Counter | None
) -> Accuracy:
    """The artefact against the float model on some samples.

    On a machine that the artefact is not made for, its integer sums are computed exactly: they
    are what its target computes, while this machine's fastest kernels may saturate.
    """
    return evaluate(
        pair.reference.session(),
        pair.candidate(exact=not pair.at_home),
        data,
        data=described,
        threads=threads,
        arithmetic="" if pair.at_home else "exact integer sums; this machine is not the target",
        counter=counter,
    )


def latency(pair: Pair, feeds: Feeds) -> tuple[Latency | None, str]:
    """Time both models on one sample with one thread; a reason instead where that says nothing."""
    if not pair.at_home:
        name = pair.target.name if pair.target is not None else ""
        return None, f"this machine is not one that {name} is made for"
    artefact = open_artefact(pair.artefact)
    ends = FloatEnds(artefact, pair.ends)
    sessions: dict[str, Session] = {"float": pair.reference.session(), "integer": artefact}
    fed: dict[str, list[Feeds]] = {"float": [feeds], "integer": [ends.feeds(feeds)]}
    return compare_latency(sessions, fed), ""


def data_notes(
    data: Watched, model: ir.Model, executor: Executor, *, is_random: bool
) -> list[Note]:
    """Remarks on the calibration samples; noise needs none."""
    if is_random:
        return []
    judged = [layer.input for layer in first_layers(model)]
    return [*data.notes(judged), *check_scaling(data, model, executor)]


def file_info(path: Path, imported: Imported) -> ModelInfo:
    """What a model file is, as it stands on disk."""
    return ModelInfo(
        name=path.name,
        bytes=sum(file.stat().st_size for file in imported.files),
        nodes=imported.source_nodes,
        sha256=_sha256(path),
        opset=imported.source_opset,
        inputs=imported.signature.inputs,
        outputs=imported.signature.outputs,
    )


def artefact_info(artefact: bytes, name: str) -> ModelInfo:
    """What a finished artefact is."""
    model = ir.from_proto(onnx.load_from_string(artefact))
    signature = signature_of(model)
    return ModelInfo(
        name=name,
        bytes=len(artefact),
        nodes=model.graph.num_nodes(),
        sha256=hashlib.sha256(artefact).hexdigest(),
        opset=model.opset_imports.get("", 0),
        inputs=signature.inputs,
        outputs=signature.outputs,
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
