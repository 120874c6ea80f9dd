"""A device's shell over this machine's own: quoting, noise, missing programs, folders that go."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.links import CommandLink, local_link
from qcompile.targets.devices.shell import Shell
from tests.targets.devices.android import android_path
from tests.targets.devices.phones import processes_with
from tests.targets.devices.processes import wait_until


@pytest.fixture(params=["this machine's", "Android's"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandLink]:
    """A shell here; in the end nothing of ours may be left in its folder."""
    base = tmp_path / 'it\'s a "device"'
    base.mkdir()
    made = replace(local_link("local"), base=str(base))
    if request.param == "Android's":
        (tmp_path / "bin").mkdir()
        path = android_path(tmp_path / "bin")
        made = replace(made, prefix=("/usr/bin/env", "-i", f"PATH={path}", f"{path}/sh", "-c"))
    yield made
    assert [p for p in base.iterdir() if p.name.startswith("qcompile-")] == []


def test_codes_output_and_variables(link: CommandLink) -> None:
    with Shell(link) as shell:
        done = shell.run(["sh", "-c", 'echo "$A"; echo e >&2; pwd; exit 3'], env={"A": "x y"})
        assert (done.code, done.stdout, done.stderr) == (3, f"x y\n{shell.folder}\n", "e\n")
        assert shell.run(["cat"]).stdout == "", "no input"
        assert shell.run(["sh", "-c", "kill -11 $$"]).code == 128 + 11


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(st.text(st.characters(exclude_characters="\0\1\r", codec="utf-8")), min_size=1)
)
def test_every_word_arrives_as_it_is(shared: Shell, words: list[str]) -> None:
    done = shared.run(["printf", "%s\\001", *words])
    assert done.stdout.split("\1")[:-1] == words


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    base = tmp_path_factory.mktemp("shared")
    with Shell(replace(local_link("local"), base=str(base))) as shell:
        yield shell


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/../b", "/etc/x", "a b", "-rf", "x;id", "a//b"]
)
def test_names_that_are_refused(shared: Shell, name: str) -> None:
    for act in (lambda: shared.push(b"", name), lambda: shared.remove(name)):
        with pytest.raises(QCompileError) as caught:
            act()
        assert caught.value.code is Code.BAD_OPTION


def test_what_a_shell_prints_first_is_skipped(link: CommandLink) -> None:
    noisy = replace(link, prefix=("/bin/sh", "-c", 'echo hello; printf "%s" no; eval "$0"'))
    with Shell(noisy) as shell:
        assert shell.run(["echo", "x"]).stdout == "x\n"
        shell.push(bytes(range(256)) * 9, "data")
        assert shell.pull("data") == bytes(range(256)) * 9


@pytest.mark.parametrize("tools", [{"sha1sum"}, {"md5sum"}, set()])
def test_a_device_with_fewer_programs(link: CommandLink, tools: set[str]) -> None:
    with Shell(link) as shell:
        shell.tools = frozenset(tools)
        shell.push(b"12345", "data")
        assert shell.pull("data") == b"12345"
        assert shell.run(["sh", "-c", "exit 5"]).code == 5


def test_a_cut_file_is_noticed_without_a_hash(
    link: CommandLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shell(link) as shell:
        shell.tools = frozenset()
        sends: list[int] = []

        def send(self: CommandLink, data: bytes, path: str, *, timeout: float) -> None:
            Path(path).write_bytes(data[: len(sends) + 3])
            sends.append(len(data))

        monkeypatch.setattr(CommandLink, "send", send)
        assert shell.push(b"1234", "data")
        assert sends == [4, 4], "it is sent once more"
        with pytest.raises(QCompileError, match="damaged"):
            shell.push(b"12345678", "data")


def test_a_program_starts_no_shell_of_its_own_accord(link: CommandLink, tmp_path: Path) -> None:
    with Shell(link) as shell:
        shell.run(["echo", f"$(touch {tmp_path}/hacked)", f";touch {tmp_path}/hacked"])
    assert not (tmp_path / "hacked").exists()


def test_a_shell_that_ends_early_is_lost(link: CommandLink) -> None:
    with Shell(link) as shell:
        shell.link = replace(link, prefix=("/bin/sh", "-c", "echo gone >&2; exit 1"))
        with pytest.raises(QCompileError) as caught:
            shell.run(["true"])
        assert caught.value.code is Code.DEVICE_LOST
        assert "gone" in caught.value.message


def test_a_base_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        Shell(replace(local_link("local"), base=str(tmp_path / "none")))
    assert caught.value.code is Code.DEVICE_UNFIT


def test_a_client_that_does_not_start(link: CommandLink) -> None:
    with pytest.raises(QCompileError) as caught:
        Shell(replace(link, prefix=("/no/such/client",)))
    assert caught.value.code is Code.DEVICE_LOST


def test_a_client_that_says_nothing(link: CommandLink) -> None:
    start = time.monotonic()
    with pytest.raises(QCompileError, match="no answer"):
        Shell(replace(link, prefix=("/bin/sh", "-c", "exec sleep 77")), timeout=0.5)
    assert time.monotonic() - start < 5


def test_folders_of_a_cut_connection_go_at_the_next_visit(link: CommandLink) -> None:
    old, recent, other = (
        Path(link.base, n) for n in ("qcompile-device-old", "qcompile-device-new", "of-others")
    )
    for folder in (old, recent, other):
        folder.mkdir()
        (folder / "model").touch()
    for folder in (old, other):
        os.utime(folder, (0, 0))
    Shell(link).close()
    assert (old.exists(), recent.exists(), other.exists()) == (False, True, True)
    (recent / "model").unlink()
    recent.rmdir()


def test_the_folder_goes_when_this_process_is_killed(link: CommandLink) -> None:
    code = (
        "import sys, time; from qcompile.targets.devices.links import *; "
        "from qcompile.targets.devices.shell import Shell; "
        "shell = Shell(CommandLink('local', tuple(sys.argv[2:]), sys.argv[1])); "
        "print(flush=True); shell.run(['sleep', '8888'], timeout=60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, link.base, *link.prefix], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.2)
    child.kill()
    child.wait()
    child.stdout.close()
    assert wait_until(lambda: not list(Path(link.base).iterdir()))
    assert wait_until(lambda: not processes_with("sleep\x008888"))


def test_quoting_is_shlex(link: CommandLink) -> None:
    """Of a remote login shell too: the whole script is one word of it."""
    command = replace(link, is_ssh=True).command("echo 'a b'")
    assert shlex.split(command[-1]) == ["exec", "sh", "-c", "echo 'a b'"]
