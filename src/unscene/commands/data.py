"""`unscene data generate | verify | convert | inspect`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from unscene.commands.output import check_figure_path, write_figure
from unscene.errors import InputError
from unscene.files import write_json
from unscene.progress import Countdown, progress


def generate(
    dataset: list[str],
    *,
    out: Path | None = None,
    count: int | None = None,
    train: int | None = None,
    val: int = 320,
    test: int = 320,
    seed: int | None = None,
    shard: str | None = None,
    processes: int | None = None,
    renderer: str | None = None,
    assets: str | None = None,
    meshes: str | None = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Draw a synthetic dataset and store it: as one HDF5 file, or in a folder, part by part.

    A folder is filled by several processes and machines; the same command goes on where it was stopped or killed.

    Args:
        dataset: tetrominoes, shapes, signs, multi_dsprites, bouncing_balls, orbit, or with its variant:
            multi_dsprites/binarized; rendered with the extra render: clevr, clevr6, cle_mv, shapes_mv, objects_room,
            objects_room_flight, clevrer_like; behind it the file or folder, unless --out names that.
        out: an HDF5 file (.h5, .hdf5), or a folder.
        count: scenes in all, of which 80 % go to train and 10 % each to val and test, in place of the next three.
        train: scenes in that split; 0 leaves it out; by default as many as the dataset has.
        val: likewise, by default 320.
        test: likewise.
        seed: of the scenes; by default 0.
        shard: i/n, such as 0/4, of n machines that draw this dataset, each with another i from 0 on, into a folder that
            they share, or into folders that are copied into one.
        processes: that draw at once, for a folder; by default one per core.
        renderer: of clevr and clevr6: mitsuba or blender.
        assets: the folder of CLEVR's scene files, for blender.
        meshes: a folder of PLY or OBJ files, whose shapes shapes_mv then has.
        options: of the generator, such as --options.variant 6-8.
    """
    from unscene.data import open_dataset, save_hdf5
    from unscene.data.open import default_scenes

    name, target = _name_and_target(dataset, out)
    if train is None:
        train = default_scenes(name)
    if count is not None:
        val = test = count // 10
        train = count - val - test
    sizes = {split: size for split, size in {"train": train, "val": val, "test": test}.items() if size != 0}
    named = {"seed": seed, "renderer": renderer, "assets": assets, "meshes": meshes}
    options = (options or {}) | {option: value for option, value in named.items() if value is not None}
    _notice(name, options)
    if target.suffix not in (".h5", ".hdf5"):
        _generate_folder(name, target, sizes, options, shard, processes)
        return
    if shard is not None or processes is not None:
        raise InputError(f"{target} is written by one process; name a folder for --shard and --processes")
    save_hdf5(
        {split: open_dataset(name, split, num_scenes=size, **options) for split, size in sizes.items()},
        target,
        progress,
    )
    print(target)


def _name_and_target(dataset: list[str], out: Path | None) -> tuple[str, Path]:
    """The two things that generate needs, however they were given."""
    name, *targets = [*dataset, *([] if out is None else [out])]
    if len(targets) != 1:
        raise InputError(f"generate needs a dataset and one file or folder, found {name} and {len(targets)} of these")
    return name, Path(targets[0])


def _notice(name: str, options: dict[str, Any]) -> None:
    """Say so if the renderer that it chose itself is the slower one."""
    from unscene.data.open import open_generator
    from unscene.data.rendering.probe import SCALAR, fallback_notice

    if "variant" in options:
        return
    made_with = open_generator(name, "train", **options | {"num_scenes": 1}).provenance()
    if made_with.get("variant") == SCALAR:
        print(fallback_notice(), file=sys.stderr)


def _generate_folder(
    name: str, root: Path, sizes: dict[str, int], options: dict[str, Any], shard: str | None, processes: int | None
) -> None:
    from unscene.data import save_shards

    manifest = save_shards(
        name,
        root,
        sizes,
        options=options,
        shard=shard or "0/1",
        processes=processes,
        progress=Countdown("drawing:"),
    )
    there = sum(record.scenes for record in manifest.parts.values())
    print(f"{root}: {there} of {sum(manifest.splits.values())} scenes")


def verify(root: Path, *, redraw: int = 0, json: Path | None = None) -> None:
    """Check a generated folder: every part readable, complete, and with the pixels and labels that were stored.

    Args:
        root: folder that `unscene data generate` has filled.
        redraw: also draw so many of its scenes again, equally spaced over all, and compare their pixels.
        json: also write what was found to this file.
    """
    from unscene.data import verify_shards

    found = verify_shards(root, redraw, Countdown("reading parts:"))
    if json is not None:
        write_json(found.to_json(), json)
    for fault in found.faults:
        print(fault)
    if found.faults:
        raise InputError(
            f"{root} has {len(found.faults)} faults; delete the parts that are named and run `unscene data generate` "
            "as before"
        )
    splits = ", ".join(f"{split} {scenes}" for split, scenes in found.scenes.items())
    redrawn = f"; {found.redrawn} drawn again, the same" if redraw else ""
    print(f"complete: {sum(found.scenes.values())} scenes ({splits}) in {found.parts} parts{redrawn}")


def convert(
    source: str,
    out: Path,
    *,
    splits: str = "train,val,test",
    layout: Literal["hdf5", "sprites"] = "hdf5",
    classes: str = "shape",
    options: dict[str, Any] | None = None,
) -> None:
    """Store any dataset that can be read (TFRecord files, a folder of images, videos or scenes) as HDF5 or as sprites.

    Args:
        source: dataset name, file, folder or glob pattern.
        out: the HDF5 file, or the new folder for sprites.
        splits: which to convert, separated by commas.
        layout: sprites are images/0.png, masks/0.png (ids), sem_masks/0.png (classes) and so on, below a folder per
            split if there are several.
        classes: of sprites, the factors whose combined values are the classes, separated by commas: shape,material.
        options: of the reader, such as --options.mask_root FOLDER or --options.kind tetrominoes.
    """
    from unscene.data import open_dataset, save_hdf5, save_sprite_folder

    datasets = {split: open_dataset(source, split, **(options or {})) for split in splits.split(",")}
    if layout == "hdf5":
        save_hdf5(datasets, out, progress)
    else:
        codes = save_sprite_folder(datasets, out, classes.split(","), progress)
        print(f"{len(codes)} classes of {classes}: {', '.join('/'.join(map(str, code)) for code in codes)}")
    print(out)


def inspect(
    source: str,
    *,
    split: str | None = "train",
    limit: int | None = 1000,
    sheet: Path | None = None,
    count: int = 16,
    options: dict[str, Any] | None = None,
    json: Path | None = None,
) -> None:
    """Print splits, counts and factor ranges of a dataset, and draw a contact sheet with masks.

    Args:
        source: dataset name, file or folder.
        split: of the data; null for all of a folder or TFRecord file.
        limit: look at the first so many scenes.
        sheet: draw the contact sheet into this file (PNG, PDF or SVG).
        count: number of scenes on it.
        options: of the dataset, such as --options.mask_root FOLDER.
        json: also write the numbers to this file.
    """
    from unscene.data import open_dataset
    from unscene.data.summary import format_summary, summarise

    if sheet is not None:
        check_figure_path(sheet)
    dataset = open_dataset(source, split, **(options or {}))
    summary = summarise(dataset, limit)
    if sheet is not None:
        from unscene.figures import contact_sheet

        write_figure(contact_sheet(dataset, count), sheet)
    print(format_summary(summary))
    if json is not None:
        write_json(summary, json)
    if sheet is not None:
        print(sheet)
