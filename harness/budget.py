"""What a sweep has used of its budget, and a search that is held to it.

Everything is charged, arm by arm: trials that were pruned, failed or diverged, and epochs that were trained again.
Arms take turns: the next trial is of the arm that has used least, so that what is not spent on one arm is there for
the others, and none starves. What the confirmation of searched cells will take is set aside from the beginning.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.confirm import confirmation
from harness.folder import DRIVER_DIED
from harness.ledger import ENDED, EventRow, Ledger
from harness.pool import placement
from harness.record import once, recorded

if TYPE_CHECKING:
    from harness.adaptive import Adaptive
    from harness.spec import Pool, SweepSpec
    from harness.trials import TrialSpec
    from lejepa.config import DataConfig, TrainConfig
    from lejepa.trainer import EpochReport

EVENT = "budget_spent"
NEVER_REPEAT = ("device_seconds", "wall_clock")  # limits in time stop another trial each time that a sweep is run

_SAID = ("started", "interrupted", "finished", "pruned", "diverged", "failed", "sweep_interrupted", "sweep_finished")

_ENDS = {*ENDED, "interrupted"}

Images = Callable[["TrainConfig"], int]  # config → training images of an epoch


class Purse:
    """The budget of a sweep, less what its ledger says is used.

    A trial that starts reserves its full price and gives back what it did not use, so budgets of trials, epochs and
    images are never exceeded. The price in device-seconds is estimated from the epochs that the arm has trained, and
    nothing starts when the wall clock has come to its limit: what runs then is trained to its end.
    """

    def __init__(
        self, spec: SweepSpec, ledger: Ledger, images: Images | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        limits = spec.budget.model_dump() if spec.budget else {}
        self.limits: dict[str, float] = {name: limit for name, limit in limits.items() if limit is not None}
        self.refused: dict[str, str] = {}  # key of a trial that may not start → the limit that forbids it
        self.arms: dict[str, Counter[str]] = {arm: Counter() for arm in spec.arms}  # arm → what it has used
        self._images = (images or images_per_epoch) if "images" in self.limits else lambda config: 0
        self._pools = placement(spec)
        self._clock, self._began, self._before = clock, clock(), driven(ledger)
        self._trained: Counter[str] = Counter()  # key → epochs
        self._begun: set[str] = set()
        self._granted: dict[str, list[tuple[float, float]]] = defaultdict(list)  # key → its attempts' begin and GPUs
        self._running: dict[str, tuple[TrialSpec, float | None]] = {}  # key → when it was last heard of
        self._confirmed: dict[str, Counter[str]] = {arm: Counter() for arm in spec.arms}  # used by confirmations
        self._confirmation = self._price_confirmation(spec)
        self._replay(ledger)

    # -- asked by searches --------------------------------------------------------------------------------------------

    def start(self, trial: TrialSpec) -> bool:
        """Whether a trial may start; then its price is reserved."""
        self.refused.pop(trial.key, None)
        for name, limit in self.limits.items():
            aside = 0.0 if trial.purpose == "confirm" else self._aside(name)
            price = self._price(trial, name)
            if self.used(name) + self._reserved(name) + aside + price > limit or (
                name in NEVER_REPEAT and self.used(name) + aside >= limit
            ):
                self.refused[trial.key] = name
                return False
        self._begin(trial)
        self._running[trial.key] = trial, None  # it may wait for its place
        return True

    def began(self, trial: TrialSpec, gpus: float = 0.0) -> None:
        """An attempt has its place. What one before it began and did not end is charged.

        gpus: that it was granted, where memory decides that; 0: those of its pool.
        """
        self.interrupted(trial)
        self._running[trial.key] = trial, self._clock()
        self._granted[trial.key].append((self._clock(), gpus))

    def observe(self, trial: TrialSpec, report: EpochReport) -> None:
        """Charge an epoch that a trial has trained."""
        self._charge(trial, 1, report.timing.get("seconds", 0.0))
        self._trained[trial.key] += 1
        if trial.key in self._running:
            self._running[trial.key] = trial, self._clock()

    def again(self, trial: TrialSpec, report: EpochReport) -> None:
        """Charge an epoch that the ledger had and that was trained again."""
        self._charge(trial, 1, report.timing.get("seconds", 0.0))

    def interrupted(self, trial: TrialSpec) -> None:
        """Charge by the clock what an attempt began and did not end; the trial keeps what is reserved for it."""
        _, heard = self._running.get(trial.key, (trial, None))
        if heard is not None:
            self._charge(trial, 0, self._clock() - heard)
            self._running[trial.key] = trial, None

    def ended(self, trial: TrialSpec, state: str) -> None:
        """Give back what a trial has not used. What it began and did not end is charged by the clock."""
        self.refused.clear()  # who was refused may ask again
        _, heard = self._running.pop(trial.key, (trial, None))
        if state in ("failed", "diverged") and heard is not None:
            self._charge(trial, 0, self._clock() - heard)

    @property
    def idle(self) -> bool:
        """Nothing runs that could give anything back."""
        return not self._running

    def used(self, name: str) -> float:
        if name == "wall_clock":
            return self._before + self._clock() - self._began
        return sum(used[name] for used in self.arms.values())

    def share(self, arm: str) -> float:
        """Of the limit that the arm has come nearest to, what it has used and reserved."""
        reserved = [trial for trial, _ in self._running.values() if trial.arm == arm]
        shares = [0.0]
        for name, limit in self.limits.items():
            by = "device_seconds" if name == "wall_clock" else name  # nothing else tells arms apart in time
            held = sum(self._price(trial, by) for trial in reserved)
            shares.append((self.arms[arm][by] + held) / limit)
        return max(shares)

    def told(self) -> dict[str, Any]:
        """Payload of the event that says what has ended the sweep before its plan was done."""
        name = Counter(self.refused.values()).most_common(1)[0][0]
        return {
            "budget": name,
            "limit": self.limits[name],
            "used": self.used(name),
            "repeats": name not in NEVER_REPEAT,
            "arms": {arm: dict(used) for arm, used in self.arms.items()},
        }

    # -- prices -------------------------------------------------------------------------------------------------------

    def _price(self, trial: TrialSpec, name: str) -> float:
        epochs = max(0, trial.length - self._trained[trial.key])
        match name:
            case "trials":
                return trial.key not in self._begun
            case "epochs":
                return epochs
            case "images":
                return epochs * self._images(trial.config)
            case "device_seconds":
                return epochs * self._rate(trial.arm)
        return 0.0

    def _reserved(self, name: str) -> float:
        return sum(self._price(trial, name) for trial, _ in self._running.values())

    def _rate(self, arm: str) -> float:
        """Device-seconds of an epoch: of the arm so far, else of all arms, else nothing is known."""
        for used in (self.arms[arm], sum(self.arms.values(), Counter())):
            if used["epochs"]:
                return float(used["device_seconds"] / used["epochs"])
        return 0.0

    def _aside(self, name: str) -> float:
        """What is kept for confirmations that have not been trained yet."""
        total = 0.0
        for arm, planned in self._confirmation.items():
            epochs = max(0, planned["epochs"] - self._confirmed[arm]["epochs"])
            match name:
                case "device_seconds":
                    total += epochs * self._rate(arm)
                case "wall_clock":
                    fewest = min(devices(pool) for pool in self._pools.pools.values())
                    total += epochs * self._rate(arm) / fewest / self._pools.most
                case _:
                    total += max(0, planned[name] - self._confirmed[arm][name])
        return total

    def _price_confirmation(self, spec: SweepSpec) -> dict[str, Counter[str]]:
        planned: dict[str, Counter[str]] = {arm: Counter() for arm in spec.arms}
        for arm, config, trials in confirmation(spec):
            epochs = trials * config.length
            planned[arm].update(trials=trials, epochs=epochs, images=epochs * self._images(config))
        return planned

    # -- charges ------------------------------------------------------------------------------------------------------

    def _begin(self, trial: TrialSpec) -> None:
        if trial.key not in self._begun:
            self._begun.add(trial.key)
            self._add(trial, trials=1)

    def _charge(self, trial: TrialSpec, epochs: int, seconds: float, held: float | None = None) -> None:
        """held: devices, where they are not those of the latest attempt."""
        images = epochs * self._images(trial.config)
        held = self._held(trial) if held is None else held
        self._add(trial, epochs=epochs, images=images, device_seconds=seconds * held)

    def _held(self, trial: TrialSpec, at: float = float("inf")) -> float:
        """Devices of the attempt that ran at that time."""
        granted = [gpus for begin, gpus in self._granted[trial.key] if begin <= at]
        return (granted and granted[-1]) or devices(self._pools.pool_of(trial.config, trial.arm))

    def _add(self, trial: TrialSpec, **used: float) -> None:
        self.arms[trial.arm].update(used)
        if trial.purpose == "confirm":
            self._confirmed[trial.arm].update(used)

    def _replay(self, ledger: Ledger) -> None:
        trials = {trial.key: trial for trial in once(recorded(ledger))}
        events = [event for event in ledger.events() if event.key is not None]
        for event in events:
            if event.kind == "started":
                self._granted[str(event.key)].append((event.time, event.payload.get("info", {}).get("gpus", 0.0)))
        rows: dict[str, list[tuple[float, float]]] = defaultdict(list)  # key → (when it was written, seconds)
        for row in ledger.epochs():
            rows[row.key].append((row.time, row.timing.get("seconds", 0.0)))
        for key, mine in rows.items():
            by_held: dict[float, list[float]] = defaultdict(list)  # devices → seconds of epochs
            for at, seconds in mine:
                by_held[self._held(trials[key], at)].append(seconds)
            for held, parts in by_held.items():
                self._charge(trials[key], len(parts), sum(parts), held)
            self._trained[key] = len(mine)
        heard: dict[str, float] = {}
        for event in events:
            key = str(event.key)
            trial, mine = trials[key], rows[key]
            if _cut_short(event) and key in heard:  # a `started` ends the attempt before it
                last = max([heard[key], *(at for at, _ in mine if at <= event.time)])
                self._charge(trial, 0, event.time - last, self._held(trial, heard[key]))
            if event.kind == "started":
                self._begin(trial)
                again = max(0, sum(at <= event.time for at, _ in mine) - event.payload["epoch"])
                usual = sum(seconds for _, seconds in mine) / max(1, len(mine))
                self._charge(trial, again, again * usual, self._held(trial, event.time))
            if event.kind in _ENDS:
                heard.pop(key, None)
            elif event.kind == "started" or key in heard:
                heard[key] = event.time


class Budgeted:
    """Trials that are listed, and those that TPE asks for, held to a purse; arms take turns."""

    def __init__(self, listed: Iterable[TrialSpec], asking: Adaptive | None, purse: Purse) -> None:
        self._asking, self._purse = asking, purse
        self._waiting: dict[str, deque[TrialSpec]] = {arm: deque() for arm in purse.arms}
        for trial in once(list(listed)):
            self._waiting[trial.arm].append(trial)

    def suggest(self) -> TrialSpec | None:
        for arm in sorted(self._waiting, key=self._purse.share):  # stable: of equals the first in the file
            waiting = self._waiting[arm]
            if not waiting and self._asking and (asked := self._asking.ask(arm)):
                waiting.append(asked)
            if waiting and self._purse.start(waiting[0]):
                return waiting.popleft()
        return None

    @property
    def exhausted(self) -> bool:
        left = any(self._waiting.values())
        if left and self._purse.idle:  # and asked before: each arm's next trial was refused
            return all(waiting[0].key in self._purse.refused for waiting in self._waiting.values() if waiting)
        return not left and (self._asking is None or self._asking.exhausted)

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        self._purse.observe(trial, report)
        return self._asking is not None and self._asking.observe(trial, report)

    def ended(self, trial: TrialSpec, state: str) -> None:
        self._purse.ended(trial, state)
        if self._asking:
            self._asking.ended(trial, state)


def _cut_short(event: EventRow) -> bool:
    """Whether an attempt that ran ended between two epochs, and when is known: of a dead driver's it is not."""
    died = event.kind == "interrupted" and event.payload.get("reason") == DRIVER_DIED
    return event.kind in ("failed", "diverged", "interrupted", "started") and not died


def devices(pool: Pool) -> float:
    """Devices that a trial holds: GPUs, a fraction of one where it shares it; CPUs where it has no GPU. Where memory
    decides, at the most."""
    return pool.gpus or float(pool.cpus)


def driven(ledger: Ledger) -> float:
    """Seconds in which drivers have run the sweep so far, each as far as it wrote."""
    events = ledger.events()
    said = [event.time for event in events if event.kind in _SAID and event.payload.get("reason") != DRIVER_DIED]
    times = [*said, *(row.time for row in ledger.epochs())]
    begins = [event.time for event in events if event.kind in ("sweep_started", "sweep_resumed")]
    total = 0.0
    for begin, after in zip(begins, [*begins[1:], float("inf")], strict=False):
        total += max([at for at in times if begin <= at < after], default=begin) - begin
    return total


def images_per_epoch(config: TrainConfig) -> int:
    """Training images that an epoch of the config sees. DataError where the data cannot be used."""
    from lejepa.config import FLOORS

    return 0 if config.method.name in FLOORS else _images_in(config.data) // config.batch_size * config.batch_size


@cache
def _images_in(data: DataConfig) -> int:
    from lejepa.data import load  # torch

    return len(load(data).train)
