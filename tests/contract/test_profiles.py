"""Every profile of every study, end to end without Ray: resolved, pretrained, one trial of every search, evaluated.

The data sets are tiny files in their own formats, all networks are the profiles' own; only the numbers of images
and of steps are small.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import search_spaces
from search_spaces.domain import Choice, Float, Int
from search_spaces.study import fixed
from tests.unit import disk_formats as disk
from trainables.base.storage import Folder
from trainables.data.loading import from_files
from trainables.data.readers.corrupted_files import CORRUPTIONS
from trainables.data.readers.outlier_files import check_outlier_files
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import check_dataset_files
from trainables.data.types.splits import Split
from trainables.methods import adversarial
from trainables.methods.robgan import robgan, samples
from trainables.options import build, fields_of
from trainables.options.common import OutlierOptions
from trainables.options.methods import METHODS
from trainables.ray.assets import Assets
from trainables.ray.study_trainable import StudyTrainable
from tuner import cli
from tuner.execution import remote_tasks
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import LanePlan, Plan
from tuner.planning.resolve import resolve

PROFILES = [(name, p.dataset) for name in search_spaces.NAMES for p in search_spaces.get(name).profiles]

#: Large networks, a trial takes a CPU 5 s or more (slow), 15 s or more (long).
MARKS = {
    ("ant_strength", "cifar10"): pytest.mark.slow,
    ("robgan", "cifar10"): pytest.mark.slow,
    ("robgan_finetune", "cifar10"): pytest.mark.slow,
    ("adversarial_baselines", "cifar10"): pytest.mark.slow,
    ("dyart_margin", "tiny-imagenet"): pytest.mark.slow,
    ("ant_strength", "imagenet"): pytest.mark.long,
    ("dyart_margin", "cifar10"): pytest.mark.long,
}
LANES = [
    pytest.param(name, dataset, lane, marks=MARKS.get((name, dataset), ()))
    for name, dataset in PROFILES
    for lane in ("search", *(arm.name for arm in search_spaces.get(name).arms if arm.search))
]

#: Sets whose images stay files in their real size.
LAZY = ("food101", "imagenet")
TRAIN_N = 6
#: Put over a profile where one of the study's methods has the option; everything else is the profile's.
SHORT: dict[str, Any] = {
    "batch_size": 3,
    "pretrain.batch_size": 3,
    "pretrain.epochs": 1,
    "outliers.count": 8,
    "retrain_iters": 2,
    "attack.steps": 1,
    "boundary.steps": 2,
    "speed_images": 2,
    "ft.share": 0.5,
    "guards.enabled": False,
}


# -- the data sets -----------------------------------------------------------------------------------------


def write(name: str, root: Path) -> None:
    """Write an ID set with everything that it is tested on, and the files of outliers."""
    if name == "imagenet":
        disk.imagenet(root, train=1, more=4)
        headline = search_spaces.get("ant_strength").headline
        wanted = tuple(c for c in CORRUPTIONS if f"test/accuracy/corrupted/{c}" in headline)
        disk.imagenet_c(root, wanted, disk.wnids(1000))
    else:
        disk.ID_SETS[name](root)
    for other in DATASETS[name].roles.tested:
        if other in disk.ID_SETS:
            disk.ID_SETS[other](root)
    for writer in disk.OOD_SETS:
        writer(root)
    if name in ("cifar10", "cifar100"):
        folder, classes = ("CIFAR-10-C", 10) if name == "cifar10" else ("CIFAR-100-C", 100)
        disk.cifar_c(root, folder, CORRUPTIONS, 4, classes)
    disk.images300k(root / "300K_random_images.npy")
    disk.samples_npz(root / "samples-224", (1.0, 2.0), 224)
    disk.samples_npz(root / "samples-32", (0.5, 1.0, 2.0, 4.0), 32)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    written: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in written:
            written[name] = tmp_path_factory.mktemp(name)
            write(name, written[name])
        return written[name]

    return folder


@pytest.fixture(autouse=True)
def short_diagnostics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what is only looked at, samples and the boundary's speed: it costs more than a tiny epoch."""
    monkeypatch.setattr(adversarial, "SPEED_SEARCH_STEPS", 2)
    monkeypatch.setattr(robgan, "GUARD_N", 8)
    monkeypatch.setattr(samples, "JUDGED_N", 8)
    monkeypatch.setattr(samples, "GRID_COLUMNS", 1)


