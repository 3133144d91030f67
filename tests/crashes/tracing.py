"""Records what a program and the programs it starts do to the files below a folder, with strace."""

import codecs
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pytest

from tests.crashes.disk import ROOT, Create, Operation, Recording, Remove, Rename, Sync, Truncate, Write

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here: apt-get install strace")
LONGEST_BYTES = 1 << 18  # of a write that is recorded; of longer ones the file at the end tells
CALLS = (
    "open,openat,creat,write,pwrite64,lseek,ftruncate,truncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,writev,pwritev,pwritev2,sendfile,copy_file_range"
)
LINE = re.compile(rb"^(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed>)(.*)$", re.DOTALL)
RESULT = re.compile(rb"\) += (-?\d+)(?:<(.*)>)?(?:\(deleted\))?.*$", re.DOTALL)
STRING = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
DESCRIPTOR = re.compile(rb"(?:^|, )(AT_FDCWD|\d+)<([^>]*)>(\(deleted\))?")


def record(command: Sequence[str], root: Path, folder: Path, **how: object) -> Recording:
    """Run a program and record what happens below ``root``; its end is for the caller to check.

    Args:
        command: the program, which names what is below ``root`` by absolute paths.
        root: folder that is watched; without links.
        folder: for what the recording needs.
        how: passed on to ``subprocess.run``.

    Raises:
        subprocess.CalledProcessError: the program failed.
    """
    folder.mkdir(parents=True)
    before, log = folder / "before", folder / "strace.log"
    copied = shutil.copytree(root, before, copy_function=_link_or_copy)
    watch = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-qq", "-s", str(LONGEST_BYTES), "-e", f"trace={CALLS}"]
    subprocess.run([*watch, "-e", "signal=none", "-o", str(log), *command], check=True, **how)  # type: ignore[call-overload]
    return _Reader(root, Recording(Path(copied))).read(log)


def _link_or_copy(source: str, target: str) -> None:
    if source.endswith(".safetensors"):  # large, and never changed in place
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)


