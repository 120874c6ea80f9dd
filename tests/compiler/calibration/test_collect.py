"""collect: the statistics of real inferences, the same for any number of threads."""

import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompile.compiler.calibration.collect import collect
from qcompile.core.errors import Code, QCompileError
from qcompile.core.statistics.base import Statistics
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.gram import Gram
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.mean_tensor import MeanTensor
from qcompile.core.statistics.min_max import MinMax
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.core.statistics.splits import assert_same_bytes

MODEL = """
<ir_version: 10, opset_import: ["": 21]>
agraph (float[n, 3, 16, 16] x) => (float[n, 4, 1, 1] y)
<float[4, 3, 3, 3] w>
{
  c = Conv<pads: ints = [1, 1, 1, 1]>(x, w)
  r = Relu(c)
  y = GlobalAveragePool(r)
}
"""
REQUEST = {
    "x": {"minmax": MinMax, "mean": partial(MeanTensor, 9)},
    "r": {
        "minmax": partial(MinMax, nonnegative=True),
        "histogram": Histogram,
        "absmax": ChannelAbsMax,
        "channel mean": partial(ChannelMean, axis=1, stop=9),
        "gram": partial(Gram, axis=1),
        "mean": partial(MeanTensor, 9),
    },
    "y": {"minmax": MinMax},
}


class Feeds(Sequence[Mapping[str, np.ndarray]]):
    """Samples made when they are asked for."""

    def __init__(self, count: int, *, bad: Mapping[int, object] | None = None) -> None:
        self.count = count
        self.bad = bad or {}
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        self.asked.append(index)
        wrong = self.bad.get(index)
        if isinstance(wrong, Exception):
            raise wrong
        x = np.random.default_rng(index).normal(size=(1, 3, 16, 16)).astype(np.float32)
        if wrong is not None:
            x[0, 1, 2, 3] = wrong
        return {"x": x}


@pytest.fixture
def model() -> ir.Model:
    proto = onnx.parser.parse_model(MODEL)
    weight = np.random.default_rng(7).normal(size=(4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "w")])
    return ir.from_proto(proto)


def arrays(gathered: Statistics) -> dict[str, np.ndarray]:
    return {
        f"{value}/{name}/{key}": array
        for value, statistics in gathered.items()
        for name, statistic in statistics.items()
        for key, array in statistic.state().items()
    }


