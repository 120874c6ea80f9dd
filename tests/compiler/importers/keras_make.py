"""Makes models with TensorFlow, in a process of its own: python -m ... FOLDER.

Beside each model lies NAME.npz: ``x`` and what the framework itself answers, ``y``.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

L = keras.layers


def network() -> keras.Model:
    """Recurrent, grouped, GELU, two inputs of which one has free sizes, outputs in a dict."""
    image = keras.Input((None, None, 4), name="image")
    x = L.Conv2D(8, 3, groups=4, padding="same", use_bias=False)(image)
    x = L.BatchNormalization(moving_mean_initializer="ones")(x)
    x = L.GlobalAveragePooling2D()(L.Activation("gelu")(x))
    series = keras.Input((6, 3), name="series")
    y = L.Bidirectional(L.LSTM(4))(series)
    both = L.Concatenate()([x, y])
    return keras.Model(
        {"image": image, "series": series},
        {"sum": L.Dense(3, name="total")(both), "rest": L.Dense(2, name="rest")(both)},
    )


class Module(tf.Module):
    """Two functions, one with the fake quantizers of training for integers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(tf.random.stateless_normal((4, 3), (1, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="a")])
    def double(self, a: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"twice": a * 2.0}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="a")])
    def fake(self, a: tf.Tensor) -> dict[str, tf.Tensor]:
        a = tf.quantization.fake_quant_with_min_max_vars(a, -1.03, 2.0)
        largest = tf.constant([0.9, 1.3, 2.1])
        weight = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            self.weight, -largest, largest, narrow_range=True
        )
        return {"product": a @ weight}


class Writer(tf.Module):
    """A model that writes a file when it is called."""

    def __init__(self, canary: str) -> None:
        super().__init__()
        self.canary = canary

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="a")])
    def write(self, a: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.io.write_file(self.canary, "was here")]):
            return {"same": tf.identity(a)}


def main(folder: Path) -> None:
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(1)
    model = network()
    feeds = {
        "image": random.normal(size=(2, 8, 8, 4)).astype(np.float32),
        "series": random.normal(size=(2, 6, 3)).astype(np.float32),
    }
    got = model(feeds, training=False)
    model.save(folder / "net.keras")
    model.save_weights(folder / "net.weights.h5")
    np.savez(folder / "net.npz", **feeds, total=got["sum"], rest=got["rest"])
    plain = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="softmax")])
    plain.save(folder / "plain.h5")
    plain.export(folder / "exported", verbose=False)
    x = random.normal(size=(2, 4)).astype(np.float32)
    np.savez(folder / "plain.npz", x=x, y=plain(x))
    module = Module()
    tf.saved_model.save(
        module, str(folder / "two"), signatures={"double": module.double, "fake": module.fake}
    )
    np.savez(folder / "two.npz", x=x, double=2 * x, fake=module.fake(tf.constant(x))["product"])
    writer = Writer(str(folder / "canary"))
    tf.saved_model.save(writer, str(folder / "writer"), signatures=writer.write)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
