"""The sampler's order: complete, shardable, resumable."""

from itertools import islice

from unscene.training.sampler import StepSampler


def flat(sampler, steps):
    return [index for batch in islice(sampler, steps) for index in batch]


def test_every_epoch_is_a_different_permutation_and_nothing_is_dropped():
    order = flat(StepSampler(10, 4, seed=3), 5)  # batches straddle the epochs
    first, second = order[:10], order[10:20]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_the_seed_changes_the_order():
    assert flat(StepSampler(50, 5, seed=0), 3) != flat(StepSampler(50, 5, seed=1), 3)


def test_starting_late_gives_the_same_batches():
    sampler = StepSampler(10, 4)
    assert list(islice(StepSampler(10, 4, start=6), 4)) == list(islice(sampler, 6, 10))


def test_two_processes_see_together_what_one_sees_with_the_doubled_batch():
    whole = StepSampler(10, 6, seed=1)
    parts = [StepSampler(10, 3, seed=1, rank=rank, world_size=2) for rank in (0, 1)]
    for step in range(7):
        assert parts[0].batch(step) + parts[1].batch(step) == whole.batch(step)


def test_a_batch_may_be_larger_than_the_dataset():
    assert sorted(StepSampler(3, 9).batch(1)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
