"""Functions as verbs, and complaints as one sentence."""

from pathlib import Path

import pytest

from unscene.commands.parser import Group, Parser, add_verbs, call_verb, one_sentence
from unscene.errors import InputError

CALLS = []


def paint(
    canvas: str,
    colours: list[str],
    *,
    size: int | None = 3,
    at: list[float] | None = None,
    out: Path = Path("x"),
    more: dict[str, int] | None = None,
) -> None:
    """Paint something.

    Args:
        canvas: what to paint on.
        colours: at least one.
        size: of the brush.
        at: place.
        out: file.
        more: anything.
    """
    CALLS.append((canvas, colours, size, at, out, more))


def wash() -> None:
    """Wash the brushes."""
    CALLS.append("wash")


def run(*args):
    verbs = {"paint": paint, "after": Group("Clean up.", {"wash": wash})}
    parser = Parser(prog="studio")
    add_verbs(parser, verbs)
    CALLS.clear()
    call_verb(verbs, parser.parse_args(list(args)))
    return CALLS[0]


def test_arguments_reach_the_function():
    assert run("paint", "wall", "red") == ("wall", ["red"], 3, None, Path("x"), None)
    given = run("paint", "wall", "red", "blue", "--size", "null", "--at", "-1.5", "2", "--out", "a/b", "--more.x", "4")
    assert given == ("wall", ["red", "blue"], None, [-1.5, 2.0], Path("a/b"), {"x": 4})
    assert run("after", "wash") == "wash"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["paint", "wall", "red", "--siz", "4"], "unrecognized arguments: --siz 4"),  # no abbreviations
        (["paint", "wall", "red", "--size", "big"], "^size: expected int found big$"),
        (["paint", "wall", "red", "--at", "1", "here"], "^at: expected float. Got value: here$"),
        (["paint"], "the following arguments are required: canvas, colours$"),
        (["pant"], "invalid choice: 'pant'"),
        (["after"], 'expected "after.verb" to be one of {wash}'),
    ],
)
def test_mistakes_are_named(args, message):
    with pytest.raises(InputError, match=message):
        run(*args)


def test_help_tells_parameters_and_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        run("paint", "--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Paint something. positional arguments: canvas what to paint on." in text
    assert "colours at least one. (required, type: str)" in text
    assert "of the brush. (type: int | null, default: 3)" in text
    assert "file. (type: Path, default: x)" in text


def test_help_lists_verbs_and_groups(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "paint Paint something. after Clean up." in text


def test_reports_of_jsonargparse_become_one_line():
    report = """Parser key "model":
  Problem with given class_path 'toy.Toy':
    Option 'num_slot' is not accepted"""
    assert one_sentence(report) == "model: Problem with given class_path 'toy.Toy': Option 'num_slot' is not accepted"
