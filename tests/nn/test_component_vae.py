"""The component encoder against its layers one by one; its sizes, its dtype, its refusals."""

import pytest
import torch
import torch.nn.functional as F

from unscene.errors import InputError
from unscene.nn.component_vae import ComponentEncoder


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_equals_its_layers_in_values_and_gradients(padding, activation):
    torch.manual_seed(0)
    encoder = ComponentEncoder(4, 6, (17, 12), (5, 7), 8, padding, activation).double()
    x, weight = torch.randn(3, 4, 17, 12).double().requires_grad_(), torch.randn(3, 6).double()
    activate, y = getattr(F, activation), x
    for conv in encoder.convs:
        y = activate(F.conv2d(y, conv.weight, conv.bias, stride=2, padding=padding))
    y = activate(F.linear(y.flatten(1), encoder.hidden.weight, encoder.hidden.bias))
    expected, fast = F.linear(y, encoder.out.weight, encoder.out.bias), encoder(x)
    torch.testing.assert_close(fast, expected)
    leaves = [x, *encoder.parameters()]
    gradients = torch.autograd.grad((fast * weight).sum(), leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weight).sum(), leaves))


@pytest.mark.parametrize(
    ("size", "padding", "last"),
    [((64, 64), 1, 4 * 4), ((64, 64), 0, 3 * 3), ((35, 40), 1, 3 * 3), ((128, 128), 1, 8 * 8)],
)
def test_size_of_the_last_map(size, padding, last):
    assert ComponentEncoder(4, 32, size, padding=padding).hidden.in_features == 64 * last


def test_output_is_float32_whatever_the_convolutions_run_in():
    encoder, x = ComponentEncoder(4, 6, (16, 16), (5, 7), 8), torch.rand(2, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        out = encoder(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, encoder(x), rtol=0, atol=0.02)


def test_images_of_which_nothing_is_left_are_refused():
    with pytest.raises(InputError, match=r"\(16, 8\); 3 convolutions with padding 0 leave nothing of it; take larger"):
        ComponentEncoder(4, 6, (16, 8), (5, 5, 5), padding=0)
