"""The command line: verbs, no logic. Each imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unscene.errors import InputError

SURROUNDINGS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT}  # no defects of the library


def train(arguments: list[str]) -> None:
    """Train a model as a recipe says, every value of which can be replaced.

    Args:
        arguments: recipe and options; `unscene train --help` lists them, from a parser that needs torch and lightning.
    """
    from unscene.commands.train import main

    main(arguments)


def evaluate(
    weights: str,
    data: str,
    *,
    split: str | None = "test",
    num_slots: int | None = None,
    iterations: int | None = None,
    limit: int | None = 320,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    options: dict[str, Any] | None = None,
    json: Path | None = None,
) -> None:
    """Measure a model on labelled images: ARI, FG-ARI, mIoU, segmentation covering, MSE, KL.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id.
        data: dataset name, file or folder, as `unscene data inspect` takes it.
        split: of the data; null for all of a folder or TFRecord file.
        num_slots: number of slots; by default as in training.
        iterations: number of refinements; by default as in training.
        limit: measure the first so many images.
        batch_size: images at a time.
        seed: of the noise.
        device: such as cpu or cuda:0; by default a GPU if there is one.
        options: of the dataset, such as --options.mask_root FOLDER.
        json: also write the table to this file; of a training run always to its evaluation.json.
    """
    import unscene.evaluation
    from unscene.data import open_dataset
    from unscene.pretrained import load
    from unscene.progress import progress

    result = unscene.evaluation.evaluate(
        load(weights),
        open_dataset(data, split, **(options or {})),
        num_slots=num_slots,
        iterations=iterations,
        batch_size=batch_size,
        limit=limit,
        seed=seed,
        device=device or _device(),
        progress=progress,
    )
    print(result.table())
    if json is not None:
        result.save(json)
    if (Path(weights) / "model").is_dir():
        result.save(Path(weights) / "evaluation.json")


def decompose(
    weights: str,
    images: list[str],
    *,
    out: Path = Path("decompositions"),
    num_slots: int | None = None,
    iterations: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> None:
    """Decompose image files: label map, masks and components, overlay and a picture of every object.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id.
        images: image files, or folders, of which everything below is taken.
        out: folder for the results, one folder per image.
        num_slots: number of slots; by default as in training.
        iterations: number of refinements; by default as in training.
        image_size: resize and crop the images to N x N or [H, W] pixels; best the size of the training images.
        seed: of the noise.
    """
    from unscene.export import export_decompositions, fixed_size
    from unscene.pretrained import load

    model = load(weights)
    if image_size is None and (image_size := fixed_size(model)):
        height, width = image_size
        print(f"images are resized and cropped to {height} x {width}, all that this model takes", file=sys.stderr)
    options = {"num_slots": num_slots, "iterations": iterations, "image_size": image_size, "seed": seed}
    for folder in export_decompositions(model.to(_device()), images, out, **options):
        print(folder)


def report(run: Path) -> None:
    """Write RUN/report.html: metrics beside the published values, curves, decompositions.

    Args:
        run: folder of a training run.
    """
    from unscene.report import write_report

    print(write_report(run))


def recipes(*, json: Path | None = None) -> None:
    """List the recipes that ship: method, dataset, published and measured values.

    Args:
        json: also write the list to this file.
    """
    import unscene.recipes
    from unscene.files import write_json

    entries = {name: unscene.recipes.about(name) for name in unscene.recipes.names()}
    print(unscene.recipes.table(entries))
    if json is not None:
        write_json(entries, json)


def main(args: list[str] | None = None) -> int:
    """Run one command.

    0 if it worked; 2, with one sentence on stderr, if the input or its surroundings were at fault; 130 after Ctrl-C,
    141 if nobody reads the output any more, as shells have it.
    """
    try:
        _run(sys.argv[1:] if args is None else args)
        sys.stdout.flush()
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
            return 130
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        return 141
    except OSError as error:
        if error.errno not in SURROUNDINGS:
            raise
        return _fail(error.strerror + (f": {error.filename}" if error.filename else ""))
    return 0


def _fail(sentence: str) -> int:
    print(f"unscene: error: {sentence}", file=sys.stderr)
    return 2


def _run(args: list[str]) -> None:
    if args[:1] == ["train"]:
        train(args[1:])
        return
    from unscene.commands import data
    from unscene.commands.parser import Group, Parser, add_verbs, call_verb

    verbs = {
        "train": train,
        "evaluate": evaluate,
        "decompose": decompose,
        "report": report,
        "recipes": recipes,
        "data": Group(
            "Make, convert and look at datasets.",
            {"generate": data.generate, "convert": data.convert, "inspect": data.inspect},
        ),
    }
    parser = Parser(prog="unscene", description="Unsupervised scene decomposition: images and videos in, objects out.")
    parser.add_argument("--version", action="version", version=version("unscene"))
    add_verbs(parser, verbs)
    call_verb(verbs, parser.parse_args(args or ["--help"]))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    sys.exit(main())
