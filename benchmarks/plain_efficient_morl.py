"""EfficientMORL straight from its equations, with autograd for the gradient that the refinement sees.

The numbers are those of a model's parameters; the encoder and the competition are those of plain_slot_attention. Noise
is drawn in the model's order. GECO and LDS are left out. Under `torch.no_grad` only the graph of one iteration is alive
at a time.
"""

import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from plain_slot_attention import dense, encode, gru, mlp, norm, positions, read


def normal(parameters):
    mean, s = parameters.chunk(2, -1)
    return Normal(mean, (torch.log(1 + s.clamp(max=80).exp()) + 1e-5).sqrt(), validate_args=False)


def divergence(belief, prior):
    return kl_divergence(belief, prior).sum((1, 2))


# ---- the first stage --------------------------------------------------------------------------------------------


def conditional(prior, above):
    return normal(dense(F.elu(dense(above, prior.hidden)), prior.head))


def layer(part, posterior, z, features):
    won = read(part.competition, z, features)
    halves = []
    for half, cell, residual in zip(posterior.chunk(2, 2), part.grus, part.mlps, strict=True):
        half = gru(won, half, cell)
        halves.append(half + mlp(norm(half, residual.norm), residual.mlp))
    return torch.cat(halves, 2)


def bottom_up(model, image):
    """The last posterior, the noise of its sample, the KL (B,) of all layers, and p(z^1 | z^2)."""
    features, posterior = encode(model, image), model.initial_posterior.expand(len(image), model.num_slots, -1)
    beliefs, samples = [], []
    for n in range(model.layers + 1):
        posterior = layer(model.layer, posterior, samples[-1], features) if n else posterior
        beliefs.append(normal(posterior))
        noise = torch.randn_like(beliefs[-1].mean)
        samples.append(beliefs[-1].mean + beliefs[-1].stddev * noise)
    priors = [conditional(model.prior, above) for above in samples[2:]]
    priors.append(Normal(torch.zeros_like(noise), torch.ones_like(noise), validate_args=False))
    return posterior, noise, sum(map(divergence, beliefs[1:], priors)), priors[0]


# ---- the second stage -------------------------------------------------------------------------------------------


def decode(model, z, height, width, pads, activation=F.elu):
    """Means (B, K, C, H, W) and masks (B, K, 1, H, W); ``pads`` are those of the convolutions."""
    convs = model.decoder.convs
    margin = sum(conv.weight.shape[2] - 1 - 2 * pad for conv, pad in zip(convs, pads, strict=True))
    x = z[:, :, None, None] + positions(height + margin, width + margin, model.decoder.position)
    x = x.flatten(0, 1).permute(0, 3, 1, 2)
    for i, (conv, pad) in enumerate(zip(convs, pads, strict=True)):
        x = F.conv2d(x, conv.weight, conv.bias, padding=pad)
        x = activation(x) if i < len(convs) - 1 else x
    x = x.unflatten(0, z.shape[:2])
    return x[:, :, :-1].sigmoid(), x[:, :, -1:].softmax(1)


def log_density(model, image, means, masks):
    """(B,), summed over pixels and channels."""
    scale = model.likelihood.scale
    if model.event == "mean":
        return Normal((masks * means).sum(1), scale, validate_args=False).log_prob(image).sum((1, 2, 3))
    densities = Normal(means, scale, validate_args=False).log_prob(image[:, None])
    densities = densities.sum(2, keepdim=True) if model.event == "pixel" else densities
    return (masks.log() + densities).logsumexp(1).sum((1, 2, 3))


def refined(part, posterior, gradient, state):
    """The next posterior and the state of the refinement's GRU."""
    halves = zip(gradient.chunk(2, 2), part.norms, strict=True)
    inputs = torch.cat([posterior, *(F.layer_norm(half, n.weight.shape, n.weight, n.bias) for half, n in halves)], 2)
    hidden = dense(F.elu(dense(inputs, part.mlp[0])), part.mlp[2])
    state = gru(hidden, torch.zeros_like(hidden) if state is None else state, part.gru)
    return posterior + dense(state, part.head), state


def iterate(model, image, iterations, pads, activation=F.elu, sample_last=True):
    """nll (B,), kl (B,), z, means and masks of each iteration."""
    training, state, found = torch.is_grad_enabled(), None, []
    posterior, noise, kl, prior = bottom_up(model, image)
    fixed = Normal(prior.mean.detach(), prior.stddev.detach(), validate_args=False)
    for i in range(iterations + 1):
        with torch.set_grad_enabled(training or i < iterations):
            posterior = posterior if training else posterior.detach().requires_grad_()
            belief = normal(posterior)
            z = belief.mean + belief.stddev * noise if sample_last or i < iterations else belief.mean
            means, masks = decode(model, z, *image.shape[2:], pads, activation)
            nll = -log_density(model, image, means, masks)
            seen = nll.sum() + divergence(belief, fixed).sum()
        found.append((nll, divergence(belief, prior) if i else kl, z, means, masks))
        if i < iterations:
            (gradient,) = torch.autograd.grad(seen, posterior, retain_graph=training)
            posterior, state = refined(model.refinement, posterior, gradient, state)
            noise = torch.randn_like(noise)
    return found


def efficient_morl_loss(model, image, iterations, pads, activation=F.elu, extra=1):
    """The loss, in which iteration i weighs (I + ``extra`` - i) / (I + 1), and what `iterate` returns."""
    found, weights = iterate(model, image, iterations, pads, activation), range(iterations + extra, extra - 1, -1)
    return sum(w / (iterations + 1) * (nll + kl).mean() for w, (nll, kl, *_) in zip(weights, found, strict=True)), found
