"""The border-case first layer against the broadcast that it replaces."""

import math

import pytest
import torch
import torch.nn.functional as F

from unscene.errors import InputError
from unscene.nn.blocks import SoftPosition, fourier_coordinates, linear_coordinates
from unscene.nn.decoders import BroadcastDecoder, DeconvDecoder


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("size", [(9, 11), (5, 5), (4, 7), (3, 2), (1, 1)])
@pytest.mark.parametrize(("octaves", "strides", "scale"), [(0, None, 1), (2, (1, 1, 2), 2), (1, (1, 2, 2), 4)])
def test_broadcast_decoder_equals_the_broadcast(kernel_size, size, octaves, strides, scale):
    if strides and kernel_size == 1:
        strides, scale = None, 1  # a transposed convolution of one tap leaves holes
    torch.manual_seed(0)
    decoder = BroadcastDecoder(6, (8, 7), 4, kernel_size, octaves, strides).double()
    z = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, *size, dtype=torch.float64)
    grid = tuple(math.ceil(n / scale) for n in size)

    def plain():
        coordinates = fourier_coordinates(grid, z, octaves).expand(3, -1, -1, -1)
        x = torch.cat([z[:, :, None, None].expand(-1, -1, *grid), coordinates], 1)
        x = F.elu(decoder.convs[0](x))
        return decoder.convs[2](F.elu(decoder.convs[1](x)))[..., : size[0], : size[1]]

    fast, expected = decoder(z, size, *decoder.prepare(size)), plain()
    assert fast.shape == (3, 4, *size)
    torch.testing.assert_close(fast, expected)
    leaves = [z, *decoder.parameters()]
    gradients = torch.autograd.grad((fast * weight).sum(), leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weight).sum(), leaves))


@pytest.mark.parametrize("size", [(9, 11), (4, 7), (1, 1)])
@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("position", ["joined", "added"])
@pytest.mark.parametrize(("activation", "out_kernel"), [("elu", None), ("relu", 1)])
def test_its_other_forms_equal_the_broadcast(size, padding, position, activation, out_kernel):
    torch.manual_seed(0)
    out_kernel = 3 if padding == 1 else out_kernel  # a kernel of 1 has nothing to pad
    options = {"padding": padding, "position": position, "activation": activation, "out_kernel": out_kernel}
    decoder = BroadcastDecoder(6, (8, 7), 4, 5, **options).double()
    z = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, *size, dtype=torch.float64)
    pads = [k // 2 if padding == "same" else 0 if padding == "valid" else padding for k in (5, 5, out_kernel or 5)]
    margin = 2 * sum(k // 2 - pad for k, pad in zip((5, 5, out_kernel or 5), pads, strict=True))
    grid = tuple(n + margin for n in size)

    def plain():
        x = z[:, :, None, None].expand(-1, -1, *grid)
        if position == "joined":
            x = torch.cat([x, linear_coordinates(grid, z).expand(3, -1, -1, -1)], 1)
        else:
            x = x + decoder.position(grid)
        for i, conv in enumerate(decoder.convs):
            x = F.conv2d(x, conv.weight, conv.bias, padding=pads[i])
            if i < 2:
                x = getattr(F, activation)(x)
        return x

    fast, expected = decoder(z, size, *decoder.prepare(size)), plain()
    assert fast.shape == (3, 4, *size)
    torch.testing.assert_close(fast, expected)
    leaves = [z, *decoder.parameters()]
    gradients = torch.autograd.grad((fast * weight).sum(), leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weight).sum(), leaves))


def test_soft_position_is_linear_in_the_four_distances():
    position = SoftPosition(3)
    y, x = 1 / 2, 2 / 4
    expected = position.linear(torch.tensor([y, x, 1 - y, 1 - x]))
    torch.testing.assert_close(position((3, 5))[0, :, 1, 2], expected)
    torch.testing.assert_close(position((3, 5))[0, :, 0, 4], position.linear(torch.tensor([0.0, 1, 1, 0])))


@pytest.mark.parametrize("strides", [(1, 1), (2, 1, 1), (1, 1, 3)])
def test_unusable_strides_are_refused(strides):
    with pytest.raises(InputError, match=r"decoder_strides is .* for 3 convolutions .*; give one for each, 1 or 2"):
        BroadcastDecoder(6, (8, 7), 4, 3, 0, strides)


def test_coordinates_run_from_corner_to_corner():
    xy = linear_coordinates((3, 5), torch.zeros(1))
    assert xy[0, :, 0, 0].tolist() == [-1, -1] and xy[0, :, 2, 4].tolist() == [1, 1]
    assert xy[0, :, 1, 2].tolist() == [0, 0]


@pytest.mark.parametrize(("size", "small"), [((128, 128), (8, 8, 8)), ((35, 40), (8, 3, 3))])
def test_deconv_decoder_doubles_four_times(size, small):
    decoder = DeconvDecoder(6, 4, 4, 5, size)
    assert decoder.small == small
    assert decoder(torch.randn(2, 6), size).shape == (2, 4, *size)
