"""Which of the trials that a search suggests starts next: as many of each pool as it has places, in runs of one shape.

Ray Tune keeps a worker from trial to trial only where both ask for the same; a sweep whose shapes alternate starts a
process for each trial. So a place that becomes free goes to a trial of the pool, and of the shape, that left it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from harness.pool import Placement, PoolError, Shape

if TYPE_CHECKING:
    from harness.search import Search
    from harness.trials import TrialSpec

Refuse = Callable[["TrialSpec", str], None]  # told of a trial that no place can take, and why
_WAVES = 4  # of trials in all places, by which a trial that finds no room may be passed over


class Queues:
    def __init__(
        self,
        search: Search,
        placement: Placement,
        places: Mapping[str, int],
        capacity: Mapping[str, float],
        shape_of: Callable[[TrialSpec], Shape],
        refuse: Refuse,
    ) -> None:
        """places: pool → trials at once. capacity: Ray's resource → how much all nodes have together. shape_of: raises
        PoolError where a trial has no place."""
        self._search, self._placement, self._places, self._refuse = search, placement, places, refuse
        self._free, self._shape_of = dict(capacity), shape_of
        self._waiting: dict[str, deque[tuple[TrialSpec, Shape]]] = {name: deque() for name in places}
        self._running: dict[str, tuple[str, Shape]] = {}  # key → pool, shape
        self._count: Counter[str] = Counter()  # pool → trials that run
        self._passed: Counter[str] = Counter()  # pool → trials of others that started while it found no room
        self._again: dict[str, Shape] = {}  # key → in which shape it starts once more when it has ended
        self._left: dict[str, Shape] = {}  # pool → the shape that was left last
        self._most_waiting = None if placement.listed else sum(places.values())

    def next(self) -> tuple[TrialSpec, Shape] | None:
        """A trial and its shape, counted as running until `ended`; None where nothing can start now."""
        while self._could_be_better(chosen := self._chosen()) and (trial := self._drawn()) is not None:
            try:
                self._waiting[self._placement.name_of(trial.config, trial.arm)].append((trial, self._shape_of(trial)))
            except PoolError as error:
                self._refuse(trial, str(error))
        if chosen is None:
            return None
        name, index, passed = chosen
        trial, shape = self._waiting[name][index]
        del self._waiting[name][index]
        self._passed.update(passed)
        self._passed[name] = 0
        self._running[trial.key] = name, shape
        self._count[name] += 1
        self._take(shape, 1)
        return trial, shape

    def again(self, trial: TrialSpec, shape: Shape | None = None) -> None:
        """A trial that runs is to start once more, in its shape or in another, as soon as it has ended."""
        self._again[trial.key] = shape or self._running[trial.key][1]

    def ended(self, trial: TrialSpec) -> None:
        name, shape = self._running.pop(trial.key)
        self._count[name] -= 1
        self._left[name] = shape
        self._take(shape, -1)
        if trial.key in self._again:
            self._left[name] = self._again.pop(trial.key)  # it goes first, and its like after it
            self._waiting[name].appendleft((trial, self._left[name]))

    @property
    def exhausted(self) -> bool:
        # what runs may come again: its worker may die, and its part of a GPU be too small
        return not any(self._waiting.values()) and not self._running and self._search.exhausted

    def _chosen(self) -> tuple[str, int, list[str]] | None:
        """The emptiest pool whose next trial finds room, which trial that is, and the pools passed over. For one that
        was passed over too often room is kept free, as a large trial would else never find any beside small ones.
        """
        open_ = [name for name, queue in self._waiting.items() if queue and self._count[name] < self._places[name]]
        too_often = _WAVES * sum(self._places.values())
        passed: list[str] = []
        for name in sorted(open_, key=lambda name: (self._passed[name] < too_often, self._busy(name))):
            queue, left = self._waiting[name], self._left.get(name)
            same = (index for index, (_, shape) in enumerate(queue) if shape == left)
            index = next(same, 0) if left else 0
            if self._fits(queue[index][1]):
                return name, index, passed
            if self._passed[name] >= too_often:
                return None
            passed.append(name)
        return None

    def _busy(self, name: str) -> float:
        return self._count[name] / self._places[name]

    def _could_be_better(self, chosen: tuple[str, int, list[str]] | None) -> bool:
        """Whether to look on in the list: for a trial that can start, and has the shape of one that has ended."""
        if chosen is None:
            return True
        name, index, _ = chosen
        return self._waiting[name][index][1] != self._left.get(name, self._waiting[name][index][1])

    def _drawn(self) -> TrialSpec | None:
        waiting = sum(map(len, self._waiting.values()))
        return None if self._most_waiting is not None and waiting >= self._most_waiting else self._search.suggest()

    def _fits(self, shape: Shape) -> bool:
        return all(amount * shape.ranks <= self._free.get(what, 0) + 1e-6 for what, amount in shape.bundle.items())

    def _take(self, shape: Shape, sign: int) -> None:
        taken: dict[str, float] = defaultdict(float, {k: v * shape.ranks for k, v in shape.bundle.items()})
        self._free = {what: free - sign * taken[what] for what, free in self._free.items()}
