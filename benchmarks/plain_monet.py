"""MONet straight from its equations: loops over slots, probabilities, no shared computations.

The numbers are those of a model's parameters; the arithmetic is done here, with what torch.nn.functional has at most.
GECO is left out: its factor is 1 before the first step.
"""

import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence


def normal(mean, scale):
    return Normal(mean, scale, validate_args=False)


# ---- networks ---------------------------------------------------------------------------------------------------


def block(layer, x, height=None, width=None):
    x = F.conv2d(x, layer.conv.weight, padding=1)[:, :, :height, :width]
    return F.relu(F.instance_norm(x, weight=layer.norm.weight, bias=layer.norm.bias))


def unet(parts, x):
    skips = []
    for i, layer in enumerate(parts.down):
        if i > 0:
            x = x[:, :, : x.shape[2] // 2 * 2 : 2, : x.shape[3] // 2 * 2 : 2]
        x = block(layer, x)
        skips.append(x)
    small = x.shape
    x = x.flatten(1)
    for layer in parts.mlp:
        x = F.relu(F.linear(x, layer.weight, layer.bias))
    x = x.view(small)
    for i, (layer, skip) in enumerate(zip(list(parts.up)[::-1], skips[::-1], strict=True)):
        height, width = skip.shape[2:]
        if i > 0:
            odd = (0, width % 2, 0, height % 2)  # one more copy of the border beside zeros, cut off in the end
            x = F.interpolate(F.pad(x, odd, mode="replicate") if any(odd) else x, scale_factor=2)
            skip = F.pad(skip, odd) if any(odd) else skip
        x = block(layer, torch.cat([x, skip], 1), height, width)
    return x


def encode(encoder, x, padding):
    for conv in encoder.convs:
        x = F.relu(F.conv2d(x, conv.weight, conv.bias, stride=2, padding=padding))
    hidden = F.relu(F.linear(x.flatten(1), encoder.hidden.weight, encoder.hidden.bias))
    return F.linear(hidden, encoder.out.weight, encoder.out.bias)


def coordinates(size, like):
    """Row and column of each pixel (2, H, W), from -1 to 1."""
    axes = [torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def broadcast(decoder, z, size):
    """Spatial broadcast to a grid so much larger that the unpadded convolutions end at the image."""
    grid = coordinates([n + 2 * (len(decoder.convs) - 1) for n in size], z).expand(len(z), -1, -1, -1)
    x = torch.cat([z[:, :, None, None].expand(-1, -1, *grid.shape[2:]), grid], 1)
    *hidden, last = decoder.convs
    for conv in hidden:
        x = F.relu(F.conv2d(x, conv.weight, conv.bias))
    return F.conv2d(x, last.weight, last.bias)


# ---- the objective, with lists over slots -----------------------------------------------------------------------


def attend(model, image, num_slots):
    """Masks (B, 1, H, W): each slot takes its share of what is left, the last one the rest."""
    scope, masks, out = torch.ones_like(image[:, :1]), [], model.attention_out
    for _ in range(num_slots - 1):
        features = unet(model.attention, torch.cat([image, scope.log()], 1))
        alpha = F.conv2d(features, out.weight, out.bias).sigmoid()
        masks.append(scope * alpha)
        scope = scope * (1 - alpha)
    return [*masks, scope]


def posterior(model, image, mask, padding):
    mean, y = encode(model.encoder, torch.cat([mask.log(), image], 1), padding).chunk(2, 1)
    return normal(mean, y.exp() if model.posterior_scale == "exp" else F.softplus(y + 0.5) + 1e-8)


def mixture_nll(model, image, masks, rgb):
    """The sum over pixels and channels, the mean over images."""

    def density(mean, k):
        scale = model.background_scale if k == 0 and model.mixture_event != "mean" else model.foreground_scale
        return normal(mean, scale).log_prob(image).exp()

    if model.mixture_event == "mean":
        p = density(sum(m * x for m, x in zip(masks, rgb, strict=True)), 0)
    elif model.mixture_event == "channel":
        p = sum(m * density(x, k) for k, (m, x) in enumerate(zip(masks, rgb, strict=True)))
    else:
        p = sum(m * density(x, k).prod(1, keepdim=True) for k, (m, x) in enumerate(zip(masks, rgb, strict=True)))
    return -p.log().sum() / len(image)


def masks_kl(model, given, made):
    """The sum over pixels, the mean over images."""
    if model.mask_kl_floor:
        given, made = ([p.clamp(min=model.mask_kl_floor) for p in masks] for masks in (given, made))
        given, made = ([p / sum(masks) for p in masks] for masks in (given, made))
    return sum((p * (p.log() - q.log())).sum() for p, q in zip(given, made, strict=True)) / len(given[0])


def alike(lds, codes, masks):
    """LDS's penalty (B,) of codes (B, D), pair by pair; masks (B, ...) say which slots are present."""
    penalty, present = 0.0, [mask.detach().flatten(1).amax(1) if lds.presence else 1.0 for mask in masks]
    for h in range(len(codes)):
        for j in range(len(codes)):
            if h != j:
                similarity = F.cosine_similarity(codes[h], codes[j], dim=1)
                penalty = penalty + present[h] * present[j] * similarity**2 / (2 * lds.scale**2)
    return penalty


def monet_loss(model, image, padding):
    """The loss; ``padding`` is that of the encoder's convolutions."""
    masks = attend(model, image, model.num_slots)
    posteriors = [posterior(model, image, mask, padding) for mask in masks]
    B, D = posteriors[0].mean.shape
    noise = torch.randn(B, len(masks), D, dtype=image.dtype, device=image.device)
    zs = [q.mean + q.stddev * of_slot for q, of_slot in zip(posteriors, noise.unbind(1), strict=True)]
    decoded = [broadcast(model.decoder, z, image.shape[2:]) for z in zs]
    nll = mixture_nll(model, image, masks, [x[:, :-1].sigmoid() for x in decoded])
    kl = sum(kl_divergence(q, normal(0.0, 1.0)).sum() for q in posteriors) / len(image)
    made = torch.stack([x[:, -1:] for x in decoded]).softmax(0)
    total = nll + model.beta * kl + model.gamma * masks_kl(model, masks, made.unbind(0))
    if model.lds is not None:
        codes = zs if model.lds.on == "samples" else [q.mean for q in posteriors]
        total = total + model.lds.weight * alike(model.lds, codes, masks).mean()
    return total