def expected(model: ir.Model, names: Sequence[str], count: int) -> Iterator[list[np.ndarray]]:
    proto = ir.to_proto(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for feeds in (Feeds(count)[i] for i in range(count)):
        yield [feeds["x"], *session.run(list(names), feeds)]


def test_against_numpy(model: ir.Model) -> None:
    gathered = collect(OrtExecutor(), model, REQUEST, Feeds(20), threads=2)
    x, r, y = (np.concatenate(v) for v in zip(*expected(model, ["r", "y"], 20), strict=True))
    got = arrays(gathered)
    assert got["x/minmax/low"] == x.min()
    assert got["x/minmax/high"] == x.max()
    assert got["r/minmax/low"] == 0
    assert abs(got["r/minmax/high"] - r.max()) < 1e-5
    assert abs(got["y/minmax/high"] - y.max()) < 1e-5
    assert got["r/histogram/counts"].sum() == r.size
    assert got["r/histogram/zeros"] == np.sum(r == 0)
    assert np.abs(got["r/absmax/absmax"] - r.max(axis=(0, 2, 3))).max() < 1e-5
    assert np.abs(got["r/channel mean/mean"] - r[:9].mean(axis=(0, 2, 3))).max() < 1e-5
    assert np.abs(got["x/mean/mean_1x3x16x16"] - x[:9].mean(axis=0, keepdims=True)).max() < 1e-6
    assert np.abs(got["r/mean/mean_1x4x16x16"] - r[:9].mean(axis=0, keepdims=True)).max() < 1e-5


def test_threads_do_not_change_a_byte(model: ir.Model) -> None:
    one, two, five = (
        arrays(collect(OrtExecutor(), model, REQUEST, Feeds(21), threads=n)) for n in (1, 2, 5)
    )
    assert_same_bytes(one, two)
    assert_same_bytes(one, five)


def test_the_model_is_not_changed(model: ir.Model) -> None:
    before = ir.to_proto(model).SerializeToString()
    collect(OrtExecutor(), model, REQUEST, Feeds(2))
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_every_sample_is_read_once_and_progress_counts_them(model: ir.Model, threads: int) -> None:
    feeds, seen = Feeds(9), []
    collect(OrtExecutor(), model, REQUEST, feeds, threads=threads, progress=seen.append)
    assert sorted(feeds.asked) == list(range(9))
    assert seen == list(range(1, 10))


def test_only_inputs_need_no_session(model: ir.Model) -> None:
    gathered = collect(None, model, {"x": {"minmax": MinMax}}, Feeds(3))  # type: ignore[arg-type]
    assert gathered["x"]["minmax"].state()["high"] > 1


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_first_bad_sample_is_named(model: ir.Model, threads: int) -> None:
    feeds = Feeds(30, bad={11: OSError("disk on fire"), 12: OSError("no"), 25: np.nan})
    with pytest.raises(QCompileError, match="sample 11 cannot be read: OSError: disk on fire") as e:
        collect(OrtExecutor(), model, REQUEST, feeds, threads=threads)
    assert e.value.code is Code.DATA_UNREADABLE
    assert len(feeds.asked) < 12 + threads


def test_an_error_of_the_data_room_passes_through(model: ir.Model) -> None:
    error = QCompileError(Code.DATA_SHAPE, "cat.png is 3 x 5")
    with pytest.raises(QCompileError) as caught:
        collect(OrtExecutor(), model, REQUEST, Feeds(4, bad={2: error}))
    assert caught.value is error


@pytest.mark.parametrize(("value", "name"), [(np.nan, "x"), (np.inf, "x"), (3e38, "r")])
def test_not_finite_names_value_and_sample(model: ir.Model, value: float, name: str) -> None:
    request = {name: {"minmax": MinMax}}
    with pytest.raises(QCompileError, match=f"value '{name}' is not finite for sample 3") as caught:
        collect(OrtExecutor(), model, request, Feeds(5, bad={3: value}))
    assert caught.value.code is Code.DATA_VALUES


def test_a_failing_inference_names_the_sample(model: ir.Model) -> None:
    class Wrong(Feeds):
        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            feeds = super().__getitem__(index)
            return {"x": feeds["x"][:, :2]} if index == 4 else feeds

    with pytest.raises(QCompileError, match="sample 4: ") as caught:
        collect(OrtExecutor(), model, REQUEST, Wrong(6))
    assert caught.value.code is Code.RUNTIME_FAILED


def test_memory_does_not_grow_with_samples(model: ir.Model) -> None:
    def peak(samples: int) -> int:
        tracemalloc.start()
        collect(OrtExecutor(), model, REQUEST, Feeds(samples), threads=2)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(16)
    assert peak(256) < 1.1 * peak(32) + 100_000


def test_what_stands_behind_the_end_of_a_text_counts_for_nothing() -> None:
    text = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, S, 2] x, int64[N, S] attention_mask) => (float[N, S, 2] y) {
            y = Neg (x)
        }"""
    )
    mask = np.array([[0, 1, 1], [1, 1, 0]])
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    x[mask == 0] = 1e6
    request = {
        name: {"range": MinMax, "channels": partial(ChannelAbsMax, axis=-1), "gram": Gram}
        for name in ("x", "y")
    }
    feeds = [{"x": x, "attention_mask": mask}]
    found = collect(OrtExecutor(), ir.from_proto(text), request, feeds, threads=1)
    kept = x[mask == 1]
    for name, sign in (("x", 1), ("y", -1)):
        ranges, channels = found[name]["range"], found[name]["channels"]
        assert isinstance(ranges, MinMax)
        assert isinstance(channels, ChannelAbsMax)
        ends = sorted((sign * float(kept.min()), sign * float(kept.max())))
        assert [ranges.low, ranges.high] == ends
        np.testing.assert_array_equal(channels.absmax, kept.max(axis=0))
