"""DTI-Sprites and DTI-Clustering straight from their equations: every candidate drawn, composited and compared alone.

The numbers are those of a model's parameters, and features are those of its encoder; all else is done here, with loops
over layers, sprites and images. Chosen candidates are weighed by 1 and all others by 0, all with their graphs. Zeros,
ones and grids are of torch's default dtype and device, see `default_float64`.
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F


def soft_clamp(x):
    return x.clamp(0, 1) + 0.01 * x.clamp(max=0) + 0.01 * (x - 1).clamp(min=0)


def mlp(predictors, features, *index):
    """The network at ``index`` of the stack."""
    x = features
    for i, (weight, bias) in enumerate(zip(predictors.weights, predictors.biases, strict=True)):
        x = (x.clamp(min=0) if i else x) @ weight[index] + bias[index]
    return x


# ---- transformations of maps (B, E, h, w) by beta (B, P) --------------------------------------------------------


def color(maps, beta, channels, clamp=True):
    out = []
    for c in range(maps.shape[1]):
        value = maps[:, c]
        if c < channels:
            value = (1 + beta[:, 2 * c, None, None]) * value + beta[:, 2 * c + 1, None, None]
            value = soft_clamp(value) if clamp else value
        out.append(value)
    return torch.stack(out, 1)


def affine(maps, rows, size, padding):
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(theta, [len(maps), 1, *size], align_corners=False)
    return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)


def position(maps, beta, size, padding):
    s, x, y = beta.unbind(1)
    zero, scale = torch.zeros_like(s), s.exp() + 1
    return affine(maps, [[scale, zero, x], [zero, scale, y]], size, padding)


def similarity(maps, beta, size, padding):
    a, b, x, y = beta.unbind(1)
    return affine(maps, [[1 + a, -b, x], [b, 1 + a, y]], size, padding)


def points(height, width):
    """(x, y, 1) of pixels whose outermost lie at -1 and 1, (H W, 3)."""
    y, x = (torch.linspace(-1, 1, n) for n in (height, width))
    return torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones(height * width)], 1)


def sample_at(maps, places, size, padding):
    return F.grid_sample(maps, places.view(-1, *size, 2), padding_mode=padding, align_corners=True)


def projective(maps, beta, size, padding):
    homography = torch.eye(3) + beta.view(-1, 3, 3)
    places = points(*size) @ homography.mT
    return sample_at(maps, places[..., :2] / places[..., 2:], size, padding)


def tps(maps, beta, size, padding):
    def kernel(a, b):
        r2 = (a[:, None] - b).square().sum(-1)
        return 0.5 * r2 * torch.where(r2 > 0, r2, 1).log()

    controls, pixels = points(4, 4), points(*size)
    system = torch.zeros(19, 19)
    system[:16, :16], system[:16, 16:], system[16:, :16] = kernel(controls, controls), controls, controls.T
    moved = torch.cat([controls[:, :2] + beta.view(-1, 16, 2), torch.zeros(len(beta), 3, 2)], 1)
    terms = torch.cat([kernel(pixels, controls), pixels], 1)
    return sample_at(maps, terms @ torch.linalg.solve(system, moved), size, padding)


def transformed(maps, module, active, features, index, channels, out_size, padding="zeros", clamp=True):
    """The ``active`` transformations of a sequence, one after the other, with the networks at ``index``."""
    size = tuple(maps.shape[-2:])
    for name in active:
        beta = mlp(module.predictors[name], features, *index)
        if name == "color":
            maps = color(maps, beta, channels, clamp)
        else:
            size = out_size if name == "position" else size
            warp = {"position": position, "similarity": similarity, "projective": projective, "tps": tps}[name]
            maps = warp(maps, beta, size, padding)
    return maps


# ---- DTI-Sprites ------------------------------------------------------------------------------------------------


def candidates(model, features, active, noise, frozen):
    """[layer][sprite] -> (mask (B, H, W), colours (B, C, H, W)); ``noise`` (K, H, W), or None in evaluation mode."""
    layers, C = [], model.sprites.shape[1]
    for layer in range(model.num_layers):
        drawn = []
        for k in range(len(model.sprites)):
            rgb, mask = (x.detach() if frozen else x for x in (model.sprites[k], model.sprite_masks[k]))
            maps = torch.cat([soft_clamp(rgb), soft_clamp(mask) if noise is None else mask, torch.ones_like(mask)])
            maps = maps.expand(len(features), *maps.shape)
            size = model.image_size
            maps = transformed(maps, model.own_transforms, active["own"], features, (layer, k), C, size)
            maps = transformed(maps, model.layer_transforms, active["layer"], features, (layer,), C, size)
            alpha = maps[:, C] if noise is None else soft_clamp(maps[:, C] + maps[:, C + 1] * noise[k])
            drawn.append((alpha, maps[:, :C]))
        layers.append(drawn)
    return layers


def occlusion(model, features):
    """[image][i][j], i hides j, with the background as number 0."""
    L = model.num_layers
    matrix = torch.zeros(len(features), L + 1, L + 1)
    matrix[:, 1:, 0] = 1
    logits = iter(() if model.occlusion is None else mlp(model.occlusion, features).unbind(1))
    for j in range(1, L + 1):
        for i in range(1, j):
            hides = torch.ones(len(features)) if model.occlusion is None else next(logits).sigmoid()
            matrix[:, j, i], matrix[:, i, j] = hides, 1 - hides
    return matrix


def composite(layers, matrix):
    """Of one image: layers [(mask (H, W), colours (C, H, W))], the background first; matrix[i][j]."""
    image = 0
    for i, (mask, colours) in enumerate(layers):
        weight = mask
        for j, (other, _) in enumerate(layers):
            if j != i:
                weight = weight * (1 - matrix[j, i] * other)
        image = image + weight * colours
    return image


def choose(image, layers, behind, matrix, empty, penalty, sweeps):
    """The candidate of each layer; those of a layer are its sprites and last, always, nothing."""
    nothing = len(layers[0]) - 1
    choice = [nothing] * len(layers)

    def cost(trial):
        shown = [drawn[k] for drawn, k in zip(layers, trial, strict=True)]
        fit = (image - composite([behind, *shown], matrix)).square().mean()
        return (fit + empty * penalty * sum(k != nothing for k in trial)).item()

    allowed = range(nothing + empty)
    if sweeps is None:
        return list(
            min(torch.cartesian_prod(*[torch.tensor(allowed)] * len(layers)).view(-1, len(layers)).tolist(), key=cost)
        )
    for _ in range(sweeps):
        for layer in range(len(layers)):
            choice = min(([*choice[:layer], k, *choice[layer + 1 :]] for k in allowed), key=cost)
    return choice


def sprites_loss(model, image, active, noise, frozen):
    """The loss and the choice [image][layer]."""
    features, (B, C) = model.encoder(image), image.shape[:2]
    layers, matrix = candidates(model, features, active, noise, frozen), occlusion(model, features)
    nothing = torch.zeros(B, *model.image_size), torch.zeros(B, C, *model.image_size)
    for drawn in layers:
        drawn.append(nothing)
    behind = torch.zeros(B, C, *model.image_size)
    if model.background is not None:
        behind = soft_clamp(model.background).expand(B, -1, -1, -1)
        sequence = model.background_transforms
        behind = transformed(behind, sequence, active["background"], features, (), C, model.image_size, "border")
    empty = model.has_empty and not frozen
    sweeps = model.sweeps if model.selection == "greedy" else None
    choices, errors = [], []
    for b in range(B):
        own = [[(mask[b], colours[b]) for mask, colours in drawn] for drawn in layers]
        back = (torch.ones(model.image_size), behind[b])
        with torch.no_grad():
            choices.append(choose(image[b], own, back, matrix[b], empty, model.penalty, sweeps))
        shown = [back]
        for drawn, chosen in zip(own, choices[-1], strict=True):
            one_hot = [float(k == chosen) for k in range(len(drawn))]
            shown.append(tuple(sum(w * pair[i] for w, pair in zip(one_hot, drawn, strict=True)) for i in (0, 1)))
        errors.append((image[b] - composite(shown, matrix[b])).square().mean())
    return torch.stack(errors).mean(), choices


# ---- DTI-Clustering ---------------------------------------------------------------------------------------------


def clustering_loss(model, image, active, weight):
    """The loss and the winner of each image."""
    features, errors = model.encoder(image), []
    for k, prototype in enumerate(model.sprites):
        maps, size = prototype.expand(len(image), *prototype.shape), model.image_size
        made = transformed(maps, model.transforms, active, features, (k,), image.shape[1], size, "border", clamp=False)
        errors.append((weight * (image - made).square()).mean((1, 2, 3)))
    errors = torch.stack(errors, 1)
    winner = errors.argmin(1)
    return (errors * F.one_hot(winner, len(model.sprites))).sum(1).mean(), winner


# ---- comparing --------------------------------------------------------------------------------------------------


@contextmanager
def default_float64():
    """Zeros, ones and grids of the equations are made in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def assert_same_gradients(model, fast, plain):
    """Of all parameters; those that are not in use have none in both, and all others some that are not zero."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    fast, plain = (torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (fast, plain))
    for name, ours, theirs in zip(names, fast, plain, strict=True):
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            torch.testing.assert_close(
                ours, theirs, rtol=1e-8, atol=1e-11, msg=lambda text, name=name: f"{name} {text}"
            )
            assert ours.abs().max() > 0, name
