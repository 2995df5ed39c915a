"""The order of training samples as a pure function of (seed, step, rank): resuming and sharding need no state."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import count

import numpy as np
from torch.utils.data import Sampler


@lru_cache(maxsize=2)  # a batch lies in one epoch or, at the seam, in two
def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of ``range(num_samples)`` that epoch ``epoch`` follows."""
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


class StepSampler(Sampler[list[int]]):
    """Endless batches of indices, starting at any step.

    All processes together read one endless sequence, the epochs' permutations one after the
    other. Batch ``step`` of ``world_size`` processes is the next ``batch_size * world_size``
    samples of it, of which ``rank`` takes its own contiguous part. So two processes see at every
    step what one process with the doubled batch sees, and nothing is dropped at the end of an epoch.

    Args:
        num_samples: size of the dataset, at least 1.
        batch_size: samples per process.
        seed: of the permutations.
        start: first batch, counted from the beginning of training.
    """

    def __init__(
        self, num_samples: int, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size, self.start = rank, world_size, start

    def batch(self, step: int) -> list[int]:
        """The indices of this process at ``step``."""
        first = (step * self.world_size + self.rank) * self.batch_size
        positions = (divmod(position, self.num_samples) for position in range(first, first + self.batch_size))
        return [int(epoch_order(self.num_samples, self.seed, epoch)[offset]) for epoch, offset in positions]

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.batch, count(self.start))
