"""The picture by which a person chooses how faces are to look."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cli import main
from pipeline.commands.preview import SHOWN_PX, TITLE_PX
from pipeline.converting.timeline import Timeline
from pipeline.faces.alignment import cut_crop
from pipeline.faces.measures import yaw_deg
from pipeline.faces.store import FaceStore
from pipeline.media.pictures import read_picture
from pipeline.media.probe import probe
from pipeline.media.reader import VideoReader
from pipeline.provenance.credentials import read_credentials
from pipeline.types import Image
from pipeline.workspace import Workspace

SWAP = ["--from", "hopper", "--to", "collins"]


def run(workspace: Path, *arguments: str | Path) -> int:
    return main(["preview", *map(str, arguments), "--workspace", str(workspace)])


def tiles(sheet: Image) -> list[list[Image]]:
    """The pictures of a sheet, row by row, without the words above them."""
    rows, columns = (sheet.shape[0] - TITLE_PX) // SHOWN_PX, sheet.shape[1] // SHOWN_PX
    assert sheet.shape == (TITLE_PX + rows * SHOWN_PX, columns * SHOWN_PX, 3)
    below = sheet[TITLE_PX:]
    return [
        [below[SHOWN_PX * row :][:SHOWN_PX, SHOWN_PX * column :][:, :SHOWN_PX] for column in range(columns)]
        for row in range(rows)
    ]


def test_original_drawn_mask_and_result(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, *SWAP, "--frames", "3") == 0
    written = trained / "preview" / "hopper_hopper_to_collins.png"
    assert capsys.readouterr().out.strip() == f"look at {written}"
    credentials = read_credentials(written, [])
    assert (credentials.state, credentials.originals) == ("valid", ("hopper.mp4",))
    rows = tiles(read_picture(written))
    assert [len(row) for row in rows] == [4, 4, 4]
    for original, drawn, mask, result in rows:
        shows = cv2.cvtColor(mask, cv2.COLOR_BGR2GRAY) > 0
        assert 0.15 < shows.mean() < 0.4
        change = np.abs(result.astype(int) - original).max(axis=2)
        assert change[shows].mean() > 5
        assert change[~shows].mean() < 0.5
        assert (drawn[:38] == 128).all()
        assert drawn[38:218, 38:218].std() > 3


def test_the_mesh_gives_each_face_its_own_mask(trained: Path) -> None:
    assert run(trained, *SWAP, "--frames", "3", "--mask", "mesh") == 0
    masks = [row[2] for row in tiles(read_picture(trained / "preview" / "hopper_hopper_to_collins.png"))]
    assert len({mask.tobytes() for mask in masks}) == 3
    assert all(0.1 < (mask > 0).mean() < 0.4 for mask in masks)


def test_the_result_is_what_convert_makes(trained: Path, clips: dict[str, Path]) -> None:
    """The frame whose head is turned farthest left, cut from the converted video and seen on the sheet."""
    workspace = Workspace(trained)
    frame = Timeline(workspace, "hopper", probe(clips["hopper"]), {"hopper": "collins"}).frames_by_yaw()[0]
    assert run(trained, *SWAP, "--frames", "2") == 0
    out = trained / "out.mkv"
    part = ["--start", f"{frame}f", "--end", f"{frame + 1}f", "--codec", "ffv1"]
    assert main(["convert", *SWAP, *part, "-o", str(out), "--workspace", str(trained)]) == 0
    assert run(trained, *SWAP, "--frames", "2", "--compare", "opacity") == 0
    sheet = tiles(read_picture(trained / "preview" / "hopper_hopper_to_collins.png"))
    compared = tiles(read_picture(trained / "preview" / "hopper_hopper_to_collins_opacity.png"))
    np.testing.assert_array_equal(compared[0][-1], sheet[0][-1])
    assert (
        np.abs(compared[0][1].astype(int) - compared[0][0]).mean()
        < np.abs(compared[0][-1].astype(int) - compared[0][0]).mean()
    )
    with FaceStore(workspace.store("hopper")) as store:
        (face,) = store.faces(frame, frame + 1)
    with VideoReader(out) as reader:
        image = next(iter(reader)).image
    made = cut_crop(image, face.crop_from_frame)
    assert np.abs(made.astype(int) - sheet[0][-1])[100:160, 110:150].mean() < 6, "but for smoothing"


def test_frames_are_spread_over_how_far_the_head_is_turned(trained: Path, clips: dict[str, Path]) -> None:
    workspace = Workspace(trained)
    timeline = Timeline(workspace, "hopper", probe(clips["hopper"]), {"hopper": "collins"})
    with FaceStore(workspace.store("hopper")) as store:
        turned = {face.frame: yaw_deg(face.face.landmarks) for face in store.faces()}
    assert timeline.frames_by_yaw() == sorted(turned, key=turned.__getitem__)


@pytest.mark.parametrize(("option", "columns"), [("color", 5), ("mask", 5), ("match-grain", 3), ("scale", 6)])
def test_values_side_by_side(option: str, columns: int, trained: Path) -> None:
    assert run(trained, *SWAP, "--frames", "1", "--compare", option) == 0
    (row,) = tiles(read_picture(trained / "preview" / f"hopper_hopper_to_collins_{option}.png"))
    assert len(row) == columns
    different = {picture.tobytes() for picture in row}
    assert len(different) == columns


def test_a_video_not_extracted_is_extracted_first(trained: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(clips["hopper"].read_bytes() + b"\0\0\0\x08free")
    assert run(trained, other, *SWAP, "--frames", "1") == 0
    assert (trained / "preview" / "other_hopper_to_collins.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--from", "hopper", "--to", "nobody"], 1, "cannot draw 'nobody'"),
        (["missing.mp4", *SWAP], 1, "no such file: missing.mp4"),
        ([*SWAP, "--frames", "0"], 2, "--frames 0: must be 1 to 100"),
        (["--from", "hopper"], 2, "name who becomes whom"),
    ],
)
def test_what_cannot_be_shown_is_said(
    arguments: list[str], code: int, words: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, *arguments) == code
    assert words in capsys.readouterr().err
    assert not (trained / "preview").exists()
