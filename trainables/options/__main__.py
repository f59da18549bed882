"""Print every option of every method as Markdown: `python -m trainables.options > docs/options.md`."""

import sys
from dataclasses import Field
from typing import Any

from trainables.base.schema import choices_of, fields_of
from trainables.options.common import PretrainOptions, TrainingOptions
from trainables.options.methods import METHODS
from trainables.options.networks import NETWORKS
from trainables.options.outliers import OUTLIER_SOURCES


def markdown() -> str:
    """Return the page; options that every training shares stand once at the top."""
    lines = [
        "# Options",
        "",
        "Any of these can be set with `--set KEY=VALUE`, searched by a study, or given to a Trainable. Made by",
        "`python -m trainables.options`. Epsilon is in [0, 1] pixel units everywhere.",
        "",
        "## Every method",
        "",
        *_table(TrainingOptions, set()),
        "",
        "## Pretraining (`pretrain.`), of methods that start from a clean classifier",
        "",
        *_table(PretrainOptions, set(), "pretrain."),
        "",
        "## Networks (`network`)",
        "",
        "Memory is that of a training step with Adam on 64 images of 3 x 32 x 32, in float32.",
        "",
        *_networks(),
        "",
        "## Sources of outliers (`outliers.generator`)",
        "",
        *_outlier_sources(),
    ]
    shared = set(fields_of(TrainingOptions)) | {f"pretrain.{key}" for key in fields_of(PretrainOptions)}
    common = fields_of(TrainingOptions)
    for spec in METHODS:
        options, name = spec.options, spec.name
        same = {
            k
            for k in shared
            if k not in common or fields_of(options).get(k, (None, None, None))[2] == common[k][2]
        }
        lines += ["", f"## `{name}`", "", spec.about, "", *_table(options, same)]
    return "\n".join(lines) + "\n"


def _networks() -> list[str]:
    rows = ["| network | image side | parameters | memory | what |", "|---|---|---|---|---|"]
    for spec in sorted(NETWORKS, key=lambda spec: spec.cost):
        sides, size = f"{spec.smallest} to {spec.largest}", f"{spec.parameters / 1e6:.3g} M"
        rows.append(f"| `{spec.name}` | {sides} | {size} | {spec.cost:.0f} MB | {spec.about} |")
    return rows


def _outlier_sources() -> list[str]:
    rows = ["| source | what | `outliers.path` |", "|---|---|---|"]
    return rows + [f"| `{spec.name}` | {spec.about} | {spec.path or '-'} |" for spec in OUTLIER_SOURCES]


def _table(options: type, leave_out: set[str], prefix: str = "") -> list[str]:
    rows = ["| option | default | values | what |", "|---|---|---|---|"]
    for key, (field, hint, default) in fields_of(options).items():
        if key not in leave_out:
            values, text = _values(field, hint), field.metadata["help"]
            rows.append(f"| `{prefix}{key}` | {_text(default)} | {values} | {text} |")
    return rows


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else "empty"


def _values(field: "Field[Any]", hint: object) -> str:
    choices, low, high = choices_of(field), field.metadata["low"], field.metadata["high"]
    if choices is not None:
        return ", ".join(map(str, choices))
    kind = getattr(hint, "__name__", str(hint))
    if low is None and high is None:
        return kind
    bounds = f"{'' if low is None else f'{low:g}'} to {'any' if high is None else f'{high:g}'}"
    return f"{kind}, {bounds}"


if __name__ == "__main__":
    sys.stdout.write(markdown())
