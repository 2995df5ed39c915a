"""`unscene data generate | convert | inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from unscene.commands.output import check_figure_path, write_figure
from unscene.files import write_json
from unscene.progress import progress


def generate(
    dataset: str,
    out: Path,
    *,
    count: int | None = None,
    train: int = 60_000,
    val: int = 320,
    test: int = 320,
    options: dict[str, Any] | None = None,
) -> None:
    """Draw a synthetic dataset and store it as HDF5.

    Args:
        dataset: tetrominoes, shapes, signs, multi_dsprites, bouncing_balls, orbit, or with its variant:
            multi_dsprites/binarized.
        out: the HDF5 file.
        count: scenes in all, of which 80 % go to train and 10 % each to val and test, in place of the next three.
        train: scenes in that split; 0 leaves it out.
        val: likewise.
        test: likewise.
        options: of the generator, such as --options.seed 1.
    """
    from unscene.data import open_dataset, save_hdf5

    if count is not None:
        val = test = count // 10
        train = count - val - test
    sizes = {"train": train, "val": val, "test": test}
    splits = {
        split: open_dataset(dataset, split, num_scenes=num_scenes, **(options or {}))
        for split, num_scenes in sizes.items()
        if num_scenes != 0
    }
    save_hdf5(splits, out, progress)
    print(out)


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
