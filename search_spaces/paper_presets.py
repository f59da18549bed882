"""The presets of `--preset`, and their page: `python -m search_spaces.paper_presets > docs/papers.md`."""

import sys

from search_spaces.domain import SpaceError
from search_spaces.paper_ood import OOD
from search_spaces.paper_robust import ROBUST
from search_spaces.paper_setting import PaperPreset, PaperSetting

PRESETS: tuple[PaperPreset, ...] = (*OOD, *ROBUST)
NAMES = tuple(dict.fromkeys(preset.name for preset in PRESETS))


def find(name: str, study: str, dataset: str) -> PaperPreset:
    """Return the preset of a study on a data set.

    Raises:
        SpaceError: there is none; the line names the data sets, or the studies, that have one.
    """
    for preset in PRESETS:
        if (preset.name, preset.study, preset.dataset) == (name, study, dataset):
            return preset
    datasets = [each.dataset for each in PRESETS if each.name == name and each.study == study]
    if datasets:
        raise SpaceError(
            f"--preset {name}: {study} has no published setting on {dataset}; it has on {', '.join(datasets)} "
            f"(--dataset {datasets[0]})"
        )
    studies = dict.fromkeys(each.study for each in PRESETS if each.name == name)
    raise SpaceError(f"--preset {name}: {study} has no published setting; these have: {', '.join(studies)}")


def markdown() -> str:
    """Return the page of all presets: what is the authors' first, then what is not, and why."""
    lines = [
        "# The papers' settings",
        "",
        "`--preset paper` runs a study with what its authors have set, to the last number that is known:",
        "",
        "```",
        "python launch.py --study energy_margins --preset paper --dataset cifar10 --data-dir DATA --dry-run",
        "python launch.py --train --study aoe_attacks --preset paper --dataset cifar10 --data-dir DATA \\",
        "    --set outliers.path=FOLDER",
        "```",
        "",
        "Nothing is searched but what the authors went over themselves (a study trains each of their values once,",
        "`--train` the one that they recommend). So the winner is their setting, and the confirm stage trains it and",
        "the arms of their comparison with fresh seeds; no trial is stopped early. `--set` still changes any of it,",
        "and `--dry-run` lists that with the other differences. Without `--preset` a study is as it was. Only data",
        'sets that the authors trained on have a preset. What neither paper nor code was found to tell is "not known"',
        "here, and no number is made up for it.",
        "",
        "Made from `search_spaces/paper_presets.py` by `python -m search_spaces.paper_presets`.",
    ]
    for group in _alike():
        first = group[0]
        names = ", ".join(f"`{preset.dataset}`" for preset in group)
        studies = ", ".join(dict.fromkeys(f"`{preset.study}`" for preset in group))
        lines += ["", f"## {studies} on {names}: `--preset {first.name}`", "", f"{first.source}.", ""]
        if first.needs:
            lines += [f"Needs `--set {key}=...`, {what}." for key, what in first.needs.items()] + [""]
        lines += [
            f"Arms that stay: {'; '.join(f'`{arm}`, {about}' for arm, about in first.arms.items())}.",
            "",
        ]
        lines += _table(first.settings)
    return "\n".join(lines) + "\n"


def _alike() -> list[list[PaperPreset]]:
    """Return the presets in groups of equal settings of one study."""
    groups: dict[tuple[object, ...], list[PaperPreset]] = {}
    for preset in PRESETS:
        groups.setdefault((preset.study, preset.name, preset.settings), []).append(preset)
    return list(groups.values())


def _table(settings: tuple[PaperSetting, ...]) -> list[str]:
    rows = ["| field | theirs | ours | why ours is another | source |", "|---|---|---|---|---|"]
    for s in sorted(settings, key=lambda s: (not s.option, bool(s.reason))):
        field = f"`{s.field}`" if s.option else s.field
        rows.append(f"| {field} | {s.theirs} | {s.shown} | {s.reason or '-'} | {s.source} |")
    return rows


if __name__ == "__main__":
    sys.stdout.write(markdown())
