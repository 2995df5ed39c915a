"""GENESIS and GENESIS-V2 straight from their equations: loops over slots, probabilities, no shared computations.

The numbers are those of a model's parameters; the arithmetic is done here, with what torch.nn.functional has at most.
"""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Normal


def lstm(weights, inputs):
    """Hidden states of an LSTM that starts at zero; ``weights`` of inputs, of states, and their biases."""
    of_input, of_state, bias, state_bias = weights
    h = c = torch.zeros(len(inputs[0]), of_state.shape[1], dtype=of_state.dtype)
    for x in inputs:
        i, f, g, o = (x @ of_input.T + bias + h @ of_state.T + state_bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        yield h


def affine(layer, x):
    return x @ layer.weight.T + layer.bias


def posterior(parameters):
    mean, y = parameters.chunk(2, 1)
    return Normal(mean, torch.log1p((y + 0.5).exp()) + 1e-8)


def prior(parameters):
    mean, y = parameters.chunk(2, 1)
    return Normal(mean.tanh(), 1 / (1 + (-(y + 4)).exp()) + 1e-4)


def autoregressive_prior(module, z):
    """p(z_k | z_1 .. z_k-1) for a list of latents."""
    weights = [getattr(module.lstm, name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]
    priors = [Normal(torch.zeros_like(z[0]), torch.ones_like(z[0]))]
    return priors + [prior(affine(module.out, h)) for h in lstm(weights, z[:-1])]


def one_sample_kl(posteriors, priors, z):
    return sum((q.log_prob(x) - p.log_prob(x)).sum() for q, p, x in zip(posteriors, priors, z, strict=True)) / len(z[0])


def mixture_nll(image, means, masks, scale=0.7):
    """Each channel of a pixel is a mixture; the sum over them, the mean over images."""
    densities = sum(m * Normal(mu, scale).log_prob(image).exp() for mu, m in zip(means, masks, strict=True))
    return -densities.log().sum() / len(image)


def gated(layer, x):
    """Values times sigmoid(gates), each normalised by the batch."""
    conv = layer.conv
    if isinstance(conv, torch.nn.ConvTranspose2d):
        x = F.conv_transpose2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.output_padding)
    else:
        x = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    if isinstance(layer.norm, torch.nn.BatchNorm2d):
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt() * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
    half = x.shape[1] // 2
    return x[:, :half] * x[:, half:].sigmoid()


def grid_of(size, like):
    y, x = (torch.linspace(-1, 1, n, dtype=like.dtype) for n in size)
    return torch.stack([y[:, None].expand(*size), x.expand(*size)])[None].expand(len(like), -1, -1, -1)


def broadcast(decoder, z, size):
    """Spatial broadcast to a grid so much larger that the unpadded convolutions end at the image; sigmoid."""
    size = [n + 2 * (len(decoder.convs) - 1) for n in size]
    x = torch.cat([z[:, :, None, None].expand(-1, -1, *size), grid_of(size, z)], 1)
    for conv in decoder.convs[:-1]:
        x = F.elu(F.conv2d(x, conv.weight, conv.bias))
    return F.conv2d(x, decoder.convs[-1].weight, decoder.convs[-1].bias).sigmoid()


def genesis_loss(model, image, noise):
    """The loss at beta = 1, with batch statistics; ``noise`` (B, K, D) makes the samples."""
    mask_noise = noise[:, :, : model.sizes[0]].unbind(1)
    x = image
    for layer in model.mask_encoder.convs:
        x = gated(layer, x)
    whole = model.mask_encoder.code.weight.unflatten(1, x.shape[1:])  # a convolution that sees the whole map
    value, gate = F.conv2d(x, whole, model.mask_encoder.code.bias).flatten(1).chunk(2, 1)
    code = value * gate.sigmoid()

    posteriors = [posterior(affine(model.first_posterior, code))]
    z = [posteriors[0].mean + posteriors[0].stddev * mask_noise[0]]
    cell = model.next_posterior
    weights, inputs = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh), []
    for of_slot in mask_noise[1:]:
        inputs.append(torch.cat([code, z[-1]], 1))
        *_, hidden = lstm(weights, inputs)
        posteriors.append(posterior(affine(model.next_posterior_out, hidden)))
        z.append(posteriors[-1].mean + posteriors[-1].stddev * of_slot)
    kl = one_sample_kl(posteriors, autoregressive_prior(model.mask_prior, z), z)

    x = torch.cat(z[:-1])[:, :, None, None]
    for layer in model.mask_decoder.convs:
        x = gated(layer, x)
    logits = F.conv2d(x, model.mask_decoder.out.weight, model.mask_decoder.out.bias)
    logits = logits[..., : image.shape[2], : image.shape[3]].chunk(len(z) - 1)
    masks, scope = [], torch.ones_like(image[:, :1])
    for a in logits:
        masks.append(scope * a.sigmoid())
        scope = scope * (1 - a.sigmoid())
    masks.append(scope)

    if len(model.sizes) == 1:
        means = [broadcast(model.decoder, of_slot, image.shape[2:]) for of_slot in z]
        return mixture_nll(image, means, masks) + kl
    means = []
    for mask_z, mask, of_slot in zip(z, masks, noise[:, :, model.sizes[0] :].unbind(1), strict=True):
        x = torch.cat([mask.log(), image], 1)
        for conv in model.component_encoder.convs:
            x = F.elu(F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1))
        hidden = F.elu(affine(model.component_encoder.hidden, x.flatten(1)))
        q = posterior(affine(model.component_encoder.out, hidden))
        component_z = q.mean + q.stddev * of_slot
        hidden = F.elu(affine(model.component_prior[0], mask_z))
        hidden = F.elu(affine(model.component_prior[2], hidden))
        kl = kl + one_sample_kl([q], [prior(affine(model.component_prior[4], hidden))], [component_z])
        means.append(broadcast(model.decoder, component_z, image.shape[2:]))
    return mixture_nll(image, means, masks) + kl


