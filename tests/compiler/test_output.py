"""Output files appear together or not at all, and only where they may."""

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qcompile.compiler.output import PLAN, PLAN_ARRAYS, REPORT, OutputSet
from qcompile.core.errors import Code, QCompileError


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def write_all(outputs: OutputSet, data: bytes = b"artefact") -> None:
    outputs.write("", data)
    outputs.write(REPORT, b"{}")
    outputs.write(PLAN, b"[]")
    outputs.write(PLAN_ARRAYS, b"zip")


def refusal(out: Path, **options: object) -> QCompileError:
    before = sorted(out.parent.iterdir()) if out.parent.is_dir() else []
    with pytest.raises(QCompileError) as caught:
        OutputSet(out, **options)  # type: ignore[arg-type]
    if out.parent.is_dir():
        assert sorted(out.parent.iterdir()) == before
    return caught.value


def test_all_files_appear_at_commit_and_not_before(tmp_path: Path) -> None:
    with OutputSet(tmp_path / "m.onnx") as outputs:
        write_all(outputs)
        assert not any(name.startswith("m.onnx") for name in files(tmp_path))
        assert outputs.commit() == dict.fromkeys((REPORT, PLAN, PLAN_ARRAYS, ""), True)
    assert files(tmp_path) == {
        "m.onnx": b"artefact",
        "m.onnx.plan.json": b"[]",
        "m.onnx.plan.npz": b"zip",
        "m.onnx.report.json": b"{}",
    }


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_when_a_build_fails(tmp_path: Path, error: type[BaseException]) -> None:
    def build() -> None:
        with OutputSet(tmp_path / "m.onnx") as outputs:
            write_all(outputs)
            raise error

    with pytest.raises(error):
        build()
    assert files(tmp_path) == {}


def test_nothing_is_left_when_nothing_is_committed(tmp_path: Path) -> None:
    with OutputSet(tmp_path / "m.onnx") as outputs:
        write_all(outputs)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "name",
    ["with space.onnx", 'it\'s "quoted".onnx', "模型-ü.onnx", "[bold]$HOME;`x`.onnx", "-m.onnx"],
)
def test_any_name_works(tmp_path: Path, name: str) -> None:
    with OutputSet(tmp_path / name) as outputs:
        write_all(outputs)
        outputs.commit()
    assert set(files(tmp_path)) == {name, name + REPORT, name + PLAN, name + PLAN_ARRAYS}


def test_equal_bytes_leave_the_file_untouched(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    with OutputSet(out) as outputs:
        write_all(outputs)
        outputs.commit()
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.iterdir()}
    with OutputSet(out) as outputs:
        write_all(outputs)
        outputs.write(REPORT, b"{1}")
        changed = outputs.commit()
    assert changed == {"": False, REPORT: True, PLAN: False, PLAN_ARRAYS: False}
    after = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.iterdir()}
    assert after.pop("m.onnx.report.json") != before.pop("m.onnx.report.json")
    assert after == before


def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    with OutputSet(out, suffixes=()) as outputs:
        outputs.write("", b"a")
        outputs.commit()
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    out.chmod(0o640)
    with OutputSet(out, suffixes=()) as outputs:
        outputs.write("", b"b")
        outputs.commit()
    assert (out.read_bytes(), stat.S_IMODE(out.stat().st_mode)) == (b"b", 0o640)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "v1.onnx"
    target.write_bytes(b"old")
    link = tmp_path / "m.onnx"
    link.symlink_to(target)
    with OutputSet(link, suffixes=(REPORT,)) as outputs:
        outputs.write("", b"new")
        outputs.write(REPORT, b"{}")
        outputs.commit()
    assert link.is_symlink()
    assert files(tmp_path / "real") == {"v1.onnx": b"new"}
    assert (tmp_path / "m.onnx.report.json").read_bytes() == b"{}"


def test_a_link_to_nothing_makes_what_it_names(tmp_path: Path) -> None:
    link = tmp_path / "m.onnx"
    link.symlink_to("new.onnx")
    with OutputSet(link, suffixes=()) as outputs:
        outputs.write("", b"new")
        outputs.commit()
    assert link.is_symlink()
    assert (tmp_path / "new.onnx").read_bytes() == b"new"


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert error.code is Code.OUTPUT_NOT_A_FILE
    assert "folder" in error.message
    (tmp_path / "m.onnx.report.json").mkdir()
    assert refusal(tmp_path / "m.onnx").code is Code.OUTPUT_NOT_A_FILE


def test_a_pipe_is_no_output_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    error = refusal(tmp_path / "pipe")
    assert (error.code, "pipe" in error.message) == (Code.OUTPUT_NOT_A_FILE, True)


def test_a_socket_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert refusal(tmp_path / "s").code is Code.OUTPUT_NOT_A_FILE


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full", "/dev/stdout"])
def test_a_device_is_no_output(device: str, tmp_path: Path) -> None:
    link = tmp_path / "link.onnx"
    link.symlink_to("/dev/null")
    assert refusal(link).code is Code.OUTPUT_NOT_A_FILE
    if Path(device).exists() and not Path(device).is_file():
        assert refusal(Path(device)).code is Code.OUTPUT_NOT_A_FILE


def test_a_dash_is_no_output() -> None:
    assert refusal(Path("-")).code is Code.OUTPUT_NOT_A_FILE


def test_a_loop_of_links_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refusal(tmp_path / "a").code is Code.OUTPUT_UNWRITABLE


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    error = refusal(tmp_path / "no" / "m.onnx")
    assert error.code is Code.OUTPUT_UNWRITABLE
    assert str(tmp_path / "no") in error.message


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert refusal(tmp_path / "f" / "m.onnx").code is Code.OUTPUT_UNWRITABLE


