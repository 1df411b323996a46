"""Following a sweep while it is written."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.ledger import Ledger
from reports import LoadError, watch

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, write_sweep


@pytest.fixture
def running(tmp_path):
    """A sweep of which nothing has begun yet."""
    ends = {(0, seed): "waiting" for seed in range(2)}
    folder = write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(flat(70.0), epochs=2, ends=ends)}, seeds=(0, 1))
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        ledger._execute("DELETE FROM events WHERE kind = 'sweep_finished'")
    return folder


def go_on(folder, pause):
    """What a driver writes: trials one after the other, then the end."""
    with Ledger(folder / "ledger.db") as ledger:
        for trial in ledger.trials():
            time.sleep(pause)
            ledger.add_event("started", trial.key, attempt=1, epoch=0)
            ledger.add_epoch(trial.key, 1, {"val/shot1": 60.0}, {"seconds": 0.1})
            ledger.add_event("finished", trial.key, test={"test/shot1": 61.0}, info={})
        time.sleep(pause)
        ledger.add_event("sweep_finished")


def test_the_report_follows_a_ledger_that_is_being_written_and_ends_with_it(running):
    seen = []
    writer = threading.Thread(target=go_on, args=(running, 1.0))
    writer.start()
    last = watch(running, every=0.05, told=lambda report: seen.append((report.states, page(report))))
    writer.join()
    assert seen[0][0] == {"waiting": 2}
    assert last.states == {"trained": 2}
    assert len(seen) >= 2
    assert all('http-equiv="refresh"' in text for _, text in seen[:-1])
    assert 'http-equiv="refresh"' not in page(last)


def page(report):
    return report.html.read_text()


def test_a_ledger_that_does_not_change_is_not_read_again(running, monkeypatch):
    builds, asked = [], iter([True, True, True, True, False, False])
    watch(running, every=0.01, driven=lambda: next(asked, False), told=builds.append)
    assert len(builds) == 2  # the first, and the one that says that nobody writes any more


def test_a_finished_sweep_is_built_once(tmp_path):
    builds = []
    watch(write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(flat(70.0))}), told=builds.append)
    assert len(builds) == 1


def test_a_folder_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(LoadError, match=r"no ledger\.db"):
        watch(tmp_path)


def test_ctrl_c_ends_it_cleanly_and_the_page_stops_loading_itself(running):
    code = (
        # as at a terminal: what a shell starts in the background ignores Ctrl-C, and so do its children
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from reports import watch\n"
        "watch(sys.argv[1], every=0.2, told=lambda report: print('built', flush=True)); print('ended')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, running], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout.readline() == "built\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert said.endswith("ended\n")
    assert process.returncode == 0
    assert not re.search("http-equiv=.refresh", (running / "report" / "index.html").read_text())
