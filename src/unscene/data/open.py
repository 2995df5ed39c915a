"""open_dataset: the data set that a name or a path means, for every command."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from unscene.data.bouncing_balls import BouncingBalls
from unscene.data.class_folder import ClassFolder
from unscene.data.clevrer import CLEVRER, is_clevrer
from unscene.data.dataset import SceneDataset
from unscene.data.filtered import FilteredScenes
from unscene.data.folder import ImageFolder
from unscene.data.generator import GeneratedScenes
from unscene.data.gqn import GQNScenes, is_gqn
from unscene.data.hdf5 import HDF5Scenes
from unscene.data.idx import IDXScenes, is_idx
from unscene.data.manifest import has_manifest
from unscene.data.multi_dsprites import MultiDSprites
from unscene.data.multi_object import LAYOUTS
from unscene.data.multi_view import MultiViewScenes, is_multi_view
from unscene.data.orbit import OrbitScenes
from unscene.data.paired_folder import PairedFolder, is_paired_folder
from unscene.data.rnem_hdf5 import RNEMScenes, is_rnem
from unscene.data.shapes import Shapes
from unscene.data.sharded import ShardedScenes
from unscene.data.signs import Signs
from unscene.data.sprite_folder import SpriteFolder, is_sprite_folder
from unscene.data.svhn import SVHN, is_svhn
from unscene.data.tetrominoes import Tetrominoes
from unscene.data.tfrecord import FILE_NAME
from unscene.data.tfrecord_scenes import TFRecordScenes
from unscene.data.video_folder import VideoFolder
from unscene.data.videos import VIDEOS
from unscene.data.view_folder import ViewFolder
from unscene.data.views import Views  # noqa: F401  wraps any of these; recipes find it by its name where this is imported
from unscene.errors import InputError


class Preset(NamedTuple):
    """A generator that is imported only when it is asked for, and options that go with its name."""

    place: str  # module:class, below unscene.data
    options: dict[str, Any] = {}


GENERATORS: dict[str, type[GeneratedScenes] | Preset] = {
    "tetrominoes": Tetrominoes,
    "multi_dsprites": MultiDSprites,
    "shapes": Shapes,
    "signs": Signs,
    "bouncing_balls": BouncingBalls,
    "orbit": OrbitScenes,
    "clevr": Preset("rendering.clevr:CLEVR"),
    "clevr6": Preset("rendering.clevr:CLEVR", {"most": 6}),
    "cle_mv": Preset("rendering.cle_mv:CLEVRViews"),
    "shapes_mv": Preset("rendering.shapes_mv:ShapesViews"),
    "objects_room": Preset("rendering.objects_room:ObjectsRoom"),
    "objects_room_flight": Preset("rendering.objects_room_flights:ObjectsRoomFlights"),
    "clevrer_like": Preset("rendering.clevrer_like:CLEVRERLike"),
}
READERS = ((is_svhn, SVHN), (is_idx, IDXScenes), (is_sprite_folder, SpriteFolder))  # of what is known by its names
NUM_TEST = 320  # scenes of a generator to evaluate on, as in IODINE's experiments


def open_dataset(source: str | Path, split: str | None = "test", **options: Any) -> SceneDataset:
    """The scenes of ``source``, one of:

    - a generator: ``tetrominoes``, ``shapes``, ``signs``, ``multi_dsprites``, ``bouncing_balls``, ``orbit`` or with its
      variant, such as ``multi_dsprites/binarized`` or ``bouncing_balls/6-8``; 60,000 scenes or 50,000 videos for
      training, else 320, unless ``num_scenes`` is given;
    - a folder of scenes that `unscene data generate` has made, known by its manifest (`ShardedScenes`);
    - a folder of MulMON's multi-view scenes, known by its index (`MultiViewScenes`);
    - files and folders of GQN's scenes (`GQNScenes`), known by the members of .h5 files and by official names;
    - an .h5 or .hdf5 file (`HDF5Scenes`, or `RNEMScenes` if it is one of those);
    - a .tfrecords file, a folder or a glob pattern of them (`TFRecordScenes`); ``kind`` and ``variant`` are
      guessed from official file names and must be given for others;
    - the folder of CLEVRER's videos (`CLEVRER`);
    - a folder with SVHN's .mat files, or one of them (`SVHN`);
    - a folder with idx files such as MNIST's (`IDXScenes`);
    - a folder with the folders images, masks and sem_masks (`SpriteFolder`);
    - a folder with videos (`VideoFolder`), or of folders of frames if ``frames`` or ``stride`` is given;
    - a folder of folders of views, if ``views`` is given (`ViewFolder`);
    - a folder of folders of classes, if ``classes`` is given (`ClassFolder`);
    - a folder with the folders images and masks, unless ``mask_root`` is given (`PairedFolder`);
    - a folder of images (`ImageFolder`).

    The option ``num_objects`` keeps the scenes with exactly so many visible objects (`FilteredScenes`); the others go
    to the class. ``split`` None is the whole of TFRecord and idx files and of folders of images, videos and views,
    train and test of SVHN, and "test" of the others. Raises InputError if ``source`` is none of these, an option is
    unknown or of another type, or the class refuses the data.
    """
    num_objects = options.pop("num_objects", None)
    dataset = _open(source, split, options)
    if num_objects is None:
        return dataset
    return _build(FilteredScenes, dataset, min_objects=num_objects, max_objects=num_objects)


def find_generator(source: str) -> tuple[type[GeneratedScenes], dict[str, Any]]:
    """The class, and the options that go with its name: of ``multi_dsprites/binarized`` its variant.

    Raises InputError if ``source`` is no generator.
    """
    name, _, variant = source.partition("/")
    if name not in GENERATORS:
        raise InputError(f"there is no generator {source!r}; choose one of {', '.join(GENERATORS)}")
    found = GENERATORS[name]
    if isinstance(found, Preset):
        module, _, kind = found.place.partition(":")
        found, options = getattr(import_module(f"unscene.data.{module}"), kind), found.options
    else:
        options = {}
    return found, options | ({"variant": variant} if variant else {})


def default_scenes(source: str) -> int:
    """How many scenes for training a generator has unless told otherwise."""
    kind, preset = find_generator(source)
    return preset.get("num_scenes", inspect.signature(kind).parameters["num_scenes"].default)


def open_generator(source: str, split: str, **options: Any) -> GeneratedScenes:
    """The scenes of a generator, also where a file or folder has its name."""
    kind, preset = find_generator(source)
    return _build(kind, split=split, **preset | options)


def _open(source: str | Path, split: str | None, options: dict[str, Any]) -> SceneDataset:
    path = Path(source)
    if str(source).partition("/")[0] in GENERATORS and not path.exists():
        options = ({} if split == "train" else {"num_scenes": NUM_TEST}) | options
        return open_generator(str(source), split or "test", **options)
    if has_manifest(path):
        return _build(ShardedScenes, path, split=split or "test", **options)
    if path.is_dir() and is_multi_view(path):
        return _build(MultiViewScenes, path, split=split or "test", **options)
    if is_gqn(path):
        return _build(GQNScenes, path, split=split or "test", **options)
    if path.suffix in (".h5", ".hdf5"):
        return _build(RNEMScenes if is_rnem(path) else HDF5Scenes, path, split=split or "test", **options)
    if record_name := _tfrecord_name(path):
        if "kind" not in options:
            options = _guess_kind(record_name) | options
        return _build(TFRecordScenes, path, split=split, **options)
    if path.is_dir() and is_clevrer(path):
        return _build(CLEVRER, path, split=split or "test", **options)
    for recognised, reader in READERS:
        if recognised(path):
            return _build(reader, path, split=split, **options)
    if path.is_dir() and "views" in options:
        return _build(ViewFolder, path, split=split, **options)
    if path.is_dir() and (options.keys() & {"frames", "stride"} or _has_videos(path)):
        return _build(VideoFolder, path, split=split, **options)
    if path.is_dir() and "classes" in options:
        return _build(ClassFolder, path, split=split, **options)
    if path.is_dir() and "mask_root" not in options and is_paired_folder(path):
        return _build(PairedFolder, path, split=split, **options)
    if path.is_dir():
        return _build(ImageFolder, path, split=split, **options)
    raise InputError(
        f"cannot open {str(source)!r}; expected a generator ({', '.join(GENERATORS)}, or one with its variant, such as "
        "multi_dsprites/binarized), an .h5 or .hdf5 file, a .tfrecords file, or an existing folder of images or videos"
    )


def _tfrecord_name(path: Path) -> str | None:
    """The name of a TFRecord file that ``path`` means: itself, a pattern, or the first in that folder."""
    if path.is_dir():
        return min((file.name for file in path.iterdir() if FILE_NAME.search(file.name)), default=None)
    return path.name if ".tfrecord" in path.name else None


def _has_videos(folder: Path) -> bool:
    """Whether there is a video file below the folder; GIF files count as images, which most of them are."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in VIDEOS - {".gif"})
    return any(not any(part.startswith(".") for part in path.parts) for path in paths)


