"""Stage 2 on small sets: what it writes, that it goes on, how it ends, and what it says."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cli import main
from models import checkpoint
from models.autoencoder import Decoder, Encoder
from pipeline.errors import WorkspaceError
from pipeline.media.pictures import read_picture, write_picture
from pipeline.names import check_people
from pipeline.options import TrainOptions
from pipeline.training import holdout
from pipeline.training.dataset import Dataset, Faces
from pipeline.training.sampler import Sampler, cosine_factor, fraction_done, pace_notes

SMALL = ["--init-dim", "8", "--code-dim", "64", "--inner-loop", "1", "--lr", "3e-4"]


def run(workspace: Path, *arguments: str, batch: str = "8") -> int:
    return main(["train", *SMALL, "-b", batch, *arguments, "--workspace", str(workspace)])


def make_people(folder: Path, *people: str, count: int = 3) -> None:
    """Plain folders of pictures, of odd sizes, as any tool leaves them."""
    chance = np.random.default_rng(3)
    for person in people:
        (folder / person).mkdir(parents=True)
        for i in range(count):
            base = chance.integers(0, 255, (5, 4, 3), dtype=np.uint8)
            picture = np.kron(base, np.ones((18, 21, 1), np.uint8))
            write_picture(folder / person / f"{i}{'.png' if i % 2 else '.jpg'}", picture)


def replace(path: Path, text: str) -> None:
    path.unlink()  # it is linked elsewhere
    path.write_text(text, encoding="utf-8")


def test_first_save_holds_everyone_and_previews(trained_once: Path) -> None:
    folder = trained_once / "output" / "model"
    model = checkpoint.load(folder)
    assert sorted(model.decoders) == ["collins", "hopper"]
    assert model.steps == 3
    assert sum(t.samples for t in model.trained.values()) == 8 + 4 + 8
    facts = json.loads((folder / f"state-{3:09d}" / "model.json").read_text(encoding="utf-8"))
    assert (facts["init_dim"], facts["code_dim"]) == (8, 64)
    for person in ("collins", "hopper"):
        sheets = sorted((folder / person).glob("epoch_*.png"))
        assert sheets
        assert read_picture(sheets[0]).shape == (3 * 128, 8 * 128, 3)


def test_plain_folders_and_an_unreadable_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_people(tmp_path / "data", "trump", "cage")
    (tmp_path / "data" / "cage" / "broken.jpg").write_bytes(b"no picture")
    assert run(tmp_path / "w", "-d", str(tmp_path / "data"), "--max-steps", "1") == 1
    (problem,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "left out 1 unreadable picture: " in problem
    assert "broken.jpg" in problem
    assert sorted(checkpoint.load(tmp_path / "w" / "output" / "model").decoders) == ["cage", "trump"]


@pytest.mark.parametrize(("people", "word"), [([], "nobody"), (["cage"], "'cage'")])
def test_fewer_than_two_people(
    people: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    make_people(tmp_path / "data", *people)
    assert run(tmp_path / "w", "-d", str(tmp_path / "data")) == 1
    words = capsys.readouterr().err
    assert word in words
    assert "python cli.py extract" in words
    assert not (tmp_path / "w" / "output").exists()


def test_other_sizes_than_the_model_has_are_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--init-dim", "16", "--code-dim", "64", "--workspace", str(trained)]) == 2
    assert "--init-dim 8 --code-dim 64" in capsys.readouterr().err


def test_fix_enc_leaves_the_encoder(trained: Path) -> None:
    folder = trained / "output" / "model"
    before = checkpoint.load(folder)
    assert run(trained, "--fix-enc", "--max-steps", "1") == 0
    after = checkpoint.load(folder)
    assert after.steps == before.steps + 1
    assert all(torch.equal(a, b) for a, b in zip(before.encoder.parameters(), after.encoder.parameters(), strict=True))
    changed = [
        person
        for person in after.decoders
        if any(
            not torch.equal(a, b)
            for a, b in zip(before.decoders[person].parameters(), after.decoders[person].parameters(), strict=True)
        )
    ]
    assert len(changed) == 1


def test_a_person_that_left_keeps_the_decoder_and_a_new_one_gets_one(trained: Path) -> None:
    shutil.rmtree(trained / "data" / "hopper")
    make_people(trained / "data", "cage")
    assert run(trained, "--max-steps", "1") == 0
    assert sorted(checkpoint.load(trained / "output" / "model").decoders) == ["cage", "collins", "hopper"]


def test_pace_and_which_inner_loop_would_fit() -> None:
    sampler = Sampler({"a": 500, "b": 500}, batch_size=64, inner_loop=100, seed=1)
    lines = pace_notes(sampler, rate=20.0, limit_samples=40 * 60 * 20)
    assert "100000 samples: 83 minutes at 20 samples/s" in lines[0]
    assert "--inner-loop 24 or less" in lines[1]
    assert len(pace_notes(sampler, rate=20.0, limit_samples=60_000)) == 1
    assert len(pace_notes(sampler, rate=20.0, limit_samples=None)) == 1


class TestImport:
    def write_reference(self, folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir()
        torch.manual_seed(5)
        encoder, decoder = Encoder(8, 64), Decoder()
        torch.save({"state_dict": encoder.state_dict(), "epoch": 7}, folder / "encoder.pth")
        for person in ("trump", "cage"):
            torch.save({"state_dict": decoder.state_dict(), "epoch": 7}, folder / f"decoder{person}.pth")
        return decoder.state_dict()

    def test_a_reference_model_is_taken_over(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        weights = self.write_reference(tmp_path / "pth")
        command = ["import", str(tmp_path / "pth"), "-n", "old", "--workspace", str(tmp_path)]
        assert main(command) == 0
        assert "cage, trump" in capsys.readouterr().out
        model = checkpoint.load(tmp_path / "output" / "old")
        assert model.position.epoch == 7
        assert all(torch.equal(value, weights[name]) for name, value in model.decoders["trump"].state_dict().items())
        assert main(command) == 1, "an existing model is not written over"
        assert "choose another name" in capsys.readouterr().err

    def test_people_who_were_not_visited_yet_are_no_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.write_reference(tmp_path / "pth")
        assert main(["import", str(tmp_path / "pth"), "--workspace", str(tmp_path)]) == 0
        make_people(tmp_path / "data", "cage", "trump")
        assert run(tmp_path, "-d", str(tmp_path / "data"), "--max-steps", "1") == 0
        out = capsys.readouterr().out
        assert out.count("not trained here yet") == 1
        assert out.count("smoothed L1 0.") == 1

    @pytest.mark.parametrize("name", ["Cage", "timelapse", "Team; B"])
    def test_names_that_a_model_cannot_hold(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.write_reference(tmp_path / "pth")
        (tmp_path / "pth" / "decodertrump.pth").rename(tmp_path / "pth" / f"decoder{name}.pth")
        assert main(["import", str(tmp_path / "pth"), "--workspace", str(tmp_path)]) == 1
        words = capsys.readouterr().err
        assert "cannot name a person" in words
        assert f"rename {tmp_path / 'pth'}/decoder" in words
        assert not (tmp_path / "output").exists()

    def test_a_folder_without_a_model(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["import", str(tmp_path), "--workspace", str(tmp_path / "w")]) == 1
        assert "encoder.pth" in capsys.readouterr().err


def test_people_chosen_train_and_the_others_keep_their_decoders(tmp_path: Path) -> None:
    """Someone who comes later learns alone, on an encoder that stays."""
    make_people(tmp_path / "data", "ann", "bob")
    data = ("-d", str(tmp_path / "data"))
    assert run(tmp_path, *data, "--max-steps", "4") == 0
    before = checkpoint.load(tmp_path / "output" / "model")
    make_people(tmp_path / "data", "eve", "mel")
    assert run(tmp_path, *data, "--people", "eve", "--fix-enc", "--max-steps", "2") == 0
    after = checkpoint.load(tmp_path / "output" / "model")
    assert sorted(after.decoders) == ["ann", "bob", "eve"]
    assert after.trained["eve"].samples == 6
    for person in ("ann", "bob"):
        assert after.trained[person] == before.trained[person]
        for name, weights in before.decoders[person].state_dict().items():
            assert torch.equal(weights, after.decoders[person].state_dict()[name])
    for name, weights in before.encoder.state_dict().items():
        assert torch.equal(weights, after.encoder.state_dict()[name])


@pytest.mark.parametrize(
    ("people", "code", "words"),
    [
        ("ann,zoe", 1, "no faces of 'zoe'"),
        (",", 2, "--people: name at least one"),
        ("../ann", 2, "person"),
    ],
)
def test_people_who_cannot_be_chosen(
    people: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_people(tmp_path / "data", "ann", "bob")
    assert run(tmp_path, "-d", str(tmp_path / "data"), "--people", people, "--max-steps", "1") == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "output").exists()


NAMES = ["Team: B", "state-000000004", "STATE-000000004", "Timelapse", "events", "onnx", "swap.png", "Ann", "u\u0308na"]


@pytest.mark.parametrize("name", NAMES)
def test_people_whose_files_would_meet_others_are_refused_first(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_people(tmp_path / "data", "ann", "\u00fcna", name, count=1)
    assert run(tmp_path, "-d", str(tmp_path / "data"), "--max-steps", "1") == 1
    (line,) = capsys.readouterr().err.splitlines()  # before faces are read
    assert line.startswith("error: ")
    assert "cannot name a person" in line
    assert f"rename the folder {tmp_path / 'data'}/" in line
    assert not list((tmp_path / "output").glob("model/*"))


def test_a_name_of_the_model_counts_too() -> None:
    check_people(["ann", "state-12", "Zo\u00eb K. 2"], ["ann", "bob"], "{}")
    with pytest.raises(WorkspaceError, match="'Bob' cannot name a person: 'bob' has the same"):
        check_people(["Bob"], ["ann", "bob"], "{}")


def test_damaged_lines_of_the_history_are_passed_over(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained / "output" / "model" / "history.jsonl"
    known = path.read_text(encoding="utf-8")
    damaged = [
        *['{"steps": null, "rate": 1.0, "loss": {}, "validation": {}}', "null", "[1]", "[" * 100_000, "{"],
        *['{"steps": 1, "rate": "x", "loss": {}, "validation": {}}', '{"steps": 1}'],
        *['{"steps": 1, "rate": NaN, "loss": {}, "validation": {}}'],
        *['{"steps": 1, "rate": null, "loss": {"hopper": null}, "validation": {}}'],
        *['{"steps": 1, "rate": null, "loss": [], "validation": {}}'],
    ]
    replace(path, "\n".join([*damaged[:5], known.strip(), "", *damaged[5:]]))
    assert run(trained, "--max-steps", "1") == 0
    assert f"skipped {len(damaged)} damaged lines of {path}" in capsys.readouterr().err
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["steps"] for row in rows][-1] == 4
    assert len(rows) == len(known.splitlines()) + 1


@pytest.mark.parametrize(
    "wrong",
    [
        *[
            ["--max-minutes", "inf"],
            ["--max-minutes", "nan"],
            ["--max-minutes", "1e300"],
            ["--lr", "nan"],
            ["--lr", "inf"],
        ],
        *[["--max-steps", "9" * 400], ["--seed", "9" * 40], ["-b", "9" * 30], ["--max-minutes", "-inf"]],
    ],
    ids=lambda wrong: " ".join(wrong)[:25],
)
def test_numbers_nobody_can_mean_are_wrong_usage(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *wrong, "--workspace", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --")


def test_how_it_went_is_kept_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdout, "MIN_FACES", 20)  # few faces, which take little time
    monkeypatch.setattr(holdout, "HELD_OUT_SHARE", 0.25)
    make_people(tmp_path / "data", "ann", "bob", count=24)
    for steps in ("4", "1"):
        assert run(tmp_path, "-d", str(tmp_path / "data"), "--max-steps", steps) == 0
        assert "validation L1 (faces not trained on): ann 0." in capsys.readouterr().out
    folder = tmp_path / "output" / "model"
    for name in ("loss.png", "swap.png", "timelapse.mp4", "history.jsonl"):
        assert (folder / name).stat().st_size > 100
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["steps"] for row in rows][-2:] == [4, 5]
    assert all(set(row["validation"]) == {"ann", "bob"} for row in rows[-2:])
    assert read_picture(folder / "swap.png").shape == (6 * 128, 8 * 128, 3)
    assert any((folder / "events").iterdir())


def test_faces_held_out_stay_so_when_others_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_people(tmp_path / "data", "ann", "bob", count=110)
    seen: list[dict[str, set[bytes]]] = []

    class Noting(Dataset):
        def __init__(self, faces: Faces, *more: Any, **options: Any) -> None:
            super().__init__(faces, *more, **options)
            seen.append(
                {
                    person: {crop.numpy().tobytes() for crop in faces.people[person][split.trained]}
                    for person, split in self.splits.items()
                }
            )

    monkeypatch.setattr("pipeline.train.Dataset", Noting)
    judged: dict[str, set[bytes]] = {}

    def note(model: checkpoint.Model, person: str, crops: torch.Tensor, device: torch.device) -> float:
        judged.setdefault(person, set()).update(crop.numpy().tobytes() for crop in crops)
        return 0.5

    monkeypatch.setattr("pipeline.training.evaluation.validation_l1", note)
    data = ["-d", str(tmp_path / "data"), "--interleave"]
    assert run(tmp_path, *data, "--max-steps", "1") == 0
    first = {person: set(crops) for person, crops in judged.items()}
    for number in range(0, 110, 4):
        for path in (tmp_path / "data" / "ann").glob(f"{number}.*"):
            path.unlink()
    assert run(tmp_path, *data, "--max-steps", "1") == 0
    assert judged == first, "no others"
    assert all(len(faces) >= 5 for faces in judged.values())
    assert not any(judged[person] & trained[person] for trained in seen for person in judged)
    shutil.rmtree(tmp_path / "data" / "ann")
    make_people(tmp_path / "data", "ann", count=1)
    held = checkpoint.load(tmp_path / "output" / "model").held_out
    assert held is not None
    (only,) = (tmp_path / "data" / "ann").iterdir()
    only.rename(only.with_stem(str(held.held["#"][0][0])))
    assert run(tmp_path, *data, "--max-steps", "1") == 1


@pytest.mark.parametrize("in_the_way", ["swap.png", "ann"])
def test_a_picture_that_cannot_be_written_does_not_end_training(
    in_the_way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_people(tmp_path / "data", "ann", "bob")
    folder = tmp_path / "output" / "model"
    if "." in in_the_way:
        (folder / in_the_way / "something").mkdir(parents=True)
    else:
        folder.mkdir(parents=True)
        (folder / in_the_way).write_text("in the way")
    assert run(tmp_path, "-d", str(tmp_path / "data"), "--max-steps", "1") == 0
    assert f"cannot write {folder / in_the_way}" in capsys.readouterr().err
    assert checkpoint.load(folder).steps == 1


def test_interleaved_everyone_learns_at_every_step(tmp_path: Path) -> None:
    make_people(tmp_path / "data", "ann", "bob", "cleo", count=4)
    assert run(tmp_path / "w", "-d", str(tmp_path / "data"), "--interleave", "--max-steps", "2", batch="6") == 0
    model = checkpoint.load(tmp_path / "w" / "output" / "model")
    assert {person: one.samples for person, one in model.trained.items()} == {"ann": 4, "bob": 4, "cleo": 4}


@pytest.mark.slow
def test_interleaved_it_goes_on_exactly_and_in_turns_too(tmp_path: Path) -> None:
    make_people(tmp_path / "data", "ann", "bob", count=8)
    data = ["-d", str(tmp_path / "data"), "--interleave"]
    assert run(tmp_path / "whole", *data, "--max-steps", "3", batch="4") == 0
    for steps in ("1", "2"):
        assert run(tmp_path / "parts", *data, "--max-steps", steps, batch="4") == 0
    whole, parts = (checkpoint.load(tmp_path / name / "output" / "model") for name in ("whole", "parts"))
    for one, other in ((whole.encoder, parts.encoder), (whole.decoders["ann"], parts.decoders["ann"])):
        assert all(torch.equal(p, other.state_dict()[name]) for name, p in one.state_dict().items())
    assert run(tmp_path / "parts", *data[:2], "--max-steps", "1", batch="4") == 0


def test_a_schedule_of_the_rate_needs_an_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_people(tmp_path / "data", "ann", "bob")
    data = ["-d", str(tmp_path / "data"), "--lr-schedule", "cosine"]
    assert run(tmp_path / "w", *data) == 2
    assert "--max-minutes or --max-steps" in capsys.readouterr().err
    assert run(tmp_path / "w", *data, "--max-steps", "2") == 0


def test_how_much_of_a_run_is_over_and_of_the_rate_left() -> None:
    both = TrainOptions(max_steps=200, max_minutes=10)
    assert [fraction_done(both, steps, seconds) for steps, seconds in ((0, 0), (50, 60), (50, 300), (400, 1))] == [
        0,
        0.25,
        0.5,
        1,
    ]
    assert fraction_done(TrainOptions(), 10**6, 10**6) == 0
    assert [cosine_factor(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert cosine_factor(0.1) > 0.97