class _Reader:
    """Turns the lines of strace into operations on numbered files and folders."""

    def __init__(self, root: Path, recording: Recording) -> None:
        self._root, self._recording = PurePosixPath(root), recording
        self._names: dict[PurePosixPath, int] = {PurePosixPath(): ROOT}  # as they are at this moment
        self._offsets: dict[tuple[int, int], int] = {}  # where the next write goes, by node and descriptor
        for path in sorted(recording.before.rglob("*")):
            own = PurePosixPath(path.relative_to(recording.before))
            recording.nodes[self._name(own)] = own, path.is_dir()

    def read(self, log: Path) -> Recording:
        for call, arguments, code, opened in _calls(log):
            if code >= 0:
                self._take(call, arguments, code, opened)
        for path, node in self._names.items():
            if (self._root / path).is_relative_to(self._root) and Path(self._root / path).is_file():
                self._recording.kept[node] = Path(self._root / path)
        return self._recording

    def _name(self, path: PurePosixPath) -> int:
        self._numbered = getattr(self, "_numbered", ROOT) + 1
        self._names[path] = self._numbered
        return self._numbered

    def _own(self, path: bytes) -> PurePosixPath | None:
        """Path below the root; None for others."""
        whole = PurePosixPath(_plain(path).decode())
        return whole.relative_to(self._root) if whole.is_relative_to(self._root) else None

    def _node(self, arguments: bytes) -> tuple[int, int] | None:
        """Node and descriptor of a call's first argument; None where it is not ours, or has no name any more."""
        found = DESCRIPTOR.match(arguments)
        if found is None or found[3]:
            return None
        path = self._own(found[2])
        node = None if path is None else self._names.get(path)
        return None if node is None else (node, int(found[1]))

    def _take(self, call: str, arguments: bytes, code: int, opened: bytes | None) -> None:
        match call:
            case "open" | "openat" | "creat":
                self._open(arguments, code, opened)
            case "write" | "pwrite64":
                self._write(call, arguments, code)
            case "lseek":
                if place := self._node(arguments):
                    self._offsets[place] = code
            case "ftruncate":
                if place := self._node(arguments):
                    self._do(Truncate(place[0], int(arguments.rsplit(b", ", 1)[1])))
            case "fsync" | "fdatasync":
                if place := self._node(arguments):
                    self._do(Sync(place[0]))
            case "fallocate":
                pass  # its zeros are nobody's content
            case _:
                self._change_names(call, arguments)

    def _do(self, operation: Operation) -> None:
        self._recording.operations.append(operation)

    def _open(self, arguments: bytes, code: int, opened: bytes | None) -> None:
        path = self._own(opened) if opened else None
        if path is None or b"O_TMPFILE" in arguments:
            return
        node = self._names.get(path)
        if node is None:
            if b"O_CREAT" not in arguments:
                return
            node = self._name(path)
            self._do(Create(self._names[path.parent], path.name, node, is_folder=False))
        elif b"O_TRUNC" in arguments:
            self._do(Truncate(node, 0))
        self._offsets[node, code] = -1 if b"O_APPEND" in arguments else 0

    def _write(self, call: str, arguments: bytes, code: int) -> None:
        place = self._node(arguments)
        if place is None:
            return
        text = STRING.search(arguments)
        assert text is not None, arguments[:200]
        content = None if text[2] else _plain(text[1])[:code]
        if call == "pwrite64":
            offset = int(arguments.rsplit(b", ", 1)[1])
        else:
            offset = self._offsets.get(place, 0)
            offset = self._length(place[0]) if offset < 0 else offset
            if self._offsets.get(place, 0) >= 0:
                self._offsets[place] = offset + code
        self._do(Write(place[0], offset, code, content))

    def _length(self, node: int) -> int:
        old = self._recording.nodes.get(node)
        length = (self._recording.before / old[0]).stat().st_size if old else 0
        for operation in self._recording.operations:
            if isinstance(operation, Write) and operation.node == node:
                length = max(length, operation.offset + operation.length)
            elif isinstance(operation, Truncate) and operation.node == node:
                length = operation.length
        return length

    def _change_names(self, call: str, arguments: bytes) -> None:
        paths = list(self._paths(arguments))
        if not any(path is not None for path in paths):
            return
        if call in ("mkdir", "mkdirat"):
            (path,) = paths
            assert path is not None
            self._do(Create(self._names[path.parent], path.name, self._name(path), is_folder=True))
        elif call in ("unlink", "unlinkat", "rmdir"):
            (path,) = paths
            assert path is not None
            self._do(Remove(self._names[path.parent], path.name, self._names.pop(path)))
        elif call.startswith("rename"):
            old, new = paths
            assert old is not None and new is not None, "moved into or out of the folder"
            self._rename(old, new)
        else:
            raise AssertionError(f"{call} is not understood: {arguments[:300]!r}")

    def _rename(self, old: PurePosixPath, new: PurePosixPath) -> None:
        node = self._names[old]
        self._do(Rename(self._names[old.parent], old.name, self._names[new.parent], new.name, node))
        for path in [path for path in self._names if path.is_relative_to(old)]:
            self._names[new / path.relative_to(old)] = self._names.pop(path)

    def _paths(self, arguments: bytes) -> Iterator[PurePosixPath | None]:
        """The paths of a call; None for those of others."""
        folders = list(DESCRIPTOR.finditer(arguments))
        for number, text in enumerate(STRING.finditer(arguments)):
            path = PurePosixPath(_plain(text[1]).decode())
            if not path.is_absolute() and folders:
                path = PurePosixPath(_plain(folders[min(number, len(folders) - 1)][2]).decode()) / path
            yield path.relative_to(self._root) if path.is_relative_to(self._root) else None


def _calls(log: Path) -> Iterator[tuple[str, bytes, int, bytes | None]]:
    """Name, arguments, result and opened path of each call, in the order in which they ended."""
    begun: dict[bytes, bytes] = {}
    with log.open("rb") as lines:
        for line in lines:
            found = LINE.match(line.rstrip(b"\n"))
            if found is None:
                continue
            process, name, kind, rest = found.groups()
            if rest.endswith(b"<unfinished ...>"):
                begun[process] = rest.removesuffix(b"<unfinished ...>").rstrip()
                continue
            if kind != b"(":
                rest = begun.pop(process, b"") + rest
            result = RESULT.search(rest)
            if result is not None:
                yield name.decode(), rest[: result.start()], int(result[1]), result[2]


def _plain(text: bytes) -> bytes:
    """Undo strace's way of writing bytes."""
    return codecs.escape_decode(text)[0]
