"""GENESIS: Generative Scene Inference and Sampling with Object-Centric Latent Representations.

Engelcke, Kosiorek, Parker Jones and Posner, ICLR 2020. A recurrent posterior over K mask latents divides the image
among the slots by stick-breaking; a component VAE, which sees the image and one mask, explains what is behind it.
The prior over mask latents is autoregressive, that over a component latent depends on its mask latent, so scenes can
be sampled. GECO weighs the KL so that the reconstruction error stays at a goal.

As in the official code: Monte Carlo KL, GECO's goal and rate, the last mask being what is left, whatever its latent.
Not as there: that latent, which no mask depends on, is not decoded (there it took part in the batch normalisation);
the mean of the prior is bounded by tanh in sampling too, as it is in training; the mixture is computed in logarithms.
`decompose` takes the means of the posterior, not samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.likelihoods import Event, Gaussian, log_likelihood
from unscene.models.base import Losses, SceneModel, check_image_size, check_positive
from unscene.nn.autoregressive import AutoregressivePrior, Latent, Normal
from unscene.nn.component_vae import ComponentEncoder
from unscene.nn.decoders import BroadcastDecoder
from unscene.nn.gated import GatedDecoder, GatedEncoder, running_statistics
from unscene.nn.geco import KLWeight
from unscene.nn.posterior import Posterior
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image

STRIDES = {64: (1, 2, 1, 2, 1), 128: (2, 2, 2, 1, 1), 256: (2, 2, 2, 2, 1)}  # up to this height or width


class Explanation(NamedTuple):
    """What the model makes of a batch of images."""

    latents: dict[str, Latent]  # "mask" and, unless it is GENESIS-S, "component"
    means: Float[Tensor, "B K C H W"]
    log_masks: Float[Tensor, "B K H W"]


class Genesis(SceneModel):
    """GENESIS; the defaults are the paper's for 64 x 64 images.

    The slots of a Decomposition are the means of both latents, [mask, component], its mask logits the log masks.

    Args:
        image_channels: C of the images.
        image_size: (H, W), fixed by the fully connected layers.
        num_slots: K in training, and in `decompose` and `sample` unless said otherwise there.
        two_stage: False is GENESIS-S, which paints with the mask latents and has no component VAE.
        mask_latent_size: D of a mask latent.
        latent_size: D of a component latent.
        mask_encoder_channels: of the gated convolutions.
        mask_decoder_channels: of the gated transposed convolutions.
        mask_strides: of the encoder, and from the last to the first of the decoder; by default the paper's for 64, 128
            or 256 pixels, whichever is not smaller.
        code_size: what the mask posterior knows of the image.
        posterior_size: width of the LSTM of the mask posterior.
        prior_size: width of the LSTM of the mask prior, and of the layers of the component prior.
        encoder_channels: of the component encoder, whose convolutions halve the image.
        decoder_channels: of the broadcast decoder.
        mixture_event: what one draw of a slot explains: a "channel" of a pixel, a "pixel", or the "mean" of all slots.
        likelihood_scale: standard deviation of a value.
        geco_goal: negative log likelihood per value to keep; None gives the KL the weight 1 throughout. The default
            is for a scale of 0.7, at which 0.5623 is the least possible.
        geco_rate: of the logarithm of the KL's weight, at 64 x 64.
        beta_min: the smallest weight of the KL that GECO may choose.
        beta_max: the largest.
        lds: options of `unscene.priors.lds.LDS`; None leaves it out.
        lds_on: the latents that it is about; of GENESIS-S always "mask".

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        image_size: Sequence[int] = (64, 64),
        num_slots: int = 7,
        two_stage: bool = True,
        mask_latent_size: int = 64,
        latent_size: int = 16,
        mask_encoder_channels: Sequence[int] = (32, 32, 64, 64, 64),
        mask_decoder_channels: Sequence[int] = (64, 32, 32, 32, 32),
        mask_strides: Sequence[int] | None = None,
        code_size: int = 256,
        posterior_size: int = 128,
        prior_size: int = 256,
        encoder_channels: Sequence[int] = (32, 32, 64, 64),
        decoder_channels: Sequence[int] = (32, 32, 32, 32),
        mixture_event: Event = "channel",
        likelihood_scale: float = 0.7,
        geco_goal: float | None = 0.5655,
        geco_rate: float = 1e-5,
        beta_min: float = 1e-10,
        beta_max: float = 1e10,
        lds: dict[str, Any] | None = None,
        lds_on: Literal["component", "mask", "both"] = "component",
    ) -> None:
        super().__init__()
        check_positive(image_channels=image_channels, image_size=image_size, num_slots=num_slots)
        check_positive(mask_latent_size=mask_latent_size, latent_size=latent_size, code_size=code_size)
        check_positive(mask_encoder_channels=mask_encoder_channels, mask_decoder_channels=mask_decoder_channels)
        check_positive(encoder_channels=encoder_channels, decoder_channels=decoder_channels, mask_strides=mask_strides)
        check_positive(posterior_size=posterior_size, prior_size=prior_size, likelihood_scale=likelihood_scale)
        check_positive(geco_rate=geco_rate, beta_min=beta_min, beta_max=beta_max)
        check_image_size(image_size)
        strides = usual_strides(image_size) if mask_strides is None else mask_strides
        if not len(strides) == len(mask_encoder_channels) == len(mask_decoder_channels):
            raise InputError(
                f"mask_strides is {tuple(strides)}, but mask_encoder_channels is {tuple(mask_encoder_channels)} and "
                f"mask_decoder_channels {tuple(mask_decoder_channels)}; give equally many of all three"
            )
        self.image_channels, self.image_size, self.num_slots = image_channels, tuple(image_size), num_slots
        self.sizes = [mask_latent_size, latent_size] if two_stage else [mask_latent_size]
        self.likelihood, self.mixture_event = Gaussian(likelihood_scale), mixture_event
        self.lds, self.lds_on = LDS.from_options(lds, num_slots), lds_on if two_stage else "mask"
        self.geco = None
        if geco_goal is not None:
            self.geco = KLWeight.of_images((image_channels, *image_size), geco_goal, geco_rate, beta_min, beta_max)

        self.mask_encoder = GatedEncoder(image_channels, mask_encoder_channels, strides, image_size, code_size)
        self.first_posterior = nn.Linear(code_size, 2 * mask_latent_size)
        self.next_posterior = nn.LSTMCell(code_size + mask_latent_size, posterior_size)
        self.next_posterior_out = nn.Linear(posterior_size, 2 * mask_latent_size)
        self.mask_prior = AutoregressivePrior(mask_latent_size, prior_size)
        self.mask_decoder = GatedDecoder(mask_latent_size, mask_decoder_channels, strides, image_size)
        if two_stage:
            self.component_encoder = ComponentEncoder(
                image_channels + 1, 2 * latent_size, image_size, encoder_channels, activation="elu"
            )
            self.component_prior = nn.Sequential(
                *(nn.Linear(mask_latent_size, prior_size), nn.ELU(), nn.Linear(prior_size, prior_size), nn.ELU()),
                nn.Linear(prior_size, 2 * latent_size),
            )
        self.decoder = BroadcastDecoder(
            self.sizes[-1], decoder_channels, image_channels, 3, out_kernel=1, padding="valid"
        )
        for conv in self.decoder.convs:
            conv.reset_parameters()

    # ---- the two verbs, and generation -----------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Negative log likelihood plus weighted KL in nats per image, and the LDS penalty; ``step`` is not used.

        The terms ``kl_mask`` and ``kl_component`` are before the weight ``beta``, ``lds`` is before its own.
        """
        image = self._checked(batch["image"])
        noise = torch.randn(len(image), self.num_slots, sum(self.sizes), device=image.device, dtype=image.dtype)
        explanation = self._explain(image, self.mask_encoder(image), noise)
        nll = -self._log_likelihood(image, explanation).mean()
        kls = {f"kl_{name}": latent.kl().mean() for name, latent in explanation.latents.items()}
        total, terms = nll + sum(kls.values()), {"nll": nll} | kls
        if self.geco is not None:
            terms["beta"] = self.geco.beta
            total = self.geco(nll, sum(kls.values()))
        if self.lds is not None:
            terms["lds"] = self._duplication(explanation).mean()
            total = total + self.lds.weight * terms["lds"]
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    @torch.no_grad()
    def decompose(self, image: Float[Tensor, "B C H W"], *, num_slots: int | None = None) -> Decomposition:
        """Decompose images of the model's size with any number of slots; nothing is random.

        Raises:
            InputError: the images or the number are unusable.
        """
        check_positive(num_slots=num_slots)
        image = self._checked(image)
        means = image.new_zeros(len(image), num_slots or self.num_slots, sum(self.sizes))
        with running_statistics(self):
            explanation = self._explain(image, self.mask_encoder(image), noise=means)
        posteriors = [latent.posterior for latent in explanation.latents.values()]
        return Decomposition(
            masks=explanation.log_masks.exp(),
            components=explanation.means,
            slots=torch.cat([posterior.mean for posterior in posteriors], 2),
            mask_logits=explanation.log_masks,
            slot_scale=torch.cat([posterior.scale for posterior in posteriors], 2),
        )

    @torch.no_grad()
    def sample(self, num_images: int, *, num_slots: int | None = None) -> Decomposition:
        """Scenes drawn from the prior; their images are the ``reconstruction`` of what is returned."""
        check_positive(num_images=num_images, num_slots=num_slots)
        slots = [self.mask_prior.sample(num_images, num_slots or self.num_slots)]
        if len(self.sizes) > 1:
            slots.append(Normal.prior(self.component_prior(slots[0])).sample())
        slots = torch.cat(slots, 2)
        with running_statistics(self):
            means, log_masks = self.decode(slots)
        return Decomposition(log_masks.exp(), means, slots, log_masks)

    def decode(self, slots: Float[Tensor, "B K D"]) -> tuple[Tensor, Tensor]:
        """Means (B, K, C, H, W) and log masks (B, K, H, W) of given latents [mask, component]."""
        latents = slots.split(self.sizes, 2)
        return self._paint(latents[-1]), self._divide(latents[0])

    @torch.no_grad()
    def posteriors(self, scenes: Scenes, *, num_slots: int | None = None) -> dict[str, Posterior]:
        """The posterior of one image (1, C, H, W), for the inference gap."""
        check_positive(num_slots=num_slots)
        image = self._checked(scenes["image"])
        with running_statistics(self):
            code = self.mask_encoder(image)

        @torch.no_grad()
        def log_weights(noise: Float[Tensor, "S K D"]) -> Float64[Tensor, " S"]:
            images = image.expand(len(noise), -1, -1, -1)
            with running_statistics(self):
                explanation = self._explain(images, code.expand(len(noise), -1), noise.to(image))
            kl = sum(latent.kl().double() for latent in explanation.latents.values())
            return self._log_likelihood(images, explanation).double() - kl

        return {"gap": Posterior((num_slots or self.num_slots, sum(self.sizes)), log_weights)}

    # ---- inference -------------------------------------------------------------------------------------------------

    def _explain(self, image: Tensor, code: Float[Tensor, "B E"], noise: Float[Tensor, "B K D"]) -> Explanation:
        """Masks, then what is behind them, by samples that ``noise`` makes of the posterior."""
        noise = noise.split(self.sizes, 2)
        latents = {"mask": self._infer_masks(code, noise[0])}
        log_masks = self._divide(latents["mask"].z)
        if len(self.sizes) > 1:
            latents["component"] = self._infer_components(image, log_masks, latents["mask"].z, noise[1])
        return Explanation(latents, self._paint([*latents.values()][-1].z), log_masks)

    def _infer_masks(self, code: Float[Tensor, "B E"], noise: Float[Tensor, "B K D"]) -> Latent:
        """Mask latents one after another, each knowing those before it."""
        z, posteriors, state = [], [], None
        with torch.autocast(code.device.type, enabled=False):
            for of_slot in noise.unbind(1):
                if not z:
                    parameters = self.first_posterior(code)
                else:
                    state = self.next_posterior(torch.cat([code, z[-1]], 1), state)
                    parameters = self.next_posterior_out(state[0])
                posteriors.append(Normal.posterior(parameters))
                z.append(posteriors[-1].at(of_slot))
            posterior = Normal(*(torch.stack(of_slots, 1) for of_slots in zip(*posteriors, strict=True)))
            z = torch.stack(z, 1)
            return Latent(posterior, self.mask_prior(z), z)

    def _infer_components(self, image: Tensor, log_masks: Tensor, mask_z: Tensor, noise: Tensor) -> Latent:
        """Component latents, each from the image and one mask."""
        shape = (*log_masks.shape[:2], -1, -1, -1)
        seen = torch.cat([log_masks.unsqueeze(2), image.unsqueeze(1).expand(shape)], 2)
        parameters = self.component_encoder(seen.flatten(0, 1)).unflatten(0, log_masks.shape[:2])
        posterior = Normal.posterior(parameters)
        with torch.autocast(image.device.type, enabled=False):
            prior = Normal.prior(self.component_prior(mask_z))
        return Latent(posterior, prior, posterior.at(noise))

    def _divide(self, mask_z: Float[Tensor, "B K D"]) -> Float[Tensor, "B K H W"]:
        """Log masks; the last slot gets what the others leave."""
        if mask_z.shape[1] == 1:
            return mask_z.new_zeros(len(mask_z), 1, *self.image_size)
        logits = self.mask_decoder(mask_z[:, :-1].flatten(0, 1)).squeeze(1)
        return stick_breaking(logits.unflatten(0, (len(mask_z), -1)))

    def _paint(self, z: Float[Tensor, "B K D"]) -> Float[Tensor, "B K C H W"]:
        out = self.decoder(z.flatten(0, 1), self.image_size, *self.decoder.prepare(self.image_size))
        return out.contiguous().to(z.dtype).sigmoid().unflatten(0, z.shape[:2])

    # ---- small things ----------------------------------------------------------------------------------------------

    def _log_likelihood(self, image: Tensor, explanation: Explanation) -> Float[Tensor, " B"]:
        return log_likelihood(self.likelihood, image, explanation.means, explanation.log_masks, self.mixture_event)

    def _duplication(self, explanation: Explanation) -> Float[Tensor, " B"]:
        """The LDS penalty of each image."""
        names = explanation.latents if self.lds_on == "both" else [self.lds_on]
        chosen = [explanation.latents[name] for name in names]
        slots = [latent.posterior.mean if self.lds.on == "means" else latent.z for latent in chosen]
        return self.lds(torch.cat(slots, 2), explanation.log_masks.exp())

    def _checked(self, image: Tensor) -> Tensor:
        check_image(image, channels=self.image_channels, size=self.image_size)
        return image.to(self.first_posterior.weight.dtype)


def usual_strides(image_size: Sequence[int]) -> tuple[int, ...]:
    """The paper's strides of the mask encoder."""
    return next((strides for size, strides in STRIDES.items() if max(image_size) <= size), STRIDES[256])


def stick_breaking(logits: Float[Tensor, "B L H W"]) -> Float[Tensor, "B K H W"]:
    """Log masks of K = L + 1 slots: each takes sigmoid(logit) of what those before it left, the last all the rest."""
    left = F.pad(F.logsigmoid(-logits).cumsum(1), (0, 0, 0, 0, 1, 0))
    return F.pad(F.logsigmoid(logits), (0, 0, 0, 0, 0, 1)) + left
