"""The oldest runtimes that targets are meant for, each in an environment of its own.

They are installed by pip when first asked for and kept in the cache folder, which may be deleted.
"""

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.environments import Environment, environments_folder, installed

FOLDER: Final = "oldest-runtimes-1"
_HAS_2_14: Final = sys.version_info[:2] == (3, 11) and platform.system() == "Linux"
"""TensorFlow Lite's own wheels end with 2.14, for Python 3.11."""

_WHEELS: Final[Mapping[tuple[str, str], str]] = {
    ("onnxruntime", "1.18"): "onnxruntime==1.18.0",
    ("qnn", "1.24.2"): "onnxruntime==1.24.2",
    ("tflite", "2.14"): "tflite-runtime==2.14.0" if _HAS_2_14 else "ai-edge-litert==1.0.1",
    ("tflite", "LiteRT 1.0"): "ai-edge-litert==1.0.1",
    ("tflite", "LiteRT 1.2"): "ai-edge-litert==1.2.0",
    ("tflite", "LiteRT 2.3"): "ai-edge-litert==2.3.0",
}
"""Runtime and ``min_runtime`` of a target -> the oldest wheel that is not older and installs."""

_BEFORE_NUMPY_2: Final = ("onnxruntime==1.18.0", "tflite-runtime==2.14.0", "ai-edge-litert==1.0.1")
_WARM_UP: Final = {
    "onnxruntime": "import onnxruntime",
    "tflite-runtime": "import tflite_runtime.interpreter",
    "ai-edge-litert": "import ai_edge_litert.interpreter",
}


def python_with(runtime: str, min_runtime: str) -> Path:
    """An interpreter that has the oldest runtime.

    Raises:
        KeyError: for a ``min_runtime`` whose wheel nobody looked up.
        tests.benchmarks.environments.Unavailable: it cannot be installed.
    """
    wheel = _WHEELS[runtime, min_runtime]
    numpy = "numpy<2" if wheel in _BEFORE_NUMPY_2 else "numpy"
    environment = Environment((wheel, numpy), _WARM_UP[wheel.partition("==")[0]])
    return installed(environments_folder(FOLDER) / wheel.replace("==", "-"), environment)
