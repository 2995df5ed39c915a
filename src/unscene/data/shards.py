"""Storing drawn scenes in a folder, part by part: by several processes and machines, and again after a kill."""

from __future__ import annotations

import glob
import hashlib
import inspect
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from unscene.data.generator import GeneratedScenes
from unscene.data.manifest import PARTS, UNFINISHED, Block, Manifest, has_manifest, read_manifest, write_manifest
from unscene.data.open import find_generator, open_generator
from unscene.data.parts import Piece, join, read_part, scenes_in_place, to_piece, with_records, write_part
from unscene.data.workers import run_jobs
from unscene.errors import InputError
from unscene.files import UNFINISHED as TEMPORARY
from unscene.files import replacing
from unscene.scenes import Scenes

MOST_SCENES = 32  # in a part
MOST_VALUES = 1 << 23  # of the images in a part, if that leaves at least one: 8 MB
PACE = 1.0  # seconds of drawing after which what is there is stored; a kill costs so much, or one scene
PART_NAME = re.compile(r"(train|val|test)-\d{6}\.h5")


def save_shards(
    source: str,
    root: str | Path,
    sizes: dict[str, int],
    *,
    options: dict[str, Any] | None = None,
    shard: str = "0/1",
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Draw the scenes of a generator and store them in the folder ``root``; goes on where it was stopped.

    The layout is described in `unscene.data.manifest`; `ShardedScenes` reads it. What was finished before is kept,
    also if it was killed; a larger number of scenes than before goes on too.

    Args:
        source: generator as `open_dataset` knows it.
        root: new folder, empty one, or one in which such scenes were stored before.
        sizes: {split: number of scenes}.
        options: of the generator, ``seed`` among them.
        shard: "i/n" of n machines, of which this one, number i from 0 on, makes the parts i, i + n, i + 2 n, ... of
            every split. They may share the folder, or have folders that are copied into one afterwards.
        processes: that draw at once; by default one per core. One draws in this process; several are spawned, so that
            a script needs ``if __name__ == "__main__"``.
        progress: called with (scenes in place, scenes to make) of this shard.

    Returns:
        The manifest, with the records of all parts that are in place, whoever made them.

    Raises:
        InputError: the source is no generator, the folder holds something else or scenes that were drawn otherwise
            (another seed, other options or versions of a renderer) or more of them, ``shard`` is out of range, or
            something cannot be written.
    """
    root = Path(root)
    index, count = parse_shard(shard)
    if processes is not None and processes < 1:
        raise InputError(f"processes is {processes}; drawing takes at least 1")
    if not sizes:
        raise InputError(f"nothing to write to {root}: no splits")
    datasets = {split: open_generator(source, split, num_scenes=size, **options or {}) for split, size in sizes.items()}
    manifest = _begin(root, _describe(source, datasets, options or {}, root))
    mine = {
        block: scenes
        for split in sizes
        for block, scenes in scenes_in_place(root, manifest, split).items()
        if block.number % count == index
    }
    jobs = [block for block, scenes in mine.items() if scenes < len(block)]
    done, total = sum(mine.values()), sum(map(len, mine))

    def report(scenes: int) -> None:
        nonlocal done
        done += scenes
        if progress is not None:
            progress(done, total)

    report(0)
    run_jobs(_Drawing(root, datasets, manifest.settings), jobs, processes or _cores(), report)
    _remove_scratch(root, mine)
    return collect_records(root)


def parse_shard(shard: str) -> tuple[int, int]:
    """("i/n") -> i, n."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or int(match[1]) >= int(match[2]):
        raise InputError(f"shard {shard!r} is out of range; of n machines number i makes i/n, 0 <= i < n, such as 0/4")
    return int(match[1]), int(match[2])


def collect_records(root: Path) -> Manifest:
    """Copy what the parts say of themselves into the manifest, until no more come meanwhile.

    Whoever writes last has looked at the parts after that, so that none is missed when several do this at once.
    """
    while (complete := with_records(root, manifest := read_manifest(root))) != manifest:
        write_manifest(complete, root)
    return complete


def _describe(source: str, datasets: dict[str, GeneratedScenes], options: dict[str, Any], root: Path) -> Manifest:
    """The manifest of what is asked for."""
    dataset = next(iter(datasets.values()))
    kind, preset = find_generator(source)
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    settings = json.loads(json.dumps(defaults | preset | options, default=str))  # as they come back from the file
    seed, _, _ = (settings.pop(name) for name in ("seed", "num_scenes", "split"))
    words = [f"--options.{name} {shlex.quote(_spelt(value))}" for name, value in options.items()]
    timed = getattr(dataset, "timed_factors", None)
    return Manifest(
        dataset=source,
        generator=f"{kind.__module__}.{kind.__qualname__}",
        seed=seed,
        options=settings,
        provenance=dataset.provenance(),
        scenes_per_part=read_manifest(root).scenes_per_part if has_manifest(root) else _scenes_per_part(dataset),
        timed_factors=None if timed is None else list(timed),
        command=" ".join(["unscene data generate", source, *words]),
        splits={split: len(scenes) for split, scenes in datasets.items()},
        versions={name: version(name) for name in ("unscene", "numpy", "torch")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        parts={},
    )


def _spelt(value: Any) -> str:
    """As the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _scenes_per_part(dataset: GeneratedScenes) -> int:
    """By their size alone, so that all machines find the same."""
    return max(1, min(MOST_SCENES, MOST_VALUES // dataset.batch([0])["image"].numel()))


def _begin(root: Path, asked: Manifest) -> Manifest:
    """The manifest of the folder, which is made unless it holds scenes as they are asked for."""
    if not has_manifest(root):
        _make(root)
        write_manifest(asked, root)
        return asked
    old = read_manifest(root)
    old.check_same(asked, root)
    for split, size in asked.splits.items():
        if size < old.splits.get(split, 0):
            raise InputError(
                f"{root} is for {old.splits[split]} scenes of split {split!r}, more than {size}; ask for as many or "
                "more, or name another folder"
            )
    manifest = replace(old, splits=old.splits | asked.splits)
    if manifest != old:
        write_manifest(manifest, root)
    return manifest


def _make(root: Path) -> None:
    """Make the folder; it may be there if it is empty, or has parts but lost its manifest."""
    parts = root / PARTS
    if root.is_dir() and not any(PART_NAME.fullmatch(path.name) for path in parts.glob("*")):
        others = [path.name for path in root.iterdir() if path != parts and not path.name.endswith(TEMPORARY)]
        if others:
            raise InputError(f"{root} holds something else, such as {min(others)}; name a new or an empty folder")
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {parts}: {error.strerror}; name another place") from error


@dataclass(frozen=True)
class _Drawing:
    """What makes a part; other processes get a copy of it."""

    root: Path
    datasets: dict[str, GeneratedScenes]
    settings: str

    def __call__(self, block: Block, report: Callable[[int], None]) -> None:
        path, scratch = self.root / PARTS / block.name, _scratch(self.root, block)
        _remove_leftovers(path)
        before = [self._read(path, block)] if path.exists() else []  # when fewer scenes were asked for
        stored, drawn = [*before, *self._read_scratch(block, start=block.start + _count(before))], []
        report(_count(stored) - _count(before))
        position, size, saved = block.start + _count(stored), 1, monotonic()
        while position < block.stop:
            began = monotonic()
            drawn.append(self._draw(block.split, range(position, min(position + size, block.stop))))
            now = monotonic()
            position += len(drawn[-1])
            report(len(drawn[-1]))
            size = max(1, int(PACE * len(drawn[-1]) / max(now - began, 1e-6)))
            if now - saved >= PACE and position < block.stop:
                write_part(scratch / f"{drawn[0].first}.h5", block.split, join(drawn), self.settings)
                stored, drawn, saved = stored + drawn, [], now
        write_part(path, block.split, join(stored + drawn), self.settings)
        shutil.rmtree(scratch, ignore_errors=True)

    def _read(self, path: Path, block: Block) -> Piece:
        return read_part(path, block.split, self.settings)

    def _read_scratch(self, block: Block, start: int) -> Iterator[Piece]:
        """The pieces that were drawn before, up to the first gap."""
        while (path := _scratch(self.root, block) / f"{start}.h5").exists():
            yield (piece := self._read(path, block))
            start += len(piece)

    def _draw(self, split: str, indices: range) -> Piece:
        """Draws scenes, and stores the files beside them, so that these are there when the scenes count as drawn."""
        dataset = self.datasets[split]
        scenes = dataset.batch(indices)
        hashes = {}
        for i, index in enumerate(indices):
            for name, content in dataset.files(index, _scene(scenes, i)).items():
                _remove_leftovers(self.root / name)
                with replacing(self.root / name) as temporary:
                    temporary.write_bytes(content)
                hashes[name] = hashlib.sha256(content).hexdigest()
        return replace(to_piece(indices.start, scenes), files=hashes)


def _scene(scenes: Scenes, i: int) -> Scenes:
    """Scene ``i`` of a batch."""
    return {name: _scene(value, i) if isinstance(value, dict) else value[i] for name, value in scenes.items()}


def _count(pieces: list[Piece]) -> int:
    return sum(map(len, pieces))


def _scratch(root: Path, block: Block) -> Path:
    return root / UNFINISHED / block.stem


def _remove_leftovers(path: Path) -> None:
    """What killed processes left of `replacing` ``path``, on which nobody else works."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def _remove_scratch(root: Path, blocks: Iterable[Block]) -> None:
    for block in blocks:
        shutil.rmtree(_scratch(root, block), ignore_errors=True)
    with suppress(OSError):  # others still have theirs there, or there was none
        (root / UNFINISHED).rmdir()


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
