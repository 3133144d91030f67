"""Train the network that finds what is in front of faces: on faces with things drawn over them.

Nothing is labelled by hand: what was drawn is known, and everything else counts as face. Faces with something real in
front, as far as the network finds that, are left out, and the glasses of faces that wear real ones do not count.
"""

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from models.segmenter import OCCLUSION_PX, OcclusionNet, load_segmenter, save_segmenter
from pipeline.console import Console, Report, plural
from pipeline.converting.masks import face_mask
from pipeline.errors import NothingToDoError
from pipeline.faces.alignment import SEEN
from pipeline.faces.occlusions import OcclusionFinder, cut_seen
from pipeline.faces.people import is_unsure
from pipeline.options import Look, TrainOptions
from pipeline.runtime import StopRequest
from pipeline.training.dataset import FaceFormat, Faces, load_faces
from pipeline.training.occluders import Covered, occlude
from pipeline.types import Image
from pipeline.workspace import Workspace, list_people, locked_model

DEFAULT_MINUTES = 5.0
LEARNING_RATE = 1e-3  # of a network that has learned before: half of what it began with
JUDGED_PICTURES, TESTED_SHARE, MIN_FACES = 200, 0.1, 20
BATCH = 16
WARM_UP = 100  # steps in which the learning rate rises
OUTSIDE_WEIGHT = 0.1  # of errors outside the face
DICE_WEIGHT = 0.3
MEASURED_AT_ONCE = 50
WEARER_PX = 60  # of glasses, in the face of somebody who wears some
UNSURE_WEIGHT = 0.1  # of glasses that a face may have, while it is not known who wears some


def learn_occlusions(options: TrainOptions, console: Console) -> Report:
    """Train the network on the people of a workspace, and save it with their model if it got better.

    Raises:
        NothingToDoError: there are too few faces without anything in front.
        CheckpointError: the network cannot be loaded or saved.
        WorkspaceError: the model is being trained by another run.
    """
    workspace = Workspace(options.workspace)
    folder = workspace.model(options.model_name)
    network, data_dir = load_segmenter(folder), options.data_dir or workspace.data
    finder = OcclusionFinder(network, torch.device("cpu"))
    people = options.chosen() or [person for person in list_people(data_dir) if not is_unsure(person)]
    faces = load_faces(data_dir, console, workspace.root / "spill", people, FaceFormat(finder=finder))
    trained, tested = _bare_crops(faces)
    with StopRequest() as stop, locked_model(folder):
        trial = Trial(tested, JUDGED_PICTURES)
        before = trial.measure(network)
        torch.manual_seed(options.seed)
        trainer, steps = SegmenterTrainer(network, trained, LEARNING_RATE, options.seed), 0
        trainer.wearers = find_wearers(network, trained)
        began = time.monotonic()
        with console.bar("learn what is in front", None, "face") as bar:
            while not stop.requested and (done := _share_done(options, steps, time.monotonic() - began)) < 1:
                trainer.step(done)
                steps += 1
                bar.expect(round(BATCH * steps / max(done, 1e-3)))
                bar.advance(BATCH)
        after = trial.measure(network)
        saved = save_segmenter(folder, network) if after.face > before.face else None
    words = f"saved in {saved}; convert and train use it" if saved else "not better: the network of before stays"
    count = plural(len(trained), "face")
    lines = [f"learned on {count}, {steps} steps", f"before: {before}", f"now: {after}", words]
    return Report(lines, facts={"steps": steps, "before": before, "after": after, "saved": saved})


def _share_done(options: TrainOptions, steps: int, seconds: float) -> float:
    """Which part of the training is done, by the first limit to be reached."""
    minutes = options.max_minutes or (None if options.max_steps else DEFAULT_MINUTES)
    return max(seconds / 60 / minutes if minutes else 0, steps / options.max_steps if options.max_steps else 0)


def _bare_crops(faces: Faces) -> tuple[list[Image], list[Image]]:
    """Choose the crops with nothing in front of the face: to train on, and later ones to judge by.

    Raises:
        NothingToDoError: there are too few.
    """
    trained, tested = list[Image](), list[Image]()
    for person, crops in faces.people.items():
        bare = [index for index in range(len(crops)) if index not in faces.covered[person]]
        images = [np.ascontiguousarray(crops[index].permute(1, 2, 0).numpy()) for index in bare]
        first_tested = round((1 - TESTED_SHARE) * len(images))
        trained += images[:first_tested]
        tested += images[first_tested:]
    if len(trained) < MIN_FACES or not tested:
        count = len(trained) + len(tested)
        raise NothingToDoError(
            f"{faces.folder} has only {plural(count, 'face')} with nothing in front, which are too few to learn from: "
            f"{2 * MIN_FACES} will do"
        )
    return trained, tested


class Drawn(NamedTuple):
    """Pictures to learn from.

    Attributes:
        pictures: (N, 3, 128, 128) in [0, 1].
        masks: (N, 2, 128, 128), where things and glasses are.
        knows_glasses: (N,), how sure it is that there are no other glasses than those in the masks.
    """

    pictures: torch.Tensor
    masks: torch.Tensor
    knows_glasses: torch.Tensor


