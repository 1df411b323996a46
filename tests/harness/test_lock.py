"""One driver to a folder, one worker to a trial."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness import lock
from harness.lock import LOCK, Locked, driving, holder, marked, orphans, outlast_orphans, training

HOLD = """
import sys, time
from pathlib import Path
from harness.lock import driving
with driving(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

FORK = """
import os, sys, time
from pathlib import Path
from harness.lock import driving
with driving(Path(sys.argv[1])):
    if os.fork() == 0:
        os.close(1)
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def written(folder: Path, **changes: Any) -> None:
    """A lock as a living driver has it, but for the changes; without the kernel's lock."""
    me = {"pid": os.getpid(), "boot": lock._boot(), "born": lock._born(os.getpid()), "host": "here", "since": 0.0}
    (folder / LOCK).write_text(json.dumps({**me, **changes}))


def test_a_folder_that_is_driven_is_refused_with_who_drives_it(tmp_path: Path) -> None:
    with another(HOLD, str(tmp_path)) as process:
        with pytest.raises(Locked, match=rf"driven by process {process.pid} on .*harness stop"), driving(tmp_path):
            pass
        found = holder(tmp_path)
        assert found
        assert found.pid == process.pid


def test_a_driver_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    with another(HOLD, str(tmp_path)) as process:
        process.kill()  # and not waited for: a dead process that is still in the table holds nothing
        until = time.monotonic() + 10
        while holder(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        with driving(tmp_path):
            found = holder(tmp_path)
            assert found
            assert found.pid == os.getpid()


def test_a_lock_is_given_back_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with driving(tmp_path):
            assert holder(tmp_path)
        assert holder(tmp_path) is None
    assert (tmp_path / LOCK).read_text() == ""


@pytest.mark.parametrize(
    "changes", [{"pid": 2**22 + 1}, {"born": 1.0}, {"boot": "another"}], ids=["dead", "reused pid", "other boot"]
)
def test_a_stale_lock_is_recognised_and_taken_over(tmp_path: Path, changes: dict[str, Any]) -> None:
    written(tmp_path, **changes)
    assert holder(tmp_path) is None
    with driving(tmp_path):
        assert holder(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\x00\x00"])
def test_a_lock_that_was_cut_while_it_was_written_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    assert holder(tmp_path) is None
    with driving(tmp_path):
        assert holder(tmp_path)


def test_a_living_driver_is_believed_where_the_file_system_forgot_its_lock(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(Locked, match=f"process {os.getpid()}"), driving(tmp_path):
        pass


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    with another(FORK, str(tmp_path), "5") as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with driving(tmp_path):
            assert holder(tmp_path)


def test_a_folder_may_be_renamed_while_it_is_driven(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with driving(tmp_path / "new"):
        (tmp_path / "new").rename(tmp_path / "named")
        with pytest.raises(Locked), driving(tmp_path / "named"):
            pass
    assert (tmp_path / "named" / LOCK).read_text() == ""


def test_two_workers_of_a_trial_wait_for_each_other(tmp_path: Path) -> None:
    log, order = tmp_path / "logs" / "key.txt", []

    def second() -> None:
        with training(log):
            order.append("second")

    with training(log):
        with pytest.raises(Locked, match=r"another process still trains"), training(log, patience=0):
            pass
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_what_a_dead_driver_left_running_is_waited_for_and_then_ended(tmp_path: Path) -> None:
    with marked(tmp_path):
        left, stubborn = subprocess.Popen(["sleep", "60"]), subprocess.Popen(["sleep", "60"])
    other = subprocess.Popen(["sleep", "60"])
    try:
        until = time.monotonic() + 10  # the kernel shows a process a moment before its environment
        while len(orphans(tmp_path)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert sorted(orphans(tmp_path)) == sorted([left.pid, stubborn.pid])
        threading.Timer(0.5, left.terminate).start()
        outlast_orphans(tmp_path, patience=3)
        assert left.wait(5) == -signal.SIGTERM, "it was waited for"
        assert stubborn.wait(5) == -signal.SIGKILL, "it was not waited for without end"
        assert other.poll() is None, "what is not the sweep's is left alone"
        assert orphans(tmp_path) == []
    finally:
        for process in (left, stubborn, other):
            process.kill()
            process.wait()
