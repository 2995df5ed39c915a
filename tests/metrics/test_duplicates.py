"""Duplicates: drawings whose answer is plain to the eye, and the rule spelt out in numpy on random slots."""

import itertools
import math

import numpy as np
import pytest
import torch

from unscene.errors import InputError
from unscene.metrics import find_duplicates, latent_duplicates, percent_of_images, silhouettes, split_image

RED, GREEN, GRAY = (0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.5, 0.5, 0.5)
SIZE = 20


def slot(colour, rows=None, columns=None):
    """(components, logits) of a rectangle, of the whole image without one, or of nothing."""
    logits = torch.full((SIZE, SIZE), -6.0)
    if rows is None:
        logits[:] = 3.0
    else:
        logits[slice(*rows), slice(*columns)] = 6.0
    return torch.tensor(colour)[:, None, None].expand(-1, SIZE, SIZE), logits


BACKGROUND = slot(GRAY)
EMPTY = slot(RED, (0, 0), (0, 0))
SQUARE = slot(RED, (2, 8), (2, 8))


def found(*slots):
    components, logits = zip(*slots, strict=True)
    return find_duplicates(torch.stack(components)[None], torch.stack(logits)[None])


@pytest.mark.parametrize(
    ("slots", "image", "foreground"),
    [
        ([BACKGROUND, SQUARE, SQUARE], 1, 1),  # a copied slot
        ([BACKGROUND, SQUARE, slot((0.95, 0.15, 0.1), (2, 8), (3, 9))], 1, 1),  # nearly the same
        ([BACKGROUND, EMPTY, EMPTY, EMPTY], 0, 0),  # K - 1 empty slots
        ([BACKGROUND, SQUARE, slot(RED, (10, 16), (10, 16))], 0, 0),  # twins at different places
        ([BACKGROUND, SQUARE, slot(GREEN, (2, 8), (2, 8))], 0, 0),  # same place, other colour
        ([BACKGROUND, SQUARE, slot(RED, (2, 8), (5, 11))], 0, 0),  # half of it: IoU 1/3
        ([BACKGROUND, BACKGROUND, SQUARE, EMPTY, EMPTY], 1, 0),  # the background twice, and no object
        ([EMPTY, EMPTY, SQUARE], 0, 0),
    ],
)
def test_what_the_eye_sees(slots, image, foreground):
    duplicates = found(*slots)
    assert (duplicates.image.item(), duplicates.foreground.item()) == (image, foreground)
    assert not duplicates.substituted.any()


def test_a_single_slot():
    assert found(BACKGROUND).image.item() == 0


def test_who_is_whose_duplicate():
    duplicates = found(BACKGROUND, SQUARE, EMPTY, SQUARE)
    assert duplicates.pairs.nonzero().tolist() == [[0, 1, 3], [0, 3, 1]]
    assert duplicates.area.tolist() == [[1.0, 36 / 400, 0.0, 36 / 400]]
    assert duplicates.filled.tolist() == [[True, True, False, True]]


@pytest.mark.parametrize("shift", [30.0, -30.0])
def test_logits_that_are_shifted_at_all_pixels_alike(shift):
    """The masks stay the same, but the sigmoid says that every slot covers all, or that none covers anything."""
    background = (BACKGROUND[0], torch.where(SQUARE[1] > 0, -6.0, 3.0))
    for slots, image in (([background, SQUARE, EMPTY], 0), ([background, SQUARE, EMPTY, SQUARE], 1)):
        duplicates = found(*((components, logits + shift) for components, logits in slots))
        assert duplicates.substituted.all()
        assert duplicates.image.item() == image
        assert duplicates.area[0, 1].item() == 36 / 400


def test_log_masks_may_stand_for_logits():
    slots = [(BACKGROUND[0], torch.where(SQUARE[1] > 0, -6.0, 3.0)), SQUARE, SQUARE]
    components, logits = (torch.stack(part)[None] for part in zip(*slots, strict=True))
    duplicates = find_duplicates(components, logits.log_softmax(1))
    assert duplicates.substituted.all() and duplicates.pairs.nonzero().tolist() == [[0, 1, 2], [0, 2, 1]]


def plain_cover(logits):
    cover = 1 / (1 + np.exp(-logits)) > 0.5
    area = cover.mean((1, 2))
    if np.median(area) > 0.5 or (area < 0.005).all():
        return logits > logits.max(0) - math.log(2), True
    return cover, False


