"""Which validation metric ranks configurations as the sealed test does?

    python benchmarks/yardstick.py --make aoe_sigma                  # train the table: an hour on two cores
    python benchmarks/yardstick.py --make aoe_sigma --dataset glyphs --train-images 4000 --max-images 256
    python benchmarks/yardstick.py --show aoe_sigma                  # the rank correlations

The table holds random configurations of a study's own space, each trained to its end, validated and evaluated. A
yardstick is a validation metric of one OOD set, or its mean over a group of sets; its rank correlation (Spearman) with
each test metric is printed over all configurations that keep the study's floor and over the better half of them by
that test metric, with the bounds of 1,000 bootstrap samples (5 and 95 %). Below, the regret of the choice: of 8
configurations drawn at random the yardstick's best, how many points of the test metric behind the best of the 8, mean
over 4,000 draws, which are the same for every yardstick.
"""

import argparse
import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from alternate import machine, table
from scipy import stats
from search import random_configurations

from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import Split
from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve

TABLES = Path(__file__).parent / "tables"
GROUPS = ("near", "far", "all")
CHOSEN_FROM, DRAWS = 8, 4000  #: as many trials as a default study completes
LOSS = 0.02  #: of validation accuracy below the best configuration: more than that is no candidate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--make", metavar="STUDY", default="")
    parser.add_argument("--show", metavar="STUDY", default="")
    parser.add_argument("--dataset", default="digits-open")
    parser.add_argument("--configurations", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--train-images", type=int, default=0, help="the first so many; 0: all")
    parser.add_argument("--max-images", type=int, default=0, help="of each set that is measured; 0: all")
    options = parser.parse_args()
    name = options.make or options.show
    path = TABLES / f"yardstick-{name}-{options.dataset}.json"
    if options.make:
        make(options, path)
    show(json.loads(path.read_text()))


# -- the table -----------------------------------------------------------------------------------------------


def make(options: argparse.Namespace, path: Path) -> None:
    """Train, validate and evaluate random configurations of a study, and store their metrics."""
    plan = resolve(LaunchOptions(study=options.make, dataset=options.dataset), "table")
    lane = plan.lanes[0]
    drawn = [
        {**lane.fixed, **params, "seed": number, "threads": 1}
        for number, params in enumerate(random_configurations(plan, options.configurations))
    ]
    limit = {"max_images": options.max_images}
    measure = partial(
        measured,
        lane.method,
        {**plan.validation, **limit},
        {**plan.protocol, **limit, "detectors": (), "check_steps": 0},
        options.train_images,
    )
    rows = []
    with ProcessPoolExecutor(options.workers) as pool:
        for settings, metrics in zip(drawn, pool.map(measure, drawn), strict=True):
            rows.append(
                {"params": {name: settings[name] for name in lane.space if name in settings}, **metrics}
            )
            print(len(rows), flush=True)
    TABLES.mkdir(exist_ok=True)
    command = f"python benchmarks/yardstick.py --make {options.make} --dataset {options.dataset}"
    for name in ("configurations", "train_images", "max_images"):
        if getattr(options, name):
            command += f" --{name.replace('_', '-')} {getattr(options, name)}"
    content = {"command": command, "machine": machine("torch"), "headline": list(plan.headline)}
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f'{json.dumps(content)[:-1]}, "rows": [\n{lines}\n]}}\n')


@lru_cache(1)
def opened(dataset: str, train_images: int) -> Benchmark:
    """Return a data set, with the first images to train on alone."""
    benchmark = load(dataset)
    if not train_images:
        return benchmark
    train = benchmark.labelled(Split.TRAIN)
    few = LabelledImages(train.images[:train_images], train.labels[:train_images])
    return replace(benchmark, parts={**benchmark.parts, Split.TRAIN: {"id": few}})


