"""PROVIDE as a textbook would write it: the oracle of the tests and the baseline of the benchmarks.

The pseudo-code of the paper's supplement, line by line: float32 (or float64), contiguous tensors, z broadcast to every
pixel, all inputs of the refinement concatenated for every slot and iteration, and autograd for all gradients. It
reads weights and options from an `unscene.PROVIDE` and draws noise in the same order.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from unscene import PROVIDE
from unscene.nn.blocks import fourier_coordinates, linear_coordinates


class PlainPROVIDE(nn.Module):
    def __init__(self, model: PROVIDE) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)

    def loss(self, video: Tensor) -> Tensor:
        m, (B, T) = self.model, video.shape[:2]
        rows = m.initial_posterior.expand(B * m.num_slots, -1)
        z_first = self.sample(rows, torch.randn_like(rows.chunk(2, 1)[0]))
        h_time = c_time = rows.new_zeros(len(rows), m.head.in_features)
        total, trail = 0.0, []
        for f in range(max(T - m.predicted_frames, 1)):
            predicted = m.start == "predicted" and f > 0
            prior = self.prior(h_time, trail)
            posterior = torch.cat([prior.loc, 2 * prior.scale.log()], 1) if predicted else rows
            h_ref, c_ref = torch.zeros_like(h_time), torch.zeros_like(c_time)
            decodes = m.iterations if m.grid == "full" else max(m.iterations - f, 2)
            for i in range(decodes):
                noise = torch.randn_like(rows.chunk(2, 1)[0]) if i > 0 or m.resample else None
                z = z_first if noise is None else self.sample(posterior, noise)
                means, logits = self.decode(z, h_time, B)
                masks = logits.softmax(1)
                weight = (i + 1) / (m.iterations if m.step_weight == "constant" else decodes)
                weight = i / (decodes - 1) if m.step_weight == "refined" and not predicted else weight
                total = total + weight * self.objective(video[:, f], means, masks, posterior, prior) / B
                if i == m.iterations - 1:
                    break
                gradients = self.inner_gradients(video[:, f], means, masks, posterior, noise, h_time, prior)
                code = self.encode(video[:, f], means, logits, masks, *gradients[:2])
                code = F.layer_norm(code, code.shape[1:]) if m.code_norm else code
                d_posterior = F.layer_norm(gradients[2], gradients[2].shape[1:])
                inputs = torch.cat([posterior, d_posterior, code], 1)
                h_ref, c_ref = self.cell(inputs, h_time, c_time, h_ref, c_ref)
                posterior = posterior + m.head(h_ref) + (m.shortcut(inputs) if m.shortcut else 0)
            h_time, c_time = h_ref, c_ref
            trail.append(posterior.chunk(2, 1)[0])
        for f in range(max(T - m.predicted_frames, 1), T):
            prior = self.prior(h_time, trail)
            trail.append(prior.loc)
            posterior = torch.cat([prior.loc, 2 * prior.scale.log()], 1) if m.start == "predicted" else rows
            means, logits = self.decode(z_first if m.predict_z == "first" else prior.loc, h_time, B)
            masks = logits.softmax(1)
            total = total - m.beta * self.log_prob(video[:, f], means, masks).sum() / B
            image, zeros = (masks[:, :, None] * means).sum(1), [torch.zeros_like(x) for x in (means, masks, posterior)]
            code = self.encode(image, means, logits, masks, *zeros[:2])
            code = F.layer_norm(code, code.shape[1:]) if m.code_norm else code
            inputs = torch.cat([posterior, zeros[2], code], 1)
            h_time, c_time = self.cell(inputs, h_time, c_time, torch.zeros_like(h_time), torch.zeros_like(c_time))
        return total

    @staticmethod
    def sample(posterior: Tensor, noise: Tensor) -> Tensor:
        mean, logvar = posterior.chunk(2, 1)
        return mean + (0.5 * logvar).exp() * noise

    def prior(self, h: Tensor, trail: Sequence[Tensor] = ()) -> Normal:
        m, zeros = self.model, h.new_zeros(len(h), len(self.model.initial_posterior) // 2)
        if not m.conditional:
            return Normal(zeros, torch.ones_like(zeros))
        last = trail[-1] if m.start == "predicted" and trail else zeros
        changes = [new - old for old, new in zip(trail[:-1], trail[1:], strict=True)][-m.motion :]
        change = torch.stack(changes).mean(0) if m.motion and changes else zeros
        a = m.prior[0](torch.cat([h, last, change], 1) if m.motion else h).relu()
        s = F.softplus(m.prior[2](a)) if m.prior_logvar == "softplus" else m.prior[2](a)
        goes_on = change @ m.momentum.weight.T if m.motion else 0
        return Normal(last + goes_on + m.prior[1](a), (0.5 * s).exp())

    def decode(self, z: Tensor, h: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        m, scale = self.model, self.model.decoder.scale
        code = m.condition(torch.cat([z, h], 1)) if m.conditional else z
        grid = tuple(math.ceil(n / scale) for n in m.image_size)
        coordinates = fourier_coordinates(grid, z, m.decoder.octaves).expand(len(z), -1, -1, -1)
        x = torch.cat([code[:, :, None, None].expand(-1, -1, *grid), coordinates], 1)
        for layer in m.decoder.convs[:-1]:
            x = F.elu(layer(x))
        x = m.decoder.convs[-1](x)[..., : m.image_size[0], : m.image_size[1]].unflatten(0, (batch, -1))
        return x[:, :, :-1].sigmoid(), x[:, :, -1]

    def likelihoods(self, image: Tensor, means: Tensor) -> Tensor:
        return (-((image[:, None] - means) ** 2) / (2 * self.model.likelihood.scale**2)).exp()

    def log_prob(self, image: Tensor, means: Tensor, masks: Tensor) -> Tensor:
        """Per pixel (B, H, W)."""
        likelihoods = self.likelihoods(image, means)
        if self.model.per_channel:
            return (masks[:, :, None] * likelihoods).sum(1).log().sum(1)
        return (masks * likelihoods.prod(2)).sum(1).log()

    def objective(self, image: Tensor, means: Tensor, masks: Tensor, posterior: Tensor, prior: Normal) -> Tensor:
        """beta NLL + psi KL + gamma H, summed over the batch."""
        m, (mean, logvar) = self.model, posterior.chunk(2, 1)
        kl = kl_divergence(Normal(mean, (0.5 * logvar).exp()), prior).sum()
        entropy = -(masks * (masks + 1e-9).log()).sum()
        nll = -self.log_prob(image, means, masks).sum()
        return m.beta * nll + m.kl_weight * kl + m.entropy_weight * entropy

    def inner_gradients(self, image, means, masks, posterior, noise, h, prior) -> tuple[Tensor, Tensor, Tensor]:
        """With respect to means, masks and posterior, each as if it were free; constants for the training."""
        h, posterior = h.detach(), posterior.detach().requires_grad_()
        prior = Normal(prior.loc.detach(), prior.scale.detach())
        free = [means.detach().requires_grad_(), masks.detach().requires_grad_()]
        d_means, d_masks = torch.autograd.grad(self.objective(image, *free, posterior.detach(), prior), free)
        if self.model.mask_gradient == "logits":
            logits = masks.detach().log().requires_grad_()
            loss = self.objective(image, free[0], logits.softmax(1), posterior.detach(), prior)
            (d_masks,) = torch.autograd.grad(loss, logits)
        if noise is not None:
            means, logits = self.decode(self.sample(posterior, noise), h, len(image))
            masks = logits.softmax(1)
        else:
            means, masks = means.detach(), masks.detach()
        (d_posterior,) = torch.autograd.grad(self.objective(image, means, masks, posterior, prior), posterior)
        return d_means, d_masks, d_posterior

    def encode(self, image, means, logits, masks, d_means, d_masks) -> Tensor:
        m, (B, K, _, H, W) = self.model, means.shape
        log_likelihoods = self.likelihoods(image, means).log().sum(2)
        posterior = (log_likelihoods.exp() if m.mask_posterior == "likelihood" else log_likelihoods).softmax(1)
        log_prob = self.log_prob(image, means, masks).detach()[:, None, None].expand(-1, K, -1, -1, -1)
        maps = [means, masks[:, :, None], logits[:, :, None], posterior[:, :, None]]
        maps += [F.layer_norm(x, x.shape[2:]) for x in (d_means, d_masks[:, :, None], log_prob)]
        maps += [image[:, None].expand(-1, K, -1, -1, -1), linear_coordinates((H, W), image).expand(B, K, -1, -1, -1)]
        x = torch.cat(maps, 2).flatten(0, 1)
        for layer in m.encoder.convs:
            x = F.elu(layer(x))
        x = F.avg_pool2d(x, m.encoder.pool_size).flatten(1)
        for layer in m.encoder.mlp:
            x = F.elu(layer(x))
        return x

    def cell(self, x: Tensor, h_t: Tensor, c_t: Tensor, h_r: Tensor, c_r: Tensor) -> tuple[Tensor, Tensor]:
        lstm = self.model.cell
        i, f, o, g, new = (lstm.input(x) + lstm.time(h_t) + lstm.refinement(h_r)).chunk(5, 1)
        c = f.sigmoid() * (g.sigmoid() * c_t + (1 - g.sigmoid()) * c_r) + i.sigmoid() * new.tanh()
        return o.sigmoid() * c.tanh(), c
