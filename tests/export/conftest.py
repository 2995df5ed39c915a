import numpy as np
import pytest
from PIL import Image

from toy_scenes import ToyVideos
from unscene.export.film import Film


@pytest.fixture
def pixels():
    """The ten frames (10, 8, 14, 3) of a toy video."""
    image = ToyVideos(1, 10)[0]["image"]
    return image.mul(255).byte().movedim(1, -1).numpy()


@pytest.fixture
def folder(tmp_path, pixels):
    """The frames as a folder of images."""
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(pixels):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t}.png")
    return tmp_path / "frames"


@pytest.fixture
def gif(tmp_path, pixels):
    """The frames as a film that keeps every pixel, 5 per second."""
    with Film(tmp_path / "toy.gif", 5) as film:
        for frame in pixels:
            film.write(np.ascontiguousarray(frame))
    return tmp_path / "toy.gif"
