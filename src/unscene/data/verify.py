"""Looking over a folder of parts: whether everything is there, whole and consistent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unscene.data.generator import GeneratedScenes
from unscene.data.manifest import PARTS, Block, Manifest, read_manifest
from unscene.data.open import open_generator
from unscene.data.parts import Arrays, Piece, digest, read_part, read_record, to_piece
from unscene.data.shards import collect_records
from unscene.errors import InputError


@dataclass(frozen=True)
class Verification:
    """What was found."""

    faults: list[str]  # one sentence each
    scenes: dict[str, int]  # by split, in parts that can be read
    parts: int
    redrawn: int  # scenes

    def to_json(self) -> dict[str, Any]:
        return {"complete": not self.faults} | asdict(self)


def verify_shards(
    root: str | Path, redraw: int = 0, progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Read all of a folder that `save_shards` has filled; if nothing is wrong, the manifest gets the hashes it lacks.

    Faults are missing, unreadable and unknown parts, pixels, labels and files beside them that are not those whose
    hashes were stored, ids without an entity, and visibilities that are not those of the label maps. ``redraw`` scenes,
    equally spaced over all, are drawn again and compared with what is stored. ``progress(done, total)`` counts parts.

    Raises InputError if there is no manifest that can be read, and, with ``redraw``, if the generator would draw
    otherwise than it did, as with another version of a renderer.
    """
    root = Path(root)
    manifest = read_manifest(root)
    blocks = [block for split in manifest.splits for block in manifest.blocks(split)]
    known = {block.name for block in blocks}
    strangers = sorted(path.name for path in (root / PARTS).glob("[!.]*") if path.name not in known)
    faults = [f"{PARTS}/{name} is unknown to the manifest" for name in strangers]
    again = _spread(blocks, redraw)
    generators = _generators(manifest, root) if again else {}
    lengths: dict[Block, int] = dict.fromkeys(blocks, 0)
    for done, block in enumerate(blocks, start=1):
        if (root / PARTS / block.name).exists():
            try:
                piece = read_part(root / PARTS / block.name, block.split, manifest.settings)
                lengths[block] = len(piece)
                faults += _part_faults(root, manifest, block, piece)
                faults += _redraw_faults(generators, block, piece, again.get(block, []))
            except InputError as error:
                faults.append(str(error))
        if progress is not None:
            progress(done, len(blocks))
    faults += _missing(root, lengths)
    if not faults:
        collect_records(root)
    scenes = {split: sum(n for block, n in lengths.items() if block.split == split) for split in manifest.splits}
    return Verification(faults, scenes, sum(n > 0 for n in lengths.values()), sum(map(len, again.values())))


def _missing(root: Path, lengths: dict[Block, int]) -> Iterator[str]:
    """One line per split that lacks scenes; parts that cannot be read have been named before."""
    for split in dict.fromkeys(block.split for block in lengths):
        short = [b for b, n in lengths.items() if b.split == split and n < len(b)]
        short = [b for b in short if lengths[b] or not (root / PARTS / b.name).exists()]
        if short:
            total = sum(len(block) for block in lengths if block.split == split)
            missing = sum(len(block) - lengths[block] for block in short)
            first = f"{PARTS}/{short[0].name}"
            yield f"{missing} of the {total} scenes of split {split!r} are missing, the first in {first}"


def _part_faults(root: Path, manifest: Manifest, block: Block, piece: Piece) -> Iterator[str]:
    name = f"{PARTS}/{block.name}"
    stored, found = read_record(root / name, block.split), digest(piece.arrays)
    if piece.first != block.start or len(piece) > len(block):
        yield f"{name} holds {len(piece)} scenes from {piece.first} on, not {len(block)} from {block.start} on"
    if found.pixels != stored.pixels:
        yield f"{name} has other images or label maps than were stored"
    if found.labels != stored.labels:
        yield f"{name} has other factors or labels than were stored"
    if manifest.parts.get(block.name, stored) != stored:
        yield f"{name} is not the part that the manifest lists"
    for path, content in piece.files.items():
        if not (root / path).is_file():
            yield f"{path}, which belongs to {name}, is missing"
        elif hashlib.sha256((root / path).read_bytes()).hexdigest() != content:
            yield f"{path}, which belongs to {name}, has changed"
    yield from (f"{name} has {fault}" for fault in _label_faults(piece))


def _label_faults(piece: Piece) -> Iterator[str]:
    """Label maps against the number of entities and the visibility."""
    per_entity = [array for name, array in piece.arrays.items() if name == "visibility" or name.startswith("factors/")]
    if "mask" not in piece.arrays or not per_entity:
        return
    num_entities = per_entity[0].shape[1]
    occurs = np.stack([np.bincount(mask.ravel(), minlength=256) > 0 for mask in piece.arrays["mask"]])  # (S, 256)
    wrong = {f"ids in its label maps that none of {num_entities} entities has": occurs[:, num_entities:].any(1)}
    if "visibility" in piece.arrays:
        differs = occurs[:, :num_entities] != piece.arrays["visibility"]
        wrong["a visibility that is not that of its label maps"] = differs.any(1)
    for fault, scenes in wrong.items():
        if scenes.any():
            yield f"{fault}, in {scenes.sum()} scenes, the first number {piece.first + scenes.argmax()}"


def _spread(blocks: list[Block], count: int) -> dict[Block, list[int]]:
    """``count`` scenes equally spaced over all, by their blocks."""
    scenes = [(block, index) for block in blocks for index in range(block.start, block.stop)]
    if not 0 <= count <= len(scenes):
        raise InputError(f"cannot draw {count} scenes again; there are {len(scenes)}")
    chosen: dict[Block, list[int]] = {}
    for i in range(count):
        block, index = scenes[i * len(scenes) // count]
        chosen.setdefault(block, []).append(index)
    return chosen


def _generators(manifest: Manifest, root: Path) -> dict[str, GeneratedScenes]:
    """By split, as the manifest describes them."""
    options = manifest.options | {"seed": manifest.seed}
    generators = {
        split: open_generator(manifest.dataset, split, num_scenes=size, **options)
        for split, size in manifest.splits.items()
    }
    first = next(iter(generators.values()))
    manifest.check_same(replace(manifest, provenance=first.provenance()), root)
    return generators


def _redraw_faults(
    generators: dict[str, GeneratedScenes], block: Block, piece: Piece, indices: list[int]
) -> Iterator[str]:
    for index in indices:
        if index >= piece.first + len(piece):
            continue  # said to be missing
        drawn = to_piece(index, generators[block.split].batch([index])).arrays
        stored = {name: array[index - piece.first][None] for name, array in piece.arrays.items()}
        differing = [f"{n} bytes of its {name}" for name in ("image", "mask") if (n := _differing(name, drawn, stored))]
        if differing:
            yield f"scene {index} of split {block.split!r}, drawn again, differs in {' and '.join(differing)}"


def _differing(name: str, drawn: Arrays, stored: Arrays) -> int:
    if name not in drawn or name not in stored:
        return 0
    return int((drawn[name] != stored[name]).sum())
