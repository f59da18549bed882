"""The last sections of the report: how to use the model and run the study again, links into MLflow, metrics."""

from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.analysis.metric_text import larger_is_better, metric_label
from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import headline
from tuner.base.text import listed
from tuner.report.blocks import Block, Code, Heading, Links, Table, Text

MOST_NAMES = 20  # of classes


def use_of_the_model(result: StudyResult) -> list[Block]:
    """Return how the winner is used elsewhere."""
    if not result.export_command:
        return []
    blocks: list[Block] = [Heading("Use the model")]
    if result.model_lines:
        blocks += [Text("In Python, with mlflow and torch alone:"), Code("\n".join(result.model_lines))]
    return [*blocks, Text("As files (PyTorch, TorchScript, ONNX):"), Code(result.export_command)]


def reproduce(result: StudyResult) -> list[Block]:
    """Return the command, versions and settings that reproduce the run, its files, and its links into MLflow."""
    plan = result.plan
    rows = [
        ("run", plan.run_name),
        ("data set", plan.dataset),
        *([("classes", listed(result.classes, MOST_NAMES))] if result.classes else []),
        ("method", plan.method),
        ("seed", str(plan.seed)),
        ("sampler, scheduler", f"{plan.sampler}, {plan.scheduler}"),
        ("plan", plan.content_hash),
        *([("source", plan.source)] if plan.source else []),
        *((key, value) for key, value in result.environment.items() if key != "command"),
    ]
    blocks: list[Block] = [Heading("Reproduce", "reproduce")]
    commands = result.environment.get("command") or plan.command
    if commands:
        blocks.append(Code(commands))
    blocks.append(Table(("what", "value"), rows, words=frozenset({0, 1}), title="How this run was made"))
    blocks.append(
        Text(
            "Beside this page: `report.json` (what the plots show), `trials.csv` (all trials with all metrics), "
            "`arms.csv` (baselines' searches and fresh seeds), `report.md`, `plan.json`.",
            "note",
        )
    )
    if result.links or result.ui_command:
        blocks.append(Heading("MLflow"))
    if result.ui_command:
        blocks.append(Code(result.ui_command))
    if result.links:
        blocks.append(Links(list(result.links.items())))
    return blocks + _metrics(result)


def _metrics(result: StudyResult) -> list[Block]:
    """Return what the objectives, floors and headline metrics measure."""
    plan = result.plan
    names = [*(o.metric for o in plan.objectives), *(f.metric for f in plan.floors), *headline(plan)]
    families = dict.fromkeys(find_metric(name).spec.name for name in names)
    first = {family: next(n for n in names if find_metric(n).spec.name == family) for family in families}
    rows = [
        (metric_label(name), "larger" if larger_is_better(name) else "smaller", find_metric(name).spec.about)
        for name in first.values()
    ]
    return [
        Heading("What the metrics are"),
        Text(
            "ID: images like those of training; OOD: other images; near OOD resemble the training classes, far OOD "
            "do not. ε: the largest change of a pixel that an attack makes, of 1. Higher outlier scores mean more OOD."
        ),
        Table(("metric", "better", "what it is"), rows, words=frozenset({0, 1, 2}), title="Metrics"),
    ]
