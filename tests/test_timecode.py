from fractions import Fraction

import pytest

from pipeline.errors import UsageError
from pipeline.options import Timecode, frame_at, parse_timecode

UNIT = Fraction(1, 1000)
PTS = [500, 540, 580, 700]  # the first frame is not at 0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0f", 0),
        ("250f", 250),
        ("12.5", Fraction(25, 2)),
        ("12.5s", Fraction(25, 2)),
        ("1:30", Fraction(90)),
        ("1:02:03.4", Fraction(37234, 10)),
        ("90", Fraction(90)),
    ],
)
def test_times_and_frames_are_read(text: str, moment: Timecode) -> None:
    assert parse_timecode(text, "--start") == moment
    assert isinstance(parse_timecode(text, "--start"), type(moment))


@pytest.mark.parametrize("text", ["", "f", "-1", "1.5f", "1:2:3:4", "1e5", "a", "٣", "12,5", "1" * 40, " 1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--start"):
        parse_timecode(text, "--start")


@pytest.mark.parametrize(
    ("moment", "place"),
    [(0, 0), (3, 3), (9, 4), (Fraction(0), 0), (Fraction(1, 1000), 1), (Fraction(4, 100), 1), (Fraction(41, 1000), 2),
     (Fraction(2, 10), 3), (Fraction(201, 1000), 4)],
)  # fmt: skip
def test_a_time_is_counted_from_the_first_frame(moment: Timecode, place: int) -> None:
    assert frame_at(moment, PTS, UNIT) == place
