"""One of several processes that take steps together; prints their losses. Run by test_distributed through torchrun."""

import json
import sys

import torch

from models.autoencoder import Encoder
from models.checkpoint import Model
from pipeline.training.augment import Augmentation, draw_transforms, make_pairs
from pipeline.training.dataset import Batch
from pipeline.training.distributed import join_processes
from pipeline.training.trainer import Computing, Trainer

LR = 5e-5  # the default; larger ones let rounding grow
PEOPLE = ("hopper", "collins")


def losses(steps: int, batch: int) -> list[float]:
    """Take steps on pictures that are the same in every run, and return their losses."""
    with join_processes(no_cuda=True) as (processes, device):
        torch.manual_seed(3)
        model = Model(Encoder(8, 64))
        for person in PEOPLE:
            model.add_person(person)
        trainer = Trainer(model, LR, False, Computing(device, processes=processes))
        found = []
        for number in range(steps):
            rng = torch.Generator().manual_seed(number)
            coarse = torch.rand(batch, 3, 8, 8, generator=rng)
            crops = torch.nn.functional.interpolate(coarse, size=256, mode="bilinear").mul(255).byte()
            turn, grid = draw_transforms(batch, Augmentation(), rng)
            mine = processes.share(batch)
            share = (mine.stop - mine.start) / batch
            pairs = make_pairs(crops[mine], (turn[mine], grid[mine]))
            people = PEOPLE if number == 7 else [PEOPLE[number // 3 % 2]]
            trainer.step(Batch(dict.fromkeys(people, pairs), batch, share))
            found.append(trainer.read_losses() or 0.0)
        return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(losses(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
