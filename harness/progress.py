"""The live line of a sweep: rewritten in place on a terminal, one line every ten seconds elsewhere."""

import sys
import time
from collections import Counter
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.ledger import ENDED

_EVERY = 10.0  # seconds between lines where there is no terminal


class Progress:
    """Told by the recorder of what happens; `line()` is what a reader sees."""

    def __init__(self, trials: int, epochs: int, console: Console | None = None) -> None:
        # a stream of our own: what trials print goes to their logs while they run in this process
        self._console = console or Console(file=sys.stderr)
        self._trials, self._epochs = trials, epochs
        self._began = self._shown = time.monotonic()
        self._states: dict[str, str] = {}
        self._trained: Counter[str] = Counter()  # epochs per trial
        self._done_before = 0  # epochs that a checkpoint brought along
        self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self._text, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        self._console.print(self._text(), soft_wrap=True)

    def started(self, key: str, restored: int) -> None:
        self._states[key] = "running"
        self._done_before += max(0, restored - self._trained[key])
        self._trained[key] = max(restored, self._trained[key])
        self._maybe_show()

    def epoch(self, key: str, epoch: int) -> None:
        self._trained[key] = max(epoch, self._trained[key])
        self._maybe_show()

    def ended(self, key: str, state: str, length: int) -> None:
        self._states[key] = state
        if state in ENDED:
            self._epochs -= length - self._trained[key]  # what it will not train any more
        self._maybe_show()

    def say(self, message: str) -> None:
        """Something for the user, above the line."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        count = Counter(self._states.values())
        trained, elapsed = sum(self._trained.values()), time.monotonic() - self._began
        fresh = trained - self._done_before
        left = f"{duration(elapsed / fresh * (self._epochs - trained))} left" if fresh > 0 else "time left unknown"
        parts = [
            f"{sum(count[state] for state in ENDED)}/{self._trials} trials done",
            f"{count['running']} running",
            *(f"{count[state]} {state}" for state in ("pruned", "diverged", "failed") if count[state]),
            f"epoch {trained}/{self._epochs}",
            f"{duration(elapsed)} elapsed",
            left,
        ]
        return " · ".join(parts)

    def _text(self) -> Text:
        return Text(self.line())

    def _maybe_show(self) -> None:
        if not self._console.is_terminal and time.monotonic() - self._shown >= _EVERY:
            self._shown = time.monotonic()
            self._console.print(self._text(), soft_wrap=True)


def duration(seconds: float) -> str:
    """0:07, 12:30, 3:05:00."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
