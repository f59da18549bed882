"""Whether the data have what a study is judged by: near OOD sets, corrupted test images."""

from trainables.data.types.availability import evaluation_sets, how_to_add, ood_sets
from trainables.data.types.dataset_info import dataset_info
from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.planning.plan import Plan


def lacking_for_claim(plan: Plan) -> str:
    """Return what the data lack for the study's first headline metric and what to put where, "" if they have it.

    One training alone is judged by nothing, and without the tests nothing is.

    Raises:
        DataFileError: the user's own OOD sets lie where they are not read.
    """
    if not plan.headline or plan.trains_one or not {"evaluate", "confirm"} & set(plan.stages):
        return ""
    name = plan.headline[0]
    metric = find_metric(name)
    group = metric.parameters.get("set", "")
    sets = ood_sets(plan.dataset, plan.data_dir)
    lack = ""
    if group in sets and not sets[group] and (cure := how_to_add(plan.dataset, group, plan.data_dir)):
        lack = f"{plan.data_dir or plan.dataset} has no {group} OOD set; {cure}"
    elif metric.spec.group == "corrupted":
        shape = dataset_info(plan.dataset, plan.data_dir).shape
        kinds = evaluation_sets(plan.dataset, shape, plan.data_dir, ("corrupted",))
        lack = next((kind.left_out for kind in kinds if kind.group == "corrupted"), "")
    return (
        f"the study is judged by {name}, but {lack}, or leave the tests out: --stages search" if lack else ""
    )
