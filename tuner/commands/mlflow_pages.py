"""What MLflow's pages of a study, its run and its model show beside numbers: views, the answer, links, the winner."""

from collections.abc import Mapping

from tuner.analysis.results import StudyResult
from tuner.commands.session import Session
from tuner.report.note import first_note, note
from tuner.tracking.mlflow_uris import in_charts, run_link, ui_links
from tuner.tracking.notes import MOST, signed
from tuner.tracking.run_names import run_name
from tuner.tracking.views import ARMS, SEARCH, arms_view, search_view

_EXPERIMENT, _PARENT = "$(experiment)", "$(parent)"  # see `Tracker.note`


def open_pages(session: Session) -> None:
    """Store the view of the trials, and a first text where there is none: who looks while the study runs finds both."""
    tracker, plan = session.tracker, session.plan
    tracker.view(SEARCH, search_view(plan), plan.run_name)
    links = _links({SEARCH})
    del links["report"]
    text = signed(first_note(plan, links))
    for where in ("experiment", "run"):
        tracker.note(text, on=where, first=True)


def show_arms(session: Session) -> None:
    """Store the view of the arms; before there are any it would be empty."""
    session.tracker.view(ARMS, arms_view(session.plan), session.plan.run_name)


def show_answer(session: Session, result: StudyResult) -> None:
    """Show the answer on the experiment's page and the run's, and the winner and its model in the run's tags."""
    best, winner = result.best, _winner(result)
    links = _links({SEARCH, ARMS} if result.arms else {SEARCH})
    if best is not None:
        links["winner"] = run_link(_EXPERIMENT, f"$(run:{best.key})")
        tags = {"best_trial": best.label, "winner": winner}
        session.tracker.tag("", tags | ({"model": result.model} if result.model else {}))
    if result.model:
        links["model"] = _model_link(result.model)
    session.tracker.note(_note(result, links), on="run")
    links["run"] = run_link(_EXPERIMENT, _PARENT)
    session.tracker.note(_note(result, links), on="experiment")


def note_on_model(session: Session, result: StudyResult) -> str:
    """Return the text on the page of the winner's model version."""
    experiment, parent = session.tracker.experiment_id(), session.tracker.parent_id()
    assert experiment is not None
    assert parent is not None
    links = ui_links("", experiment, parent, views=session.tracker.views)
    return _note(result, {**links, "run": run_link(experiment, parent)})


def _note(result: StudyResult, links: Mapping[str, str]) -> str:
    return signed(note(result, _winner(result), links, MOST - len(signed(""))))


def _winner(result: StudyResult) -> str:
    return run_name(result.best, result.plan) if result.best is not None else ""


def _links(views: set[str]) -> dict[str, str]:
    """Return links between MLflow's own pages, whose ids are put in when the text is delivered."""
    links = ui_links("", _EXPERIMENT, _PARENT, views=views)
    return links | ({"compare_arms": in_charts(links["arms"])} if ARMS in views else {})


def _model_link(model: str) -> str:
    name, version = model.rsplit("/", 1)
    return f"#/models/{name}/versions/{version}"
