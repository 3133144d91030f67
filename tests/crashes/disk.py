"""A model of a disk that loses power: what may be on it when writes and names were not flushed.

It knows what ext4, XFS and btrfs promise: ``fsync`` of a file keeps its content, and its name where the file is new;
``fsync`` of a folder keeps the names in it. Names change one by one and whole. All else may be lost or kept, each by
itself.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

ROOT = 0
"""Number of the node of the recorded folder."""


@dataclass(frozen=True)
class Create:
    """A new file or folder."""

    folder: int
    name: str
    node: int
    is_folder: bool


@dataclass(frozen=True)
class Rename:
    """Another name for a file or folder; what had this name is gone."""

    folder: int
    name: str
    new_folder: int
    new_name: str
    node: int


@dataclass(frozen=True)
class Remove:
    """A name that is gone."""

    folder: int
    name: str
    node: int


@dataclass(frozen=True)
class Write:
    """Bytes of a file; None where there were too many to record."""

    node: int
    offset: int
    length: int
    content: bytes | None


@dataclass(frozen=True)
class Truncate:
    """Another length for a file."""

    node: int
    length: int


@dataclass(frozen=True)
class Sync:
    """``fsync`` of a file or folder."""

    node: int


Names = Create | Rename | Remove
Contents = Write | Truncate
Operation = Names | Contents | Sync


@dataclass
class Recording:
    """What happened below a folder, in order.

    Attributes:
        before: folder with a copy of what was there at the start, all of it flushed.
        nodes: what was there at the start: path and whether it is a folder, by node.
        operations: what was done.
        kept: where the files that are left at the end can be read, by node.
    """

    before: Path
    nodes: dict[int, tuple[PurePosixPath, bool]] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    kept: dict[int, Path] = field(default_factory=dict)

    @cached_property
    def written(self) -> dict[int, list[Contents]]:
        """All that was done to the content of each file, by node."""
        written: dict[int, list[Contents]] = {}
        for operation in self.operations:
            if isinstance(operation, Write | Truncate):
                written.setdefault(operation.node, []).append(operation)
        return written


class Loss:
    """Decides what of an operation that nothing has flushed is on the disk."""

    def name_stays(self) -> bool:
        """Say whether a change of names is."""
        return True

    def share(self) -> float:
        """Say how much of a write is, from its start; 0 … 1."""
        return 1.0


class NoLoss(Loss):
    """A process was killed: all that it did is there."""


class LostContents(Loss):
    """Names are on the disk, contents are not: a file is there, and empty."""

    def share(self) -> float:
        """No write is on the disk."""
        return 0.0


class LostNames(Loss):
    """Contents are on the disk, new names and deletions are not."""

    def name_stays(self) -> bool:
        """No name is."""
        return False


class SomeLost(Loss):
    """Some of everything, by a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def name_stays(self) -> bool:
        """Half of the names are."""
        return self._rng.random() < 0.5

    def share(self) -> float:
        """A third of the writes is, a third is not, a third is cut short."""
        return self._rng.choice((0.0, self._rng.random(), 1.0))


@dataclass
class File:
    """A file after a power cut.

    Attributes:
        node: which it is.
        contents: what is left of what was done to it: operation, and how much of it.
    """

    node: int
    contents: list[tuple[Contents, float]] = field(default_factory=list)

    @property
    def key(self) -> object:
        """What tells it from others."""
        return self.node, *(share for _, share in self.contents), *(id(operation) for operation, _ in self.contents)


def after_power_cut(recording: Recording, count: int, loss: Loss) -> dict[PurePosixPath, File | None]:
    """Say what is on the disk when the power goes after so many operations.

    Returns:
        Files by path below the recorded folder; None for folders.
    """
    done = recording.operations[:count]
    safe = _flushed(recording, done)
    folders: dict[int, dict[str, int]] = {ROOT: {}}
    files: dict[int, File] = {}
    numbers = {path: node for node, (path, _) in recording.nodes.items()} | {PurePosixPath(): ROOT}
    for node, (path, is_folder) in sorted(recording.nodes.items(), key=lambda item: len(item[1][0].parts)):
        folders[numbers[path.parent]][path.name] = node
        _add(node, is_folder, folders, files)
    for index, operation in enumerate(done):
        match operation:
            case Write() | Truncate():
                # a length is kept with the names, as the systems do it
                share = 1.0 if index in safe or isinstance(operation, Truncate) else loss.share()
                if share:
                    files[operation.node].contents.append((operation, share))
            case Sync():
                pass
            case _:
                if isinstance(operation, Create):
                    _add(operation.node, operation.is_folder, folders, files)
                if index in safe or loss.name_stays():
                    _change(operation, folders)
    found: dict[PurePosixPath, File | None] = {}
    _walk(ROOT, PurePosixPath(), folders, files, found)
    return found


