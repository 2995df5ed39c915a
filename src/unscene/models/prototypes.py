"""PrototypeModel: what methods that learn prototypes have in common, and what their training relies on."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unscene.models.base import SceneModel
from unscene.scenes import check_image


class PrototypeModel(SceneModel):
    """A method that explains images by K learned pictures, its sprites, of which it picks some for each image.

    It counts what it picks in training: ``usage`` (L, candidates) says how often in each layer, ``usage_images`` in how
    many images. `unscene.training.reassignment` reads, sums over processes and clears both. ``steps`` is how many
    optimisation steps the model has seen. All three are part of its state.
    """

    idle_parameters = True  # those of frozen sprites, and of transformations that are not active yet
    frozen = False  # whether the sprites are kept as they are at the present step

    image_channels: int
    image_size: tuple[int, ...]
    sprites: nn.Parameter  # (K, C, h, w)

    def _count_from_zero(self, num_layers: int, candidates: int) -> None:
        """Make the counters; ``candidates`` are the K sprites and, where a layer may be empty, one more."""
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("usage", torch.zeros(num_layers, candidates))
        self.register_buffer("usage_images", torch.zeros(()))

    def _count(self, choice: Int[Tensor, "B L"]) -> None:
        self.usage += one_hot(choice, self.usage.shape[1]).sum(0)
        self.usage_images += len(choice)

    def _checked(self, image: Tensor) -> Tensor:
        """The images in the dtype of the model, if they fit it."""
        check_image(image, channels=self.image_channels, size=self.image_size)
        return image.to(self.sprites.dtype)

    @abstractmethod
    def cluster(self, image: Float[Tensor, "B C H W"]) -> Int[Tensor, " B"]:
        """The sprite of each image, if it has only one."""

    @abstractmethod
    def reconstruction_error(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """Mean squared error per image, without the noise of training."""

    @abstractmethod
    def prototype_axes(self) -> dict[str, int]:
        """Parameters that belong to sprites: the axis along which these lie."""

    @abstractmethod
    def start_from(self, images: Float[Tensor, "N C H W"], generator: torch.Generator | None = None) -> None:
        """Begin from some of the training images; what takes them is up to the method."""
