"""The headline claims of the five systems, measured on digits: paired seeds, 95 % intervals, into docs/claims.md.

    python benchmarks/claims.py [--seeds 5] [--only aoe,dyart] [--workers 2] [--output docs/claims.md]

Every arm trains with its fixed configuration (no search) from seeds 0..n-1; arms of one seed share the pretrained
classifier and the data order. Trained arms are kept in the cache folder by content, so a second call only adds.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import platform
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from claims_table import ARMS, CLAIMS, Arm, Claim

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]


class Numbers:
    """Means, intervals and paired differences over seeds, of every arm."""

    def __init__(self, values: dict[str, list[dict[str, float]]]) -> None:
        self.values = values

    def interval(self, arm: str, metric: str) -> Any:
        from tuner.analysis.results import interval

        return interval([seed[metric] for seed in self.values[arm]])

    def difference(self, arm: str, other: str, metric: str) -> Any:
        from tuner.analysis.results import interval

        pairs = zip(self.values[arm], self.values[other], strict=True)
        return interval([a[metric] - b[metric] for a, b in pairs])

    def mean(self, arm: str, metric: str) -> float:
        return float(self.interval(arm, metric).mean)


def run(arm: Arm, seed: int, cache: Path) -> dict[str, float]:
    """Train and evaluate one arm with one seed; returns test metrics and "cpu_seconds" of training."""
    import torch

    from trainables.data.loading.open_dataset import load
    from trainables.evaluation.measure import evaluate
    from trainables.evaluation.metrics.protocol import EvaluationProtocol
    from trainables.options import build
    from trainables.options.methods import METHODS
    from trainables.ray.trainable import trainable_class

    key = hashlib.sha256(
        json.dumps([asdict(arm), seed, code_version()], sort_keys=True).encode()
    ).hexdigest()[:24]
    stored = cache / "claims" / f"{key}.json"
    if stored.exists():
        found: dict[str, float] = json.loads(stored.read_text())
        return found
    torch.set_num_threads(1)
    entry = METHODS[arm.method]
    config = {**arm.options, "dataset": arm.dataset, "seed": seed, "cache_dir": str(cache)}
    build(entry.options, config)
    trainable = trainable_class(arm.method)(config={**config, "validation": {"groups": ("clean",)}})
    started = time.process_time()
    reported: dict[str, float] = {}
    done = False
    while not done:
        result = trainable.step()
        reported |= {k: v for k, v in result.items() if k.startswith("train/")}
        done = result["done"]
    seconds = time.process_time() - started
    protocol = EvaluationProtocol("claims", score=arm.score, groups=arm.groups)
    generator = torch.Generator().manual_seed(7_700_417)
    found = dict(
        evaluate(trainable._method.classifier(), load(arm.dataset), protocol, generator, "cpu").metrics
    )
    found["cpu_seconds"] = seconds
    found |= reported
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(found))
    return found


def code_version() -> str:
    """Return a hash of the training and evaluation code, so that a change is measured again."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "trainables").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _job(job: tuple[str, int, str]) -> tuple[str, int, dict[str, float]]:
    name, seed, cache = job
    return name, seed, run(ARMS[name], seed, Path(cache))


def text_of(found: Any, metric: str) -> str:
    if metric == "cpu_seconds":
        return f"{found.mean:.1f} ± {found.half:.1f} s"
    half = "" if math.isnan(found.half) else f" ± {100 * found.half:.1f}"
    return f"{100 * found.mean:.1f}{half} %"


def write(
    claims: list[Claim], numbers: Numbers, seeds: int, output: Path, command: str, seconds: float
) -> None:
    """Write the claims by system; sections of systems that were not measured now stay as they are."""
    from tuner.base.environment import describe

    facts = describe(command)
    about = (
        f"`{command}`, {seconds / 60:.0f} min of wall time; commit {facts['commit']}; torch {facts['torch']}, "
        f"numpy {facts['numpy']}, scikit-learn {facts['scikit-learn']}, Python {platform.python_version()}; "
        f"{facts['machine']}."
    )
    sections = read_sections(output)
    for system in dict.fromkeys(claim.system for claim in claims):
        lines = [about, ""]
        for claim in (c for c in claims if c.system == system):
            lines += claim_lines(claim, numbers)
        sections[system] = "\n".join(lines).strip()
    head = [
        "# Claims, measured on the built-in digits benchmark",
        "",
        f"{seeds} paired seeds (0 to {seeds - 1}), mean ± 95 % t-interval over seeds on one split, one thread per "
        "training. Configurations are",
        "fixed, not searched; a study (`python launch.py --study ...`) searches. Test sets are those of",
        "[protocol.md](protocol.md). OE and AOE are judged by MSP, energy fine-tuning by energy.",
    ]
    order = list(dict.fromkeys(claim.system for claim in CLAIMS))
    body = [f"## {system}\n\n{sections[system]}" for system in order if system in sections]
    output.write_text("\n".join(head) + "\n\n" + "\n\n".join(body) + "\n")


def read_sections(path: Path) -> dict[str, str]:
    """Return {system: text} of an existing page."""
    if not path.exists():
        return {}
    parts = re.split(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
    return {name.strip(): text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def claim_lines(claim: Claim, numbers: Numbers) -> list[str]:
    verdict = "replicated" if claim.holds(numbers) else "**not replicated**"
    lines = [
        f"**{claim.text}** Goal: {claim.goal}. Result: {verdict}.",
        "",
        "| arm | metric | value |",
        "|---|---|---|",
    ]
    for arm, metric in claim.rows:
        lines.append(f"| {arm} | `{metric}` | {text_of(numbers.interval(arm, metric), metric)} |")
    if claim.pairs:
        lines += ["", "| paired difference | metric | points |", "|---|---|---|"]
    for arm, other, metric in claim.pairs:
        found = numbers.difference(arm, other, metric)
        lines.append(f"| {arm} - {other} | `{metric}` | {100 * found.mean:+.1f} ± {100 * found.half:.1f} |")
    return [*lines, "", *([claim.note, ""] if claim.note else [])]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "claims.md")
    options = parser.parse_args()
    from trainables.base.cache import default_cache_dir

    wanted = [
        c for c in CLAIMS if not options.only or c.system.split(":")[0].lower() in options.only.split(",")
    ]
    names = list(
        dict.fromkeys(a for c in wanted for a in (*(r[0] for r in c.rows), *(p[1] for p in c.pairs)))
    )
    started = time.monotonic()
    jobs = [(name, seed, str(default_cache_dir())) for seed in range(options.seeds) for name in names]
    values: dict[str, dict[int, dict[str, float]]] = {name: {} for name in names}
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for done, (name, seed, found) in enumerate(pool.imap_unordered(_job, jobs), 1):
            values[name][seed] = found
            print(f"{done}/{len(jobs)} {name} seed {seed}", flush=True)
    numbers = Numbers(
        {name: [found[seed] for seed in range(options.seeds)] for name, found in values.items()}
    )
    only = f" --only {options.only}" if options.only else ""
    command = f"python benchmarks/claims.py --seeds {options.seeds}{only}"
    write(wanted, numbers, options.seeds, options.output, command, time.monotonic() - started)
    print(options.output)


if __name__ == "__main__":
    main()
