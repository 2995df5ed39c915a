"""Scenes from generators, files and folders; every module is imported on first use, to keep the import light."""

from importlib import import_module

_MODULES = {
    "SceneDataset": "dataset",
    "collate": "dataset",
    "Tetrominoes": "tetrominoes",
    "MultiDSprites": "multi_dsprites",
    "Shapes": "shapes",
    "Signs": "signs",
    "TFRecordScenes": "tfrecord_scenes",
    "HDF5Scenes": "hdf5",
    "save_hdf5": "hdf5",
    "ShardedScenes": "sharded",
    "save_shards": "shards",
    "verify_shards": "verify",
    "ImageFolder": "folder",
    "ClassFolder": "class_folder",
    "PairedFolder": "paired_folder",
    "SpriteFolder": "sprite_folder",
    "save_sprite_folder": "sprite_writer",
    "SVHN": "svhn",
    "IDXScenes": "idx",
    "FilteredScenes": "filtered",
    "BouncingBalls": "bouncing_balls",
    "Clips": "clips",
    "Frames": "clips",
    "VideoFolder": "video_folder",
    "read_video": "videos",
    "iterate_frames": "videos",
    "frame_rate": "videos",
    "RNEMScenes": "rnem_hdf5",
    "CLEVRER": "clevrer",
    "OrbitScenes": "orbit",
    "CLEVR": "rendering.clevr",
    "CLEVRViews": "rendering.cle_mv",
    "ShapesViews": "rendering.shapes_mv",
    "ObjectsRoom": "rendering.objects_room",
    "ObjectsRoomFlights": "rendering.objects_room_flights",
    "CLEVRERLike": "rendering.clevrer_like",
    "MultiViewScenes": "multi_view",
    "GQNScenes": "gqn",
    "ViewFolder": "view_folder",
    "Views": "views",
    "open_dataset": "open",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
