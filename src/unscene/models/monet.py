"""MONet: Unsupervised Scene Decomposition and Representation (Burgess et al., arXiv:1901.11390, 2019).

An attention network looks at the image and at what earlier slots left of it (the scope), and takes a share of each
pixel for the next slot; the last slot takes the rest. Then a VAE explains what each slot took: its code must tell
both the colours and, as a further term of the loss, the mask.

The authors' code was not released; layer sizes are those of re-implementations. Not as in these: the KL between masks
is computed from logarithms, without a floor (``mask_kl_floor`` has it); `decompose` decodes means of the posterior,
not samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.likelihoods import Gaussian, categorical_kl, gaussian_kl, log_likelihood
from unscene.models.base import Losses, SceneModel, check_image_size, check_positive
from unscene.nn.component_vae import ComponentEncoder
from unscene.nn.decoders import BroadcastDecoder
from unscene.nn.geco import KLWeight
from unscene.nn.posterior import GaussianPosterior
from unscene.nn.unet import UNet, unet_channels
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image


class Inference(NamedTuple):
    """What MONet infers from images: who owns which pixel, and the posterior of each slot's code."""

    log_masks: Float[Tensor, "B K H W"]
    mean: Float[Tensor, "B K D"]
    scale: Float[Tensor, "B K D"]


