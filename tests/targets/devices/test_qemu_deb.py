"""Debian packages unpacked with and without dpkg, and what of them may not leave their folder."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.qemu_deb import inside, one_usr, unpack, unpack_by_ourselves


def member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)


def archive(mode: str = "w:xz", files: dict[str, bytes | str] | None = None) -> bytes:
    """A tar file; text stands for a link to it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in (files or FILES).items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


FILES: dict[str, bytes | str] = {
    "./usr/bin/tool3.11": b"odd",
    "./usr/bin/tool3": "tool3.11",
    "./lib/arm/libx.so.1": b"even",
}


def deb(path: Path, name: str = "data.tar.xz", data: bytes | None = None) -> Path:
    control = member("debian-binary", b"2.0\n") + member(
        "control.tar.xz", archive(files={"./control": CONTROL})
    )
    path.write_bytes(b"!<arch>\n" + control + member(name, archive() if data is None else data))
    return path


CONTROL = b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"


def tree(root: Path) -> dict[str, bytes | str]:
    paths = (path for path in sorted(root.rglob("*")) if path.is_symlink() or path.is_file())
    return {
        f"./{path.relative_to(root)}": str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in paths
    }


@pytest.mark.parametrize("mode", ["xz", "gz", "bz2", ""])
def test_without_dpkg(mode: str, tmp_path: Path) -> None:
    name = f"data.tar.{mode}".rstrip(".")
    unpack_by_ourselves(deb(tmp_path / "a.deb", name, archive(f"w:{mode}")), tmp_path / "root")
    assert tree(tmp_path / "root") == dict(sorted(FILES.items()))
    assert (tmp_path / "root/usr/bin/tool3").stat().st_mode & 0o111


@pytest.mark.parametrize("has_dpkg", [True, False])
def test_both_ways_give_the_same(
    has_dpkg: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_dpkg:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    unpack(deb(tmp_path / "a.deb"), tmp_path / "root")
    assert tree(tmp_path / "root") == dict(sorted(FILES.items()))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>not found</html>", "it is no ar archive"),
        (b"!<arch>\n", "it holds no data.tar"),
        (b"!<arch>\n" + b"x" * 70, "it is damaged"),
        (b"!<arch>\n" + member("data.tar.zst", b"\x28\xb5\x2f\xfd"), "needs dpkg-deb"),
        (b"!<arch>\n" + member("data.tar.xz", b"\xfd7zXZ\x00 cut"), "cannot be unpacked"),
        (b"!<arch>\n" + member("data.tar.xz", archive(files={"../../out": b"x"})), "outside"),
    ],
)
def test_what_is_no_package(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "bad_1_arm64.deb"
    path.write_bytes(content)
    with pytest.raises(QCompileError, match=why) as caught:
        unpack_by_ourselves(path, tmp_path / "in" / "root")
    assert caught.value.code is Code.DEVICE_NOT_PREPARED
    assert "bad_1_arm64.deb" in caught.value.message
    assert not (tmp_path / "out").exists()


def test_dpkg_says_why(tmp_path: Path) -> None:
    path = tmp_path / "bad.deb"
    path.write_bytes(b"nothing")
    with pytest.raises(QCompileError, match=r"bad\.deb cannot be unpacked") as caught:
        unpack(path, tmp_path / "root")
    assert caught.value.code is Code.DEVICE_NOT_PREPARED


def test_lib_is_merged_into_usr(tmp_path: Path) -> None:
    for name in ("lib/arm/a", "lib/loader", "usr/lib/arm/b", "usr/lib/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "lib/ld").symlink_to("arm/a")
    for _ in range(2):  # and a merged one stays
        one_usr(tmp_path)
        assert (tmp_path / "lib").is_symlink()
        names = {
            str(p.relative_to(tmp_path / "usr/lib")) for p in (tmp_path / "usr/lib").rglob("*")
        }
        assert names == {"arm", "arm/a", "arm/b", "loader", "c", "ld"}
        assert (tmp_path / "lib/ld").read_text() == "lib/arm/a"


def test_a_root_without_lib_gets_the_link(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/arm").mkdir(parents=True)
    one_usr(tmp_path)
    assert (tmp_path / "lib/arm").is_dir()


def test_absolute_links_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/real").write_text("ours")
    (tmp_path / "usr/lib/absolute").symlink_to("/usr/lib/real")
    (tmp_path / "usr/lib/relative").symlink_to("real")
    (tmp_path / "usr/lib/host").symlink_to("/etc/passwd")
    inside(tmp_path)
    assert (tmp_path / "usr/lib/absolute").readlink() == Path("real")
    assert (tmp_path / "usr/lib/relative").readlink() == Path("real")
    assert not (tmp_path / "usr/lib/host").is_symlink()
