"""Storing scenes in parts: what is in them, that a kill costs nothing that was finished, and several machines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import toy_generators
from toy_generators import SlowScenes
from unscene.data import HDF5Scenes, OrbitScenes, Tetrominoes, save_shards, shards
from unscene.data import open as opening
from unscene.data.shards import parse_shard
from unscene.errors import InputError


@pytest.fixture(autouse=True)
def slow(monkeypatch):
    """The toy by name, in parts of four scenes."""
    monkeypatch.setitem(opening.GENERATORS, "slow", SlowScenes)
    monkeypatch.setattr(shards, "MOST_SCENES", 4)


def files(root):
    """{path: (time of change, inode)} of all files below."""
    return {str(p.relative_to(root)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in root.rglob("*") if p.is_file()}


def contents(root):
    """{path: bytes} of all files below but the manifest."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".json"}


def save(root, sizes, **options):
    return save_shards("slow", root, sizes, processes=1, **options)


def drawn(log):
    """How often each scene was drawn: {line: times}."""
    return Counter(line for path in log.iterdir() for line in path.read_text().splitlines())


def test_parts_are_files_of_our_layout(tmp_path, monkeypatch):
    monkeypatch.undo()  # to parts of 32
    manifest = save_shards("tetrominoes", tmp_path / "a", {"train": 70, "test": 5}, options={"seed": 3}, processes=1)
    parts = tmp_path / "a" / "parts"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["manifest.json", "parts"]
    assert sorted(path.name for path in parts.iterdir()) == [
        *("test-000000.h5", "train-000000.h5", "train-000001.h5", "train-000002.h5")
    ]
    expected = Tetrominoes(70, seed=3).batch(range(64, 70))
    read = HDF5Scenes(parts / "train-000002.h5", "train").batch(range(6))
    torch.testing.assert_close(read, expected, rtol=0, atol=0)
    assert {name: record.scenes for name, record in manifest.parts.items()} == {
        **{"train-000000.h5": 32, "train-000001.h5": 32, "train-000002.h5": 6, "test-000000.h5": 5}
    }


def test_the_manifest_says_what_was_drawn(tmp_path):
    save(tmp_path, {"train": 3, "val": 2}, options={"seed": 7, "version": "2.0"})
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert (content["layout"], content["version"], content["dataset"]) == ("unscene parts", 1, "slow")
    assert content["generator"] == "toy_generators.SlowScenes" and content["seed"] == 7
    assert content["options"] == {"seconds": 0.0, "log": None, "version": "2.0", "grayscale": False}
    assert content["provenance"] == {"painter": "toy 2.0"} and content["splits"] == {"train": 3, "val": 2}
    assert content["scenes_per_part"] == 4 and content["versions"]["numpy"] == np.__version__
    assert content["created"].startswith("20") and content["parts"].keys() == {"train-000000.h5", "val-000000.h5"}


def test_hashes_are_of_decoded_pixels(tmp_path):
    record = save(tmp_path, {"test": 3}).parts["test-000000.h5"]
    scenes = SlowScenes(3, split="test").batch(range(3))
    expected = sha256()
    for image, mask in zip(scenes["image"], scenes["mask"], strict=True):
        expected.update((image * 255).byte().movedim(0, -1).contiguous().numpy().tobytes())
        expected.update(mask.numpy().tobytes())
    assert record.pixels == expected.hexdigest()
    with h5py.File(tmp_path / "parts" / "test-000000.h5") as file:
        assert file.attrs["pixels"] == record.pixels and file.attrs["labels"] == record.labels


def test_files_beside_the_scenes(tmp_path):
    save(tmp_path, {"train": 2, "test": 1})
    places = {path.name: path.read_text() for path in (tmp_path / "notes").iterdir()}
    x = SlowScenes(2).batch(range(2))["factors"]["x"][:, 1].tolist()
    assert places.keys() == {"train-0.txt", "train-1.txt", "test-0.txt"}
    assert [places["train-0.txt"], places["train-1.txt"]] == [f"x = {value}" for value in x]


def test_large_scenes_come_in_smaller_parts(tmp_path):
    manifest = save_shards("orbit", tmp_path, {"test": 2}, options={"image_size": 300}, processes=1)
    assert manifest.scenes_per_part == shards.MOST_VALUES // OrbitScenes(1, image_size=300)[0]["image"].numel() == 3


def test_the_same_again_draws_and_writes_nothing(tmp_path):
    (tmp_path / "log").mkdir()
    options = {"log": str(tmp_path / "log")}
    save(tmp_path / "a", {"train": 6}, options=options)
    before, times = files(tmp_path / "a"), drawn(tmp_path / "log")
    calls = []
    save(tmp_path / "a", {"train": 6}, options=options, progress=lambda *call: calls.append(call))
    assert files(tmp_path / "a") == before and drawn(tmp_path / "log") == times and calls == [(6, 6)]


