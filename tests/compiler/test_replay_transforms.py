"""A plan that was made on a transformed graph gives the same graph again, from its files alone."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import replay
from qcompile.compiler.planning import complete, empty_plan
from qcompile.compiler.quantizing import quantize
from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import fingerprint
from qcompile.core.plan import QuantPlan
from qcompile.core.plan_file import load_plan, to_arrays, to_json
from qcompile.passes.plan.activations import range_request
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.passes.transform.table import find_transforms, transformed
from tests.passes.planning import TARGET
from tests.passes.prepare.checking import parse, rand
from tests.passes.transform.gathering import gather

SCHEME = Scheme()


def net() -> ir.Model:
    """A norm with an outlier whose output is a residual too (a twin is made), and two layers."""
    gain = np.ones(8, np.float32)
    gain[3] = 64
    uneven = rand(8, 6) * np.logspace(0, 2, 6).astype(np.float32)
    return parse(
        """g (float[2, 8] x) => (float[] y) {
          n = LayerNormalization (x, gain, shift)
          c = Gemm (n, w, b)
          r = Relu (c)
          d = Gemm (r, v, b2)
          y = Add (d, n)
        }""",
        {
            "gain": gain,
            "shift": rand(8),
            "w": uneven,
            "b": rand(6),
            "v": rand(6, 8),
            "b2": rand(8, seed=2),
        },
    )


def made() -> tuple[ir.Model, QuantPlan]:
    """The canonical graph, and a complete plan of what its transforms make of it."""
    model = net()
    transforms = find_transforms(model, ["smooth", "equalize"], gather)
    assert list(transforms) == ["smooth", "equalize"]
    after = transformed(model, transforms)
    plan = empty_plan(after, TARGET, SCHEME, {})
    plan.fingerprint, plan.transforms = fingerprint(model), transforms
    request = range_request(after.graph, plan, TARGET, MinMaxRange())
    complete(after, plan, TARGET, SCHEME, gather(after, request))
    return model, plan


def test_the_same_graph_again() -> None:
    model, plan = made()
    wanted = quantize(transformed(model, plan.transforms), plan)
    saved, dropped = load_plan(to_json(plan), to_arrays(plan), "p")
    assert dropped == []
    again = replay(model, saved, TARGET, SCHEME, {})
    assert fingerprint(again.qdq) == fingerprint(wanted)
    assert again.plan.fingerprint == fingerprint(model)
    assert "n.smoothed" in again.plan.values


def test_a_plan_for_another_model_says_so() -> None:
    model, plan = made()
    with pytest.raises(QCompileError, match="another model") as caught:
        replay(model, replace(plan, fingerprint="f"), TARGET, SCHEME, {})
    assert caught.value.code is Code.PLAN_MISMATCH


def test_factors_that_do_not_fit_are_refused() -> None:
    model, plan = made()
    plan.transforms["equalize"] = {"c": np.ones(5, np.float32)}
    with pytest.raises(QCompileError, match="scales 5 channels of c") as caught:
        replay(model, plan, TARGET, SCHEME, {})
    assert caught.value.code is Code.BAD_PLAN
