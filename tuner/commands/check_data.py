"""`launch.py --check-data`: what is in a data set, what is wrong with it, and a sheet of its images; starts nothing."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainables.base.errors import DataFileError
from trainables.base.storage import atomic_write
from trainables.base.user_code import name_codes
from trainables.data.loading.data_sheet import as_saved, contact_sheet
from trainables.data.loading.leakage import leakage_notes
from trainables.data.loading.own_data import examine
from trainables.data.loading.own_facts import class_counts
from trainables.data.types.datasets import DATASETS
from trainables.data.types.own_datasets import ARRAYS
from trainables.data.types.splits import Split
from tuner.base.errors import UsageError
from tuner.base.text import listed
from tuner.commands.json_file import only_json_on_stdout, write_json
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.task_options import ASKED, STDOUT

SHEET = "contact-sheet.png"
MOST_CLASSES = 40  #: in the table; JSON has all of them
_ID = {Split.TRAIN: "train", Split.VAL_ID: "validation", Split.TEST_ID: "test"}
_OOD = {
    Split.TEST_OOD_NEAR: "near",
    Split.TEST_OOD_FAR: "far",
    Split.TEST_OOD_OTHER: "in no mean",
    Split.VAL_OOD_NEAR: "validation, near",
    Split.VAL_OOD_FAR: "validation, far",
}


def check_data(options: LaunchOptions, show: Callable[[str], None]) -> int:
    """Show what is found in the data that the options name, write the sheet, and return the exit status.

    It is 2 if a launch with these data would be refused.

    Raises:
        UsageError: no data are named, or the file of --json cannot be written.
        InputError: there is no data set of that name.
    """
    with only_json_on_stdout(options.json):
        dataset, data_dir = named_data(options)
        found = found_in(dataset, data_dir)
    text = json.dumps(found, indent=2)
    show(text if options.json == STDOUT else as_text(found))
    if options.json not in (None, STDOUT):
        write_json(str(options.json), text)
    return 2 if found["problems"] else 0


def named_data(options: LaunchOptions) -> tuple[str, str]:
    """Return the data set and the data folder that the options name; a folder of pictures may stand alone.

    Raises:
        UsageError: none is named, or two are.
    """
    value, dataset, data_dir = options.check_data or ASKED, options.dataset, options.data_dir or ""
    if value != ASKED:
        if dataset:
            raise UsageError(
                f"--check-data {value} and --dataset {dataset} both name the data; leave one out"
            )
        if os.path.isdir(value) and not data_dir:
            dataset, data_dir = "imagefolder", value
        elif value.endswith(".npz") and not value.startswith(ARRAYS):
            dataset = f"{ARRAYS}{value}"
        else:
            dataset = value
    if not dataset:
        raise UsageError("name the data: --check-data DIR, or --check-data --dataset NAME and its --data-dir")
    if data_dir and not os.path.isdir(data_dir):
        raise UsageError(f"--data-dir {data_dir} is not a folder")
    name_codes([dataset])
    spec = DATASETS[dataset]
    if spec.files is not None and not data_dir:
        raise UsageError(f"dataset {spec.name} needs --data-dir: {spec.info.files}")
    return spec.name, data_dir


def found_in(dataset: str, data_dir: str) -> dict[str, Any]:
    """Return what is found in a data set, as JSON values, and write the sheet of its images."""
    found = examine(dataset, data_dir)
    problems, notes = found.problems, found.notes
    result: dict[str, Any] = {"dataset": dataset, "data_dir": data_dir}
    if found.parts:
        assert found.info is not None
        info = found.info
        if not problems:
            try:  # by pixels and look, which decodes everything
                notes += leakage_notes(dataset, data_dir, (), allowed=False)
            except DataFileError as error:
                problems.append(str(error))
        result |= {
            "shape": list(info.shape),
            "mean": list(info.mean),
            "std": list(info.std),
            "classes": list(info.class_names),
            "images": {
                name: dict(
                    zip(
                        info.class_names,
                        class_counts(found.parts[split]["id"], info.num_classes),
                        strict=True,
                    )
                )
                for split, name in _ID.items()
                if split in found.parts
            },
            "ood": {
                name: {each: len(data) for each, data in found.parts[split].items()}
                for split, name in _OOD.items()
                if split in found.parts
            },
            "as_saved": as_saved(found.parts),
            "looked_into": list(found.looked_into),
        }
        sheet = Path(SHEET).resolve()
        try:
            with atomic_write(sheet) as file:
                file.write(contact_sheet(info, found.parts))
            result["contact_sheet"] = str(sheet)
        except OSError as error:  # a folder that is only read
            notes.append(f"{sheet} cannot be written: {error.strerror or error}")
            result["contact_sheet"] = None
    return result | {"notes": notes, "problems": problems}


def as_text(found: Mapping[str, Any]) -> str:
    """Return the answer as lines."""
    where = f" in {found['data_dir']}" if found["data_dir"] else ""
    lines = [f"data      {found['dataset']}{where}"]
    if "classes" in found:
        channels, height, width = found["shape"]
        lines.append(
            f"images    {_saved(found['as_saved'])}as the network sees them {channels} x {height} x {width}"
        )
        lines += ["", *_classes(found), ""]
        lines += [f"{name + ' OOD':16}{_sizes(sets)}" for name, sets in found["ood"].items()]
        done, count = found["looked_into"]
        lines += [f"{done} of {count} images looked into"] if count else []
        lines += [f"sheet of images: {found['contact_sheet']}"] if found["contact_sheet"] else []
    lines += [f"note: {line}" for line in found["notes"]]
    lines += [f"problem: {line}" for line in found["problems"]]
    if not found["problems"]:
        lines.append("nothing is wrong with these data")
    return "\n".join(lines)


def _saved(saved: Mapping[str, Any]) -> str:
    if not saved:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in saved["kinds"].items())
    low, high = (" x ".join(map(str, saved[key])) for key in ("smallest", "largest"))
    sizes = low if low == high else f"{low} to {high}"
    return f"as saved {sizes} (width x height), {kinds} of {saved['looked_at']} looked at; "


def _classes(found: Mapping[str, Any]) -> list[str]:
    """Return a table of the images of each class in each split."""
    parts = found["images"]
    names = found["classes"][:MOST_CLASSES]
    rows = [["class", *parts], *([name, *(str(part[name]) for part in parts.values())] for name in names)]
    if len(found["classes"]) > len(names):
        rows.append([f"... ({len(found['classes'])} in all)", *("" for _ in parts)])
    rows.append(["all", *(str(sum(part.values())) for part in parts.values())])
    wide = max(len(row[0]) for row in rows)
    return [f"{row[0]:<{wide}}{''.join(f'{cell:>12}' for cell in row[1:])}" for row in rows]


def _sizes(sets: Mapping[str, int]) -> str:
    return listed([f"{name} ({size})" for name, size in sets.items()], most=20)
