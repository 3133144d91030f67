"""The recording that all crashes are made from."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from demo.clips import HOPPER, make_clip
from tests.conftest import FRAMES
from tests.crashes.disk import Recording
from tests.crashes.scenario import record_all


@pytest.fixture(scope="session")
def footage(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip that is not yet extracted, and one that is."""
    folder = tmp_path_factory.mktemp("footage")
    # Another tone than in the extracted clip: x264 may write the same bytes twice, and a file is known by its content.
    make_clip(replace(HOPPER, tone_hz=2 * HOPPER.tone_hz), folder / "clip.mp4", FRAMES)
    shutil.copy2(clips["hopper"], folder)
    return folder


@pytest.fixture(scope="session")
def recording(trained_once: Path, footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """All that extract, train and convert do to a workspace."""
    return record_all(trained_once, footage, tmp_path_factory.mktemp("recorded"))
