"""Files as Keras writes them, made by hand, so that tests can put in what Keras would not."""

import base64
import json
import marshal
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INPUT = {
    "module": "keras.layers",
    "class_name": "InputLayer",
    "config": {"batch_shape": [None, 4], "dtype": "float32", "name": "data"},
    "registered_name": None,
    "name": "data",
    "inbound_nodes": [],
}


def model(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an input and one layer."""
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "net", "layers": [INPUT, dict(layer)]},
        "registered_name": None,
    }


def layer(class_name: str, **keys: Any) -> dict[str, Any]:
    """One layer, one of Keras' own unless ``module`` says otherwise."""
    config = {"name": "culprit", **keys.pop("config", {})}
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": config,
        "registered_name": None,
        **keys,
    }


def dense() -> dict[str, Any]:
    return layer("Dense", config={"units": 2, "activation": "relu"})


def touching(canary: Path) -> dict[str, Any]:
    """A Lambda layer whose code makes a file and hands on what it is given."""
    code = compile(f"lambda x: (open({str(canary)!r}, 'w').close(), x)[1]", "payload", "eval")
    function = code.co_consts[0]
    packed = base64.b64encode(marshal.dumps(function)).decode("ascii")
    held = {"code": packed, "defaults": None, "closure": None}
    described = {"class_name": "__lambda__", "config": held}
    return layer("Lambda", config={"function": described, "arguments": {}})


def archive(
    path: Path, config: Mapping[str, Any] | str, members: Mapping[str, bytes] | None = None
) -> Path:
    """A .keras file."""
    text = config if isinstance(config, str) else json.dumps(config)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        file.writestr("config.json", text)
        for name, data in ({"model.weights.h5": b""} if members is None else members).items():
            file.writestr(name, data)
    return path