def straight_through(x, low, high):
    return x + (x.clamp(low, high) - x).detach()


def attention(colouring, maps, num_slots, uniform):
    """Masks of IC-SBP, a list of (B, H, W); ``uniform`` (B, H W) chooses the seeds."""
    colours = colouring.gate * F.conv2d(maps, colouring.colours.weight, colouring.colours.bias)
    colours = torch.cat([colours[:, :-2], colours[:, -2:] + grid_of(maps.shape[2:], maps)], 1)
    masks, scope = [], torch.ones_like(maps[:, 0])
    for _ in range(num_slots - 1):
        alphas = []
        for image, left, u in zip(colours, scope, uniform.unflatten(1, maps.shape[2:]), strict=True):
            row, column = divmod(int((u * left).argmax()), maps.shape[3])
            distance = (image - image[:, row, column, None, None]).square().sum(0)
            alphas.append((-distance / colouring.log_sigma.exp()).exp())
        alpha = straight_through(torch.stack(alphas), 0.01, 0.99)
        masks.append(scope * alpha)
        scope = scope * (1 - alpha)
    return [*masks, scope]


def genesis_v2_loss(model, image, uniform, noise):
    """The loss at beta = 1; the U-Net and the heads' convolutions are the model's own."""
    maps = model.encoder(image)
    masks = attention(model.colouring, model.segmentation_head(maps), noise.shape[1], uniform)
    known = [maps, grid_of(image.shape[2:], image)] if model.coordinates else [maps]
    features = model.feature_head(torch.cat(known, 1))
    features = F.conv2d(features, model.features.weight[:, :, None, None], model.features.bias)
    posteriors = []
    for mask in masks:
        x = (features * mask[:, None]).sum((2, 3)) / (mask.sum((1, 2))[:, None] + 1e-5)
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        norm, first, _, last = model.posterior
        posteriors.append(posterior(affine(last, affine(first, x * norm.weight + norm.bias).relu())))
    z = [q.mean + q.stddev * of_slot for q, of_slot in zip(posteriors, noise.unbind(1), strict=True)]
    kl = one_sample_kl(posteriors, autoregressive_prior(model.prior, z), z)

    means, logits, decoder = [], [], model.decoder
    for of_slot in z:
        size = [math.ceil(n / 2 ** len(decoder.convs)) for n in image.shape[2:]]
        x = torch.cat([of_slot[:, :, None, None].expand(-1, -1, *size), grid_of(size, of_slot)], 1)
        for conv, norm in zip(decoder.convs, decoder.norms, strict=True):
            x = F.conv_transpose2d(x, conv.weight, conv.bias, 2, 2, 1)
            x = F.group_norm(x, 8, norm.weight, norm.bias).relu()
        x = F.conv2d(x, decoder.out.weight, decoder.out.bias)[..., : image.shape[2], : image.shape[3]]
        means.append(x[:, :3].sigmoid())
        logits.append(x[:, 3:])
    painted = torch.stack(logits).exp()
    painted = painted / painted.sum(0)
    nll = mixture_nll(image, means, painted)
    if model.attention_kl:
        ratios = [m * (m.log() - p.detach().log()[:, 0]) for m, p in zip(masks, painted, strict=True)]
        kl = kl + sum(ratio.sum() for ratio in ratios) / len(image)
    return nll + kl