def test_more_scenes_go_on(tmp_path):
    (tmp_path / "log").mkdir()
    options, calls = {"log": str(tmp_path / "log")}, []
    save(tmp_path / "a", {"train": 6, "test": 3}, options=options)
    first = files(tmp_path / "a")["parts/train-000000.h5"]
    save(tmp_path / "a", {"train": 11, "val": 2}, options=options, progress=lambda *call: calls.append(call))
    assert calls[0] == (6, 13) and calls[-1] == (13, 13)
    assert files(tmp_path / "a")["parts/train-000000.h5"] == first
    times = drawn(tmp_path / "log")
    assert len(times) == 16 and sum(times.values()) == 17  # one to see how large they are
    save(tmp_path / "b", {"train": 11, "val": 2, "test": 3}, options=options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_fewer_scenes_are_refused(tmp_path):
    save(tmp_path, {"train": 4})
    with pytest.raises(InputError, match="is for 4 scenes of split 'train', more than 3; ask for as many or more, or"):
        save(tmp_path, {"train": 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "was made with seed = 0, not 1; go on with what it was made with, or name another folder"),
        ({"grayscale": True}, "was made with option grayscale = False, not True; go on"),
        ({"version": "2"}, "was made with option version = '1', not '2'; go on"),
    ],
)
def test_other_settings_are_refused(tmp_path, options, message):
    save(tmp_path, {"train": 2})
    with pytest.raises(InputError, match=message):
        save(tmp_path, {"train": 2}, options=options)


def test_another_renderer_is_refused(tmp_path, monkeypatch):
    save(tmp_path, {"train": 2})
    monkeypatch.setattr(SlowScenes, "provenance", lambda self: {"painter": "toy 1.1"})
    with pytest.raises(InputError, match="was made with painter = 'toy 1', not 'toy 1.1'; go on with what it was"):
        save(tmp_path, {"train": 2})


def test_another_generator_is_refused(tmp_path):
    save(tmp_path, {"train": 2})
    with pytest.raises(InputError, match="holds slow, not shapes; name another folder"):
        save_shards("shapes", tmp_path, {"train": 2}, processes=1)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="holds something else, such as a.png; name a new or an empty folder"):
        save(tmp_path, {"train": 2})
    (tmp_path / "a.png").rename(tmp_path / ".manifest.json.ab.part")  # what a kill in the first moment leaves
    save(tmp_path, {"train": 2})
    for place in (tmp_path / "manifest.json", tmp_path / "manifest.json" / "x"):
        with pytest.raises(InputError, match="cannot make the folder .*: (Not a directory|File exists); name another"):
            save(place, {"train": 2})


def test_a_lost_manifest_is_written_again(tmp_path):
    save(tmp_path, {"train": 5})
    before = files(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(
        InputError, match="train-000000.h5 was made with another seed, options or renderer than the man"
    ):
        save(tmp_path, {"train": 5}, options={"seed": 5})
    (tmp_path / "manifest.json").unlink()
    manifest = save(tmp_path, {"train": 5})
    after = files(tmp_path)
    assert len(manifest.parts) == 2 and before.pop("manifest.json") != after.pop("manifest.json") and before == after


def test_several_machines_share_a_folder_or_copy(tmp_path):
    sizes = {"train": 18, "val": 5}
    whole = save(tmp_path / "whole", sizes)
    for i in (2, 0, 1):
        manifest = save(tmp_path / "shared", sizes, shard=f"{i}/3")
        save(tmp_path / f"own-{i}", sizes, shard=f"{i}/3")
        shutil.copytree(tmp_path / f"own-{i}", tmp_path / "copied", dirs_exist_ok=True)
    assert [p.name for p in sorted((tmp_path / "own-1" / "parts").iterdir())] == [
        *("train-000001.h5", "train-000004.h5", "val-000001.h5")
    ]
    assert manifest.parts == whole.parts  # of all machines
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole") == contents(tmp_path / "copied")
    assert save(tmp_path / "copied", sizes).parts == whole.parts


def test_a_machine_may_have_nothing_to_do(tmp_path):
    calls = []
    assert save(tmp_path, {"train": 5}, shard="3/4", progress=lambda *call: calls.append(call)).parts == {}
    assert calls == [(0, 0)]


@pytest.mark.parametrize("shard", ["4/4", "1/0", "-1/4", "one", "1", "1/2/3", ""])
def test_shards_out_of_range(tmp_path, shard):
    with pytest.raises(InputError, match=f"shard '{shard}' is out of range; of n machines number i makes i/n, 0 <= i"):
        save(tmp_path / "a", {"train": 2}, shard=shard)
    assert not (tmp_path / "a").exists() and parse_shard("3/4") == (3, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"source": "tetris"}, "there is no generator 'tetris'; choose one of tetrominoes, "),
        ({"source": "shapes/x"}, "Shapes has no option 'variant'"),
        ({"options": {"seeds": 3}}, "Tetrominoes has no option 'seeds'"),
        ({"processes": 0}, "processes is 0; drawing takes at least 1"),
        ({"sizes": {}}, "nothing to write to .*: no splits"),
        ({"sizes": {"train": -2}}, "num_scenes is -2; ask for at least 1 scene"),
    ],
)
def test_bad_arguments(tmp_path, call, message):
    with pytest.raises(InputError, match=message):
        save_shards(**{"source": "tetrominoes", "root": tmp_path / "a", "sizes": {"train": 1}} | call)
    assert not (tmp_path / "a").exists()


