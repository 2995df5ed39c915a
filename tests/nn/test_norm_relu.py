"""NormRelu against the framework's group normalisation and ReLU."""

import pytest
import torch
import torch.nn.functional as F

from unscene.errors import InputError
from unscene.nn.norm_relu import NormRelu


def maps(*shape, dtype=torch.float64, layout=torch.channels_last):
    torch.manual_seed(0)
    return (torch.randn(shape, dtype=dtype) * 3 + 50).to(memory_format=layout).requires_grad_()  # far from 0


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_equals_the_framework_in_values_and_gradients(groups, layout):
    x, norm = maps(3, 6, 5, 4, layout=layout), NormRelu(6, groups).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter += torch.randn_like(parameter)
    leaves, weight = [x, *norm.parameters()], torch.randn(3, 6, 5, 4, dtype=torch.float64)
    fast, plain = norm(x), F.relu(F.group_norm(x, groups, norm.weight, norm.bias))
    torch.testing.assert_close(fast, plain)
    gradients = torch.autograd.grad((fast * weight).sum(), leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad((plain * weight).sum(), leaves))
    assert fast.is_contiguous(memory_format=layout)


def test_gradients_are_right_numerically():
    norm = NormRelu(4, 2).double()
    assert torch.autograd.gradcheck(norm, maps(2, 4, 3, 2), nondet_tol=0)


def test_constant_maps_become_the_bias():
    norm = NormRelu(2, 2)
    with torch.no_grad():
        norm.bias += torch.tensor([0.5, -0.5])
    out = norm(torch.full((1, 2, 4, 4), -1e4))
    assert out[0, 0].unique().item() == 0.5 and out[0, 1].unique().item() == 0


def test_arithmetic_is_in_float32_and_the_output_in_the_dtype_of_the_maps():
    norm, x = NormRelu(6, 6), maps(2, 6, 8, 8, dtype=torch.bfloat16)
    out = norm(x)
    assert out.dtype == torch.bfloat16
    expected = F.relu(F.group_norm(x.detach().float(), 6))
    torch.testing.assert_close(out.float(), expected, rtol=2**-8, atol=1e-6)  # one rounding
    out.float().square().sum().backward()
    assert x.grad.dtype == torch.bfloat16 and norm.weight.grad.dtype == torch.float32


def test_groups_are_of_one_size():
    with pytest.raises(InputError, match="12 channels cannot be normalised in 8 groups; give a multiple of 8"):
        NormRelu(12, 8)
