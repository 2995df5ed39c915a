"""Starting from data: once, with a sample that follows from the seed."""

from functools import partial

import pytest
import torch

from toy_scenes import ToyModel
from toy_sprites import Greys, ToySprites
from toy_training import assert_same_training, checkpoint, fit
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.data import SceneData
from unscene.training.module import own_generator, seed_all
from unscene.training.start import StartFromData

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


class Remembers(ToySprites):
    """Keeps what it started from."""

    def start_from(self, images, generator):
        super().start_from(images, generator)
        self.started = [*getattr(self, "started", []), images]


def start(run, steps=2, num_images=4, model=None, **options):
    data = SceneData(Greys(20), batch_size=5)
    return fit(run, steps, model=model or Remembers(), data=data, callbacks=[StartFromData(num_images)], **options)


def test_a_training_starts_from_a_sample_of_its_images(tmp_path):
    first, second, third = Remembers(), Remembers(), Remembers()
    start(tmp_path / "first", model=first)
    start(tmp_path / "second", model=second)
    start(tmp_path / "third", model=third, seed=1)
    (images,), data = first.started, Greys(20).batch(range(20))["image"]
    assert images.shape == (4, 3, 4, 5)
    chosen = [torch.isclose(data, image).all((1, 2, 3)).nonzero().item() for image in images]
    assert len(set(chosen)) == 4
    assert torch.equal(second.started[0], images) and not torch.equal(third.started[0], images)


def test_before_the_first_step(tmp_path):
    expected = ToySprites()
    generator = own_generator("start", 0)
    chosen = torch.randperm(20, generator=generator)[:4].tolist()
    expected.start_from(Greys(20).batch(chosen)["image"], generator)
    state = checkpoint(start(tmp_path, 1, lr=0.0))["state_dict"]
    assert torch.equal(state["model.sprites"], expected.sprites)


def test_all_images_where_there_are_fewer(tmp_path):
    model = Remembers()
    start(tmp_path, num_images=100, model=model)
    assert len(model.started[0]) == 20


def test_only_once(tmp_path):
    once = start(tmp_path / "once", 6)
    start(tmp_path / "twice", 3)
    model = Remembers()
    assert_same_training(start(tmp_path / "twice", 6, model=model, ckpt_path="last"), once)
    assert not hasattr(model, "started")


RECIPE = """
model: {class_path: toy_sprites.ToySprites}
data: {train: {class_path: toy_sprites.Greys}, batch_size: 4}
optimizer: {class_path: Adam, init_args: {lr: 0.0}}
trainer:
  max_steps: 1
  accelerator: cpu
  devices: 1
  enable_progress_bar: false
  callbacks: [{class_path: StartFromData}, {class_path: Reassignment, init_args: {every: 50}}]
"""


def test_not_with_weights_that_are_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(RECIPE)
    seed_all(3)
    given = ToySprites()
    with torch.no_grad():
        given.sprites.copy_(torch.rand_like(given.sprites))
    given.save_pretrained("given")
    assert torch.equal(checkpoint(main(["toy.yaml", "--init", "given"]))["state_dict"]["model.sprites"], given.sprites)
    other = checkpoint(main(["toy.yaml", "--run", "other"]))["state_dict"]["model.sprites"]
    assert not torch.equal(other, ToySprites().sprites)


def test_what_cannot_start_is_refused(tmp_path):
    with pytest.raises(InputError, match="ToyModel does not start from data; take StartFromData out of trainer.callb"):
        fit(tmp_path, 1, model=ToyModel(), callbacks=[StartFromData()])
    with pytest.raises(InputError, match="num_images is 0; it takes at least 1"):
        StartFromData(0)


def test_own_generators_are_like_nothing_else():
    seed_all(0, 5)
    draws = [torch.rand(()).item()]
    keys = [("start", 0, 5), ("start", 0, 5, 1), ("start", 1, 5), ("reassignment", 0, 5)]
    draws += [torch.rand((), generator=own_generator(*key)).item() for key in keys]
    assert len(set(draws)) == len(draws)
    again = partial(own_generator, *keys[0])
    assert torch.equal(torch.rand(3, generator=again()), torch.rand(3, generator=again()))
