"""What a native runner is: the command line that it takes, and the meaning of what it prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from qcompile.targets.devices.device import Kernels

Runtime = Literal["onnxruntime", "tflite"]


@dataclass(frozen=True)
class Given:
    """An input of a model, as a file on the device."""

    path: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Start:
    """One start of a runner; all paths are on the device."""

    runner: str
    model: str
    threads: int
    kernels: Kernels
    runs: int
    """To time."""
    warm_up: int
    """To do before."""
    inputs: tuple[Given, ...] = ()
    """In the model's order; none where the runner finds them by itself or makes up its own."""
    result: str = ""
    """Where it is to write the times of its runs, if it can."""
    output: str = ""
    """Where it is to write the model's outputs, if it can; empty when they are not wanted."""


@dataclass(frozen=True)
class Summary:
    """What one start said of its runs: all that there is where single runs are not told."""

    seconds: float
    kind: Literal["median", "mean"]
    runs: int
    """0 where it does not say."""
    first: float | None = None
    """Seconds of the first run, which warms up, where it is told."""
    step: float = 0.0
    """Seconds to which times are rounded where that is much of a small model's."""


class Runner(Protocol):
    """A native runner; what it says of itself with ``--help`` goes back into its methods."""

    @property
    def name(self) -> str:
        """What users know it by."""

    @property
    def runtime(self) -> Runtime:
        """Whose models it runs."""

    @property
    def model_name(self) -> str:
        """Name that a model file must have."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Patterns of shared libraries that it needs if they lie beside it."""

    def claims(self, file_name: str, help_text: str) -> bool:
        """Whether a program is this runner."""

    def argv(self, start: Start, help_text: str) -> list[str]:
        """The command line, with the options alone that this version knows."""

    def input_files(self, names: Sequence[str], arrays: Sequence[np.ndarray]) -> dict[str, bytes]:
        """Files to lay beside the model, in the model's order of inputs."""

    def kernels(self, help_text: str) -> tuple[Kernels, ...]:
        """The kernels that it can be told to take."""

    def takes_inputs(self, help_text: str) -> bool:
        """Whether it runs on the files of ``input_files``; if not, it makes up numbers."""

    def gives_outputs(self, help_text: str) -> bool:
        """Whether it can write down what a model computes."""

    def summary(self, printed: str, result: str, warm_up: int) -> Summary | None:
        """The times of one start; None where there are none.

        Args:
            printed: stdout and stderr.
            result: text of the result file, empty without.
            warm_up: runs at the start of the result file that do not count.
        """

    def refused(self, printed: str) -> str:
        """Why it did not load the model, in its own words; empty where that was not what failed."""


def first_line(printed: str, words: Sequence[str]) -> str:
    """The first line that contains one of the words; empty without."""
    lines = (line.strip() for line in printed.splitlines())
    return next((line for line in lines if any(word in line for word in words)), "")
