"""fitnets/training/memory.py: an update uses again what the one before freed."""

import subprocess
import sys
from pathlib import Path

import pytest

# Page faults of the later updates: tensors of 40 MB, made and freed as activations are. (glibc left to itself keeps
# smaller ones at times, as they happen to lie.)
FAULTS = """
import resource, sys, torch
if sys.argv[1] == "kept":
    from fitnets.training.memory import keep_freed_memory
    keep_freed_memory()
def update():
    tensors = [torch.ones(10_000_000) for _ in range(4)]
for _ in range(10):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_an_update_does_not_fetch_its_memory_again() -> None:
    def faults(how: str) -> int:
        words = [sys.executable, "-c", FAULTS, how]
        answer = subprocess.run(words, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
        return int(answer.stdout)

    assert 4 * faults("kept") < faults("as it is")
