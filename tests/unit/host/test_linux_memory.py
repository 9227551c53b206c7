# SPDX-License-Identifier: Apache-2.0
"""Freed memory goes back to the kernel, although small things beside it live on."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import threading
from pathlib import Path
from metropolis.host.linux.memory import LARGE_BYTES, give_memory_back

def resident_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

def work():
    first = bytearray(2 * LARGE_BYTES)
    del first  # from now on the C library would keep buffers of this size in its heap
    before = resident_kib()
    # Small things that fit into no hole which imports left: they lie between the buffers.
    buffers = [(bytearray(2 * LARGE_BYTES), bytearray(8 << 10)) for _ in range(100)]
    small = [pair[1] for pair in buffers]
    del buffers
    print(resident_kib() - before)

if sys.argv[1] == "given back":
    assert give_memory_back()
# A thread has a heap of its own. The first heap cannot always grow: it begins where chance has it.
worker = threading.Thread(target=work)
worker.start()
worker.join()
"""


@pytest.mark.parametrize("how", ["given back", "kept"])
def test_freed_buffers_are_given_back(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
    )
    kept_kib = int(done.stdout)
    assert (kept_kib < 5_000) is (how == "given back")


FAULTS = """
import resource, sys
from metropolis.host.linux.memory import keep_memory

if sys.argv[1] == "kept":
    assert keep_memory()
for _ in range(100):
    buffers = [bytearray(3 << 20) for _ in range(3)]
    del buffers
    if _ == 9:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize("how", ["kept", "as usual"])
def test_buffers_that_come_and_go_are_taken_from_the_kernel_once(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) < 1_000) is (how == "kept")
