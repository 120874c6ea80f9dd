"""Copies of a TFLite file that also return inner tensors, or that end at them.

An output is a tensor of its own for a delegate too, so that XNNPACK's kernels can be watched: what
it computes is not kept otherwise.
"""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

from qcompile.targets.tflite.schema import schema

_IDENTIFIER = b"TFL3"


def exposed(artefact: bytes, names: Sequence[str]) -> bytes:
    """The file with inner tensors as further outputs, behind its own.

    Args:
        artefact: the file.
        names: of tensors that its operators make.
    """
    model, graph = _read(artefact)
    own = [int(i) for i in graph.outputs]
    graph.outputs = [*own, *(i for i in _indices(graph, names) if i not in own)]
    return _written(model, graph)


def cut(artefact: bytes, names: Sequence[str]) -> bytes:
    """The file with these tensors as its only outputs, without the operators none of them needs.

    Inputs that are not needed stay: the same feeds run it.

    Args:
        artefact: the file.
        names: of tensors that its operators make.
    """
    model, graph = _read(artefact)
    graph.outputs = _indices(graph, names)
    needed = set(graph.outputs)
    kept = []
    for operator in reversed(graph.operators):
        if needed.isdisjoint(_list(operator.outputs)):
            continue
        kept.append(operator)
        needed.update(_list(operator.inputs))
    graph.operators = kept[::-1]
    return _written(model, graph)


def _read(artefact: bytes) -> tuple[Any, Any]:
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(bytearray(artefact), 0))
    return model, model.subgraphs[0]


def _written(model: Any, graph: Any) -> bytes:
    """The file; its signature names the outputs as their tensors, or as it did.

    What a file says beside its graph (an app's metadata, a layout) is of outputs it no longer has.
    """
    s = schema()
    model.metadata, model.metadataBuffer = [], []
    for signature in model.signatureDefs or ():
        known = {entry.tensorIndex: entry for entry in signature.outputs}
        signature.outputs = [
            known.get(i) or _entry(s, graph.tensors[i].name, i) for i in graph.outputs
        ]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _entry(s: Any, name: bytes, index: int) -> Any:
    entry = s.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _indices(graph: Any, names: Sequence[str]) -> list[int]:
    """Tensors by name; of several with one name the first that is computed."""
    made = {int(i) for operator in graph.operators for i in _list(operator.outputs)}
    known: dict[str, int] = {}
    for index, tensor in enumerate(graph.tensors):
        if index in made:
            known.setdefault(tensor.name.decode() if tensor.name else "", index)
    return list(dict.fromkeys(known[name] for name in names))


def _list(items: Any) -> list[int]:
    return [] if items is None else np.asarray(items).tolist()
