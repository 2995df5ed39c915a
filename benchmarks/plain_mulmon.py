"""MulMON straight from its equations: the oracle of the tests and the baseline of the benchmarks.

All inputs of the refinement concatenated for every slot and iteration, z broadcast to every pixel, and autograd for all
gradients. It reads weights and options from an `unscene.MulMON`, ``m``, and draws noise in the same order. Under
`torch.no_grad` only the graph of one iteration is alive at a time.
"""

import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from plain_monet import alike, broadcast, coordinates


def draw_views(m, viewpoint):
    """Noisy viewpoints, and the indices (B, L) and (B, Q) of the views to observe and to query."""
    viewpoint = viewpoint + m.view_noise * torch.randn_like(viewpoint)
    with torch.device("cpu"):  # where the model draws L, whatever the default
        return viewpoint, *m._choose(*viewpoint.shape[:2], viewpoint.device)


def mulmon_loss(m, image, viewpoint, observed, queried):
    """The objective for given indices (B, L) and (B, Q) of views."""
    rows = torch.arange(len(image), device=image.device)
    belief = m.initial_belief.expand(len(image), m.num_slots, -1)
    total, L = 0.0, observed.shape[1]
    for i in range(L):
        prior = torch.zeros_like(belief) if i == 0 and m.first_prior == "normal" else belief
        index = observed[:, i]
        loss, belief = view_loss(m, image[rows, index], viewpoint[rows, index], belief, prior)
        total = total + 2 / (L + 1) * (i + 1) / L * loss
    if m.query_weight:
        mean, logvar = belief.chunk(2, 2)
        shape = len(image), queried.shape[1], *mean.shape[1:]
        noise = torch.randn(shape, dtype=mean.dtype, device=mean.device)
        for q in range(queried.shape[1]):
            z, index = mean + (0.5 * logvar).exp() * noise[:, q], queried[:, q]
            means, masks, _, _ = decode(m, z, viewpoint[rows, index])
            log_prob = (masks.log().unsqueeze(2) + log_density(m, image[rows, index], means)).logsumexp(1)
            total = total - m.query_weight * log_prob.sum() / len(image) / queried.shape[1]
    return total


def view_loss(m, image, viewpoint, belief, prior):
    """IODINE with a prior, on one view: its weighted loss and the belief behind it."""
    belief, state, total, T, training = belief.clone(), None, 0.0, m.iterations, torch.is_grad_enabled()
    for t in range(1, T + 1):
        with torch.set_grad_enabled(training or t < T):
            belief = belief if training else belief.detach().requires_grad_()
            mean, logvar = belief.chunk(2, 2)
            z = mean + (0.5 * logvar).exp() * torch.randn_like(mean.flatten(0, 1)).view_as(mean)
            means, masks, logits, projected = decode(m, z, viewpoint)
            log_densities = log_density(m, image, means)
            log_prob = (masks.log().unsqueeze(2) + log_densities).logsumexp(1)
            q, p = (normal(x) for x in (belief, prior))
            kl = kl_divergence(q, p) if m.kl == "analytic" else q.log_prob(z) - p.log_prob(z)
            objective = kl.sum() - log_prob.sum()
            penalty = duplicates(m, z, mean, projected, viewpoint, masks)
            seen = objective + (penalty if m.lds and m.lds.in_refinement else 0.0)
        last = t == T or m.lds is None or m.lds.iterations == "all"
        total = total + t / T * 2 / (T + 1) * (objective + (penalty if last else 0.0))
        if t < T:
            gradients = torch.autograd.grad(seen, (means, masks, belief), retain_graph=training)
            change, state = refine(m, image, viewpoint, belief, means, masks, logits, log_densities, gradients, state)
            belief = belief + change
    return total / len(image), belief


def duplicates(m, z, mean, projected, viewpoint, masks):
    """LDS's penalty of all scenes, weighed."""
    if m.lds is None:
        return 0.0
    codes = z if m.lds.on == "samples" else mean
    if m.lds_on_projected:
        codes = projected if m.lds.on == "samples" else project(m, mean, viewpoint)
    return m.lds.weight * alike(m.lds, codes.unbind(1), masks.unbind(1)).sum()


def normal(belief):
    mean, logvar = belief.chunk(2, 2)
    return Normal(mean, (0.5 * logvar).exp(), validate_args=False)


def log_density(m, image, means):
    """Of each channel, or with a mixture per pixel of all together."""
    channels = Normal(means, m.likelihood.scale, validate_args=False).log_prob(image.unsqueeze(1))
    return channels if m.per_channel else channels.sum(2, keepdim=True)


def project(m, z, viewpoint):
    y = m.view_encoder(viewpoint).unsqueeze(1).expand(-1, z.shape[1], -1)
    return m.projector(torch.cat([z, y], 2))


def decode(m, z, viewpoint):
    """Means (B, K, C, H, W), masks and their logits (B, K, H, W), and the slots as they are in the view."""
    projected = project(m, z, viewpoint)
    x = broadcast(m.decoder, projected.flatten(0, 1), m.image_size).unflatten(0, z.shape[:2])
    return x[:, :, :-1], x[:, :, -1].softmax(1), x[:, :, -1], projected


def refine(m, image, viewpoint, belief, means, masks, logits, log_densities, gradients, state):
    """The change of the belief, and the LSTM's state."""
    B, K = masks.shape[:2]
    d_means, d_masks, d_belief = gradients
    of_pixels = log_densities.sum(2)
    likelihood = (masks.unsqueeze(2) * log_densities.exp()).sum(1).prod(1)
    own = (masks.unsqueeze(2) * log_densities.exp()).prod(2)
    without = (likelihood.unsqueeze(1) - own) / (1 - masks + 1e-5)
    inputs = [
        means,
        *(x.unsqueeze(2) for x in (masks, logits, of_pixels.softmax(1))),
        normalised(d_means, (2, 3, 4)),
        *(normalised(x.unsqueeze(2), (2, 3, 4)) for x in (d_masks, likelihood.unsqueeze(1), without)),
        image.unsqueeze(1),
        coordinates(m.image_size, image),
    ]
    x = torch.cat([x.expand(B, K, -1, -1, -1) for x in inputs], 2).flatten(0, 1)
    for layer in m.refinement.convs:
        x = F.relu(F.conv2d(x, layer.weight, layer.bias, stride=2))
    x = x.flatten(1)
    for layer in m.refinement.mlp:
        x = F.relu(layer(x))
    code = m.view_encoder(viewpoint).unsqueeze(1).expand(-1, K, -1)
    vectors = torch.cat([belief, normalised(d_belief, (2,)), *([code] if m.view_in_refinement else [])], 2)
    x = torch.cat([x, vectors.flatten(0, 1)], 1)
    if m.refinement.lstm is None:
        return m.refinement.head(x).unflatten(0, (B, K)), None
    state = m.refinement.lstm(x, state)
    return m.refinement.head(state[0]).unflatten(0, (B, K)), state


def normalised(x, axes):
    x = x.detach()
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + 1e-10).sqrt()
