"""The equations of Slot Attention (Locatello et al., 2020), plainly: what fast code must equal and be faster than."""

import math

import torch
import torch.nn.functional as F


def norm(x, layer):
    variance = x.var(-1, correction=0, keepdim=True)
    return (x - x.mean(-1, keepdim=True)) / (variance + 1e-3).sqrt() * layer.weight + layer.bias


def dense(x, layer):
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def mlp(x, layers):
    return dense(dense(x, layers[0]).clamp_min(0), layers[2])


def positions(height, width, layer):
    y = torch.arange(height, dtype=layer.linear.weight.dtype) / (height - 1)
    x = torch.arange(width, dtype=layer.linear.weight.dtype) / (width - 1)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return dense(torch.stack([y, x, 1 - y, 1 - x], -1), layer.linear)  # (H, W, channels)


def gru(x, h, cell):
    (xr, xz, xn), (hr, hz, hn) = (
        (v @ w.T + b).chunk(3, -1) for v, w, b in ((x, cell.weight_ih, cell.bias_ih), (h, cell.weight_hh, cell.bias_hh))
    )
    reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    return update * h + (1 - update) * torch.tanh(xn + reset * hn)


def encode(model, image):
    x = image * 2 - 1
    for layer in model.encoder.convs:
        x = F.conv2d(x, layer.weight, layer.bias, layer.stride, padding=2).clamp_min(0)
    x = x.permute(0, 2, 3, 1)
    x = x + positions(*x.shape[1:3], model.encoder.position)
    return mlp(norm(x.flatten(1, 2), model.encoder.norm), model.encoder.mlp)


def read(parts, slots, features):
    """What slots win of the features; ``parts`` holds the layers."""
    features = norm(features, parts.norm_features)
    k, v, q = (
        dense(features, parts.key),
        dense(features, parts.value),
        dense(norm(slots, parts.norm_slots), parts.query),
    )
    scores = (torch.einsum("bnd,bkd->bnk", k, q) / math.sqrt(slots.shape[2])).exp()
    attention = scores / scores.sum(2, keepdim=True) + 1e-8
    attention = attention / attention.sum(1, keepdim=True)
    return torch.einsum("bnk,bnd->bkd", attention, v)


def attend(module, features, num_slots, iterations):
    noise = torch.randn(len(features), num_slots, module.mean.shape[1], dtype=features.dtype)
    slots, history = module.mean + module.log_scale.exp() * noise, []
    for _ in range(iterations):
        slots = gru(read(module.competition, slots, features), slots, module.gru)
        slots = slots + mlp(norm(slots, module.mlp.norm), module.mlp.mlp)
        history.append(slots)
    return history


def decode(model, slots, height, width, strides):
    grid = [math.ceil(n / math.prod(strides)) for n in (height, width)]
    x = slots[:, :, None, None] + positions(*grid, model.decoder.position)
    x = x.flatten(0, 1).permute(0, 3, 1, 2)
    for i, (layer, stride) in enumerate(zip(model.decoder.convs, strides, strict=True)):
        padding = layer.weight.shape[2] // 2
        if stride == 1:
            x = F.conv2d(x, layer.weight, layer.bias, padding=padding)
        else:
            x = F.conv_transpose2d(x, layer.weight, layer.bias, 2, padding, output_padding=1)
        x = x.clamp_min(0) if i < len(strides) - 1 else x
    x = x[:, :, :height, :width].unflatten(0, slots.shape[:2])
    return x[:, :, :-1], x[:, :, -1]


def slot_attention_loss(model, image, strides, num_slots, iterations):
    """The loss, and the slots after each iteration."""
    history = attend(model.slots, encode(model, image), num_slots, iterations)
    rgb, logits = decode(model, history[-1], *image.shape[-2:], strides)
    masks = logits.exp() / logits.exp().sum(1, keepdim=True)
    error = (masks[:, :, None] * rgb).sum(1) - (image * 2 - 1)
    return (error**2).mean(), history
