"""Logs the winner as an MLflow model with a signature, registers it and gives it the alias `champion`.

mlflow and torch are imported inside functions: importing this module is cheap.
"""

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tuner.base.text import one_line
from tuner.base.urls import resolved
from tuner.tracking.connection import open_store

if TYPE_CHECKING:
    import numpy as np
    import torch


def log_winner(
    uri: str,
    run_id: str,
    network: "torch.nn.Module",
    example: "np.ndarray[Any, Any]",
    name: str,
    tags: Mapping[str, str] | None = None,
) -> str | None:
    """Log a network as the study's model, register it under `name` and give it the alias `champion`.

    Stored as a traced graph (`torch.export`), which loads without the class and without unpickling code,
    takes any batch size and is in evaluation mode. A network whose weights are already logged or registered for this
    run is not logged or registered again; one that a kill left half logged is replaced. Writes to the store directly,
    so call it when every event has been delivered.

    Args:
        uri: tracking URI.
        run_id: the run that the model belongs to; its status is never touched.
        network: on any device; logged from a copy on the CPU.
        example: inputs of shape (n, ...), float32; two or more, because tracing with one would fix n at 1.
        name: of the registered model.
        tags: of this version, besides `weights`, a hash of the parameters.

    Returns:
        None, or one line that says why it did not work.
    """
    try:
        if len(example) < 2:
            raise ValueError("the example needs two inputs or more")
        client, _ = open_store(resolved(uri))
        with _default_store(resolved(uri)):
            _register(client, run_id, network, example, name, dict(tags or {}))
    except Exception as error:  # a finished study must not fail over its last upload
        return f"model {name} not logged: {one_line(error)}"
    return None


def _register(
    client: Any,
    run_id: str,
    network: "torch.nn.Module",
    example: "np.ndarray[Any, Any]",
    name: str,
    about: dict[str, str],
) -> None:
    import mlflow

    network = copy.deepcopy(network).cpu().eval()
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in network.state_dict().values())).hexdigest()
    with suppress(mlflow.MlflowException):  # no such model yet
        for version in client.search_model_versions(f"name = '{name}'"):
            if version.run_id == run_id and version.tags.get("weights") == digest:
                client.set_registered_model_alias(name, "champion", version.version)
                return
    model_id = _logged_model(client, run_id, network, example, digest)
    # The tags come with the version: a process killed in between would otherwise register it again.
    tags = about | {"weights": digest}
    version = mlflow.register_model(f"models:/{model_id}", name, await_registration_for=60, tags=tags)
    client.set_registered_model_alias(name, "champion", version.version)


def _logged_model(
    client: Any, run_id: str, network: "torch.nn.Module", example: "np.ndarray[Any, Any]", digest: str
) -> str:
    """Return the id of the run's logged model with these weights, which is made if need be.

    The run is not started for it (`mlflow.start_run`): a kill would leave it RUNNING for ever.
    """
    import mlflow.pytorch
    import torch
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    run = client.get_run(run_id)
    experiment = run.info.experiment_id
    query = f"source_run_id = '{run_id}' AND tags.weights = '{digest}'"
    for model in client.search_logged_models([experiment], query):
        if model.status == LoggedModelStatus.READY:
            return str(model.model_id)
        client.delete_logged_model(model.model_id)  # half logged
    tags = {"weights": digest}
    model = client.create_logged_model(experiment, "winner", run_id, tags, dict(run.data.params))
    with torch.no_grad():
        logits = network(torch.from_numpy(example[:2]))
    signature = ModelSignature(
        Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        Schema([TensorSpec(logits.numpy().dtype, (-1, *logits.shape[1:]))]),
    )
    mlflow.pytorch.log_model(
        network,
        model_id=model.model_id,
        run_id=run_id,
        signature=signature,
        input_example=example[:2],
        serialization_format="pt2",
        # Named, because MLflow would find them out by loading the model in a new process.
        pip_requirements=[
            f"mlflow=={mlflow.__version__}",
            f"torch=={torch.__version__.partition('+')[0]}",
        ],
    )
    return str(model.model_id)


@contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """Make `uri` the store of MLflow's module-level functions, and restore the earlier one at the end."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
