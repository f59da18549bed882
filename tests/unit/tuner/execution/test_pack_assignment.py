"""Who shares a worker, and a pack's actor without Ray: reports, failures, refilling, checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit import toy
from trainables.base.storage import Folder
from trainables.ray.assets import Assets
from trainables.ray.study_trainable import PackedTrainable, StudyTrainable
from trainables.training import checkpoints
from tuner.execution.pack_assignment import PackAssignment
from tuner.execution.trial_queue import Assignment
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.packability import lane_unpackable, pack_text
from tuner.planning.resolve import resolve

# -- who shares a worker -----------------------------------------------------------------------------------


class Due:
    """A queue that hands out what it was given."""

    def __init__(self, *assignments):
        self.waiting = list(assignments)

    def next(self, preferred_lane=""):
        first = min(self.waiting, key=lambda assignment: assignment.lane != preferred_lane, default=None)
        if first is not None:
            self.waiting.remove(first)
        return first


def due(key, **changes):
    configuration = {"attack.steps": 2, **changes.pop("configuration", {})}
    given = Assignment(key, "search", 0, "pgd_at", configuration, 1, 1, "", 0, 1)
    return replace(given, **changes)


def keys(assignments):
    return [assignment.key for assignment in assignments]


def test_a_pack_is_filled_and_refilled():
    packs = PackAssignment(Due(*map(due, "abcdef")), 4)
    assert keys(packs.refill("w")) == ["a", "b", "c", "d"]
    packs.epoch_reported("w", [])
    assert packs.refill("w") == []
    packs.epoch_reported("w", ["b", "d"])
    assert keys(packs.refill("w")) == ["e", "f"]
    assert packs.members("w") == ["a", "c", "e", "f"]
    packs.epoch_reported("w", ["a", "c", "e", "f"])
    assert packs.refill("w") == []
    assert packs.remove_worker("w") == []


def test_places_that_become_free_together_are_filled_from_one_lane():
    packs = PackAssignment(Due(due("a"), due("x", lane="oe"), due("b"), due("y", lane="oe"), due("c")), 2)
    assert keys(packs.refill("v")) == ["a", "b"]
    packs.epoch_reported("v", ["a", "b"])
    assert keys(packs.refill("v")) == ["x", "y"]
    packs.epoch_reported("v", ["x"])
    assert keys(packs.refill("v")) == ["c"]


def test_two_workers_have_their_own_members():
    packs = PackAssignment(Due(*map(due, "abc")), 2)
    assert keys(packs.refill("v")) == ["a", "b"]
    assert keys(packs.refill("w")) == ["c"]
    assert packs.remove_worker("v") == ["a", "b"]
    assert packs.members("w") == ["c"]


def test_trials_of_other_shapes_share_a_worker_those_without_a_packed_form_do_not():
    """A held trial is the next worker's, and nobody is asked for before it."""
    other = due("b", configuration={"batch_size": 7})
    alone = due("x", configuration={"dropout": 0.5})
    queue = Due(due("a"), other, alone, due("c"))
    packs = PackAssignment(queue, 4)
    assert keys(packs.refill("v")) == ["a", "b"]
    packs.epoch_reported("v", ["b"])
    assert packs.refill("v") == []
    assert keys(packs.refill("w")) == ["x"]
    packs.epoch_reported("w", [])
    assert packs.refill("w") == []  # for good
    assert keys(packs.refill("v")) == ["c"]
    packs.epoch_reported("w", ["x"])
    queue.waiting.append(due("d"))
    assert keys(packs.refill("w")) == ["d"]


def test_a_trial_whose_worker_died_is_alone_until_it_has_reported():
    queue = Due(due("a", lost_workers=1), due("b", lost_workers=1), due("c"))
    packs = PackAssignment(queue, 4)
    assert keys(packs.refill("v")) == ["a"]
    assert keys(packs.refill("w")) == ["b"]
    packs.epoch_reported("v", [])
    assert keys(packs.refill("v")) == ["c"]
    assert packs.remove_worker("w") == ["b"]


def test_a_trial_with_refused_options_is_alone():
    packs = PackAssignment(Due(due("a"), due("b", configuration={"attack.steps": -1})), 4)
    assert keys(packs.refill("v")) == ["a"]
    assert keys(packs.refill("w")) == ["b"]


# -- what the plan says -------------------------------------------------------------------------------------


def test_the_plan_says_what_is_packed_and_why_not():
    plan = resolve(LaunchOptions("adversarial_baselines"), "r")
    assert all(not lane_unpackable(lane) for lane in plan.lanes)
    assert pack_text(plan) == ["packing: off; with a GPU, what is measured at start decides"]
    assert pack_text(replace(plan, gpus_per_trial=0.5)) == ["packing: off"]  # nothing will be measured
    assert pack_text(replace(plan, pack=4)) == ["packing: up to 4 trials share a process"]
    assert pack_text(replace(plan, pack=1)) == ["packing: off"]
    dropout = resolve(LaunchOptions("adversarial_baselines", settings=("dropout=0.1",)), "r")
    for wish in (None, 4):
        lines = pack_text(replace(dropout, pack=wish))
        assert lines[0] == "packing: every trial has a process of its own"
        assert lines[1].startswith("  not search: dropout draws from")


def test_where_one_lane_cannot_be_packed():
    """Asked for, the others are; by itself the service leaves all alone, for a pack's GPU would go to single trials."""
    plan = resolve(LaunchOptions("compare_methods"), "r")
    reasons = {lane.name: bool(lane_unpackable(lane)) for lane in plan.lanes}
    assert set(reasons.values()) == {True, False}
    assert pack_text(plan)[0] == "packing: every trial has a process of its own"
    assert pack_text(replace(plan, pack=4))[0] == "packing: up to 4 trials share a process"


