"""How good a model is: measured on faces it was not trained on, and said in words.

Convention: pictures are (N, 3, S, S) float32 in [0, 1]; crops are (256, 256, 3) BGR uint8.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, cast

import cv2
import numpy as np
import torch

from models.checkpoint import Model
from pipeline.faces.alignment import SEEN, SEEN_PX, as_crop
from pipeline.faces.identity import distance, embed
from pipeline.faces.measures import spread_evenly
from pipeline.training.augment import Augmentation, draw_pairs, weight_map
from pipeline.training.dataset import Dataset, picture_format
from pipeline.training.sampler import generator
from pipeline.types import Embedding, Image

VALIDATION_BATCH = 32
MIN_EVALUATIONS = 8  # before training can be called stale
BETTER = 0.99  # a value below this many times the best so far counts as better
STALE = 1 / 3  # of all steps; training without a better value for longer is stale

PEOPLE_SWAPPED = 4  # of whom swaps are measured: each costs some embeddings, a tenth of a second each
SWAPPED_FACES, MIN_SWAPPED_FACES = 24, 3  # in all, unless that would be fewer than these of each swap
REFERENCES = 12  # faces that say who a person is
EYES_WEIGHT = 2.2  # of the loss: where it is higher, a crop shows the eyes

# words by what sheets of models looked like (docs/quality.md); dlib itself calls faces nearer than 0.6 one person
LIKENESS = ((0.40, "clearly"), (0.50, "recognisably"), (0.60, "a little like"))
SHARPNESS = ((0.80, "sharp eyes"), (0.60, "slightly soft eyes"), (0.45, "soft eyes"))
GOOD_LIKENESS, GOOD_SHARPNESS = 0.50, 0.45  # of a swap that is good enough to look at


@dataclass(frozen=True)
class Swap:
    """Measures of one person's held-out faces, drawn as another person.

    Attributes:
        distance_to: mean distance of embeddings to the person drawn in.
        distance_from: the same to the person filmed.
        eyes: gradients in the eyes, as a multiple of the original's.
    """

    from_person: str
    to_person: str
    distance_to: float
    distance_from: float
    eyes: float

    @property
    def is_good(self) -> bool:
        """Whether it is worth looking at."""
        is_alike = self.distance_to <= min(GOOD_LIKENESS, self.distance_from)
        return is_alike and self.eyes >= GOOD_SHARPNESS

    def __str__(self) -> str:
        person = self.to_person
        likeness = next(
            (f"{words} {person}" for limit, words in LIKENESS if self.distance_to <= limit), f"not {person} yet"
        )
        if self.distance_from < self.distance_to:
            likeness = f"still more like {self.from_person} than {person}"
        eyes = next((words for limit, words in SHARPNESS if self.eyes >= limit), "blurred eyes")
        return f"{self.from_person} as {person}: {likeness}, {eyes}"


@dataclass(frozen=True)
class Evaluation:
    """Measurements at a save.

    Attributes:
        steps: taken so far.
        rate: samples per second; None if not measured yet.
        loss: smoothed L1 of training, by person.
        validation: L1 of held-out faces, undistorted, by person; people without are left out.
        swaps: of held-out faces.
    """

    steps: int
    rate: float | None
    loss: dict[str, float]
    validation: dict[str, float]
    swaps: list[Swap] = field(default_factory=list)

    @classmethod
    def of(cls, row: Any) -> "Evaluation":
        """Make one from what ``asdict`` made of it.

        Raises:
            ValueError, TypeError: it is not an evaluation.
        """
        swaps = [Swap(**swap) for swap in dict.get(row, "swaps", ())]
        evaluation = cls(**{**row, "swaps": swaps})
        measures = [number for swap in swaps for number in (swap.distance_to, swap.distance_from, swap.eyes)]
        losses = [*dict.values(evaluation.loss), *dict.values(evaluation.validation)]
        if not all(type(name) is str for swap in swaps for name in (swap.from_person, swap.to_person)):
            raise ValueError("not a name")
        for number in (*losses, *measures, evaluation.rate or 0, evaluation.steps):
            if type(number) not in (int, float) or not math.isfinite(number):
                raise ValueError(f"not a number: {number!r}")
        if type(evaluation.steps) is not int or evaluation.steps < 0:
            raise ValueError(f"not a number of steps: {evaluation.steps!r}")
        return evaluation


class Evaluator:
    """Measures a model on faces it was not trained on.

    Args:
        dataset: the faces.
        device: where to compute.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._dataset, self._device = dataset, device
        self._people: dict[str, Embedding] = {}  # as far as they were needed

    def evaluate(self, model: Model, rate: float | None) -> Evaluation:
        """Measure the progress of training; people that the model was not trained on yet are left out.

        Args:
            model: on the device.
            rate: samples per second.
        """
        losses = {person: training.loss for person, training in model.trained.items() if training.loss is not None}
        trained = [person for person in sorted(self._dataset.splits) if model.trained[person].samples]
        faces = {person: held for person, held in self._dataset.validation_faces().items() if person in trained}
        validation = {person: validation_l1(model, person, held, self._device) for person, held in faces.items()}
        chosen = sorted(trained, key=lambda person: person not in faces)[:PEOPLE_SWAPPED]
        pairs = [pair for pair in permutations(chosen, 2) if pair[0] in faces]
        count = max(SWAPPED_FACES // max(len(pairs), 1), MIN_SWAPPED_FACES)
        swaps = [
            self._measure_swap(model, pair, faces[pair[0]][spread_evenly(len(faces[pair[0]]), count)]) for pair in pairs
        ]
        return Evaluation(model.steps, rate, losses, validation, swaps)

    def _measure_swap(self, model: Model, pair: tuple[str, str], faces: torch.Tensor) -> Swap:
        from_person, to_person = pair
        with torch.inference_mode():
            drawn = draw(model, to_person, undistorted(model, faces, self._device)).float().cpu()
        pictures = (drawn.permute(0, 2, 3, 1).numpy().clip(0, 1) * 255).round().astype(np.uint8)
        side, how = (SEEN_PX, SEEN_PX), cv2.INTER_LANCZOS4
        crops = as_crops(faces)
        swapped = put_in(crops, [cast(Image, cv2.resize(picture, side, interpolation=how)) for picture in pictures])
        embeddings = [embed(crop) for crop in swapped]

        def mean_distance(person: str) -> float:
            return float(np.mean([distance(embedding, self._embedding(person)) for embedding in embeddings]))

        eyes = eye_sharpness(swapped) / max(eye_sharpness(crops), 1e-6)
        return Swap(from_person, to_person, mean_distance(to_person), mean_distance(from_person), eyes)

    def _embedding(self, person: str) -> Embedding:
        if person not in self._people:
            trained = self._dataset.splits[person].trained
            chosen = trained[spread_evenly(len(trained), REFERENCES)]
            crops = as_crops(self._dataset.faces.people[person][chosen])
            self._people[person] = np.mean([embed(crop) for crop in crops], axis=0)
        return self._people[person]


def validation_l1(model: Model, person: str, crops: torch.Tensor, device: torch.device) -> float:
    """Mean absolute error, in [0, 1], of a person's decoder on (N, 3, S, S) uint8 crops, undistorted; N >= 1."""
    errors = []
    with torch.inference_mode():
        for batch in torch.split(crops, VALIDATION_BATCH):
            pictures = undistorted(model, batch, device)
            drawn = draw(model, person, pictures)
            errors.append((drawn - pictures).abs().mean(dim=(1, 2, 3)))
    return float(torch.cat(errors).mean())


def draw(model: Model, person: str, pictures: torch.Tensor) -> torch.Tensor:
    """Draw (N, 3, S, S) faces with a person's decoder."""
    drawn: torch.Tensor = model.decoders[person](model.encoder(pictures))[:, :3]
    return drawn


def undistorted(model: Model, crops: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Crops as the model sees them, undistorted; (N, 3, S, S) float32 in [0, 1]."""
    return draw_pairs(crops.to(device), Augmentation(0, 0, 0, 0, 0), generator(0), picture_format(model)).inputs


def as_crops(faces: torch.Tensor) -> list[Image]:
    """Turn (N, 3, S, S) uint8 faces into crops."""
    return [as_crop(face) for face in faces.permute(0, 2, 3, 1).contiguous().numpy()]


def put_in(crops: Sequence[Image], pictures: Sequence[Image]) -> list[Image]:
    """Put pictures of 180 px where the model sees the crops."""
    whole = [crop.copy() for crop in crops]
    for crop, picture in zip(whole, pictures, strict=True):
        crop[SEEN, SEEN] = picture
    return whole


def eye_sharpness(crops: Sequence[Image]) -> float:
    """Mean gradient of the brightness in the eyes."""
    weights = weight_map()[0, 0].numpy()
    grey = np.stack([crop.mean(axis=2) for crop in crops])
    across, down = np.abs(np.diff(grey, axis=2))[:, 1:], np.abs(np.diff(grey, axis=1))[:, :, 1:]
    return float((across + down)[:, weights[1:, 1:] > EYES_WEIGHT].mean())


def verdict(evaluations: Sequence[Evaluation]) -> list[str]:
    """Say how good the latest evaluation is, with its figures, and whether training still helps."""
    validated = _validated(evaluations)
    if not validated:
        return []
    latest = validated[-1]
    values = ", ".join(f"{person} {value:.4f}" for person, value in sorted(latest.validation.items()))
    lines = [f"validation L1 (faces not trained on): {values}"]
    for swap in latest.swaps:
        lines.append(
            f"  {swap} (distance {swap.distance_to:.2f} to {swap.to_person}, {swap.distance_from:.2f} to "
            f"{swap.from_person}; eyes {100 * swap.eyes:.0f} % as sharp as filmed)"
        )
    return [*lines, *_advice(validated)]


def in_words(evaluations: Sequence[Evaluation]) -> str:
    """Say how good the latest evaluation is, in one line without figures; empty if nothing was held out."""
    validated = _validated(evaluations)
    if not validated or not validated[-1].swaps:
        return ""
    return "; ".join([*map(str, validated[-1].swaps), *_advice(validated)])


def best_swap(evaluations: Sequence[Evaluation]) -> Swap | None:
    """The swap of the latest evaluation that looks most like the person drawn in; None if none is worth a look."""
    good = [swap for evaluation in evaluations[-1:] for swap in evaluation.swaps if swap.is_good]
    return min(good, key=lambda swap: swap.distance_to, default=None)


def _validated(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Leave out evaluations in which nothing was held out; return none if that is so in the latest."""
    validated = [evaluation for evaluation in evaluations if evaluation.validation]
    return validated if validated and validated[-1] is evaluations[-1] else []


def _advice(validated: Sequence[Evaluation]) -> list[str]:
    """Say whether the latest is worth a look, and whether training still helps."""
    latest, lines = validated[-1], []
    if best_swap(validated):
        lines.append("good enough to look at")
    best, lowest = latest.steps, math.inf
    for evaluation in validated:
        mean = float(np.mean(list(evaluation.validation.values())))
        if mean < BETTER * lowest:
            best, lowest = evaluation.steps, mean
    if len(validated) >= MIN_EVALUATIONS and latest.steps - best > STALE * latest.steps:
        lines.append(f"no improvement since step {best}: more of the same training will hardly help")
    elif len(validated) > 1 and latest.steps - best <= STALE * latest.steps:
        lines.append("still getting better")
    return lines
