"""Makes a configuration that Keras 2 wrote one that Keras 3 reads, where they say the same.

Keras 3 refuses an argument that it does not know, so one that says nothing about what a model
computes keeps it from being read.
"""

from collections.abc import Mapping
from typing import Any, Final

ANY: Final = None
"""A key that has no say once a model is trained."""
OLD_KEYS: Final[tuple[tuple[tuple[str, ...], Mapping[str, tuple[object, ...] | None]], ...]] = (
    (("InputLayer",), {"ragged": (False,)}),
    (
        ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
        {"time_major": (False,), "implementation": ANY},
    ),
    (("LSTMCell", "GRUCell"), {"implementation": ANY}),
    (
        ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
        {
            "groups": (1,),
            "kernel_initializer": ANY,
            "kernel_regularizer": ANY,
            "kernel_constraint": ANY,
        },
    ),
    (("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), {"groups": (1,)}),
    (("MultiHeadAttention",), {"query_shape": ANY, "key_shape": ANY, "value_shape": ANY}),
    (
        ("BatchNormalization",),
        {
            "renorm": (False,),
            "renorm_clipping": ANY,
            "renorm_momentum": ANY,
            "virtual_batch_size": (None,),
            "adjustment": (None,),
            "fused": ANY,
        },
    ),
)
"""(classes, key -> the values with which it may be left out, or any)."""

OLD_MODULES: Final = (
    "keras.engine.functional",
    "keras.src.engine.functional",
    "tf_keras.src.engine.functional",
)
"""Where Keras 2 had its class of functional models; all others it names as Keras 3 does."""
FUNCTIONAL: Final = "keras.src.models.functional"


def mend(config: object) -> bool:
    """Change a configuration in place.

    Args:
        config: of a model, as JSON has it.

    Returns:
        Whether anything was changed.
    """
    changed = False
    pending = [config]
    while pending:
        found = pending.pop()
        if isinstance(found, list):
            pending.extend(found)
        elif isinstance(found, dict):
            pending.extend(found.values())
            changed |= _mend_object(found)
    return changed


def _mend_object(described: dict[str, Any]) -> bool:
    changed = False
    kind, inner = described.get("class_name"), described.get("config")
    if described.get("module") in OLD_MODULES and kind == "Functional":
        described["module"] = FUNCTIONAL
        changed = True
    if not isinstance(inner, dict):
        return changed
    for kinds, keys in OLD_KEYS:
        for key, values in keys.items() if kind in kinds else ():
            if key in inner and (values is ANY or inner[key] in values):
                del inner[key]
                changed = True
    axis = inner.get("axis")
    if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        inner["axis"] = axis[0]
        changed = True
    return changed
