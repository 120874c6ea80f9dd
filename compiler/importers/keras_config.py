"""Refuses Keras configurations that name code of their own, before Keras reads them.

Keras' safe mode was got around several times (CVE-2025-1550: any module and function by name;
CVE-2025-8747 and CVE-2025-9906: Keras' own functions that write files or switch the mode off;
CVE-2025-9905: no safe mode at all in HDF5 files; CVE-2025-49655: a pickle inside a layer). What a
configuration may name is therefore listed here, and everything else is refused.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from qcompile.core.errors import Code, QCompileError

MODULES: Final = (
    "keras",
    "keras.activations",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.layers",
    "keras.models",
    "keras.ops",
    "keras.quantizers",
    "keras.random",
    "keras.regularizers",
    "keras.src.dtype_policies",
    "keras.src.engine",
    "keras.src.layers",
    "keras.src.models",
    "keras.src.ops",
)
"""What a model's configuration may take classes from; of ``keras.src`` what lies below, too."""

DATA_KINDS: Final = frozenset(
    {
        "__bytes__",
        "__ellipsis__",
        "__keras_tensor__",
        "__numpy__",
        "__slice__",
        "__tensor__",
        "__tuple__",
        "CompositeTensor",
        "TypeSpec",
    }
)
"""Keras' marks for plain data, which stand where a class name does."""

CODE: Final[Mapping[str, str]] = {
    "__lambda__": "holds Python byte code",
    "Lambda": "is a Lambda layer, whose Python code runs when it is loaded",
    "TFOpLambda": "calls any function of TensorFlow by its name",
    "SlicingOpLambda": "calls any function of TensorFlow by its name",
    "ClassMethod": "calls any method of TensorFlow by its name",
    "InstanceMethod": "calls any method of TensorFlow by its name",
    "InstanceProperty": "reads any property of TensorFlow's by its name",
    "TorchModuleWrapper": "holds a pickle, which can run any code",
    "TFSMLayer": "loads another model from a path of its own",
    "JaxLayer": "calls a Python function",
    "FlaxLayer": "calls a Python function",
}
"""Class name -> what an object of it does; none of these is data alone."""

FILE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "StringLookup": ("vocabulary", "idf_weights"),
    "IntegerLookup": ("vocabulary", "idf_weights"),
    "TextVectorization": ("vocabulary", "idf_weights"),
}
"""Class name -> keys that are a file or an address where they are text (CVE-2025-12058)."""

FUNCTION_MODULES: Final = ("builtins", "keras.activations", "keras.ops")
"""Where functions may come from; ``builtins`` is Keras' word for its own, found by their names."""

BUILTINS: Final = frozenset(
    {
        "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu",
        "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish",
        "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus",
        "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh",
        "tanh_shrink", "threshold",
    }
)  # fmt: skip
"""Keras' functions that a layer may name as a builtin."""

DEEPEST: Final = 200
"""Objects within objects; a deeper configuration is not one that Keras wrote."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def check_config(config: object) -> None:
    """Refuse a configuration with an object that is not one of Keras' own, or runs code.

    Args:
        config: as JSON has it. ``compile_config`` of the model itself (its loss, optimizer and
            metrics, which are never loaded) is to be left out before.

    Raises:
        QCompileError: UNTRUSTED_MODEL, naming the layer; MODEL_INVALID when it is no object or
            nested too deep.
    """
    if not isinstance(config, dict) or "class_name" not in config:
        raise QCompileError(Code.MODEL_INVALID, "its configuration describes no Keras model")
    for found, layer in _objects(config):
        reason = _why_not(found)
        if reason is not None:
            raise QCompileError(
                Code.UNTRUSTED_MODEL,
                f"the model needs code beyond Keras' own: {found['class_name']!s:.80} {reason}",
                node=layer,
                hint="export it as a SavedModel where that code is known, or, if you trust whoever "
                "made the file, give --trust-model",
            )


def _objects(config: object) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Every object description, with the name of the layer around it."""
    pending: list[tuple[object, str | None, int]] = [(config, None, 0)]
    while pending:
        found, layer, depth = pending.pop()
        if depth > DEEPEST:
            raise QCompileError(Code.MODEL_INVALID, "its configuration is nested too deep")
        if isinstance(found, list):
            pending.extend((item, layer, depth + 1) for item in reversed(found))
        elif isinstance(found, dict):
            if "class_name" in found:
                layer = _name(found) or layer
                yield found, layer
            pending.extend((item, layer, depth + 1) for item in reversed(list(found.values())))


def _name(described: Mapping[str, Any]) -> str | None:
    inner = described.get("config")
    name = described.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    return name if isinstance(name, str) else None


def _why_not(described: Mapping[str, Any]) -> str | None:
    """Why an object is refused; None when it is not."""
    kind, module = described["class_name"], described.get("module")
    if not isinstance(kind, str):
        return "is no name of a class"
    if kind in CODE:
        return CODE[kind]
    if kind in DATA_KINDS:
        return None
    if kind == "__typespec__":
        return "names a class of TensorFlow"
    if not _NAME.match(kind):
        return "is a class that was registered under a name of its own"
    if kind == "function":
        return _why_no_function(described, module)
    if module is not None and not _is_keras(module):
        return f"comes from the module {module!s:.80}"
    registered = described.get("registered_name")
    if registered not in (None, kind):
        return f"is a class that was registered as {registered!s:.80}"
    return _why_no_files(described, kind)


def _is_keras(module: object) -> bool:
    below = tuple(f"{known}." for known in MODULES if known.startswith("keras.src."))
    return isinstance(module, str) and (module in MODULES or module.startswith(below))


def _why_no_function(described: Mapping[str, Any], module: object) -> str | None:
    name = described.get("config")
    if module not in FUNCTION_MODULES or not isinstance(name, str):
        return f"{name!s:.80} comes from the module {module!s:.80}"
    if module == "builtins" and name not in BUILTINS:
        return f"{name!s:.80} is not one of Keras' activations"
    registered = described.get("registered_name")
    return (
        None if registered in (None, name, "function") else f"is registered as {registered!s:.80}"
    )


def _why_no_files(described: Mapping[str, Any], kind: str) -> str | None:
    inner = described.get("config")
    values = inner if isinstance(inner, dict) else {}
    read = next((key for key in FILE_KEYS.get(kind, ()) if isinstance(values.get(key), str)), None)
    return None if read is None else f"reads its {read} from {values[read]!s:.80}"
