"""Reading figures back: the pixels of one cell of a grid, and its texts."""

import numpy as np

from unscene.figures.grid import FRAME, GAP, LINE

SCALE = 24  # a 4 x 6 picture fills a cell of 96 pixels at this factor


def cell(figure, row, column, left=0):
    """The pixels (4, 6, 3) of one cell, and the colour of its frame."""
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    pitch_y, pitch_x = 4 * SCALE + 2 * FRAME + GAP, 6 * SCALE + 2 * FRAME + GAP
    y, x = GAP + LINE + row * pitch_y, left + GAP + column * pitch_x
    inside = canvas[y + FRAME :, x + FRAME :][: 4 * SCALE : SCALE, : 6 * SCALE : SCALE, :3]
    return inside, canvas[y, x]


def texts(figure):
    return [text.get_text() for text in figure.texts]


def left_of(figure, columns):
    """Width of the row titles."""
    width = np.asarray(figure.axes[0].images[0].get_array()).shape[1]
    return width - GAP - columns * (6 * SCALE + 2 * FRAME + GAP)
