"""Folders of face pictures, read into memory."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from models.autoencoder import Encoder
from models.checkpoint import Model, Position
from models.segmenter import OCCLUSION_PX, OcclusionNet
from pipeline.console import NullConsole
from pipeline.errors import NothingToDoError, WorkspaceError
from pipeline.faces.alignment import mean_outline
from pipeline.faces.mesh import face_outline, has_mesh
from pipeline.faces.occlusions import OcclusionFinder
from pipeline.training import dataset
from pipeline.training.augment import (
    Augmentation,
    PictureFormat,
    draw_masks,
    draw_pairs,
    draw_transforms,
    make_pairs,
)
from pipeline.training.dataset import Dataset, FaceFormat, Faces, load_faces
from pipeline.training.distributed import Processes
from pipeline.training.sampler import Sampler, generator
from pipeline.types import Image, Mask

RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)  # BGR


def quarters(width: int, height: int) -> Image:
    """Red and green above blue and white: tells turned, mirrored and recoloured pictures apart."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    return image


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def even(value: int) -> Image:
    return np.full((256, 256, 3), value, np.uint8)


def write_two_people(folder: Path) -> None:
    write(folder / "zoe" / "1.png", even(10))
    write(folder / "ann" / "1.png", even(20))


@pytest.mark.parametrize("file", ["a.png", "a.jpg", "a.JPEG", "a.bmp", "a.webp", "a.tif", "a.tiff"])
@pytest.mark.parametrize("size", [(256, 256), (64, 40), (300, 700), (40, 512)])
def test_pictures_of_any_kind_and_size_come_upright_at_256_px(tmp_path: Path, file: str, size: tuple[int, int]) -> None:
    write_two_people(tmp_path)
    write(tmp_path / "ann" / file, quarters(*size))
    crops = load_faces(tmp_path, NullConsole(), tmp_path / "spill").people["ann"]
    assert (crops.shape, crops.dtype) == ((2, 3, 256, 256), torch.uint8)
    picture = crops[1].numpy().transpose(1, 2, 0).astype(int)
    for (row, column), colour in {(60, 70): RED, (70, 190): GREEN, (190, 60): BLUE, (200, 190): (255,) * 3}.items():
        assert np.abs(picture[row, column] - colour).max() < 12


def test_a_picture_of_the_right_size_stays_as_it_is(tmp_path: Path) -> None:
    write_two_people(tmp_path)
    image = np.random.default_rng(4).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    write(tmp_path / "ann" / "2.png", image)
    crops = load_faces(tmp_path, NullConsole(), tmp_path / "spill").people["ann"]
    np.testing.assert_array_equal(crops[1], image.transpose(2, 0, 1))


def test_a_large_picture_is_smoothed_down(tmp_path: Path) -> None:
    write_two_people(tmp_path)
    rows, columns = np.mgrid[0:1000, 0:650]
    write(tmp_path / "ann" / "2.png", np.where((rows + columns) % 2, 255, 0).astype(np.uint8))
    crop = load_faces(tmp_path, NullConsole(), tmp_path / "spill").people["ann"][1].numpy().astype(int)
    assert np.abs(crop - 127.5).max() < 16


def test_grey_transparent_and_16_bit_pictures_are_read(tmp_path: Path) -> None:
    write_two_people(tmp_path)
    write(tmp_path / "ann" / "2 grey.png", np.full((50, 60), 90, np.uint8))
    write(tmp_path / "ann" / "3 deep.png", np.full((50, 60, 3), 90 * 257, np.uint16))
    write(tmp_path / "ann" / "4 clear.png", np.full((50, 60, 4), (90, 90, 90, 128), np.uint8))
    crops = load_faces(tmp_path, NullConsole(), tmp_path / "spill").people["ann"]
    assert len(crops) == 4
    assert np.unique(crops[1:]).tolist() == [90]


