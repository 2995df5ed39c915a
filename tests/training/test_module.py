"""SceneModule's own parts; whole trainings are in test_run.py."""

from functools import partial

import numpy as np
import pytest
import torch

from toy_scenes import ToyModel
from unscene.errors import InputError
from unscene.models.base import Losses
from unscene.training.module import SceneModule, TrainingDiverged, check_losses, check_weights, seed_all
from unscene.training.schedules import ExponentialDecay


def test_finite_losses_pass():
    check_losses(Losses(torch.tensor(1.0), {"kl": torch.tensor(1.0)}), ToyModel(), 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_infinite_loss_names_the_terms_and_the_step(bad):
    losses = Losses(torch.tensor(bad), {"likelihood": torch.tensor(bad), "kl": torch.tensor(1.0)})
    with pytest.raises(TrainingDiverged, match=rf"not finite at step 7: likelihood = {bad}; lower"):
        check_losses(losses, ToyModel(), 7)


def test_an_infinite_total_of_finite_terms_is_told_as_such():
    with pytest.raises(TrainingDiverged, match="total = nan"):
        check_losses(Losses(torch.tensor(torch.nan), {"kl": torch.tensor(1.0)}), ToyModel(), 0)


@pytest.mark.parametrize(("broken", "named"), [(["logit"], "logit"), (["logit", "colour.0.bias"], "logit and 1 more")])
def test_broken_weights_are_named_before_the_loss_that_they_break(broken, named):
    model = ToyModel()
    check_weights(model, 8)
    with torch.no_grad():
        for name in broken:
            model.get_parameter(name)[0] = torch.inf
    with pytest.raises(TrainingDiverged, match=rf"the weights are not finite after step 7: {named}; lower"):
        check_losses(Losses(torch.tensor(torch.nan), {"kl": torch.tensor(torch.nan)}), model, 8)


def test_an_optimiser_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="the optimiser cannot be built: Invalid learning rate: -1.0"):
        SceneModule(ToyModel(), partial(torch.optim.SGD, lr=-1.0)).configure_optimizers()


def test_the_learning_rate_follows_the_schedule():
    module = SceneModule(ToyModel(), lambda p: torch.optim.SGD(p, lr=0.5), ExponentialDecay(factor=0.5, decay_steps=1))
    configured = module.configure_optimizers()
    rates = []
    for _ in range(3):
        rates += configured["lr_scheduler"]["scheduler"].get_last_lr()
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert rates == [0.5, 0.25, 0.125]


def test_a_resumed_schedule_is_the_one_asked_for_now():
    def scheduler(factor):
        module = SceneModule(ToyModel(), torch.optim.SGD, ExponentialDecay(factor=factor, decay_steps=1))
        return module.configure_optimizers()["lr_scheduler"]["scheduler"]

    new = scheduler(0.1)
    new.load_state_dict(scheduler(0.5).state_dict())
    assert new.lr_lambdas[0](1) == pytest.approx(0.1)


def test_seeds_differ_by_every_part_of_the_key():
    draws = []
    for key in [(0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0), (1, 0, 0, 0)]:
        seed_all(*key)
        draws.append((torch.rand(()).item(), np.random.rand()))
    assert len(set(draws)) == 4
    assert draws[-1] == draws[-2]


def test_a_checkpoint_of_another_model_is_refused():
    module = SceneModule(ToyModel(num_slots=3), torch.optim.Adam)
    other = SceneModule(ToyModel(num_slots=4), torch.optim.Adam)
    with pytest.raises(InputError, match=r"another model: model.colour.2.bias is \(12,\) there and \(9,\) here"):
        module.on_load_checkpoint({"state_dict": other.state_dict()})
