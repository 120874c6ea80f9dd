"""Channels that the data leave dead or full are told from those that no data can move."""

import numpy as np

from qcompile.compiler.data.firing import check_firing, firing, mute_channels
from qcompile.compiler.data.open import open_data
from qcompile.core.notes import Note
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.compiler.data.helpers import one_input
from tests.passes.prepare.checking import parse, rand

WEIGHT = rand(16, 3, 3, 3)
MUTE = np.where(np.arange(16) < 12, np.float32(1e-30), np.float32(1))[:, None, None, None]


def network(weight: np.ndarray, bias: float, last: str = "Relu(c)"):
    return parse(
        f"""g (float[N, 3, 8, 8] input) => (float[N, 16, 6, 6] y) {{
          c = Conv(input, w, b)
          y = {last}
        }}""",
        {
            "w": weight, "b": np.full(16, bias, np.float32),
            "zero": np.float32(0), "six": np.float32(6),
        },
    )  # fmt: skip


def data(scale: float):
    x = np.random.default_rng(0).normal(size=(10, 3, 8, 8)) * scale
    return open_data(x.astype(np.float32), one_input("N", 3, 8, 8))


def said(model, scale: float) -> list[Note]:
    return check_firing(data(scale), model, OrtExecutor())


def test_silence_on_good_data() -> None:
    assert said(network(WEIGHT, 0.0), 1.0) == []
    assert said(network(WEIGHT, 0.0, "Clip(c, zero, six)"), 1.0) == []


def test_data_on_which_nothing_fires() -> None:
    (note,) = said(network(WEIGHT, -1.0), 1e-4)
    assert note.level == "warning"
    assert note.message.startswith("16 of 16 channels never fire")


def test_data_on_which_every_channel_is_at_its_end() -> None:
    clipped = network(np.abs(WEIGHT), 100.0, "Clip(c, zero, six)")
    (note,) = said(clipped, 1.0)
    assert "16 of 16 channels are at their upper end" in note.message


def test_channels_that_no_data_can_move_do_not_count() -> None:
    model = network(WEIGHT * MUTE, -0.1)
    assert mute_channels(model.graph)["c"].tolist() == [True] * 12 + [False] * 4
    assert said(model, 1.0) == []
    (layer,) = firing(data(1.0), model, OrtExecutor())
    assert (layer.channels, layer.dead) == (4, 0)


def test_what_reads_only_mute_channels_is_mute() -> None:
    model = parse(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) {
          a = Conv(x, w)
          r = Relu(a)
          d = Conv<group = 16>(r, v)
          s = Relu(d)
          y = Conv(s, u)
        }""",
        {"w": WEIGHT * MUTE, "v": rand(16, 1, 1, 1), "u": rand(4, 16, 1, 1)},
    )
    found = mute_channels(model.graph)
    assert found["d"].tolist() == found["a"].tolist()
    assert not found["y"].any()


def test_too_few_samples_say_nothing() -> None:
    few = open_data(np.zeros((2, 3, 8, 8), np.float32), one_input("N", 3, 8, 8))
    assert firing(few, network(WEIGHT, -1.0), OrtExecutor()) == []
