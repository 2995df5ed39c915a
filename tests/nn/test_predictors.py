"""Stacked predictors against separate networks; their start; slices and precision."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from unscene.nn.predictors import Predictors


def randomised(*arguments):
    torch.manual_seed(0)
    predictors = Predictors(*arguments).double()
    with torch.no_grad():
        for parameter in predictors.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return predictors


def separate(predictors, index):
    """The network at an index of the stack as torch's own layers."""
    layers = []
    for weight, bias in zip(predictors.weights, predictors.biases, strict=True):
        layer = nn.Linear(*weight.shape[-2:]).double()
        with torch.no_grad():
            layer.weight.copy_(weight[index].T)
            layer.bias.copy_(bias[index])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("stack", [(), (4,), (2, 3)])
def test_equal_separate_networks(stack):
    """In values and gradients, to torch's tolerance for float64 (1e-7)."""
    predictors = randomised(10, 6, stack)
    features = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    out = predictors(features)
    assert out.shape == (5, *stack, 6)
    target = torch.randn_like(out)
    (of_features, *_) = torch.autograd.grad((out * target).sum(), [features], retain_graph=True)
    (out * target).sum().backward(inputs=list(predictors.parameters()))
    expected = torch.zeros_like(of_features)
    for index in product(*map(range, stack)):
        network = separate(predictors, index)
        alone = network(features)
        torch.testing.assert_close(out[:, *index], alone)
        loss = (alone * target[:, *index]).sum()
        expected += torch.autograd.grad(loss, features, retain_graph=True)[0]
        loss.backward(inputs=list(network.parameters()))
        for i in range(3):
            torch.testing.assert_close(predictors.weights[i].grad[index], network[2 * i].weight.grad.T)
            torch.testing.assert_close(predictors.biases[i].grad[index], network[2 * i].bias.grad)
    torch.testing.assert_close(of_features, expected)


def test_a_network_that_is_not_used_has_a_gradient_of_zero():
    predictors = randomised(10, 6, (2, 3))
    predictors(torch.randn(5, 10, dtype=torch.float64))[:, 1, 2].square().sum().backward()
    for parameter in predictors.parameters():
        assert parameter.grad[1, 2].any()
        parameter.grad[1, 2] = 0
        assert not parameter.grad.any()


def test_start():
    torch.manual_seed(0)
    predictors = Predictors(64, 5, (3, 4))
    assert not predictors(torch.randn(2, 64)).any()
    assert [tuple(w.shape) for w in predictors.weights] == [(3, 4, 64, 128), (3, 4, 128, 128), (3, 4, 128, 5)]
    assert [tuple(b.shape) for b in predictors.biases] == [(3, 4, 128), (3, 4, 128), (3, 4, 5)]
    plain = nn.Linear(64, 128)  # as torch initialises it
    for ours, theirs in ((predictors.weights[0], plain.weight), (predictors.biases[0], plain.bias)):
        assert 0.95 / math.sqrt(64) < ours.abs().max() <= 1 / math.sqrt(64)
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.1)
    networks = predictors.weights[0].flatten(0, 1)
    assert not any(torch.equal(networks[i], networks[j]) for i in range(12) for j in range(i))


def test_autocast_changes_nothing():
    predictors = randomised(10, 6, (2,)).float()
    features = torch.randn(3, 10).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = predictors(features)
    torch.testing.assert_close(out, predictors(features.float()), rtol=0, atol=0)
