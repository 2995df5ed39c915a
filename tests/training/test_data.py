"""SceneData: what the loaders yield, seen from the trainer that asks for them."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from toy_scenes import ToyScenes
from unscene.errors import InputError
from unscene.training.data import SceneData
from unscene.training.sampler import StepSampler


def attach(data, **state):
    data.trainer = SimpleNamespace(
        **{"global_rank": 0, "world_size": 1, "global_step": 0, "accumulate_grad_batches": 1, "callbacks": []} | state
    )
    return data


@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_batches_go_on_where_training_stands(num_workers):
    scenes = ToyScenes(7)
    data = attach(
        SceneData(scenes, batch_size=3, seed=5, num_workers=num_workers), global_step=4, accumulate_grad_batches=2
    )
    for step, batch in enumerate(islice(data.train_dataloader(), 2), start=8):
        assert torch.equal(batch["image"], scenes.batch(StepSampler(7, 3, seed=5).batch(step))["image"])


def test_processes_share_the_validation_scenes():
    scenes = ToyScenes(5)
    seen = []
    for rank in (0, 1):
        data = attach(SceneData(scenes, scenes, batch_size=2), global_rank=rank, world_size=2)
        seen += [image for batch in data.val_dataloader() for image in batch["image"]]
    assert len(seen) == 5
    assert torch.equal(torch.stack(seen), scenes.batch([0, 2, 4, 1, 3])["image"])


def test_validation_scenes_must_suffice_for_all_processes():
    data = attach(SceneData(ToyScenes(), ToyScenes(2)), world_size=3)
    with pytest.raises(InputError, match=r"data.val holds 2 scenes for 3 processes; give it one for each, or none"):
        data.val_dataloader()


def test_making_a_loader_draws_nothing_from_the_global_generator():
    data = attach(SceneData(ToyScenes(), ToyScenes()))
    before = torch.get_rng_state()
    next(iter(data.train_dataloader()))
    next(iter(data.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_validation_scenes_there_is_no_loader():
    assert attach(SceneData(ToyScenes())).val_dataloader() == []


def test_bad_input():
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        SceneData(ToyScenes(), batch_size=0)
    with pytest.raises(InputError, match="data.train holds no scenes"):
        SceneData(ToyScenes(0))
