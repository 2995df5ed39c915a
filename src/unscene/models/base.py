"""SceneModel: the contract that every method fulfils. Two verbs, and weights that save and load themselves."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.scenes import Decomposition, Scenes, check_image


class Losses(NamedTuple):
    """A training objective: ``total`` (scalar) is minimised, ``terms`` (named scalars, detached) are logged."""

    total: Tensor
    terms: dict[str, Tensor]


class SceneModel(nn.Module, PyTorchModelHubMixin, ABC, library_name="unscene", tags=["unscene", "object-centric"]):
    """A method for unsupervised scene decomposition.

    Constructors take plain JSON-able hyper-parameters with the paper's values as defaults;
    `save_pretrained(folder)` writes them to config.json beside model.safetensors, and
    `from_pretrained(folder_or_hub_id)` (or `unscene.load`, which finds the class) reads them back.
    """

    idle_parameters = False  # whether some parameters have no gradient in some steps: several processes must know

    def __init__(self) -> None:
        super().__init__()
        check_choices(type(self), self._hub_mixin_config or {})

    @abstractmethod
    def decompose(self, image: Tensor, *, num_slots: int | None = None) -> Decomposition:
        """Decompose images (B, C, H, W) in [0, 1]; no labels, no gradients, any B, H, W and K the method allows."""

    def decompose_batch(self, batch: Scenes, **options: Any) -> Decomposition:
        """`decompose` with what this method needs of a batch of Scenes; ``options`` are those of `decompose`."""
        return self.decompose(batch["image"], **options)

    @abstractmethod
    def loss(self, batch: Scenes, step: int) -> Losses:
        """The training objective on a batch of Scenes at optimisation step ``step``; labels must not be read."""

    def own_scores(
        self, scenes: Scenes, decomposition: Decomposition, before: Scenes | None = None
    ) -> dict[str, Tensor]:
        """Scores {name: (B,)} in terms that only this method has, for `unscene.evaluation`; by default none.

        ``scenes`` are images, or one frame of videos, with the labels that the data has; ``before`` is the frame
        before it, None for images and for the first frame.
        """
        return {}

    @classmethod
    def from_pretrained(cls, source: str | Path, **hub_options) -> SceneModel:
        """The model with the weights that ``source`` holds: as `unscene.load`, but only weights of this class."""
        from unscene.pretrained import load  # here, because it knows all models

        return load(source, cls, **hub_options)

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        module = type(self).__module__
        origin = {} if module.split(".")[0] == "unscene" else {"module": module}  # where `load` finds a user's method
        config = {"method": type(self).__name__} | origin | (self._hub_mixin_config or {})
        (save_directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


class VideoModel(SceneModel):
    """A method that follows objects through a video and can say how it goes on. Needs only `stream` and `loss`.

    ``image`` in a batch is (B, T, C, H, W), and so is what `decompose` takes. Slot k is the same object in all frames.
    """

    @abstractmethod
    def stream(
        self, frames: Iterable[Tensor], *, num_slots: int | None = None, horizon: int = 0
    ) -> Iterator[Decomposition]:
        """Take frames (B, C, H, W) one by one and yield the Decomposition (B, K, ...) of each as soon as it is there.

        ``horizon`` predicted frames follow when the given ones end. Memory does not grow with their number.
        No labels, no gradients; noise comes from torch's global generator.
        """

    def decompose(self, image: Tensor, *, num_slots: int | None = None) -> Decomposition:
        """Decompose videos (B, T, C, H, W) into a Decomposition (B, T, K, ...)."""
        check_image(image, axes="B, T, C, H, W", name="video")
        return stack_frames(self.stream(image.unbind(1), num_slots=num_slots))

    def predict(self, video: Tensor, horizon: int, *, num_slots: int | None = None) -> Decomposition:
        """The ``horizon`` frames that follow ``video`` (B, T, C, H, W), as a Decomposition (B, horizon, K, ...)."""
        check_image(video, axes="B, T, C, H, W", name="video")
        if horizon < 1:
            raise InputError(f"horizon is {horizon}; there must be at least 1 frame to predict")
        stream = self.stream(video.unbind(1), num_slots=num_slots, horizon=horizon)
        return stack_frames(islice(stream, video.shape[1], None))


class MultiViewModel(SceneModel):
    """A method that sees a scene from several viewpoints and can show it from others.

    ``image`` in a batch is (B, V, C, H, W), and ``viewpoint`` (B, V, P) says from where. Slot k is the same object in
    all views. ``view_size`` is P.
    """

    view_size: int

    @abstractmethod
    def decompose(
        self, image: Tensor, viewpoint: Tensor | None = None, *, num_slots: int | None = None
    ) -> Decomposition:
        """Decompose the views (B, V, C, H, W) of scenes into a Decomposition (B, V, K, ...); see SceneModel.

        ``slots`` (B, V, K, D) are what all V views together say, the same for each, unless the method says otherwise.
        Without viewpoints it raises InputError; they have a default only because SceneModel's `decompose` has none.
        """

    def decompose_batch(self, batch: Scenes, **options: Any) -> Decomposition:
        return self.decompose(batch["image"], batch.get("viewpoint"), **options)

    @abstractmethod
    def render(self, slots: Tensor, viewpoint: Tensor, size: tuple[int, int] | None = None) -> Decomposition:
        """What slots (B, K, D) look like from viewpoints (B, Q, P), at (H, W) = ``size``: (B, Q, K, ...)."""

    @torch.no_grad()
    def uncertainty(
        self,
        slots: Float[Tensor, "B K D"],
        slot_scale: Float[Tensor, "B K D"],
        viewpoint: Float[Tensor, "B Q P"],
        *,
        samples: int = 10,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "B Q H W"]:
        """Variance of the picture over ``samples`` draws from N(slots, slot_scale^2), summed over the channels.

        Unbiased; noise comes from torch's global generator, and memory does not grow with the number of samples.
        """
        if samples < 2:
            raise InputError(f"samples is {samples}; a variance needs at least 2")
        mean = squares = 0.0
        for count in range(1, samples + 1):
            drawn = slots + slot_scale * torch.randn_like(slots)
            picture = self.render(drawn, viewpoint, size).reconstruction
            change = picture - mean
            mean = mean + change / count
            squares = squares + change * (picture - mean)
        return squares.sum(2) / (samples - 1)


def stack_frames(frames: Iterable[Decomposition]) -> Decomposition:
    """Decompositions (B, K, ...) of single frames as one of a video (B, T, K, ...), without histories."""
    frames = list(frames)
    named = {field.name: [getattr(frame, field.name) for frame in frames] for field in fields(Decomposition)}
    stacked = {name: torch.stack(values, 1) for name, values in named.items() if isinstance(values[0], Tensor)}
    return Decomposition(**stacked)


def first_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[str, Any, Any] | None:
    """Name, shape here and shape there of the first entry in which two states differ; "missing" is a shape too."""
    for name in sorted(ours.keys() | theirs.keys()):
        here, there = (tuple(state[name].shape) if name in state else "missing" for state in (ours, theirs))
        if here != there:
            return name, here, there
    return None


def check_choices(method: type[SceneModel], options: dict[str, Any]) -> None:
    """Raise InputError unless options that the constructor annotates Literal have one of those values."""
    for name, hint in get_type_hints(method.__init__).items():
        if get_origin(hint) is Literal and options.get(name, get_args(hint)[0]) not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise InputError(f"{name} is {options[name]!r}; {method.__name__} knows {choices}")


def check_positive(**options: int | float | Sequence[int] | None) -> None:
    """Raise InputError unless every number, alone or in a non-empty list, is above 0; None is fine."""
    for name, value in options.items():
        numbers = value if isinstance(value, Sequence) else [1 if value is None else value]
        if not numbers or min(numbers) <= 0:
            raise InputError(f"{name} is {value}; it needs to be above 0")


def check_image_size(image_size: Sequence[int]) -> None:
    """Raise InputError unless it is a height and a width."""
    if len(image_size) != 2:
        raise InputError(f"image_size is {tuple(image_size)}; give height and width")
