import sys

from unscene import progress as module
from unscene.progress import Countdown, progress


def count_down(monkeypatch, calls, total):
    """Tell a countdown ``done`` at each time of {done: time}."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    countdown = Countdown("drawing:")
    for done, clock in calls.items():
        monkeypatch.setattr(module, "monotonic", lambda clock=clock: clock)
        countdown(done, total)


def test_a_terminal_shows_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for state in (("train", 1, 2), ("train", 2, 2), (7, None)):
        progress(*state)
    assert capsys.readouterr().err == "\r train 1/2\r train 2/2\n\r 7"


def test_other_outputs_stay_clean(capsys):
    progress("train", 1, 2)
    Countdown("drawing:")(1, 2)
    assert capsys.readouterr().err == ""


def test_a_countdown_tells_the_time_left(capsys, monkeypatch):
    count_down(monkeypatch, {10: 100.0, 20: 130.0, 100: 3730.0}, 100)  # ten were there before; ten more take 30 s
    shown = [line.rstrip() for line in capsys.readouterr().err.split("\r")]
    assert shown == ["", " drawing: 10/100", " drawing: 20/100 0:04:00 left", " drawing: 100/100 in 1:00:30"]


def test_a_shorter_line_covers_a_longer_one(capsys, monkeypatch):
    count_down(monkeypatch, {0: 0.0, 1: 90_000.0, 900: 100_000.0}, 1000)
    _, _, long, short = capsys.readouterr().err.split("\r")
    assert long.startswith(" drawing: 1/1000 1040 days, ") and len(short) >= len(long.rstrip())


def test_what_is_complete_from_the_start_has_no_speed(capsys, monkeypatch):
    count_down(monkeypatch, {5: 7.0}, 5)
    assert capsys.readouterr().err.rstrip() == "\r drawing: 5/5 in 0:00:00"