def _guess_kind(file_name: str) -> dict[str, str | None]:
    for name in LAYOUTS:
        kind, _, variant = name.partition("/")
        if kind in file_name and variant in file_name:
            return {"kind": kind, "variant": variant or None}
    raise InputError(
        f"the name {file_name} does not tell its data set; set kind, and variant, to one of {', '.join(LAYOUTS)}"
    )


def _build(dataset: type[SceneDataset], *args: Any, **options: Any) -> SceneDataset:
    """An instance of the class, after a check that it has these options, of these types."""
    signature = inspect.signature(dataset)
    unknown = options.keys() - signature.parameters.keys()
    if unknown:
        known = ", ".join(signature.parameters)
        raise InputError(f"{dataset.__name__} has no option {min(unknown)!r}; its options are {known}")
    hints = get_type_hints(dataset.__init__)
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    options = {name: float(v) if hints[name] is float and type(v) is int else v for name, v in options.items()}
    for name, value in options.items():
        if not _fits(value, hints[name]):
            wanted = signature.parameters[name].annotation
            raise InputError(f"option {name} of {dataset.__name__} is {value!r}; it must be {wanted}")
    return dataset(*args, **options)


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of one of the types in ``hint``, as far as their names go."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else [hint]
    return isinstance(value, tuple(get_origin(kind) or kind for kind in kinds))
