"""Let several trainings take turns, a few steps each, and compare the processor time of their steps.

So whatever the machine does besides falls on all of them; of a few steps each all but the first find the caches as in a
training of their own. Loops that cannot be called a step at a time, a framework's
own, run in a thread each, of which only the one whose turn it is moves.
"""

import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import synaptic_pruning as sp

STEPS, EVENT = 2000, 40  # by default there is an event every fiftieth of training
RAMP = sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8))  # of docs/recipe.md: what most published figures prune by
TURN = 10  # steps

# What a training calls after each of its steps.
Clock = Callable[[], None]


class Cost(NamedTuple):
    """How much longer a step is than another, in the mean over a training, with two standard errors."""

    extra: float
    error: float

    def __str__(self) -> str:
        return f"{100 * self.extra:+.2f} % ± {100 * self.error:.2f}"


def cost(arm: Sequence[float], base: Sequence[float], event: int = EVENT) -> Cost:
    """Compare two trainings block by block, each block with one event; a disturbed block widens the error."""
    whole = statistics.fmean(base) * event
    pairs = zip(_blocks(arm, event), _blocks(base, event), strict=True)
    ratios = [(with_it - without) / whole for with_it, without in pairs]
    return Cost(statistics.fmean(ratios), 2 * statistics.stdev(ratios) / math.sqrt(len(ratios)))


def mean(*arms: Sequence[float]) -> list[float]:
    """Return the mean of several trainings, step by step."""
    return [statistics.fmean(step) for step in zip(*arms, strict=True)]


def _blocks(seconds: Sequence[float], event: int) -> list[float]:
    return [sum(seconds[start : start + event]) for start in range(0, len(seconds) - event + 1, event)]


def alternate(
    steps: Sequence[Callable[[], None]], count: int, turn: int = TURN, now: Callable[[], float] = time.process_time
) -> list[list[float]]:
    """Return the seconds, by default of the processor, of every step of loops that can be called a step at a time."""
    seconds: list[list[float]] = [[] for _ in steps]
    order, draw = list(range(len(steps))), random.Random(0)
    for _ in range(count // turn):
        draw.shuffle(order)
        for place in order:
            for _ in range(turn):
                start = now()
                steps[place]()
                seconds[place].append(now() - start)
    return seconds


def take_turns(trainings: Sequence[Callable[[Clock], None]]) -> list[list[float]]:
    """Return the processor seconds of every step but the first of each training; all must take as many steps."""
    table = _Table(len(trainings))
    threads = [threading.Thread(target=table.sit, args=(i, train)) for i, train in enumerate(trainings)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if table.failed:
        raise table.failed[0]
    return table.seconds


class _Table:
    """Passes the turn on: once to everyone in each round, in an order drawn anew (and alike in every process)."""

    def __init__(self, places: int) -> None:
        self.seconds: list[list[float]] = [[] for _ in range(places)]
        self.failed: list[BaseException] = []
        self._turn = threading.Condition()
        self._started = [False] * places
        self._order: list[int] = list(range(places))
        self._draw = random.Random(0)
        self._left: set[int] = set()
        self._whose = 0
        self._start = 0.0

    def sit(self, place: int, train: Callable[[Clock], None]) -> None:
        self._wait(place)
        try:
            train(lambda: self._step(place))
        except BaseException as error:
            self.failed.append(error)
        finally:
            self._left.add(place)
            self._pass_on()

    def _step(self, place: int) -> None:
        now = time.process_time()
        if self._started[place]:  # what is before the first step is no step
            self.seconds[place].append(now - self._start)
        self._started[place] = True
        if len(self.seconds[place]) % TURN == 0:
            self._pass_on()
            self._wait(place)
        self._start = time.process_time()

    def _wait(self, place: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._order[self._whose] == place)
        self._start = time.process_time()

    def _pass_on(self) -> None:
        with self._turn:
            for _ in range(2 * len(self._order)):
                self._whose += 1
                if self._whose == len(self._order):
                    self._whose = 0
                    self._draw.shuffle(self._order)
                if self._order[self._whose] not in self._left:
                    break
            self._turn.notify_all()
