"""A float model that grows node by node, as ONNX text with constants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from tests.targets.tflite.lowering import parse

Shape = tuple[int, ...]
_LARGEST = 600
"""Elements of a value; what is larger is not read any more."""


@dataclass
class Sketch:
    """Lines, constants and the shapes of the values so far."""

    rng: np.random.Generator
    lines: list[str] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    """Element type of each value."""
    input_shape: Shape = ()

    @classmethod
    def begin(cls, rng: np.random.Generator) -> "Sketch":
        """With one input ``x``, a small picture more often than not."""
        made = cls(rng)
        shape: Shape = (1, made.whole(1, 6), made.whole(2, 7), made.whole(2, 7))
        if made.whole(0, 3) == 0:
            shape = (1, *(made.whole(2, 8) for _ in range(made.whole(1, 2))))
        made.input_shape = made.shapes["x"] = shape
        made.kinds["x"] = "float"
        return made

    def whole(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def flip(self) -> bool:
        return self.whole(0, 1) == 1

    def choose(self, options: Sequence[Any]) -> Any:
        return options[self.whole(0, len(options) - 1)]

    def noise(self, *shape: int, scale: float = 1.0) -> str:
        """A constant of random numbers."""
        return self.constant((scale * self.rng.standard_normal(shape)).astype(np.float32))

    def weight(self, *shape: int) -> str:
        """A constant with channels of different ranges along its first axis; sums stay small."""
        spread = self.rng.uniform(0.3, 1.5, (shape[0], *[1] * (len(shape) - 1)))
        w = spread * self.rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:]))))
        return self.constant(w.astype(np.float32))

    def constant(self, array: np.ndarray | Sequence[int] | float) -> str:
        """An initializer; integers become int64, numbers float32."""
        kind = np.float32 if isinstance(array, float) else np.int64
        name = f"c{len(self.constants)}"
        self.constants[name] = array if isinstance(array, np.ndarray) else np.asarray(array, kind)
        return name

    def of_kind(self, kind: str) -> list[str]:
        """The values of an element type."""
        return [name for name in self.shapes if self.kinds[name] == kind]

    def pick(self, rank: int | None = None, accept: Callable[[Shape], bool] | None = None) -> str:
        """A float value of a rank; if there is none, one is reshaped so."""
        fitting = [
            name
            for name, shape in self.shapes.items()
            if self.kinds[name] == "float"
            and (len(shape) > 1 if rank is None else len(shape) == rank)
            and int(np.prod(shape)) <= _LARGEST
            and (accept is None or accept(shape))
        ]
        # The last ones more often: graphs are to be deep.
        if fitting:
            return fitting[max(self.whole(0, len(fitting) - 1), self.whole(0, len(fitting) - 1))]
        return self.reshaped(rank or 4)

    def reshaped(self, rank: int) -> str:
        """The input in another rank, its last axis 2 or more."""
        size = int(np.prod(self.input_shape))
        shape = [1] * rank
        shape[-1] = size
        factor = next((n for n in (4, 3, 2) if size % n == 0 and size // n > 1), 1)
        if rank > 2:
            shape[1], shape[-1] = factor, size // factor
        if rank > 3:
            inner = next((n for n in (3, 2) if shape[-1] % n == 0), 1)
            shape[2], shape[-1] = inner, shape[-1] // inner
        return self.add("Reshape", "x", self.constant(shape))

    def add(
        self,
        op: str,
        *inputs: str,
        outputs: int = 1,
        kind: str = "float",
        kinds: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """One more node; the name of its first output.

        ``kind`` is the type of all its outputs, ``kinds`` that of each where they differ.
        """
        number = len(self.lines)
        names = [f"v{number}_{i}" for i in range(outputs)]
        told = ", ".join(f"{key} = {_text(value)}" for key, value in attributes.items())
        call = f"{op}<{told}>" if told else op
        self.lines.append(f"{', '.join(names)} = {call}({', '.join(inputs)})")
        self.kinds.update(zip(names, kinds or [kind] * outputs, strict=True))
        for value in self.model(names).graph.outputs:
            # Where inference gives up, the op keeps its input's shape.
            shape = self.shapes[inputs[0]] if value.shape is None else value.shape.numpy()
            self.shapes[value.name or ""] = tuple(int(n) for n in shape)
        return names[0]

    def model(self, outputs: Sequence[str]) -> ir.Model:
        """The model so far, with these outputs."""
        ends = ", ".join(f"{self.kinds[name]} {name}" for name in outputs)
        shape = ",".join(str(n) for n in self.input_shape)
        used = {name for line in self.lines for name in _names(line)}
        constants = {name: array for name, array in self.constants.items() if name in used}
        known = ", ".join(
            f"{self.kinds[name]}[{','.join(map(str, self.shapes[name]))}] {name}"
            for name in self.shapes
            if name not in outputs and name != "x"
        )
        body = "\n".join(self.lines)
        head = f"g (float[{shape}] x) => ({ends}) " + (f"<{known}>" if known else "")
        model = parse(f"{head} {{ {body} }}", constants)
        for value in model.graph.outputs:
            if value.shape is None and value.name in self.shapes:
                value.shape = ir.Shape(self.shapes[value.name])
        return model

    def finished(self) -> ir.Model:
        """The model whose outputs are the values that nothing reads."""
        read = {name for line in self.lines for name in _names(line.split(" = ", 1)[1])}
        return self.model([name for name in self.shapes if name not in read and name != "x"])


def _names(text: str) -> list[str]:
    return text.replace("(", " ").replace(")", " ").replace(",", " ").split()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(str(v) for v in value) + "]"
    return str(value)
