"""The part of the agent that loads and runs models, under whichever runtimes the device has."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Mapping, Sequence

import numpy as np

from qcompile.targets.devices.wire import Arrays, FaultError


class OrtModel:
    """A model loaded by ONNX Runtime."""

    def __init__(self, data: bytes, threads: int, kernels: str) -> None:
        ort = _runtime("onnxruntime", ["onnxruntime"])
        try:
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 4
            if kernels == "builtin":
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            self._raw = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            text = f"ONNX Runtime {_version(ort)} does not load the model: {_reason(error)}"
            raise FaultError("RUNTIME_REFUSED", text) from error
        self.inputs = [i.name for i in self._raw.get_inputs()]
        self.outputs = [o.name for o in self._raw.get_outputs()]

    def run(self, feeds: Arrays) -> list[np.ndarray]:
        """Outputs in order."""
        return [np.asarray(x) for x in self._raw.run(self.outputs, feeds)]


_LITERT = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_TENSORFLOW = "tensorflow.lite.python.interpreter"
_RESOLVERS = {"builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}


class TfliteModel:
    """A model loaded by LiteRT, or by TensorFlow Lite as it was called before."""

    def __init__(self, data: bytes, threads: int, kernels: str, taps: Sequence[str]) -> None:
        module = _runtime("LiteRT", [*_LITERT, _TENSORFLOW])
        options = {"num_threads": threads}  # older versions know fewer options: only what is needed
        if kernels in _RESOLVERS:
            resolver = module.OpResolverType[_RESOLVERS[kernels]]
            options["experimental_op_resolver_type"] = resolver
        if taps:
            options["experimental_preserve_all_tensors"] = True
        try:
            self._raw = module.Interpreter(model_content=data, **options)
            self._raw.allocate_tensors()
        except Exception as error:
            text = f"{_name(module)} does not load the model ({kernels}): {_reason(error)}"
            raise FaultError("RUNTIME_REFUSED", text) from error
        self._inputs, self._outputs = self._ends()
        if taps:
            self._outputs.update(self._tapped(taps))
        self.inputs, self.outputs = list(self._inputs), list(self._outputs)

    def _ends(self) -> tuple[dict[str, int], dict[str, int]]:
        """Names -> tensors in the graph's order; the first signature's names where it has one."""
        listing: Any = getattr(self._raw, "_get_full_signature_list", dict)()
        first: Any = next(iter(listing.values()), {"inputs": {}, "outputs": {}})

        def named(details: Any, given: Mapping[str, int]) -> dict[str, int]:
            names = {index: name for name, index in given.items()}
            return {names.get(d["index"], d["name"]): d["index"] for d in details}

        return (
            named(self._raw.get_input_details(), first["inputs"]),
            named(self._raw.get_output_details(), first["outputs"]),
        )

    def _tapped(self, taps: Sequence[str]) -> dict[str, int]:
        known = {d["name"]: d["index"] for d in self._raw.get_tensor_details()}
        known.update(self._outputs)
        unknown = [name for name in taps if name not in known]
        if unknown:
            raise FaultError("BAD_OPTION", f"the model has no tensor {unknown[0]!r}")
        return {name: known[name] for name in taps}

    def run(self, feeds: Arrays) -> list[np.ndarray]:
        """Outputs in order, then what is tapped."""
        self._fit(feeds)
        for name, index in self._inputs.items():
            self._raw.set_tensor(index, feeds[name])
        self._raw.invoke()
        return [self._raw.get_tensor(index) for index in self._outputs.values()]

    def _fit(self, feeds: Arrays) -> None:
        wrong = [
            (detail["index"], feeds[name].shape)
            for detail, name in zip(self._raw.get_input_details(), self._inputs)
            if tuple(detail["shape"]) != feeds[name].shape
            and -1 in detail.get("shape_signature", ())
        ]
        for index, shape in wrong:
            self._raw.resize_tensor_input(index, shape, strict=True)
        if wrong:
            self._raw.allocate_tensors()


def _runtime(name: str, modules: Sequence[str]) -> Any:
    """The first module that can be imported."""
    reasons = []
    for module in modules:
        try:
            return importlib.import_module(module)
        except Exception as error:  # a wheel for another numpy fails in ways of its own
            reasons.append(_reason(error))
    text = f"{name} cannot be imported by {sys.executable or 'Python'}: {reasons[0]}"
    raise FaultError("MISSING_RUNTIME", text)


def _name(module: Any) -> str:
    return "LiteRT" if module.__name__ == _LITERT[0] else "TensorFlow Lite"


def _version(module: Any) -> str:
    return str(getattr(module, "__version__", "of no version"))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