def measured(
    method: str,
    validation: Mapping[str, Any],
    protocol: Mapping[str, Any],
    train_images: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Train one configuration to its end and return its validation and test metrics."""
    import torch

    from trainables.evaluation.measure import evaluate
    from trainables.evaluation.metrics.protocol import from_fields
    from trainables.ray.assets import Assets
    from trainables.ray.trial_runner import TrialRunner

    torch.set_num_threads(1)
    benchmark = opened(str(settings["dataset"]), train_images)
    trial: Any = type("Measured", (TrialRunner,), {"method_name": method})()
    trial.setup({**settings, "validation": dict(validation)}, Assets(benchmark.for_search()))
    last: dict[str, Any] = {}
    for _ in range(int(settings["epochs"])):
        last = trial._step()
    found = evaluate(
        trial._method.classifier().eval(),
        benchmark,
        from_fields("test", protocol),
        torch.Generator().manual_seed(7),
        "cpu",
    )
    return {"val": {k: v for k, v in last.items() if k.startswith("val/")}, "test": found.metrics}


# -- the correlations ------------------------------------------------------------------------------------------


def show(content: Mapping[str, Any]) -> None:
    """Print a row for every yardstick and two columns for every test metric of OOD data in the headline."""
    best = max(row["val"]["val/accuracy/clean"] for row in content["rows"])
    rows = [row for row in content["rows"] if row["val"]["val/accuracy/clean"] >= best - LOSS]
    of_sets = [name for name in content["headline"] if find_metric(name).parameters.get("set")]
    targets = [name for name in of_sets if name in rows[0]["test"]]
    names = sorted(
        (name for name in rows[0]["val"] if "auroc" in name or "fpr95" in name),
        key=lambda name: (name.rpartition("/")[0], name.rpartition("/")[2] not in GROUPS),
    )
    print(
        f"{content['command']}\n{content['machine']}; {len(rows)} of {len(content['rows'])} keep the accuracy\n"
    )
    lines = []
    for name in names:
        cells = [name]
        for target in targets:
            pairs = np.array([[row["val"][name], row["test"][target]] for row in rows])
            better = pairs[:, 1] * (-1 if find_metric(target).spec.direction == "minimize" else 1)
            top = pairs[np.argsort(-better)[: len(pairs) // 2]]
            sign = 1 if find_metric(name).spec.direction == find_metric(target).spec.direction else -1
            cells += [interval(pairs, sign), interval(top, sign)]
        lines.append(cells)
    heads = [part for target in targets for part in (target.removeprefix("test/"), "better half")]
    print(table([["yardstick", *heads], *lines]))
    print()
    print(
        table(
            [
                ["regret of the best of 8", *(target.removeprefix("test/") for target in targets)],
                *regrets(rows, names, targets),
            ]
        )
    )


def regrets(rows: list[Any], names: list[str], targets: list[str]) -> list[list[str]]:
    """Return the rows of the table of regrets: a group mean each, then a choice at random."""
    rng = np.random.default_rng(0)
    draws = np.array([rng.permutation(len(rows))[:CHOSEN_FROM] for _ in range(DRAWS)])
    truths = {
        target: better_larger([row["test"][target] for row in rows], target)[draws] for target in targets
    }
    lines = []
    for name in [name for name in names if name.rpartition("/")[2] in GROUPS]:
        picked = better_larger([row["val"][name] for row in rows], name)[draws].argmax(1)
        lines.append([name, *(regret(truth, picked) for truth in truths.values())])
    return [*lines, ["at random", *(regret(truth, np.zeros(DRAWS, int)) for truth in truths.values())]]


def regret(truth: np.ndarray, picked: np.ndarray) -> str:
    lost = truth.max(1) - truth[np.arange(len(truth)), picked]
    return f"{100 * lost.mean():.2f}"


def better_larger(values: list[float], name: str) -> np.ndarray:
    """Return a metric's values with their sign turned so that larger is better."""
    return np.array(values) * (-1 if find_metric(name).spec.direction == "minimize" else 1)


def interval(pairs: np.ndarray, sign: int) -> str:
    """Return "correlation (low to high)"."""
    rng = np.random.default_rng(0)
    samples = pairs[rng.integers(len(pairs), size=(1000, len(pairs)))]
    low, high = np.nanquantile(sign * spearman(samples), (0.05, 0.95))
    return f"{sign * spearman(pairs[None])[0]:.2f} ({low:.2f} to {high:.2f})"


def spearman(samples: np.ndarray) -> np.ndarray:
    """Return the rank correlation of each sample, (samples, pairs, 2) -> (samples,); NaN where all are alike."""
    ranks = stats.rankdata(samples, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    first, second = ranks[..., 0], ranks[..., 1]
    with np.errstate(invalid="ignore"):
        return (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))


if __name__ == "__main__":
    main()
