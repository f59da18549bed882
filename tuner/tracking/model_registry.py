"""Logs the winner as an MLflow model, registers it, and gives it the alias `champion` where that is due.

mlflow and torch are imported inside functions: importing this module is cheap.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.inference.registrable import Registrable
from tuner.base.text import one_line
from tuner.base.urls import redact, resolved
from tuner.tracking.champion import ALIAS, Standing, reason_to_stay, standing_of
from tuner.tracking.connection import open_store
from tuner.tracking.notes import may_replace


@dataclass(frozen=True)
class Registered:
    """What became of a model.

    Attributes:
        version: of the registered model, "" if it was not registered.
        note: why it was not, or why the alias did not move; "" if there is nothing to say.
    """

    version: str = ""
    note: str = ""


def registered_name(study: str, dataset: str, data_dir: str = "") -> str:
    """Return the name of the registered model: one for a study and data set.

    Args:
        data_dir: folder of data that have no published name; its last part becomes part of the name.

    Example:
        ("aoe_sigma", "digits-open") -> "aoe_sigma.digits-open";
        ("aoe_sigma", "imagefolder", "/data/my flowers/") -> "aoe_sigma.imagefolder-my-flowers";
        ("aoe_sigma", "npz:/data/cells.npz") -> "aoe_sigma.npz-cells.npz"
    """
    own = Path(data_dir).name if data_dir else ""
    without_folders = re.sub(r"[^:]*/", "", dataset)
    text = f"{study}.{without_folders}{f'-{own}' if own else ''}"
    return re.sub(r"[^\w.-]+", "-", text).strip("-")


def loading_lines(uri: str, name: str, version: str) -> tuple[str, str]:
    """Return the two lines of Python that load a registered model; without the password of a tracking URI."""
    store = f'mlflow.set_tracking_uri("{resolved(uri)}")'
    if redact(uri) != uri:
        store = "the store is that of MLFLOW_TRACKING_URI"
        return (
            f"import mlflow  # {store}",
            f'model = mlflow.pyfunc.load_model("models:/{name}/{version}")',
        )
    return f"import mlflow; {store}", f'model = mlflow.pyfunc.load_model("models:/{name}/{version}")'


def log_winner(
    uri: str,
    run_id: str,
    model: Registrable,
    name: str,
    standing: Standing,
    tags: Mapping[str, str] | None = None,
    *,
    move: bool = False,
    parent_id: str = "",
    note: str = "",
) -> Registered:
    """Log a predictor as the study's model, register it under `name` and give it the alias `champion` if it is due.

    The first version gets the alias; later ones as `champion.reason_to_stay` says. A model that is already logged or
    registered for this run is not logged or registered again; one that a kill left half logged is replaced. Writes to
    the store directly, so call it when every event has been delivered.

    Args:
        uri: tracking URI.
        run_id: the run that the model belongs to; its status is never touched.
        model: the predictor.
        name: of the registered model.
        standing: how the model's configuration was confirmed.
        tags: of this version, besides `weights`, a hash of facts and weights, and the standing.
        move: give it the alias whatever the earlier result.
        parent_id: the study's run, which shows the model too; "" for none.
        note: Markdown for the page of the version; a user's own text there is left alone.
    """
    try:
        client, _ = open_store(resolved(uri))
        with _default_store(resolved(uri)):
            about = {**(tags or {}), **standing.as_tags()}
            version = _register(client, run_id, model, name, about)
            stays = _promote(client, name, version, standing, move)
            return Registered(version, stays or _show(client, name, version, parent_id, note))
    except Exception as error:  # a finished study must not fail over its last upload
        return Registered(note=f"model {name} not logged: {one_line(error)}")


def _register(client: Any, run_id: str, model: Registrable, name: str, about: dict[str, str]) -> str:
    """Return the version of a registered model with this content, which is made if need be."""
    import mlflow

    with suppress(mlflow.MlflowException):  # no such model yet
        for version in client.search_model_versions(f"name = '{name}'"):
            if version.run_id == run_id and version.tags.get("weights") == model.digest:
                for key, value in about.items():  # a run that was confirmed since
                    if version.tags.get(key) != value:
                        client.set_model_version_tag(name, version.version, key, value)
                return str(version.version)
    model_id = _logged_model(client, run_id, model)
    # The tags come with the version: a process killed in between would otherwise register it again.
    tags = about | {"weights": model.digest}
    version = mlflow.register_model(f"models:/{model_id}", name, await_registration_for=60, tags=tags)
    return str(version.version)


def _show(client: Any, name: str, version: str, run_id: str, note: str) -> str:
    """Describe a version on its page and make its model an output of the study's run, too; return why not, or ""."""
    from mlflow.entities import LoggedModelOutput

    try:
        stored = client.get_model_version(name, version)
        if note and note != stored.description and may_replace(stored.description or "", first=False):
            client.update_model_version(name, version, note)
        outputs = client.get_run(run_id).outputs if run_id else None
        model = stored.source.removeprefix("models:/")
        if run_id and model not in {o.model_id for o in (outputs.model_outputs if outputs else ())}:
            client.log_outputs(run_id, [LoggedModelOutput(model, 0)])
    except Exception as error:  # it is registered all the same
        return f"model {name}: version {version} is registered, but not described: {one_line(error)}"
    return ""


def _promote(client: Any, name: str, version: str, standing: Standing, move: bool) -> str:
    """Give a version the alias if that is due; return why it stays where it is, or ""."""
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    if holder is not None and str(holder) == version:
        return ""
    if holder is not None and not move:
        before = standing_of(client.get_model_version(name, holder).tags)
        reason = reason_to_stay(standing, before)
        if reason:
            return (
                f"model {name}: {ALIAS} stays version {holder}, this is version {version}: {reason}; "
                f"--{ALIAS} moves it"
            )
    client.set_registered_model_alias(name, ALIAS, version)
    return ""


def _logged_model(client: Any, run_id: str, model: Registrable) -> str:
    """Return the id of the run's logged model with this content, which is made if need be.

    The run is not started for it (`mlflow.start_run`): a kill would leave it RUNNING for ever.
    """
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import Model

    from tuner.tracking.model_folder import PredictorFlavor

    run = client.get_run(run_id)
    experiment = run.info.experiment_id
    query = f"source_run_id = '{run_id}' AND tags.weights = '{model.digest}'"
    for logged in client.search_logged_models([experiment], query):
        if logged.status == LoggedModelStatus.READY:
            return str(logged.model_id)
        client.delete_logged_model(logged.model_id)  # half logged
    tags = {"weights": model.digest}
    made = client.create_logged_model(experiment, "winner", run_id, tags, dict(run.data.params))
    Model.log(None, PredictorFlavor(), run_id=run_id, model_id=made.model_id, predictor=model)
    return str(made.model_id)


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
