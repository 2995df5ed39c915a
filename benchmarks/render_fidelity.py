"""How true rendered datasets are: edges of masks, visibility, factors, brightness.

    python benchmarks/render_fidelity.py [--scenes 16] [--layouts 1000] [--images 40] [--json FILE]

Edges: label maps of ``--scenes`` scenes at 64 x 64 beside 64 points of every pixel, on a grid of 8 x 8: how often the
pixel has the label that most of its points have, over all pixels and over those whose points differ, and which share
of the points of these has the pixel's label. Visibility: objects below the threshold, counted in rendered label maps
of the size in which the threshold is stated. Factors: p-values of chi-squared tests of ``--layouts`` scenes.
Brightness: of ``--images`` windows of CLEVR, of 255.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.stats import chisquare

from measuring import print_table
from unscene.data import CLEVR, CLEVRViews, ObjectsRoom
from unscene.data.rendering import clevr_layout, views_layout
from unscene.data.rendering.mitsuba import MitsubaRenderer
from unscene.data.rendering.mujoco_room import LABELS, room
from unscene.data.rendering.objects_room import VARIANTS
from unscene.data.rendering.room_scenes import SEEN_SIZE, aim, furnish
from unscene.data.rendering.stage import Camera, Stage, Thing

FINE = 8  # by 8 points of a pixel
Look = Callable[[Camera], np.ndarray]  # the label map that a camera takes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--layouts", type=int, default=1000)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {
        "edges": {name: edges(looks(args.scenes)) for name, looks in LOOKS.items()},
        "below the threshold": hidden(args.scenes),
        "factors (p)": factors(args.layouts),
        "brightness": brightness(args.images),
    }
    for title, values in found.items():
        print(f"\n{title}")
        tables = all(isinstance(value, dict) for value in values.values())
        titles = list(next(iter(values.values()))) if tables else ["value"]
        rows = {name: list(value.values()) if tables else [value] for name, value in values.items()}
        print_table(["", *titles], [[name, *(f"{number:.4g}" for number in row)] for name, row in rows.items()])
    if args.json:
        args.json.write_text(json.dumps(found, indent=2, default=float) + "\n")


def clevr_looks(scenes: int) -> Iterator[tuple[Camera, Look]]:
    dataset = CLEVR(scenes, most=6, image_size=(64, 64))
    for i in range(scenes):
        layout = clevr_layout.arrange(dataset.draws([i]), 3, 6)
        yield dataset._camera(layout), path_traced(clevr_layout.things(layout.factors), layout.lamps, "backdrop")


def view_looks(scenes: int) -> Iterator[tuple[Camera, Look]]:
    dataset = CLEVRViews(scenes)
    for i in range(scenes):
        layout = views_layout.arrange(dataset.draws([i]), dataset._recipe, 3, 6)
        things = views_layout.things(dataset._recipe, layout.factors)
        yield views_layout.ring(10, 64)[i % 10], path_traced(things, layout.lamps, "full")


def path_traced(things: tuple[Thing, ...], lamps: np.ndarray, floor: str) -> Look:
    return lambda camera: MitsubaRenderer().labels(Stage(things, (camera,), lamps, floor))[0]


def room_looks(scenes: int) -> Iterator[tuple[Camera, Look]]:
    dataset, here = ObjectsRoom(scenes), room()
    for i in range(scenes):
        draws = dataset.draws([i])
        here.furnish(furnish(draws, VARIANTS[None]))
        camera = aim(2 * np.pi * draws.uniform(1)[0, 0], -0.2)
        yield camera._replace(width=SEEN_SIZE, height=SEEN_SIZE), lambda camera: LABELS[here.parts(camera)]


LOOKS = {"clevr6": clevr_looks, "cle_mv": view_looks, "objects_room": room_looks}


def edges(looks: Iterator[tuple[Camera, Look]]) -> dict[str, float]:
    right, mixed, share = [], [], []
    for camera, look in looks:
        labels = look(camera)
        fine = look(camera._replace(width=FINE * camera.width, height=FINE * camera.height))
        points = fine.reshape(camera.height, FINE, camera.width, FINE).swapaxes(1, 2).reshape(*labels.shape, -1)
        counts = np.stack([(points == i).sum(-1) for i in range(int(fine.max()) + 1)], axis=-1)
        own = np.take_along_axis(counts, labels[..., None].astype(int), -1)[..., 0]
        right.append(own == counts.max(-1))
        mixed.append(counts.max(-1) < FINE**2)
        share.append(own / FINE**2)
    right, mixed, share = map(np.stack, (right, mixed, share))
    return {
        "agrees": right.mean(),
        "agrees on edges": right[mixed].mean(),
        "edges, share of pixels": mixed.mean(),
        "coverage there": share[mixed].mean(),
    }


def hidden(scenes: int) -> dict[str, float]:
    """Shares of objects that the rendered label maps show fewer pixels of than promised."""
    dataset, few, many = CLEVR(scenes), 0, 0
    for i in range(scenes):
        layout = clevr_layout.arrange(dataset.draws([i]), 3, 10)
        things = clevr_layout.things(layout.factors)
        labels = path_traced(things, layout.lamps, "backdrop")(clevr_layout.frame(layout.camera))
        counts = np.bincount(labels.ravel(), minlength=len(things) + 1)[1:]
        few, many = few + (counts < clevr_layout.PIXELS).sum(), many + len(counts)
    return {f"clevr, of {many} objects": few / many}


def factors(layouts: int) -> dict[str, dict[str, float]]:
    """p-values of uniform kinds, and shares of the rarest and the most frequent of each, as multiples of equal ones.

    Sizes are not uniform, in the original either: scenes in which a large object hides another are drawn anew.
    """
    dataset = CLEVR(layouts)
    found = [clevr_layout.arrange(dataset.draws([i]), 3, 10).factors for i in range(layouts)]
    together = {name: np.concatenate([factors[name] for factors in found]) for name in found[0]}
    counts = {name: np.bincount(together[name])[1:] for name in ("size", "material", "shape", "color")}
    counts["number of objects"] = np.bincount([len(factors["size"]) for factors in found])[3:]
    counts["rotation, 12 parts"] = np.histogram(together["rotation"], 12, (0, 360))[0]
    return {
        name: {"p": chisquare(count).pvalue, "least": count.min() / count.mean(), "most": count.max() / count.mean()}
        for name, count in counts.items()
    }


def brightness(images: int) -> dict[str, dict[str, float]]:
    batch = CLEVR(images, most=6).batch(range(images))
    pixels, ground = 255 * batch["image"].movedim(1, -1).numpy(), batch["mask"].numpy() == 0
    rows = {"all": pixels.reshape(-1, 3), "ground": pixels[ground]}
    return {
        name: {"red": v[:, 0].mean(), "green": v[:, 1].mean(), "blue": v[:, 2].mean(), "deviation": v.std(0).mean()}
        for name, v in rows.items()
    }


if __name__ == "__main__":
    main()
