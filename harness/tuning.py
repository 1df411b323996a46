"""Ray Tune, made to follow a Search and to tell a Listener.

Tune asks the `Asker` for trials and shows every result first to the `Hearer`, which is a stopper: before schedulers,
callbacks and searchers see a result, the ledger has it and our own search has said whether the trial goes on.
The `Undertaker` hears of actors that died. Tune counts a death twice where it had just reused the actor; so for Tune
the first death ends a trial, and ours begins anew as another of its trials.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.search import Searcher

from harness.attempt import Cramped, Listener, NodesLost, Order, hear, reached
from harness.queues import Queues
from harness.search import Search
from harness.trainable import MESSAGE, ORDER, SHAPE

if TYPE_CHECKING:
    from harness.pool import Shape
    from harness.trials import TrialSpec


@dataclass
class Sweep:
    """What the three adapters share. All of them are called by the one thread that runs Tune's loop."""

    search: Search
    queues: Queues  # of what the search suggests
    listener: Listener
    order: Callable[[TrialSpec, Shape], Order]
    larger: Callable[[TrialSpec, float], Shape]  # of a trial that asks for so much of a GPU
    stop: Callable[[], str | None]
    trials: dict[str, TrialSpec] = field(default_factory=dict)  # Tune's id → trial
    epochs: Counter[str] = field(default_factory=Counter)  # key → the furthest epoch that was heard of
    error: BaseException | None = None  # the first one; Tune would wrap it in text, so it is kept and raised afterwards

    @contextmanager
    def keeping_the_error(self) -> Iterator[None]:
        """An error on the driver's side (the ledger's disk is full) stops the sweep, and later ones add nothing."""
        try:
            yield
        except Exception as error:  # raised again by RayExecutor.run, once Tune has stopped its actors
            self.error = self.error or error

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its adapters into snapshots that nobody restores; a ledger has no place in them

    @property
    def over(self) -> bool:
        return self.error is not None or self.stop() is not None


class Asker(Searcher):
    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self._sweep = sweep

    def suggest(self, trial_id: str) -> Any:  # a config, FINISHED, or None: nothing now
        with self._sweep.keeping_the_error():
            chosen = None if self._sweep.over else self._sweep.queues.next()
            if chosen is not None:
                trial, shape = chosen
                self._sweep.trials[trial_id] = trial
                return {
                    ORDER: json.dumps(asdict(self._sweep.order(trial, shape))),
                    SHAPE: json.dumps(asdict(shape), sort_keys=True),
                }
        return Searcher.FINISHED if self._sweep.over or self._sweep.queues.exhausted else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error:  # of an error the Undertaker hears next, who knows whether the trial begins anew
            self._sweep.queues.ended(self._sweep.trials[trial_id])

    def save(self, checkpoint_path: str) -> None:
        pass  # Tune's snapshots are never restored: the ledger is replayed into a fresh search


class Hearer(tune.Stopper):
    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        with self._sweep.keeping_the_error():
            trial, message = self._sweep.trials[trial_id], result[MESSAGE]
            if isinstance(message, Cramped):
                self._sweep.queues.again(trial, self._sweep.larger(trial, message.gpus))
            self._sweep.epochs[trial.key] = max(self._sweep.epochs[trial.key], reached(message))
            return not self._sweep.over and hear(trial, message, self._sweep.search, self._sweep.listener)
        return True

    def stop_all(self) -> bool:
        return self._sweep.over


class Undertaker(tune.Callback):
    def __init__(self, sweep: Sweep) -> None:
        self._sweep, self._looked = sweep, time.monotonic()
        self._deaths: Counter[tuple[str, int]] = Counter()  # key, epochs that were there → deaths

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Without nodes Tune would wait for ever: of a raylet that was killed the driver does not always hear."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        with self._sweep.keeping_the_error():
            if not any(node["Alive"] for node in ray.nodes()):
                raise NodesLost("no node of Ray is alive any more")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._sweep.keeping_the_error():
            ours, reason = self._sweep.trials[trial.trial_id], f"the worker died: {_cause(trial)}"
            progress = ours.key, self._sweep.epochs[ours.key]
            self._deaths[progress] += 1
            if self._deaths[progress] < _HOPELESS:
                self._sweep.listener.ended(ours, "interrupted", {"reason": reason})
                self._sweep.queues.again(ours)
            else:
                self._sweep.listener.ended(ours, "failed", {"traceback": reason})
                self._sweep.search.ended(ours, "failed")
            self._sweep.queues.ended(ours)


_HOPELESS = 3  # deaths of its workers without a new epoch between them end a trial
_LOOK = 5.0  # seconds between two looks at the nodes


def _cause(trial: Any) -> str:
    """What Ray says of the latest death of the trial's actor."""
    if not trial.error_file or not Path(trial.error_file).is_file():
        return "Ray gives no reason"
    return Path(trial.error_file).read_text().rpartition("Failure # ")[2].partition("\n")[2].strip()
