"""Reads what a SavedModel would run when it is loaded and called, without running it.

A SavedModel is a program of TensorFlow: its initializers may read and write files, and Python
functions may be called from it. What is reachable from what loading runs (initializers, the
restoring of variables) and from its signatures is held against a list of what touches nothing
outside.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from qcompile.core.errors import Code, QCompileError

FILE: Final = "saved_model.pb"
FILE_OPS: Final = frozenset(
    {"ImmutableConst", "MatchingFiles", "PyFuncStateless", "ReadFile", "CheckpointExists"}
)
"""Operators that TensorFlow calls stateless, and that read files or call Python."""

INSIDE_OPS: Final = frozenset(
    {
        "Assert", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "Case",
        "EmptyTensorList", "HashTable", "HashTableV2", "If", "InitializeTable",
        "InitializeTableV2", "LookupTableExportV2", "LookupTableFind", "LookupTableFindV2",
        "LookupTableImport", "LookupTableImportV2", "LookupTableInsertV2", "LookupTableSize",
        "LookupTableSizeV2", "Multinomial", "MutableHashTableV2", "PartitionedCall",
        "Placeholder", "RandomGamma", "RandomStandardNormal", "RandomUniform",
        "RandomUniformInt", "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "RestoreV2",
        "StackPopV2", "StackPushV2", "StackV2", "StatefulPartitionedCall", "TensorArrayV3",
        "TruncatedNormal", "VarHandleOp", "VarIsInitializedOp", "Variable", "VariableV2",
        "While",
    }
)  # fmt: skip
"""Operators with a state that lies within the model. ``RestoreV2`` reads the model's variables."""

Graph = Any  # a GraphDef


def check_saved_model(folder: Path) -> tuple[str, ...]:
    """Refuse a SavedModel that reaches outside of itself; else the tags of what to load in it.

    Raises:
        QCompileError: NOT_A_MODEL, MODEL_INVALID, UNTRUSTED_MODEL, UNKNOWN_OP.
    """
    meta = _meta_graph(read_saved_model(folder), folder)
    for name, op in _run(meta):
        known = op_def_registry.get(op)
        if known is None:
            raise QCompileError(
                Code.UNKNOWN_OP, f"{op} is not one of TensorFlow's own operators", node=name
            )
        if op in FILE_OPS or (known.is_stateful and op not in INSIDE_OPS):
            raise QCompileError(
                Code.UNTRUSTED_MODEL,
                f"the model runs {op}, which reaches outside of the model",
                node=name,
                hint="if you trust whoever made it, give --trust-model",
            )
    return tags_of(meta)


def read_saved_model(folder: Path) -> Any:
    """The message in a SavedModel's folder.

    Raises:
        QCompileError: NOT_A_MODEL.
    """
    message = saved_model_pb2.SavedModel()
    path = folder / FILE
    try:
        message.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise QCompileError(
            Code.NOT_A_MODEL, f"{path} is not a SavedModel, or only a part of one"
        ) from error
    if not message.meta_graphs:
        raise QCompileError(Code.NOT_A_MODEL, f"{path} holds no graph")
    return message


def tags_of(meta: Any) -> tuple[str, ...]:
    """The tags by which TensorFlow finds a graph."""
    return tuple(sorted(meta.meta_info_def.tags))


def _meta_graph(message: Any, folder: Path) -> Any:
    """The graph for serving: the one with that tag, or the only one."""
    graphs = list(message.meta_graphs)
    serving = [meta for meta in graphs if "serve" in meta.meta_info_def.tags]
    plain = [meta for meta in serving if len(meta.meta_info_def.tags) == 1]
    found = plain or serving or (graphs if len(graphs) == 1 else [])
    if not found:
        raise QCompileError(Code.MODEL_INVALID, f"{folder} has no graph with the tag serve")
    return found[0]


def load_tags(folder: Path) -> tuple[str, ...]:
    """The tags of the graph that is loaded, unchecked."""
    return tags_of(_meta_graph(read_saved_model(folder), folder))


def _run(meta: Any) -> Iterator[tuple[str, str]]:
    """Name and operator of every node that loading or a signature may run."""
    functions = {f.signature.name: f for f in meta.graph_def.library.function}
    saved = meta.object_graph_def.concrete_functions
    pending = [name for name in saved if name in functions]
    for node in _reached(meta):
        yield node.name, node.op
        pending += _called(node)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            yield f"{name}/{node.name}", node.op
            pending += _called(node)


def _called(node: Any) -> list[str]:
    """Names of the functions that a node calls."""
    names = [value.func.name for value in node.attr.values() if value.HasField("func")]
    for value in node.attr.values():
        names += [function.name for function in value.list.func]
    return [*names, node.op]  # a function may be called as an operator of its name


def _reached(meta: Any) -> Iterable[Any]:
    """The nodes of the main graph that signatures, initializers and restoring need."""
    nodes = {node.name: node for node in meta.graph_def.node}
    pending = [i.name for s in meta.signature_def.values() for i in s.outputs.values()]
    pending += [meta.saver_def.restore_op_name]
    for collection in meta.collection_def.values():
        pending += list(collection.node_list.value)
    found = {}
    while pending:
        name = pending.pop().removeprefix("^").partition(":")[0]
        if name in found or name not in nodes:
            continue
        found[name] = nodes[name]
        pending += nodes[name].input
    return found.values()
