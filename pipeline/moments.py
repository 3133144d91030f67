"""Places in a video as a person types them: a time, or the number of a frame."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from pipeline.errors import UsageError

Moment = int | Fraction
"""A frame's number, from 0, or seconds since the first frame."""


def parse_moment(text: str, option: str) -> Moment:
    """Read ``250f`` (a frame) or ``12.5``, ``1:30``, ``1:02:03.4`` (a time).

    Args:
        text: what was typed.
        option: what it was typed for.

    Raises:
        UsageError: it is neither.
    """
    if frame := re.fullmatch(r"(\d{1,12})f", text, re.ASCII):
        return int(frame[1])
    if time := re.fullmatch(r"(?:(?:(\d{1,4}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d{1,9})?)s?", text, re.ASCII):
        hours, minutes, seconds = (Fraction(part or 0) for part in time.groups())
        return hours * 3600 + minutes * 60 + seconds
    raise UsageError(f"{option} {text}: type a time (12.5 or 1:30 or 1:02:03.4) or a frame (250f)")


def place_of(moment: Moment, pts: Sequence[int], time_base: Fraction) -> int:
    """Return the number of the first frame at or after a moment; that of none behind the last.

    Args:
        moment: where.
        pts: timestamps of all frames, rising.
        time_base: seconds per unit of them.
    """
    if isinstance(moment, int):
        return min(moment, len(pts))
    return bisect_left(pts, pts[0] + ceil(moment / time_base))
