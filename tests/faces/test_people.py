"""Which faces of a video are a person's: the folder a crop lies in says so."""

from pathlib import Path

import numpy as np

from pipeline.faces.people import crop_name, crops_in, faces_of_person
from pipeline.faces.store import StoredFace
from pipeline.types import Face

VIDEO = "talk.show 2"  # a name with a dot in it


def face(frame: int, track: int = 0, *, has_crop: bool = True) -> StoredFace:
    crop = crop_name(VIDEO, frame, track) if has_crop else None
    return StoredFace(frame, track, "hopper", crop, Face(np.zeros(4), 1.0, np.zeros((5, 2))), np.zeros((2, 3)))


def write_crops(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"a picture")


def places(faces: list[StoredFace]) -> list[tuple[int, int]]:
    return [(stored.frame, stored.track) for stored in faces]


def test_a_crop_says_where_it_came_from() -> None:
    assert crop_name("clip-2", 1234, 7) == "clip-2_001234_7.jpg"


def test_names_of_crops_are_read_without_suffix_and_hidden_files(tmp_path: Path) -> None:
    write_crops(tmp_path, "a.b_000001_0.jpg", "c_000002_0.PNG", ".c_000003_0.jpg", "notes.txt")
    assert crops_in(tmp_path) == {"a.b_000001_0", "c_000002_0"}
    assert crops_in(tmp_path / "nobody") == frozenset()


def test_a_face_is_the_persons_while_its_crop_lies_in_the_folder(tmp_path: Path) -> None:
    faces = [face(0), face(0, 1), face(1), face(2)]
    write_crops(tmp_path / "hopper", *(str(stored.crop) for stored in faces))
    assert faces_of_person(faces, crops_in(tmp_path / "hopper")) == faces
    assert faces_of_person(faces, crops_in(tmp_path / "collins")) == []


def test_a_crop_moved_to_another_folder_is_that_persons(tmp_path: Path) -> None:
    faces = [face(0), face(0, 1), face(1), face(1, 1)]
    write_crops(tmp_path / "hopper", *(str(stored.crop) for stored in faces))
    write_crops(tmp_path / "collins")
    for stored in (faces[1], faces[3]):
        (tmp_path / "hopper" / str(stored.crop)).rename(tmp_path / "collins" / str(stored.crop))
    assert places(faces_of_person(faces, crops_in(tmp_path / "hopper"))) == [(0, 0), (1, 0)]
    assert places(faces_of_person(faces, crops_in(tmp_path / "collins"))) == [(0, 1), (1, 1)]


def test_a_crop_saved_again_in_another_format_still_counts(tmp_path: Path) -> None:
    faces = [face(0), face(1)]
    write_crops(tmp_path, Path(str(faces[1].crop)).stem + ".png")
    assert places(faces_of_person(faces, crops_in(tmp_path))) == [(1, 0)]


def test_a_face_whose_crop_was_deleted_is_nobodys_though_its_neighbours_are_there(tmp_path: Path) -> None:
    faces = [face(10), face(11), face(12)]
    write_crops(tmp_path, *(str(stored.crop) for stored in faces))
    (tmp_path / str(faces[1].crop)).unlink()
    assert places(faces_of_person(faces, crops_in(tmp_path))) == [(10, 0), (12, 0)]


def test_a_face_without_crop_goes_with_the_nearest_crop_of_its_track() -> None:
    """Extracted with --every 10; the crop of frame 10 was moved away or deleted."""
    faces = [face(frame, has_crop=frame % 10 == 0) for frame in range(21)]
    kept = {Path(crop_name(VIDEO, frame, 0)).stem for frame in (0, 20)}
    found = [stored.frame for stored in faces_of_person(faces, kept)]
    assert found == [*range(6), *range(16, 21)] or found == [*range(5), *range(16, 21)]  # 5 lies between two
    moved = [stored.frame for stored in faces_of_person(faces, {Path(crop_name(VIDEO, 10, 0)).stem})]
    assert sorted([*found, *moved]) == list(range(21)), "every face is someone's, and once"


def test_a_face_without_crop_does_not_follow_another_track() -> None:
    faces = [face(0, 0), face(1, 0, has_crop=False), face(1, 1, has_crop=False), face(9, 1), face(2, 5, has_crop=False)]
    first = {Path(crop_name(VIDEO, 0, 0)).stem}
    assert places(faces_of_person(faces, first)) == [(0, 0), (1, 0)]
    both = first | {Path(crop_name(VIDEO, 9, 1)).stem}
    assert places(faces_of_person(faces, both)) == [(0, 0), (1, 0), (1, 1), (9, 1)], "track 5 never had a crop"


def test_crops_of_another_video_do_not_count() -> None:
    assert faces_of_person([face(0)], {"another_000000_0"}) == []
