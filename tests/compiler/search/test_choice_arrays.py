"""The choice for a portion comes back from its arrays as it was."""

import numpy as np
import pytest

from qcompile.compiler.search.choice_arrays import from_arrays, to_arrays
from qcompile.core.plan import QuantParams
from qcompile.passes.rounding.group_gptq import Rounded
from qcompile.passes.rounding.portion_choice import LayerChoice, PortionChoice


@pytest.mark.parametrize("factors", [None, np.linspace(0.5, 2, 8, dtype=np.float32)])
def test_it_comes_back(factors: np.ndarray | None) -> None:
    params = QuantParams(np.full((1, 4), 0.25, np.float32), np.full((1, 4), 3, np.uint8))
    rounded = Rounded(np.arange(32, dtype=np.uint8).reshape(8, 4), params)
    layers = (
        LayerChoice(rounded, "gptq", {"nearest": 2.0, "gptq": 0.1}),
        LayerChoice(rounded, "nearest", {"nearest": 1.5}),
    )
    arrays = to_arrays(PortionChoice(layers, factors))
    found = from_arrays(arrays, len(layers))
    for one, other in zip(found.layers, layers, strict=True):
        assert (one.method, one.errors) == (other.method, other.errors)
        assert np.array_equal(one.rounded.codes, rounded.codes)
        assert one.rounded.params.same_as(params)
    assert (found.factors is None) == (factors is None)
    assert factors is None or np.array_equal(found.factors, factors)
