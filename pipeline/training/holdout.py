"""Which faces of a person are kept from training, to judge by how it goes."""

import torch

HELD = 0.05  # of a person's faces
FEWEST = 100  # faces: of fewer none can be spared
BLOCK = 25  # faces held that make another block
MOST_BLOCKS = 4
GAP = 5  # faces on either side of a block that are neither trained on nor judged by: they look like both


def hold_out(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Part faces, which are in the order of time, so that no face judged by is a neighbour of one trained on.

    Args:
        count: number of faces.

    Returns:
        Places trained on, and places held out; int64, rising. None are held out of few.
    """
    everything = torch.arange(count)
    if count < FEWEST:
        return everything, everything[:0]
    blocks = min(max(int(count * HELD) // BLOCK, 1), MOST_BLOCKS)
    length = round(count * HELD / blocks)
    held, spared = torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    for block in range(blocks):
        start = round((block + 0.5) / blocks * count - length / 2)
        held[start : start + length] = True
        spared[max(0, start - GAP) : start + length + GAP] = True
    return everything[~spared], everything[held]
