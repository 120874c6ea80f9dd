"""What was chosen for the weights of a portion, as arrays that a file can hold, and back."""

from collections.abc import Mapping

import numpy as np

from qcompile.core.plan import QuantParams
from qcompile.passes.rounding.group_gptq import Rounded
from qcompile.passes.rounding.portion_choice import LayerChoice, PortionChoice


def to_arrays(choice: PortionChoice) -> dict[str, np.ndarray]:
    """The arrays of a choice, by name."""
    arrays: dict[str, np.ndarray] = {}
    if choice.factors is not None:
        arrays["factors"] = choice.factors
    for i, layer in enumerate(choice.layers):
        arrays[f"{i}/codes"] = layer.rounded.codes
        arrays[f"{i}/scale"] = layer.rounded.params.scale
        arrays[f"{i}/zero"] = layer.rounded.params.zero_point
        arrays[f"{i}/methods"] = np.array([layer.method, *layer.errors])
        arrays[f"{i}/errors"] = np.array(list(layer.errors.values()), np.float64)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray], count: int) -> PortionChoice:
    """The choice for ``count`` weights that ``to_arrays`` made arrays of."""
    layers = []
    for i in range(count):
        params = QuantParams(arrays[f"{i}/scale"], arrays[f"{i}/zero"])
        method, *names = map(str, arrays[f"{i}/methods"])
        errors = dict(zip(names, map(float, arrays[f"{i}/errors"]), strict=True))
        rounded = Rounded(arrays[f"{i}/codes"], params)
        layers.append(LayerChoice(rounded, "gptq" if method == "gptq" else "nearest", errors))
    return PortionChoice(tuple(layers), arrays.get("factors"))
