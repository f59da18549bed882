"""Choice and check of the tracking URI, and links to MLflow's pages; imports no mlflow."""

import os
import shlex
from collections.abc import Collection, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from trainables.base.errors import InputError
from tuner.base.urls import DATABASES, has_bare_at, redact, resolved, scheme_of, sqlite_file, sqlite_url
from tuner.tracking.views import ARMS, SEARCH, view_key

DEFAULT_URI = "sqlite:///mlflow.db"
_WORKFLOW = "workflowType=machine_learning"  # MLflow's pages are those for language models otherwise


def choose_uri(option: str | None, variable: str) -> str:
    """Return the tracking URI: `--tracking-uri`, else MLFLOW_TRACKING_URI, else an SQLite file in this folder.

    The path of an SQLite file is made absolute: a resume from another folder finds it.

    Raises:
        InputError: MLflow could not use it.
    """
    uri = option or variable or DEFAULT_URI
    check_uri(uri)
    return uri if sqlite_file(uri) is None else resolved(uri)


def check_uri(uri: str) -> None:
    """Raise InputError unless MLflow could use `uri` as a tracking store; contacts nothing.

    A database is named with its driver if need be (`postgresql+psycopg2://...`). Schemes of installed MLflow
    plugins pass.
    """
    shown = redact(uri)
    if has_bare_at(uri):
        raise InputError(f"tracking URI {shown!r}: write the @ of its password as %40")
    try:
        parts = urlsplit(uri)
        host = parts.hostname
        _ = parts.port  # raises for a port that is no number
    except ValueError as error:
        raise InputError(f"tracking URI {shown!r}: {error}") from None
    scheme = parts.scheme.lower()
    if uri == "databricks" or scheme == "databricks":
        return
    if scheme in ("http", "https"):
        if not host:
            raise InputError(f"tracking URI {shown!r} names no host; write {scheme}://HOST:PORT")
        return
    if scheme == "sqlite":
        database = sqlite_file(uri)
        if database is None:
            raise InputError(f"tracking URI {shown!r} names no database file; write sqlite:///mlflow.db")
        if database.is_dir():
            raise InputError(
                f"tracking URI {shown!r} names a folder; write {sqlite_url(database / 'mlflow.db')}"
            )
        return
    if scheme.split("+")[0] in DATABASES and "://" in uri:
        return
    if scheme in ("", "file"):
        folder = unquote(parts.path).rstrip("/") or "."
        raise InputError(
            f"tracking URI {shown!r}: MLflow no longer writes to plain folders; write sqlite:///{folder}/mlflow.db"
        )
    plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
    if scheme not in plugins:
        known = ", ".join(["http", "https", *DATABASES, "databricks", *sorted(plugins - {"file-plugin"})])
        raise InputError(f"tracking URI {shown!r}: unknown scheme {scheme!r}, expected one of {known}")


def ui_command(uri: str) -> str:
    """Return the command that shows the store in a browser of this machine; "" if a server does already.

    A bare `mlflow ui` opens mlflow.db in the current folder, unless something there or in the environment
    points it elsewhere.
    """
    if uri == "databricks" or scheme_of(uri) in ("http", "https", "databricks"):
        return ""
    if redact(uri) != uri:  # the command is printed and stored: it must not carry the password
        return 'mlflow ui --host 127.0.0.1 --backend-store-uri "$MLFLOW_TRACKING_URI"'
    steered = any(
        name in os.environ for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_TRACKING_URI", "MLFLOW_HOST")
    )
    if (
        sqlite_file(uri) == Path.cwd() / "mlflow.db"
        and not steered
        and not any(Path().glob("mlruns/*/meta.yaml"))
    ):
        return "mlflow ui"
    return f"mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(resolved(uri))}"


def ui_address(uri: str) -> str:
    """Return where MLflow's pages are: at the server, or for a store without one at the UI of `ui_command`."""
    parts = urlsplit(uri)
    if parts.scheme.lower() in ("http", "https"):
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    return "http://127.0.0.1:5000"


def ui_links(
    address: str,
    experiment_id: str,
    parent_id: str,
    *,
    views: Collection[str] = (),
    best: Sequence[str] = (),
    objective: str = "",
    largest_first: bool = True,
) -> dict[str, str]:
    """Return links into MLflow's pages: `runs`, `arms`, `compare` and `report`, those that there is something behind.

    Plain links to an experiment open on an overview that shows no runs; these name the page. Where the store has the
    study's views, `runs` and `compare` show the trials of the search as table and as charts, `arms` the arms.

    Args:
        address: see `ui_address`; "" for links on MLflow's own pages.
        views: names of the shared views that the store has, see `tuner.tracking.views`.
        best: ids of the best trials' runs, best first.
        objective: without views `runs` filters to the children of this run (they are folded under their parent
            otherwise) and sorts by it.
    """
    experiment = f"{address}/#/experiments/{experiment_id}" if address else f"#/experiments/{experiment_id}"

    def view(name: str) -> str:
        return f"{experiment}/runs?{_WORKFLOW}&viewStateShareKey={view_key(name, parent_id)}"

    links = {"runs": f"{experiment}/runs?{_WORKFLOW}"}
    if SEARCH in views:
        links["runs"] = view(SEARCH)
    elif objective:
        children = quote(f"tags.`mlflow.parentRunId` = '{parent_id}'", safe="")
        order = quote(f"metrics.`{objective}`", safe="")
        ascending = str(not largest_first).lower()
        links["runs"] += f"&searchFilter={children}&orderByKey={order}&orderByAsc={ascending}"
    if ARMS in views:
        links["arms"] = view(ARMS)
    if SEARCH in views:
        links["compare"] = in_charts(view(SEARCH))
    elif len(best) > 1:
        runs = quote("[" + ",".join(f'"{run}"' for run in best) + "]", safe="")
        experiments = quote(f'["{experiment_id}"]', safe="")
        links["compare"] = f"{address}/#/compare-runs?{_WORKFLOW}&runs={runs}&experiments={experiments}"
    links["report"] = f"{experiment}/runs/{parent_id}/artifacts/report.html?{_WORKFLOW}"
    return links


def in_charts(link: str) -> str:
    """Return the link to a table of runs as the link to their charts."""
    return f"{link}&compareRunsMode=CHART"


def run_link(experiment_id: str, run_id: str) -> str:
    """Return the link to a run's page on MLflow's own pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"
