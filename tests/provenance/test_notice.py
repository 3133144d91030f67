"""The notice in words."""

from pathlib import Path

import av
import numpy as np
import PIL.Image

from pipeline.provenance.credentials import NOTICE, Disclosure, comment_gif

CLAIM = Disclosure("portraits", {})


def test_the_originals_words_are_kept_behind_it() -> None:
    words = CLAIM.comment("a day at the lake")
    assert words.startswith(NOTICE)
    assert "portraits" in words
    assert words.endswith(" | a day at the lake")
    assert not CLAIM.comment().endswith(" | ")


def test_an_earlier_notice_is_replaced() -> None:
    once = CLAIM.comment("a day at the lake")
    assert Disclosure("other", {}).comment(once).count(NOTICE) == 1
    assert CLAIM.comment(once) == once
    assert CLAIM.comment(CLAIM.comment()) == CLAIM.comment()


def test_people_are_named_only_where_they_are_to_be() -> None:
    assert "hopper to collins" in Disclosure("portraits", {"hopper": "collins"}).comment()
    assert "hopper" not in CLAIM.comment()


def test_a_gif_with_it_shows_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [PIL.Image.fromarray(np.full((20, 30), shade, np.uint8)) for shade in (10, 90, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    before = [frame.to_ndarray(format="rgb24") for frame in av.open(str(path)).decode(video=0)]
    words = CLAIM.comment("long " * 100)
    comment_gif(path, words)
    with PIL.Image.open(path) as opened:
        assert opened.info["comment"].decode() == words
    after = [frame.to_ndarray(format="rgb24") for frame in av.open(str(path)).decode(video=0)]
    np.testing.assert_array_equal(np.stack(before), np.stack(after))