def draw_batch(
    crops: Sequence[Image], rng: np.random.Generator, count: int, wearers: Container[int] | None = ()
) -> Drawn:
    """Draw pictures; ``wearers`` are the indices of faces with real glasses, None if that is not known."""
    drawn, known = list[Covered](), list[float]()
    for index in rng.integers(len(crops), size=count):
        has_glasses = wearers is not None and index in wearers
        drawn.append(occlude(crops[index], crops, rng, has_glasses=has_glasses))
        if wearers is not None:
            known.append(float(not has_glasses))
        else:  # drawn ones cover real ones, if there are any
            known.append(1.0 if drawn[-1].glasses.max() > 0.5 else UNSURE_WEIGHT)
    pictures = torch.from_numpy(np.stack([face.picture for face in drawn])).permute(0, 3, 1, 2).float() / 255
    masks = torch.from_numpy(np.stack([np.stack([face.things, face.glasses]) for face in drawn]))
    return Drawn(pictures, masks, torch.tensor(known))


def find_wearers(network: OcclusionNet, crops: Sequence[Image]) -> frozenset[int]:
    """Find the faces that wear real glasses, by their indices."""
    finder, found = OcclusionFinder(network, torch.device("cpu")), set[int]()
    for start in range(0, len(crops), MEASURED_AT_ONCE):
        probabilities = finder.probabilities(cut_seen(crops[start : start + MEASURED_AT_ONCE]))
        areas = (probabilities[:, 1] > 0.5).sum(axis=(1, 2))
        found.update((start + np.flatnonzero(areas >= WEARER_PX)).tolist())
    network.train()
    return frozenset(found)


def face_weights() -> torch.Tensor:
    """How much errors count, (1, 1, 128, 128): most in the face and a little around it."""
    wide = face_mask(Look(mask="outline", erode=-10, feather=5))[SEEN, SEEN]
    small = cv2.resize(wide, (OCCLUSION_PX, OCCLUSION_PX), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * small)[None, None].float()


class SegmenterTrainer:
    """Trains the network on aligned faces, (256, 256, 3) BGR uint8, with a rate that rises and then falls to zero.

    Attributes:
        wearers: indices of the faces with real glasses; None while that is not known.
    """

    wearers: Container[int] | None = None

    def __init__(self, network: OcclusionNet, crops: Sequence[Image], learning_rate: float, seed: int = 2) -> None:
        self.network, self._crops, self._learning_rate = network.train(), crops, learning_rate
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-3)
        self._rng, self._weights, self._steps = np.random.default_rng(seed), face_weights(), 0

    def step(self, done: float) -> float:
        """Take a step, with this part of the training done; return the loss."""
        self._steps += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * min(1, self._steps / WARM_UP) * 0.5 * (1 + np.cos(np.pi * done))
        drawn = draw_batch(self._crops, self._rng, BATCH, self.wearers)
        loss = error(self.network(drawn.pictures), drawn, self._weights)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()


def error(logits: torch.Tensor, drawn: Drawn, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and the overlap that is missing (Dice), of things and of glasses."""
    counts = torch.stack([torch.ones_like(drawn.knows_glasses), drawn.knows_glasses], dim=1)
    weights = weights * counts[:, :, None, None]
    entropy = functional.binary_cross_entropy_with_logits(logits, drawn.masks, reduction="none")
    found = torch.sigmoid(logits)
    overlap = 2 * (weights * found * drawn.masks).sum(dim=(0, 2, 3)) + 1
    dice = 1 - overlap / ((weights * (found + drawn.masks)).sum(dim=(0, 2, 3)) + 1)
    total: torch.Tensor = 2 * (entropy * weights).mean() / weights.mean() + DICE_WEIGHT * dice.sum()
    return total


@dataclass(frozen=True)
class Found:
    """How well a network finds what was drawn over faces: overlaps (IoU) in the face, and its errors on bare faces.

    Attributes:
        face: of the part of the face that is not covered.
        things: of what covers it.
        glasses: of drawn glasses.
        wrong: share of the px of faces with nothing in front that are marked.
    """

    face: float
    things: float
    glasses: float
    wrong: float

    def __str__(self) -> str:
        return (
            f"overlap with the face {self.face:.3f}, with what covers it {self.things:.3f}, "
            f"with glasses {self.glasses:.3f}; "
            f"{100 * self.wrong:.2f} % marked of faces with nothing in front"
        )


class Trial:
    """Pictures drawn of faces that are not trained on, the same each time."""

    def __init__(self, crops: Sequence[Image], count: int) -> None:
        self._drawn = draw_batch(crops, np.random.default_rng(1), count)
        self._inside = face_weights() > 0.5

    def measure(self, network: OcclusionNet) -> Found:
        """Measure a network, which is left in training mode."""
        network.eval()
        with torch.inference_mode():
            found = torch.cat([network(part) for part in torch.split(self._drawn.pictures, MEASURED_AT_ONCE)]) > 0
        network.train()
        masks, found, glasses = self._drawn.masks[:, :1], found[:, :1], found[:, 1:]
        inside, covered, worn = self._inside.expand_as(found), masks > 0.5, self._drawn.masks[:, 1:] > 0.5
        bare, wears = masks.amax(dim=(1, 2, 3)) == 0, worn.any(dim=3).any(dim=2).any(dim=1)
        return Found(
            face=_overlap(~found & inside, ~covered & inside),
            things=_overlap(found & inside, covered & inside),
            glasses=_overlap((glasses & inside)[wears], (worn & inside)[wears]),
            wrong=(found[bare] & inside[bare]).sum().item() / max(inside[bare].sum().item(), 1),
        )


def _overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    """Intersection over union of all pictures together; 1 if both are empty."""
    union = (first | second).sum().item()
    return (first & second).sum().item() / union if union else 1.0
