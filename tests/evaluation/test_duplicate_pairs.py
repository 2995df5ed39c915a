"""Measures of pairs of slots: against numbers by hand, and with the rule's thresholds against the rule itself."""

import numpy as np
import pytest
import torch

from toy_scenes import ToyModel, ToyScenes, ToyVideos
from toy_views import ToyViews
from unscene.errors import InputError
from unscene.evaluation.duplicate_pairs import duplicate_pairs, pairs_table
from unscene.metrics import find_duplicates, latent_duplicates
from unscene.models.base import Losses, SceneModel
from unscene.scenes import Decomposition


class Given(SceneModel):
    """Decomposes image i of `Numbered` as the caller says."""

    def __init__(self, logits, components, slots):
        super().__init__()
        self.logits, self.components, self.slots = logits, components, slots

    def decompose(self, image, *, num_slots=None):
        index = (image[:, 0, 0, 0] * 100).round().long()
        logits = self.logits[index]
        return Decomposition(logits.softmax(1), self.components[index], self.slots[index], mask_logits=logits)

    def loss(self, batch, step):
        return Losses(torch.zeros(()), {})


def numbered(count):
    return [{"image": torch.full((3, 8, 8), i / 100)} for i in range(count)]


def test_a_pair_by_hand():
    logits = torch.full((1, 3, 8, 8), -5.0)
    logits[0, 0] = 5.0  # everywhere
    logits[0, 1, :4], logits[0, 2, 2:5] = 5.0, 5.0  # 32 and 24 pixels, 16 of them shared
    components = torch.zeros(1, 3, 3, 8, 8)
    components[0, 1], components[0, 2] = 0.5, 0.5
    components[0, 2, 0, 3] += 0.4  # red of one shared row
    components[0, 2, 0, 4] = 7.0  # not shared
    slots = torch.tensor([[[1.0, 0], [1.0, 1], [0, -2.0]]])
    found = duplicate_pairs(Given(logits, components, slots), numbered(1), min_iou=0.3)
    assert [(pair.first, pair.second) for pair in found] == [(0, 1), (1, 2), (0, 2)]
    _, image, _ = found
    np.testing.assert_allclose(image[3:7], [16 / 40, 0.2, -(0.5**0.5), 24 / 64], rtol=1e-6)
    assert image.image == 0 and not image.substituted
    assert pairs_table(found).splitlines()[2] == "0       1, 2  0.400   0.200  -0.707  0.3750"


def test_thresholds_on_the_measures_are_the_rule():
    g = torch.Generator().manual_seed(0)
    places = torch.randn(50, 5, 8, 8, generator=g).cumsum(2).cumsum(3)
    logits = torch.cat([places[:, :3], places[:, :2] + 2 * torch.randn(50, 2, 8, 8, generator=g)], 1)
    logits[:7] += 30  # all on: the sigmoid cannot tell
    colours = torch.rand(50, 5, 3, 1, 1, generator=g)
    colours[:, 3:] = colours[:, :2] + 0.15 * torch.randn(50, 2, 3, 1, 1, generator=g)
    slots = torch.randn(50, 5, 3, generator=g)
    components = colours.expand(-1, -1, -1, 8, 8)
    pairs = duplicate_pairs(Given(logits, components, slots), numbered(50), batch_size=16)
    rule = find_duplicates(components, logits)
    chosen = {p[:3] for p in pairs if p.iou >= 0.4 and p.distance <= 0.25 and p.area >= 0.005}
    assert chosen == set(map(tuple, rule.pairs.triu(1).nonzero().tolist()))
    assert 5 < len(chosen) < len(pairs)
    everything = duplicate_pairs(Given(logits, components, slots), numbered(50), min_iou=0.0, min_area=0.0)
    assert len(everything) == 50 * 10
    alike = {p.image for p in everything if p.similarity > 0.9 and p.area >= 0.005}
    assert alike == set(latent_duplicates(slots, rule.filled).nonzero().flatten().tolist())
    substituted = {p.image for p in everything if p.substituted}
    assert substituted == set(rule.substituted.nonzero().flatten().tolist()) >= set(range(7))


def test_images_are_counted_over_batches_and_limited():
    logits = torch.full((5, 2, 8, 8), 4.0)
    given = Given(logits, torch.zeros(5, 2, 3, 8, 8), torch.ones(5, 2, 2))
    assert [pair.image for pair in duplicate_pairs(given, numbered(5), batch_size=2, limit=4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ToyScenes(), "ToyModel gives no mask logits, so that its slots have no silhouettes"),
        (ToyViews(), "duplicates are looked for in images; take single ones of videos and views, with Frames"),
        (ToyVideos(), "duplicates are looked for in images"),
    ],
)
def test_bad_input(data, message):
    with pytest.raises(InputError, match=message):
        duplicate_pairs(ToyModel(), data)
