"""Gated convolutions: the gate, and sizes that come back however the strides divide them."""

import pytest
import torch
from torch import nn

from unscene.nn.gated import Gated, GatedDecoder, GatedEncoder, running_statistics


def test_half_of_the_channels_gate_the_other_half():
    conv = nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([1.0, 2, 0, 100]).view(4, 1, 1, 1)
        conv.bias[:] = torch.tensor([0.0, 0, 0, -50])
    out = Gated(conv, norm=False)(torch.tensor([3.0, 0]).view(1, 1, 1, 2))
    torch.testing.assert_close(out.squeeze(), torch.tensor([[1.5, 0], [6, 0]]))


def test_both_halves_are_normalised():
    layer = Gated(nn.Conv2d(3, 8, 3))
    seen = []
    layer.norm.register_forward_hook(lambda *args: seen.append(args[-1]))
    assert layer(torch.rand(16, 3, 9, 9) + 5).shape == (16, 4, 7, 7)
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0].std((0, 2, 3)), torch.ones(8), atol=1e-2, rtol=0)


@pytest.mark.parametrize("strides", [(1, 2), (2, 1), (2, 2), (1, 1)])
@pytest.mark.parametrize("size", [(8, 12), (9, 7), (1, 5)])
def test_the_decoder_answers_at_the_size_that_the_encoder_saw(size, strides):
    encoder = GatedEncoder(3, (4, 5), strides, size, code_size=6).eval()
    decoder = GatedDecoder(6, (5, 4), strides, size, out_channels=2).eval()
    code = encoder(torch.rand(3, 3, *size))
    assert code.shape == (3, 6)
    assert decoder(code).shape == (3, 2, *size)


def test_running_statistics_do_not_depend_on_the_batch_and_end():
    encoder, image = GatedEncoder(3, (4,), (1,), (6, 6), code_size=2), torch.rand(4, 3, 6, 6)
    encoder(image)
    with running_statistics(encoder):
        torch.testing.assert_close(encoder(image)[:1], encoder(image[:1]))
    assert encoder.training and encoder.convs[0].training
    with pytest.raises(KeyError), running_statistics(encoder):
        raise KeyError
    assert encoder.training
