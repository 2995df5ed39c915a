"""The command line: verbs, no logic. Each imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

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
    frames: int | None = None,
    skip: int | None = None,
    observe: int | None = None,
    horizon: int | None = None,
    classes: list[str] | None = None,
    limit: int | None = 320,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    options: dict[str, Any] | None = None,
    json: Path | None = None,
) -> None:
    """Measure a model on labelled images or videos: ARI, FG-ARI, mIoU, tracking, MSE, errors of predictions.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id.
        data: dataset name, file or folder, as `unscene data inspect` takes it.
        split: of the data; null for all of a folder or TFRecord file.
        num_slots: number of slots; by default as in training.
        iterations: number of refinements; by default as in training.
        frames: of videos only the first so many frames.
        skip: do not score so many at the start; 1 for R-NEM, whose first frame is random.
        observe: let a video model see so many frames of each video, and predict what follows; or a multi-view model
            so many views of each scene, by default half, and show the others.
        horizon: number of frames to predict.
        classes: of a sprite model also score how sprites fit classes: factors whose values these are, such as shape;
            or foreground, which takes all objects for one class.
        limit: measure the first so many images or videos.
        batch_size: images or videos at a time.
        seed: of the noise.
        device: such as cpu or cuda:0; by default a GPU if there is one.
        options: of the dataset, such as --options.mask_root FOLDER.
        json: also write the table to this file; of a training run always to its evaluation.json.
    """
    import unscene.evaluation
    from unscene.data import open_dataset
    from unscene.evaluation.sprites import class_scores, class_table
    from unscene.pretrained import load
    from unscene.progress import progress

    model, dataset = load(weights), open_dataset(data, split, **(options or {}))
    common = {"batch_size": batch_size, "limit": limit, "seed": seed, "device": device or _device()}
    of_classes = class_scores(model, dataset, classes, **common, progress=progress) if classes else {}
    result = unscene.evaluation.evaluate(
        model,
        dataset,
        num_slots=num_slots,
        iterations=iterations,
        frames=frames,
        skip=skip,
        observe=observe,
        horizon=horizon,
        **common,
        progress=progress,
    )
    result.meta.update(of_classes)
    print(result.table())
    if of_classes:
        print(f"\n{class_table(of_classes)}")
    if json is not None:
        result.save(json)
    if (Path(weights) / "model").is_dir():
        result.save(Path(weights) / "evaluation.json")


def decompose(
    weights: str,
    inputs: list[str],
    *,
    out: Path = Path("decompositions"),
    video: bool = False,
    num_slots: int | None = None,
    iterations: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    seed: int = 0,
) -> None:
    """Decompose images or videos: label maps, masks and components, overlays, every object by itself, tracks.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id.
        inputs: image files, folders of them, of which everything below is taken, video files, folders of frames.
        out: folder for the results, one folder per image or video.
        video: take folders for videos whose frames they hold; a video model always does.
        num_slots: number of slots; by default as in training.
        iterations: number of refinements; by default as in training.
        image_size: resize and crop the images to N x N or [H, W] pixels; best the size of the training images.
        fps: frames per second of the films; by default as the video file, 10 for a folder.
        seed: of the noise.
    """
    from unscene.commands.decompose import decompose_files, load_for_files

    model = load_for_files(weights, image_size, _device())
    options = {"num_slots": num_slots, "iterations": iterations, "image_size": image_size, "seed": seed}
    decompose_files(model, inputs, out, folders_are_videos=video, fps=fps, options=options)


def predict(
    weights: str,
    video: Path,
    *,
    observe: int = 20,
    horizon: int = 10,
    out: Path = Path("predictions"),
    num_slots: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    seed: int = 0,
) -> None:
    """Predict how a video goes on: a film and a filmstrip beside what happened, and errors against the horizon.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id, of a video model.
        video: video file or folder of frames.
        observe: number of frames that the model sees.
        horizon: number of frames that it predicts.
        out: folder for the results, one folder per video.
        num_slots: number of slots; by default as in training.
        image_size: resize and crop the frames to N x N or [H, W] pixels; best the size of the training videos.
        fps: frames per second of the film; by default as the video file, 10 for a folder.
        seed: of the noise.
    """
    from unscene.commands.decompose import load_for_files
    from unscene.export import export_prediction

    model = load_for_files(weights, image_size, _device())
    options = {"num_slots": num_slots, "image_size": image_size, "fps": fps, "seed": seed}
    print(export_prediction(model, video, out, observe=observe, horizon=horizon, **options))


def render(
    weights: str,
    data: str,
    *,
    view: list[float] | None = None,
    camera: list[float] | None = None,
    index: int = 0,
    split: str | None = "test",
    observe: int | None = None,
    out: Path = Path("views"),
    num_slots: int | None = None,
    iterations: int | None = None,
    samples: int = 20,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> None:
    """Show a scene from other viewpoints: image, segmentation, every object by itself, and what is uncertain.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id, of a multi-view model.
        data: dataset of scenes with viewpoints, as `unscene data inspect` takes it.
        view: viewpoint to show, in the numbers of the dataset (--view X Y Z); several one after the other.
        camera: the same as the place of a camera that looks at the centre (X Y Z), or as GQN has it (X Y Z YAW PITCH).
        index: number of the scene in the dataset.
        split: of the data.
        observe: let the model see so many views; by default all, or half of them if no viewpoint to show is given.
        out: folder for the results, one folder per scene.
        num_slots: number of slots; by default as in training.
        iterations: number of decodes of each observed view; by default as in training.
        samples: of the model's belief, whose variance is the uncertainty.
        seed: of the noise.
        options: of the dataset, such as --options.views 10.
    """
    from unscene.commands.render import render_scene
    from unscene.pretrained import load

    settings = {"observe": observe, "num_slots": num_slots, "iterations": iterations}
    folder = render_scene(
        load(weights).to(_device()),
        data,
        index=index,
        split=split,
        view=view,
        camera=camera,
        out=out,
        options=options or {},
        settings=settings | {"samples": samples, "seed": seed},
    )
    print(folder)


def sprites(
    weights: str,
    *,
    out: Path = Path("sprites"),
    data: str | None = None,
    split: str | None = "test",
    limit: int | None = 320,
    batch_size: int = 32,
    options: dict[str, Any] | None = None,
    json: Path | None = None,
) -> None:
    """Write the sprites of a model as pictures, and count how often images have them.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id, of a sprite model.
        out: folder for the gallery and the sprites; files of the same names are replaced.
        data: count in these images, as `unscene data inspect` takes them.
        split: of the data; null for all of a folder or TFRecord file.
        limit: count in the first so many images.
        batch_size: images at a time.
        options: of the dataset, such as --options.image_size 64.
        json: also write the counts to this file.
    """
    from unscene.commands.sprites import count_sprites, export_sprites, load_sprites
    from unscene.files import write_json

    model = load_sprites(weights)
    usage = count_sprites(model, data, split, options or {}, json, limit=limit, batch_size=batch_size, device=_device())
    export_sprites(model, out, usage)
    if usage is not None:
        print(usage.table())
        if json is not None:
            write_json(usage.to_json(), json)
    print(out)


def edit(
    weights: str,
    image: Path,
    *,
    layer: int | None = None,
    swap: int | None = None,
    move: list[float] | None = None,
    scale: float | None = None,
    recolor: str = "",
    order: Literal["front", "back"] | None = None,
    duplicate: bool = False,
    delete: bool = False,
    out: Path = Path("edits"),
) -> None:
    """Take an image apart into layers of sprites, change one of them, and draw the image again.

    Args:
        weights: folder of weights or of a training run, recipe name, or hub id, of DTISprites.
        image: an image file; it is resized and cropped to the size of the training images.
        layer: number of the layer to edit, from 1; without edits all layers are written, to choose from.
        swap: number of the sprite that it shall show, from 0, as in the gallery of `unscene sprites`.
        move: new place of its centre, X from -1 (left) to 1 (right) and Y from -1 (top) to 1 (bottom).
        scale: make it so many times as large.
        recolor: new mean colour, as in web pages: '#c33', '#cc3333' or red.
        order: bring it before all other layers, or behind them.
        duplicate: true leaves it as it is and edits a copy.
        delete: true takes it away.
        out: folder for the results, one folder per image.
    """
    from unscene.commands.edit import edit_image, given_edits, load_layers

    edits = given_edits(swap, move, scale, recolor, order, duplicate, delete)
    print(edit_image(load_layers(weights).to(_device()), image, out, layer, edits))


def experiment(
    recipe: str,
    data: str,
    *,
    train: str = "",
    run: Path | None = None,
    seeds: list[int] | None = None,
    lds: dict[str, Any] | None = None,
    scales: list[float] | None = None,
    train_slots: list[int] | None = None,
    test_slots: list[int] | None = None,
    limit: int = 320,
    gap_limit: int = 50,
    gap_samples: int = 500,
    options: dict[str, Any] | None = None,
    json: Path | None = None,
) -> None:
    """Train a recipe without and with the LDS prior, with the same seeds, and tell what the prior changed.

    Args:
        recipe: as for train.
        data: dataset to score on, as `unscene evaluate` takes it.
        train: options of train for all trainings, in quotes: "--trainer.max_steps 2000 --data.batch_size 8".
        run: folder for all trainings; what is complete in it is not done again. By default runs/RECIPE-lds.
        seeds: one pair of trainings each; by default 0.
        lds: options of the prior, such as --lds.weight 0.5; the paper's by default.
        scales: several values of its scale, one training each: the ablation.
        train_slots: several numbers of slots to train with; by default the recipe's.
        test_slots: several numbers of slots to score with; by default those of the training.
        limit: score so many scenes.
        gap_limit: measure the inference gap on so many of them; 0 leaves it out.
        gap_samples: importance samples per scene.
        options: of the dataset.
        json: also write the tables to this file; always to experiment.json in the folder.
    """
    import shlex

    from unscene.commands.experiment import Scoring, run_experiment
    from unscene.files import write_json

    lds = {"weight": 1.0} | (lds or {})
    priors = {f"lds-{scale:g}": lds | {"scale": scale} for scale in scales} if scales else {"lds": lds}
    tables = run_experiment(
        recipe,
        shlex.split(train),
        run=run or Path("runs") / f"{recipe}-lds",
        seeds=seeds or [0],
        priors=priors,
        train_slots=train_slots or [None],
        test_slots=test_slots or [None],
        scoring=Scoring(data, options or {}, limit, gap_limit, gap_samples),
    )
    if json is not None:
        write_json(tables, json)


def runs(folders: list[Path], *, json: Path | None = None) -> None:
    """Average the evaluations of several trainings of one recipe, with and without those that failed.

    Args:
        folders: of training runs that `unscene evaluate` has measured on the same images.
        json: also write the table to this file.
    """
    from unscene.evaluation.runs import read_evaluation, runs_table
    from unscene.files import write_json

    found = runs_table([read_evaluation(folder) for folder in folders])
    print(found.table())
    for index in found.dropped:
        print(f"dropped: {folders[index]}, whose error is more than 1.5 times the median")
    if json is not None:
        write_json(found.to_json(), json)


def compare(
    data: str,
    weights: list[str],
    *,
    out: Path = Path("comparison.html"),
    images: int = 6,
    split: str | None = "test",
    limit: int | None = 320,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    options: dict[str, Any] | None = None,
    json: Path | None = None,
) -> None:
    """Measure several models on the same images, and write a page that shows what each makes of them.

    Args:
        data: dataset name, file or folder, as for evaluate.
        weights: folders of weights or of training runs, recipe names, or hub ids.
        out: file for the page.
        images: show so many of the images.
        split: of the data; null for all of a folder or TFRecord file.
        limit: measure on the first so many images or videos.
        batch_size: images or videos at a time.
        seed: of the noise.
        device: such as cpu or cuda:0; by default a GPU if there is one.
        options: of the dataset, such as --options.image_size 32.
        json: also write all scores to this file.
    """
    import shlex

    from unscene.data import open_dataset
    from unscene.files import write_json
    from unscene.pretrained import load
    from unscene.progress import progress
    from unscene.report.comparison import compare_models, table

    options = options or {}
    dataset, models = open_dataset(data, split, **options), {name: load(name) for name in weights}
    words = ["unscene", "compare", data, *weights, *(f"--options.{name}={value}" for name, value in options.items())]
    found = compare_models(
        models,
        dataset,
        out,
        data=data,
        command=shlex.join([*words, f"--split={split or 'null'}", f"--limit={limit or 'null'}", f"--seed={seed}"]),
        num_shown=images,
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        device=device or _device(),
        progress=progress,
    )
    print(table(models, found))
    print(out)
    if json is not None:
        write_json({name: evaluation.to_json() for name, evaluation in found.items()}, json)


def report(run: Path, *, generalise_to: str | None = None) -> None:
    """Write RUN/report.html: metrics beside the published values, curves, decompositions, predictions.

    Args:
        run: folder of a training run.
        generalise_to: other data to score, separated by commas; DATA=K with K slots, such as balls678.h5=9.
    """
    from unscene.report import write_report

    print(write_report(run, generalise_to.split(",") if generalise_to else ()))


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
        "predict": predict,
        "render": render,
        "sprites": sprites,
        "edit": edit,
        "experiment": experiment,
        "runs": runs,
        "compare": compare,
        "report": report,
        "recipes": recipes,
        "data": Group(
            "Make, check, convert and look at datasets.",
            {"generate": data.generate, "verify": data.verify, "convert": data.convert, "inspect": data.inspect},
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
