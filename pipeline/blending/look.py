"""How a new face is put into the picture: what a person may choose."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Look:
    """Choices of how new faces look.

    Attributes:
        mask: shape of what shows of the new face: ``outline``, ``mesh``, ``ellipse`` or ``box``.
        erode: by how much it is smaller, in percent of the face's height.
        feather: width of its soft edge, in percent of the face's height.
        color: how the new face takes the colours of the old one: ``none``, ``mean``, ``reinhard`` or ``lab-hist``.
        sharpen: how much of its fine detail is added once more.
        match_grain: whether it gets as soft, and as noisy, as the picture it comes into.
        blend: ``feather`` fades the new face into the old, ``poisson`` also bends its brightness to fit at the edge.
        opacity: how much of the new face shows, 0 to 1.
        scale: how large the new face is, 1 for as large as the old.
    """

    mask: str = "outline"
    erode: float = 0.0
    feather: float = 14.0
    color: str = "reinhard"
    sharpen: float = 0.0
    match_grain: bool = False
    blend: str = "feather"
    opacity: float = 1.0
    scale: float = 1.0


PLAIN = Look()
"""What nobody has chosen otherwise."""


@dataclass(frozen=True)
class Shown:
    """What a result shows.

    Attributes:
        kind: ``result``, ``mask`` (where faces are new) or ``beside`` (original and result).
        label: a notice written into the result; empty where none is.
    """

    kind: Literal["result", "mask", "beside"] = "result"
    label: str = ""


RESULT = Shown()
