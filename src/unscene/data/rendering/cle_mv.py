"""CLEVRViews: multi-view CLEVR after CLE-MV, rendered on demand."""

from __future__ import annotations

from unscene.data.rendering import meshes
from unscene.data.rendering.mesh_views import MeshViews
from unscene.data.rendering.views_layout import Recipe

SIZES = (0.9, 0.7)  # large and small: radius, and half the height; of cubes half the edge


class CLEVRViews(MeshViews):
    """Cubes, spheres and cylinders of rubber and metal on a gray floor, seen from ``views`` sides.

    The cameras are equally spaced on a circle and look at its centre from above, the same in every scene, the first
    where CLEVR's camera is; the lamps move a little from scene to scene. ``fewest`` to ``most`` objects, all numbers
    equally likely, as are sizes, materials, shapes and colours; x and y in (-3, 3), circles around objects 0.075 apart
    and centres 0.09 along and across the first view; every object has 48 visible pixels in the first view at 64 x 64,
    or else all objects are drawn anew. It may be hidden in others. What a scene holds does not depend on ``views`` and
    ``image_size``.

    ``image`` (B, V, 3, S, S) with S = ``image_size``, one channel with ``grayscale``; ``mask`` (B, V, S, S) uint8, the
    object at the pixel's centre, with the same ids in all views; ``viewpoint`` (B, V, 3): see `normalise_cameras`;
    ``camera`` (B, V, 4, 4) float32: the camera's axes in the world (x right, y down, z the line of sight) and its
    location. ``visibility`` (B, N): whether the object has a pixel in any view; ``view_visibility`` (B, V, N): in that
    view. ``factors`` of the N = 1 + ``most`` entities, 0 for the background and for objects that a scene does not have:
    ``shape`` 1 cube, 2 sphere, 3 cylinder; ``size`` 1 large, 2 small; ``material`` 1 rubber, 2 metal; ``color`` 1 gray,
    2 red, 3 blue, 4 green, 5 brown, 6 purple, 7 cyan, 8 yellow, as in `CLEVR`; ``position`` (B, N, 3) of the centre,
    z upwards; ``rotation`` (B, N) around the vertical in degrees; ``pixel_coords`` (B, N, V, 3): the column and row of
    the centre, in pixels from the top left corner of the image, and its depth.

    ``samples`` per pixel, ``denoise`` and ``variant`` are the renderer's, see `MitsubaRenderer`.
    Raises InputError for no scenes, views or pixels, for numbers of objects outside of 1 to 8, and for options that
    the renderer does not take.

    Source: CLE-MV, the multi-view CLEVR of MulMON (Li et al., 2020), and its generator. Not faithful: the renderer and
    materials are our own; the circle around a cube is that of its rounded edges, whichever object was placed first.
    """

    def __init__(
        self,
        num_scenes: int = 1_500,
        seed: int = 0,
        split: str = "train",
        views: int = 10,
        image_size: int = 64,
        fewest: int = 3,
        most: int = 6,
        samples: int = 16,
        denoise: bool = True,
        variant: str = "auto",
        grayscale: bool = False,
    ) -> None:
        recipe = Recipe((meshes.cube(), meshes.sphere(), meshes.cylinder()), SIZES)
        options = (views, image_size, fewest, most, samples, denoise, variant, grayscale)
        super().__init__(recipe, num_scenes, seed, split, *options)
