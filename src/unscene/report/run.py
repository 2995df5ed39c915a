"""Reading the folder of a training. A part that is missing raises an InputError, which the page shows in its place."""

from __future__ import annotations

import csv
import inspect
import json
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from unscene.data import open_dataset
from unscene.data.dataset import SceneDataset, collate
from unscene.errors import InputError
from unscene.evaluation import evaluate
from unscene.evaluation.video import is_video
from unscene.models.base import SceneModel, VideoModel, stack_frames
from unscene.noise import own_noise
from unscene.pretrained import load
from unscene.scenes import Decomposition, Scenes
from unscene.video import check_predicts, follow

NUM_SHOWN = 6  # held-out images on the page
NUM_CLIPS = 2  # of them, if they are videos
HORIZON = 10  # frames to predict, at most a third of a video
NUM_SCORED = 32  # images scored for the page when the run was never evaluated
NUM_SCORED_VIDEOS = 8  # likewise; each takes as long as dozens of images


class Clip(NamedTuple):
    """One video (T, C, H, W) with its mask, if any, and its Decomposition (T, K, ...), predicted behind ``observe``."""

    video: Tensor
    mask: Tensor | None
    decomposition: Decomposition
    observe: int


@dataclass(frozen=True)
class Run:
    """RUN/config.yaml, metrics.csv, model/ and evaluation.json, and what the model makes of held-out images."""

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise InputError(f"there is no folder {self.path}; name the folder of a training")
        if not any((self.path / name).exists() for name in ("config.yaml", "metrics.csv", "model")):
            raise InputError(f"{self.path} is not the folder of a training: no config.yaml, metrics.csv or model in it")

    @cached_property
    def config_text(self) -> str:
        return self._read("config.yaml", "the settings of this training are unknown")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings, {} if they are unknown."""
        if not (self.path / "config.yaml").is_file():
            return {}
        try:
            config = yaml.safe_load(self.config_text)
        except yaml.YAMLError as error:
            raise InputError(f"{self.path / 'config.yaml'} is not valid YAML: {error}") from error
        return config if isinstance(config, dict) else {}

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of metrics.csv, NaN where a row has no value."""
        text = self._read("metrics.csv", "there are no curves to draw")
        whole = text[: text.rfind("\n") + 1]  # a killed run may leave half a line
        rows = list(csv.DictReader(whole.splitlines()))
        try:
            return {name: np.array([float(row[name] or "nan") for row in rows]) for name in (rows[0] if rows else ())}
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.path / 'metrics.csv'} is damaged: {error}") from error

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """evaluation.json, else the scores of a few images with a note that says so."""
        path = self.path / "evaluation.json"
        if not path.is_file():
            scores = evaluate(self.model, self.dataset, limit=self._num_scored).to_json()
            number = f"{scores['meta']['n']} {self.kind} {'videos' if self.is_video else 'images'}"
            note = f"This run was not evaluated; these are the scores of {number} only."
            return {**scores, "note": note}
        try:
            evaluation = json.loads(path.read_text())
            return {"metrics": evaluation["metrics"], "meta": evaluation["meta"]}
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"{path} is damaged; evaluate the run again") from error

    @cached_property
    def model(self) -> SceneModel:
        if not (self.path / "model").is_dir():
            raise InputError("there are no weights in the folder yet, so nothing could be decomposed")
        return load(self.path)

    @cached_property
    def dataset(self) -> SceneDataset:
        """The held-out scenes, ``data.val`` of the settings, or those of the training if there are no others."""
        settings = self._data.get("val") or self._data.get("train")
        if settings is None:
            raise InputError("the settings name no images (data.val), so there are none to show")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(SceneDataset, "val")
        try:
            return parser.instantiate(parser.parse_object({"val": settings})).val
        except ArgumentError as error:
            raise InputError(f"the {self.kind} images that the settings name cannot be opened: {error}") from error

    @property
    def kind(self) -> str:
        return "held-out" if self._data.get("val") else "training"

    @property
    def _data(self) -> dict[str, Any]:
        return self.config.get("data") or {}

    @cached_property
    def scenes(self) -> Scenes:
        """A batch of the first of these scenes."""
        return collate([self.dataset[i] for i in range(min(NUM_SHOWN, len(self.dataset)))])

    @cached_property
    def decomposition(self) -> Decomposition:
        """What the model makes of ``scenes``, with all its iterations if it has any."""
        history = {"history": True} if "history" in inspect.signature(self.model.decompose).parameters else {}
        with _quiet():
            return self.model.decompose_batch(self.scenes, **history)

    @property
    def is_video(self) -> bool:
        """Whether the scenes are videos; False if there are none."""
        try:
            return is_video(self.scenes)
        except InputError:
            return False

    @property
    def _num_scored(self) -> int:
        return NUM_SCORED_VIDEOS if self.is_video else NUM_SCORED

    @cached_property
    def clips(self) -> list[Clip]:
        """What the model makes of the first few of these videos: of their first frames, and of what follows."""
        videos = self.scenes["image"][:NUM_CLIPS]
        observe, horizon = span(self.model, videos.shape[1])
        with _quiet():
            steps = follow(self.model, videos[:, :observe].unbind(1), horizon=horizon)
            said = stack_frames(step for _, step in steps)
        masks = self.scenes.get("mask", [None] * len(videos))
        parts = zip(videos, masks, said.masks, said.components, said.slots, strict=False)
        return [Clip(video, mask, Decomposition(*fields), observe) for video, mask, *fields in parts]

    @cached_property
    def prediction(self) -> dict[str, np.ndarray]:
        """Scores (n, horizon) of frames that the model predicts, on a few videos."""
        check_predicts(self.model)
        observe, horizon = span(self.model, self.scenes["image"].shape[1])
        if not horizon:
            raise InputError("the videos have a single frame, so there is nothing to predict")
        return evaluate(self.model, self.dataset, limit=self._num_scored, observe=observe, horizon=horizon).prediction

    def generalisation(self, data: Sequence[str]) -> list[dict[str, Any]]:
        """Scores on other data, each named as for `open_dataset`, with another number of slots as NAME=K."""
        rows = []
        for entry in data:
            name, _, slots = entry.partition("=")
            if slots and not slots.isdigit():
                raise InputError(f"{entry!r} is no data with a number of slots; write NAME or NAME=K")
            options = {"num_slots": int(slots) if slots else None, "limit": self._num_scored}
            scores = evaluate(self.model, open_dataset(name), **options).to_json()
            rows.append({"data": name, "num_slots": scores["meta"]["num_slots"], **scores["metrics"]})
        return rows

    def _read(self, name: str, consequence: str) -> str:
        path = self.path / name
        if not path.is_file():
            raise InputError(f"there is no {name} in the folder, so {consequence}")
        return path.read_text()


def span(model: SceneModel, length: int) -> tuple[int, int]:
    """How many frames of a video to show the model, and how many to have it predict: none if it cannot."""
    horizon = min(HORIZON, max(length // 3, 1), length - 1) if isinstance(model, VideoModel) else 0
    return length - horizon, horizon


@contextmanager
def _quiet() -> Iterator[None]:
    """Without gradients, with the same noise every time, and with the random state as it was afterwards."""
    with own_noise(0), torch.no_grad():
        yield
