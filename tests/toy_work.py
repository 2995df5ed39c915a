"""Work for other processes, which can import it by its name."""

import os
import signal
import time
from pathlib import Path

from unscene.errors import InputError


def log(job, report):
    """Say in the folder ``job[0]`` who did job ``job[1]``, and how many threads it may have."""
    folder, name = job
    time.sleep(0.05)
    (Path(folder) / str(name)).write_text(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")
    report(2)


def fail(job, report):
    """The job "bad" fails in its way, the others would last for minutes."""
    if job == "refused":
        raise InputError("the disk is full")
    if job == "defect":
        raise ZeroDivisionError("a defect")
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(300)


def linger(job, report):
    """Say that the job has begun, and last for minutes; say so too if it is told to stop."""
    try:
        Path(f"begun-{job}").touch()
        time.sleep(300)
    finally:
        Path(f"stopped-{job}").touch()
