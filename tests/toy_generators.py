"""Generated scenes that take time, and say what they draw."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from unscene.data.generator import GeneratedScenes, assemble


class SlowScenes(GeneratedScenes):
    """A pixel somewhere in 4 x 6, each in ``seconds``; the folder ``log`` has a line per scene in a file per process.

    Scene i has the file notes/SPLIT-i.txt beside it, and a camera (4, 4) and contacts (2, 3).
    """

    def __init__(
        self,
        num_scenes: int = 100,
        seed: int = 0,
        split: str = "train",
        seconds: float = 0.0,
        log: str | None = None,
        version: str = "1",
        grayscale: bool = False,
    ) -> None:
        super().__init__(num_scenes, seed, split, grayscale)
        self.split, self.seconds, self.log, self.version = split, seconds, log, version

    def provenance(self):
        return {"painter": f"toy {self.version}"}

    def files(self, index, scene):
        place = scene["factors"]["x"][1].item()
        return {f"notes/{self.split}-{index}.txt": f"x = {place}".encode()}

    def generate(self, draws):
        for key in draws.keys:
            time.sleep(self.seconds)
            if self.log is not None:
                with (Path(self.log) / f"{os.getpid()}.txt").open("a") as file:
                    file.write(f"{self.split} {key}\n")
        y, x = np.moveaxis(draws.integers(np.array([4, 6]), 2), 1, 0)
        mask = np.zeros((len(x), 4, 6), np.uint8)
        mask[np.arange(len(x)), y, x] = 1
        scenes = assemble(mask[:, None].repeat(3, 1).astype(np.float32), mask, {"x": x[:, None], "y": y[:, None]})
        extra = {"camera": draws.uniform(4, 4), "contacts": draws.integers(5, 2, 3)}
        return scenes | {name: torch.from_numpy(value) for name, value in extra.items()}
