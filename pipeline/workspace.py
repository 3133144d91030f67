"""Every path of the workspace, and writing files so that they are whole or not there.

Locks between processes, released by the system when their process dies.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import UsageError, WorkspaceError


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    What the lock guards may be deleted inside the block, the file of the lock included: whoever opened that file
    before looks again.

    Args:
        path: file of the lock, whatever is in it; created with its folder, and left.
        busy: what to say where another process holds it.

    Raises:
        WorkspaceError: another holds it, or the file cannot be written.
    """
    lock = FileLock(path, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise WorkspaceError(busy) from error
    except OSError as error:
        raise WorkspaceError(
            f"cannot write {path}: {error.strerror or error}; check the disk and the folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

FLUSHED_AT_ONCE = 8  # files
LONGEST_NAME = 100  # characters
LONGEST_NAME_BYTES = 200  # in UTF-8; with "_<frame>_<track>.jpg" it stays below the 255 of common file systems
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_PUNCTUATION = frozenset(" ._-")


def is_name(text: str) -> bool:
    """Say whether a text can name a person, model or video on every system's file system."""
    if not text or text != _shortened(text) or text[0] in ". " or text[-1] in ". ":
        return False
    if unicodedata.normalize("NFKC", text).split(".", maxsplit=1)[0].lower() in _RESERVED:
        return False
    return all(_may_stand_in_name(character) for character in text)


def checked_name(text: str, what: str) -> str:
    """Return the text if it can name a ``what`` (person, model), else raise UsageError."""
    if not is_name(text):
        raise UsageError(
            f"{text!r} cannot name a {what}: use letters, digits, space, '.', '_' and '-', "
            f"at most {LONGEST_NAME}, not starting with a dot"
        )
    return text


def name_from_file(path: Path) -> str:
    """Make a valid name from a file's own: what cannot stand in a name becomes ``_``."""
    stem = unicodedata.normalize("NFC", path.stem)
    name = _shortened("".join(c if _may_stand_in_name(c) else "_" for c in stem)).strip(". ")
    return name if is_name(name) else _shortened(f"video_{name}").strip(". ")


def numbered_name(name: str, number: int) -> str:
    """Put a number behind a name, which is cut where it would become too long."""
    return extend_name(name, f"-{number}")


def extend_name(name: str, ending: str) -> str:
    """Put an ending behind a name, which is cut where it would become too long; the ending never is."""
    while name and not is_name(f"{name}{ending}"):
        name = name[:-1]
    return f"{name}{ending}"


def _shortened(text: str) -> str:
    return text[:LONGEST_NAME].encode(errors="replace")[:LONGEST_NAME_BYTES].decode(errors="ignore")


def _may_stand_in_name(character: str) -> bool:
    return character in _PUNCTUATION or unicodedata.category(character)[0] in "LMN"


@dataclass(frozen=True)
class Workspace:
    """The folder that holds everything a run leaves.

    Args:
        root: the folder; made when something is first written into it.
    """

    root: Path

    @property
    def data(self) -> Path:
        """Folder of per-person folders of crops."""
        return self._inside("data")

    @property
    def videos(self) -> Path:
        """Folder of what extract learned, a folder per video."""
        return self._inside("videos")

    @property
    def converted(self) -> Path:
        """Folder of finished videos."""
        return self._inside("converted")

    @property
    def previews(self) -> Path:
        """Folder of pictures that show what a conversion would be like."""
        return self._inside("preview")

    @property
    def logs(self) -> Path:
        """Folder of what the last runs did."""
        return self._inside("logs")

    def person(self, name: str) -> Path:
        """Folder of a person's crops."""
        return self._inside("data", checked_name(name, "person"))

    def model(self, name: str) -> Path:
        """Folder of a model; nothing in it may be a link out of the workspace either."""
        folder = self._inside("output", checked_name(name, "model"))
        for part in folder.iterdir() if folder.is_dir() else ():
            self._inside("output", name, part.name)
        return folder

    def removed(self, person: str) -> Path:
        """Folder of crops of a person that were set aside."""
        return self._inside("removed", checked_name(person, "person"))

    def all_removed(self) -> list[Path]:
        """Folders of crops that were set aside, of everyone."""
        return sorted(folder for folder in self._inside("removed").glob("*") if folder.is_dir())

    def review(self, person: str) -> Path:
        """Page that shows a person's crops; the summary picture lies beside it."""
        return self._inside("review", f"{checked_name(person, 'person')}.html")

    def store(self, video: str) -> Path:
        """File of what extract learned of a video."""
        return self._inside("videos", checked_name(video, "video"), "faces.sqlite")

    def pending_crops(self, video: str) -> Path:
        """Folder where the crops of a video wait until it is known whose they are."""
        return self._inside("videos", checked_name(video, "video"), "crops")

    def _inside(self, *parts: str) -> Path:
        """Name a place of the workspace, of which no link may lead elsewhere: what is written or deleted is in here.

        Raises:
            WorkspaceError: one does.
        """
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise WorkspaceError(
                f"{path} is a link, or lies in one, that leads out of the workspace {self.root}: "
                "put the folder itself there, or choose another --workspace"
            )
        return path

    def stores(self) -> list[Path]:
        """The store files of all videos, by name.

        Raises:
            WorkspaceError: one is a link, or lies in one, that leads out of the workspace.
        """
        found = sorted(path for path in self.videos.glob("*/faces.sqlite") if path.is_file())
        return [self._inside(*path.relative_to(self.root).parts) for path in found]


def list_people(data_dir: Path) -> list[str]:
    """Names of the folders in a data folder that hold at least one picture, sorted."""
    if not data_dir.is_dir():
        return []
    return sorted(f.name for f in data_dir.iterdir() if f.is_dir() and not f.name.startswith(".") and list_pictures(f))


def list_pictures(folder: Path) -> list[Path]:
    """Picture files directly in a folder, sorted by name; hidden files are left out."""
    if not folder.is_dir():
        return []
    pictures = (p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in pictures if p.is_file())


@contextmanager
def atomic_path(final: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``final``; rename it there when the block succeeds, delete it when not.

    What a power cut leaves under the final name is the old file or the whole new one.

    The temporary name keeps the suffix, so that encoders that go by it do the right thing. It is the same at every
    run: what a killed run left behind is deleted by the next, not written into, for a process that the killed one had
    started may still be writing.

    Args:
        final: the file to write.
        durable: wait until file and name are on the disk; without it a power cut may leave an empty file.

    Raises:
        WorkspaceError: the folder cannot be made or the file cannot be put there.
    """
    temporary = final.with_name(f".{final.stem}.part{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        yield temporary
        if durable:
            flush(temporary)
        temporary.replace(final)
        if durable:
            flush(final.parent)
    except OSError as error:
        raise WorkspaceError(
            f"cannot write {final}: {error.strerror or error}; check the disk and the folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(final: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a whole file at once: after a crash it holds the old content or the new, never half."""
    with atomic_path(final, durable=durable) as temporary:
        temporary.write_bytes(content)


def flush_all(paths: Iterable[Path]) -> None:
    """Wait until the content of many files, and then their names, are on the disk.

    Several at once: one after the other takes a disk ten times as long.

    Raises:
        WorkspaceError: the disk does not take them.
    """
    files = list(paths)
    try:
        with ThreadPoolExecutor(FLUSHED_AT_ONCE) as pool:
            list(pool.map(flush, files))
        for folder in {file.parent for file in files}:
            flush(folder)
    except OSError as error:
        raise WorkspaceError(f"cannot write {error.filename or files[0]}: {error.strerror}; check the disk") from error


def flush(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk.

    Raises:
        OSError: the disk does not take them.
    """
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders, and writes their entries through by itself
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
