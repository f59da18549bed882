"""Carries trials into MLflow: one run per trial for life, in batches, off the driver's thread.

The only file that imports mlflow, and only inside functions: importing this module is cheap.

Identity. The study's run is the MLflow run tagged `run` = its name; a trial is the child tagged `key` below
it. Both are searched before they are created, so a resume continues them even if the spool is gone.

Idempotence. Events go through the spool in order and are acknowledged once delivered. A process killed
between the two delivers them again, which changes nothing: of each metric only steps after the run's own last
one are written, each with the time stored in its event (MLflow drops exact duplicates); the rest overwrites
itself.
"""

import copy
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.delivery import Sender, one_line
from tuner.links import DEFAULT_URI, absolute, check_uri, redact, sqlite_file, ui_command, ui_links
from tuner.spool import Courier, Page, Spool

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "DEFAULT_URI",
    "STATUS_OF",
    "Tracker",
    "check_uri",
    "log_winner",
    "redact",
    "ui_command",
    "ui_links",
]

log = logging.getLogger(__name__)

Scalar = int | float | str | bool
STATUS_OF = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}

_MAX_PARAM, _MAX_TAG = 6000, 8000  # MLflow's limits, where it would cut without a word
_MAX_PROBLEMS = 200


class Tracker:
    """One study run and its children in MLflow. Only `flush` and `close` wait, at most their timeout.

    A key names a child for ever ("t0007"); the key "" is the study's run. Trouble never raises: what MLflow
    refuses for good is left out and listed in `problems`, everything else is tried again.

    Args:
        uri: tracking URI, see `check_uri`, which this calls.
        experiment: the study's name.
        run: the study run's name, unique in the experiment.
        spool: file that keeps undelivered events.
        tags: of the study's run.
        interval_s: pause between deliveries.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run: str,
        spool: Path,
        tags: Mapping[str, str],
        *,
        interval_s: float = 1.0,
    ) -> None:
        check_uri(uri)
        store = absolute(uri)
        consumer = hashlib.sha256(f"{redact(store)}\n{experiment}\n{run}".encode()).hexdigest()[:16]
        self._tags = _texts(tags, _MAX_TAG)
        self._spool = Spool(spool, consumer)
        self._sender = Sender(store, experiment, run, _open, self._problem)
        self._courier = Courier(self._spool, self._sender.connect, self._deliver, self._failed, interval_s)
        self._problems: dict[str, None] = {}
        self._errors, self._last_error = 0, ""

    def start(self) -> None:
        """Start the writer: what an earlier process left behind goes out, then the study's run reopens."""
        self._put(op="start", key="", tags=self._tags)
        self._courier.start()

    def child(
        self,
        key: str,
        *,
        name: str,
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Declare the run of a trial, or take it up again. A closed run reopens with its first new step."""
        self._put(
            op="child", key=key, name=name, params=_texts(params, _MAX_PARAM), tags=_texts(tags, _MAX_TAG)
        )

    def metrics(self, key: str, step: int, values: Mapping[str, float], time_ms: int | None = None) -> None:
        """Record one epoch. Steps that a metric already has are skipped: a rolled-back trial may repeat them.

        NaN is stored as NaN. An infinite value is left out and noted as a problem: MLflow would store it as
        1.8e308, which flattens every chart it appears in.
        """
        self._values("metrics", key, values, step, time_ms)

    def final(self, key: str, values: Mapping[str, float]) -> None:
        """Record closing values once, at the last step the run has reached (0 if none).

        A metric that the run already has is left alone, so name them differently from the per-epoch ones.
        """
        self._values("final", key, values, 0, None)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Set tags; the last value wins."""
        self._put(op="tag", key=key, tags=_texts(tags, _MAX_TAG))

    def text(self, key: str, text: str, name: str) -> None:
        """Store `text` as the artifact `name`."""
        self._put(op="text", key=key, text=redact(text), name=name)

    def artifact(self, key: str, path: Path, folder: str = "") -> None:
        """Upload a file as it is when its turn comes; it is a problem if it is gone by then."""
        self._put(op="artifact", key=key, path=str(path.absolute()), folder=folder)

    def close_child(self, key: str, state: str, reason: str = "") -> None:
        """End a trial's run: COMPLETE shows as FINISHED, PRUNED as KILLED, FAIL as FAILED."""
        if state not in STATUS_OF:
            self._problem(f"{key}: unknown state {state!r}, expected one of {', '.join(STATUS_OF)}")
            return
        tags = {"state": state} | ({"reason": reason} if reason else {})
        self._put(op="close", key=key, status=STATUS_OF[state], tags=_texts(tags, _MAX_TAG))

    def flush(self, timeout_s: float = 30) -> int:
        """Wait for the writer to catch up; return the number of events still undelivered."""
        return self._courier.flush(timeout_s)

    def close(self, status: str, timeout_s: float = 30) -> int:
        """End the study's run (FINISHED, FAILED or KILLED) and the writer, and log the problems.

        Returns:
            The number of events still undelivered; they stay in the spool and go out at the next start.
        """
        self._put(op="close", key="", status=status)
        unsent = self._courier.stop(timeout_s)
        if not self._courier.alive:
            self._spool.close()
        for problem in self.problems:
            log.warning("MLflow: %s", problem)
        if unsent:
            log.warning(
                "MLflow: %d events undelivered, kept in %s; %s", unsent, self._spool.path, self._last_error
            )
        return unsent

    def parent_id(self) -> str | None:
        """Return the MLflow id of the study's run, once the store has answered."""
        return self.child_id("")

    def child_id(self, key: str) -> str | None:
        """Return the MLflow id of a trial's run, once the store has answered."""
        run = self._sender.runs.get(key)
        return run.id if run else None

    def experiment_id(self) -> str | None:
        """Return the MLflow id of the experiment, once the store has answered."""
        return self._sender.experiment_id or None

    @property
    def problems(self) -> list[str]:
        """What was left out for good and why, one line each."""
        return list(self._problems)

    @property
    def errors(self) -> int:
        """How many deliveries failed and were, or will be, tried again."""
        return self._errors

    @property
    def last_error(self) -> str:
        """The newest of their reasons, one line without credentials."""
        return self._last_error

    def _values(self, op: str, key: str, values: Mapping[str, float], step: int, time_ms: int | None) -> None:
        try:
            numbers = {name: float(value) for name, value in values.items()}
        except (TypeError, ValueError) as error:
            self._problem(f"{key or 'study'}: {op} left out: {error}")
            return
        self._put(op=op, key=key, step=int(step), v=numbers, t=time_ms)

    def _put(self, **event: Any) -> None:
        event["t"] = event.get("t") or int(time.time() * 1000)
        try:
            self._spool.append(event)
        except (OSError, TypeError, ValueError) as error:  # a full disk must not end the study
            self._problem(f"{event['key'] or 'study'}: {event['op']} lost: {error}")

    def _deliver(self, page: Page) -> None:
        self._sender.send(page.events)
        for line in page.broken:
            self._problem(line)
        if self._courier.failures:
            log.info("MLflow: the tracking store answers again")

    def _failed(self, error: Exception) -> None:
        self._sender.disconnect()
        self._errors += 1
        self._last_error = one_line(error)
        if self._courier.failures == 1:
            log.warning("MLflow: %s; events are kept in %s", self._last_error, self._spool.path)

    def _problem(self, line: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems[one_line(line)] = None


def log_winner(
    uri: str, run_id: str, network: "torch.nn.Module", example: "np.ndarray[Any, Any]", name: str
) -> str | None:
    """Log a network as the study's model, register it under `name` and give it the alias `champion`.

    Stored as a traced graph (`torch.export`), which loads without the class and without unpickling code,
    takes any batch size and is in evaluation mode. A network whose weights are already registered for this
    run is not registered again. Contacts the store at once, so call it when the writer has caught up.

    Args:
        uri: tracking URI.
        run_id: the run that the model belongs to; its status does not change.
        network: on any device; logged from a copy on the CPU.
        example: inputs of shape (n, ...), float32; two or more, because tracing with one would fix n at 1.
        name: of the registered model.

    Returns:
        None, or one line that says why it did not work.
    """
    try:
        if len(example) < 2:
            raise ValueError("the example needs two inputs or more")
        client, _ = _open(absolute(uri))
        with _default_store(absolute(uri)):
            _register(client, run_id, network, example, name)
    except Exception as error:  # a finished study must not fail over its last upload
        return f"model {name} not logged: {one_line(error)}"
    return None


def _register(
    client: Any, run_id: str, network: "torch.nn.Module", example: "np.ndarray[Any, Any]", name: str
) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    network = copy.deepcopy(network).cpu().eval()
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in network.state_dict().values())).hexdigest()
    tags = {"run": run_id, "weights": digest}
    with suppress(mlflow.MlflowException):  # no such model yet
        for version in client.search_model_versions(f"name = '{name}'"):
            if tags.items() <= version.tags.items():
                client.set_registered_model_alias(name, "champion", version.version)
                return
    with torch.no_grad():
        logits = network(torch.from_numpy(example[:2]))
    signature = ModelSignature(
        Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        Schema([TensorSpec(logits.numpy().dtype, (-1, *logits.shape[1:]))]),
    )
    status = client.get_run(run_id).info.status
    with mlflow.start_run(run_id=run_id, nested=True):
        logged = mlflow.pytorch.log_model(
            network,
            name="winner",
            signature=signature,
            input_example=example[:2],
            serialization_format="pt2",
            registered_model_name=name,
            await_registration_for=60,
            # Named, because MLflow would find them out by loading the model in a new process.
            pip_requirements=[
                f"mlflow=={mlflow.__version__}",
                f"torch=={torch.__version__.partition('+')[0]}",
            ],
        )
    client.update_run(run_id, status=status)
    for key, value in tags.items():
        client.set_model_version_tag(name, logged.registered_model_version, key, value)
    client.set_registered_model_alias(name, "champion", logged.registered_model_version)


def _open(uri: str) -> tuple[Any, Any]:
    """Return a client for the store and MLflow's entities."""
    # MLflow repeats a request for four minutes by default; the writer repeats it better.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow.entities

    database = sqlite_file(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri), mlflow.entities


@contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """Make `uri` what MLflow's module-level functions use, and put back what was."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _texts(values: Mapping[str, Scalar] | None, limit: int) -> dict[str, str]:
    """Return the values as text, shortened visibly to what MLflow stores, without credentials."""
    texts = {}
    for name, value in (values or {}).items():
        text = redact(str(value))
        if len(text) > limit:
            note = f"... [cut, {len(text)} characters]"
            text = text[: limit - len(note)] + note
        texts[name] = text
    return texts
