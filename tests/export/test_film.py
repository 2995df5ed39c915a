import av
import numpy as np
import pytest
from PIL import Image

from unscene.export.film import Film, Films


def frames(count=5, height=20, width=30):
    """Four coloured quarters that turn by half a circle from frame to frame."""
    quarters = np.zeros((2, 2, 3), dtype=np.uint8)
    quarters[0, 0], quarters[0, 1], quarters[1, 1] = (255, 0, 0), (0, 0, 255), (120, 120, 120)
    whole = quarters.repeat(height // 2, 0).repeat(width // 2, 1)
    return [np.rot90(whole, 2 * t).copy() for t in range(count)]


def write(path, pictures, fps=12.5):
    with Film(path, fps) as film:
        for picture in pictures:
            film.write(picture)


def test_gif_keeps_every_pixel_and_loops_at_its_rate(tmp_path):
    write(tmp_path / "a.gif", frames())
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (5, 0, 80)
        for t, picture in enumerate(frames()):
            gif.seek(t)
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), picture)


def test_gif_frames_are_never_too_short_for_browsers(tmp_path):
    write(tmp_path / "a.gif", frames(2), fps=1000)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["duration"] == 20


@pytest.mark.parametrize(("fps", "rate"), [(12.5, 12.5), (29.97, 29.97), (0.5, 0.5)])
def test_mp4_shows_the_frames_at_its_rate(tmp_path, fps, rate):
    pictures = frames(height=120, width=160)
    write(tmp_path / "a.mp4", pictures, fps)
    with av.open(str(tmp_path / "a.mp4")) as film:
        assert float(film.streams.video[0].average_rate) == pytest.approx(rate, rel=1e-3)
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
    assert len(shown) == 5
    for picture, expected in zip(shown, pictures, strict=True):
        assert abs(picture - expected).mean() < 3


def test_odd_sizes_grow_to_even_ones(tmp_path):
    write(tmp_path / "a.mp4", [picture[:19, :29] for picture in frames()])
    with av.open(str(tmp_path / "a.mp4")) as film:
        assert next(film.decode(video=0)).to_ndarray(format="rgb24").shape == (20, 30, 3)


def test_a_film_without_frames_can_be_closed(tmp_path):
    for name in ("a.mp4", "a.gif"):
        write(tmp_path / name, [])


def test_films_open_with_their_first_frame(tmp_path):
    with Films(tmp_path, 10) as films:
        assert list(tmp_path.iterdir()) == []
        for picture in frames(3):
            films.write("b.gif", picture)
    with Image.open(tmp_path / "b.gif") as gif:
        assert gif.n_frames == 3