def test_people_and_pictures_come_in_order_of_their_names(tmp_path: Path) -> None:
    for place, name in enumerate(["b.png", "a.png", "B.bmp", "a b.png", "10.png", "9.png"]):
        write(tmp_path / "zoe" / name, even(40 * place))
    write(tmp_path / "ann" / "1.png", even(7))
    people = load_faces(tmp_path, NullConsole(), tmp_path / "spill").people
    assert list(people) == ["ann", "zoe"]
    assert np.unique(people["ann"]).tolist() == [7]
    assert people["zoe"][:, 0, 0, 0].tolist() == [160, 200, 80, 120, 40, 0], "10, 9, B, a b, a, b"


def test_an_unreadable_picture_is_left_out_and_named(tmp_path: Path) -> None:
    write_two_people(tmp_path)
    whole = write(tmp_path / "ann" / "0.png", even(55))
    garbage, half, empty = (tmp_path / "ann" / name for name in ("05.jpg", "2.png", "3.webp"))
    garbage.write_bytes(b"no picture")
    half.write_bytes(whole.read_bytes()[:20])
    empty.touch()
    faces = load_faces(tmp_path, NullConsole(), tmp_path / "spill")
    assert faces.people["ann"][:, 0, 0, 0].tolist() == [55, 20]
    assert len(faces.people["zoe"]) == 1
    assert len(faces.unreadable) == 3
    for path, line in zip((garbage, half, empty), faces.unreadable, strict=True):
        assert str(path) in line
        assert "\n" not in line


def test_hidden_and_other_files_are_no_faces(tmp_path: Path) -> None:
    write_two_people(tmp_path)
    write(tmp_path / "ann" / ".hidden.png", even(99))
    write(tmp_path / "ann" / "deeper" / "2.png", even(99))
    write(tmp_path / ".trash" / "1.png", even(99))
    write(tmp_path / "loose.png", even(99))
    (tmp_path / "ann" / "notes.txt").write_text("nice", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    faces = load_faces(tmp_path, NullConsole(), tmp_path / "spill")
    assert {person: len(crops) for person, crops in faces.people.items()} == {"ann": 1, "zoe": 1}
    assert faces.unreadable == []


def test_one_person_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path / "ann" / "1.png", even(1))
    with pytest.raises(NothingToDoError, match=r"only of 'ann'.*python cli\.py extract") as refused:
        load_faces(tmp_path, NullConsole(), tmp_path / "spill")
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("there", [True, False])
def test_nobody_is_not_enough(tmp_path: Path, there: bool) -> None:
    folder = tmp_path if there else tmp_path / "missing"
    with pytest.raises(NothingToDoError, match="of nobody" if there else "there is no folder"):
        load_faces(folder, NullConsole(), tmp_path / "spill")


def test_a_person_of_unreadable_pictures_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "ann" / "1.png", even(1))
    (tmp_path / "zoe").mkdir()
    (tmp_path / "zoe" / "1.png").write_bytes(b"no picture")
    with pytest.raises(NothingToDoError, match="only of 'ann'") as refused:
        load_faces(tmp_path, NullConsole(), tmp_path / "spill")
    assert str(tmp_path / "zoe" / "1.png") in str(refused.value)


class TestLittleMemory:
    def test_faces_that_would_fill_it_are_mapped_from_a_file_without_a_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for place, person in enumerate(("ann", "bea", "ann", "ann", "bea")):
            write(tmp_path / person / f"{place}.png", even(40 * place))
        in_memory = load_faces(tmp_path, NullConsole(), tmp_path / "spill").people
        assert not (tmp_path / "spill").exists()
        monkeypatch.setattr(dataset, "MEMORY_SHARE", 0.0)
        mapped = load_faces(tmp_path, NullConsole(), tmp_path / "spill").people
        assert {name: len(crops) for name, crops in mapped.items()} == {"ann": 3, "bea": 2}
        assert all(torch.equal(mapped[name], in_memory[name]) for name in in_memory)
        assert list((tmp_path / "spill").iterdir()) == [], "nothing is left, whatever happens"

    def test_a_disk_that_is_full_too_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_two_people(tmp_path)
        monkeypatch.setattr(dataset, "MEMORY_SHARE", 0.0)
        with pytest.raises(WorkspaceError, match="neither into memory nor into"):
            load_faces(tmp_path, NullConsole(), tmp_path / "spill", face_format=FaceFormat(crop_px=1 << 24))


