"""What a search's choice loses on the test, beside another objective and beside chance.

    python benchmarks/selection.py [--study aoe_sigma] [--seeds 10] [--objective val/robust_auroc_0.1/far]

For every seed the study's search is run as it is (its own sampler, scheduler and budget; no arms) and every complete
trial is evaluated; then the same search with another objective. Printed, over the seeds, in points of the claim's test
metric: the regret of the chosen trial beside the best complete trial of its search; the regret of a complete trial
that is drawn at random; Spearman's correlation of objective and test metric over the complete trials that meet the
floors; the test value of the chosen trial; the paired differences of the two objectives with 95 % t-intervals; and
where the winners of the study's own objective lie in the ranges of their parameters, 0 at the low end, 1 at the high.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from alternate import machine, table

from search_spaces.domain import Float, Int
from tuner.analysis.metric_text import larger_is_better
from tuner.analysis.range_ends import share_of_range
from tuner.analysis.ranking import ranking
from tuner.analysis.results import interval
from tuner.analysis.verdict import claim_metric
from tuner.commands.run_state import read_run
from tuner.commands.stored_result import result_of
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve

ROOT = Path(__file__).resolve().parents[1]


class Choice(NamedTuple):
    """One search: the chosen trial's test value (larger is better) and what it and a random trial lose, in points."""

    value: float
    regret: float
    at_random: float
    correlation: float
    trials: int
    places: dict[str, float]  #: {parameter: where the winner lies in its range, 0 to 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--study", default="aoe_sigma")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--objective", default="", help="the other objective; none: the study's own alone")
    options = parser.parse_args()
    sides = {"the study's own": "", **({options.objective: options.objective} if options.objective else {})}
    found: dict[str, list[Choice]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as work:
        for seed in range(options.seeds):
            for name, objective in sides.items():
                found[name].append(searched(Path(work), options.study, seed, objective))
                print(f"seed {seed}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print(f"python benchmarks/selection.py --study {options.study} --seeds {options.seeds}", end="")
    print(f" --objective {options.objective}" if options.objective else "")
    print(f"{machine('torch', 'optuna')}\n")
    heads = [
        "objective",
        "chosen",
        "regret",
        "regret of a random complete trial",
        "correlation",
        "complete trials",
    ]
    print(table([heads, *(line(name, choices) for name, choices in found.items())]))
    if options.objective:
        first, second = found.values()
        for what in ("value", "regret"):
            pairs = [getattr(a, what) - getattr(b, what) for a, b in zip(first, second, strict=True)]
            print(
                f"\n{what}, the study's own minus the other: {shown(pairs)} points, paired over {len(pairs)} seeds"
            )
    own = found["the study's own"]
    names = dict.fromkeys(name for choice in own for name in choice.places)
    rows = [[name, ", ".join(f"{c.places[name]:.2f}" for c in own if name in c.places)] for name in names]
    print("\n" + table([["parameter", "winners, seed by seed"], *rows]))


def searched(work: Path, study: str, seed: int, objective: str) -> Choice:
    """Run one search and return its choice."""
    name = f"{study}-{seed}{'-other' if objective else ''}"
    command = [
        sys.executable,
        str(ROOT / "launch.py"),
        "--study",
        study,
        "--run-name",
        name,
        "--seed",
        str(seed),
    ]
    command += [
        "--stages",
        "search,evaluate",
        "--arms",
        "none",
        *(["--objective", objective] if objective else []),
    ]
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    result = result_of(read_run(name, str(work / "runs")))
    own = resolve(LaunchOptions(study), study).headline  # another objective changes the run's own
    result = replace(result, plan=replace(result.plan, headline=own))
    assert result.best is not None, f"{name} has no winner"
    metric = claim_metric(result.plan)
    sign = 100 if larger_is_better(metric) else -100
    values = {key: sign * result.tests[key][metric] for key in result.feasible if key in result.tests}
    chosen, best = values[result.best.key], max(values.values())
    ranked = ranking(result)
    (space,) = (lane.space for lane in result.plan.lanes)
    places = {
        key: share_of_range(domain, result.best.params[key])
        for key, domain in space.items()
        if isinstance(domain, (Float, Int)) and key in result.best.params
    }
    random = best - statistics.mean(values.values())
    return Choice(chosen, best - chosen, random, ranked.correlation, ranked.n, places)


def line(name: str, choices: list[Choice]) -> list[str]:
    correlations = [c.correlation for c in choices if math.isfinite(c.correlation)]
    return [
        name,
        *(shown([getattr(c, what) for c in choices]) for what in ("value", "regret", "at_random")),
        shown(correlations, 2),
        f"{statistics.mean(c.trials for c in choices):.1f}",
    ]


def shown(values: list[float], digits: int = 1) -> str:
    found = interval(values)
    return f"{found.mean:.{digits}f} ± {found.half:.{digits}f}"


if __name__ == "__main__":
    main()
