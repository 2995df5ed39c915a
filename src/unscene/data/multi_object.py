"""The Multi-Object Datasets (Kabra et al., 2019): what a record of each of their files holds.

https://github.com/google-deepmind/multi_object_datasets. A record becomes one element of a NumPy
structured array: bytes, label map instead of one mask per entity, one row of factors per entity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unscene.data.preprocess import CLEVR_SIZE, crop_clevr, masks_to_label_map
from unscene.errors import InputError

SPRITE_FACTORS = (("x", "f4"), ("y", "f4"), ("shape", "u1"), ("orientation", "f4"), ("scale", "f4"))
CLEVR_FACTORS = (
    *(("x", "f4"), ("y", "f4"), ("z", "f4"), ("pixel_coords", "f4", (3,)), ("rotation", "f4")),
    *(("size", "u1"), ("material", "u1"), ("shape", "u1"), ("color", "u1")),
)


@dataclass(frozen=True)
class Layout:
    """How one kind of file stores a scene; frames T come first in ``image`` and ``mask`` of a video."""

    image: tuple[int, ...]  # ([T,] H, W, C)
    mask: tuple[int, ...]  # one mask of 0 or 255 per entity, on entity_axis
    entity_axis: int = 0
    factors: tuple = ()  # NumPy field descriptions; every factor is stored with the entities first
    visibility: bool = True  # stored; otherwise an entity is visible if it has a pixel
    num_background: int = 1  # so many leading entities are background
    clevr: bool = False  # crop and resize as IODINE does

    @property
    def num_entities(self) -> int:
        return self.mask[self.entity_axis]

    @cached_property
    def record(self) -> np.dtype:
        """The structured dtype of a decoded record."""
        image = (CLEVR_SIZE, CLEVR_SIZE, 3) if self.clevr else self.image
        num_objects = self.num_entities - self.num_background + 1  # including the background
        fields = [("image", "u1", image), ("mask", "u1", image[:-1]), ("visibility", "?", (num_objects,))]
        return np.dtype([*fields, ("factors", list(self.factors), (num_objects,))])


def _sprites(num_entities: int, channels: int) -> Layout:
    factors = (*SPRITE_FACTORS, ("color", "f4", (channels,)))
    return Layout((64, 64, channels), (64, 64, num_entities, 1), entity_axis=2, factors=factors)


def _room(num_entities: int) -> Layout:
    return Layout((64, 64, 3), (num_entities, 64, 64, 1), visibility=False, num_background=4)


LAYOUTS = {
    "tetrominoes": Layout(
        (35, 35, 3), (4, 35, 35, 1), factors=(("x", "f4"), ("y", "f4"), ("shape", "u1"), ("color", "f4", (3,)))
    ),
    "multi_dsprites/binarized": _sprites(num_entities=4, channels=1),
    "multi_dsprites/colored_on_grayscale": _sprites(num_entities=6, channels=3),
    "multi_dsprites/colored_on_colored": _sprites(num_entities=5, channels=3),
    "clevr_with_masks": Layout((240, 320, 3), (11, 240, 320, 1), factors=CLEVR_FACTORS, clevr=True),
    "objects_room/train": _room(7),
    "objects_room/six_objects": _room(10),
    "objects_room/empty_room": _room(4),
    "objects_room/identical_color": _room(10),
    "cater_with_masks": Layout(
        image=(33, 64, 64, 3),
        mask=(33, 11, 64, 64, 1),
        entity_axis=1,
        factors=(("object_positions", "f4", (33, 3)),),
        visibility=False,
    ),
}


def find_layout(kind: str, variant: str | None = None) -> str:
    """The key in LAYOUTS; InputError that lists them if there is none."""
    name = kind if variant is None else f"{kind}/{variant}"
    if name not in LAYOUTS:
        raise InputError(f"there is no data set {name!r}; kind and variant must be one of {', '.join(LAYOUTS)}")
    return name


def decode_scene(example: dict[str, np.ndarray], layout: Layout) -> np.ndarray:
    """A parsed tf.train.Example as an array () of dtype ``layout.record``; InputError if it does not fit."""
    scene = np.zeros((), dtype=layout.record)
    pixels = _bytes(example, "image", layout.image)
    masks = _bytes(example, "mask", layout.mask)[..., 0]
    labels = masks_to_label_map(masks, layout.entity_axis, layout.num_background)
    scene["image"], scene["mask"] = crop_clevr(pixels, labels) if layout.clevr else (pixels, labels)
    ids = np.arange(len(scene["visibility"]))
    scene["visibility"] = (
        _feature(example, "visibility", ids.shape) != 0 if layout.visibility else np.isin(ids, scene["mask"])
    )
    for name, *_ in layout.factors:
        factor = scene["factors"][name]
        stored = _feature(example, name, factor.shape)
        factor[:] = stored
        if factor.dtype == np.uint8 and (factor != stored).any():
            raise InputError(f"feature {name!r} has values that are no category (0 to 255)")
    return scene


def _bytes(example: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = _feature(example, name, shape)
    if array.dtype != np.uint8:
        raise InputError(f"feature {name!r} is a list of {array.dtype} instead of bytes")
    return array


def _feature(example: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in example:
        raise InputError(f"there is no feature {name!r}, only {', '.join(sorted(example))}")
    if example[name].size != np.prod(shape):
        raise InputError(f"feature {name!r} has {example[name].size} values instead of {shape}")
    return example[name].reshape(shape)