def _add(node: int, is_folder: bool, folders: dict[int, dict[str, int]], files: dict[int, File]) -> None:
    if is_folder:
        folders[node] = {}
    else:
        files[node] = File(node)


def _change(operation: Names, folders: dict[int, dict[str, int]]) -> None:
    names = folders[operation.folder]
    match operation:
        case Create():
            names[operation.name] = operation.node
        case Rename():
            if names.get(operation.name) == operation.node:
                del names[operation.name]
            folders[operation.new_folder][operation.new_name] = operation.node
        case Remove():
            is_full = bool(folders.get(operation.node))
            if names.get(operation.name) == operation.node and not is_full:
                del names[operation.name]


def _walk(
    folder: int,
    path: PurePosixPath,
    folders: dict[int, dict[str, int]],
    files: dict[int, File],
    found: dict[PurePosixPath, File | None],
) -> None:
    for name, node in sorted(folders[folder].items()):
        found[path / name] = files.get(node)
        if node in folders:
            _walk(node, path / name, folders, files, found)


def _flushed(recording: Recording, done: Sequence[Operation]) -> set[int]:
    """Indices of the operations that are on the disk whatever happens."""
    safe: set[int] = set()
    waiting: dict[int, list[int]] = {}  # by node: of a file its contents, of a folder its names
    created: dict[int, tuple[int, int]] = {}  # by node: the folder it was created in, and when
    for index, operation in enumerate(done):
        match operation:
            case Write() | Truncate():
                waiting.setdefault(operation.node, []).append(index)
            case Create():
                created[operation.node] = operation.folder, index
                waiting.setdefault(operation.folder, []).append(index)
            case Rename():
                for folder in (operation.folder, operation.new_folder):
                    waiting.setdefault(folder, []).append(index)
            case Remove():
                waiting.setdefault(operation.folder, []).append(index)
            case Sync():
                safe.update(waiting.pop(operation.node, ()))
                node = operation.node
                while node in created:  # the folders that a new file lies in are new too, or there
                    node, when = created[node]
                    safe.add(when)
    return safe


def is_whole(recording: Recording, file: File) -> bool:
    """Say whether a file holds all that was ever written into it."""
    written = recording.written.get(file.node, [])
    return len(file.contents) == len(written) and all(share == 1.0 for _, share in file.contents)


def lay(recording: Recording, found: dict[PurePosixPath, File | None], folder: Path) -> None:
    """Put what a power cut has left into a folder."""
    folder.mkdir(parents=True)
    for path, file in found.items():
        if file is None:
            (folder / path).mkdir()
        elif file.node in recording.kept and is_whole(recording, file):
            _place(recording.kept[file.node], folder / path)
        elif file.node in recording.nodes and not file.contents:
            _place(recording.before / recording.nodes[file.node][0], folder / path)
        else:
            (folder / path).write_bytes(_content(recording, file))


def _place(source: Path, path: Path) -> None:
    """Link what is large and never changed in place; copy the rest."""
    if path.suffix == ".safetensors":
        os.link(source, path)
    else:
        path.write_bytes(source.read_bytes())


def _content(recording: Recording, file: File) -> bytes:
    old = recording.nodes.get(file.node)
    content = bytearray((recording.before / old[0]).read_bytes() if old else b"")
    for operation, share in file.contents:
        if isinstance(operation, Truncate):
            content[operation.length :] = bytes(max(0, operation.length - len(content)))
            continue
        length = round(share * operation.length)
        known = bytes(length) if operation.content is None else operation.content[:length]
        end = operation.offset + length
        content.extend(bytes(max(0, end - len(content))))
        content[operation.offset : end] = known
    return bytes(content)
