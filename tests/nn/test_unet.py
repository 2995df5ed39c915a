"""The U-Net against a plain one that enlarges, joins and then convolves; widths, sizes, refusals."""

import pytest
import torch
import torch.nn.functional as F

from unscene.errors import InputError
from unscene.nn.unet import UNet, unet_channels


def plain(unet, x, groups):
    """Block by block, with the enlarged and joined maps in memory."""

    def block(layers, x, height=None, width=None):
        x = F.conv2d(x, layers.conv.weight, padding=1)[:, :, :height, :width]
        return F.relu(F.group_norm(x, groups or x.shape[1], layers.norm.weight, layers.norm.bias))

    def even(skip, mode):
        return F.pad(skip, (0, skip.shape[3] % 2, 0, skip.shape[2] % 2), mode=mode)

    skips = [block(unet.down[0], x)]
    for layers in unet.down[1:]:
        rows, columns = (n // 2 for n in skips[-1].shape[2:])
        skips.append(block(layers, skips[-1][:, :, : 2 * rows : 2, : 2 * columns : 2]))
    x = skips[-1].flatten(1)
    for layer in unet.mlp:
        x = F.relu(F.linear(x, layer.weight, layer.bias))
    x = block(unet.up[-1], torch.cat([x.view_as(skips[-1]), skips[-1]], 1))
    for layers, skip in zip(list(unet.up)[-2::-1], skips[-2::-1], strict=True):
        rows, columns = (torch.arange(n + n % 2) // 2 for n in skip.shape[2:])  # of the enlarged maps, even in number
        x = x[:, :, rows.clamp(max=x.shape[2] - 1)][..., columns.clamp(max=x.shape[3] - 1)]
        x = block(layers, torch.cat([x, even(skip, "constant")], 1), *skip.shape[2:])
    return x


@pytest.mark.parametrize("size", [(16, 8), (17, 11), (9, 14), (7, 15)])
@pytest.mark.parametrize("norm", ["instance", "group"])
def test_equals_the_plain_one_in_values_and_gradients(size, norm):
    torch.manual_seed(0)
    channels = (4, 6, 5) if norm == "instance" else (8, 16, 8)
    unet = UNet(3, channels, size, norm, hidden=7).double()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, channels[0], *size, dtype=torch.float64)
    fast, expected = unet(x), plain(unet, x, 8 if norm == "group" else None)
    assert fast.shape == (2, channels[0], *size)
    torch.testing.assert_close(fast, expected)
    leaves = [x, *unet.parameters()]
    gradients = torch.autograd.grad((fast * weight).sum(), leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weight).sum(), leaves))


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        ((32, 32), [32, 64, 64, 64]),
        ((35, 35), [32, 64, 64, 64]),
        ((64, 64), [32, 32, 64, 64, 64]),
        ((64, 96), [32, 32, 64, 64, 64]),
        ((128, 128), [32, 32, 32, 64, 64, 64]),
        ((16, 16), [32, 64, 64]),
        ((4, 4), [32, 64]),
    ],
)
def test_usual_channels(size, channels):
    assert unet_channels(32, size) == channels


def test_widths_of_the_blocks_mirror_each_other():
    unet = UNet(4, unet_channels(32, (64, 64)), (64, 64))
    widths = [[(block.conv.in_channels, block.conv.out_channels) for block in side] for side in (unet.down, unet.up)]
    assert widths[0] == [(4, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
    assert widths[1][::-1] == [(128, 64), (128, 64), (128, 32), (64, 32), (64, 32)]
    assert [layer.in_features for layer in unet.mlp] == [1024, 128, 128]
    wide = UNet(4, (64, 128, 256, 512, 512), (64, 64))
    assert [block.conv.in_channels for block in wide.up] == [128, 256, 512, 1024, 1024]


def test_maps_stay_channels_last():
    unet, layouts = UNet(3, (8, 8), (16, 16)), []
    for block in (*unet.down, *unet.up):
        block.register_forward_hook(
            lambda *call: layouts.append(call[2].is_contiguous(memory_format=torch.channels_last))
        )
    unet(torch.rand(2, 3, 16, 16))
    assert layouts == [True] * 4


def test_images_too_small_for_the_blocks_are_refused():
    with pytest.raises(InputError, match=r"\(32, 7\); the U-Net halves it 3 times, so it must be at least 8 x 8"):
        UNet(3, (8, 8, 8, 8), (32, 7))
