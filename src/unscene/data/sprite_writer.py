"""save_sprite_folder: any labelled images in the layout that `SpriteFolder` and DTI-Sprites' own code read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from unscene.data.batches import batches
from unscene.data.clips import visible_ids
from unscene.data.dataset import SceneDataset
from unscene.data.preprocess import image_to_pixels
from unscene.data.sprite_folder import CLASSES, IMAGES, MASKS
from unscene.errors import InputError
from unscene.files import replacing
from unscene.scenes import Scenes

MOST_IDS = 255  # in a byte, besides the background

Code = tuple[int, ...]  # one value per factor that makes up the class


def save_sprite_folder(
    datasets: dict[str, SceneDataset],
    root: str | Path,
    classes: Sequence[str] = ("shape",),
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Code]:
    """Write images/{i}.png, masks/{i}.png and sem_masks/{i}.png of the splits ``datasets`` {name: scenes}.

    A single split goes right into ``root``, several into the folders ROOT/SPLIT. Images are rounded to bytes. The class
    of an object is that of its values of the factors ``classes``: the distinct combinations among the visible objects
    of all splits, in their order, are 1, 2, ... They are returned. Whatever is asked for is drawn twice, first for the
    classes. ``progress(split, done, total)`` is called after each batch of the second time.

    Raises InputError if there is something at ``root`` already, nothing to write, no label maps, factors that are
    missing or not whole numbers, more than 255 ids or classes, or if the files cannot be written.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root} is there already; name a new or empty folder")
    if not datasets or not all(map(len, datasets.values())):
        raise InputError(f"nothing to write to {root}: there is no split, or an empty one")
    codes = sorted({code for dataset in datasets.values() for code in _visible_codes(dataset, classes)})
    if not 1 <= len(codes) <= MOST_IDS:
        raise InputError(f"{', '.join(classes)} give {len(codes)} classes; a mask holds 1 to {MOST_IDS}, choose others")
    for split, dataset in datasets.items():
        folder = root if len(datasets) == 1 else root / split
        for done in _write(dataset, folder, classes, codes):
            if progress is not None:
                progress(split, done, len(dataset))
    return codes


def _visible_codes(dataset: SceneDataset, classes: Sequence[str]) -> set[Code]:
    """What occurs among the visible objects."""
    found: set[Code] = set()
    for _, batch in batches(dataset, len(dataset)):
        codes = _codes(batch, classes, type(dataset).__name__)
        visible = visible_ids(batch["mask"], codes.shape[1])[:, 1:]
        found |= set(map(tuple, codes[:, 1:][visible].unique(dim=0).tolist()))
    return found


def _codes(batch: Scenes, classes: Sequence[str], name: str) -> Tensor:
    """(B, N, F) int64: the values of the F factors ``classes`` of all entities; InputError if they cannot be had."""
    if "mask" not in batch or batch["image"].ndim != 4:
        found = "has no label maps" if "mask" not in batch else "does not hold single images"
        raise InputError(f"{name} {found}; only images with masks can be written as sprites")
    factors = batch.get("factors", {})
    whole = {key: value for key, value in factors.items() if value.ndim == 2 and not value.is_floating_point()}
    for key in classes:
        if key not in whole:
            raise InputError(
                f"{name} has no factor {key!r} with categories, which are to be the classes; "
                f"it has {', '.join(whole) or 'none at all'}"
            )
    if not classes:
        raise InputError(f"name at least one factor whose values are the classes: {', '.join(whole)}")
    codes = torch.stack([whole[key].long() for key in classes], dim=-1)
    largest = int(batch["mask"].max())
    if largest > MOST_IDS or largest >= codes.shape[1]:
        raise InputError(
            f"a label map of {name} has the id {largest}, but factors and files have ids up to "
            f"{min(MOST_IDS, codes.shape[1] - 1)}"
        )
    return codes


def _write(dataset: SceneDataset, folder: Path, classes: Sequence[str], codes: list[Code]) -> Iterator[int]:
    """Write one split; yields the number of scenes written."""
    number = {code: i for i, code in enumerate(codes, start=1)}
    with ExitStack() as stack:
        kinds = {kind: stack.enter_context(replacing(folder / kind)) for kind in (IMAGES, MASKS, CLASSES)}
        for path in kinds.values():
            path.mkdir()
        for indices, batch in batches(dataset, len(dataset)):
            of_id = _codes(batch, classes, type(dataset).__name__).tolist()
            mask = batch["mask"].long()
            # hidden objects may have codes that no visible one has; none of their pixels is looked up
            table = torch.tensor([[0, *(number.get(tuple(code), 0) for code in row[1:])] for row in of_id])
            arrays = {
                IMAGES: image_to_pixels(batch["image"]).squeeze(-1),  # gray files have no axis of channels
                MASKS: mask.byte(),
                CLASSES: table.gather(1, mask.flatten(1)).reshape(mask.shape).byte(),
            }
            for kind, array in arrays.items():
                for i, pixels in zip(indices, array.numpy(), strict=True):
                    Image.fromarray(pixels).save(kinds[kind] / f"{i}.png")
            yield indices.stop