def plain_duplicates(components, logits):
    """Pairs of one image, by its definition."""
    cover, substituted = plain_cover(logits)
    pairs = set()
    for h, j in itertools.combinations(range(len(logits)), 2):
        both, either = cover[h] & cover[j], cover[h] | cover[j]
        if min(cover[h].mean(), cover[j].mean()) < 0.005 or both.sum() / either.sum() < 0.4:
            continue
        distance = np.sqrt(((components[h].clip(0, 1) - components[j].clip(0, 1)) ** 2).sum(0))[both].mean()
        if distance <= 0.25:
            pairs |= {(h, j), (j, h)}
    return pairs, substituted


def test_the_rule_in_numpy():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(40, 1, 6, 7, generator=generator)
    logits = base + 0.5 * torch.randn(40, 5, 6, 7, generator=generator) + torch.linspace(-4, 4, 40)[:, None, None, None]
    components = 0.5 + torch.rand(40, 1, 3, 1, 1, generator=generator)
    components = components + 0.05 * torch.randn(40, 5, 3, 6, 7, generator=generator)
    duplicates = find_duplicates(components, logits)
    total = 0
    for image in range(40):
        pairs, substituted = plain_duplicates(components[image].double().numpy(), logits[image].double().numpy())
        assert set(map(tuple, duplicates.pairs[image].nonzero().tolist())) == pairs
        assert duplicates.substituted[image].item() == substituted
        total += len(pairs)
    assert 200 < total < 600 and 10 < duplicates.substituted.sum() < 30  # of 800 pairs, of 40 images


def test_many_duplicates_at_once():
    components, logits = torch.zeros(12, 9, 3, 4, 4), torch.where(torch.arange(16).view(4, 4) < 8, 1.0, -1.0)
    assert find_duplicates(components, logits.expand(12, 9, 4, 4)).pairs.sum() == 12 * 9 * 8


def test_silhouettes_of_a_slot_of_few_pixels():
    logits = torch.full((1, 2, 20, 20), -1.0)
    logits[:, :, 0, 0] = 1.0
    assert silhouettes(logits).substituted.item()  # 1 of 400 pixels is less than 0.5 %
    assert not silhouettes(logits, min_area=0.002).substituted.item()


def test_latent_duplicates_are_alike_and_not_empty():
    slots = torch.tensor([[[1.0, 0.0], [0.95, 0.3], [1.0, 0.01]], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    filled = torch.ones(2, 3, dtype=torch.bool)
    assert latent_duplicates(slots, filled).tolist() == [1, 0]
    filled[0, 1:] = False
    assert latent_duplicates(slots, filled).tolist() == [0, 0]


def test_objects_that_two_slots_share():
    true = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]).view(1, 2, 4)
    for pred, split in (
        ([0, 0, 0, 0, 1, 1, 1, 1], 0),
        ([0, 0, 0, 0, 1, 1, 2, 2], 1),
        ([0, 3, 3, 3, 1, 1, 1, 1], 1),  # recall 1/4 is enough; the background counts
        ([0, 0, 0, 0, 0, 1, 1, 1], 0),  # slot 0 has a quarter of the object, but most of it is background
        ([5, 5, 5, 5, 5, 5, 5, 5], 0),
    ):
        assert split_image(true, torch.tensor(pred).view(1, 2, 4)).item() == split
    thirds = torch.zeros(1, 1, 20, dtype=torch.int64)
    thirds[..., :4] = 1  # a fifth of the image in a slot of its own
    assert split_image(torch.zeros_like(thirds), thirds).item() == 0


def test_percentages_of_all_and_of_subsets():
    flags = np.array([1.0] * 30 + [0.0] * 170 + [np.nan])
    found = percent_of_images(flags)
    assert found.all == 15
    assert found.subset_mean == pytest.approx(15, abs=3) and 0 < found.subset_std < 6
    assert found == percent_of_images(flags)
    assert found.subset_mean != percent_of_images(flags, seed=1).subset_mean
    assert percent_of_images(flags, size=200)[1:] == pytest.approx((15, 0))  # without replacement
    few = percent_of_images(np.ones(3))
    assert few.all == 100 and math.isnan(few.subset_mean) and math.isnan(few.subset_std)
    assert math.isnan(percent_of_images(np.array([np.nan])).all)


def test_shapes_that_do_not_fit():
    with pytest.raises(InputError, match=r"components \(1, 2, 3, 4, 4\) and mask_logits \(1, 2, 4, 5\) do not fit"):
        find_duplicates(torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2, 4, 5))
