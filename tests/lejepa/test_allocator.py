"""What glibc does with the memory of tensors that are gone."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

MEASURED = """
import resource
import psutil
import torch
from lejepa.allocator import give_back, keep

SIZE = 48 << 20

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    before = faults()
    torch.ones(SIZE, dtype=torch.uint8)
    return faults() - before

{first}
for _ in range(12):
    use()  # an aligned block may need a few bytes more than the one that was freed
again = use()
kept = psutil.Process().memory_info().rss
give_back()
print(again, kept - psutil.Process().memory_info().rss)
"""


def measured(first: str) -> tuple[int, int]:
    """Page faults of a tensor whose like has just been freed, and the bytes that `give_back` then gives back."""
    script = [sys.executable, "-c", MEASURED.format(first=first)]
    faults, bytes_ = subprocess.run(script, check=True, capture_output=True, text=True, timeout=120).stdout.split()
    return int(faults), int(bytes_)


def test_what_is_kept_is_used_again_without_a_page_fault_and_can_be_given_back() -> None:
    pages = (48 << 20) // (2 << 20)  # at least: of 2 MB, where the system has huge ones
    faults, given_back = measured("keep()")
    assert faults < pages
    assert given_back > 40 << 20


def test_without_it_every_large_tensor_is_asked_of_the_system_anew() -> None:
    assert measured("")[0] >= (48 << 20) // (2 << 20)
