"""A budget by the user's own metric: its layer is left float, whatever top-1 would say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompile.compiler.api import BuildResult
from qcompile.compiler.mixed.own import OwnLoss
from qcompile.compiler.verify.user_metric import Outputs, UserMetric
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small
from tests.compiler.mixed import planted
from tests.compiler.verify.fakes import FakeData, FakeSession

BRANCH = "branch"


def two_ends(*, bad_classes: bool) -> onnx.ModelProto:
    """The planted network with a second output, ``z``, whose own layer cannot be quantized either.

    Without ``bad_classes`` the layer on the way to the classes is a good one.
    """
    model = planted.network()
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    arrays["w4"] = arrays["w2"].copy()
    if not bad_classes:
        arrays["w2"][:, 0] = 0.0
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    model.graph.initializer.append(numpy_helper.from_array(arrays["w4"], "w4"))
    model.graph.node.append(
        onnx.helper.make_node(
            "Conv", ["b", "w4", "b2"], ["z"], name=BRANCH, pads=[1, 1, 1, 1], strides=[2, 2]
        )
    )
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["N", 8, 4, 4])
    )
    return model


def closeness(name: str, outputs: Outputs, reference: Outputs) -> list[float]:
    """The share of an output's energy that is no error, of each sample."""
    pairs = zip(outputs, reference, strict=True)
    return [1 - float(((y[name] - r[name]) ** 2).sum() / (r[name] ** 2).sum()) for y, r in pairs]


def of_z(outputs: Outputs, samples: Any, reference: Outputs) -> list[float]:
    """A score a sample that only the second output has a part in."""
    return closeness("z", outputs, reference)


def of_y(outputs: Outputs, samples: Any, reference: Outputs) -> float:
    """One number that only the classes have a part in."""
    return float(np.mean(closeness("y", outputs, reference)))


def built(model: onnx.ModelProto, folder: Path, **options: Any) -> BuildResult:
    chosen = {"data": planted.pictures(), "max_drop": 2.0, **options}
    return small.built(small.saved(model, folder), **chosen)


@pytest.mark.parametrize(("metric", "layer"), [(of_z, BRANCH), (of_y, planted.BAD)])
def test_the_layer_that_the_metric_needs_is_left_float(
    tmp_path: Path, metric: Any, layer: str
) -> None:
    result = built(two_ends(bad_classes=True), tmp_path, metric=metric)
    assert result.report.mixed is not None
    found = result.report.mixed.search
    assert found is not None
    assert found.float_layers == (layer,)
    assert found.drop_before is not None
    assert found.drop is not None
    assert found.drop_before > 10 > 2 >= found.drop > 0
    assert found.metric == f"{metric.__name__} on 12 held-out calibration samples"
    if metric is of_z:
        assert found.drop_low is not None
        assert found.drop_high is not None
        assert found.drop_low < found.drop < found.drop_high
    else:
        assert found.drop_low is None is found.drop_high
    assert result.report.passed
    assert result.report.accuracy is not None
    (figure,) = result.report.accuracy.own
    assert figure.drop_points <= 2


def test_top1_is_not_what_is_held(tmp_path: Path) -> None:
    """Labels are there and top-1 keeps the budget; the metric alone says that a layer is lost."""
    data = planted.pictures()
    data["y"] = np.zeros(len(data["x"]), np.int64)
    model = two_ends(bad_classes=False)
    by_labels = built(model, tmp_path, data=data, max_drop=30.0)
    by_metric = built(model, tmp_path, data=data, max_drop=30.0, metric=of_z)
    for result, layers in ((by_labels, ()), (by_metric, (BRANCH,))):
        assert result.report.mixed is not None
        assert result.report.mixed.search is not None
        assert result.report.mixed.search.float_layers == layers


def test_a_function_that_fails_on_held_out_samples_is_named(tmp_path: Path) -> None:
    def hits(outputs: Outputs, samples: Any) -> float:
        return float(np.mean([y["y"].argmax() == int(s.label) for y, s in zip(outputs, samples)]))  # noqa: B905

    with pytest.raises(QCompileError, match="hits raised TypeError") as caught:
        built(planted.network(), tmp_path, metric=hits, out=tmp_path / "out.onnx")
    assert caught.value.code is Code.BAD_METRIC
    assert "held-out calibration samples, which have no labels" in (caught.value.hint or "")
    assert not list(tmp_path.glob("out.onnx*"))


INPUTS = np.random.default_rng(0).normal(size=(25, 4)).astype(np.float32)


def session(hits: int, runs: list[int]) -> FakeSession:
    """Says 1 to the first samples and 0 to the others."""

    def say(x: np.ndarray) -> list[np.ndarray]:
        runs.append(1)
        index = int(np.flatnonzero((x == INPUTS).all(axis=1))[0])
        return [np.array([index < hits], np.float32)]

    return FakeSession(say, ("s",))


@pytest.mark.parametrize("threads", [1, 3])
def test_float_is_run_and_scored_once_and_a_point_is_exact(threads: int) -> None:
    scored: list[Outputs] = []
    runs: list[int] = []

    def shares(outputs: Outputs, samples: Any) -> Mapping[str, object]:
        scored.append(outputs)
        found = [float(y["s"][0]) for y in outputs]
        return {"each": found, "half": 0.5 * float(np.mean(found))}

    own = OwnLoss(UserMetric("m:shares", shares), session(23, runs), FakeData(INPUTS), threads)
    first, second = (own.lost(session(hits, [])) for hits in (22, 23))
    assert own.what == "the worst of each, half"
    assert first.points == 4.0, "not 4.000000000000004, which a budget of 4 would refuse"
    assert 100 * (23 / 25 - 22 / 25) != 4.0
    assert first.low is not None
    assert first.high is not None
    assert first.low <= 0 < 4 < first.high
    assert (second.points, second.low, second.high) == (0, 0, 0)
    assert len(runs) == len(INPUTS)
    assert len(scored) == 3
