"""An adbd in Python for tests: the real adb client connects to it over TCP.

``python -m tests.targets.devices.adb_peer ROOT FEATURES PATH`` prints its port. It speaks CNXN,
OPEN, OKAY, WRTE and CLSE, the services ``shell:`` (with and without ``shell_v2``) and ``sync:``
(STAT, SEND, RECV). ``/data/local/tmp`` in scripts and paths is the folder ROOT, programs are those
of ROOT/bin and PATH. A shell whose stream closes gets HUP, as adbd does it. Authorization, USB and
the rest are not here.
"""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

MOST = 64 * 1024
DEVICE_FOLDER = "/data/local/tmp"


class GoneError(Exception):
    """The stream or the connection is closed."""


class Stream:
    """One stream of a connection: ``read`` and ``write`` block as the protocol's OKAY asks."""

    def __init__(self, connection: "Connection", own: int, peer: int) -> None:
        self.connection, self.own, self.peer = connection, own, peer
        self.condition = threading.Condition()
        self.received = bytearray()
        self.may_send = True
        self.closed = False

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MOST):
            with self.condition:
                self.condition.wait_for(lambda: self.may_send or self.closed)
                if self.closed:
                    raise GoneError
                self.may_send = False
            self.connection.send(b"WRTE", self.own, self.peer, data[start : start + MOST])

    def read(self, size: int) -> bytes:
        with self.condition:
            self.condition.wait_for(lambda: len(self.received) >= size or self.closed)
            if len(self.received) < size:
                raise GoneError
            data = bytes(self.received[:size])
            del self.received[:size]
            return data

    def read_some(self) -> bytes:
        with self.condition:
            self.condition.wait_for(lambda: bool(self.received) or self.closed)
            if not self.received:
                raise GoneError
            data = bytes(self.received)
            self.received.clear()
            return data

    def close(self) -> None:
        with self.condition:
            if not self.closed:
                self.closed = True
                self.connection.send(b"CLSE", self.own, self.peer)
            self.condition.notify_all()


