"""Whose faces are whose: the folder of a crop says so, and new tracks are named by likeness."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import NothingToDoError
from pipeline.faces.alignment import align
from pipeline.faces.identity import Track
from pipeline.faces.people import (
    NamingHint,
    crop_name,
    crops_in,
    faces_of_person,
    is_unsure,
    known_people,
    move_crops_to_people,
    name_by_likeness,
    name_groups,
    unsure_name,
)
from pipeline.faces.store import FaceStore, StoredFace, StoredFrame
from pipeline.media.pictures import write_picture
from pipeline.types import Face
from pipeline.workspace import Workspace
from tests.clips import scene
from tests.faces.test_identity import unit

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


LANDMARKS = np.array([[40.0, 50], [80, 50], [62, 70], [45, 90], [77, 90]])


def face_of(frame: int, track: int, video: str) -> StoredFace:
    face = Face(np.array([20.0, 10, 100, 120]), 0.99, LANDMARKS)
    return StoredFace(frame, track, "", f"{video}_{frame:06d}_{track}.jpg", face, align(LANDMARKS))


def group_of(*coordinates: float, frames: int = 10) -> list[Track]:
    return [Track(0, frozenset(range(frames)), unit(*coordinates))]


def fill(workspace: Workspace, video: str, tracks: dict[int, tuple[str, tuple[float, ...]]]) -> None:
    """Record tracks of three faces each, under names and with embeddings, crops in their folders."""
    with FaceStore(workspace.store(video), create=True) as store:
        for track, (_, look) in tracks.items():
            faces = [face_of(10 * track + i, track, video) for i in range(3)]
            store.record([StoredFrame(face.frame, face.frame, 0) for face in faces], faces)
            store.record_embedding(track, unit(*look))
            for face in faces:
                crop = workspace.pending_crops(video) / str(face.crop)
                crop.parent.mkdir(parents=True, exist_ok=True)
                crop.write_bytes(b"crop")
        store.name_tracks({track: person for track, (person, _) in tracks.items()})
        move_crops_to_people(store, workspace, video)


def crops(workspace: Workspace, person: str) -> list[str]:
    return sorted(path.name for path in workspace.person(person).iterdir())


def test_crops_go_into_the_folders_of_the_people(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill(workspace, "clip", {0: ("trump", (1,)), 3: ("cage", (0,))})
    assert crops(workspace, "trump") == [f"clip_{i:06d}_0.jpg" for i in range(3)]
    assert crops(workspace, "cage") == [f"clip_{i:06d}_3.jpg" for i in range(30, 33)]
    assert not workspace.pending_crops("clip").exists()


def test_handing_over_goes_on_and_leaves_alone_what_a_person_moved(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill(workspace, "clip", {0: ("trump", (1,))})
    moved = workspace.person("trump") / "clip_000001_0.jpg"
    workspace.pending_crops("clip").mkdir()
    moved.rename(workspace.pending_crops("clip") / moved.name)  # as if the run had been killed before this one
    (workspace.pending_crops("clip") / "clip_000099_7.jpg").write_bytes(b"of a track that was left out")
    (workspace.person("trump") / "clip_000002_0.jpg").unlink()
    with FaceStore(workspace.store("clip")) as store:
        move_crops_to_people(store, workspace, "clip")
    assert crops(workspace, "trump") == ["clip_000000_0.jpg", "clip_000001_0.jpg"]
    assert not workspace.pending_crops("clip").exists()


def test_people_are_known_by_the_folders_their_crops_lie_in_now(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill(workspace, "one", {0: ("trump", (1, 0)), 1: ("one-2", (0, 1)), 2: (unsure_name("one"), (5,))})
    assert set(known_people(workspace)) == {"trump", "one-2"}
    np.testing.assert_allclose(known_people(workspace)["trump"], unit(1, 0))
    fill(workspace, "two", {0: ("trump", (0.8, 0))})
    known = known_people(workspace)
    assert set(known) == {"trump", "one-2"}
    np.testing.assert_allclose(known["trump"], unit(0.9, 0))
    workspace.person("one-2").rename(workspace.person("cage"))
    assert set(known_people(workspace)) == {"trump", "cage"}


def test_people_are_named_after_the_video_the_one_seen_longest_first() -> None:
    groups = [group_of(1), group_of(2), group_of(3)]
    assert name_groups(groups, {}, NamingHint("clip"), set()) == ["clip", "clip-2", "clip-3"]
    assert name_groups(groups, {}, NamingHint("clip"), {"clip-2"}) == ["clip", "clip-3", "clip-4"]
    assert name_groups([], {}, NamingHint("clip"), set()) == []


def test_a_given_name_is_the_one_seen_longest() -> None:
    groups = [group_of(1), group_of(2)]
    assert name_groups(groups, {}, NamingHint("trump", is_given=True), set()) == ["trump", "trump-2"]
    known = {"cage": unit(1), "trump": unit(2)}
    assert name_groups(groups, known, NamingHint("trump", is_given=True), set()) == ["trump", "trump-2"]


def test_known_people_are_recognised_each_once() -> None:
    known = {"trump": unit(2), "cage": unit(9)}
    groups = [group_of(1), group_of(2.1), group_of(1.9)]
    assert name_groups(groups, known, NamingHint("clip"), set()) == ["clip", "trump", "clip-2"] or name_groups(
        groups, known, NamingHint("clip"), set()
    ) == ["clip", "clip-2", "trump"]
    assert name_groups([group_of(2)], known, NamingHint("clip"), set()) == ["trump"]


def test_a_reference_picks_the_person() -> None:
    groups = [group_of(1), group_of(2), group_of(3)]
    hint = NamingHint("trump", is_given=True, references=(unit(2.1), unit(2.0)))
    assert name_groups(groups, {}, hint, set()) == ["trump-2", "trump", "trump-3"]
    with pytest.raises(NothingToDoError, match="--reference"):
        name_groups(groups, {}, NamingHint("trump", references=(unit(8),)), set())
    with pytest.raises(NothingToDoError, match="--reference"):
        name_groups([], {}, NamingHint("trump", references=(unit(8),)), set())


def test_unsure_folders_are_told_from_people() -> None:
    assert is_unsure(unsure_name("clip"))
    assert not is_unsure("clip")
    assert len(unsure_name("x" * 100)) == 100


def record_people(store: FaceStore, folder: Path, people: list[list[int]]) -> None:
    """Record a track for each person, of crops that show the scenes of these numbers."""
    frame = 0
    for track, scenes in enumerate(people):
        faces = [face_of(frame + i, track, "clip") for i in range(len(scenes))]
        frame += len(faces)
        store.record([StoredFrame(face.frame, face.frame, 0) for face in faces], faces)
        store.record_embedding(track, unit(3.0 * track))
        for face, number in zip(faces, scenes, strict=True):
            write_picture(folder / str(face.crop), np.roll(scene(0, 256, 256), 9 * number, axis=1))


def test_who_is_hardly_seen_beside_a_main_person_is_unsure(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    long, few, static = list(range(25)), [0, 5, 10, 15], [3] * 24
    with FaceStore(workspace.store("clip"), create=True) as store:
        record_people(store, workspace.pending_crops("clip"), [long, few, static, [0, 5, 10, 15, 20]])
        names = name_by_likeness(store, workspace, "clip", NamingHint("clip"))
        assert {names[0], names[3]} == {"clip", "clip-3"}
        assert {names[1], names[2]} == {unsure_name("clip")}
        reference = NamingHint("clip", references=(unit(3.0),))
        assert name_by_likeness(store, workspace, "clip", reference)[1] == "clip", "whom a person asked for counts"
        store.record_facts(pictures=["1.png"])
        assert unsure_name("clip") not in name_by_likeness(store, workspace, "clip", NamingHint("clip")).values()


def test_without_a_main_person_nobody_is_unsure(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with FaceStore(workspace.store("clip"), create=True) as store:
        record_people(store, workspace.pending_crops("clip"), [list(range(12)), [0, 5, 10]])
        assert set(name_by_likeness(store, workspace, "clip", NamingHint("clip")).values()) == {"clip", "clip-2"}