# -- one profile -------------------------------------------------------------------------------------------


@dataclass
class Prepared:
    """What the driver has before the first trial of a run."""

    plan: Plan
    assets: Assets
    tests: Benchmark


def settings(study: str) -> list[str]:
    """Return SHORT as `--set` takes it, as far as the study's methods have the options."""
    chosen = search_spaces.get(study)
    methods = {chosen.method, *(arm.method for arm in chosen.arms if arm.method)}
    known = {key for method in methods for key in fields_of(METHODS[method].options)}
    short = [f"{key}={value}" for key, value in SHORT.items() if key in known]
    return [*short, "joint_epochs=1"] if "joint_epochs" in chosen.space else short


def resolved(study: str, dataset: str, data: Path, cache: Path) -> Plan:
    more = [f"cache_dir={cache}"]
    generator = search_spaces.get(study).profile(dataset).settings.get("outliers.generator")
    if generator:
        side = 224 if dataset == "food101" else 32
        places = {"images300k": "300K_random_images.npy", "npz": f"samples-{side}"}
        more.append(f"outliers.path={data / places[str(generator)]}")
    # a GAN's second phase needs an epoch of its own
    epochs = 2 if search_spaces.get(study).method == "robgan" else None
    request = LaunchOptions(
        study,
        dataset=dataset,
        data_dir=str(data),
        settings=(*settings(study), *more),
        max_epochs=epochs,
    )
    plan = resolve(request, "r")
    few = {"max_images": 2, "steps": 1}
    return replace(plan, validation={**plan.validation, **few}, protocol={**plan.protocol, **few})


@pytest.fixture(scope="module")
def prepared(
    folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Prepared]]:
    """Return a function that does once per profile what the driver does before its first trial."""
    cache = tmp_path_factory.mktemp("cache")
    benchmarks: dict[str, tuple[Benchmark, Benchmark]] = {}
    done: dict[tuple[str, str], Prepared] = {}

    def prepare(study: str, dataset: str) -> Prepared:
        if (study, dataset) not in done:
            data = folder_of(dataset)
            plan = resolved(study, dataset, data, cache)
            if dataset not in benchmarks:
                assert check_dataset_files(dataset, str(data)) == ""
                patch.setattr(from_files, "IN_MEMORY_BYTES", 0 if dataset in LAZY else 2**32)
                search = remote_tasks.load_benchmark(dataset, str(data), "search")
                benchmarks[dataset] = (
                    few(search),
                    remote_tasks.load_benchmark(dataset, str(data), "evaluate"),
                )
            search, tests = benchmarks[dataset]
            assets = Assets(search)
            lane = plan.lanes[0]
            state, _ = remote_tasks.pretrain(
                lane.method, dict(lane.fixed), plan.seed, search, plan.validation_protocol()
            )
            assets.pretrained[plan.seed] = state
            done[study, dataset] = Prepared(plan, assets, tests)
        return done[study, dataset]

    with pytest.MonkeyPatch.context() as patch:
        yield prepare


def few(benchmark: Benchmark) -> Benchmark:
    """Return a benchmark with few training images; the protocols shorten everything else."""
    train = benchmark.labelled(Split.TRAIN)
    shorter = LabelledImages(train.images[:TRAIN_N], train.labels[:TRAIN_N])
    return replace(benchmark, parts={**benchmark.parts, Split.TRAIN: {"id": shorter}}, opened=set())


def middle(domain: Float | Int | Choice) -> Any:
    """Return one value: the first choice, or the (geometric) middle of a range."""
    if isinstance(domain, Choice):
        return domain.options[0]
    between = math.sqrt(domain.low * domain.high) if domain.log else (domain.low + domain.high) / 2
    return round(between) if isinstance(domain, Int) else between


def shell(assets: Assets) -> type[StudyTrainable]:
    """Return what `tune.with_parameters` makes, without an object store."""

    class WithAssets(StudyTrainable):
        def setup(self, config: dict[str, Any], _: Assets | None = None) -> None:
            super().setup(config, assets)

    return WithAssets