class Connection:
    """One client."""

    def __init__(self, peer: socket.socket, root: Path, features: str) -> None:
        self.peer, self.root, self.features = peer, root, features
        self.lock = threading.Lock()
        self.streams: dict[int, Stream] = {}

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        (number,) = struct.unpack("<I", command)
        head = struct.pack(
            "<4s5I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF
        )
        with self.lock:
            try:
                self.peer.sendall(head + data)
            except OSError:
                raise GoneError from None

    def serve(self) -> None:
        file = self.peer.makefile("rb")
        try:
            while len(head := file.read(24)) == 24:
                command, first, second, size, _, _ = struct.unpack("<4s5I", head)
                self.take(command, first, second, file.read(size))
        except (GoneError, OSError):
            pass
        finally:
            for stream in self.streams.values():
                with stream.condition:
                    stream.closed = True
                    stream.condition.notify_all()

    def take(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == b"CNXN":
            banner = f"device::ro.product.name=peer;features={self.features}"
            self.send(b"CNXN", 0x01000000, MOST, banner.encode())
        elif command == b"OPEN":
            own = len(self.streams) + 1
            stream = self.streams[own] = Stream(self, own, first)
            self.send(b"OKAY", own, first)
            name = data.rstrip(b"\0").decode()
            threading.Thread(target=self.run, args=(stream, name), daemon=True).start()
        elif (known := self.streams.get(second)) is not None:
            with known.condition:
                if command == b"WRTE":
                    known.received += data
                    self.send(b"OKAY", known.own, known.peer)
                known.may_send |= command == b"OKAY"
                known.closed |= command == b"CLSE"
                known.condition.notify_all()

    def run(self, stream: Stream, name: str) -> None:
        service, _, argument = name.partition(":")
        try:
            if service.startswith("shell"):
                script = argument.replace(DEVICE_FOLDER, str(self.root))
                run_shell(stream, script, self.root, separate="v2" in service)
            elif service == "sync":
                serve_sync(stream, self.root)
            stream.close()
        except GoneError:
            pass


def run_shell(stream: Stream, script: str, root: Path, *, separate: bool) -> None:
    path = f"{root / 'bin'}:{sys.argv[3]}"
    env = {"PATH": path, "HOME": str(root)}
    process = subprocess.Popen(
        [shutil.which("sh", path=path) or "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if separate else subprocess.STDOUT,
        env=env,
        cwd=root,
    )
    write = shell_v2_writer(stream) if separate else terminal_writer(stream)
    pumps = [threading.Thread(target=pump, args=(process.stdout, 1, write, root))]
    if separate:
        pumps.append(threading.Thread(target=pump, args=(process.stderr, 2, write, root)))
    threading.Thread(target=feed, args=(stream, process, separate), daemon=True).start()
    for thread in pumps:
        thread.start()
    for thread in pumps:
        thread.join()
    code = process.wait()
    if separate:
        write(3, bytes([code & 0xFF]))


def shell_v2_writer(stream: Stream) -> Callable[[int, bytes], None]:
    lock = threading.Lock()

    def write(kind: int, data: bytes) -> None:
        with lock:
            stream.write(struct.pack("<BI", kind, len(data)) + data)

    return write


def terminal_writer(stream: Stream) -> Callable[[int, bytes], None]:
    return lambda _, data: stream.write(data.replace(b"\n", b"\r\n"))


def pump(source: IO[bytes], kind: int, write: Callable[[int, bytes], None], root: Path) -> None:
    try:
        while data := os.read(source.fileno(), MOST // 4):
            write(kind, data.replace(str(root).encode(), DEVICE_FOLDER.encode()))
    except GoneError:
        pass


def feed(stream: Stream, process: subprocess.Popen[bytes], separate: bool) -> None:
    """Carry stdin; when the stream ends, HUP, as adbd sends it."""
    assert process.stdin is not None
    try:
        while True:
            if not separate:
                kind, data = 0, stream.read_some()
            else:
                kind, size = struct.unpack("<BI", stream.read(5))
                data = stream.read(size)
            if kind == 0:
                process.stdin.write(data)
                process.stdin.flush()
            elif kind == 4:
                process.stdin.close()
    except (GoneError, OSError):
        if process.poll() is None:
            process.send_signal(signal.SIGHUP)


def serve_sync(stream: Stream, root: Path) -> None:
    while True:
        request, size = struct.unpack("<4sI", stream.read(8))
        if request == b"QUIT":
            return
        path = stream.read(size).decode()
        if request == b"STAT":
            stream.write(b"STAT" + struct.pack("<3I", *stat(inside(root, path))))
        elif request == b"SEND":
            receive(stream, inside(root, path.rpartition(",")[0]))
        elif request == b"RECV":
            give(stream, inside(root, path))
        else:
            stream.write(b"FAIL" + struct.pack("<I", 7) + b"unknown")


def inside(root: Path, path: str) -> Path:
    assert path.startswith(DEVICE_FOLDER), path
    return Path(path.replace(DEVICE_FOLDER, str(root)))


def stat(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mode, found.st_size, int(found.st_mtime)


def receive(stream: Stream, path: Path) -> None:
    with path.open("wb") as file:
        while True:
            kind, size = struct.unpack("<4sI", stream.read(8))
            if kind == b"DONE":
                break
            file.write(stream.read(size))
            if (limit := path.parent.parent / "cut-after").exists() and (
                file.tell() > int(limit.read_text())
            ):
                os.kill(os.getpid(), signal.SIGKILL)  # a device that dies in the middle of a push
    if (path.parent.parent / "damages").exists():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    stream.write(b"OKAY" + struct.pack("<I", 0))


def give(stream: Stream, path: Path) -> None:
    data = path.read_bytes()
    for start in range(0, len(data), MOST):
        part = data[start : start + MOST]
        stream.write(b"DATA" + struct.pack("<I", len(part)) + part)
    stream.write(b"DONE" + struct.pack("<I", 0))


def main() -> None:
    root, features = Path(sys.argv[1]), sys.argv[2]
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(peer, root, features).serve, daemon=True).start()


if __name__ == "__main__":
    main()
