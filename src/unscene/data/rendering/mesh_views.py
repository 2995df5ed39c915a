"""MeshViews: scenes of meshes on the ground, seen by cameras on a circle; what CLEVRViews and ShapesViews share."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from unscene.data.clips import visible_ids
from unscene.data.generator import Draws, GeneratedScenes, assemble, check_objects, check_views, pad_objects
from unscene.data.rendering.camera import camera_to_world, project
from unscene.data.rendering.renderers import open_renderer
from unscene.data.rendering.stage import Stage
from unscene.data.rendering.views_layout import Layout, Recipe, arrange, ring, things
from unscene.data.viewpoints import normalise_cameras
from unscene.scenes import Scenes

MOST = 8  # objects that find room and are seen


class MeshViews(GeneratedScenes):
    """Scenes of ``recipe``, each rendered from ``views`` cameras at once; the options are those of `CLEVRViews`.

    There is no way to one view alone: the noise of a view depends on the others, so it would have other pixels.
    """

    def __init__(
        self,
        recipe: Recipe,
        num_scenes: int,
        seed: int,
        split: str,
        views: int,
        image_size: int,
        fewest: int,
        most: int,
        samples: int,
        denoise: bool,
        variant: str,
        grayscale: bool,
    ) -> None:
        super().__init__(num_scenes, seed, split, grayscale)
        check_views(views, image_size)
        check_objects(fewest, most, MOST)
        self.fewest, self.most = fewest, most
        self._recipe, self._cameras = recipe, ring(views, image_size)
        self._renderer = open_renderer("mitsuba", samples, denoise, variant)

    @property
    def shape_names(self) -> tuple[str, ...]:
        """What the numbers of the factor ``shape`` mean, from 1 on."""
        return tuple(mesh.name for mesh in self._recipe.meshes)

    def provenance(self) -> dict[str, str]:
        return self._renderer.describe()

    def generate(self, draws: Draws) -> Scenes:
        layouts = [arrange(draws[[i]], self._recipe, self.fewest, self.most) for i in range(len(draws.keys))]
        pictures = [
            self._renderer.render(Stage(things(self._recipe, layout.factors), self._cameras, layout.lamps, "full"))
            for layout in layouts
        ]
        image = np.stack([picture.image for picture in pictures]).transpose(0, 1, 4, 2, 3)
        mask = np.stack([picture.mask for picture in pictures])
        rows = [pad_objects(self._official(layout), self.most) for layout in layouts]
        factors = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        scenes = assemble(np.ascontiguousarray(image, np.float32) / 255, mask, factors)
        shown = visible_ids(scenes["mask"].flatten(0, 1), 1 + self.most)
        cameras = {"viewpoint": normalise_cameras(self._locations), "camera": self._poses}
        scenes |= {name: torch.from_numpy(np.tile(v, (len(rows), *[1] * v.ndim))) for name, v in cameras.items()}
        return scenes | {"view_visibility": shown.unflatten(0, (len(rows), -1))}

    @property
    def _locations(self) -> Float[np.ndarray, "V 3"]:
        return np.stack([camera.location for camera in self._cameras])

    @property
    def _poses(self) -> Float[np.ndarray, "V 4 4"]:
        return np.stack([camera_to_world(camera) for camera in self._cameras]).astype(np.float32)

    def _official(self, layout: Layout) -> dict[str, np.ndarray]:
        """The factors of the objects under the names and with the types of CLEVR's official files."""
        pixels = np.stack([project(camera, layout.factors["position"]) for camera in self._cameras], axis=1)
        lengths = {name: layout.factors[name] for name in ("position", "rotation")} | {"pixel_coords": pixels}
        factors = {name: value.astype(np.float32) for name, value in lengths.items()}
        kinds = ("shape", "size", "material", "color")
        return {name: layout.factors[name].astype(np.uint8) for name in kinds} | factors
