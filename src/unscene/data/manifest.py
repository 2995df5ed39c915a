"""The manifest of a folder of drawn scenes: what they are, how they were drawn, and what each of its parts holds.

========================================  =========================================================================
``ROOT/manifest.json``                    a `Manifest`
``ROOT/parts/train-000012.h5``            a part: scenes 12 n to 13 n - 1 of a split, n being ``scenes_per_part``
``ROOT/unfinished/train-000012/390.h5``   scenes from 390 on of a part that is not complete, in the same layout
any other                                 what `GeneratedScenes.files` has beside the scenes
========================================  =========================================================================
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unscene.data.generator import SPLITS
from unscene.errors import InputError
from unscene.files import write_json

LAYOUT, VERSION = "unscene parts", 1
MANIFEST, PARTS, UNFINISHED = "manifest.json", "parts", "unfinished"
KINDS = {  # of the fields of a manifest as JSON has them
    **dict.fromkeys(("dataset", "generator", "command", "created"), str),
    **dict.fromkeys(("options", "provenance", "splits", "versions", "parts"), dict),
    **{"seed": int, "scenes_per_part": int, "timed_factors": (list, type(None))},
}


@dataclass(frozen=True)
class Record:
    """What a part holds."""

    scenes: int
    pixels: str  # SHA-256 of the bytes of images and label maps, decoded: see `digest`
    labels: str  # of all else


@dataclass(frozen=True)
class Block:
    """The scenes ``start`` to ``stop`` - 1 of a split, which share a part."""

    split: str
    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def stem(self) -> str:
        return f"{self.split}-{self.number:06d}"

    @property
    def name(self) -> str:
        """Of the part's file."""
        return f"{self.stem}.h5"


@dataclass(frozen=True)
class Manifest:
    """``options`` are all of the generator's, defaults included; ``command`` makes the scenes, but for their number.

    ``parts`` {name: record} is a copy of what the parts say themselves, so that several machines can make parts at
    once; those of an unfinished folder may be missing.
    """

    dataset: str  # as named for `open_dataset`
    generator: str  # its class, with the module
    seed: int
    options: dict[str, Any]
    provenance: dict[str, str]  # `GeneratedScenes.provenance`
    scenes_per_part: int
    timed_factors: list[str] | None  # of videos: `ReadsClips`; None if the generator does not tell
    command: str
    splits: dict[str, int]
    versions: dict[str, str]
    created: str
    parts: dict[str, Record]

    @property
    def settings(self) -> str:
        """Hash of all that decides on the scenes; parts that were made with the same belong together."""
        text = json.dumps([VERSION, self.generator, self._decisive()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _decisive(self) -> dict[str, Any]:
        numbers = {"seed": self.seed, "scenes_per_part": self.scenes_per_part}
        return numbers | {f"option {name}": value for name, value in self.options.items()} | self.provenance

    def check_same(self, other: Manifest, root: Path) -> None:
        """Raise InputError if ``other``, what is asked for now, decides on other scenes than this one of ``root``."""
        if self.generator != other.generator:
            raise InputError(f"{root} holds {self.dataset}, not {other.dataset}; name another folder")
        old, new = self._decisive(), other._decisive()
        for name in old | new:
            if old.get(name) != new.get(name):
                raise InputError(
                    f"{root} was made with {name} = {old.get(name)!r}, not {new.get(name)!r}; go on with what it was "
                    "made with, or name another folder"
                )

    def blocks(self, split: str) -> Iterator[Block]:
        size, total = self.scenes_per_part, self.splits[split]
        for number, start in enumerate(range(0, total, size)):
            yield Block(split, number, start, min(start + size, total))

    def command_for(self, root: Path) -> str:
        """The command that makes what is missing in ``root``."""
        counts = (f"--{split} {self.splits.get(split, 0)}" for split in SPLITS)
        return " ".join([self.command, "--out", shlex.quote(str(root)), *counts])


def has_manifest(root: Path) -> bool:
    """Whether ``root`` is a folder of parts."""
    return (root / MANIFEST).is_file() and (root / PARTS).is_dir()


def read_manifest(root: Path) -> Manifest:
    """Raises InputError if there is none, it is damaged, of something else, or of a newer version."""
    path = root / MANIFEST
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; name a folder of generated scenes") from error
    except ValueError as error:
        raise _damaged(path, f"it is no JSON, {error}") from error
    if not isinstance(content, dict) or content.get("layout") != LAYOUT:
        raise InputError(f"{path} is no manifest of generated scenes; name another folder")
    if content.get("version") != VERSION:
        raise InputError(f"{path} is of version {content.get('version')}, not {VERSION}; update unscene")
    for name, kind in KINDS.items():
        if not isinstance(content.get(name), kind):
            raise _damaged(path, f"its {name} is {content.get(name)!r}")
    numbers = [content["scenes_per_part"], *content["splits"].values()]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise _damaged(path, "it counts scenes in other than positive whole numbers")
    try:
        content["parts"] = {name: Record(**record) for name, record in content["parts"].items()}
    except TypeError as error:
        raise _damaged(path, "it lists parts without their hashes") from error
    return Manifest(**{field.name: content[field.name] for field in fields(Manifest)})


def write_manifest(manifest: Manifest, root: Path) -> None:
    """Write it whole or not at all."""
    write_json({"layout": LAYOUT, "version": VERSION} | asdict(manifest), root / MANIFEST)


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path} is damaged: {what}; delete it, and `unscene data generate` writes it again")