class TestBatches:
    @staticmethod
    def faces(tmp_path: Path) -> Faces:
        people = {
            person: torch.randint(0, 256, (5, 3, 256, 256), dtype=torch.uint8, generator=generator(person))
            for person in ("ann", "bob")
        }
        return Faces(tmp_path, people, {person: [f"{i}.png" for i in range(5)] for person in people})

    @staticmethod
    def dataset(faces: Faces, processes: Processes) -> Dataset:
        with torch.device("meta"):
            model = Model(Encoder(8, 64))
        return Dataset(faces, model, torch.device("cpu"), processes)

    @pytest.mark.parametrize("interleave", [False, True])
    def test_they_are_pairs_of_the_selected_faces_distorted_by_seed_and_position(
        self, interleave: bool, tmp_path: Path
    ) -> None:
        faces = self.faces(tmp_path)
        sampler = Sampler({"ann": 5, "bob": 5}, 4, inner_loop=2, seed=9, interleave=interleave)
        batches = self.dataset(faces, Processes()).batches(sampler, Position())
        for _, batch, selection in zip(range(6), batches, sampler.selections(Position()), strict=False):
            assert (batch.position, batch.next_position) == (selection.position, selection.next_position)
            assert batch.ends_epoch == (batch.next_position.epoch == 1)
            assert (batch.share, batch.samples) == (1, sum(map(len, selection.faces.values())))
            assert batch.pairs.keys() == selection.faces.keys()
            for number, (person, indices) in enumerate(selection.faces.items(), 1):
                at = selection.position
                rng = generator(9, at.epoch, at.visit, at.inner, at.batch, number)
                expected = draw_pairs(faces.people[person][indices], Augmentation(), rng)
                found = batch.pairs[person]
                for name in ("inputs", "targets", "weights"):
                    assert torch.equal(getattr(found, name), getattr(expected, name))
                assert found.masks is None

    def test_processes_have_parts_of_the_same_batch(self, tmp_path: Path) -> None:
        faces, sampler = self.faces(tmp_path), Sampler({"ann": 5, "bob": 5}, 3, inner_loop=1, seed=9)
        whole = next(self.dataset(faces, Processes()).batches(sampler, Position()))
        parts = [next(self.dataset(faces, Processes(rank, 4)).batches(sampler, Position())) for rank in range(4)]
        (person,) = whole.pairs
        assert [part.share for part in parts] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
        assert {part.samples for part in parts} == {3}
        joined = torch.cat([part.pairs[person][0] for part in parts[1:]])
        torch.testing.assert_close(joined, whole.pairs[person][0], atol=1e-4, rtol=0)
        assert len(parts[0].pairs[person][0]) == 1, "one face that does not count, so that all compute alike"