class MONet(SceneModel):
    """MONet; the defaults are for images of 64 x 64, with the layers of the GENESIS repository.

    Dittadi et al. (2022) have ``encoder_padding`` 0, ``decoder_channels`` 32, 32, 64, 64 and ``posterior_scale`` "exp";
    two other re-implementations have the wider ``attention_channels`` 64, 128, 256, 512, 512. The GENESIS repository
    trains with scales of 0.7, ``beta`` and ``gamma`` 1, and a ``geco_goal`` of 0.5655 ("MONet-G").

    Args:
        image_channels: C of the images.
        image_size: (H, W), fixed by the linear layers of attention and encoder.
        num_slots: K in training, and in `decompose` unless said otherwise there.
        latent_size: D of a slot.
        attention_channels: of the U-Net's blocks on the way down; by default 32 and 64, in so many blocks that the
            smallest map is about 4 x 4.
        attention_hidden: width of the U-Net's MLP.
        encoder_channels: of the convolutions, each of which halves the image.
        encoder_hidden: width of the layer behind them.
        encoder_padding: of the convolutions, 0 or 1.
        decoder_channels: of the hidden convolutions.
        posterior_scale: how the encoder's output y gives the standard deviation: softplus(y + 0.5) or exp(y).
        mixture_event: what one draw of a slot explains: a "channel" of a pixel, or the "pixel" in all channels; "mean"
            draws none, the Gaussian is around the reconstruction.
        background_scale: standard deviation of a pixel in the first slot, where the background often ends up.
        foreground_scale: in the other slots; with ``mixture_event`` "mean", which knows no slots, everywhere.
        beta: weight of the KL of the codes.
        gamma: weight of the KL from the attention's masks to the decoder's.
        mask_kl_floor: masks in that KL are probabilities of at least so much, 1e-5 in the re-implementations, which
            leaves smaller ones without a gradient; by default all count as they are.
        geco_goal: negative log likelihood per value that GECO keeps by a factor on both KLs; None leaves it out.
        geco_rate: of the logarithm of that factor, at 64 x 64.
        lds: options of `unscene.priors.lds.LDS`; None leaves it out.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        image_size: Sequence[int] = (64, 64),
        num_slots: int = 7,
        latent_size: int = 16,
        attention_channels: Sequence[int] | None = None,
        attention_hidden: int = 128,
        encoder_channels: Sequence[int] = (32, 32, 64, 64),
        encoder_hidden: int = 256,
        encoder_padding: int = 1,
        decoder_channels: Sequence[int] = (32, 32, 32, 32),
        posterior_scale: Literal["softplus", "exp"] = "softplus",
        mixture_event: Literal["channel", "pixel", "mean"] = "channel",
        background_scale: float = 0.09,
        foreground_scale: float = 0.11,
        beta: float = 0.5,
        gamma: float = 0.5,
        mask_kl_floor: float | None = None,
        geco_goal: float | None = None,
        geco_rate: float = 1e-5,
        lds: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_positive(image_channels=image_channels, image_size=image_size, num_slots=num_slots)
        check_positive(
            latent_size=latent_size, attention_channels=attention_channels, attention_hidden=attention_hidden
        )
        check_positive(encoder_channels=encoder_channels, encoder_hidden=encoder_hidden)
        check_positive(decoder_channels=decoder_channels, mask_kl_floor=mask_kl_floor, geco_rate=geco_rate)
        check_positive(background_scale=background_scale, foreground_scale=foreground_scale)
        _check_numbers(image_size, encoder_padding, beta, gamma)
        self.image_channels, self.image_size, self.num_slots = image_channels, tuple(image_size), num_slots
        self.posterior_scale, self.mixture_event = posterior_scale, mixture_event
        self.background_scale, self.foreground_scale = background_scale, foreground_scale
        self.beta, self.gamma, self.mask_kl_floor = beta, gamma, mask_kl_floor
        self.lds, self.geco = LDS.from_options(lds, num_slots), None
        if geco_goal is not None:
            self.geco = KLWeight.of_images((image_channels, *image_size), geco_goal, geco_rate)

        attention_channels = attention_channels or unet_channels(32, image_size)
        self.attention = UNet(image_channels + 1, attention_channels, image_size, hidden=attention_hidden)
        self.attention_out = nn.Conv2d(attention_channels[0], 1, 1)
        self.encoder = ComponentEncoder(
            image_channels + 1, 2 * latent_size, image_size, encoder_channels, encoder_hidden, encoder_padding
        )
        self.decoder = BroadcastDecoder(
            latent_size, decoder_channels, image_channels + 1, 3, out_kernel=1, padding="valid", activation="relu"
        )
        for layer in self.decoder.convs:
            layer.reset_parameters()  # the framework's initialisation, as in all other layers

    # ---- the two verbs -----------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """nll + beta kl + gamma mask_kl, and the LDS prior, in nats per image. ``step`` is not used.

        Terms are before their weights; with GECO ``geco`` is its factor.
        """
        image = self._checked(batch["image"])
        log_masks, mean, scale = self.infer(image, self.num_slots)
        z = mean + scale * torch.randn_like(mean)
        means, mask_logits = self.decode(z)
        nll = -self.log_likelihood(image, means, log_masks).mean()
        kl = gaussian_kl(mean, scale.square()).sum((1, 2)).mean()
        masks_kl = mask_kl(log_masks, mask_logits.log_softmax(1), self.mask_kl_floor).mean()
        terms, weighted_kl = {"nll": nll, "kl": kl, "mask_kl": masks_kl}, self.beta * kl + self.gamma * masks_kl
        total = nll + weighted_kl
        if self.geco is not None:
            terms["geco"] = self.geco.beta
            total = self.geco(nll, weighted_kl)
        if self.lds is not None:
            terms["lds"] = self.lds.mean(z, mean, log_masks.exp())
            total = total + self.lds.weight * terms["lds"]
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    @torch.no_grad()
    def decompose(self, image: Float[Tensor, "B C H W"], *, num_slots: int | None = None) -> Decomposition:
        """Decompose images with any number of slots; nothing in it is random.

        ``masks`` are those of the attention. The decoder makes masks too, from the slots alone, and
        ``mask_logits.softmax(1)`` are these. ``slots`` are posterior means, ``slot_scale`` the standard deviations.

        Raises:
            InputError: the images or the number are unusable.
        """
        check_positive(num_slots=num_slots)
        log_masks, mean, scale = self.infer(self._checked(image), num_slots or self.num_slots)
        components, mask_logits = self.decode(mean)
        return Decomposition(log_masks.exp(), components, mean, mask_logits=mask_logits, slot_scale=scale)

    @torch.no_grad()
    def posteriors(self, scenes: Scenes, *, num_slots: int | None = None) -> dict[str, GaussianPosterior]:
        """The posterior of one image, for the inference gap, with two likelihoods.

        That of "gap" has the attention's masks, held fixed, as in training; that of "gap_generative" the decoder's,
        which makes it a model of images by itself.
        """
        check_positive(num_slots=num_slots)
        image = self._checked(scenes["image"])
        log_masks, mean, scale = self.infer(image, num_slots or self.num_slots)

        def log_likelihood(slots: Float[Tensor, "S K D"], generative: bool) -> Float[Tensor, " S"]:
            means, mask_logits = self.decode(slots)
            weights = mask_logits.log_softmax(1) if generative else log_masks.expand_as(mask_logits)
            return self.log_likelihood(image.expand(len(slots), -1, -1, -1), means, weights)

        likelihoods = {"gap": False, "gap_generative": True}
        return {
            name: GaussianPosterior(mean[0], scale[0], partial(log_likelihood, generative=generative))
            for name, generative in likelihoods.items()
        }

    # ---- the parts ---------------------------------------------------------------------------------------------

    def infer(self, image: Float[Tensor, "B C H W"], num_slots: int) -> Inference:
        """Masks, then the posterior of each slot from the image and the slot's mask."""
        log_masks = self.attend(image, num_slots)
        images = image.unsqueeze(1).expand(-1, num_slots, -1, -1, -1)
        seen = torch.cat([log_masks.unsqueeze(2), images], 2)
        mean, y = self.encoder(seen.flatten(0, 1)).unflatten(0, (len(image), num_slots)).chunk(2, 2)
        scale = F.softplus(y + 0.5) + 1e-8 if self.posterior_scale == "softplus" else y.exp()
        return Inference(log_masks, mean, scale)

    def attend(self, image: Float[Tensor, "B C H W"], num_slots: int) -> Float[Tensor, "B K H W"]:
        """Logarithms of the masks; each slot takes its share of what is left, the last one all of it."""
        log_scope, log_masks = torch.zeros_like(image[:, :1]), []
        for _ in range(num_slots - 1):
            share = self.attention_out(self.attention(torch.cat([image, log_scope], 1))).to(image.dtype)
            log_masks.append(log_scope + F.logsigmoid(share))
            log_scope = log_scope + F.logsigmoid(-share)
        return torch.cat([*log_masks, log_scope], 1)

    def decode(self, slots: Float[Tensor, "B K D"]) -> tuple[Tensor, Tensor]:
        """Means (B, K, C, H, W) in [0, 1] and mask logits (B, K, H, W) of given codes."""
        out = self.decoder(slots.flatten(0, 1), self.image_size, *self.decoder.prepare(self.image_size))
        out = out.contiguous().to(slots.dtype).unflatten(0, slots.shape[:2])  # planar: all that follows is elementwise
        means, mask_logits = out.split([self.image_channels, 1], 2)
        return means.sigmoid(), mask_logits.squeeze(2)

    def log_likelihood(
        self, image: Float[Tensor, "B C H W"], means: Float[Tensor, "B K C H W"], log_masks: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, " B"]:
        """log p(x | z) in nats, summed over pixels and channels."""
        if self.mixture_event == "mean":
            return log_likelihood(Gaussian(self.foreground_scale), image, means, log_masks, "mean")
        scales = means.new_full((means.shape[1], 1, 1, 1), self.foreground_scale)
        scales[0] = self.background_scale
        return log_likelihood(Gaussian(scales), image, means, log_masks, self.mixture_event)

    def _checked(self, image: Tensor) -> Tensor:
        check_image(image, channels=self.image_channels, size=self.image_size)
        return image.to(self.attention_out.weight.dtype)


def mask_kl(
    log_masks: Float[Tensor, "B K H W"], decoded: Float[Tensor, "B K H W"], floor: float | None = None
) -> Float[Tensor, " B"]:
    """KL of two sets of masks, given as logarithms; ``floor`` raises smaller masks to it."""
    if floor is not None:
        log_masks, decoded = (masks.clamp_min(math.log(floor)).log_softmax(1) for masks in (log_masks, decoded))
    return categorical_kl(log_masks, decoded)


def _check_numbers(image_size: Sequence[int], padding: int, beta: float, gamma: float) -> None:
    check_image_size(image_size)
    if padding not in (0, 1):
        raise InputError(f"encoder_padding is {padding}; it must be 0 or 1")
    if min(beta, gamma) < 0:
        raise InputError(f"beta is {beta} and gamma {gamma}; weights must not be negative")
