"""How a process is set up to be quick."""

import platform
import resource

import pytest
import torch

from distill import runtime


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_the_memory_of_a_large_tensor_is_used_again() -> None:
    """Harm: the system clears the pages of each activation anew, which took a third of an embedding's time."""
    runtime.keep_memory()
    faults = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(50_000_000)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[-1] < 200  # of 49,000 pages
