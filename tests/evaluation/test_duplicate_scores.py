"""What an evaluation says of duplicates, with slots that are known to be twice there."""

import torch

from unscene import metrics
from unscene.evaluation.scores import image_scores
from unscene.scenes import Decomposition


def decomposition(copied):
    """A background and a red square; slot 2 is empty, or a copy of the square that shares its mask."""
    logits = torch.full((1, 4, 8, 8), -6.0)
    logits[:, 0], logits[:, 1, 2:5, 2:5] = 3.0, 6.0
    logits[:, 2] = logits[:, 1] if copied else logits[:, 3]
    components = torch.tensor([[0.2] * 3, [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.2] * 3])
    components = components[None, :, :, None, None].expand(1, -1, -1, 8, 8)
    slots = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0.1], [0, 0, 1.0]]])
    return Decomposition(logits.softmax(1), components, slots, mask_logits=logits)


def test_duplicates_and_similarity_are_scored():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for copied in (False, True):
        d = decomposition(copied)
        found = image_scores(image, None, d)
        assert list(found) == [
            *("mse", "mse_rgb", "similarity", "similarity_abs"),
            *("dup_image", "dup_fg_image", "dup_latent", "dup_substituted"),
        ]
        assert found["dup_image"] == found["dup_fg_image"] == found["dup_latent"] == float(copied)
        assert found["dup_substituted"] == 0
        torch.testing.assert_close(found["mse_rgb"], metrics.mse_rgb(image, d.reconstruction))
        torch.testing.assert_close(found["similarity"], metrics.slot_similarity(d.slots))
        torch.testing.assert_close(found["similarity_abs"], metrics.slot_similarity(d.slots, "absolute"))


def test_with_labels_also_the_objects_that_slots_share():
    image, mask = torch.rand(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, 2:5, 2:5] = 1
    assert image_scores(image, mask, decomposition(copied=True))["split_image"] == 0  # argmax sees only one of the two
    mask[:, 5:] = 1
    halves = decomposition(copied=False)
    halves.mask_logits[:, 3, 5:] = 9.0
    halves = Decomposition(halves.mask_logits.softmax(1), halves.components, halves.slots)
    found = image_scores(image, mask, halves)
    assert found["split_image"] == 1 and "dup_image" not in found


def test_all_scores_are_float64():
    found = image_scores(torch.rand(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int64), decomposition(True))
    assert {value.dtype for value in found.values()} == {torch.float64}
