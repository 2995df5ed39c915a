"""EfficientMORL: Efficient Iterative Amortized Inference for Learning Symmetric and Disentangled Multi-Object
Representations (Emami et al., ICML 2021).

Inference has two stages. First L layers of Slot Attention, each of which ends in a sample, lead from the image to a
posterior of the slots. Then a small network improves it in I steps, from the posterior and the gradient of the loss
alone: it sees no image. Training makes the first stage so good that I can be small, or 0 at test time.

Where the paper leaves it open: the KL of a layer is that of two Gaussians, given one sample of the layer above; the
gradient that the refinement sees is that of each image's negative ELBO with the refinement's prior, whatever weights
the training objective has; GECO keeps one moving average, of the weighted mean error of all iterations. Encoder and
attention are those of `unscene.nn.slot_attention`, and all layers are initialised in that way. Not as in the paper:
the last decode of `decompose` is that of the posterior mean, not of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.likelihoods import Event, Gaussian, gaussian_kl, log_likelihood
from unscene.models.base import Losses, SceneModel, check_positive
from unscene.nn.decoders import BroadcastDecoder
from unscene.nn.geco import ErrorWeight
from unscene.nn.posterior import GaussianPosterior
from unscene.nn.slot_attention import Competition, ImageEncoder, ResidualMLP, glorot_init
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image

GAUSSIAN_CONSTANT = 0.5 * math.log(2 * math.pi)  # per value; the goal of GECO leaves it out


class Normal(NamedTuple):
    """Independent normal distributions."""

    mean: Float[Tensor, "B K D"]
    variance: Float[Tensor, "B K D"]

    @classmethod
    def of(cls, parameters: Float[Tensor, "B K P"]) -> Normal:
        """From mean and s: softplus(s) is the variance."""
        mean, s = parameters.chunk(2, -1)
        return cls(mean, F.softplus(s.clamp(max=80)) + 1e-5)

    def at(self, noise: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        """The sample that standard normal noise stands for."""
        return self.mean + self.variance.sqrt() * noise

    def kl(self, prior: Normal | None) -> Float[Tensor, " B"]:
        """KL(self || prior) of each image; None is the standard normal distribution."""
        mean, variance = self
        if prior is not None:
            mean, variance = (mean - prior.mean) / prior.variance.sqrt(), variance / prior.variance
        return gaussian_kl(mean, variance).sum((1, 2))


class BottomUp(NamedTuple):
    """What the first stage found."""

    posterior: Float[Tensor, "B K P"]  # of the last layer: lambda = [mean, s]
    noise: Float[Tensor, "B K D"]  # of its sample
    kl: Float[Tensor, " B"]  # of all layers
    prior: Normal | None  # for the refinement


class Guess(NamedTuple):
    """The state of inference at one iteration."""

    posterior: Float[Tensor, "B K P"]
    normal: Normal
    z: Float[Tensor, "B K D"]
    means: Float[Tensor, "B K C H W"]
    mask_logits: Float[Tensor, "B K H W"]
    nll: Float[Tensor, " B"]


class EfficientMORL(SceneModel):
    """EfficientMORL; the default architecture is the paper's for CLEVR6 (96 x 96), recipes hold the others.

    Args:
        image_channels: C of the images.
        num_slots: K in training, and in `decompose` unless said otherwise there.
        layers: L, stochastic layers of the first stage; they share their weights.
        iterations: I, the number of refinements, in training and, unless said otherwise, in `decompose`; 0 is fine.
        early_iterations: I in the first ``early_steps`` of training; None for no such beginning.
        early_steps: optimisation steps.
        latent_size: D of a slot.
        event: what one draw of a slot explains, see `unscene.likelihoods.log_likelihood`.
        likelihood_scale: standard deviation of the Gaussian likelihood.
        encoder_channels: of the encoder's convolutions, of size 5.
        encoder_strides: of these; by default all 1, so that every pixel has a feature.
        decoder_channels: of the decoder's hidden convolutions.
        decoder_strides: of all of them, the output's included; a 2 doubles the size there. By default all 1.
        decoder_padding: of the decoder's convolutions, which start on a grid that much larger than the image. None
            keeps the size, and is needed where there are ``decoder_strides``.
        decoder_activation: behind the hidden convolutions.
        kernel_size: of the decoder's convolutions; the last one has 3.
        hidden: width of the hidden layers in the prior and in the refinement.
        geco_goal: negative log-likelihood per value (pixel and channel), without its constant 0.5 log 2 pi, that
            GECO is to keep; None for the plain ELBO.
        loss_weights: of iteration i = 0 .. I: (I + 1 - i) / (I + 1), or as in the reference code (I + 3 - i) / (I + 1).
        lds: options of `unscene.priors.lds.LDS`, such as {"weight": 1.0}; None leaves this prior out.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        num_slots: int = 7,
        layers: int = 3,
        iterations: int = 1,
        early_iterations: int | None = 3,
        early_steps: int = 100_000,
        latent_size: int = 64,
        event: Event = "channel",
        likelihood_scale: float = 0.1,
        encoder_channels: Sequence[int] = (64, 64, 64, 64),
        encoder_strides: Sequence[int] | None = None,
        decoder_channels: Sequence[int] = (64, 64, 64, 64),
        decoder_strides: Sequence[int] | None = None,
        decoder_padding: int | None = 0,
        decoder_activation: Literal["elu", "relu"] = "elu",
        kernel_size: int = 3,
        hidden: int = 128,
        geco_goal: float | None = -2.206,
        loss_weights: Literal["paper", "code"] = "paper",
        lds: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _check_iterations(iterations=iterations, early_iterations=early_iterations)
        check_positive(num_slots=num_slots, layers=layers, latent_size=latent_size, hidden=hidden)
        check_positive(image_channels=image_channels, likelihood_scale=likelihood_scale, kernel_size=kernel_size)
        check_positive(encoder_channels=encoder_channels, encoder_strides=encoder_strides)
        check_positive(decoder_channels=decoder_channels, decoder_strides=decoder_strides)
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size is {kernel_size}; it must be odd, so that convolutions keep the size")
        if encoder_strides is not None and len(encoder_strides) != len(encoder_channels):
            raise InputError(f"encoder_strides is {encoder_strides}; give {len(encoder_channels)}, as encoder_channels")
        if decoder_strides is not None and decoder_padding is not None:
            raise InputError("decoder_strides needs a decoder that keeps the size; set decoder_padding to None (null)")
        if decoder_padding is not None and not 0 <= decoder_padding <= 1:
            raise InputError(f"decoder_padding is {decoder_padding}; the last convolution, of size 3, allows 0 and 1")
        self.image_channels, self.num_slots, self.layers = image_channels, num_slots, layers
        self.iterations, self.early_iterations, self.early_steps = iterations, early_iterations, early_steps
        self.event, self.likelihood = event, Gaussian(likelihood_scale)
        self.geco_goal, self.extra_weight = geco_goal, 1 if loss_weights == "paper" else 3
        self.geco = None if geco_goal is None else ErrorWeight(goal=0.0)
        self.lds = LDS.from_options(lds, num_slots)
        self.idle_parameters = 0 in (iterations, early_iterations)  # those of the refinement

        self.initial_posterior = nn.Parameter(torch.cat([torch.zeros(latent_size), torch.ones(latent_size)]))
        self.encoder = ImageEncoder(image_channels, encoder_channels, 5, encoder_strides)
        self.layer = StochasticLayer(encoder_channels[-1], latent_size)
        self.prior = LayerPrior(latent_size, hidden)
        self.refinement = Refinement(latent_size, hidden)
        self.decoder = BroadcastDecoder(
            latent_size,
            decoder_channels,
            image_channels + 1,
            kernel_size,
            strides=decoder_strides,
            out_kernel=3,
            padding="same" if decoder_padding is None else decoder_padding,
            position="added",
            activation=decoder_activation,
        )
        self.apply(glorot_init)

    # ---- the two verbs -----------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Negative ELBO in nats per image, or GECO's version of it, summed over iterations with falling weights.

        The terms ``nll``, ``kl`` and, with that prior, ``lds`` are those of the last iteration.
        """
        image = self._checked(batch["image"])
        early = self.early_iterations is not None and step < self.early_steps
        iterations = self.early_iterations if early else self.iterations
        first = self._bottom_up(image, self.num_slots)
        weights = nll = kl = penalty = 0.0
        for i, guess in enumerate(self._guesses(image, first, iterations)):
            weight = (iterations + self.extra_weight - i) / (iterations + 1)
            terms = {"nll": guess.nll.mean(), "kl": (guess.normal.kl(first.prior) if i else first.kl).mean()}
            weights, nll, kl = weights + weight, nll + weight * terms["nll"], kl + weight * terms["kl"]
            if self.lds:
                terms["lds"] = self._alike(guess)
                penalty = penalty + weight * self.lds.weight_at(i, iterations) * terms["lds"]
        total = self._balanced(nll, kl, weights, image[0].numel(), step) + penalty
        if self.geco:
            terms["error_weight"] = F.softplus(self.geco.zeta)
        return Losses(total, {name: value.detach() for name, value in terms.items()})

    def _balanced(self, nll: Tensor, kl: Tensor, weights: float, num_values: int, step: int) -> Tensor:
        """Both terms, weighted sums over iterations, as one loss."""
        if self.geco is None:
            return nll + kl
        goal = (self.geco_goal + GAUSSIAN_CONSTANT) * num_values
        return weights * self.geco(nll / weights - goal, kl / weights, step)

    @torch.no_grad()
    def decompose(
        self,
        image: Float[Tensor, "B C H W"],
        *,
        num_slots: int | None = None,
        iterations: int | None = None,
        history: bool = False,
    ) -> Decomposition:
        """Decompose images with any number of slots and refinements; noise comes from torch's global generator.

        ``slots`` are posterior means, ``slot_scale`` the standard deviations. With ``history`` the result holds the
        Decomposition at each of the I + 1 decodes; without, memory does not grow with I.

        Raises:
            InputError: the images or the numbers are unusable.
        """
        image = self._checked(image)
        num_slots = self.num_slots if num_slots is None else num_slots
        iterations = self.iterations if iterations is None else iterations
        check_positive(num_slots=num_slots)
        _check_iterations(iterations=iterations)
        steps: tuple[Decomposition, ...] = ()
        with torch.inference_mode(False), torch.no_grad():  # the decoder's VJP needs a graph of its own
            first = self._bottom_up(image, num_slots)
            for guess in self._guesses(image, first, iterations, sample_last=False):
                last = _decomposition(guess)
                steps = (*steps, last) if history else ()
        return replace(last, history=steps)

    def decode(self, slots: Float[Tensor, "B K D"], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Means (B, K, C, H, W) and mask logits (B, K, H, W) of given latents, at any (H, W) = ``size``."""
        return self._decode(slots, size, self.decoder.prepare(size))

    def posteriors(self, scenes: Scenes, **options: int) -> dict[str, GaussianPosterior]:
        """The last posterior of one image, for `unscene.evaluation.gap`; ``options`` are those of `decompose`.

        The prior is that of the slots which are decoded, N(0, I): the other layers integrate out.
        """
        image = self._checked(scenes["image"])
        d = self.decompose(image, **options)

        def log_probability(slots: Float[Tensor, "S K D"]) -> Float[Tensor, " S"]:
            means, mask_logits = (x.double() for x in self.decode(slots, tuple(image.shape[-2:])))
            images = image.double().expand(len(slots), -1, -1, -1)
            return log_likelihood(self.likelihood, images, means, mask_logits.log_softmax(1), self.event)

        return {"gap": GaussianPosterior(d.slots[0], d.slot_scale[0], log_probability)}

    # ---- inference ---------------------------------------------------------------------------------------------

    def _bottom_up(self, image: Float[Tensor, "B C H W"], num_slots: int) -> BottomUp:
        """The first stage: a sample of the learned start, then of L layers; each layer's prior is told by the next."""
        features = self.encoder(image)
        with torch.autocast(image.device.type, enabled=False):
            keys, values = self.layer.competition.prepare(features)
            posterior = self.initial_posterior.expand(len(image), num_slots, -1)
            posteriors, samples = [], []
            for layer in range(self.layers + 1):
                posterior = self.layer(posterior, samples[-1], keys, values) if layer else posterior
                posteriors.append(Normal.of(posterior))
                noise = torch.randn_like(posteriors[-1].mean)
                samples.append(posteriors[-1].at(noise))
            priors = [*map(self.prior, samples[2:]), None]  # p(z^1 | z^2) .. p(z^{L-1} | z^L), N(0, I)
            kl = sum(normal.kl(prior) for normal, prior in zip(posteriors[1:], priors, strict=True))
        return BottomUp(posterior, noise, kl, priors[0])

    def _guesses(self, image: Tensor, first: BottomUp, iterations: int, sample_last: bool = True) -> Iterator[Guess]:
        """The second stage: the guess before the first and after every refinement."""
        prepared = self.decoder.prepare(tuple(image.shape[-2:]))
        posterior, noise, state = first.posterior, first.noise, None
        for _ in range(iterations):
            with torch.enable_grad():
                guess = self._guess(image, posterior, noise, prepared)
            yield guess
            posterior, state = self._refine(guess, first.prior, state)
            noise = torch.randn_like(noise)
        yield self._guess(image, posterior, noise if sample_last else torch.zeros_like(noise), prepared)

    def _guess(self, image: Tensor, posterior: Tensor, noise: Tensor, prepared: Sequence[Tensor]) -> Guess:
        if torch.is_grad_enabled() and not posterior.requires_grad:  # at inference the graph reaches no further
            posterior = posterior.detach().requires_grad_()
        normal = Normal.of(posterior)
        z = normal.at(noise)
        means, mask_logits = self._decode(z, tuple(image.shape[-2:]), prepared)
        nll = -log_likelihood(self.likelihood, image, means, mask_logits.log_softmax(1), self.event)
        return Guess(posterior, normal, z, means, mask_logits, nll)

    def _decode(self, z: Tensor, size: tuple[int, int], prepared: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        out = self.decoder(z.flatten(0, 1), size, *prepared).contiguous().to(z.dtype)
        means, mask_logits = out.unflatten(0, z.shape[:2]).split([self.image_channels, 1], 2)
        return means.sigmoid(), mask_logits.squeeze(2)

    def _refine(self, guess: Guess, prior: Normal | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next posterior and the state of the refinement's GRU."""
        with torch.enable_grad():
            prior = None if prior is None else Normal(*(x.detach() for x in prior))
            loss = guess.nll.sum() + guess.normal.kl(prior).sum()
            if self.lds and self.lds.in_refinement:
                loss = loss + self.lds.weight * len(guess.z) * self._alike(guess)
        training = torch.is_grad_enabled()
        (gradient,) = torch.autograd.grad(loss, guess.posterior, retain_graph=training)
        posterior = guess.posterior if training else guess.posterior.detach()
        with torch.autocast(gradient.device.type, enabled=False):
            change, state = self.refinement(posterior, gradient, state)
            return posterior + change, state

    def _alike(self, guess: Guess) -> Float[Tensor, ""]:
        return self.lds.mean(guess.z, guess.normal.mean, guess.mask_logits.softmax(1))

    def _checked(self, image: Tensor) -> Tensor:
        check_image(image, channels=self.image_channels)
        return image.to(self.initial_posterior.dtype)


class StochasticLayer(nn.Module):
    """One layer of the first stage: slots compete for features, and what they win changes their posterior.

    Mean and s have a GRU and a residual MLP each (together the paper's DualGRU).
    """

    def __init__(self, feature_size: int, latent_size: int) -> None:
        super().__init__()
        self.competition = Competition(feature_size, latent_size)
        self.grus = nn.ModuleList(nn.GRUCell(latent_size, latent_size) for _ in range(2))
        self.mlps = nn.ModuleList(ResidualMLP(latent_size, 2 * latent_size) for _ in range(2))

    def forward(
        self, posterior: Float[Tensor, "B K P"], z: Float[Tensor, "B K D"], keys: Tensor, values: Tensor
    ) -> Float[Tensor, "B K P"]:
        """The posterior of this layer from that of the one before and its sample."""
        read, _ = self.competition(z, keys, values)
        halves = zip(self.grus, self.mlps, posterior.flatten(0, 1).chunk(2, 1), strict=True)
        changed = [mlp(gru(read.flatten(0, 1), half)) for gru, mlp, half in halves]
        return torch.cat(changed, 1).view_as(posterior)


class LayerPrior(nn.Module):
    """p(z^l | z^{l+1}), the same for all layers."""

    def __init__(self, latent_size: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(latent_size, hidden), nn.Linear(hidden, 2 * latent_size)

    def forward(self, above: Float[Tensor, "B K D"]) -> Normal:
        return Normal.of(self.head(F.elu(self.hidden(above))))


class Refinement(nn.Module):
    """The change of a posterior, from it and its gradient alone; the gradient's two halves are normalised."""

    def __init__(self, latent_size: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(latent_size) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(4 * latent_size, hidden), nn.ELU(), nn.Linear(hidden, latent_size))
        self.gru = nn.GRUCell(latent_size, latent_size)
        self.head = nn.Linear(latent_size, 2 * latent_size)

    def forward(
        self, posterior: Float[Tensor, "B K P"], gradient: Float[Tensor, "B K P"], state: Tensor | None
    ) -> tuple[Float[Tensor, "B K P"], Tensor]:
        """The change, and the new state of the GRU; None to start with."""
        normed = [norm(half) for norm, half in zip(self.norms, gradient.chunk(2, 2), strict=True)]
        state = self.gru(self.mlp(torch.cat([posterior, *normed], 2)).flatten(0, 1), state)
        return self.head(state).view_as(posterior), state


def _decomposition(guess: Guess) -> Decomposition:
    mask_logits = guess.mask_logits.detach()
    return Decomposition(
        masks=mask_logits.softmax(1),
        components=guess.means.detach(),
        slots=guess.normal.mean.detach(),
        mask_logits=mask_logits,
        slot_scale=guess.normal.variance.sqrt().detach(),
    )


def _check_iterations(**options: int | None) -> None:
    for name, number in options.items():
        if number is not None and number < 0:
            raise InputError(f"{name} is {number}; it must be 0 (no refinement) or more")
