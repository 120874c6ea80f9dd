"""Samples that a user's function gives: ``module:function``, or a function in Python.

The function takes no arguments and is called once. What it may return:

- arrays of many samples: an array, a dict of arrays, or a pair of either and the labels;
- anything with ``len()`` and ``[i]``: each item is one sample, asked for when needed;
- an iterator (a generator function): every item is written to a temporary file as it comes, since
  samples are read by index, in any order and more than once.

An item is an array, a dict of arrays by input name, or a pair of either and its label.
"""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from qcompile.compiler.data.arrays import ArrayDataset, Source
from qcompile.compiler.data.dataset import Sample
from qcompile.compiler.data.feeder import Feeder
from qcompile.compiler.data.files import Held, LazyArray, Scratch, Stored, as_array
from qcompile.core.errors import Code, QCompileError

_SPEC: Final = re.compile(r"(?P<module>[^:]+):(?P<function>[A-Za-z_][\w.]*)")


def is_callable_spec(spec: str) -> bool:
    """Whether a text has the form ``module:function`` or ``path/file.py:function``."""
    return _SPEC.fullmatch(spec) is not None


def load_callable(spec: str, folder: Path) -> Callable[[], Any]:
    """Import the function that ``module:function`` names.

    Args:
        spec: a module that can be imported from ``folder`` or is installed, or a .py file.
        folder: searched first, as Python does with a script's folder.

    Raises:
        QCompileError: DATA_NOT_FOUND, or DATA_UNREADABLE when the import fails.
    """
    parts = _SPEC.fullmatch(spec)
    if parts is None:
        raise QCompileError(Code.DATA_NOT_FOUND, f"{spec!r} is not of the form module:function")
    found: Any = _import(parts["module"], folder, spec)
    for name in parts["function"].split("."):
        found = getattr(found, name, None)
    if not callable(found):
        what = "is not a function" if found is not None else "does not exist"
        raise QCompileError(
            Code.DATA_NOT_FOUND, f"{spec}: {parts['function']} {what} in {parts['module']}"
        )
    return found  # type: ignore[no-any-return]


def open_callable(
    function: Callable[[], Any], name: str, feeder: Feeder, limit: int | None = None
) -> "ArrayDataset | ItemDataset":
    """Call the user's function and make a set of what it returns.

    Args:
        function: called once, without arguments.
        name: what the set is called.
        feeder: what is done to each sample.
        limit: an iterator is left after this many items.

    Raises:
        QCompileError: DATA_UNREADABLE when the user's code raises; those of ArrayDataset.
    """
    return open_values(_guarded(function, name), name, feeder, limit)


def open_values(
    values: Any, name: str, feeder: Feeder, limit: int | None = None
) -> "ArrayDataset | ItemDataset":
    """Make a set of values that are in memory, or of an iterator (see the top of this file)."""
    if is_arrays(values):
        return ArrayDataset(name, [item_source(values, name, feeder)], feeder)
    if isinstance(values, list | tuple):
        items = ((f"{name}[{i}]", item) for i, item in enumerate(values))
        return ArrayDataset(name, [item_source(item, n, feeder) for n, item in items], feeder)
    if hasattr(values, "__len__") and hasattr(values, "__getitem__"):
        return ItemDataset(name, values, feeder)
    if isinstance(values, Iterable):
        return ArrayDataset(name, _spill(iter(values), name, feeder, limit), feeder)
    raise QCompileError(
        Code.DATA_TYPE,
        f"{name} gave {type(values).__name__}, which is neither arrays nor samples",
        hint="return or yield arrays, dicts of arrays by input name, or pairs of these and a label",
    )


def is_arrays(value: Any) -> bool:
    """Whether a value is an array, a dict of arrays, or a pair of either and labels."""
    if isinstance(value, Mapping) or hasattr(value, "__array__"):
        return True
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and (isinstance(value[0], Mapping) or hasattr(value[0], "__array__"))
        and (hasattr(value[1], "__array__") or isinstance(value[1], int | list))
    )