def trial_config(plan: Plan, lane: LanePlan, folder: Path) -> dict[str, Any]:
    """Return the configuration that the queue's searcher hands to Tune."""
    return {
        **lane.fixed,
        **{key: middle(domain) for key, domain in lane.space.items()},
        "seed": plan.seed,
        "validation": dict(plan.validation),
        "_service": {
            "key": f"{lane.name}-0000",
            "method": lane.method,
            "pretrain_seed": plan.seed,
            "folder": str(folder),
            "checkpoint": "",
        },
    }


@pytest.mark.filterwarnings("ignore:.*the mean over the others is not mCE")
@pytest.mark.parametrize(("study", "dataset", "name"), LANES)
def test_a_trial_of_a_profile_trains_and_is_evaluated(
    study: str, dataset: str, name: str, prepared: Callable[[str, str], Prepared], tmp_path: Path
) -> None:
    ready = prepared(study, dataset)
    plan = ready.plan
    lane = next(lane for lane in plan.lanes if lane.name == name)
    trainable = shell(ready.assets)(config=trial_config(plan, lane, tmp_path))
    result: dict[str, Any] = {}
    for epoch in range(2 if plan.method == "robgan" else 1):
        result = trainable.step()
        assert "failed" not in result, result["failed"] + "\n" + result["trace"]
        assert result["epoch"] == epoch + 1
    trainable.cleanup()
    assert all(math.isfinite(v) for k, v in result.items() if k.startswith(("val/", "train/")))
    assert {o.metric for o in plan.objectives} | {f.metric for f in plan.floors} <= set(result)
    assert Folder(str(tmp_path)).read(result["checkpoint"])

    protocol = plan.test_protocol()
    found = remote_tasks.evaluate_checkpoint(str(tmp_path), result["checkpoint"], ready.tests, protocol, 1)
    metrics, scores = found.metrics, found.scores_to_store()
    assert all(math.isfinite(v) for v in metrics.values())
    # only the digits have classes that were never trained on
    headline = {metric for metric in plan.headline if not metric.endswith("/unknown")}
    assert headline <= set(metrics), headline - set(metrics)
    tested = set(DATASETS[dataset].roles.tested)
    assert tested | {"id"} <= set(scores) if "ood" in protocol.groups else not scores
    remote_tasks.attack_examples(str(tmp_path), result["checkpoint"], ready.assets.benchmark, count=2)


@pytest.mark.parametrize(("study", "dataset"), PROFILES)
def test_the_controls_of_a_profile_have_options_that_build(study: str, dataset: str, tmp_path: Path) -> None:
    """As the confirm stage derives them: of the winner what the control's method knows, less what it drops."""
    plan = resolved(study, dataset, tmp_path, tmp_path)
    lane = plan.lanes[0]
    winner = {**lane.fixed, **{key: middle(domain) for key, domain in lane.space.items()}}
    for arm in plan.arms:
        if not arm.search:
            options = METHODS[arm.method or plan.method].options
            known = fields_of(options)
            kept = {key: value for key, value in winner.items() if key in known and key not in arm.drop}
            built = build(options, kept | fixed(arm.overrides))
            assert built.network == winner.get("network", "small_cnn")
            assert built.epochs == plan.max_epochs


@pytest.mark.parametrize(("study", "dataset"), PROFILES)
def test_a_dry_run_prints_a_profile(
    study: str, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(["--study", study, "--dataset", dataset, "--data-dir", str(tmp_path), "--dry-run"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert dataset in printed.out
    profile = search_spaces.get(study).profile(dataset)
    if "network" in profile.settings:
        assert str(profile.settings["network"]) in printed.out
    assert list(tmp_path.iterdir()) == []


def test_every_profile_that_reads_outliers_from_files_says_where_they_are_to_come_from(
    tmp_path: Path,
) -> None:
    for study, dataset in PROFILES:
        generator = search_spaces.get(study).profile(dataset).settings.get("outliers.generator")
        if generator is not None:
            with pytest.raises(Exception, match=r"outliers\.path is empty"):
                check_outlier_files(build(OutlierOptions, {"generator": generator}), (3, 32, 32))
            assert "outliers.path=" in str(import_module(f"search_spaces.{study}").__doc__)
