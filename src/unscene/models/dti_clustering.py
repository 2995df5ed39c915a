"""DTI-Clustering: Deep Transformation-Invariant Clustering (Monnier et al., NeurIPS 2020), its K-means.

Each of K prototypes is a whole image, which networks of its own deform and recolour to fit the image at hand; the one
that comes closest is the image's cluster. The special case of DTI-Sprites with one layer and neither masks nor
background, and its baseline.

Not as in the authors' code: milestones are optimisation steps, not epochs. Their Gaussian mixture is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.models.base import Losses, check_image_size, check_positive
from unscene.models.prototypes import PrototypeModel
from unscene.nn.gated import running_statistics
from unscene.nn.maps import bump
from unscene.nn.predicted_transforms import Parameters, PredictedTransforms, flat_rows, joined, of_chosen
from unscene.nn.resnet import ResNet
from unscene.scenes import Decomposition, Scenes


class DTIClustering(PrototypeModel):
    """DTI K-means; the defaults are the paper's for SVHN.

    Args:
        image_channels: C of the images.
        image_size: (H, W), fixed.
        num_sprites: K, the number of clusters.
        encoder: the ResNet that all predictions share.
        encoder_pool: its features are averaged to so many places a side.
        transforms: of each prototype, see `unscene.nn.transforms`; applied left to right.
        milestones: optimisation steps after which the second, third, ... of them is active.
        padding: what warps see outside a prototype.
        weight_sigma: squared errors are weighed by a Gaussian of so many pixels in the middle of the image, whose peak
            is 1; None weighs all alike.
        tps_reference_sampling: sample thin-plate splines as the authors' code.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        image_size: Sequence[int] = (32, 32),
        num_sprites: int = 10,
        encoder: Literal["resnet18", "resnet20", "resnet32"] = "resnet20",
        encoder_pool: int = 1,
        transforms: str = "identity_color_projective",
        milestones: Sequence[int] = (),
        padding: Literal["zeros", "border"] = "border",
        weight_sigma: float | None = 7.0,
        tps_reference_sampling: bool = False,
    ) -> None:
        super().__init__()
        check_positive(image_channels=image_channels, image_size=image_size, num_sprites=num_sprites)
        check_positive(encoder_pool=encoder_pool, weight_sigma=weight_sigma)
        check_image_size(image_size)
        self.image_channels, self.image_size, self.num_sprites = image_channels, tuple(image_size), num_sprites
        self.sprites = nn.Parameter(torch.full((num_sprites, image_channels, *self.image_size), 0.5))
        self.encoder = ResNet(encoder, image_channels, encoder_pool)
        self.transforms = PredictedTransforms(
            transforms,
            self.encoder.size,
            (num_sprites,),
            milestones,
            channels=image_channels,
            size=self.image_size,
            out_size=self.image_size,
            padding=padding,
            clamp=False,
            tps_reference_sampling=tps_reference_sampling,
        )
        weight = torch.ones(self.image_size) if weight_sigma is None else bump(self.image_size, weight_sigma)
        self.register_buffer("weight", weight, persistent=False)
        self._count_from_zero(1, num_sprites)

    # ---- the two verbs -----------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Weighted mean squared error of the closest prototype; which one that is has no gradient.

        In training mode the model is then ``step`` + 1 steps old, and winners are counted; in evaluation mode nothing
        changes.
        """
        image = self._checked(batch["image"])
        if self.training:
            self.steps.fill_(step)
        parameters = self._predict(image)
        winner = self._winner(image, parameters)
        error = self._error(image, self._draw_chosen(parameters, winner)).mean()
        if self.training:
            self._count(winner.unsqueeze(1))
            self.steps.fill_(step + 1)
        return Losses(error, {"mse": error.detach()})

    @torch.no_grad()
    def decompose(self, image: Float[Tensor, "B C H W"], *, num_slots: int | None = None) -> Decomposition:
        """One slot, all of the image: the closest prototype as it is transformed, clamped to [0, 1].

        ``slots`` hold its number, one-hot, and the parameters of its transformations.

        Raises:
            InputError: the images do not fit, or another number of slots is asked for.
        """
        if num_slots not in (None, 1):
            raise InputError(f"num_slots is {num_slots}; a model that clusters has 1 slot, the whole image")
        parameters, winner = self._read(image)
        pictures = self._draw_chosen(parameters, winner).clamp(0, 1).unsqueeze(1)
        one_hot = torch.nn.functional.one_hot(winner, self.num_sprites).to(pictures.dtype)
        own = joined(of_chosen(parameters, winner), self.transforms.num_parameters, one_hot)
        slots = torch.cat([one_hot, own], 1).unsqueeze(1)
        return Decomposition(torch.ones_like(pictures[:, :, 0]), pictures, slots, sprite_ids=winner.unsqueeze(1))

    def cluster(self, image: Float[Tensor, "B C H W"]) -> Int[Tensor, " B"]:
        """The closest prototype of each image."""
        return self._read(image)[1]

    @torch.no_grad()
    def reconstruction_error(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """Weighted mean squared error of the closest prototype per image."""
        return self._error(image, self._draw_chosen(*self._read(image)))

    # ---- for training -------------------------------------------------------------------------------------------

    def prototype_axes(self) -> dict[str, int]:
        """Parameters that belong to prototypes: the axis along which these lie."""
        return {"sprites": 0, **{f"transforms.{name}": 0 for name, _ in self.transforms.named_parameters()}}

    @torch.no_grad()
    def start_from(self, images: Float[Tensor, "N C H W"], generator: torch.Generator | None = None) -> None:
        """Let the prototypes begin as images drawn without replacement."""
        images = self._checked(images)
        if len(images) < self.num_sprites:
            raise InputError(
                f"{self.num_sprites} prototypes cannot begin as {len(images)} images; give StartFromData more images"
            )
        chosen = torch.randperm(len(images), generator=generator)[: self.num_sprites]
        self.sprites.copy_(images[chosen.to(images.device)])

    # ---- small things ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _read(self, image: Tensor) -> tuple[Parameters, Int[Tensor, " B"]]:
        """Parameters and the closest prototype, in evaluation mode whatever the mode is."""
        image = self._checked(image)
        with running_statistics(self):
            parameters = self._predict(image)
        return parameters, self._winner(image, parameters)

    def _predict(self, image: Tensor) -> Parameters:
        features = self.encoder(image).to(image.dtype)
        return self.transforms.predict(features, int(self.steps))

    @torch.no_grad()
    def _winner(self, image: Tensor, parameters: Parameters) -> Int[Tensor, " B"]:
        maps = self.sprites.expand(len(image), *self.sprites.shape).reshape(-1, 1, *self.sprites.shape[1:])
        pictures = self.transforms(maps, flat_rows(parameters, 2)).view(len(image), *self.sprites.shape)
        return self._error(image.unsqueeze(1), pictures).argmin(1)

    def _draw_chosen(self, parameters: Parameters, winner: Int[Tensor, " B"]) -> Float[Tensor, "B C H W"]:
        return self.transforms(self.sprites[winner], of_chosen(parameters, winner))

    def _error(self, image: Tensor, pictures: Float[Tensor, "*N C H W"]) -> Float[Tensor, "*N"]:
        return (self.weight * (image - pictures).square()).mean((-3, -2, -1))
