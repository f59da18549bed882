"""What MLflow's pages of a study, its run and its model show beside numbers: views, the answer, links, the winner."""

from collections.abc import Collection, Mapping

from tuner.analysis.results import StudyResult
from tuner.commands.session import Session
from tuner.report.note import claim_in_short, first_note, note
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
    del links["report"], links["run"]
    text = signed(first_note(plan, links))
    for where in ("experiment", "run"):
        tracker.note(text, on=where, first=True)


def show_arms(session: Session) -> None:
    """Store the view of the arms; before there are any it would be empty."""
    session.tracker.view(ARMS, arms_view(session.plan), session.plan.run_name)


def show_answer(session: Session, result: StudyResult) -> None:
    """Show the answer on the experiment's page and the run's, and the winner and its model in the run's tags."""
    tracker, best = session.tracker, result.best
    if best is not None:
        tags = {"best_trial": best.label, "winner": _winner(result)}
        tracker.tag("", tags | ({"model": result.model} if result.model else {}))
    run_of_best = f"$(run:{best.key})" if best is not None else ""
    views = {SEARCH, ARMS} if result.arms else {SEARCH}
    links = _links(views, run_of_best=run_of_best, model=result.model)
    tracker.note(_note(result, links), on="experiment")
    # MLflow's home page shows 20 characters of the note, and the tags beside them
    tracker.experiment_tags({"claim": claim_in_short(result)})
    del links["run"]
    tracker.note(_note(result, links), on="run")


def note_on_model(session: Session, result: StudyResult) -> str:
    """Return the text on the page of the winner's model version, which is written with the ids that MLflow gave."""
    tracker, best = session.tracker, result.best
    experiment, parent = tracker.experiment_id(), tracker.parent_id()
    assert experiment is not None
    assert parent is not None
    run_of_best = (tracker.child_id(best.key) if best is not None else None) or ""
    return _note(result, _links(tracker.views, experiment, parent, run_of_best=run_of_best))


def _note(result: StudyResult, links: Mapping[str, str]) -> str:
    return signed(note(result, _winner(result), links, MOST - len(signed(""))))


def _winner(result: StudyResult) -> str:
    return run_name(result.best, result.plan) if result.best is not None else ""


def _links(
    views: Collection[str],
    experiment: str = _EXPERIMENT,
    parent: str = _PARENT,
    *,
    run_of_best: str = "",
    model: str = "",
) -> dict[str, str]:
    """Return links between MLflow's own pages.

    Args:
        experiment, parent, run_of_best: ids, or what stands for them until the text is delivered.
        model: name and version, "" for none.
    """
    links = ui_links("", experiment, parent, views=views)
    if ARMS in views:
        links["compare_arms"] = in_charts(links["arms"])
    if run_of_best:
        links["winner"] = run_link(experiment, run_of_best)
    if model:
        links["model"] = _model_link(model)
    return links | {"run": run_link(experiment, parent)}


def _model_link(model: str) -> str:
    name, version = model.rsplit("/", 1)
    return f"#/models/{name}/versions/{version}"
