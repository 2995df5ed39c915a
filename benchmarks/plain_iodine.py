"""IODINE as a textbook would write it: the oracle of the tests and the baseline of the benchmarks.

Float32 (or float64), contiguous tensors, z broadcast to every pixel, the inputs of the refinement concatenated
for every slot and iteration, and autograd for all gradients. It reads its weights from an `unscene.IODINE`.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unscene import IODINE
from unscene.likelihoods import Gaussian
from unscene.nn.decoders import DeconvDecoder


class PlainIODINE(nn.Module):
    def __init__(self, model: IODINE) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)

    def loss(self, image: Tensor) -> Tensor:
        """The training objective; under `torch.no_grad` only the graph of one iteration is alive at a time."""
        m, T, training = self.model, self.model.iterations, torch.is_grad_enabled()
        B, K = len(image), m.num_slots
        posterior, state, total = m.initial_posterior.expand(B * K, -1), None, 0.0
        for t in range(T + 1):
            with torch.enable_grad():
                if not (training and posterior.requires_grad):
                    posterior = posterior.detach().requires_grad_()
                mean, s = posterior.chunk(2, 1)
                variance = F.softplus(s) if m.variance == "softplus" else s.exp()
                z = mean + variance.sqrt() * torch.randn_like(mean)
                means, logits = self.decode(z, image)
                masks = logits.softmax(1)
                log_likelihoods = self.log_density(image.unsqueeze(1), means).sum(2)
                log_prob = (masks.log() + log_likelihoods).logsumexp(1)
                kl = 0.5 * (mean**2 + variance - 1 - variance.log())
                objective = kl.sum() - log_prob.sum()
            total = total + (objective if training else objective.detach()) / B * t / T
            if t < T:
                explained = (means, logits, posterior)
                gradients = torch.autograd.grad(objective, explained, retain_graph=training)
                delta, state = self.refine(
                    image, means, logits, masks, log_likelihoods, log_prob, posterior, gradients, state
                )
                posterior = posterior + delta
        return total

    def log_density(self, x: Tensor, mean: Tensor) -> Tensor:
        scale = self.model.likelihood.scale
        if isinstance(self.model.likelihood, Gaussian):
            return torch.distributions.Normal(mean, scale).log_prob(x)
        z = (x - mean) / scale
        return -z - math.log(scale) - 2 * torch.log1p(torch.exp(-z))

    def decode(self, z: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        decoder, (H, W) = self.model.decoder, image.shape[-2:]
        if isinstance(decoder, DeconvDecoder):
            x, hidden, last = decoder.mlp(z).unflatten(1, decoder.small), decoder.deconvs, decoder.out
        else:
            xy = coordinates(H, W, image, "linear").expand(len(z), -1, -1, -1)
            x = torch.cat([z[:, :, None, None].expand(-1, -1, H, W), xy], 1)
            *hidden, last = decoder.convs
        for layer in hidden:
            x = F.elu(layer(x))
        x = last(x[..., :H, :W]).unflatten(0, (len(image), -1))
        means, logits = x[:, :, :-1], x[:, :, -1]
        return means.sigmoid() if self.model.rgb_activation == "sigmoid" else means, logits

    def refine(self, image, means, logits, masks, log_likelihoods, log_prob, posterior, gradients, state):
        m, (B, K, H, W) = self.model, logits.shape
        norms = m.map_norms
        inputs = {
            "means": means,
            "mask": masks.unsqueeze(2),
            "mask_logits": logits.unsqueeze(2),
            "mask_posterior": log_likelihoods.softmax(1).unsqueeze(2),
            "means_gradient": gradients[0],
            "mask_gradient": gradients[1].unsqueeze(2),
            "log_likelihood": log_prob.detach()[:, None, None],
            "leave_one_out": leave_one_out(masks.log(), log_likelihoods).detach().unsqueeze(2),
            "image": image.unsqueeze(1),
            "coordinates": coordinates(H, W, image, m.coordinates.__name__.split("_")[0]).unsqueeze(0),
        }
        for name, norm in norms.items():
            x = inputs[name]
            centred = x - x.mean((2, 3, 4), keepdim=True)
            normal = centred / (centred.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()
            inputs[name] = normal * norm.gain + norm.bias
        x = torch.cat([v.expand(B, K, -1, H, W) for name, v in inputs.items() if name in m.inputs], 2).flatten(0, 1)
        for layer in m.refinement.convs:
            x = F.elu(layer(x))
        x = x.mean((2, 3)) if m.refinement.image_size is None else x.flatten(1)
        for layer in m.refinement.mlp:
            x = F.elu(layer(x))
        vectors = {"posterior": posterior}
        if "posterior_gradient" in m.inputs:
            vectors["posterior_gradient"] = m.vector_norm(gradients[2])
        x = torch.cat([x, *(v for name, v in vectors.items() if name in m.inputs)], 1)
        if m.refinement.lstm is not None:
            state = m.refinement.lstm(x, state)
            x = state[0]
        return m.refinement.head(x), state


def leave_one_out(log_masks: Tensor, log_likelihoods: Tensor) -> Tensor:
    """log p(x) - log p(x without slot k), slot by slot."""
    K = log_masks.shape[1]
    joint, out = log_masks + log_likelihoods, []
    for k in range(K):
        others = [j for j in range(K) if j != k]
        out.append(joint.logsumexp(1) - joint[:, others].logsumexp(1) + log_masks[:, others].logsumexp(1))
    return torch.stack(out, 1)


def coordinates(H: int, W: int, like: Tensor, kind: str) -> Tensor:
    y = torch.linspace(-1, 1, H, dtype=like.dtype)[:, None].expand(H, W)
    x = torch.linspace(-1, 1, W, dtype=like.dtype)[None, :].expand(H, W)
    if kind == "linear":
        return torch.stack([y, x])[None]
    waves = []
    for i in range(3):
        for j in range(3):
            if (i, j) != (0, 0):
                waves.append(torch.cos(math.pi * i * (y + 1) / 2) * torch.cos(math.pi * j * (x + 1) / 2))
    return torch.stack(waves)[None]
