"""Reassignment: which prototypes are starved, what is copied, when nothing happens, resuming, several processes."""

import pytest
import torch
from safetensors.torch import load_file

from toy_scenes import ToyModel
from toy_sprites import Greys, ToySprites
from toy_training import assert_same_training, checkpoint, command, fit, log
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.data import SceneData
from unscene.training.module import own_generator
from unscene.training.reassignment import Reassignment, add_noise, copy_prototype, find_starved, near_duplicates

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


@pytest.mark.parametrize(
    ("usage", "starved", "most_used"),
    [
        ([0.5, 0.04, 0.46, 0.0], [1, 3], 0),  # below 0.2 / 4
        ([0.25, 0.25, 0.25, 0.25], [], 0),
        ([0.05, 0.05, 0.0, 0.9], [2], 3),  # just enough
        ([0.1, 0.004, 0.006, 0.0, 0.89], [1, 3], 0),  # empty sprite: 0.04, 0.06 and 0 of the most used
        ([0.0, 0.0, 0.0, 0.0, 1.0], [], 0),
    ],
)
def test_who_is_starved(usage, starved, most_used):
    assert find_starved(torch.tensor(usage, dtype=torch.float64), 4, 0.2) == (starved, most_used)


def test_a_copy_has_the_parameters_and_the_moments_and_shares_no_storage():
    model = ToySprites(num_sprites=4)
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    for _ in range(3):
        model.loss({"image": torch.rand(5, 3, 4, 5)}, 0).total.backward()
        for parameter in model.parameters():
            parameter.grad += torch.randn_like(parameter)
        optimizer.step()
    everything = {
        "sprites": [model.sprites.detach(), *moments(optimizer, model.sprites)],
        "shift": [model.shift.detach(), *moments(optimizer, model.shift)],
    }
    before = {name: [tensor.clone() for tensor in tensors] for name, tensors in everything.items()}
    gain, step = model.gain.clone(), optimizer.state[model.sprites]["step"].clone()
    copy_prototype(model, [optimizer], source=2, targets=[0, 3])
    assert len(before["sprites"]) == 4  # with exp_avg, exp_avg_sq and max_exp_avg_sq
    for name, axis in (("sprites", 0), ("shift", 1)):
        for now, old in zip(everything[name], before[name], strict=True):
            assert torch.equal(now, old.index_select(axis, torch.tensor([2, 1, 2, 2])))
            assert not torch.equal(now, old)
    assert torch.equal(model.gain, gain) and torch.equal(optimizer.state[model.sprites]["step"], step)
    with torch.no_grad():
        model.sprites[2] = 9
    assert (model.sprites[0] < 9).all()


def moments(optimizer, parameter):
    state = optimizer.state[parameter]
    return [state[key] for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")]


def test_what_has_no_moments_yet_is_copied_too():
    model = ToySprites()
    copy_prototype(model, [torch.optim.Adam(model.parameters())], source=0, targets=[1])
    assert torch.equal(model.sprites[0], model.sprites[1]) and not torch.equal(model.sprites[0], model.sprites[2])


def test_noise_is_small_and_only_on_the_chosen():
    sprites = torch.zeros(4, 3, 40, 40)
    add_noise(sprites, [0, 2], 1e-4, own_generator("test", 0))
    assert not sprites[[1, 3]].any()
    assert sprites[[0, 2]].std((1, 2, 3)) == pytest.approx([1e-4, 1e-4], rel=0.05)
    assert not torch.equal(sprites[0], sprites[2])


def train(run, steps, model=None, callback=None, **options):
    model = ToySprites() if model is None else model
    data = SceneData(Greys(20, low=0.6), batch_size=5)
    return fit(run, steps, model=model, data=data, callbacks=[callback or Reassignment(every=3)], **options)


def test_starved_sprites_begin_again_as_the_most_used_one(tmp_path):
    sprites = ToySprites().sprites.detach().clone()
    folder = train(tmp_path, 4, lr=0.0)  # greys 0.1, 0.5 and 0.9 for images from 0.6 on: the first never wins
    generator = own_generator("reassignment", 0, 3)
    torch.randint(2, (), generator=generator)
    noise = 1e-4 * torch.randn((2, 3, 2, 2), generator=generator)
    sprites = torch.stack([sprites[2] + noise[1], sprites[1], sprites[2] + noise[0]])
    state = checkpoint(folder)["state_dict"]
    torch.testing.assert_close(state["model.sprites"], sprites, rtol=0, atol=1e-7)
    assert (state["model.usage_images"], state["model.usage"].sum()) == (5, 10)  # of the step since then
    assert [float(row["reassigned"]) for row in log(folder) if row["loss"]] == [0, 0, 1, 1]


def test_usage_of_a_layer_or_of_all(tmp_path):
    class TwoLayers(ToySprites):
        """Sprite 0 wins nowhere in the first layer and everywhere in the second."""

        def loss(self, batch, step):
            losses = super().loss(batch, step)
            self.usage.copy_(self.usage_images * torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]))
            return losses

    def reassigned(seed, usage):
        callback = Reassignment(every=2, usage=usage)
        train(tmp_path / f"{usage}-{seed}", 2, model=TwoLayers(), callback=callback, seed=seed)
        return callback.reassigned

    drawn = {seed: int(torch.randint(2, (), generator=own_generator("reassignment", seed, 2))) for seed in range(4)}
    assert set(drawn.values()) == {0, 1}
    for seed, layer in drawn.items():
        assert reassigned(seed, "layer") == (1, 2)[layer]
    assert reassigned(0, "pooled") == 0


