"""A plan's transforms are applied in order, to a clone, under names that stay."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import fingerprint
from qcompile.passes.transform.table import TRANSFORMS, find_transforms, transformed
from tests.passes.prepare.checking import parse, rand, run
from tests.passes.transform.gathering import gather


def net():
    return parse(
        """g (float[N, 4] x) => (float[] y) {
          n = LayerNormalization (x, gain)
          c = Gemm (n, w, b)
          r = Relu (c)
          y = Gemm (r, v)
        }""",
        {"gain": rand(4), "w": rand(4, 3), "b": rand(3), "v": rand(3, 2)},
    )


PLAN = {
    "smooth": {"n": np.asarray([1, 2, 4, 0.5], np.float32)},
    "equalize": {"c": np.asarray([8, 1, 0.25], np.float32)},
}


def test_a_clone_with_the_same_function_and_names():
    model = net()
    once = fingerprint(model)
    after = transformed(model, PLAN)
    assert fingerprint(model) == once != fingerprint(after)
    assert list(after.graph.initializers) == list(model.graph.initializers)
    for a, b in zip(run(model), run(after), strict=True):
        assert np.array_equal(a, b)
    assert fingerprint(transformed(model, PLAN)) == fingerprint(after)
    assert fingerprint(transformed(after, {"smooth": PLAN["smooth"]})) == fingerprint(after)


def test_nothing_to_do_gives_the_model_itself():
    model = net()
    assert transformed(model, {}) is model


def test_every_transform_is_named_as_its_pass():
    made = {name: type(entry.apply({})).__name__.lower() for name, entry in TRANSFORMS.items()}
    assert made == {name: name for name in TRANSFORMS}


def test_each_is_found_on_what_the_last_one_made():
    model = net()
    model.graph.initializers["gain"].const_value = ir.tensor(np.float32([1, 90, 1, 1]))
    seen = []

    def gathered(now, request):
        seen.append(fingerprint(now))
        return gather(now, request)

    found = find_transforms(model, ["smooth", "equalize"], gathered)
    assert list(found) == ["smooth", "equalize"]
    assert seen == [
        fingerprint(model),
        fingerprint(transformed(model, {"smooth": found["smooth"]})),
    ]
    for a, b in zip(run(model), run(transformed(model, found)), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


def test_what_finds_nothing_is_left_out():
    model = parse("g (float[N, 4] x) => (float[] y) { y = Relu (x) }")
    assert find_transforms(model, TRANSFORMS, gather) == {}


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ({"twist": {}}, "unknown transform twist"),
        ({"equalize": {"n": np.ones(5, np.float32)}}, "scales 5 channels of n"),
        ({"equalize": {"gone": np.ones(5, np.float32)}}, "no channels that can be scaled"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(transforms, message):
    with pytest.raises(QCompileError, match=message) as caught:
        transformed(net(), transforms)
    assert caught.value.code is Code.BAD_PLAN
