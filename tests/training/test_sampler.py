"""The order of training: everyone in turn, every face once a pass, and going on from any place."""

from collections import Counter
from itertools import groupby, islice, takewhile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint import Position
from pipeline.training.sampler import Sampler, Selection, generator

START = Position()
FIVE = dict.fromkeys(["ann", "bob", "cleo", "dora", "émile"], 3)


def samplers_of(largest_batch: int, *, interleave: bool) -> st.SearchStrategy[Sampler]:
    return st.builds(
        Sampler,
        st.dictionaries(st.sampled_from(sorted(FIVE)), st.integers(1, 7), min_size=2, max_size=4),
        batch_size=st.integers(1, largest_batch),
        inner_loop=st.integers(1, 3),
        seed=st.integers(0, 2**40),
        interleave=st.just(interleave),
    )


samplers, interleaved = samplers_of(4, interleave=False), samplers_of(9, interleave=True)


def epochs(sampler: Sampler, count: int, start: Position = START) -> list[Selection]:
    return list(takewhile(lambda batch: batch.position.epoch < count, sampler.selections(start)))


def facts(batches: list[Selection]) -> list[tuple[object, ...]]:
    return [({who: own.tolist() for who, own in b.faces.items()}, b.position, b.next_position) for b in batches]


def person_of(batch: Selection) -> str:
    (person,) = batch.faces
    return person


def samples(batch: Selection) -> int:
    return sum(map(len, batch.faces.values()))


def ends_epoch(batch: Selection) -> bool:
    return batch.next_position.epoch > batch.position.epoch


def faces_of(batch: Selection) -> torch.Tensor:
    """The faces of a batch, of all people one behind the other."""
    return torch.cat(list(batch.faces.values()))


@settings(deadline=None)
@given(samplers)
def test_every_pass_shows_every_face_of_a_person_once(sampler: Sampler) -> None:
    for (epoch, visit, inner), group in groupby(
        epochs(sampler, 2), key=lambda batch: (batch.position.epoch, batch.position.visit, batch.position.inner)
    ):
        batches = list(group)
        (person,) = {person_of(batch) for batch in batches}
        assert person == sampler.order(epoch)[visit]
        assert inner < sampler.inner_loop
        assert [batch.position.batch for batch in batches] == list(range(len(batches)))
        assert sorted(torch.cat([faces_of(batch) for batch in batches]).tolist()) == list(
            range(sampler.face_counts[person])
        )
        assert all(samples(batch) == sampler.batch_size for batch in batches[:-1])
        assert 1 <= samples(batches[-1]) <= sampler.batch_size


@settings(deadline=None)
@given(samplers)
def test_an_epoch_visits_everyone_for_all_passes(sampler: Sampler) -> None:
    first, second = ([batch for batch in epochs(sampler, 2) if batch.position.epoch == epoch] for epoch in range(2))
    for batches in (first, second):
        drawn: Counter[str] = Counter()
        for batch in batches:
            drawn[person_of(batch)] += samples(batch)
        assert drawn == {person: count * sampler.inner_loop for person, count in sampler.face_counts.items()}
        assert drawn.total() == sampler.samples_per_epoch
        visits = [person for person, _ in groupby(map(person_of, batches))]
        assert sorted(visits) == sorted(sampler.face_counts), "one visit each"
        assert [ends_epoch(batch) for batch in batches] == [False] * (len(batches) - 1) + [True]


@settings(deadline=None)
@given(samplers)
def test_samples_before_the_last_persons_turn_are_counted(sampler: Sampler) -> None:
    last = len(sampler.face_counts) - 1
    before = takewhile(lambda batch: batch.position.visit < last, sampler.selections(START))
    assert sampler.samples_until_all_visited() == sum(samples(batch) for batch in before)


@settings(deadline=None, max_examples=25)
@given(samplers, st.data())
def test_going_on_from_anywhere_gives_exactly_the_rest(sampler: Sampler, data: st.DataObject) -> None:
    course = epochs(sampler, 3)
    stop = data.draw(st.integers(0, len(course) - 1), label="stop")
    rest = facts(course)[stop + 1 :]
    assert facts(epochs(sampler, 3, course[stop].next_position)) == rest
    assert facts(epochs(sampler, 3, course[stop].position)) == facts(course)[stop:]


def test_going_on_from_every_place_of_a_course() -> None:
    """Batches of 2, 2 and 1 of bob and 2 and 1 of ann, two passes each: passes, visits and epochs end."""
    sampler = Sampler({"bob": 5, "ann": 3}, batch_size=2, inner_loop=2, seed=6)
    course = epochs(sampler, 2)
    assert len(course) == 2 * 2 * (3 + 2)
    for stop, batch in enumerate(course):
        ahead = list(islice(sampler.selections(batch.next_position), 12))
        assert facts(ahead)[: len(course) - stop - 1] == facts(course)[stop + 1 : stop + 13]
        assert ahead[0].position == batch.next_position, "a place to go on from is where the next batch says it is"


