"""Probes: the same statistics to the byte, without handing out whole feature maps."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.calibration.probes import View, look, with_probes
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.mean_tensor import MeanTensor
from qcompile.core.statistics.min_max import MinMax
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.core.statistics.splits import assert_same_bytes

MODEL = """
<ir_version: 10, opset_import: ["": 21]>
agraph (float[n, 3, 48, 40] x) => (float[n, 24, 1, 1] y)
<float[24, 3, 3, 3] w, float[24, 24, 3, 3] v>
{
  a = Conv<pads: ints = [1, 1, 1, 1]>(x, w)
  q = Relu(a)
  b = Conv<pads: ints = [1, 1, 1, 1]>(q, v)
  r = Relu(b)
  y = GlobalAveragePool(r)
}
"""
QUICK = {
    "minmax": partial(MinMax, nonnegative=True),
    "histogram": Histogram,
    "absmax": partial(ChannelAbsMax, nonnegative=True),
}


def make_model() -> ir.Model:
    proto = onnx.parser.parse_model(MODEL)
    random = np.random.default_rng(7)
    for name, channels in (("w", 3), ("v", 24)):
        weight = random.normal(size=(24, channels, 3, 3)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    for node in model.graph:
        if node.outputs[0].name == "q":
            node.outputs[0].name = "r.MaxPool"  # a name that a probe would like to have
    return model


def feeds(count: int, images: int = 1) -> list[Mapping[str, np.ndarray]]:
    return [
        {"x": np.random.default_rng(k).normal(size=(images, 3, 48, 40)).astype(np.float32)}
        for k in range(count)
    ]


def made(request: StatisticRequest) -> Statistics:
    return {v: {name: make() for name, make in of.items()} for v, of in request.items()}


def outputs(request: StatisticRequest) -> list[str]:
    return [v.output for v in with_probes(make_model(), list(request), made(request))[1]]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("quick", [QUICK, {"minmax": QUICK["minmax"]}, {"h": Histogram}])
def test_the_same_statistics_as_from_the_value(quick: dict, images: int) -> None:
    request = {"r": quick, "r.MaxPool": quick, "y": {"minmax": MinMax}}
    samples = feeds(5, images)
    gathered = collect(OrtExecutor(), make_model(), request, samples, threads=2)
    plain = made(request)
    session = OrtExecutor().load(make_model(), list(request))
    for index, sample in enumerate(samples):
        for name, array in zip(request, session.run(sample), strict=True):
            view = View(name, name, tuple(plain[name]))
            look(view, array, plain[name], index)
    for value, statistics in gathered.items():
        for name, statistic in statistics.items():
            assert_same_bytes(statistic.state(), plain[value][name].state())


def test_small_outputs_in_place_of_feature_maps() -> None:
    request = {"r": QUICK, "r.MaxPool": {"minmax": QUICK["minmax"]}, "y": {"minmax": MinMax}}
    model = make_model()
    clone, views = with_probes(model, list(request), made(request))
    assert views == (
        View("r.GlobalMaxPool", "r", ("minmax", "absmax")),
        View("r.MaxPool_", "r", ("histogram",), 9),
        View("r.MaxPool.GlobalMaxPool", "r.MaxPool", ("minmax",)),
        View("y", "y", ("minmax",)),
    )
    assert len(clone.graph) == len(model.graph) + 3
    assert len(model.graph) == 5
    session = OrtExecutor().load(clone, [v.output for v in views])
    assert [a.shape[1:] for a in session.run(feeds(1)[0])] == [
        (24, 1, 1),
        (24, 16, 14),
        (24, 1, 1),
        (24, 1, 1),
    ]


@pytest.mark.parametrize("images", [1, 3])
def test_channel_means_are_taken_by_the_runtime(images: int) -> None:
    request = {"r": {"mean": partial(ChannelMean, axis=1, stop=4)}}
    assert outputs(request) == ["r.GlobalAveragePool"]
    samples = feeds(6, images)
    means = [
        collect(OrtExecutor(), make_model(), request, samples, threads=n)["r"]["mean"].state()
        for n in (1, 2)
    ]
    assert_same_bytes(*means)
    session = OrtExecutor().load(make_model(), ["r"])
    exact = np.mean(
        [session.run(s)[0].mean(axis=(0, 2, 3), dtype="d") for s in samples[:4]], axis=0
    )
    assert np.abs(means[0]["mean"] - exact).max() < 1e-5 * exact.max()


@pytest.mark.parametrize(
    "statistics",
    [
        {"minmax": MinMax},
        {"mean": partial(ChannelMean, axis=2, stop=9)},
        {"absmax": partial(ChannelAbsMax, axis=2, nonnegative=True)},
        {"absmax": ChannelAbsMax},
        {"minmax": QUICK["minmax"], "mean": partial(MeanTensor, 4)},
        {"histogram": partial(Histogram, every=1)},
    ],
)
def test_statistics_that_need_the_value_get_it(statistics: dict) -> None:
    assert outputs({"r": statistics}) == ["r"]


def test_small_maps_are_handed_out() -> None:
    assert outputs({"y": QUICK}) == ["y"]


def test_maps_of_unknown_size_are_handed_out() -> None:
    model = make_model()
    for node in model.graph:
        node.outputs[0].shape = ir.Shape([None, 24, None, None])
    assert [v.output for v in with_probes(model, ["r"], made({"r": QUICK}))[1]] == ["r"]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("stop", [0, 1, 4, 7, 9])
def test_means_of_the_first_samples_change_nothing_else(stop: int, threads: int) -> None:
    loaded: list[list[str]] = []

    class Spy(OrtExecutor):
        def load(self, model, outputs=None, **options):  # type: ignore[no-untyped-def]
            loaded.append(list(outputs))
            return super().load(model, outputs, **options)

    request = {"x": {"minmax": MinMax}, "r": QUICK}
    mean = {"mean": partial(MeanTensor, stop)}
    with_mean = {"x": {**request["x"], **mean}, "r": {**QUICK, **mean}, "y": mean}
    samples = feeds(7)
    plain = collect(OrtExecutor(), make_model(), request, samples, threads=1)
    both = collect(Spy(), make_model(), with_mean, samples, threads=threads)
    for value, statistics in plain.items():
        for name, statistic in statistics.items():
            assert_same_bytes(statistic.state(), both[value][name].state())
    assert sum(n for _, n in both["r"]["mean"].means.values()) == min(stop, 7)
    assert sum(n for _, n in both["y"]["mean"].means.values()) == min(stop, 7)
    quick = ["r.GlobalMaxPool", "r.MaxPool_"]
    assert loaded == ([["r", "y"], quick] if 0 < stop < 7 else [["r", "y"]])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("bad", [0, 2, 3, 4, 6])
def test_a_failure_in_either_phase_ends_the_run(bad: int, threads: int) -> None:
    samples = feeds(7)
    samples[bad]["x"][0, 0, 5, 5] = np.inf
    request = {"r": {**QUICK, "mean": partial(MeanTensor, 3)}, "x": {"minmax": MinMax}}
    with pytest.raises(Exception, match=f"value 'x' is not finite for sample {bad}"):
        collect(OrtExecutor(), make_model(), request, samples, threads=threads)
