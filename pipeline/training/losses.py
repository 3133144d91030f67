"""How far drawn faces are from what they should be; whole batches at once.

Convention: pictures are (N, 3, H, W) float32 in [0, 1].
"""

from collections.abc import Callable

import torch
from torch.nn import functional

WINDOW_PX = 7  # side of the squares whose structure is compared
C1, C2 = 0.01**2, 0.03**2  # of the paper, for pictures in [0, 1]
STRUCTURE = 0.25  # weight of what SSIM finds missing, beside L1


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""How far drawn faces are from what they should be, a number."""


def l1(made: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, a number."""
    return functional.l1_loss(made, targets)


def l1_and_ssim(made: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, and a part of how much structure is missing (as Zhao et al. 2017, arXiv:1511.08861)."""
    return l1(made, targets) + STRUCTURE * (1 - ssim(made, targets).mean())


def ssim(made: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Structural similarity over squares of 7 px (Wang et al. 2004, doi:10.1109/TIP.2003.819861, eq. 13); (N,).

    Means, variances and covariance are of all px of a square alike; the edge, where squares are cut, is left out.
    """
    many = WINDOW_PX**2
    both = torch.cat([made, targets, made * made, targets * targets, made * targets])
    m, t, mm, tt, mt = functional.avg_pool2d(both, WINDOW_PX, stride=1).chunk(5)
    unbiased = many / (many - 1)
    spread = unbiased * (mm - m * m + tt - t * t)
    common = unbiased * (mt - m * t)
    likeness = (2 * m * t + C1) * (2 * common + C2) / ((m * m + t * t + C1) * (spread + C2))
    return likeness.mean(dim=(1, 2, 3))


LOSSES: dict[str, Loss] = {"l1": l1, "l1+ssim": l1_and_ssim}
