"""How many epochs a search takes to a good configuration, replayed on a table of finished trials.

    python benchmarks/search.py --make aoe_sigma   # train the table: about 20 minutes on two cores
    python benchmarks/search.py --seeds 100        # replay it: minutes

The table holds the validation curve of random configurations of a study's own space, each trained to its end. A replay
drives the service's own queue, samplers and schedulers with it, `--workers` trials at a time; a suggested configuration
is answered with the nearest one of the table that the replay has not met yet. What counts is a trial that ran to
its end: only such a trial can win a study. Floors are left out.
"""

import argparse
import json
import math
import os
import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from alternate import line, machine, table
from scipy import stats

from search_spaces.domain import Choice, Domain, Float
from search_spaces.study import Objective
from tuner.base.records import Decision, State, TrialRole
from tuner.execution.trial_queue import Assignment, Lane, TrialQueue
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.planning.resolve import resolve
from tuner.search.schedulers import schedule
from tuner.store.trial_store import TrialStore

TABLES = Path(__file__).parent / "tables"
#: {arm: (sampler, scheduler)}; the first is the default of the command line.
ARMS = {
    "tpe + asha (default)": ("tpe", "asha"),
    "random + asha": ("random", "asha"),
    "tpe + median": ("tpe", "median"),
    "tpe": ("tpe", "none"),
    "random": ("random", "none"),
    "grid": ("grid", "none"),
}
TOP = (0.05, 0.02)  # the shares of the table's configurations that count as good
BUDGET = 90  # epochs; a default study of 20 trials comes to about as many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--make", metavar="STUDY", default="")
    parser.add_argument("--configurations", type=int, default=128)
    parser.add_argument("--study", default="aoe_sigma")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--first-rung", type=int, default=0, help="epoch of the first rung; 0: the study's own"
    )
    parser.add_argument("--only", default="", help="arms, by the beginnings of their names, with commas")
    options = parser.parse_args()
    if options.make:
        make(options.make, options.configurations)
        return
    replay(Curves.read(options.study, options.first_rung), options.seeds, options.workers, options.only)


# -- the table -----------------------------------------------------------------------------------------------


def make(study: str, count: int) -> None:
    """Train `count` random configurations of a study to their end, two at a time, and store their curves."""
    plan = resolve(LaunchOptions(study=study), "table")
    lane, drawn = plan.lanes[0], random_configurations(plan, count)
    settings = {**lane.fixed, "seed": plan.seed, "validation": dict(plan.validation)}
    metric = plan.objectives[0].metric
    rows = []
    with ProcessPoolExecutor(2) as pool:
        for params, curve in zip(
            drawn,
            pool.map(trained, repeat(lane.method), repeat(settings), drawn, repeat(metric)),
            strict=True,
        ):
            rows.append({"params": params, "curve": curve})
            print(len(rows), curve[-1], flush=True)
    TABLES.mkdir(exist_ok=True)
    content = {
        "command": f"python benchmarks/search.py --make {study} --configurations {count}",
        "machine": machine("torch"),
        "metric": metric,
        "direction": plan.objectives[0].direction,
    }
    lines = ",\n".join(json.dumps(row) for row in rows)
    (TABLES / f"{study}.json").write_text(f'{json.dumps(content)[:-1]}, "rows": [\n{lines}\n]}}\n')


def random_configurations(plan: Plan, count: int) -> list[Mapping[str, Any]]:
    """Return searched parameters that a study's own space has at random, always the same."""
    memory = optuna.storages.InMemoryStorage()
    space = plan.lanes[0].space
    store = TrialStore(memory, "t", "search", TrialRole.SEARCH, space, plan.objectives, 0, "random")
    drawn = []
    for _ in range(count):
        record = store.ask(lambda number, params: {"configuration": dict(params), "seed": 0})
        assert record is not None
        drawn.append(record.params)
    return drawn