@pytest.mark.parametrize("accumulated", [1, 2])
def test_while_frozen_nothing_is_reassigned_or_counted(tmp_path, accumulated):
    options = {"lr": 0.0, "accumulate_grad_batches": accumulated}
    model, callback = ToySprites(frozen_steps=4), Reassignment(every=3)
    folder = train(tmp_path, 5, model=model, callback=callback, **options)
    assert torch.equal(model.sprites, ToySprites().sprites)
    assert checkpoint(folder)["state_dict"]["model.usage_images"] == 5 * accumulated  # of the one step after the freeze
    train(tmp_path, 6, model=model, callback=callback, ckpt_path="last", **options)
    assert callback.reassigned == 1


@pytest.mark.parametrize("stop", [4, 6])  # between two looks, and at one
def test_resuming_is_bitwise_equal(tmp_path, stop):
    options = {"accumulate_grad_batches": 2}
    once = train(tmp_path / "once", 10, **options)
    train(tmp_path / "twice", stop, **options)
    assert_same_training(train(tmp_path / "twice", 10, ckpt_path="last", **options), once)
    assert float(log(once)[-1]["reassigned"]) > 0


def test_bad_signs_are_told_at_the_end(tmp_path, capsys):
    train(tmp_path / "bad", 3, lr=0.0)
    out = capsys.readouterr().out
    assert "\nwarning: sprite 0 is not used; sprite 2 is nearly the same as 0. Another seed, or" in out
    train(tmp_path / "good", 4, model=ToySprites(num_sprites=1), lr=0.0)
    train(tmp_path / "frozen", 4, model=ToySprites(frozen_steps=9), lr=0.0)
    assert "warning" not in capsys.readouterr().out


def test_sprites_are_the_same_if_they_look_the_same():
    model = ToySprites(num_sprites=3)
    model.sprites.data = torch.tensor([0.5, 0.52, 0.6])[:, None, None, None].expand(-1, 3, 4, 4).clone()
    assert near_duplicates(model) == [(0, 1)]
    model.sprites.data[2] = 0.51
    assert near_duplicates(model) == [(0, 1), (0, 2)]  # and not (1, 2) as well
    model.sprite_masks = torch.nn.Parameter(torch.ones(3, 1, 4, 4))
    model.sprite_masks.data[1, :, 2:] = -0.5  # half of it is gone
    assert near_duplicates(model) == [(0, 2)]
    model.sprite_masks.data[:] = model.sprite_masks.data[1]
    model.sprites.data[:, :, 2:] = torch.rand(3, 3, 2, 4)  # where nothing shows
    assert near_duplicates(model) == [(0, 1), (0, 2)]


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 1, "threshold": 0.0}, {"every": 1, "threshold": 1.5}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="needs every >= 1, 0 < threshold <= 1, noise >= 0 and usage layer or pooled"):
        Reassignment(**options)


def test_models_without_prototypes_are_refused(tmp_path):
    with pytest.raises(InputError, match="ToyModel has no prototypes to reassign; take Reassignment out of trainer.c"):
        fit(tmp_path, 1, model=ToyModel(), callbacks=[Reassignment(every=3)])


RECIPE = """
model: {class_path: toy_sprites.ToySprites}
data: {train: {class_path: toy_sprites.Greys}}
optimizer: {class_path: SGD, init_args: {lr: 0.01}}
trainer:
  max_steps: 5
  accelerator: cpu
  enable_progress_bar: false
  callbacks: [{class_path: StartFromData}, {class_path: Reassignment, init_args: {every: 3}}]
"""


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE)
    one = ["--run", str(tmp_path / "one"), "--data.batch_size", "4", "--trainer.devices", "1"]
    main([str(recipe), *one])
    two = ["--run", str(tmp_path / "two"), "--data.batch_size", "2", "--trainer.devices", "2"]
    done = command(["-m", "unscene.cli", "train"], str(recipe), *two, "--trainer.strategy", "ddp")
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name in {*one} - {"steps"}:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-6)
    assert one["usage_images"] == 8
