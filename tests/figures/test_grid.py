import numpy as np

from unscene.figures.grid import CELL, DPI, FRAME, GAP, LINE, Tile, image_grid


def canvas_of(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def rgb(*shape, value=7):
    return np.full((*shape, 3), value, dtype=np.uint8)


def test_tiles_keep_every_pixel_sharp_and_in_place():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)
    canvas = canvas_of(image_grid([[Tile(rgb(48, 60)), Tile(pixels)]]))
    height, width = 2 * 48, 2 * 60  # enlarged by the whole factor that reaches the cell size
    left = GAP + width + 2 * FRAME + GAP + FRAME
    shown = canvas[GAP + FRAME :, left:][:height:2, :width:2]
    np.testing.assert_array_equal(shown[..., :3], pixels)
    assert (shown[..., 3] == 255).all()


def test_figure_is_as_large_as_its_canvas():
    figure = image_grid(
        [[Tile(rgb(35, 50))] * 3], column_titles=["a", "b", "c"], row_titles=["row"], title="Tetrominoes, " * 16
    )
    height, width = canvas_of(figure).shape[:2]
    np.testing.assert_allclose(figure.get_size_inches() * DPI, (width, height))
    assert [text.get_text() for text in figure.texts] == ["Tetrominoes, " * 16, "a", "b", "c", "row"]
    figure.canvas.draw()
    for text in figure.texts:  # no title is cut off
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_narrow_tiles_leave_room_for_titles():
    canvas = canvas_of(image_grid([[Tile(rgb(CELL, 4)), Tile(rgb(CELL, 4))]], column_titles=["reconstruction"] * 2))
    assert canvas.shape[1] == GAP + 2 * (CELL + GAP)


def test_large_tiles_shrink_to_block_means():
    pixels = rgb(4 * CELL, 4 * CELL)
    pixels[::2] = 9
    canvas = canvas_of(image_grid([[Tile(pixels)]]))
    inside = canvas[GAP + FRAME : -GAP - FRAME, GAP + FRAME : -GAP - FRAME]
    assert inside.shape == (2 * CELL, 2 * CELL, 4)
    assert (inside[..., :3] == 8).all()


def test_transparent_pixels_show_a_checkerboard_and_frames_their_colour():
    clear = np.zeros((CELL, CELL, 4), dtype=np.uint8)
    canvas = canvas_of(image_grid([[Tile(clear, np.array([1, 2, 3]))]]))
    assert tuple(canvas[GAP, GAP]) == (1, 2, 3, 255)
    inside = canvas[GAP + FRAME : -GAP - FRAME, GAP + FRAME : -GAP - FRAME, :3]
    assert sorted(np.unique(inside)) == [232, 255]


def test_what_is_no_tile_is_transparent():
    tile = Tile(rgb(CELL, CELL))
    canvas = canvas_of(image_grid([[tile, tile], [tile]], column_titles=["a", "b"]))
    assert (canvas[: GAP + LINE, :, 3] == 0).all()
    assert (canvas[GAP + LINE + CELL + 2 * FRAME + GAP :, GAP + CELL + 2 * FRAME :, 3] == 0).all()
    assert (canvas[..., 3] == 255).sum() == 3 * CELL**2
