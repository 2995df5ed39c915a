"""`unscene render`: the scene that is meant, and the viewpoints from which to show it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unscene.data import open_dataset
from unscene.data.viewpoints import POSE, expand_poses, normalise_cameras
from unscene.errors import InputError
from unscene.export import export_views
from unscene.models.base import MultiViewModel, SceneModel

CAMERAS = {3: (3, normalise_cameras), 7: (POSE, expand_poses)}  # numbers of a camera, by those of a viewpoint


def render_scene(
    model: SceneModel,
    data: str,
    *,
    index: int,
    split: str | None,
    view: Sequence[float] | None,
    camera: Sequence[float] | None,
    out: Path,
    options: dict[str, Any],
    settings: dict[str, Any],
) -> Path:
    """Write what the model shows of scene number ``index`` of a dataset; return the folder."""
    dataset = open_dataset(data, split, **options)
    if not 0 <= index < len(dataset):
        raise InputError(
            f"index is {index}, but {data} has {len(dataset)} scenes; give one from 0 to {len(dataset) - 1}"
        )
    where = Path(data).resolve() if Path(data).exists() else data
    source = ", ".join([f"scene {index} of {where}", f"split {split}", *(f"{k} {v}" for k, v in options.items())])
    given = {"name": f"{Path(data).stem}-{index}", "source": source, "viewpoint": viewpoints(model, view, camera)}
    return export_views(model, dataset[index], out, **given, **settings)


def viewpoints(model: SceneModel, view: Sequence[float] | None, camera: Sequence[float] | None) -> Tensor | None:
    """Viewpoints (Q, P) from their numbers one after the other, or from those of cameras; None if neither is given."""
    if not isinstance(model, MultiViewModel) or (view is None and camera is None):
        return None  # in the first case the export says what is wrong
    if view is not None and camera is not None:
        raise InputError("view and camera are both given; give one of them")
    size, convert = model.view_size, np.float32
    if camera is not None:
        if model.view_size not in CAMERAS:
            raise InputError(f"viewpoints of {model.view_size} numbers are made of no known camera; give them as view")
        size, convert = CAMERAS[model.view_size]
    name, numbers = ("view", view) if camera is None else ("camera", camera)
    if len(numbers) % size:
        raise InputError(f"{name} has {len(numbers)} numbers; give {size} for each view")
    return torch.from_numpy(convert(np.array(numbers, dtype=np.float64).reshape(-1, size)))
