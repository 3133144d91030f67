"""From tracks to folders, on a workspace of the test's own."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import NothingToDoError
from pipeline.faces.alignment import align
from pipeline.faces.identity import Track
from pipeline.faces.people import (
    NamingHint,
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
    fill(workspace, "two", {0: ("trump", (0.8, 0))})
    known = known_people(workspace, but_video="three")
    assert set(known) == {"trump", "one-2"}
    np.testing.assert_allclose(known["trump"], unit(0.9, 0))
    workspace.person("one-2").rename(workspace.person("cage"))
    assert set(known_people(workspace, but_video="two")) == {"trump", "cage"}
    np.testing.assert_allclose(known_people(workspace, but_video="two")["trump"], unit(1, 0))


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
    wish = NamingHint("trump", is_given=True, references=(unit(2.1), unit(2.0)))
    assert name_groups(groups, {}, wish, set()) == ["trump-2", "trump", "trump-3"]
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
