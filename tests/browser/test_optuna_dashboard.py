"""Optuna's own tools on a run's database: Optuna Dashboard in headless Chromium, and `optuna.visualization`.

They read what a driver writes, as it writes it, and can change nothing.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Objective
from tests.browser.conftest import keep, needs_browser
from tests.tracking.servers import free_port
from tuner.base.records import Decision, State, TrialRole
from tuner.store.database import open_storage
from tuner.store.trial_reader import study_name
from tuner.store.trial_store import TrialStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed"),
]

OBJECTIVE = "val/robust_auroc_0.1/all"
SPACE = {
    "attack.epsilon": Float(0.02, 0.25, log=True),
    "attack.name": Choice(("fgsm", "pgd")),
    "attack.steps": Int(2, 10),
}
TRIALS = 12


def one_trial(store: TrialStore) -> None:
    """Train a trial that is the better, the larger epsilon is; every third is stopped early."""
    trial = store.ask(lambda number, params: {"configuration": dict(params), "seed": number})
    assert trial is not None
    number, params = trial.number, trial.params
    for epoch in (1, 2):
        score = 0.5 + params["attack.epsilon"] * epoch
        store.report(number, epoch, {OBJECTIVE: score}, Decision.CONTINUE, f"{epoch}.pt", (1, epoch))
    store.finish(number, State.PRUNED if number % 3 == 2 else State.COMPLETE, "", {})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialStore, Path]:
    """The database of a run whose driver has it open."""
    path = tmp_path_factory.mktemp("run") / "study.db"
    name = study_name("aoe_sigma-1-abc", "search")
    store = TrialStore(
        open_storage(f"sqlite:///{path}"),
        name,
        "search",
        TrialRole.SEARCH,
        SPACE,
        (Objective(OBJECTIVE),),
        0,
        "random",
    )
    for _ in range(TRIALS):
        one_trial(store)
    return store, path


def read_only(path: Path) -> str:
    """Return the URL of docs/search.md."""
    return f"sqlite:///file:{path}?mode=ro&uri=true"


@pytest.fixture(scope="module")
def dashboard(running: tuple[TrialStore, Path]) -> Iterator[str]:
    port = free_port()
    program = str(Path(sys.executable).with_name("optuna-dashboard"))  # the environment need not be activated
    command = [program, "--host", "127.0.0.1", "--port", str(port), read_only(running[1])]
    with open(running[1].parent / "dashboard.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    base = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{base}/api/studies", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None, (running[1].parent / "dashboard.log").read_text()
            time.sleep(0.25)
    yield base
    process.terminate()
    process.wait(timeout=30)


def answer(url: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def content(path: Path) -> str:
    """Return a hash of all rows."""
    import sqlite3

    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = "\n".join(connection.iterdump())
    connection.close()
    return sha256(rows.encode()).hexdigest()


def test_the_dashboard_shows_the_run_live(running: tuple[TrialStore, Path], dashboard: str) -> None:
    store, _ = running
    (study,) = answer(f"{dashboard}/api/studies")["study_summaries"]
    detail = answer(f"{dashboard}/api/studies/{study['study_id']}")
    assert (detail["name"], detail["objective_names"]) == ("aoe_sigma-1-abc", [OBJECTIVE])
    known = len(detail["trials"])
    states = [trial["state"] for trial in detail["trials"]]
    assert states.count("Pruned") == known // 3
    assert states.count("Complete") == known - known // 3
    one_trial(store)  # while the dashboard has the database open
    for _ in range(40):  # it keeps what it read for some seconds
        trials = answer(f"{dashboard}/api/studies/{study['study_id']}")["trials"]
        if len(trials) == known + 1:
            break
        time.sleep(0.5)
    assert len(trials) == known + 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/studies/1", None),
        ("POST", "/api/studies/1/rename", {"study_name": "mine"}),
        ("PUT", "/api/studies/1/note", {"version": 1, "body": "mine"}),
        ("POST", "/api/trials/1/tell", {"state": "Fail"}),
    ],
)
def test_the_dashboard_can_change_nothing(
    running: tuple[TrialStore, Path], dashboard: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    before = content(running[1])
    with pytest.raises(urllib.error.HTTPError) as refused:
        answer(dashboard + path, method, body)
    assert refused.value.code >= 400
    assert content(running[1]) == before


@pytest.mark.browser
@needs_browser
def test_the_page_shows_history_and_importances(dashboard: str, browser: Any) -> None:
    browser.get(f"{dashboard}/dashboard/studies/1")
    text, end = "", time.monotonic() + 60
    while time.monotonic() < end and not (
        "attack.epsilon" in text and browser.find_elements("css selector", ".js-plotly-plot")
    ):
        text = browser.execute_script("return document.body.textContent")
        time.sleep(0.5)
    keep(browser, "optuna-dashboard")
    for words in ("aoe_sigma-1-abc", "History", "attack.epsilon"):
        assert words in text, text[:2000]
    assert browser.find_elements("css selector", ".js-plotly-plot")


def test_optuna_draws_the_run_and_cannot_change_it(running: tuple[TrialStore, Path]) -> None:
    from optuna.visualization import matplotlib as drawn

    study = optuna.load_study(study_name="aoe_sigma-1-abc", storage=read_only(running[1]))
    assert study.metric_names == [OBJECTIVE]
    assert OBJECTIVE in {str(name) for name in study.trials_dataframe().columns} | set(study.metric_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its plots experimental
        axes = drawn.plot_optimization_history(study)
        shown = drawn.plot_param_importances(study)
        assert len(drawn.plot_slice(study)) == len(SPACE)
    complete = [t for t in study.trials if t.state is optuna.trial.TrialState.COMPLETE]
    assert max(len(dots.get_offsets()) for dots in axes.collections) == len(complete)
    assert [label.get_text() for label in shown.get_yticklabels()][-1] == "attack.epsilon"  # the largest bar
    before = content(running[1])
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.set_user_attr("mine", 1)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.tell(study.ask(), 1.0)
    assert content(running[1]) == before


@pytest.mark.skipif(find_spec("plotly") is None, reason="plotly is not installed")
def test_optunas_interactive_plots(running: tuple[TrialStore, Path]) -> None:
    import optuna.visualization as plots

    study = optuna.load_study(study_name="aoe_sigma-1-abc", storage=read_only(running[1]))
    for plot in (plots.plot_optimization_history, plots.plot_slice, plots.plot_edf, plots.plot_timeline):
        assert plot(study).data, plot.__name__
    assert plots.plot_contour(study, params=["attack.epsilon", "attack.steps"]).data
    (bars,) = plots.plot_param_importances(study).data
    assert bars.name == OBJECTIVE
    assert max(zip(bars.x, bars.y, strict=True))[1] == "attack.epsilon"
