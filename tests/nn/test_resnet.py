"""Residual networks: parameters, initialisation, the shortcut against a plain one, sizes."""

import math

import pytest
import torch
import torch.nn.functional as F

from unscene.nn.resnet import Block, ResNet


@pytest.mark.parametrize(("name", "count"), [("resnet32", 463_504), ("resnet18", 11_176_512), ("resnet20", 269_072)])
def test_number_of_parameters(name, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet(name).parameters()) == count


def plain_block(block, x):
    """In which the shortcut is written channel by channel."""

    def norm(x, layer):
        x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        return x * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)

    stride = 2 if block.conv1.out_channels > x.shape[1] else 1
    y = norm(F.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.norm1).clamp(min=0)
    y = norm(F.conv2d(y, block.conv2.weight, padding=1), block.norm2)
    if block.shortcut is not None:
        return (y + norm(F.conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])).clamp(min=0)
    before = (y.shape[1] - x.shape[1]) // 2
    return torch.stack([
        (y[:, c] + x[:, c - before, ::stride, ::stride] if before <= c < before + x.shape[1] else y[:, c]).clamp(min=0)
        for c in range(y.shape[1])
    ], 1)  # fmt: skip


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
@pytest.mark.parametrize(("n_in", "n_out", "learned"), [(4, 4, False), (4, 8, False), (4, 8, True)])
def test_blocks_equal_plain_ones(n_in, n_out, learned, size):
    """In values and gradients, to torch's tolerance for float64 (1e-7)."""
    torch.manual_seed(0)
    block = Block(n_in, n_out, learned).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x = torch.randn(2, n_in, *size, dtype=torch.float64, requires_grad=True)
    fast, expected = block(x), plain_block(block, x)
    torch.testing.assert_close(fast, expected)
    weight, leaves = torch.randn_like(expected), [x, *block.parameters()]
    gradients = [torch.autograd.grad((out * weight).sum(), leaves) for out in (fast, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("name", "fan"), [("resnet18", 128 * 9), ("resnet20", 32 * 9)])
def test_initialisation(name, fan):
    """The first convolution of the second growing stage: fan-out 128 * 9 of 64 -> 128, fan-in 32 * 9 of 32 -> 64."""
    torch.manual_seed(0)
    net = ResNet(name)
    blocks = [block for block in net.layers if isinstance(block, Block) and block.extra]
    weight = blocks[0 if name == "resnet18" else 1].conv1.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.03)
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in net.modules() if hasattr(m, "running_mean"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_size_of_the_features(name, pool, channels):
    with torch.device("meta"):
        net = ResNet(name, channels, pool)
        features = net(torch.rand(2, channels, 35, 28))
    assert features.shape == (2, net.size)
    assert net.size == pool**2 * (512 if name == "resnet18" else 64)


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_features_are_averages_of_parts_of_the_image(name):
    net = ResNet(name, pool=2).eval()
    image = torch.rand(1, 3, 64, 64)
    maps = net.layers(image)
    assert maps.shape[2:] == ((2, 2) if name == "resnet18" else (16, 16))
    half = maps.shape[3] // 2
    means = [part.mean((2, 3)) for rows in maps.split(half, 2) for part in rows.split(half, 3)]
    torch.testing.assert_close(net(image), torch.stack(means, 2).flatten(1))


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_tiny_images_have_features_too(name):
    net = ResNet(name, pool=4)
    for size in ((1, 1), (3, 2)):
        assert net.eval()(torch.rand(1, 3, *size)).isfinite().all()
        assert net.train()(torch.rand(2, 3, *size)).isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_maps_stay_channels_last(name):
    net, layouts = ResNet(name), []
    for block in net.layers:
        block.register_forward_hook(
            lambda *call: layouts.append(call[2].is_contiguous(memory_format=torch.channels_last))
        )
    net(torch.rand(2, 3, 64, 64))
    assert layouts and all(layouts)
