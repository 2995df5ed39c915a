"""Slot Attention: Object-Centric Learning with Slot Attention (Locatello et al., NeurIPS 2020), the auto-encoder.

K vectors, drawn from one learned Gaussian, compete for the features of an image and change T times by what they win.
Each is then decoded on its own to a picture and a mask logit; together they ought to give the image back. There is no
density here and no KL: slots are points.

Initialisation and LayerNorm's epsilon (1e-3) are those of the reference code, see `unscene.nn.slot_attention`. Not as
there: a transposed convolution of stride 2 loses two pixels before and one behind the image, not one and two, which is
a shift by one pixel per layer and matters to copied weights only; those of stride 1 are convolutions, which is the same
but for the order of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.models.base import Losses, SceneModel, check_positive
from unscene.nn.blocks import SoftPosition, conv, deconv, relu
from unscene.nn.decoders import BroadcastDecoder
from unscene.nn.slot_attention import ImageEncoder, SlotAttentionModule, glorot_init
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image

OUT_KERNEL = 3  # of the decoders' last convolution


class SlotAttention(SceneModel):
    """Slot Attention; the default architecture is the paper's for CLEVR6, recipes hold those of the other datasets.

    Args:
        image_channels: C of the images.
        num_slots: K in training, and in `decompose` unless said otherwise there.
        iterations: T, likewise.
        latent_size: D of a slot.
        encoder_channels: of the encoder's convolutions.
        encoder_strides: of these; by default all 1, so that every pixel has a feature.
        decoder_channels: of the decoder's hidden convolutions.
        decoder_strides: of all of them, the output's included; a 2 doubles the size there, so slots are broadcast to
            a grid that much smaller. None for all 1.
        kernel_size: of the convolutions; the decoder's last one has 3.
        hidden: width of the MLP that changes a slot behind its GRU.
        lds: options of `unscene.priors.lds.LDS`, such as {"weight": 1.0}; None leaves this prior out. Here it looks at
            the last slots unless told {"iterations": "all"}, and is weighed as if the squared error were a sum too.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        num_slots: int = 7,
        iterations: int = 3,
        latent_size: int = 64,
        encoder_channels: Sequence[int] = (64, 64, 64, 64),
        encoder_strides: Sequence[int] | None = None,
        decoder_channels: Sequence[int] = (64, 64, 64, 64, 64),
        decoder_strides: Sequence[int] | None = (2, 2, 2, 2, 1, 1),
        kernel_size: int = 5,
        hidden: int = 128,
        lds: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_positive(num_slots=num_slots, iterations=iterations, latent_size=latent_size, hidden=hidden)
        check_positive(image_channels=image_channels, kernel_size=kernel_size, encoder_strides=encoder_strides)
        check_positive(encoder_channels=encoder_channels)
        check_positive(decoder_channels=decoder_channels, decoder_strides=decoder_strides)
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size is {kernel_size}; it must be odd, so that convolutions keep the size")
        if encoder_strides is not None and len(encoder_strides) != len(encoder_channels):
            raise InputError(f"encoder_strides is {encoder_strides}; give {len(encoder_channels)}, as encoder_channels")
        self.image_channels, self.num_slots, self.iterations = image_channels, num_slots, iterations
        self.lds = None if lds is None else LDS.from_options({"iterations": "last"} | lds, num_slots)
        if self.lds and self.lds.in_refinement:
            raise InputError("lds.in_refinement is of no use in Slot Attention, which sees no gradient; leave it out")

        self.encoder = ImageEncoder(image_channels, encoder_channels, kernel_size, encoder_strides)
        self.slots = SlotAttentionModule(encoder_channels[-1], latent_size, hidden)
        sizes = latent_size, decoder_channels, image_channels + 1, kernel_size
        if decoder_strides is not None and decoder_strides[0] == 2:
            self.decoder = UpsamplingDecoder(*sizes, decoder_strides)
        else:
            same = {"out_kernel": OUT_KERNEL, "position": "added", "activation": "relu"}
            self.decoder = BroadcastDecoder(*sizes, strides=decoder_strides, **same)
        self.apply(glorot_init)

    # ---- the two verbs -----------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Mean squared error of pixels in [-1, 1], as in the paper; the term ``mse`` is that of pixels in [0, 1]."""
        image = self._checked(batch["image"])
        history = self.slots(self.encoder(image), self.num_slots, self.iterations)
        pixels, mask_logits = self._decode(history[-1], tuple(image.shape[-2:]))
        masks = mask_logits.softmax(1)
        error = ((masks.unsqueeze(2) * pixels).sum(1) - (2 * image - 1)).square().mean()
        terms = {"mse": error.detach() / 4}
        if self.lds is None:
            return Losses(error, terms)
        alike = [self.lds.mean(slots, slots, masks) for slots in history]
        weights = [self.lds.weight_at(t, len(history) - 1) for t in range(len(history))]
        penalty = sum(weight * value for weight, value in zip(weights, alike, strict=True))
        return Losses(error + penalty / image[0].numel(), terms | {"lds": alike[-1].detach()})

    @torch.no_grad()
    def decompose(
        self,
        image: Float[Tensor, "B C H W"],
        *,
        num_slots: int | None = None,
        iterations: int | None = None,
        history: bool = False,
    ) -> Decomposition:
        """Decompose images with any number of slots and iterations; noise comes from torch's global generator.

        With ``history`` the result holds the Decomposition after each of the T iterations.

        Raises:
            InputError: the images or the numbers are unusable.
        """
        image, size = self._checked(image), tuple(image.shape[-2:])
        num_slots = self.num_slots if num_slots is None else num_slots
        iterations = self.iterations if iterations is None else iterations
        check_positive(num_slots=num_slots, iterations=iterations)
        slots = self.slots(self.encoder(image), num_slots, iterations)
        steps = tuple(self._decomposition(s, size) for s in (slots if history else slots[-1:]))
        return replace(steps[-1], history=steps if history else ())

    def decode(self, slots: Float[Tensor, "B K D"], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Means (B, K, C, H, W) of pixels in [0, 1] and mask logits (B, K, H, W) of slots, at any (H, W) = ``size``."""
        pixels, mask_logits = self._decode(slots, size)
        return (pixels + 1) / 2, mask_logits

    # ---- small things ------------------------------------------------------------------------------------------

    def _decode(self, slots: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Pixels in [-1, 1], as the decoder makes them, and mask logits."""
        out = self.decoder(slots.flatten(0, 1), size, *self.decoder.prepare(size)).contiguous().to(slots.dtype)
        pixels, mask_logits = out.unflatten(0, slots.shape[:2]).split([self.image_channels, 1], 2)
        return pixels, mask_logits.squeeze(2)

    def _decomposition(self, slots: Tensor, size: tuple[int, int]) -> Decomposition:
        means, mask_logits = self.decode(slots, size)
        return Decomposition(mask_logits.softmax(1), means, slots, mask_logits=mask_logits)

    def _checked(self, image: Tensor) -> Tensor:
        check_image(image, channels=self.image_channels)
        return image.to(self.slots.mean.dtype)


class UpsamplingDecoder(nn.Module):
    """A slot on a small grid, plus positions, then transposed convolutions of stride 2 and convolutions of stride 1.

    Works for any H and W: the grid is as small as the strides allow and the result is cropped. Called as a
    `BroadcastDecoder`, whose trick with the first layer is not worth its while on a small grid.
    """

    def __init__(
        self,
        latent_size: int,
        channels: Sequence[int],
        out_channels: int,
        kernel_size: int,
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        if len(strides) != len(channels) + 1 or not set(strides) <= {1, 2}:
            raise InputError(
                f"decoder_strides is {strides} for {len(channels) + 1} convolutions (the output's is the last); "
                "give one for each, 1 or 2"
            )
        self.scale = math.prod(strides)
        self.position = SoftPosition(latent_size)
        widths, kernels = [latent_size, *channels, out_channels], [kernel_size] * len(channels) + [OUT_KERNEL]
        self.convs = nn.ModuleList(
            conv(n_in, n_out, kernel) if stride == 1 else deconv(n_in, n_out, kernel, stride)
            for n_in, n_out, kernel, stride in zip(widths[:-1], widths[1:], kernels, strides, strict=True)
        )

    def prepare(self, size: tuple[int, int]) -> tuple[Tensor]:
        """The positions, to be computed once for many decodes."""
        return (self.position(tuple(math.ceil(n / self.scale) for n in size)),)

    def forward(
        self, z: Float[Tensor, "N D"], size: tuple[int, int], position: Float[Tensor, "1 D h w"]
    ) -> Float[Tensor, "N C H W"]:
        """Decode at (H, W) = ``size`` with what `prepare` returned for it."""
        x = (z[:, :, None, None] + position).contiguous(memory_format=torch.channels_last)
        for layer in self.convs[:-1]:
            x = relu(layer(x))
        return self.convs[-1](x)[..., : size[0], : size[1]]
