"""What a Keras configuration may name, and every kind of thing that it may not."""

from typing import Any

import pytest

from qcompile.compiler.importers.keras_config import check_config
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.keras_files import dense, layer, model


def refused(config: Any) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        check_config(config)
    return caught.value


@pytest.mark.parametrize(
    "described",
    [
        dense(),
        layer("Functional", module="keras.src.models.functional"),
        layer("Add", module="keras.src.ops.numpy"),
        layer("Conv2D", registered_name="Conv2D"),
        layer("Dense", config={"dtype": {"module": "keras", "class_name": "DTypePolicy"}}),
        layer("StringLookup", config={"vocabulary": ["a", "b"]}),
        {"class_name": "Dense", "config": {"units": 2}},  # of an HDF5 file: no module
        {"class_name": "__numpy__", "config": {"value": [1.0], "dtype": "float32"}},
        layer("function", module="builtins") | {"config": "relu"},
        layer("function", module="keras.activations") | {"config": "gelu"},
    ],
)
def test_what_keras_writes_is_taken(described: dict[str, Any]) -> None:
    check_config(model(described))


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (layer("Lambda"), "Lambda"),
        (layer("TFSMLayer", config={"filepath": "/tmp/x"}), "another model"),
        (layer("TorchModuleWrapper"), "pickle"),
        (layer("TFOpLambda", config={"function": "io.write_file"}), "function of TensorFlow"),
        (layer("system", module="os"), "module os"),
        (layer("get_file", module="keras.utils"), "module keras.utils"),
        (layer("enable_unsafe_deserialization", module="keras.config"), "keras.config"),
        (layer("load_model", module="keras.src.saving.saving_api"), "keras.src.saving"),
        (layer("Dense", module="keras.layers_of_mine"), "keras.layers_of_mine"),
        (layer("Dense", module=["keras.layers"]), "module"),
        (layer("Mine", module=None, registered_name="pack>Mine"), "registered as pack>Mine"),
        (layer("pack>Mine", module=None), "under a name of its own"),
        (layer("Dense.os", module="keras.layers"), "under a name of its own"),
        (layer("function", module="builtins") | {"config": "exec"}, "exec"),
        (layer("function", module="os") | {"config": "system"}, "system"),
        (
            layer("function", module="keras.activations", registered_name="pack>relu")
            | {"config": "relu"},
            "pack>relu",
        ),
        (layer("StringLookup", config={"vocabulary": "/etc/passwd"}), "/etc/passwd"),
        ({"class_name": "__typespec__", "config": []}, "class of TensorFlow"),
        ({"class_name": 3, "config": {}}, "no name of a class"),
    ],
)
def test_everything_else_is_refused(described: dict[str, Any], said: str) -> None:
    error = refused(model(described))
    assert error.code is Code.UNTRUSTED_MODEL
    assert said in error.message
    assert "--trust-model" in (error.hint or "")


@pytest.mark.parametrize(
    "around",
    [
        lambda found: layer("TimeDistributed", config={"layer": found}),
        lambda found: layer("Dense", config={"kernel_initializer": found}),
        lambda found: layer("Dense", config={"deep": [[{"x": [found]}]]}),
        lambda found: layer("Dense", build_config={"input_shape": found}),
        lambda found: layer("Dense", inbound_nodes=[{"args": [found], "kwargs": {}}]),
    ],
)
def test_it_is_found_wherever_it_lies(around: Any) -> None:
    inner = {"class_name": "__lambda__", "config": {"code": ""}}
    assert refused(model(around(inner))).node == "culprit"


def test_a_configuration_that_is_none() -> None:
    assert refused([]).code is Code.MODEL_INVALID
    assert refused({"config": {}}).code is Code.MODEL_INVALID


def test_depth_is_limited() -> None:
    deep: Any = []
    for _ in range(1000):
        deep = [deep]
    assert refused(model(layer("Dense", config={"x": deep}))).code is Code.MODEL_INVALID
