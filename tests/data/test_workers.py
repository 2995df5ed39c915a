"""Several processes for one list of jobs: all is done once, and nothing goes on when one of them cannot."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import toy_work
from unscene.data.workers import run_jobs
from unscene.errors import InputError


def test_every_job_is_done_once_by_processes_of_one_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("LP_NUM_THREADS", raising=False)
    reports, handler = [], signal.getsignal(signal.SIGINT)
    run_jobs(toy_work.log, [(str(tmp_path), i) for i in range(20)], 2, reports.append)
    done = {int(path.name): path.read_text().split() for path in tmp_path.iterdir()}
    assert done.keys() == set(range(20)) and sum(reports) == 40
    pids, threads = zip(*done.values(), strict=True)
    assert str(os.getpid()) not in pids and set(threads) == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7" and "LP_NUM_THREADS" not in os.environ
    assert signal.getsignal(signal.SIGINT) is handler
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("jobs", "processes"), [(3, 1), (1, 8)])
def test_one_process_is_this_one(tmp_path, jobs, processes):
    reports = []
    run_jobs(toy_work.log, [(str(tmp_path), i) for i in range(jobs)], processes, reports.append)
    assert [path.read_text().split()[0] for path in tmp_path.iterdir()] == [str(os.getpid())] * jobs
    assert reports == [2] * jobs


def test_no_jobs():
    run_jobs(toy_work.fail, [], 4, print)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("refused", InputError, "^the disk is full$"),
        ("defect", RuntimeError, "toy_work.py(.|\n)*ZeroDivisionError: a defect"),
        ("killed", InputError, "a process that was drawing died .exit code -9., perhaps for want of memory; try again"),
    ],
)
def test_a_failure_ends_all(kind, error, message):
    start = time.monotonic()
    with pytest.raises(error, match=message):
        run_jobs(toy_work.fail, ["long", "long", kind], 3, print)
    assert time.monotonic() - start < 60 and multiprocessing.active_children() == []


def lingering(folder):
    """A process whose two workers have begun to work; they would last for minutes."""
    script = """
import signal, toy_work
from unscene.data.workers import run_jobs
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs inherit as ignored
    run_jobs(toy_work.linger, [0, 1], 2, print)
"""
    (folder / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(toy_work.__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(list(folder.glob("begun-*"))) == 2)
    return process


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_ends_all_quietly(tmp_path):
    process = lingering(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    complaint = process.communicate(timeout=60)[1]
    assert complaint.count("Traceback") == 1 and complaint.rstrip().endswith("KeyboardInterrupt")  # the parent's
    assert len(list(tmp_path.glob("stopped-*"))) == 2


def test_workers_end_when_their_parent_is_killed(tmp_path):
    process = lingering(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: len(list(tmp_path.glob("stopped-*"))) == 2)
