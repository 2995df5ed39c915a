"""Parameter groups: who is in them, at which rates they train, and that resuming keeps each parameter's moments."""

import shutil
from functools import partial

import pytest
import torch
import yaml

from toy_scenes import ToyModel
from toy_training import assert_equal, assert_same_training, checkpoint, fit, log
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.groups import REST, ParameterGroup, arrange
from unscene.training.module import SceneModule
from unscene.training.schedules import MultiStep

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training
GROUPS = [ParameterGroup("bias$", weight_decay=0.0, scheduled=False), ParameterGroup("^colour", lr_scale=7.0)]


def test_each_parameter_is_in_the_first_group_that_matches():
    model = ToyModel()
    names = [(group, [name for name, _ in members]) for group, members in arrange(model, GROUPS)]
    assert names == [
        (REST, ["logit"]),
        (GROUPS[0], ["colour.0.bias", "colour.2.bias"]),
        (GROUPS[1], ["colour.0.weight", "colour.2.weight"]),
    ]
    assert all(parameter is model.get_parameter(n) for _, members in arrange(model, GROUPS) for n, parameter in members)


def test_there_need_not_be_a_rest():
    ((group, members),) = arrange(ToyModel(), [ParameterGroup(".")])
    assert group.match == "." and len(members) == 5


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["sprites"], "'sprites' matches no parameter; ToyModel has, among others, logit, colour.0.weight"),
        (["^colour", "bias$"], r"'bias\$' matches only parameters of earlier groups"),
        (["("], r"match '\(' is no regular expression: missing \)"),
    ],
)
def test_groups_without_parameters_are_refused(groups, message):
    with pytest.raises(InputError, match=message):
        module = SceneModule(ToyModel(), torch.optim.Adam, groups=[ParameterGroup(match) for match in groups])
        module.configure_optimizers()


@pytest.mark.parametrize("option", [{"lr_scale": -1.0}, {"weight_decay": -1.0}])
def test_negative_numbers_are_refused(option):
    with pytest.raises(InputError, match="lr_scale and weight_decay of '.' must not be negative"):
        ParameterGroup(".", **option)


def test_rates_and_decays_of_the_groups():
    optimizer = partial(torch.optim.Adam, lr=0.5, weight_decay=0.01)
    module = SceneModule(ToyModel(), optimizer, MultiStep((1,), gamma=0.1), groups=GROUPS)
    configured = module.configure_optimizers()
    built, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert [group["weight_decay"] for group in built.param_groups] == [0.01, 0.0, 0.01]
    assert scheduler.get_last_lr() == [0.5, 0.5, 3.5]
    built.step()
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.05, 0.5, 0.35])


def test_groups_that_change_nothing_train_the_same(whole, tmp_path):
    grouped = fit(tmp_path, 10, groups=[ParameterGroup("bias$"), ParameterGroup("^colour")])
    assert_equal(checkpoint(grouped)["state_dict"], checkpoint(whole)["state_dict"])


def test_a_group_trains_at_its_own_rate(tmp_path):
    still = fit(tmp_path / "still", 3, groups=[ParameterGroup("^colour", lr_scale=0.0)])
    trained, untrained = (checkpoint(run)["state_dict"] for run in (still, fit(tmp_path / "untrained", 1, lr=0.0)))
    same = {name for name in trained if torch.equal(trained[name], untrained[name])}
    assert same == {name for name in trained if "colour" in name}
    assert moments(still, ToyModel()).keys() == {"logit"}  # the others had no gradient


def test_resuming_goes_on_with_what_did_not_learn_before(tmp_path):
    before = checkpoint(fit(tmp_path, 3, groups=[ParameterGroup("^colour", lr_scale=0.0)]))["state_dict"]
    after = checkpoint(fit(tmp_path, 5, ckpt_path="last"))["state_dict"]
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_resuming_with_groups_is_bitwise_equal(tmp_path):
    once = fit(tmp_path / "once", 10, groups=GROUPS)
    fit(tmp_path / "twice", 5, groups=GROUPS)
    assert_same_training(fit(tmp_path / "twice", 10, groups=GROUPS, ckpt_path="last"), once)
    rates = [group["lr"] for group in checkpoint(once)["optimizer_states"][0]["param_groups"]]
    assert rates == pytest.approx([0.01 * 0.25, 0.01, 0.07 * 0.25])  # after two halvings
    assert float(log(once)[-1]["learning_rate"] or 0) == pytest.approx(0.01 * 0.5 ** (9 / 5))


def moments(folder, model):
    """{name of the parameter: its moments} in a checkpoint."""
    (state,) = checkpoint(folder)["optimizer_states"]
    order = [name for name, _ in model.named_parameters()]
    names = [name for group in state["param_groups"] for name in group.get("param_names", order)]
    return {names[index]: value for index, value in state["state"].items()}


@pytest.mark.parametrize(("before", "after"), [([], GROUPS), (GROUPS, []), (GROUPS, GROUPS[::-1][:1])])
def test_groups_that_are_new_on_resuming_take_over_the_moments(tmp_path, before, after):
    fit(tmp_path / "same", 4, groups=before)
    shutil.copytree(tmp_path / "same", tmp_path / "other")
    same = fit(tmp_path / "same", 5, groups=before, ckpt_path="last", lr=0.0)
    other = fit(tmp_path / "other", 5, groups=after, ckpt_path="last", lr=0.0)
    assert moments(other, ToyModel()).keys() == dict(ToyModel().named_parameters()).keys()
    assert_equal(moments(other, ToyModel()), moments(same, ToyModel()))
    assert len(checkpoint(other)["optimizer_states"][0]["param_groups"]) == 1 + len(after)


RECIPE = """
model: {class_path: toy_scenes.ToyModel}
data: {train: {class_path: toy_scenes.ToyScenes}, batch_size: 4}
optimizer: {class_path: Adam, init_args: {lr: 0.01, weight_decay: 1.0e-6}}
schedule: {class_path: MultiStep, init_args: {milestones: [2, 3], gamma: 0.5}}
groups:
  - {match: "^logit$", weight_decay: 0.0, scheduled: false}
  - {match: "^colour", lr_scale: 7}
trainer: {max_steps: 4, accelerator: cpu, devices: 1, enable_progress_bar: false}
"""


def test_a_recipe_with_groups(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(RECIPE)
    folder = main(["toy.yaml"])
    groups = checkpoint(folder)["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.07 * 0.25])
    assert [group["weight_decay"] for group in groups] == [0.0, 1e-6]
    recorded = yaml.safe_load(folder.config.read_text())["groups"]
    assert recorded[1] == {"match": "^colour", "lr_scale": 7.0, "weight_decay": None, "scheduled": True}
    again = main([str(folder.config), "--run", "again"])
    assert_equal(checkpoint(again)["state_dict"], checkpoint(folder)["state_dict"])
    (tmp_path / "toy.yaml").write_text(RECIPE.replace("^logit$", "["))
    with pytest.raises(InputError, match=r"match '\[' is no regular expression"):
        main(["toy.yaml", "--run", "other"])
