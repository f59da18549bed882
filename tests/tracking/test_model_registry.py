"""The winner as a registered model in a real store."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tracking.servers import environment
from tests.tracking.stores import runs_of, tracker_for
from tuner.tracking.model_registry import log_winner

pytestmark = pytest.mark.timeout(240)


def test_winner_loads_back_with_the_same_logits(uri: str, tmp_path: Path) -> None:
    import mlflow

    tracker = tracker_for(uri, tmp_path / "spool")
    tracker.start()
    assert tracker.flush(60) == 0
    parent = tracker.parent_id() or ""
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(144, 10)).train()
    example = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    for _ in range(2):
        assert log_winner(uri, parent, network, example, "aoe", {"trial": "7"}) is None
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    assert network.training
    client = mlflow.MlflowClient(uri)
    assert client.get_run(parent).info.status == "RUNNING"
    assert len(client.search_model_versions("name = 'aoe'")) == 1
    champion = client.get_model_version_by_alias("aoe", "champion")
    assert champion.run_id == parent
    assert champion.tags["trial"] == "7"
    assert client.search_model_versions("name = 'aoe' and tags.trial = '7'")
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pytorch.load_model("models:/aoe@champion")
        signature = mlflow.models.get_model_info("models:/aoe@champion").signature
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    assert signature is not None
    network.eval()
    for n in (1, 7):
        inputs = torch.rand(n, 1, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(loaded(inputs), network(inputs))
    with torch.no_grad():
        network[-1].bias += 1
    client.set_terminated(parent, "KILLED", 12_345)
    assert log_winner(uri, parent, network, example, "aoe", {"trial": "8"}) is None
    assert client.get_model_version_by_alias("aoe", "champion").tags["trial"] == "8"
    info = client.get_run(parent).info
    assert (info.status, info.end_time) == ("KILLED", 12_345)
    problem = log_winner(uri, parent, network, example[:1], "aoe")
    assert problem is not None
    assert "two inputs" in problem
    problem = log_winner("http://me:secret@127.0.0.1:9", parent, network, example, "aoe")
    assert problem is not None
    assert "secret" not in problem
    assert tracker.close("FINISHED") == 0


EXAMPLE = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)


def classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))


KILLED = """
import os, signal, sys
import mlflow
from tests.tracking.test_model_registry import EXAMPLE, classifier
from tuner.tracking.model_registry import log_winner

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(mlflow.MlflowClient, sys.argv[3], die)
print(log_winner(sys.argv[1], sys.argv[2], classifier(), EXAMPLE, "aoe", {"trial": "0"}))
"""


@pytest.mark.slow
def test_killed_while_the_winner_is_logged_and_while_it_is_registered(uri: str, tmp_path: Path) -> None:
    """The trial's run keeps the status of its end; the next launches finish the one model and the one version."""
    import mlflow

    tracker = tracker_for(uri, tmp_path / "spool")
    tracker.start()
    tracker.child("0000", name="0000", params={"lr": 0.1})
    tracker.close_child("0000", "COMPLETE")
    assert tracker.close("KILLED", 60) == 0
    run_id = tracker.child_id("0000") or ""
    client = mlflow.MlflowClient(uri)
    before = client.get_run(run_id).info
    for where in ("log_model_artifacts", "_create_model_version"):
        died = subprocess.run(
            [sys.executable, "-c", KILLED, uri, run_id, where],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert died.returncode == -signal.SIGKILL, died.stdout + died.stderr
        info = client.get_run(run_id).info
        assert (info.status, info.end_time) == ("FINISHED", before.end_time)
    assert log_winner(uri, run_id, classifier(), EXAMPLE, "aoe", {"trial": "0"}) is None
    (model,) = client.search_logged_models([before.experiment_id])
    assert (str(model.status), model.source_run_id) == ("READY", run_id)
    (version,) = client.search_model_versions("name = 'aoe'")
    assert (version.run_id, version.source) == (run_id, f"models:/{model.model_id}")
    assert client.get_model_version_by_alias("aoe", "champion").version == version.version
    _, children = runs_of(uri)
    assert children["0000"].info.status == "FINISHED"