class ItemDataset:
    """Samples of something with ``len()`` and ``[i]``; items are asked for one at a time.

    An item must be one run of the model: nothing is known of it before it is asked for.
    """

    def __init__(self, name: str, items: Any, feeder: Feeder) -> None:
        self.name = name
        self._items, self._feeder = items, feeder
        self._count: int = _guarded(lambda: len(items), name)
        if not self._count:
            raise QCompileError(Code.DATA_EMPTY, f"{name} holds no samples")
        first = self._one(0)
        self.has_labels, self.is_batched = first.has_labels, first.is_batched

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._one(index)[0]

    def _one(self, index: int) -> ArrayDataset:
        name = f"{self.name}[{index}]"
        item = _guarded(lambda: self._items[index], name)
        one = ArrayDataset(name, [item_source(item, name, self._feeder)], self._feeder)
        if len(one) != 1:
            raise QCompileError(
                Code.DATA_SHAPE,
                f"{name} holds {len(one)} samples, but an item must be one",
                hint="return one sample an item, or yield the batches from a generator",
            )
        return one


def item_source(item: Any, name: str, feeder: Feeder) -> Source:
    """A source of one item: feeds, or a pair of feeds and a label (or labels, one a sample)."""
    labels: LazyArray | None = None
    if isinstance(item, tuple | list) and len(item) == 2:
        item, label = item
        labels = None if label is None else Held(as_array(label, f"{name} (label)"))
    arrays = _named(item, name, feeder)
    return Source(name, {key: Held(array) for key, array in arrays.items()}, labels)


def _named(value: Any, where: str, feeder: Feeder) -> dict[str, np.ndarray]:
    if isinstance(value, Mapping):
        return {str(k): as_array(v, f"{where} (array {k!r})") for k, v in value.items()}
    wanted = feeder.wanted()
    if len(wanted) != 1:
        names = ", ".join(spec.name for spec in wanted)
        raise QCompileError(
            Code.DATA_NAMES,
            f"{where} is one array, but the model has {len(wanted)} inputs: {names}",
            hint="give a dict with an array for each",
        )
    return {wanted[0].name: as_array(value, where)}


def _spill(items: Iterator[Any], name: str, feeder: Feeder, limit: int | None) -> list[Source]:
    """Write the arrays of every item to one temporary file, one behind the other."""
    scratch = Scratch()
    path = scratch.new_file()

    def put(array: LazyArray) -> Stored:
        contents = np.ascontiguousarray(array.whole())
        stored = Stored(path, array.shape, array.dtype, file.tell(), owner=scratch)
        file.write(contents.data)
        return stored

    sources: list[Source] = []
    end = object()
    with path.open("wb") as file:
        while limit is None or len(sources) < limit:
            item = _guarded(lambda: next(items, end), name)
            if item is end:
                break
            source = item_source(item, f"{name}[{len(sources)}]", feeder)
            arrays = {key: put(array) for key, array in source.arrays.items()}
            labels = None if source.labels is None else put(source.labels)
            sources.append(Source(source.name, arrays, labels))
    return sources


def _guarded(call: Callable[[], Any], name: str) -> Any:
    """Run the user's code; what it raises becomes an error that says where."""
    try:
        return call()
    except QCompileError:
        raise
    except Exception as error:
        raise QCompileError(
            Code.DATA_UNREADABLE,
            f"{name} raised {type(error).__name__}: {error}{failed_line(error)}",
        ) from error


def failed_line(error: BaseException) -> str:
    """Where in the user's code an exception came from, for the end of a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


def _import(module: str, folder: Path, spec: str) -> ModuleType:
    if module.endswith(".py") or "/" in module:
        return _import_file(folder / module, spec)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module + ".").startswith(error.name + "."):
            raise QCompileError(
                Code.DATA_NOT_FOUND,
                f"{spec}: there is no module {module}",
                hint=f"it is looked for in {folder} and among the installed packages",
            ) from error
        raise _failed(spec, error) from error
    except Exception as error:
        raise _failed(spec, error) from error
    finally:
        sys.path.remove(str(folder))


def _import_file(path: Path, spec: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or found is None or found.loader is None:
        raise QCompileError(Code.DATA_NOT_FOUND, f"{spec}: there is no Python file {path}")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise _failed(spec, error) from error
    return module


def _failed(spec: str, error: Exception) -> QCompileError:
    return QCompileError(
        Code.DATA_UNREADABLE,
        f"{spec} cannot be imported: {type(error).__name__}: {error}{failed_line(error)}",
    )
