"""Temporary folders go, and a disk without room for them is an error with a name."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.scratch import is_full, no_room, scratch_folder


def test_a_folder_goes_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as folder:
        assert folder.parent == tmp_path
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_it_goes_when_the_work_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="no"), scratch_folder():
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(QCompileError) as caught, scratch_folder():
        pass
    assert caught.value.code is Code.OUTPUT_UNWRITABLE
    assert "TMPDIR" in (caught.value.hint or "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert is_full(error)
    assert no_room(error).message.endswith(os.strerror(number))


def test_not_full() -> None:
    assert not is_full(OSError(errno.EACCES, "no"))
    assert not is_full(ValueError("no"))
