import sys

from unscene.progress import progress


def test_a_terminal_shows_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for state in (("train", 1, 2), ("train", 2, 2), (7, None)):
        progress(*state)
    assert capsys.readouterr().err == "\r train 1/2\r train 2/2\n\r 7"


def test_other_outputs_stay_clean(capsys):
    progress("train", 1, 2)
    assert capsys.readouterr().err == ""
