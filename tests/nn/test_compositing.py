"""Composition against a loop over pixels and against alpha blending; the occlusion matrix; label maps."""

import pytest
import torch

from unscene.errors import InputError
from unscene.nn.compositing import binary_occlusion, composite, occlusion_matrix, visibility, visible_layers


def random_layers(num_layers, channels=3, size=(2, 3), batch=2):
    generator = torch.Generator().manual_seed(num_layers)

    def rand(*shape):
        return torch.rand(shape, dtype=torch.float64, generator=generator)

    masks, colours = rand(batch, num_layers, *size), rand(batch, num_layers, channels, *size)
    masks[:, 0, 0, 0], masks[:, -1, 0, 1] = 1, 0
    logits = 4 * rand(batch, num_layers * (num_layers - 1) // 2) - 2
    return masks, colours, occlusion_matrix(logits, batch, num_layers), rand(batch, channels, *size)


def by_pixel(masks, colours, occlusion, background):
    """The sum over layers i of prod_{j != i} (1 - delta_ji a_j) a_i c_i, the background being layer 0."""
    B, L, H, W = masks.shape
    image = torch.zeros_like(background)
    for b, y, x in ((b, y, x) for b in range(B) for y in range(H) for x in range(W)):
        a = [1.0, *masks[b, :, y, x].tolist()]
        c = [background[b, :, y, x], *colours[b, :, :, y, x]]
        delta = [[0.0] * (L + 1), *([1.0, *row] for row in occlusion[b].tolist())]
        for i in range(L + 1):
            weight = a[i]
            for j in range(L + 1):
                if j != i:
                    weight *= 1 - delta[j][i] * a[j]
            image[b, :, y, x] += weight * c[i]
    return image


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_composite_equals_a_loop_over_pixels(num_layers, channels):
    masks, colours, occlusion, background = random_layers(num_layers, channels)
    fast = composite(masks, colours, occlusion, background)
    torch.testing.assert_close(fast, by_pixel(masks, colours, occlusion, background), rtol=1e-12, atol=1e-12)
    black = by_pixel(masks, colours, occlusion, torch.zeros_like(background))
    torch.testing.assert_close(composite(masks, colours, occlusion), black, rtol=1e-12, atol=1e-12)


def test_triangular_occlusion_is_alpha_blending():
    masks, colours, _, background = random_layers(4)
    expected = background
    for mask, colour in zip(masks.unbind(1), colours.unbind(1), strict=True):
        expected = mask.unsqueeze(1) * colour + (1 - mask.unsqueeze(1)) * expected
    occlusion = occlusion_matrix(None, 2, 4)
    torch.testing.assert_close(composite(masks, colours, occlusion, background), expected)
    torch.testing.assert_close(visibility(masks, occlusion).sum(1), torch.ones_like(masks[:, 0]))


def test_gradients_where_masks_are_one_and_zero():
    masks, colours, occlusion, background = (x[:1] for x in random_layers(3))
    masks = masks.round()
    inputs = [x.requires_grad_() for x in (masks, colours, occlusion, background)]
    assert torch.autograd.gradcheck(composite, inputs)


def test_three_opaque_layers_at_one_half_show_a_quarter_each():
    weights = visibility(torch.ones(1, 3, 1, 1), occlusion_matrix(torch.zeros(1, 3), 1, 3)).flatten()
    assert weights.tolist() == [0, 0.25, 0.25, 0.25]


def test_logits_fill_the_lower_triangle_row_by_row():
    logits = torch.tensor([[1.0, -2.0, 3.0]])
    p, q, r = logits[0].sigmoid()
    expected = torch.tensor([[[0, 1 - p, 1 - q], [p, 0, 1 - r], [q, r, 0]]])
    torch.testing.assert_close(occlusion_matrix(logits, 1, 3), expected)
    hard = torch.tensor([[[0, 0, 1], [1, 0, 0], [0, 1, 0.0]]])
    assert torch.equal(occlusion_matrix(logits, 1, 3, hard=True), hard)
    assert torch.equal(binary_occlusion(expected), hard)


def test_without_logits_later_layers_hide_earlier_ones():
    expected = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0.0]]).expand(2, 3, 3)
    assert torch.equal(occlusion_matrix(None, 2, 3), expected)
    assert torch.equal(occlusion_matrix(None, 2, 3, hard=True), expected)
    assert torch.equal(occlusion_matrix(torch.zeros(2, 0), 2, 1), torch.zeros(2, 1, 1))


def test_of_two_layers_at_one_half_the_earlier_hides_the_later():
    hard = occlusion_matrix(torch.zeros(1, 1), 1, 2, hard=True)
    assert torch.equal(hard, torch.tensor([[[0, 1], [0, 0.0]]]))
    assert visible_layers(torch.ones(1, 2, 1, 1), hard).item() == 1


def test_wrong_number_of_logits_is_refused():
    with pytest.raises(InputError, match=r"\(2, 4\); 3 layers and a batch of 2 need \(2, 3\), one per pair"):
        occlusion_matrix(torch.zeros(2, 4), 2, 3)


def test_visible_layers_of_a_row_of_pixels():
    """Layer 2 hides 1; exactly 0.5 is not present."""
    masks = torch.tensor([[0.9, 0.9, 0.1, 0.5], [0.1, 0.6, 0.7, 0.5]]).view(1, 2, 1, 4)
    assert visible_layers(masks, occlusion_matrix(None, 1, 2)).flatten().tolist() == [1, 2, 2, 0]
    reverse = occlusion_matrix(torch.tensor([[-1.0]]), 1, 2)
    assert visible_layers(masks, reverse).flatten().tolist() == [1, 1, 2, 0]
    assert visible_layers(masks, reverse, threshold=0.8).flatten().tolist() == [1, 1, 0, 0]


def test_circles_are_background_unless_resolved():
    """Layer 1 hides 0, 2 hides 1, 0 hides 2; the first pair most weakly, so that layer 0 is the most visible."""
    circle = torch.tensor([[[0, 0.4, 0.9], [0.6, 0, 0.2], [0.1, 0.8, 0.0]]])
    masks = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1.0]]).view(1, 3, 1, 4)
    labels = visible_layers(masks, circle).flatten().tolist()
    assert labels == [0, 2, 0, 1]
    soft = visibility(masks, circle)[0, :, 0, 0]
    torch.testing.assert_close(soft, torch.tensor([0, 0.4 * 0.9, 0.6 * 0.2, 0.1 * 0.8]))
    assert visible_layers(masks, circle, resolve_cycles=True).flatten().tolist() == [1, *labels[1:]]


def test_a_resolved_circle_never_goes_to_an_absent_layer():
    """Layer 3 alone is below the threshold, yet hidden by none and so the most visible."""
    circle = torch.tensor([[[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0.0]]])
    masks = torch.tensor([0.9, 0.8, 0.95, 0.45]).view(1, 4, 1, 1)
    assert visibility(masks, circle)[0, 1:].argmax() == 3
    assert visible_layers(masks, circle).item() == 0
    assert visible_layers(masks, circle, resolve_cycles=True).item() == 1