class TestHdFaces:
    """Faces as the hd networks need them: large enough, and with their outlines."""

    @staticmethod
    def face_format(network: str) -> FaceFormat:
        with torch.device("meta"):
            return FaceFormat.of(network)

    @staticmethod
    def write_textured(path: Path, seed: int, side: int = 256) -> None:
        coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
        write(path, cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))

    @pytest.mark.parametrize(
        ("network", "crop_px", "needed_px"), [("hd128", 256, 183), ("hd192", 512, 274), ("hd256", 512, 365)]
    )
    def test_crops_are_large_enough_for_what_the_network_draws(
        self, network: str, crop_px: int, needed_px: int, tmp_path: Path
    ) -> None:
        face_format = self.face_format(network)
        assert face_format == FaceFormat(crop_px, needed_px, has_outlines=True)
        write_two_people(tmp_path)
        write(tmp_path / "ann" / "2.png", quarters(600, 600))
        faces = load_faces(tmp_path, NullConsole(), tmp_path / "spill", face_format=face_format)
        assert faces.people["ann"].shape == (2, 3, crop_px, crop_px)
        assert faces.people["ann"][1, :, crop_px // 4, crop_px // 4].tolist() == list(RED)

    def test_faces_with_fewer_px_than_the_network_draws_are_counted(self, tmp_path: Path) -> None:
        for number, (width, height) in enumerate([(182, 182), (183, 183), (64, 40), (700, 182), (300, 200)]):
            write(tmp_path / "ann" / f"{number}.png", quarters(width, height))
        write(tmp_path / "zoe" / "1.png", quarters(90, 90))
        faces = load_faces(tmp_path, NullConsole(), tmp_path / "spill", face_format=self.face_format("hd128"))
        assert faces.small == 4
        assert load_faces(tmp_path, NullConsole(), tmp_path / "spill").small == 0, "of the reference network"

    def test_the_reference_network_gets_no_outlines(self, tmp_path: Path) -> None:
        write_two_people(tmp_path)
        assert self.face_format("reference") == FaceFormat()
        assert load_faces(tmp_path, NullConsole(), tmp_path / "spill").outlines == {}

    def test_each_face_has_its_own_outline_whatever_cannot_be_read(self, tmp_path: Path) -> None:
        if not has_mesh():
            pytest.skip("the face mesh is not installed")
        for number in (0, 1, 3, 4):
            self.write_textured(tmp_path / "ann" / f"{number}.png", number)
        (tmp_path / "ann" / "2.png").write_bytes(b"no picture")
        self.write_textured(tmp_path / "zoe" / "0.png", 9, side=100)
        faces = load_faces(tmp_path, NullConsole(), tmp_path / "spill", face_format=self.face_format("hd192"))
        assert len(faces.unreadable) == 1
        for person, crops in faces.people.items():
            outlines = faces.outlines[person]
            assert outlines.dtype == torch.float32
            expected = [face_outline(crop.numpy().transpose(1, 2, 0)) for crop in crops]
            np.testing.assert_allclose(outlines, np.stack(expected), atol=1e-3)
        spread = faces.outlines["ann"].std(dim=0).mean()
        assert spread > 1, "they differ, so that a wrong order would show"

    @pytest.mark.parametrize("network", ["hd128", "hd192"])
    def test_batches_have_the_masks_of_their_faces(self, network: str, tmp_path: Path) -> None:
        face_format = self.face_format(network)
        side, rng = face_format.crop_px, np.random.default_rng(3)
        people = {person: torch.randint(0, 256, (5, 3, side, side), dtype=torch.uint8) for person in ("ann", "bob")}
        outlines = {person: torch.from_numpy(mean_outline() + rng.normal(0, 9, (5, 1, 2))).float() for person in people}
        names = {person: [f"{number}.png" for number in range(5)] for person in people}
        with torch.device("meta"):
            model = Model.new(network)
        dataset = Dataset(Faces(tmp_path, people, names, outlines), model, torch.device("cpu"), Processes())
        sampler = Sampler({"ann": 5, "bob": 5}, 6, inner_loop=1, seed=9, interleave=True)
        selection = next(iter(sampler.selections(Position())))
        batch = next(dataset.batches(sampler, Position()))
        at = selection.position
        for number, (person, indices) in enumerate(selection.faces.items(), 1):
            found = batch.pairs[person]
            assert found.inputs.shape == (3, 3, model.picture_px, model.picture_px)
            draw = draw_transforms(3, Augmentation(), generator(9, at.epoch, at.visit, at.inner, at.batch, number))
            assert found.masks is not None
            assert torch.equal(found.masks, draw_masks(outlines[person][indices], draw, model.picture_px))
            expected = make_pairs(people[person][indices], draw, PictureFormat(model.picture_px, is_smoothed=True))
            assert torch.equal(found.targets, expected.targets)

    def test_what_is_in_front_of_each_face_is_not_learned(self, tmp_path: Path) -> None:
        for person in ("ann", "bob"):
            for number in range(4):
                self.write_textured(tmp_path / person / f"{number}.png", number)
        faces = load_faces(tmp_path, NullConsole(), tmp_path / "spill", face_format=self.face_format("hd128"))
        faces.covered["ann"] = {2: torch.ones(dataset.COVERED_PX, dataset.COVERED_PX)}
        data = Dataset(faces, Model.new("hd128"), torch.device("cpu"), Processes())
        sampler = Sampler({"ann": 4, "bob": 4}, 8, inner_loop=1, seed=9, interleave=True)
        selection, batch = next(iter(sampler.selections(Position()))), next(data.batches(sampler, Position()))
        for person, indices in selection.faces.items():
            weights = batch.pairs[person].weights
            assert weights is not None
            is_counted = [bool(weight.max() > 1) for weight in weights]
            assert is_counted == [(person, index) != ("ann", 2) for index in indices.tolist()]
        assert 2 in selection.faces["ann"].tolist()

    def test_things_in_front_are_found_when_faces_are_read(self, tmp_path: Path) -> None:
        hidden = np.zeros((OCCLUSION_PX, OCCLUSION_PX), np.float32)
        hidden[OCCLUSION_PX // 2 :] = 1

        class LowerHalfOfDark(OcclusionFinder):
            def find(self, pictures: Sequence[Image], *, with_glasses: bool = False) -> list[Mask | None]:
                return [hidden if picture.mean() < 60 else None for picture in pictures]

        for number, grey in enumerate((20, 200, 40)):
            write(tmp_path / "ann" / f"{number}.png", even(grey))
        write(tmp_path / "zoe" / "0.png", even(200))
        finder = LowerHalfOfDark(OcclusionNet(), torch.device("cpu"))
        face_format = FaceFormat.of("hd128", finder)
        faces = load_faces(tmp_path, NullConsole(), tmp_path / "spill", face_format=face_format)
        assert (list(faces.covered["ann"]), list(faces.covered["zoe"])) == ([0, 2], [])
        rows = faces.covered["ann"][0].mean(dim=1)
        half = dataset.COVERED_PX // 2
        assert rows[: half - 1].max() == 0, "the upper half of the crop"
        assert rows[half + 1 : half + 40].min() > 0.6, "below it, as wide as what networks see"
        assert rows[half + 50 :].max() == 0, "what they do not see"

    def test_less_warp_bends_less(self, tmp_path: Path) -> None:
        people = {person: torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8) for person in ("ann", "bob")}
        names = {person: [f"{number}.png" for number in range(4)] for person in people}
        with torch.device("meta"):
            model = Model.new("hd128")
        dataset = Dataset(Faces(tmp_path, people, names), model, torch.device("cpu"), Processes())
        sampler = Sampler({"ann": 4, "bob": 4}, 4, inner_loop=1, seed=9, interleave=True)
        differences = []
        for factor in (1.0, 0.4, 0.0):
            batch = next(dataset.batches(sampler, Position(), partial(float, factor)))
            inputs, targets, *_ = batch.pairs["ann"]
            differences.append(float((inputs - targets).abs().mean()))
        assert differences[0] > differences[1] > 100 * differences[2]


def test_what_is_left_unread_is_not_read_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal may come while pictures are still handed out: none but those already begun is read then."""
    write_two_people(tmp_path)
    for number in range(2, 200):
        write(tmp_path / "ann" / f"{number}.png", even(20))
    ended, read, handed_out = threading.Event(), list[Path](), count()
    read_crop, submit, shutdown = dataset._read_crop, ThreadPoolExecutor.submit, ThreadPoolExecutor.shutdown

    def read_slowly(path: Path, crop: np.ndarray, face_format: FaceFormat) -> Any:
        read.append(path)
        assert len(read) <= 2 or ended.wait(60)
        return read_crop(path, crop, face_format)

    def interrupted_submit(pool: ThreadPoolExecutor, *task: Any) -> Future[Any]:
        if next(handed_out) == 150:
            raise KeyboardInterrupt
        return submit(pool, *task)

    def noted_shutdown(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if wait:  # for those that were begun
            ended.set()
        shutdown(pool, wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(dataset, "_read_crop", read_slowly)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted_submit)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", noted_shutdown)
    with pytest.raises(KeyboardInterrupt):
        load_faces(tmp_path, NullConsole(), tmp_path / "spill")
    assert len(read) < 100
