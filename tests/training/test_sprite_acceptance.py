"""What DTI-Sprites learns without labels, in minutes: four signs before clutter, and two pieces of four kinds."""

from functools import partial

import numpy as np
import pytest
import torch

from unscene import DTISprites
from unscene.data import Signs, tetrominoes
from unscene.data.generator import assemble
from unscene.evaluation import evaluate
from unscene.evaluation.sprites import cluster_scores
from unscene.training.data import SceneData
from unscene.training.groups import ParameterGroup
from unscene.training.module import seed_all
from unscene.training.reassignment import Reassignment
from unscene.training.run import train
from unscene.training.schedules import MultiStep
from unscene.training.start import StartFromData

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # of Lightning, also after training
]
SPRITES = "^(sprites|sprite_masks|background)$"


@pytest.fixture(autouse=True)
def one_thread():
    """As these trainings were measured; and two of them at a time would only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def learn(run, model, data, steps, schedule, groups, lr):
    train(
        model,
        SceneData(data, batch_size=16),
        partial(torch.optim.Adam, lr=lr, weight_decay=1e-6),
        schedule=schedule,
        groups=groups,
        run=run,
        max_steps=steps,
        callbacks=[StartFromData(100), Reassignment(every=50)],
        precision="bf16-mixed",
        **{"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    )
    return model.eval()


def test_signs_are_clustered(tmp_path):
    """Half a minute; 1.0 of 512 images with the seeds 0, 1 and 2. After half the steps it is anything from 0.78 on."""
    model = clustered_signs(0, tmp_path)
    assert cluster_scores(model, Signs(512, split="test", num_classes=4, image_size=20))["accuracy"] > 0.9


def clustered_signs(seed, run):
    seed_all(seed)
    shapes = {"sprite_transforms": "color_projective", "sprite_milestones": (400,)}
    behind = {"background_transforms": "color_projective", "background_milestones": (400,)}
    model = DTISprites(
        image_size=(20, 20),
        num_sprites=4,
        num_layers=1,
        sprite_size=None,
        mask_sigma=3.6,
        background=True,
        encoder="resnet20",
        layer_transforms="identity",
        freeze_steps=0,
        selection="exhaustive",
        **shapes,
        **behind,
    )
    data = Signs(20_000, num_classes=4, image_size=20)
    return learn(run, model, data, 800, MultiStep((640,), 0.1), [ParameterGroup(SPRITES, weight_decay=0.0)], 1e-3)


class TwoPieces(tetrominoes.Tetrominoes):
    """Red Tetrominoes of four kinds on striped paper, with the third piece taken away again.

    Striped, because on plain paper a mask may be as wide as it likes: a sprite can be of the paper's colour there.
    """

    kinds = np.array([0, 1, 18, 7])  # of `tetrominoes.PIECES`: two bars, a square and a hook
    paper = np.where(np.indices((35, 35)).sum(0) // 3 % 2, np.float32(0.7), 1)

    def generate(self, draws):
        piece = self.kinds[draws.integers(len(self.kinds), 3)]
        red = tetrominoes.COLORS[draws.integers(1, 3)]
        image, mask = tetrominoes._paint(piece, red, tetrominoes._place(draws, piece))
        mask[mask == 3] = 0
        image = np.where((mask == 0)[:, None], self.paper, image)
        return assemble(image, mask, {"shape": (piece[:, :2] + 1).astype(np.uint8)})


def test_pieces_are_found(tmp_path):
    """Four minutes of one core; ARI 0.95, 0.94 and 0.93 of 320 images with the seeds 0, 1 and 2.

    With another stream of scenes it was 0.75, at an error of 0.017 instead of 0.005 to 0.008: hence restarts.
    """
    images = TwoPieces(64, split="val").batch(range(64))["image"]
    for seed in range(3):
        model = found_pieces(seed, tmp_path / str(seed))
        if model.reconstruction_error(images).mean() < 0.012:
            break
    assert evaluate(model, TwoPieces(320, split="test")).values["layer_ari"].mean() > 0.9


def found_pieces(seed, run):
    seed_all(seed)
    model = DTISprites(
        num_sprites=4,
        num_layers=2,
        background=True,
        background_transforms="identity",
        encoder="resnet20",
        freeze_steps=300,
    )
    groups = [
        ParameterGroup(SPRITES, weight_decay=0.0, scheduled=False, lr_scale=60.0),
        ParameterGroup("^encoder", lr_scale=5.0),
    ]
    return learn(run, model, TwoPieces(60_000), 3600, MultiStep((3000,), 0.1), groups, 2e-4)
