"""SpriteFilm: how the sprites come about, as a film that grows while they are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import GifImagePlugin, Image

from unscene.errors import InputError
from unscene.figures.sprites import sprite_sheet
from unscene.models.base import SceneModel

FILM = "sprites.gif"
MILLISECONDS = 100  # per frame


class SpriteFilm(Callback):
    """Writes RUN/sprites.gif for models with sprites, such as DTISprites and DTIClustering.

    The first frame shows the sprites before the first step, behind StartFromData if that is listed earlier; another one
    follows after every ``every`` steps. The file is whole after each, and no frame is kept in memory. A training that
    is continued from a checkpoint replaces the frames behind it.

    Args:
        every: optimisation steps between two frames.
    """

    def __init__(self, every: int = 500) -> None:
        if every < 1:
            raise InputError(f"SpriteFilm: every is {every}; it needs at least 1 step between two frames")
        self.every = every
        self.size = 0  # bytes of the file up to here

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.size = state["size"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not hasattr(pl_module.model, "sprites"):
            name = type(pl_module.model).__name__
            raise InputError(f"{name} has no sprites to film; take SpriteFilm out of trainer.callbacks")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.path = Path(trainer.default_root_dir) / FILM
        gone = not self.path.is_file() or self.path.stat().st_size < self.size
        if trainer.ckpt_path is None or gone:
            self.size = 0
        if self.size == 0:
            self._add_frame(trainer, pl_module.model)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and trainer.global_step % self.every == 0:
            self._add_frame(trainer, pl_module.model)

    def _add_frame(self, trainer: Trainer, model: SceneModel) -> None:
        if trainer.is_global_zero:
            self.size = append_frame(self.path, self.size, sprite_sheet(model.sprites, sprite_masks(model)))


def sprite_masks(model: SceneModel) -> Any:
    """(K, 1, h, w), or None if prototypes are whole images."""
    return getattr(model, "sprite_masks", None)


def append_frame(path: Path, size: int, picture: UInt8[np.ndarray, "H W 3"]) -> int:
    """Write a frame behind the first ``size`` bytes of a GIF file, and its end behind that; the bytes up to the end.

    With ``size`` 0 the file begins with this frame. What was behind ``size`` is gone.
    """
    image = Image.fromarray(picture).quantize(256, dither=Image.Dither.NONE)
    parts = GifImagePlugin.getdata(image, duration=MILLISECONDS, include_color_table=True)
    if size == 0:
        parts = GifImagePlugin.getheader(image, info={"loop": 0, "duration": MILLISECONDS})[0] + parts
    with path.open("r+b" if size else "wb") as file:
        file.seek(size)
        file.truncate()
        file.writelines(parts)
        size = file.tell()
        file.write(b";")
    return size
