"""GENESIS-V2: Inferring Unordered Object Representations without Iterative Refinement.

Engelcke, Parker Jones and Posner, NeurIPS 2021. Every pixel gets a colour in a space of 8 dimensions; random pixels
that are not yet explained are seeds, and what has a similar colour joins them: stick-breaking without a recurrent
network. The features under a mask give a latent, and a decoder per slot paints the image and masks anew. Prior and
GECO are those of GENESIS.

As in the official code: the likelihood, and the masks of a Decomposition, are the decoder's; `attend` gives those of
the encoder. Not as there: the last layer of the feature head, which is linear, comes behind the pooling (the same,
and cheaper); `decompose` takes the means of the posterior, not samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.likelihoods import Event, Gaussian, categorical_kl, log_likelihood
from unscene.models.base import Losses, SceneModel, check_image_size, check_positive
from unscene.nn.autoregressive import AutoregressivePrior, Latent, Normal
from unscene.nn.blocks import linear_coordinates
from unscene.nn.geco import KLWeight
from unscene.nn.norm_relu import NormRelu
from unscene.nn.posterior import Posterior
from unscene.nn.unet import Block, UNet, unet_channels
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image


class GenesisV2(SceneModel):
    """GENESIS-V2; the defaults are the paper's for 64 x 64 images.

    Seeds of the slots are drawn from torch's global generator, in inference too.

    Args:
        image_channels: C of the images.
        image_size: (H, W), fixed by the U-Net.
        num_slots: K in training, and in `decompose` and `sample` unless said otherwise there.
        latent_size: D of a slot.
        encoder_channels: of the U-Net on the way down, multiples of 8; by default 64 and twice that on the three
            smallest maps, one block per halving down to about 4 x 4.
        coordinates: the feature head sees the positions of pixels as two more channels, so that a mean over a mask can
            tell where things are. Not in the paper, where the U-Net has to learn that from the edges of the image.
        colour_size: dimensions of the space of colours, the last two being positions too.
        decoder_channels: of the transposed convolutions, each of which doubles the map; multiples of 8.
        prior_size: width of the LSTM of the prior.
        mixture_event: what one draw of a slot explains: a "channel" of a pixel, a "pixel", or the "mean" of all slots.
        likelihood_scale: standard deviation of a value.
        attention_kl: add the KL divergence of the encoder's masks from the decoder's, as constants.
        geco_goal: negative log likelihood per value to keep; None gives the KL the weight 1 throughout. The default
            is for a scale of 0.7, at which 0.5623 is the least possible.
        geco_rate: of the logarithm of the KL's weight, at 64 x 64.
        beta_min: the smallest weight of the KL that GECO may choose.
        beta_max: the largest.
        lds: options of `unscene.priors.lds.LDS`; None leaves it out.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        image_size: Sequence[int] = (64, 64),
        num_slots: int = 7,
        latent_size: int = 64,
        encoder_channels: Sequence[int] | None = None,
        coordinates: bool = False,
        colour_size: int = 8,
        decoder_channels: Sequence[int] = (64, 64, 64, 64),
        prior_size: int = 256,
        mixture_event: Event = "channel",
        likelihood_scale: float = 0.7,
        attention_kl: bool = False,
        geco_goal: float | None = 0.5655,
        geco_rate: float = 1e-5,
        beta_min: float = 1e-10,
        beta_max: float = 1e10,
        lds: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_positive(image_channels=image_channels, image_size=image_size, num_slots=num_slots)
        check_positive(latent_size=latent_size, prior_size=prior_size, likelihood_scale=likelihood_scale)
        check_positive(geco_rate=geco_rate, beta_min=beta_min, beta_max=beta_max)
        check_image_size(image_size)
        _check_channels(encoder_channels=encoder_channels, decoder_channels=decoder_channels)
        if colour_size < 2:
            raise InputError(f"colour_size is {colour_size}; it needs at least the 2 dimensions of positions")
        self.image_channels, self.image_size, self.num_slots = image_channels, tuple(image_size), num_slots
        self.likelihood, self.mixture_event = Gaussian(likelihood_scale), mixture_event
        self.attention_kl, self.lds, self.geco = attention_kl, LDS.from_options(lds, num_slots), None
        if geco_goal is not None:
            self.geco = KLWeight.of_images((image_channels, *image_size), geco_goal, geco_rate, beta_min, beta_max)

        channels = unet_channels(64, image_size) if encoder_channels is None else encoder_channels
        self.coordinates = coordinates
        self.encoder = UNet(image_channels, channels, image_size, norm="group")
        self.segmentation_head = Block(channels[0], channels[0], "group")
        self.colouring = InstanceColouring(channels[0], colour_size, num_slots)
        self.feature_head = Block(channels[0] + 2 * coordinates, channels[0], "group")
        self.features = nn.Linear(channels[0], 2 * latent_size)
        self.posterior = nn.Sequential(
            nn.LayerNorm(2 * latent_size),
            *(nn.Linear(2 * latent_size, 2 * latent_size), nn.ReLU(), nn.Linear(2 * latent_size, 2 * latent_size)),
        )
        self.prior = AutoregressivePrior(latent_size, prior_size)
        self.decoder = DoublingDecoder(latent_size, decoder_channels, image_channels + 1)

    # ---- the two verbs, and generation -----------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Negative log likelihood plus weighted KL in nats per image, and the LDS penalty; ``step`` is not used.

        The terms ``kl`` and ``kl_attention`` are before the weight ``beta``, ``lds`` is before its own.
        """
        image = self._checked(batch["image"])
        log_attention, posterior = self._infer(image, self.num_slots)
        latent, means, mask_logits = self._paint(posterior, torch.randn_like(posterior.mean))
        nll, kls = -self._log_likelihood(image, means, mask_logits).mean(), {"kl": latent.kl().mean()}
        if self.attention_kl:
            kls["kl_attention"] = categorical_kl(log_attention, mask_logits.detach().log_softmax(1)).mean()
        total, terms = nll + sum(kls.values()), {"nll": nll} | kls
        if self.geco is not None:
            terms["beta"] = self.geco.beta
            total = self.geco(nll, sum(kls.values()))
        if self.lds is not None:
            slots = posterior.mean if self.lds.on == "means" else latent.z
            terms["lds"] = self.lds(slots, mask_logits.softmax(1)).mean()
            total = total + self.lds.weight * terms["lds"]
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    @torch.no_grad()
    def decompose(self, image: Float[Tensor, "B C H W"], *, num_slots: int | None = None) -> Decomposition:
        """Decompose images of the model's size with any number of slots.

        Raises:
            InputError: the images or the number are unusable.
        """
        check_positive(num_slots=num_slots)
        _, (mean, scale) = self._infer(self._checked(image), num_slots or self.num_slots)
        return _decomposition(*self.decode(mean), mean, scale)

    @torch.no_grad()
    def sample(self, num_images: int, *, num_slots: int | None = None) -> Decomposition:
        """Scenes drawn from the prior; their images are the ``reconstruction`` of what is returned."""
        check_positive(num_images=num_images, num_slots=num_slots)
        slots = self.prior.sample(num_images, num_slots or self.num_slots)
        return _decomposition(*self.decode(slots), slots)

    def decode(self, slots: Float[Tensor, "B K D"]) -> tuple[Tensor, Tensor]:
        """Means (B, K, C, H, W) and mask logits (B, K, H, W) of given latents."""
        out = self.decoder(slots.flatten(0, 1), self.image_size).contiguous().to(slots.dtype)
        means, mask_logits = out.unflatten(0, slots.shape[:2]).split([self.image_channels, 1], 2)
        return means.sigmoid(), mask_logits.squeeze(2)

    @torch.no_grad()
    def attend(self, image: Float[Tensor, "B C H W"], *, num_slots: int | None = None) -> Float[Tensor, "B K H W"]:
        """The encoder's masks, from which the latents come."""
        check_positive(num_slots=num_slots)
        return self._attend(self.encoder(self._checked(image)), num_slots or self.num_slots).exp()

    @torch.no_grad()
    def posteriors(self, scenes: Scenes, *, num_slots: int | None = None) -> dict[str, Posterior]:
        """The posterior of one image (1, C, H, W) with the seeds that were drawn for it, for the inference gap."""
        check_positive(num_slots=num_slots)
        image = self._checked(scenes["image"])
        _, posterior = self._infer(image, num_slots or self.num_slots)

        @torch.no_grad()
        def log_weights(noise: Float[Tensor, "S K D"]) -> Float64[Tensor, " S"]:
            latent, means, mask_logits = self._paint(posterior, noise.to(image))
            log_likelihood = self._log_likelihood(image.expand(len(noise), -1, -1, -1), means, mask_logits)
            return log_likelihood.double() - latent.kl().double()

        return {"gap": Posterior(tuple(posterior.mean.shape[1:]), log_weights)}

    # ---- inference -------------------------------------------------------------------------------------------------

    def _infer(self, image: Tensor, num_slots: int) -> tuple[Float[Tensor, "B K H W"], Normal]:
        """Log masks of the encoder, and the posterior."""
        maps = self.encoder(image)
        log_attention = self._attend(maps, num_slots)
        if self.coordinates:
            positions = linear_coordinates(self.image_size, maps).expand(len(maps), -1, -1, -1)
            maps = torch.cat([maps, positions], 1)
        features = self.feature_head(maps).to(image.dtype)
        with torch.autocast(image.device.type, enabled=False):
            return log_attention, Normal.posterior(self.posterior(self._pool(features, log_attention.exp())))

    def _paint(self, posterior: Normal, noise: Float[Tensor, "S K D"]) -> tuple[Latent, Tensor, Tensor]:
        """Latents that ``noise`` makes of the posterior, and what they are decoded to (see `decode`)."""
        z = posterior.at(noise)
        with torch.autocast(z.device.type, enabled=False):
            prior = self.prior(z)
        return Latent(posterior, prior, z), *self.decode(z)

    def _attend(self, maps: Float[Tensor, "B E H W"], num_slots: int) -> Float[Tensor, "B K H W"]:
        return self.colouring(self.segmentation_head(maps), num_slots)

    def _pool(self, features: Float[Tensor, "B E H W"], masks: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K F"]:
        """The features that the linear layer makes of maps, averaged over masks, without making maps of them."""
        size = masks.sum((2, 3)).unsqueeze(2)
        pooled = torch.einsum("bkhw,behw->bke", masks, features)
        return (pooled @ self.features.weight.mT + size * self.features.bias) / (size + 1e-5)

    # ---- small things ----------------------------------------------------------------------------------------------

    def _log_likelihood(self, image: Tensor, means: Tensor, mask_logits: Tensor) -> Float[Tensor, " B"]:
        return log_likelihood(self.likelihood, image, means, mask_logits.log_softmax(1), self.mixture_event)

    def _checked(self, image: Tensor) -> Tensor:
        check_image(image, channels=self.image_channels, size=self.image_size)
        return image.to(self.features.weight.dtype)


class InstanceColouring(nn.Module):
    """Stick-breaking by similarity of colours to those of random seeds (IC-SBP).

    Colours are positions at the start; a gate, 0 at first, lets in what the network has to say.

    Args:
        in_channels: of the maps.
        colour_size: dimensions of colours.
        num_slots: K, for which the initial masks are of about the same size.
    """

    def __init__(self, in_channels: int, colour_size: int, num_slots: int) -> None:
        super().__init__()
        self.colours = nn.Conv2d(in_channels, colour_size, 1)
        self.gate = nn.Parameter(torch.zeros(()))
        self.log_sigma = nn.Parameter(torch.tensor(-math.log(num_slots * math.log(2))))

    def forward(self, maps: Float[Tensor, "B E H W"], num_slots: int) -> Float[Tensor, "B K H W"]:
        """Log masks; the last slot gets what the others leave."""
        colours = self.colours(maps).to(self.gate.dtype)
        position = linear_coordinates(tuple(maps.shape[2:]), colours)
        position = F.pad(position, (0, 0, 0, 0, colours.shape[1] - 2, 0))
        colours = (self.gate * colours + position).flatten(2)  # (B, E, HW)
        noise, scope, log_masks = torch.rand_like(colours[:, 0]), torch.zeros_like(colours[:, 0]), []
        for _ in range(num_slots - 1):
            seed = (noise * scope.exp()).argmax(1)[:, None, None].expand(-1, colours.shape[1], 1)
            distance = (colours - colours.gather(2, seed)).square().sum(1)
            share = (-distance / self.log_sigma.exp()).exp()
            share = share + (share.clamp(0.01, 0.99) - share).detach()  # straight through
            log_masks.append(scope + share.log())
            scope = scope + (1 - share).log()
        return torch.stack([*log_masks, scope], 1).unflatten(2, maps.shape[2:])


class DoublingDecoder(nn.Module):
    """z and coordinates at every place of a small grid, then transposed convolutions that double it to the image.

    Args:
        latent_size: D.
        channels: of the transposed convolutions.
        out_channels: of the last convolution, of one pixel and without activation.
    """

    def __init__(self, latent_size: int, channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(n_in, n_out, 5, 2, padding=2, output_padding=1).to(memory_format=torch.channels_last)
            for n_in, n_out in zip([latent_size + 2, *channels[:-1]], channels, strict=True)
        )
        self.norms = nn.ModuleList(NormRelu(n, groups=8) for n in channels)
        self.out = nn.Conv2d(channels[-1], out_channels, 1)

    def forward(self, z: Float[Tensor, "N D"], size: tuple[int, int]) -> Float[Tensor, "N C H W"]:
        """Decode at (H, W) = ``size``; the image is cropped to it where it is no multiple of the grid."""
        grid = tuple(math.ceil(n / 2 ** len(self.convs)) for n in size)
        coordinates = linear_coordinates(grid, z).expand(len(z), -1, -1, -1)
        x = torch.cat([z[:, :, None, None].expand(-1, -1, *grid), coordinates], 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
        return self.out(x)[..., : size[0], : size[1]]


def _decomposition(means: Tensor, mask_logits: Tensor, slots: Tensor, scale: Tensor | None = None) -> Decomposition:
    return Decomposition(mask_logits.softmax(1), means, slots, mask_logits, scale)


def _check_channels(**options: Sequence[int] | None) -> None:
    check_positive(**options)
    for name, channels in options.items():
        if channels is not None and any(n % 8 for n in channels):
            raise InputError(f"{name} is {tuple(channels)}; group normalisation needs multiples of 8")