def trained(method: str, settings: Mapping[str, Any], params: Mapping[str, Any], metric: str) -> list[float]:
    """Return the validation curve of one configuration, an entry per epoch."""
    from trainables.ray.trainable import MethodTrainable

    trainable: Any = type("Trained", (MethodTrainable,), {"method_name": method})({**settings, **params})
    return [float(trainable.step()[metric]) for _ in range(settings["epochs"])]


@dataclass
class Curves:
    """A table.

    Attributes:
        space: the study's.
        values: (configurations, epochs), larger is better.
        points: (configurations, dimensions): numbers in [0, 1] on their domain's scale, choices as 0/1 columns.
    """

    study: str
    space: Mapping[str, Domain]
    values: np.ndarray
    points: np.ndarray
    about: str
    first_rung: int
    reduction: int

    @classmethod
    def read(cls, study: str, first_rung: int = 0) -> "Curves":
        """Read a study's table; `first_rung` 0 is the study's own."""
        content = json.loads((TABLES / f"{study}.json").read_text())
        plan = resolve(LaunchOptions(study=study), "table")
        space = plan.lanes[0].space
        sign = 1.0 if content["direction"] == "maximize" else -1.0
        rows = content["rows"]
        values = sign * np.array([row["curve"] for row in rows])
        points = np.array([place(space, row["params"]) for row in rows])
        about = f"{content['command']}; {content['machine']}"
        return cls(study, space, values, points, about, first_rung or plan.first_rung, plan.reduction)

    @property
    def epochs(self) -> int:
        return int(self.values.shape[1])

    def threshold(self, share: float) -> float:
        """Return the last value of the worst configuration that is among the best `share`."""
        last = np.sort(self.values[:, -1])[::-1]
        return float(last[max(1, math.floor(share * len(last))) - 1])


def place(space: Mapping[str, Domain], params: Mapping[str, Any]) -> list[float]:
    """Return a configuration as a point; see `Curves.points`."""
    found: list[float] = []
    for name, domain in space.items():
        value = params[name]
        if isinstance(domain, Choice):
            found += [float(option == value) for option in domain.options]
        else:
            scale = math.log if domain.log else float
            low, high = scale(domain.low), scale(domain.high)
            found.append((scale(value) - low) / (high - low))
    return found


def grid_of(space: Mapping[str, Domain]) -> dict[str, Domain]:
    """Return the space with three values for every number: the middles of the thirds of its range."""

    def values(domain: Any) -> Domain:
        if isinstance(domain, Choice):
            return domain
        log = domain.log
        low, high = (math.log(domain.low), math.log(domain.high)) if log else (domain.low, domain.high)
        middles = [low + (high - low) * part / 6 for part in (1, 3, 5)]
        middles = [math.exp(m) for m in middles] if log else middles
        whole = not isinstance(domain, Float)
        return Choice(tuple(dict.fromkeys(round(m) if whole else m for m in middles)))

    return {name: values(domain) for name, domain in space.items()}


# -- the replay ----------------------------------------------------------------------------------------------


def search(
    curves: Curves, sampler: str, scheduler: str, seed: int, workers: int
) -> Iterator[tuple[int, float]]:
    """Yield (epochs spent by all, last value) whenever a trial reaches its end, until the table is used up."""
    space = grid_of(curves.space) if sampler == "grid" else curves.space
    objective = Objective("val/score")
    memory = optuna.storages.InMemoryStorage()
    store = TrialStore(memory, "s", "search", TrialRole.SEARCH, space, [objective], seed, sampler)
    rule = schedule(scheduler, curves.first_rung, curves.reduction, curves.epochs)
    lane = Lane(store, "", {}, len(curves.values), 0)
    queue = TrialQueue([lane], [objective], seed=seed, max_epochs=curves.epochs, schedule=rule)
    free = np.ones(len(curves.values), dtype=bool)
    running: dict[str, tuple[Assignment, int]] = {}
    spent = 0
    while not queue.finished:
        while len(running) < workers and (assignment := queue.next()) is not None:
            distance = ((curves.points - place(curves.space, assignment.configuration)) ** 2).sum(1)
            row = int(np.where(free, distance, np.inf).argmin())
            free[row] = False
            running[assignment.key] = assignment, row
        for key, (assignment, row) in list(running.items()):
            epoch = store.record(assignment.number).epochs + 1
            value = float(curves.values[row, epoch - 1])
            spent += 1
            if queue.report(key, epoch, {"val/score": value}, "") is not Decision.CONTINUE:
                del running[key]
                if store.record(assignment.number).state is State.COMPLETE:
                    yield spent, value