def test_people_come_in_another_order_each_epoch_the_same_at_every_run() -> None:
    sampler = Sampler(FIVE, batch_size=4, inner_loop=1, seed=1)
    orders = [tuple(sampler.order(epoch)) for epoch in range(20)]
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(FIVE))}
    assert len(set(orders)) > 10
    assert {order[0] for order in orders} == set(FIVE), "everyone is first at some time"
    turned = dict(reversed(FIVE.items()))
    assert [tuple(Sampler(turned, 4, 1, seed=1).order(epoch)) for epoch in range(20)] == orders
    assert [tuple(Sampler(FIVE, 4, 1, seed=2).order(epoch)) for epoch in range(20)] != orders


def test_faces_come_in_another_order_each_pass_visit_epoch_and_seed() -> None:
    def passes(seed: int) -> list[tuple[int, ...]]:
        sampler = Sampler({"ann": 40, "bob": 40}, batch_size=40, inner_loop=3, seed=seed)
        return [tuple(faces_of(batch).tolist()) for batch in epochs(sampler, 3)]

    assert len(set(passes(1) + passes(2))) == 2 * 3 * 2 * 3
    assert passes(1) == passes(1)


@pytest.mark.parametrize("batch_size", [3, 4, 500])
def test_a_batch_is_no_larger_than_the_faces_there_are(batch_size: int) -> None:
    batches = epochs(Sampler({"ann": 3, "bob": 1}, batch_size, inner_loop=1, seed=0), 1)
    assert sorted(samples(batch) for batch in batches) == [1, 3]
    assert all(faces_of(batch).dtype == torch.int64 for batch in batches)


def test_going_on_with_fewer_faces_than_before_finds_its_way() -> None:
    """Faces may be deleted between two runs: a place that is no more is passed over."""
    sampler = Sampler({"ann": 4, "bob": 2}, batch_size=2, inner_loop=2, seed=3)
    for gone in (Position(5, 0, 0, 9), Position(5, 1, 7, 0), Position(5, 3, 0, 0)):
        ahead = list(islice(sampler.selections(gone), 20))
        assert 5 <= ahead[0].position.epoch <= 6
        assert {person_of(batch) for batch in ahead} == {"ann", "bob"}
        assert all(1 <= samples(batch) <= 2 for batch in ahead)


def test_randomness_depends_on_all_numbers_and_their_order() -> None:
    def draw(*numbers: int) -> float:
        return float(torch.rand(1, generator=generator(*numbers)))

    drawn = [draw(), draw(0), draw(0, 0), draw(1, 23), draw(12, 3), draw(3, 12), draw(123), draw(-1), draw(2**70)]
    assert len(set(drawn)) == len(drawn)
    torch.manual_seed(99)
    assert draw(1, 23) == drawn[3], "and on nothing else"


@settings(deadline=None)
@given(interleaved)
def test_interleaved_every_batch_holds_as_many_of_everyone(sampler: Sampler) -> None:
    each = max(1, sampler.batch_size // len(sampler.face_counts))
    batches = epochs(sampler, 2)
    for batch in batches:
        assert batch.faces.keys() == sampler.face_counts.keys()
        assert {len(faces) for faces in batch.faces.values()} == {each}
    first = [batch for batch in batches if batch.position.epoch == 0]
    assert sum(samples(batch) for batch in first) == sampler.samples_per_epoch
    assert [ends_epoch(batch) for batch in first] == [False] * (len(first) - 1) + [True]
    assert sampler.samples_until_all_visited() == 0


@settings(deadline=None)
@given(interleaved)
def test_interleaved_faces_come_again_only_when_all_were_there(sampler: Sampler) -> None:
    one_pass = [batch for batch in epochs(sampler, 1) if batch.position.inner == 0]
    for person, count in sampler.face_counts.items():
        course = torch.cat([batch.faces[person] for batch in one_pass]).tolist()
        assert len(course) >= count, "a pass shows everyone's faces"
        for begin in range(0, len(course), count):
            part = course[begin : begin + count]
            assert len(set(part)) == len(part)
            assert set(part) <= set(range(count))


@settings(deadline=None, max_examples=25)
@given(interleaved, st.data())
def test_interleaved_going_on_from_anywhere_gives_exactly_the_rest(sampler: Sampler, data: st.DataObject) -> None:
    course = epochs(sampler, 3)
    stop = data.draw(st.integers(0, len(course) - 1), label="stop")
    assert facts(epochs(sampler, 3, course[stop].next_position)) == facts(course)[stop + 1 :]
    assert facts(epochs(sampler, 3, course[stop].position)) == facts(course)[stop:]


def test_going_on_in_the_other_way_finds_its_way() -> None:
    joint = Sampler({"ann": 40, "bob": 8}, 8, inner_loop=2, seed=3, interleave=True)
    turns = Sampler({"ann": 40, "bob": 8}, 8, inner_loop=2, seed=3)
    for one, other in ((joint, turns), (turns, joint)):
        for batch in epochs(one, 1):
            ahead = list(islice(other.selections(batch.next_position), 40))
            assert ahead[0].position.epoch <= batch.next_position.epoch + 1
            assert set().union(*(later.faces for later in ahead)) == {"ann", "bob"}