def test_a_folder_may_have_the_name_of_its_generator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for count in (2, 4):
        save_shards("shapes", "shapes", {"train": count}, processes=1)
    assert len(HDF5Scenes("shapes/parts/train-000000.h5")) == 4


SCRIPT = """
from toy_generators import SlowScenes
from unscene.data import open, save_shards, shards
shards.PACE, shards.MOST_SCENES = 0.0, 8  # every scene is stored when it is drawn
open.GENERATORS["slow"] = SlowScenes
if __name__ == "__main__":
    save_shards("slow", "a", {"train": 40, "test": 3}, options={"seconds": 0.1, "log": "log"}, processes=2)
"""


def test_what_was_finished_before_a_kill_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        env=os.environ | {"PYTHONPATH": str(Path(toy_generators.__file__).parent)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while sum(drawn(tmp_path / "log").values()) < 22:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    before, times, calls = files(tmp_path / "a"), drawn(tmp_path / "log"), []
    assert sum(times.values()) < 40 and any(name.startswith("unfinished") for name in before)
    options = {"seconds": 0.1, "log": "log"}
    save("a", {"train": 40, "test": 3}, options=options, progress=lambda *call: calls.append(call))
    after = files(tmp_path / "a")
    complete = {name for name in before if name.startswith("parts/") and not name.startswith("parts/.")}
    assert complete and all(after[name] == before[name] for name in complete)
    assert calls[0][0] >= 8 * len(complete) and calls[-1] == (43, 43)
    assert not any("unfinished" in name or "/." in name for name in after)
    repeated = drawn(tmp_path / "log")
    assert len(repeated) == 43 and sum(repeated.values()) - 43 <= 3  # one to measure, and those cut off
    monkeypatch.setattr(shards, "MOST_SCENES", 8)
    save("b", {"train": 40, "test": 3})
    assert [digests(path) for path in parts_of("a")] == [digests(path) for path in parts_of("b")]


def parts_of(root):
    return sorted((Path(root) / "parts").iterdir())


def digests(path):
    with h5py.File(path) as file:
        return path.name, file.attrs["pixels"], file.attrs["labels"], file.attrs["files"]


@pytest.mark.parametrize(("pace", "expected"), [(100.0, []), (0.0, ["0.h5", "1.h5", "2.h5", "4.h5", "5.h5"])])
def test_cheap_scenes_are_not_stored_one_by_one(tmp_path, monkeypatch, pace, expected):
    monkeypatch.setattr(shards, "PACE", pace)
    written, write = [], shards.write_part
    monkeypatch.setattr(shards, "write_part", lambda path, *args: written.append(path.name) or write(path, *args))
    save(tmp_path, {"train": 7})
    assert [name for name in written if not name.startswith("train")] == expected
    assert len(written) - len(expected) == 2


def test_a_full_disk_ends_in_one_sentence(tmp_path):
    script = """
import resource
from unscene.data import save_shards
from unscene.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_shards("multi_dsprites", "a", {"train": 40}, processes=1)
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("cannot write a/parts/train-000000.h5: File too large; make room") and not done.stderr
    assert sorted(path.name for path in (tmp_path / "a").rglob("*")) == ["manifest.json", "parts"]


def test_leftovers_of_a_kill_go(tmp_path):
    save(tmp_path, {"train": 2})
    (tmp_path / "parts" / "train-000000.h5").unlink()
    left = [tmp_path / "parts" / ".train-000000.h5.0a.part", tmp_path / "notes" / ".train-1.txt.0b.part"]
    other = tmp_path / "parts" / ".train-000001.h5.0a.part"  # another machine is writing that
    for path in (*left, other):
        path.touch()
    save(tmp_path, {"train": 2})
    assert not any(path.exists() for path in left) and other.exists()