# -- the actor ---------------------------------------------------------------------------------------------

VALIDATION = {"groups": ("clean",), "max_images": 16}


def config(key, folder, checkpoint="", method="pgd_at", **options):
    service = {
        "key": key,
        "method": method,
        "folder": str(folder),
        "checkpoint": checkpoint,
        "pretrain_seed": 0,
    }
    common = {"dataset": "toy", "epochs": 3, "batch_size": 16, "seed": int(key)}
    if method == "pgd_at":
        common |= {"attack.steps": 2}
    return {**common, **options, "validation": VALIDATION, "_service": service}


ASSETS = Assets(toy.benchmark(train=64))


def pack(*configs):
    trainable = PackedTrainable.__new__(PackedTrainable)
    trainable.setup({"pack": list(configs)}, ASSETS)
    return trainable


def single(given):
    trainable = StudyTrainable.__new__(StudyTrainable)
    trainable.setup(given, ASSETS)
    return trainable


def reports(trainable):
    return {report["key"]: report for report in trainable.step()["pack"]}


def close(packed, alone):
    assert packed.keys() - {"key"} == alone.keys()
    for name, value in alone.items():
        if isinstance(value, float) and "seconds" not in name:
            assert packed[name] == pytest.approx(value, rel=1e-3, abs=0.07), name
        elif "seconds" not in name:
            assert packed[name] == value, name


@pytest.mark.slow
def test_a_packed_trial_reports_what_it_reports_alone(tmp_path: Path) -> None:
    """Same entries, same files, the numbers of two float32 trainings; then one ends and another takes its place."""
    given = {k: {"lr": 1e-3 * (1 + int(k)), "attack.steps": 1 + int(k)} for k in "0123"}
    alone = {k: single(config(k, tmp_path / "alone", **v)) for k, v in given.items()}
    actor = pack(*(config(k, tmp_path / "pack", **given[k]) for k in "012"))
    for found in (reports(actor), reports(actor)):
        assert list(found) == ["0", "1", "2"]
        for key, report in found.items():
            close(report, alone[key].step())
    actor.change(["1"], [config("3", tmp_path / "pack", **given["3"])])
    found = reports(actor)
    assert list(found) == ["0", "2", "3"]
    assert [found[k]["epoch"] for k in found] == [3, 3, 1]
    for key in found:
        close(found[key], alone[key].step())
    names = [
        sorted(p.relative_to(tmp_path / side) for p in (tmp_path / side).rglob("*.pt"))
        for side in ("pack", "alone")
    ]
    assert names[0] == names[1]


def test_a_packed_trial_goes_on_alone_and_the_other_way_round(tmp_path: Path) -> None:
    """Through the files of a study, from which the service resumes."""
    first = pack(config("0", tmp_path), config("1", tmp_path))
    saved = {key: report["checkpoint"] for key, report in reports(first).items()}
    sizes = [(tmp_path / name).stat().st_size for name in saved.values()]
    lone = single(config("0", tmp_path / "alone"))
    assert abs(sizes[0] - (tmp_path / "alone" / lone.step()["checkpoint"]).stat().st_size) < 2000
    assert single(config("0", tmp_path, saved["0"])).step()["epoch"] == 2
    second = pack(config("1", tmp_path, saved["1"]), config("0", tmp_path / "alone", saved["0"]))
    assert [report["epoch"] for report in second.step()["pack"]] == [2, 2]


def test_a_failure_is_the_report_of_its_trial(tmp_path: Path) -> None:
    """Options that the method refuses, a loss that is not finite: the others do not notice."""
    diverging = config("1", tmp_path, optimizer="adam", lr=1e30, schedule="constant")
    refused = config(
        "2", tmp_path, method="energy", **{"energy.margins": "fixed", "energy.m_in": -0.5, "nonsense": 1}
    )
    actor = pack(config("0", tmp_path), diverging, refused)
    found = reports(actor)
    assert found["0"]["epoch"] == 1
    assert found["1"]["failed"].startswith("training loss is")
    assert found["2"]["failed"].startswith("InputError: unknown option 'nonsense'")
    assert "Traceback" in found["2"]["trace"]
    actor.change(["1", "2"], [])
    assert reports(actor)["0"]["epoch"] == 2


def test_trials_with_dropout_keep_their_own_generators_in_a_shared_process(tmp_path: Path) -> None:
    """Two trials that cannot be stacked, by turns in one process: to the last bit those of two processes."""
    alone = [single(config(k, tmp_path / "alone", dropout=0.3, **{"attack.steps": 1})) for k in "01"]
    truth = []
    for trial in alone:
        truth.append([trial.step() for _ in range(2)][-1])
    actor = pack(*(config(k, tmp_path / "pack", dropout=0.3, **{"attack.steps": 1}) for k in "01"))
    actor.step()
    for report, expected in zip(actor.step()["pack"], truth, strict=True):
        assert report["train/loss"] == expected["train/loss"]
        saved = [Folder(str(tmp_path / side)).read(expected["checkpoint"]) for side in ("pack", "alone")]
        states = [checkpoints.unpack(data, "x")["classifier"] for data in saved]
        assert toy.same(*states)


def test_one_copy_of_the_images_serves_all(tmp_path: Path) -> None:
    actor = pack(config("0", tmp_path), config("1", tmp_path), config("2", tmp_path, batch_size=8))
    trials = list(actor._runner._trials.values())
    for trial in trials:
        trial.begin()
        trial._method.loader.images = trial._method.loader.images.clone()  # as on a GPU
    actor.step()
    assert len({trial._method.loader.images.data_ptr() for trial in trials}) == 1
    assert isinstance(trials[0]._method.loader.images, torch.Tensor)
