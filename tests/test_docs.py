"""What README and the documentation show: their Python runs, their commands parse.

A block that begins with `# NAME` and an extension is a file, which the other blocks of its page find beside them.
`<!-- not run -->` on the line before a block leaves it out.
"""

import re
import shlex
from pathlib import Path

import pytest

from unscene import cli
from unscene.commands import parser, train
from unscene.training.run import RunFolder

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.\w+)\n")


def blocks(page, language):
    """[(line, text)] of the blocks to test, but not those that are files."""
    text = page.read_text()
    found = [m for m in BLOCK.finditer(text) if m[2] == language and not m[1] and not FILE.match(m[3])]
    return [(text.count("\n", 0, m.start(3)), m[3]) for m in found]


def commands(page):
    """The words behind `unscene` of every command line."""
    lines = "".join(text for _, text in blocks(page, "sh")).replace("\\\n", "").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("unscene") + 1 :] for line in words if "unscene" in line]


@pytest.fixture
def files(request, tmp_path, monkeypatch):
    """A working directory with the files of the page."""
    for _, _, text in BLOCK.findall(request.getfixturevalue("page").read_text()):
        if name := FILE.match(text):
            (tmp_path / name[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name)
def test_python_runs(page, files):
    names = {"__name__": "page"}
    for line, text in blocks(page, "python"):
        exec(compile("\n" * line + text, page, "exec"), names)  # line numbers of tracebacks are those of the page


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: page.name)
def test_commands_parse(page, files, monkeypatch, capsys):
    monkeypatch.setattr(parser, "call_verb", lambda *_: None)
    monkeypatch.setattr(train, "run", lambda *_: RunFolder(Path()))
    for words in commands(page):
        try:
            status = cli.main(words)
        except SystemExit as stop:  # --help and --print_config
            status = stop.code
        assert status == 0, f"unscene {shlex.join(words)}\n{capsys.readouterr().err}"
