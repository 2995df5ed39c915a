"""What one step frees is kept for the next."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from unscene.training.memory import keep_freed_memory

def step():
    blocks = [torch.zeros(6 * 2**20) for _ in range(4)]  # 24 MiB each: together beyond what glibc keeps

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

step()
by_default = faults()
assert keep_freed_memory()
step()
print(by_default, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_steps_need_no_new_pages():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    by_default, kept = map(int, done.stdout.split())
    assert by_default > 1000 and kept < by_default / 20
