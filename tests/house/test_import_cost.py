"""No import has an effect, and what only lists or helps loads no heavy library."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.imports import all_imports, modules

HEAVY = ("onnx", "onnx_ir", "onnxruntime", "onnxscript", "sympy")
FRAMEWORKS = ("h5py", "keras", "tensorflow", "tf2onnx", "torch")
"""What only the processes of importers load (``compiler.importers.child``)."""
LIGHT_MODULES = (
    "qcompile",
    "qcompile.compiler.cli.main",
    "qcompile.core.errors",
    "qcompile.core.target",
    "qcompile.targets.catalog",
)

FRONT = """
import sys
from qcompile.compiler.cli.main import main
sys.argv = ["qcompile", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)
"""

EFFECTS = (
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.putenv",
    "socket.connect",
    "subprocess.Popen",
)
"""Audit events that an import must not cause."""

PURE = """
import os, sys, pkgutil, importlib, logging, warnings, random
import numpy
# Effects of libraries are not ours.
import onnx, onnx_ir, onnxruntime, onnxscript, click, rich.progress, PIL.Image
before = (dict(os.environ), os.getcwd(), list(sys.path), list(warnings.filters),
          logging.getLogger().level, list(logging.getLogger().handlers), sys.excepthook,
          random.getstate(), str(numpy.random.get_state()), numpy.geterr(), sorted(os.listdir()))
written = []
def watch(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        if not str(args[0]).endswith(("/dev/null",)) and "__pycache__" not in str(args[0]):
            written.append(str(args[0]))
    if event in {effects!r}:
        written.append(event + str(args))
sys.addaudithook(watch)
for name in {names!r}:
    importlib.import_module(name)
after = (dict(os.environ), os.getcwd(), list(sys.path), list(warnings.filters),
         logging.getLogger().level, list(logging.getLogger().handlers), sys.excepthook,
         random.getstate(), str(numpy.random.get_state()), numpy.geterr(), sorted(os.listdir()))
assert not written, written
for old, new in zip(before, after):
    assert old == new, (old, new)
"""


def python(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["targets"]])
def test_the_front_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    done = python(FRONT.format(arguments=arguments, heavy=HEAVY), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it should print something"
    assert done.stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", LIGHT_MODULES)
def test_a_light_module_loads_nothing_heavy(name: str, tmp_path: Path) -> None:
    code = f"import sys, {name}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = python(code, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["targets"]])
def test_the_front_is_quick(arguments: list[str], tmp_path: Path) -> None:
    """Under 0.3 s of processor time more than an empty Python, however busy the machine is."""

    def seconds(*command: str) -> float:
        before = os.times()
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60)
        after = os.times()
        spent = after.children_user - before.children_user
        return spent + after.children_system - before.children_system

    command = (sys.executable, "-m", "qcompile.compiler.cli.main", *arguments)
    front, empty = [], []
    for _ in range(5):  # interleaved, so that a busy second hits both
        empty.append(seconds(sys.executable, "-c", "pass"))
        front.append(seconds(*command))
    assert statistics.median(front) - statistics.median(empty) < 0.3, (front, empty)


def with_frameworks() -> set[str]:
    """Modules that load a framework when they are imported, through others or not."""
    found = {i.module for i in all_imports() if i.target.split(".")[0] in FRAMEWORKS and not i.lazy}
    while True:
        more = {i.module for i in all_imports() if i.target in found and not i.lazy}
        if more <= found:
            return found
        found |= more


def test_frameworks_stay_in_processes_of_their_own() -> None:
    found = with_frameworks()
    assert found
    assert not {name for name in found if not name.startswith("qcompile.compiler.importers.")}
    assert "qcompile.compiler.importers.formats" not in found


def test_imports_have_no_effect(tmp_path: Path) -> None:
    names = sorted(set(modules()) - with_frameworks())
    done = python(PURE.format(names=names, effects=EFFECTS), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_modules_that_import_late_can_be_imported_first(tmp_path: Path) -> None:
    """None needs another to have been imported before it.

    All others are in no circle (``test_arrows``), so that their order makes no difference.
    """
    late = [i for i in all_imports() if (i.lazy or i.typing_only) and i.target in modules()]
    names = sorted({name for i in late for name in (i.module, i.target)} - with_frameworks())
    assert names
    code = (
        "import sys, importlib\n"
        "import numpy, onnx, onnx_ir, onnxruntime, onnxscript.optimizer, click, rich, PIL.Image\n"
        "clean = set(sys.modules)\n"
        f"for name in {names!r}:\n"
        "    for loaded in set(sys.modules) - clean:\n"
        "        if loaded.startswith('qcompile'):\n"
        "            del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_light_modules_import_only_light_modules() -> None:
    """The same from the source: a top-level import chain that ends in a heavy library."""
    direct: dict[str, set[str]] = {}
    for i in all_imports():
        if not (i.lazy or i.typing_only):
            direct.setdefault(i.module, set()).add(i.target)
    for name in LIGHT_MODULES:
        seen, todo = set(), [name]
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo.extend(direct.get(module, ()))
        heavy = sorted(m for m in seen if m.split(".")[0] in HEAVY)
        assert heavy == [], f"{name} reaches {heavy}"
