import errno

import pytest

from unscene.errors import InputError
from unscene.files import remove_leftovers, replacing, write_json


def test_the_file_appears_whole(tmp_path):
    path = tmp_path / "a.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists() and temporary.parent == tmp_path
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_folder_replaces_the_one_before(tmp_path):
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [file.name for file in path.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_failure_changes_nothing(tmp_path, as_folder):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail_halfway():
        with replacing(path) as temporary:
            if as_folder:
                temporary.mkdir()
            (temporary / "part" if as_folder else temporary).write_bytes(b"half")
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        fail_halfway()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_processes_can_be_removed(tmp_path):
    (tmp_path / "kept").touch()
    for _ in range(2):
        writing = replacing(tmp_path / "a.bin")
        writing.__enter__().mkdir()  # never left
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def write(path, error=None):
    with replacing(path) as temporary:
        temporary.write_bytes(b"half")
        if error is not None:
            raise error


def test_what_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot write .*a.bin: No space left on device; make room or name another"):
        write(tmp_path / "a.bin", OSError(errno.ENOSPC, "No space left on device"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write .*a.bin: (Not a directory|File exists)"):
        write(tmp_path / "file" / "a.bin")
    (tmp_path / "taken" / "x").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot write .*taken: Is a directory"):
        write(tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file", "source.png"), OSError("defect"), BrokenPipeError()]
)
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)) as raised:
        write(tmp_path / "a.bin", error)
    assert raised.value is error and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [object(), float("nan")])
def test_only_json_is_written(tmp_path, content):
    with pytest.raises((TypeError, ValueError), match="JSON"):
        write_json({"a": content}, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []
