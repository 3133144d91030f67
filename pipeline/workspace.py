"""The paths of the workspace, valid names, atomic writes, and locks."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import UsageError, WorkspaceError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

FLUSH_THREADS = 8  # flushing files one by one takes ten times as long
MAX_NAME_LENGTH = 100  # characters
MAX_NAME_BYTES = 200  # in UTF-8; with "_<frame>_<track>.jpg" it stays below the 255 of common file systems
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def is_name(text: str) -> bool:
    """Return whether a text can name a person, model or video on the file systems of all operating systems."""
    if not text or text != _shorten(text) or text[0] in ". " or text[-1] in ". ":
        return False
    if unicodedata.normalize("NFKC", text).split(".", maxsplit=1)[0].lower() in WINDOWS_DEVICES:
        return False
    return all(_is_valid_in_name(character) for character in text)


def checked_name(text: str, what: str) -> str:
    """Return the text if it is a valid name of a ``what`` (person, model), else raise UsageError."""
    if not is_name(text):
        raise UsageError(
            f"{text!r} cannot name a {what}: use letters, digits, space, '.', '_' and '-', "
            f"at most {MAX_NAME_LENGTH}, not starting with a dot"
        )
    return text


def name_from_file(path: Path) -> str:
    """Make a valid name from a file's name; invalid characters become ``_``."""
    stem = unicodedata.normalize("NFC", path.stem)
    name = _shorten("".join(c if _is_valid_in_name(c) else "_" for c in stem)).strip(". ")
    return name if is_name(name) else _shorten(f"video_{name}").strip(". ")


def numbered_name(name: str, number: int) -> str:
    """Append a number to a name; the name is cut if the result would be too long."""
    return extend_name(name, f"-{number}")


def extend_name(name: str, ending: str) -> str:
    """Append an ending to a name; the name, never the ending, is cut if the result would be too long."""
    while name and not is_name(f"{name}{ending}"):
        name = name[:-1]
    return f"{name}{ending}"


def _shorten(text: str) -> str:
    return text[:MAX_NAME_LENGTH].encode(errors="replace")[:MAX_NAME_BYTES].decode(errors="ignore")


def _is_valid_in_name(character: str) -> bool:
    return character in " ._-" or unicodedata.category(character)[0] in "LMN"


@dataclass(frozen=True)
class Workspace:
    """The folder of all data, models and results. Nothing is created until something is written.

    Every path raises WorkspaceError if a link leads it out of the workspace, because paths are written to and deleted.
    """

    root: Path

    @property
    def data(self) -> Path:
        """Folder with a folder of crops per person."""
        return self._inside("data")

    @property
    def videos(self) -> Path:
        """Folder with a folder per extracted video."""
        return self._inside("videos")

    @property
    def converted(self) -> Path:
        """Folder of results."""
        return self._inside("converted")

    @property
    def previews(self) -> Path:
        """Folder of pictures that preview draws."""
        return self._inside("preview")

    @property
    def logs(self) -> Path:
        """Folder of the logs of the last runs."""
        return self._inside("logs")

    def person(self, name: str) -> Path:
        """Folder of a person's crops."""
        return self._inside("data", checked_name(name, "person"))

    def model(self, name: str) -> Path:
        """Folder of a model; no file in it is a link out of the workspace either."""
        folder = self._inside("output", checked_name(name, "model"))
        for part in folder.iterdir() if folder.is_dir() else ():
            self._inside("output", name, part.name)
        return folder

    def models(self) -> list[Path]:
        """Folders that may hold models, sorted; what cannot be a model's name, or leads out of here, is left out."""
        found = list[Path]()
        for path in sorted(self._inside("output").glob("[!.]*")):
            with suppress(WorkspaceError):
                found += [self.model(path.name)] if path.is_dir() and is_name(path.name) else []
        return found

    def removed(self, person: str) -> Path:
        """Folder of a person's crops that were set aside."""
        return self._inside("removed", checked_name(person, "person"))

    def review(self, person: str) -> Path:
        """Page that review writes; its summary picture has the same name."""
        return self._inside("review", f"{checked_name(person, 'person')}.html")

    def store(self, video: str) -> Path:
        """File with the faces of a video."""
        return self._inside("videos", checked_name(video, "video"), "faces.sqlite")

    def stores(self) -> list[Path]:
        """The stores of all videos, by name."""
        paths = sorted(path for path in self.videos.glob("*/faces.sqlite") if path.is_file())
        return [self._inside(*path.relative_to(self.root).parts) for path in paths]

    def pending_crops(self, video: str) -> Path:
        """Folder of the crops of a video that are not assigned to people yet."""
        return self._inside("videos", checked_name(video, "video"), "crops")

    def _inside(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise WorkspaceError(
                f"{path} is a link, or in a linked folder, that leads out of the workspace {self.root}: "
                "put the folder itself there, or choose another --workspace"
            )
        return path


def list_people(data_dir: Path) -> list[str]:
    """Names of the folders in a data folder that have at least one picture, sorted."""
    if not data_dir.is_dir():
        return []
    return sorted(f.name for f in data_dir.iterdir() if f.is_dir() and not f.name.startswith(".") and list_pictures(f))


def list_pictures(folder: Path) -> list[Path]:
    """Picture files directly in a folder, sorted by name, without hidden ones."""
    if not folder.is_dir():
        return []
    pictures = (p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in pictures if p.is_file())


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the block runs; the lock is released when its process dies.

    The block may also delete the lock file: filelock checks again after opening a file.

    Raises:
        WorkspaceError: another process holds the lock (``busy`` is the message), or the file cannot be written.
    """
    lock = FileLock(path, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise WorkspaceError(busy) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.release()


def locked_model(folder: Path) -> AbstractContextManager[None]:
    """Lock a model for training; the lock file lies beside its folder."""
    busy = f"another run is training '{folder.name}': wait until it has ended, or choose another name with -n"
    return locked(folder.with_name(f".{folder.name}.lock"), busy)


def cannot_write(path: Path, error: OSError) -> WorkspaceError:
    """Make the error for a file or folder that cannot be written."""
    return WorkspaceError(f"cannot write {path}: {error.strerror or error}; check the disk and the folder")


@contextmanager
def atomic_path(final: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``final``; rename it to ``final`` if the block succeeds, else delete it.

    The temporary name keeps the suffix, from which encoders choose the format, and is the same in every run. A file
    that a killed run left there is deleted first, not overwritten: a process of that run may still be writing to it.

    Args:
        final: the file to write; after a power cut it is the old file or the whole new one.
        durable: wait until content and name are on the disk; without it a power cut may leave an empty file.

    Raises:
        WorkspaceError: the folder cannot be made or the file cannot be written.
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
        raise cannot_write(final, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(final: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically; see ``atomic_path``."""
    with atomic_path(final, durable=durable) as temporary:
        temporary.write_bytes(content)


def flush_all(paths: Iterable[Path]) -> None:
    """Wait until many files, and then their names, are on the disk.

    Raises:
        WorkspaceError: a file cannot be written.
    """
    files = list(paths)
    try:
        with ThreadPoolExecutor(FLUSH_THREADS) as pool:
            list(pool.map(flush, files))
        for folder in {file.parent for file in files}:
            flush(folder)
    except OSError as error:
        raise cannot_write(error.filename or files[0], error) from error


def flush(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk; raises OSError."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders, and writes their entries through by itself
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
