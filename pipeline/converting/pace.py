"""How long segments are made: so short that a stop costs some seconds of work, on whatever machine this is."""

import time

SEGMENT_S = 3.0  # of work: with what is still being drawn and encoded, a stop costs at most some five
FIRST, FIRST_PIXELS = 24, 50_000_000  # frames of the first segment, and px of them together
SHORTEST, LONGEST = 12, 250  # frames; each begins with a key frame, and encoders set one every 250 anyway


class Pace:
    """Lengths of consecutive segments: the first is short, each next at most twice as long, up to some seconds of work.

    Args:
        pixels: of a frame.
    """

    def __init__(self, pixels: int) -> None:
        self._length = _within(min(FIRST, FIRST_PIXELS // pixels))
        self._began, self._done = time.monotonic(), 0

    def advance(self, frames: int = 1) -> None:
        """Count frames as done."""
        self._done += frames

    def next_length(self, left: int) -> int:
        """Say how many frames the next segment has, of those that are left."""
        length = self._length
        rate = self._done / max(time.monotonic() - self._began, 1e-3)  # from the very beginning: rather too low
        self._length = _within(min(2 * length, round(rate * SEGMENT_S))) if self._done else length
        return left if left < length + SHORTEST else length


def _within(frames: int) -> int:
    return max(SHORTEST, min(LONGEST, frames))
