"""The film of the sprites: its frames, continuing it, and who is not filmed."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from toy_scenes import ToyModel
from toy_sprites import Greys, ToySprites
from toy_training import fit
from unscene.errors import InputError
from unscene.figures.sprites import sprite_sheet
from unscene.training.data import SceneData
from unscene.training.sprite_film import FILM, SpriteFilm, append_frame

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


def train(run, steps, every=2, model=None, **options):
    data = SceneData(Greys(20), batch_size=5)
    return fit(run, steps, model=model or ToySprites(), data=data, callbacks=[SpriteFilm(every)], lr=0.05, **options)


def frames(path):
    with Image.open(path) as film:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]


def test_a_frame_at_the_start_and_after_every_so_many_steps(tmp_path):
    model = ToySprites()
    before = sprite_sheet(model.sprites)
    train(tmp_path, 6, model=model)
    shown = frames(tmp_path / FILM)
    assert len(shown) == 4
    np.testing.assert_allclose(shown[0], before, atol=1)
    np.testing.assert_allclose(shown[-1], sprite_sheet(model.sprites), atol=1)
    assert not np.array_equal(shown[0], shown[-1])


def test_accumulated_batches_are_one_step(tmp_path):
    train(tmp_path, 4, accumulate_grad_batches=3)
    assert len(frames(tmp_path / FILM)) == 3


def test_a_continued_film_is_that_of_one_training(tmp_path):
    train(tmp_path / "once", 10)
    train(tmp_path / "twice", 5)
    assert len(frames(tmp_path / "twice" / FILM)) == 3
    train(tmp_path / "twice", 10, ckpt_path="last")
    assert (tmp_path / "twice" / FILM).read_bytes() == (tmp_path / "once" / FILM).read_bytes()


def test_frames_behind_the_checkpoint_are_replaced(tmp_path):
    folder = train(tmp_path, 10)
    film = (tmp_path / FILM).read_bytes()
    train(tmp_path, 10, ckpt_path=folder.checkpoints / "step-00000004.ckpt")
    assert (tmp_path / FILM).read_bytes() == film


def test_a_film_that_is_gone_begins_anew(tmp_path):
    train(tmp_path, 4)
    (tmp_path / FILM).unlink()
    train(tmp_path, 8, ckpt_path="last")
    assert len(frames(tmp_path / FILM)) == 3  # at steps 4, 6 and 8


def test_frames_are_appended(tmp_path):
    grey = [np.full((5, 6, 3), value, np.uint8) for value in (0, 100, 200)]
    size = append_frame(tmp_path / "x.gif", 0, grey[0])
    behind = append_frame(tmp_path / "x.gif", size, grey[1])
    assert (tmp_path / "x.gif").stat().st_size == behind + 1
    append_frame(tmp_path / "x.gif", size, grey[2])
    assert [frame[0, 0, 0] for frame in frames(tmp_path / "x.gif")] == [0, 200]


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="SpriteFilm: every is 0; it needs at least 1 step between two frames"):
        SpriteFilm(every=0)
    with pytest.raises(InputError, match="ToyModel has no sprites to film; take SpriteFilm out of trainer.callbacks"):
        fit(tmp_path, 1, model=ToyModel(), callbacks=[SpriteFilm()])