@dataclass
class Found:
    """One replay: {share: epochs to a configuration that good, the whole table's if none was}, best in `BUDGET`."""

    epochs: dict[float, int]
    best: float


def one(curves: Curves, sampler: str, scheduler: str, seed: int, workers: int) -> Found:
    targets = {share: curves.threshold(share) for share in TOP}
    epochs = dict.fromkeys(TOP, curves.values.size)
    best = float(curves.values[:, 0].min())
    for spent, value in search(curves, sampler, scheduler, seed, workers):
        if spent <= BUDGET:
            best = max(best, value)
        for share, target in targets.items():
            if value >= target:
                epochs[share] = min(epochs[share], spent)
        if spent > BUDGET and all(e < curves.values.size for e in epochs.values()):
            break
    return Found(epochs, best)


def replay(curves: Curves, seeds: int, workers: int, only: str) -> None:
    print(f"python benchmarks/search.py --study {curves.study} --seeds {seeds} --workers {workers}")
    print(machine("optuna"))
    print(f"table: {curves.about}")
    last = curves.values[:, -1]
    ranks = [f"{stats.spearmanr(curves.values[:, e], last)[0]:.2f}" for e in range(curves.epochs - 1)]
    print(
        f"{len(last)} configurations of {curves.epochs} epochs; best {last.max():.4f}, median {np.median(last):.4f}; "
        f"first rung {curves.first_rung}, reduction {curves.reduction}\n"
        f"rank correlation with the last epoch after 1, 2, ... epochs: {', '.join(ranks)}\n"
    )
    heading = ["arm", *(f"epochs to the best {100 * share:g} %, mean (median)" for share in TOP)]
    heading += [f"times fewer than random, best {100 * TOP[-1]:g} %", f"best after {BUDGET} epochs"]
    print(table([heading]))
    wanted = [name for name in only.split(",") if name]
    found: dict[str, list[Found]] = {}
    with ProcessPoolExecutor(2) as pool:
        for arm in sorted(ARMS, key=lambda arm: arm != "random"):
            if wanted and arm != "random" and not any(arm.startswith(name) for name in wanted):
                continue
            numbers = range(seeds)
            found[arm] = list(
                pool.map(one, repeat(curves), *map(repeat, ARMS[arm]), numbers, repeat(workers), chunksize=4)
            )
            print(line(row(arm, found[arm], found["random"])), flush=True)


def row(arm: str, found: list[Found], random: list[Found]) -> list[str]:
    cells = []
    for share in TOP:
        epochs = [f.epochs[share] for f in found]
        cells.append(f"{interval(epochs, '.0f')} ({statistics.median(epochs):.0f})")
    own, theirs = ([f.epochs[TOP[-1]] for f in group] for group in (found, random))
    return [arm, *cells, ratio(theirs, own), interval([f.best for f in found], ".4f")]


def interval(values: list[Any], form: str) -> str:
    """Return the mean and the half width of its 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):{form}} ± {half:{form}}"


def ratio(theirs: list[int], own: list[int]) -> str:
    """Return the ratio of the means with its 95 % bootstrap interval."""
    generator = np.random.default_rng(0)
    draws = generator.integers(len(own), size=(2, 2000, len(own)))
    ratios = np.array(theirs)[draws[0]].mean(1) / np.array(own)[draws[1]].mean(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return f"{statistics.fmean(theirs) / statistics.fmean(own):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
