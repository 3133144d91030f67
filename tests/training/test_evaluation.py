"""How good a model is, by models that draw known portraits, and by made-up figures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from demo.clips import COLLINS, HOPPER, Portrait, read_portrait
from models.checkpoint import Model
from pipeline.faces.alignment import align, cut_crop
from pipeline.faces.detection import Detector, ImagePyramid
from pipeline.training.augment import Augmentation, draw_pairs
from pipeline.training.dataset import Dataset, Faces, picture_format
from pipeline.training.distributed import Processes
from pipeline.training.evaluation import Evaluation, Evaluator, Swap, in_words, verdict
from pipeline.training.sampler import generator

CPU = torch.device("cpu")
FACES = 101  # of which some are held out


class Draws(nn.Module):
    """A decoder that draws one picture, or what it is given, blurred if asked."""

    def __init__(self, picture: torch.Tensor | None = None, blur_px: int = 1) -> None:
        super().__init__()
        self._picture, self._blur_px = picture, blur_px

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return (N, 3, S, S)."""
        drawn = pictures if self._picture is None else self._picture.expand(len(pictures), -1, -1, -1)
        return functional.avg_pool2d(drawn, self._blur_px, 1, self._blur_px // 2, count_include_pad=False)


@pytest.fixture(scope="module")
def faces() -> dict[str, torch.Tensor]:
    """Many times the same crop of each, (N, 3, 256, 256)."""
    detector = Detector(min_face=40, min_confidence=0.95)

    def crop(portrait: Portrait) -> torch.Tensor:
        image = read_portrait(portrait)
        face = cut_crop(image, align(detector.detect([ImagePyramid(image)])[0][0].landmarks))
        return torch.from_numpy(face.transpose(2, 0, 1).copy()).expand(FACES, -1, -1, -1)

    return {"collins": crop(COLLINS), "hopper": crop(HOPPER)}


def evaluate(faces: dict[str, torch.Tensor], collins: nn.Module, hopper: nn.Module) -> Evaluation:
    """Evaluate a model with these decoders and an encoder that changes nothing."""
    model = Model(nn.Identity())
    for person, decoder in (("collins", collins), ("hopper", hopper)):
        model.add_person(person)
        model.decoders[person] = decoder
        model.trained[person].samples = 1
    files = {person: [f"clip_{i:06d}_0.jpg" for i in range(FACES)] for person in faces}
    dataset = Dataset(Faces(Path(), people=faces, files=files), model, CPU, Processes())
    assert set(dataset.validation_faces()) == {"collins", "hopper"}
    return Evaluator(dataset, CPU).evaluate(model, 3.0)


def as_seen(face: torch.Tensor) -> torch.Tensor:
    undistorted = Augmentation(0, 0, 0, 0, 0)
    return draw_pairs(face[None], undistorted, generator(0), picture_format(Model(nn.Identity()))).inputs


def test_a_swap_that_shows_the_other_is_clearly_the_other(faces: dict[str, torch.Tensor]) -> None:
    evaluation = evaluate(faces, *(Draws(as_seen(faces[person][0])) for person in ("collins", "hopper")))
    to_hopper, to_collins = evaluation.swaps
    assert (to_hopper.from_person, to_hopper.to_person) == ("collins", "hopper")
    assert (to_collins.from_person, to_collins.to_person) == ("hopper", "collins")
    for swap in evaluation.swaps:
        assert swap.distance_to < 0.3
        assert swap.distance_from > 0.6
        assert f"clearly {swap.to_person}" in str(swap)
    assert evaluation.validation["hopper"] == pytest.approx(0, abs=1e-6), "drawn by the own decoder"


def test_a_swap_that_shows_who_was_filmed_is_called_so(faces: dict[str, torch.Tensor]) -> None:
    for swap in evaluate(faces, Draws(), Draws()).swaps:
        assert swap.distance_from < 0.3
        assert swap.distance_to > 0.6
        assert not swap.is_good
        assert str(swap).startswith(
            f"{swap.from_person} as {swap.to_person}: still more like {swap.from_person} than {swap.to_person}, "
        )


def test_blurred_eyes_are_measured(faces: dict[str, torch.Tensor]) -> None:
    sharp, blurred = (evaluate(faces, Draws(blur_px=px), Draws(blur_px=px)).swaps[0].eyes for px in (1, 9))
    assert blurred < 0.5 * sharp
    assert sharp < 1, "the network has 64 px for 180"


@pytest.mark.parametrize(
    ("to", "of", "eyes", "words", "is_good"),
    [
        (0.30, 0.7, 0.85, "clearly B, sharp eyes", True),
        (0.45, 0.7, 0.65, "recognisably B, slightly soft eyes", True),
        (0.45, 0.7, 0.30, "recognisably B, blurred eyes", False),
        (0.55, 0.7, 0.50, "a little like B, soft eyes", False),
        (0.65, 0.7, 0.50, "not B yet, soft eyes", False),
        (0.45, 0.4, 0.50, "still more like A than B, soft eyes", False),
    ],
)
def test_figures_become_words(to: float, of: float, eyes: float, words: str, is_good: bool) -> None:
    swap = Swap("A", "B", to, of, eyes)
    assert str(swap) == f"A as B: {words}"
    assert swap.is_good == is_good


def evaluation_with(steps: int, value: float, to: float = 0.45) -> Evaluation:
    return Evaluation(steps, 20.0, {"A": value}, {"A": value}, [Swap("A", "B", to, 0.7, 0.5)])


def test_one_line_says_it_while_training_runs() -> None:
    assert in_words([]) == in_words([Evaluation(5, None, {"a": 0.1}, {})]) == ""
    assert in_words([evaluation_with(10, 0.2, 0.65)]) == "A as B: not B yet, soft eyes"
    rows = [evaluation_with(10, 0.2, 0.65), evaluation_with(20, 0.1)]
    assert in_words(rows) == "A as B: recognisably B, soft eyes; good enough to look at; still getting better"
    slowly = [evaluation_with(100 * number, 0.2 * 0.996**number) for number in range(1, 60)]
    assert len({in_words(slowly[:count]) for count in range(8, 60)}) == 1, "it does not go on and off"
    assert "still" not in in_words([*rows, evaluation_with(40, 0.11)])
    assert in_words([*rows, Evaluation(30, None, {"c": 0.1}, {})]) == "", "of another person, without held-out faces"


def test_the_verdict_names_everyone() -> None:
    assert verdict([]) == []
    assert verdict([Evaluation(5, None, {"a": 0.1}, {})]) == []
    (line,) = verdict([Evaluation(5, None, {}, {"b": 0.25, "a": 0.125})])
    assert line == "validation L1 (faces not trained on): a 0.1250, b 0.2500"
    assert verdict([evaluation_with(10, 0.2)])[1:] == [
        "  A as B: recognisably B, soft eyes (distance 0.45 to B, 0.70 to A; eyes 50 % as sharp as filmed)",
        "good enough to look at",
    ]


def test_it_says_when_it_no_longer_gets_better() -> None:
    def judged(steps: int, value: float) -> Evaluation:
        return Evaluation(steps, 20.0, {}, {"ann": value})

    falling = [judged(100 * number, 1 / number) for number in range(1, 13)]
    assert verdict(falling)[1:] == ["still getting better"]
    flat = [*falling[:5], *(judged(100 * number, 0.2) for number in range(6, 13))]
    assert "no improvement since step 500" in verdict(flat)[1]
    assert "no improvement" not in str(verdict(flat[:7])), "too early to say"


def test_it_is_stored_as_text_and_read_again() -> None:
    evaluation = evaluation_with(10, 0.2)
    assert Evaluation.of(json.loads(json.dumps(asdict(evaluation)))) == evaluation
    before_swaps_were_measured = {"steps": 4, "rate": None, "loss": {}, "validation": {"A": 0.5}}
    assert Evaluation.of(before_swaps_were_measured).swaps == []
    swap = asdict(evaluation)["swaps"][0]
    wrong: list[Any] = [
        {"steps": -1, "rate": None, "loss": {}, "validation": {}},
        {"steps": 4, "rate": None, "loss": {}, "validation": {"A": np.nan}},
        {**asdict(evaluation), "swaps": [{**swap, "eyes": "sharp"}]},
        {**asdict(evaluation), "swaps": 3},
        {**asdict(evaluation), "swaps": [{**swap, "to_person": 3}]},
        ["steps"],
    ]
    for row in wrong:
        with pytest.raises((ValueError, TypeError)):
            Evaluation.of(row)
