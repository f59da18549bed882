"""The winner as a registered model in a real store."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tracking.stores import tracker_for
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
