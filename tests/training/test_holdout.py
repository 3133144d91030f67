"""Which faces judge: a few, apart from those trained on, and the same for good, whatever becomes of the folders."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint import HeldOut
from pipeline.training.holdout import GAP, MIN_FACES, Origin, split_faces

PEOPLE = ("ann", "bob")


def crops(video: str, frames: int, track: int = 1, every: int = 1) -> list[str]:
    return [f"{video}_{frame:06d}_{track}.jpg" for frame in range(0, frames * every, every)]


KINDS = {
    "crops": crops("clip", 400),
    "every tenth": crops("b_2", 150, every=10),
    "two tracks": sorted(crops("duo", 90, track=1) + crops("duo", 90, track=2)),
    "numbered": [f"IMG_{number}.png" for number in range(980, 1130)],
    "times": [f"{1_694_421_234_567 + 10_000 * number}.jpg" for number in range(120)],
    "plain": [f"{chr(97 + n % 26)}{chr(97 + n // 26)} smiles.webp" for n in range(130)],
}


def assert_apart(names: list[str], trained: list[int], held: list[int]) -> None:
    """No face judged by is a neighbour of one trained on, in frames or in order."""
    order = sorted(range(len(names)), key=lambda i: Origin.of(names[i]))
    place = {i: rank for rank, i in enumerate(order)}
    among = set(trained)
    for one in held:
        near = [i for i in order[max(0, place[one] - GAP) : place[one] + GAP + 1] if i in among]
        mine = Origin.of(names[one])
        assert not [i for i in near if Origin.of(names[i]).video == mine.video]
        others = (Origin.of(names[i]) for i in trained)
        assert all(abs(other.frame - mine.frame) > GAP for other in others if other.video == mine.video)


@pytest.mark.parametrize("kind", KINDS)
def test_five_percent_are_held_out_apart_from_the_others(kind: str) -> None:
    names = KINDS[kind]
    split = split_faces({"ann": names}, HeldOut())[0]["ann"]
    trained, held = split.trained.tolist(), split.held.tolist()
    assert len(held) == round(0.05 * len(names))
    assert len(trained) >= 0.8 * len(names)
    assert not set(trained) & set(held)
    assert_apart(names, trained, held)


def test_none_are_held_out_of_few() -> None:
    split = split_faces({"ann": crops("a", MIN_FACES - 1), "bob": crops("b", 1), "eve": []}, HeldOut())[0]
    assert [(len(part.trained), len(part.held)) for part in split.values()] == [(99, 0), (1, 0), (0, 0)]


def test_many_are_judged_at_several_moments() -> None:
    held = split_faces({"ann": crops("a", 4000)}, HeldOut())[0]["ann"].held
    assert len(held) == 200
    assert int((held.diff() > 1).sum()) == 3


def test_two_people_of_one_video_do_not_take_each_others_faces() -> None:
    parts, _ = split_faces({"ann": crops("a", 200, track=1), "bob": crops("a", 50, track=2)}, HeldOut())
    assert (len(parts["ann"].held), len(parts["bob"].trained)) == (10, 50)


def test_who_comes_later_is_judged_too() -> None:
    """By moments the model has not seen; and more of them once a new video brings more faces."""
    _, memory = split_faces({"ann": crops("a", 200)}, HeldOut())
    parts, memory = split_faces({"ann": crops("a", 200), "bob": crops("b", 200)}, memory)
    assert (len(parts["ann"].held), len(parts["bob"].held)) == (10, 10)
    parts, _ = split_faces({"ann": [*crops("a", 200), *crops("c", 400)], "bob": crops("b", 200)}, memory)
    assert (len(parts["ann"].held), len(parts["bob"].held)) == (30, 10)


def test_a_person_renamed_is_judged_by_the_same_faces() -> None:
    before, memory = split_faces({"clip-2": crops("clip", 300)}, HeldOut())
    after, _ = split_faces({"bob": crops("clip", 300)}, memory)
    assert after["bob"].held.tolist() == before["clip-2"].held.tolist()


def test_a_model_from_before_this_was_written_down_is_judged_by_new_faces_alone() -> None:
    names = {"ann": crops("a", 300), "bob": crops("b", 300)}
    parts, memory = split_faces(names, None, seen=["ann"])
    assert (len(parts["ann"].held), len(parts["ann"].trained), len(parts["bob"].held)) == (0, 300, 15)
    parts, _ = split_faces({"ann": names["ann"] + crops("new", 300)}, memory)
    assert min(parts["ann"].held.tolist()) >= 300


Change = tuple[str, str, int, float]  # what is done, with what, seed, with how many
changes = st.tuples(
    st.sampled_from(["add", "delete", "move"]), st.sampled_from(sorted(KINDS)), st.integers(0, 99), st.floats(0.1, 1)
)


@settings(deadline=None, max_examples=25)
@given(st.lists(changes, min_size=2, max_size=8))
def test_whatever_becomes_of_the_crops_none_is_both_trained_on_and_judged_by(course: list[Change]) -> None:
    people: dict[str, set[str]] = {"ann": set(KINDS["crops"]), "bob": set(KINDS["numbered"])}
    trained_ever: set[str] = set()
    held_ever: set[str] = set()
    memory = HeldOut()
    for what, kind, seed, part in [("add", "crops", 0, 0.0), *course]:
        random_ = random.Random(seed)
        chosen = {name for name in KINDS[kind] if random_.random() < part}
        one, other = random_.sample(PEOPLE, 2)
        moved = people[other] & chosen
        if what == "add":
            people[one] |= chosen - people[other]
        else:
            people[one] -= chosen
        if what == "move":
            people[other] -= moved
            people[one] |= moved
        names = {person: sorted(own) for person, own in people.items()}
        parts, memory = split_faces(names, memory)
        for person, split in parts.items():
            trained, held = split.trained.tolist(), split.held.tolist()
            assert_apart(names[person], trained, held)
            trained_ever |= {names[person][i] for i in trained}
            held_ever |= {names[person][i] for i in held}
        assert not trained_ever & held_ever
