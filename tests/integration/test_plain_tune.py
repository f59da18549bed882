"""The Trainable classes with a plain `ray.tune.Tuner`, without the service."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import tempfile

    import ray

    session = tempfile.mkdtemp(prefix="rt", dir="/tmp")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=session)
    yield ray
    ray.shutdown()


def test_search_with_plain_tune(ray_here: Any, tmp_path: Path) -> None:
    """Nested options, a Tune domain, fractional resources, actor reuse, Tune's own checkpoints."""
    from ray import tune

    from trainables import AOETrainable

    results = tune.Tuner(
        tune.with_resources(AOETrainable, {"cpu": 0.5}),
        param_space={
            "dataset": "digits-open",
            "epochs": 2,
            "attack": {"name": "eba", "epsilon": tune.uniform(0.05, 0.1)},
            "outliers.count": 100,
            "pretrain.epochs": 2,
            "cache_dir": str(tmp_path / "cache"),
            "validation": {"groups": ("clean", "ood"), "score": "msp"},
        },
        tune_config=tune.TuneConfig(num_samples=3, reuse_actors=True, metric="val/auroc/all", mode="max"),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
        ),
    ).fit()
    assert len(results) == 3
    assert not results.errors
    for result in results:
        assert result.metrics["epoch"] == 2
        assert 0.5 < result.metrics["val/auroc/all"] <= 1
        assert "val/robust_auroc_0.1/near" not in result.metrics
        assert (Path(result.checkpoint.path) / "trial.pt").exists()


def test_trials_of_a_node_share_one_copy_of_the_images(ray_here: Any) -> None:
    """The loaders of two processes lie in the object store's shared memory, not in memory of their own."""
    import numpy as np

    from trainables.data.types.benchmark import LabelledImages

    data = ray_here.put(LabelledImages(np.zeros((500, 3, 32, 32), np.uint8), np.zeros(500, np.int64)))

    @ray_here.remote
    def mapping_of_the_images(data: LabelledImages) -> str:
        import torch

        from trainables.data.loading.device_loader import DeviceLoader

        at = DeviceLoader(data, 10, "cpu", torch.Generator()).images.data_ptr()
        for line in Path("/proc/self/maps").read_text().splitlines():
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if low <= at < high:
                return line.split(maxsplit=5)[-1]
        return "nowhere"

    found = ray_here.get([mapping_of_the_images.remote(data) for _ in range(2)])
    assert all("plasma" in name or "/dev/shm" in name for name in found), found


def test_an_unknown_option_is_an_error_of_the_trial(ray_here: Any, tmp_path: Path) -> None:
    from ray import tune

    from trainables import AOETrainable

    results = tune.Tuner(
        AOETrainable,
        param_space={"attack.epsilno": 0.1},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert "did you mean attack.epsilon?" in str(results.errors[0])


def test_a_method_of_ones_own_is_found_by_the_worker(ray_here: Any, tmp_path: Path) -> None:
    from tests.unit.own_files import METHOD, NETWORK
    from trainables.ray.trainable import trainable_class

    (tmp_path / "method.py").write_text(METHOD)
    (tmp_path / "net.py").write_text(NETWORK)
    config = {"dataset": "digits-open", "epochs": 1, "network": f"{tmp_path}/net.py:network", "alpha": 0.3}

    @ray_here.remote
    def train(cls: Any) -> dict[str, Any]:
        return dict(cls(config=config).step())

    report = ray_here.get(train.remote(trainable_class(f"{tmp_path}/method.py:Mixup")))
    assert report["train/loss"] > 0
