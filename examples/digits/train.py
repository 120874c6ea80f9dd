"""A small convolutional network in numpy: layers that go forward and backward, and Adam."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray


class Layer:
    """Maps a batch forward and its gradient backward; ``parameters`` pairs with ``gradients``."""

    def forward(self, x: Array, training: bool) -> Array:
        """The layer's output; remembers what ``backward`` needs."""
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        """The gradient of the input; sets the gradients of the parameters."""
        raise NotImplementedError

    def parameters(self) -> list[Array]:
        """The arrays to train, changed in place."""
        return []

    def gradients(self) -> list[Array]:
        """One gradient a parameter, after ``backward``."""
        return []


def correlate(x: Array, weight: Array, depthwise: bool) -> Array:
    """Stride-1 correlation, padded to keep the size: N,C,H,W with O,I,k,k -> N,O,H,W."""
    windows = _windows(x, weight.shape[2])
    if depthwise:
        return np.einsum("nchwij,cij->nchw", windows, weight[:, 0], optimize=True)
    return np.tensordot(windows, weight, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)


def _windows(x: Array, size: int) -> Array:
    pad = size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return sliding_window_view(padded, (size, size), axis=(2, 3))


@dataclass(eq=False)
class Conv(Layer):
    """Convolution without bias (a batch normalization follows); ``weight`` is O,I,k,k."""

    weight: Array
    depthwise: bool = False

    def forward(self, x: Array, training: bool) -> Array:
        self.x = x
        return correlate(x, self.weight, self.depthwise)

    def backward(self, dy: Array) -> Array:
        windows = _windows(self.x, self.weight.shape[2])
        flipped = self.weight[:, :, ::-1, ::-1]
        if self.depthwise:
            grad = np.einsum("nchw,nchwij->cij", dy, windows, optimize=True)
            self.grad = grad[:, None]
            return correlate(dy, flipped, depthwise=True)
        self.grad = np.tensordot(dy, windows, ([0, 2, 3], [0, 2, 3]))
        return correlate(dy, flipped.swapaxes(0, 1), depthwise=False)

    def parameters(self) -> list[Array]:
        return [self.weight]

    def gradients(self) -> list[Array]:
        return [self.grad]


@dataclass(eq=False)
class BatchNorm(Layer):
    """Normalizes each channel over batch and space (Ioffe and Szegedy 2015)."""

    channels: int
    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        self.gamma, self.beta = (
            np.ones(self.channels, np.float32),
            np.zeros(self.channels, np.float32),
        )
        self.mean, self.variance = self.beta.copy(), self.gamma.copy()

    def forward(self, x: Array, training: bool) -> Array:
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            self.mean = self.momentum * self.mean + (1 - self.momentum) * mean
            self.variance = self.momentum * self.variance + (1 - self.momentum) * variance
        self.inverse = 1 / np.sqrt(variance + self.epsilon)
        self.normal = (x - _wide(mean)) * _wide(self.inverse)
        return self.normal * _wide(self.gamma) + _wide(self.beta)

    def backward(self, dy: Array) -> Array:
        self.grads = [(dy * self.normal).sum((0, 2, 3)), dy.sum((0, 2, 3))]
        count = dy.size // dy.shape[1]
        centred = dy - _wide(self.grads[1] / count) - self.normal * _wide(self.grads[0] / count)
        return centred * _wide(self.gamma * self.inverse)

    def parameters(self) -> list[Array]:
        return [self.gamma, self.beta]

    def gradients(self) -> list[Array]:
        return self.grads


def _wide(channel_values: Array) -> Array:
    return channel_values[:, None, None]


class Relu(Layer):
    """max(x, 0)."""

    def forward(self, x: Array, training: bool) -> Array:
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy: Array) -> Array:
        return dy * self.positive


class MaxPool(Layer):
    """The largest of each 2 x 2 block; equal values share the gradient."""

    def forward(self, x: Array, training: bool) -> Array:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
        largest = blocks.max((3, 5), keepdims=True)
        chosen = blocks == largest
        self.share = chosen / chosen.sum((3, 5), keepdims=True, dtype=np.float32)
        return largest[:, :, :, 0, :, 0]

    def backward(self, dy: Array) -> Array:
        n, c, h, w = dy.shape
        return (self.share * dy[:, :, :, None, :, None]).reshape(n, c, 2 * h, 2 * w)


class GlobalAverage(Layer):
    """The mean over space: N,C,H,W -> N,C."""

    def forward(self, x: Array, training: bool) -> Array:
        self.shape = x.shape
        return x.mean((2, 3))

    def backward(self, dy: Array) -> Array:
        area = self.shape[2] * self.shape[3]
        return np.broadcast_to((dy / area)[:, :, None, None], self.shape)


@dataclass(eq=False)
class Linear(Layer):
    """x @ weight + bias; ``weight`` is in,out."""

    weight: Array
    bias: Array

    def forward(self, x: Array, training: bool) -> Array:
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, dy: Array) -> Array:
        self.grads = [self.x.T @ dy, dy.sum(0)]
        return dy @ self.weight.T

    def parameters(self) -> list[Array]:
        return [self.weight, self.bias]

    def gradients(self) -> list[Array]:
        return self.grads


@dataclass(eq=False)
class Network:
    """Layers in a row, trained on the cross-entropy of the last one's softmax."""

    layers: Sequence[Layer]
    moments: list[tuple[Array, Array]] = field(default_factory=list)
    steps: int = 0

    def forward(self, x: Array, training: bool = False) -> Array:
        """Logits of a batch."""
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def step(self, x: Array, y: Array, rate: float) -> None:
        """One step of Adam (Kingma and Ba 2015) on a batch."""
        logits = self.forward(x, training=True)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        gradient = p / len(y)
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        self.steps += 1
        parameters = [p for layer in self.layers for p in layer.parameters()]
        gradients = [g for layer in self.layers for g in layer.gradients()]
        if not self.moments:
            self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
        for p, g, (first, second) in zip(parameters, gradients, self.moments, strict=True):
            first += 0.1 * (g - first)
            second += 0.001 * (g * g - second)
            debias = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
            p -= (rate * debias * first / (np.sqrt(second) + 1e-8)).astype(p.dtype)
