"""Loads a Keras model or a SavedModel and writes it as ONNX; runs in a process of its own."""

import os
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from qcompile.compiler.importers.keras_archive import mended
from qcompile.compiler.importers.keras_hdf5 import check_archived, prepare_hdf5
from qcompile.compiler.importers.keras_onnx import Traced, write_onnx
from qcompile.compiler.importers.keras_saved_model import check_saved_model, load_tags
from qcompile.core.errors import Code, QCompileError

KERAS_FLOOR: Final = (3, 15, 1)
"""What pyproject asks for: older ones have known ways around safe mode and read other files."""


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Convert a model.

    Args:
        request: ``kind`` (keras, hdf5, saved_model), ``path``, ``folder`` (for what is written),
            ``trust``, ``signature``.

    Returns:
        ``onnx``, the path of the file, and ``signature``, the name of what was chosen or null.

    Raises:
        QCompileError: what is wrong with the model.
    """
    path, folder, trust = Path(request["path"]), Path(request["folder"]), bool(request["trust"])
    onnx = folder / "model.onnx"
    chosen = None
    if request["kind"] == "saved_model":
        chosen, traced = _saved_model(path, request["signature"], trust=trust)
    else:
        traced = _keras(path, folder, request["kind"], trust=trust)
    write_onnx(traced, onnx)
    return {"onnx": str(onnx), "signature": chosen}


# --- Keras -----------------------------------------------------------------------------------


def _keras(path: Path, folder: Path, kind: str, *, trust: bool) -> Traced:
    # Read once, when Keras is first imported: nothing is left in the user's home, and what the
    # user runs Keras with otherwise does not matter.
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": str(folder / "keras")}
    import keras

    version = tuple(int(part) for part in keras.__version__.split(".")[:3] if part.isdigit())
    if version < KERAS_FLOOR and not trust:
        raise QCompileError(
            Code.MISSING_EXTRA,
            f"Keras {keras.__version__} does not read files safely",
            hint="pip install -U 'qcompile-edge[tensorflow]', or give --trust-model",
        )
    if kind == "hdf5":
        loaded = prepare_hdf5(path, folder, trust=trust)
    else:
        if not trust:
            check_archived(path)
        loaded = mended(path, folder)
    try:
        model = keras.saving.load_model(loaded, compile=False, safe_mode=not trust)
    except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise _not_loaded(path, error) from error
    if not model.inputs or not model.outputs:
        raise QCompileError(
            Code.IMPORT_FAILED,
            f"{path.name} does not say what its inputs are",
            hint="call the model once, or give it an Input, before it is saved",
        )
    return _traced(model, keras.Model)


def _not_loaded(path: Path, error: Exception) -> QCompileError:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return QCompileError(
        Code.IMPORT_FAILED,
        f"Keras 3 cannot load {path.name}: {type(error).__name__}: {said:.300}",
        hint="where the Keras that made it, and the model's own layers, are installed, export it "
        "as a SavedModel (Keras 3: model.export(folder); Keras 2: model.save(folder))",
    )


def _traced(model: Any, type_of_model: Any) -> Traced:
    names = _unique([tensor.name for tensor in model.inputs], "input")
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]

    flat = type_of_model(model.inputs, model.outputs)  # without dicts, and Sequential or not

    def call(*tensors: tf.Tensor) -> list[tf.Tensor]:
        found: list[tf.Tensor] = tf.nest.flatten(flat(list(tensors), training=False))
        return found

    taken = set(names)
    made_by = [tensor._keras_history.operation.name for tensor in model.outputs]
    outputs = [name if name not in taken else f"{name}_out" for name in made_by]
    return Traced(dict(zip(names, specs, strict=True)), tuple(_unique(outputs, "output")), call)


def _unique(names: list[str], kind: str) -> list[str]:
    """The names, numbered where one stands for several."""
    if len(set(names)) == len(names):
        return names
    return [f"{kind}_{number}" for number in range(len(names))]


# --- SavedModel --------------------------------------------------------------------------------


def _saved_model(folder: Path, wanted: str | None, *, trust: bool) -> tuple[str, Traced]:
    tags = load_tags(folder) if trust else check_saved_model(folder)
    try:
        loaded = tf.saved_model.load(str(folder), tags=list(tags))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise QCompileError(
            Code.MODEL_INVALID,
            f"TensorFlow cannot load {folder.name}: {type(error).__name__}: {error!s:.300}",
            hint="fetch or export the whole folder again, variables/ too",
        ) from error
    name = choose_signature(sorted(loaded.signatures), wanted)
    function = loaded.signatures[name]
    inputs = dict(function.structured_input_signature[1])
    outputs = tuple(function.structured_outputs)

    def call(*tensors: tf.Tensor) -> list[tf.Tensor]:
        found = function(**dict(zip(inputs, tensors, strict=True)))
        return [found[key] for key in outputs]

    call.owner = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    renamed = tuple(key if key not in inputs else f"{key}_out" for key in outputs)
    return name, Traced(inputs, renamed, call)


def choose_signature(names: list[str], wanted: str | None) -> str:
    """The signature that was asked for, the only one, or the one that is for serving.

    Raises:
        QCompileError: BAD_OPTION when there is none of that name, or several and none was named;
            MODEL_INVALID when the model has none.
    """
    if not names:
        raise QCompileError(
            Code.MODEL_INVALID,
            "the SavedModel has no signature",
            hint="export it with one: tf.saved_model.save(model, folder, signatures=function)",
        )
    if wanted is not None and wanted not in names:
        raise QCompileError(
            Code.BAD_OPTION,
            f"the SavedModel has no signature {wanted!r}",
            hint=f"it has {', '.join(names)}",
        )
    if wanted is None and len(names) > 1 and "serving_default" not in names:
        raise QCompileError(
            Code.BAD_OPTION,
            f"the SavedModel has several signatures: {', '.join(names)}",
            hint="name one with --signature",
        )
    return wanted or (names[0] if len(names) == 1 else "serving_default")
