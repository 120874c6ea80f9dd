"""Sessions and data sets that are functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompile.compiler.data.dataset import Label, Sample

Function = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass
class FakeSession:
    function: Function
    output_names: Sequence[str] = ("y",)
    input_names: Sequence[str] = ("x",)
    runs: int = field(default=0)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.runs += 1
        return list(self.function(feeds[self.input_names[0]]))


@dataclass
class FakeData:
    inputs: np.ndarray
    labels: Sequence[Label] | None = None
    name: str = "fake"

    @property
    def has_labels(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Sample:
        label = None if self.labels is None else self.labels[index]
        return Sample({"x": self.inputs[index][None]}, label, f"fake[{index}]")
