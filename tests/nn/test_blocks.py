"""Coordinates and normalisation against their formulas."""

import math

import torch

from unscene.nn.blocks import MapNorm, cosine_coordinates, fourier_coordinates


def test_cosine_coordinates_are_products_of_waves():
    basis = cosine_coordinates((5, 9), torch.zeros(1, dtype=torch.float64))
    assert basis.shape == (1, 8, 5, 9)
    y, x = 3 / 4, 2 / 8  # row 3 of 5, column 2 of 9
    expected = [math.cos(math.pi * i * y) * math.cos(math.pi * j * x) for i in range(3) for j in range(3) if i or j]
    torch.testing.assert_close(basis[0, :, 3, 2], torch.tensor(expected, dtype=torch.float64))


def test_fourier_coordinates_double_their_frequency():
    basis = fourier_coordinates((5, 9), torch.zeros(1, dtype=torch.float64), 2)
    y, x = 2 * 3 / 4 - 1, 2 * 2 / 8 - 1  # row 3 of 5, column 2 of 9
    expected = [y, x]
    for angle in (math.pi / 2, math.pi):
        expected += [wave(angle * place) for wave in (math.sin, math.cos) for place in (y, x)]
    torch.testing.assert_close(basis[0, :, 3, 2], torch.tensor(expected, dtype=torch.float64))


def test_map_norm_is_per_image_and_slot_over_all_channels():
    maps = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    norm = MapNorm(4).double()
    with torch.no_grad():
        norm.gain[:] = torch.arange(4.0).view(4, 1, 1)
        norm.bias[:] = 0.5
    one = maps[1, 2]
    expected = (one - one.mean()) / (one.var(correction=0) + 1e-5).sqrt() * torch.arange(4.0).view(4, 1, 1) + 0.5
    torch.testing.assert_close(norm(maps)[1, 2], expected)


def test_map_norm_of_a_constant_is_finite():
    norm = MapNorm(1)
    assert norm(torch.zeros(1, 1, 1, 3, 3)).abs().max() == 0
    maps = torch.full((1, 1, 1, 3, 3), 7.0, requires_grad=True)
    norm(maps).sum().backward()
    assert maps.grad.isfinite().all()