def test_a_name_too_long_also_for_the_files_beside(tmp_path: Path) -> None:
    assert refusal(tmp_path / ("n" * 300)).code is Code.OUTPUT_UNWRITABLE
    assert refusal(tmp_path / ("n" * 250)).code is Code.OUTPUT_UNWRITABLE


def test_a_folder_where_no_file_can_be_made() -> None:
    folder = Path("/proc/self")  # holds against root as well
    if not folder.is_dir():
        pytest.skip("no /proc")
    error = refusal_in(folder / "m.onnx")
    assert error.code is Code.OUTPUT_UNWRITABLE


def refusal_in(out: Path) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        OutputSet(out)
    return caught.value


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_read_only_folder_or_file(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"")
    file.chmod(0o444)
    assert refusal(file).code is Code.OUTPUT_UNWRITABLE
    tmp_path.chmod(0o555)
    assert refusal(tmp_path / "n.onnx").code is Code.OUTPUT_UNWRITABLE
    tmp_path.chmod(0o755)


def test_an_input_is_no_output_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    (tmp_path / "soft.onnx").symlink_to("m.onnx")
    os.link(model, tmp_path / "hard.onnx")
    monkeypatch.chdir(tmp_path)
    names = (
        model,
        Path("m.onnx"),
        Path("./m.onnx"),
        tmp_path / "soft.onnx",
        tmp_path / "hard.onnx",
    )
    for out in names:
        for named in (model, tmp_path / "soft.onnx"):
            assert refusal(out, inputs=[named]).code is Code.OUTPUT_IS_INPUT
    assert model.read_bytes() == b"model"


def test_a_file_beside_the_output_is_no_input_either(tmp_path: Path) -> None:
    plan = tmp_path / "m.onnx.plan.json"
    plan.write_bytes(b"mine")
    assert refusal(tmp_path / "m.onnx", inputs=[plan]).code is Code.OUTPUT_IS_INPUT


def test_a_data_folder_takes_no_output(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    for out in (data / "m.onnx", data / "sub" / "m.onnx"):
        assert refusal(out, inputs=[data]).code is Code.OUTPUT_IS_INPUT
    OutputSet(tmp_path / "data.onnx", inputs=[data])


def test_inputs_known_later_are_protected_later(tmp_path: Path) -> None:
    weights = tmp_path / "m.onnx"
    with OutputSet(tmp_path / "m.onnx") as outputs:
        weights.write_bytes(b"weights")
        with pytest.raises(QCompileError) as caught:
            outputs.protect([tmp_path / "missing", weights])
    assert caught.value.code is Code.OUTPUT_IS_INPUT


def test_a_failed_rename_undoes_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.onnx"
    with OutputSet(out, suffixes=(REPORT,)) as outputs:
        outputs.write("", b"old")
        outputs.write(REPORT, b"old report")
        outputs.commit()
    replace = os.replace

    def fail_for_the_artefact(source: Path, destination: Path) -> None:
        if Path(destination) == out and Path(source).read_bytes() == b"new":
            raise OSError(errno.EIO, "Input/output error")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail_for_the_artefact)
    with OutputSet(out) as outputs:
        outputs.write("", b"new")
        outputs.write(REPORT, b"new report")
        outputs.write(PLAN, b"new plan")
        with pytest.raises(QCompileError, match="Input/output error") as caught:
            outputs.commit()
    assert caught.value.code is Code.OUTPUT_UNWRITABLE
    assert files(tmp_path) == {"m.onnx": b"old", "m.onnx.report.json": b"old report"}


def test_undo_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    test_a_failed_rename_undoes_those_before_it(tmp_path, monkeypatch)


def test_a_full_disk_has_its_own_message(tmp_path: Path) -> None:
    """A limit on file size stands for the disk: the write fails half-way through."""
    out = tmp_path / "m.onnx"
    out.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with OutputSet(out) as outputs:
            outputs.write(REPORT, b"{}")
            with pytest.raises(QCompileError) as caught:
                outputs.write("", bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.code is Code.OUTPUT_UNWRITABLE
    assert files(tmp_path) == {"m.onnx": b"old"}


def test_a_really_full_disk(tmp_path: Path) -> None:
    """On a file system of 64 kB, in a mount namespace of its own."""
    code = (
        "import sys; from pathlib import Path\n"
        "from qcompile.compiler.output import OutputSet\n"
        "from qcompile.core.errors import QCompileError\n"
        "folder = Path(sys.argv[1])\n"
        "try:\n"
        "    with OutputSet(folder / 'm.onnx') as outputs:\n"
        "        outputs.write('', bytes(1_000_000)); outputs.commit()\n"
        "except QCompileError as error:\n"
        "    print(error.code.slug, 'disk is full' in error.message, list(folder.iterdir()))\n"
    )
    script = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare")
    if done.returncode and not done.stdout:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.stdout.strip() == "output-unwritable True []", done.stderr


def test_staged_files_can_be_written_by_others(tmp_path: Path) -> None:
    with OutputSet(tmp_path / "m.onnx", suffixes=(".data",)) as outputs:
        outputs.stage(".data").write_bytes(b"weights")
        assert outputs.stage(".data") == outputs.stage(".data")
        outputs.write("", b"graph")
        outputs.commit()
    assert files(tmp_path) == {"m.onnx": b"graph", "m.onnx.data": b"weights"}
