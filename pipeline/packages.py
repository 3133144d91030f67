"""Files that lie inside installed packages, found without importing these."""

from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import WorkspaceError


def package_file(package: str, file: str) -> Path:
    """Name a file of a package.

    Raises:
        WorkspaceError: the package is not installed, or lacks it.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise WorkspaceError(f"the package {package} is missing, or has no {file}; run: pip install -r requirements.txt")
