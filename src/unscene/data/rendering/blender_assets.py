"""CLEVR's original scene files: users bring the folder along, Blender renders what is in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from unscene.errors import InputError

SOURCE = "image_generation/data of https://github.com/facebookresearch/clevr-dataset-gen"
# Our name: that of the file, and of the only object, or group of shader nodes, in it
SHAPES = {"cube": "SmoothCube_v2", "sphere": "Sphere", "cylinder": "SmoothCylinder"}
MATERIALS = {"rubber": "Rubber", "metal": "MyMetal"}


@dataclass(frozen=True)
class Assets:
    """A folder with the files; InputError if it, or one of them, is missing."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(f"there is no folder {self.root}; assets should be {SOURCE}")
        if missing := [str(path.relative_to(self.root)) for path in self._files() if not path.is_file()]:
            raise InputError(f"{self.root} lacks {', '.join(missing)}; assets should be {SOURCE}")

    @property
    def base(self) -> Path:
        """The scene without objects."""
        return self.root / "base_scene.blend"

    @property
    def shapes(self) -> dict[str, tuple[str, str]]:
        """{our name: (file, name in it)}."""
        return {kind: (str(self.root / "shapes" / f"{name}.blend"), name) for kind, name in SHAPES.items()}

    @property
    def materials(self) -> dict[str, tuple[str, str]]:
        """Likewise."""
        return {kind: (str(self.root / "materials" / f"{name}.blend"), name) for kind, name in MATERIALS.items()}

    def digest(self) -> str:
        """Of the content of all files, since pixels depend on it."""
        content = [hashlib.sha256(path.read_bytes()).digest() for path in self._files()]
        return hashlib.sha256(b"".join(content)).hexdigest()[:16]

    def _files(self) -> list[Path]:
        return [self.base, *(Path(path) for path, _ in [*self.shapes.values(), *self.materials.values()])]


def find_assets(folder: str | Path | None) -> Assets:
    """The files in ``folder``; InputError without one, and if something in it is missing."""
    if folder is None:
        raise InputError(f"the renderer blender needs CLEVR's scene files; name their folder in assets: {SOURCE}")
    return Assets(Path(folder).absolute())
