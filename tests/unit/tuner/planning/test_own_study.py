"""A study of the user's own: how it is found, how its objects are named, what is wrong told in one line."""

import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from robust_tuner.arguments import command_line
from search_spaces.domain import Choice
from tests.unit.own_files import FILES
from trainables.base.errors import InputError
from trainables.base.user_code import APPROVED, approved
from trainables.options.methods import METHODS
from trainables.options.networks import NETWORKS
from tuner import cli
from tuner.base.errors import UsageError
from tuner.planning.command_line import parse
from tuner.planning.own_study import find_study, name_of_study, offer_study
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a study, a method, a network and more in files of their own."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(APPROVED, "")
    for name in FILES:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    return tmp_path


def plan_of(*words: str) -> Plan:
    return resolve(parse(["--study", "./mine.py", *words]), "run-1")


def test_objects_become_names_by_which_other_processes_find_them(folder: Path) -> None:
    plan = plan_of()
    assert plan.method == f"{folder}/mine.py:Mixup"
    assert plan.lanes[0].values("network") == (f"{folder}/mine.py:network", "small_cnn")
    assert plan.own == tuple(f"{folder}/mine.py:{name}" for name in ("Mixup", "STUDY", "network"))
    assert {Path(path).name for path in plan.code} == {"mine.py", "own_method.py", "own_network.py"}
    assert from_dict(to_dict(plan)) == plan
    assert METHODS[plan.method].options.__name__ == "MixupOptions"
    assert METHODS[plan.method].trainable_name == "MixupTrainable"


@pytest.mark.parametrize("text", ["./mine.py", "mine.py", "./mine.py:STUDY", "mine:STUDY"])
def test_the_forms_of_a_study(text: str, folder: Path) -> None:
    assert find_study(text).name == name_of_study(text) == "mixup_strength"
    assert name_of_study("mixup_strength") == "mixup_strength"


def test_every_kind_is_named_on_the_command_line(folder: Path) -> None:
    """An attack, a method's option of its own, a sampler; detectors and scores are in the study's protocol."""
    text = (folder / "mine.py").read_text()
    extended = text.replace(
        'protocol={"groups": ("clean", "ood")}',
        'protocol={"detectors": ("knn", FeatureNorm), "scores": (second_logit,)}',
    )
    (folder / "mine.py").write_text(f"from own_parts import FeatureNorm, second_logit\n{extended}")
    plan = plan_of("--sampler", "./own_parts.py:halton", "--set", "alpha=0.5", "--set", "lr=0.01")
    assert plan.sampler == f"{folder}/own_parts.py:halton"
    assert plan.lanes[0].fixed["alpha"] == 0.5
    assert plan.protocol["detectors"] == ["knn", f"{folder}/mine.py:FeatureNorm"]
    assert plan.test_protocol().scores == (f"{folder}/mine.py:second_logit",)
    aoe = resolve(
        parse(["--study", "aoe_sigma", "--set", "attack.name=choice(eba, ./own_parts.py:sprinkle)"]), "r"
    )
    assert aoe.lanes[0].values("attack.name") == ("eba", f"{folder}/own_parts.py:sprinkle")
    assert aoe.own == (f"{folder}/own_parts.py:sprinkle",)


def test_a_path_in_a_study_is_seen_from_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folder / "mine.py").read_text().replace("(network,", '("./own_network.py:network@3",')
    (folder / "mine.py").write_text(text)
    monkeypatch.chdir("/")
    study = find_study(f"{folder}/mine.py")
    assert study.space["network"].options[0] == f"{folder}/own_network.py:network@3"
    assert NETWORKS[study.space["network"].options[0]].outside


def test_a_file_that_was_changed_is_imported_again(folder: Path) -> None:
    """In one process, as a notebook has it."""
    assert plan_of().trials == 2
    (folder / "mine.py").write_text((folder / "mine.py").read_text().replace("trials=2", "trials=31"))
    assert plan_of().trials == 31


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("STUDY = ", "MINE = "), r"--study ./mine.py: it has no STUDY; write STUDY = Study\(...\), or name the one"),
        (("STUDY = Study(", "STUDY = dict("), r"--study ./mine.py: STUDY is of type dict, not a Study"),
        (("method=Mixup", "method=Mixup("), r"--study ./mine.py: .*mine.py is not Python: .*\(mine.py, line \d+\)"),
        (("method=Mixup", "method=Mixupp"),
         r".*mine.py cannot be imported: NameError: name 'Mixupp' is not defined.* \(mine.py, line 12\)"),
        (("from own_network import network", "import no_such_thing"),
         r".*ModuleNotFoundError: No module named 'no_such_thing' \(mine.py, line 5\)"),
        (("Float(0.1, 2.0", "Float(2.0, 0.1"), r".*SpaceError: range \(2, 0.1\) is inverted.* \(mine.py, line 14\)"),
        (("method=Mixup", "method=lambda: 5"), r".*its method is a function that other processes cannot find; give"),
        (("Float(0.1, 2.0, log=True)", "(0.1, 2.0)"),
         r".*its alpha is \(0.1, 2.0\); one value, a range Float\(a, b\) or Int\(a, b\), or Choice\(\(a, b\)\) is"),
        (('about="no mixing"),)', 'about="no mixing"))'),
         r".*SpaceError: study mixup_strength: arms is Arm\(.*; it must be a tuple, \(Arm\(...\),\) \(mine.py, line"),
        (('method="standard", drop=("alpha",)', 'overrides={"alpah": 1.0}'),
         r"mine.py, line 16: arm plain: unknown option 'alpah'; did you mean alpha\?"),
        (("method=Mixup", 'method="mixup"'), r"mine.py, line 12: unknown method 'mixup'; .*known: "),
        (("method=Mixup", "method=network"), r"method .*mine.py:network: it is a function; it must be a class that"),
        (('"alpha": F', '"alpah": F'), r"mine.py, line 14: unknown option 'alpah'; did you mean alpha\?"),
        (("val/accuracy/clean", "val/acuracy/clean"), r"mine.py, line 15: unknown metric 'val/acuracy/clean'; "),
        (("mixup_strength", "aoe_sigma"), r".*its name is aoe_sigma, that of a shipped study; give it one of its own"),
        (("mixup_strength", "mix up"), r".*its name is 'mix up'; a name may hold only letters"),
        (("STUDY = ", "raise SystemExit(0)\nSTUDY = "), r".*cannot be imported: SystemExit: 0 \(mine.py, line 7\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line_with_its_place(
    change: tuple[str, str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "mine.py").read_text()
    assert change[0] in text
    (folder / "mine.py").write_text(text.replace(*change))
    assert cli.run(["--study", "./mine.py", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf": {says}", line), line


def test_what_is_wrong_on_the_command_line_is_not_the_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["--study", "./mine.py", "--set", "alpha=50", "--dry-run"]) == 2
    assert capsys.readouterr().err == "launch.py: alpha is 50.0; it must be at most 10\n"


@pytest.mark.parametrize("text", ["./gone.py", "gone:STUDY", "./own_method.py:Mixupp"])
def test_a_study_that_is_not_there(text: str, folder: Path) -> None:
    with pytest.raises(
        (InputError, UsageError), match=rf"^--study {text}: .*(is not a file|no module|has no)"
    ):
        resolve(parse(["--study", text]), "run-1")


def test_a_study_made_in_a_notebook_names_what_a_module_defines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    own_method = importlib.import_module("own_method")
    study = replace(find_study("./mine.py"), method=own_method.Mixup, defined_in="", name="from_a_cell")
    assert offer_study(study) == "from_a_cell"
    assert find_study("from_a_cell").method == "own_method:Mixup"
    settings = {"network": Choice((own_method.Mixup, "small_cnn"))}
    words = command_line("study", {"method": own_method.Mixup, "settings": settings})
    assert words == ["--method=own_method:Mixup", "--set=network=choice(own_method:Mixup, small_cnn)"]


def test_what_only_a_notebook_defines_is_refused(folder: Path) -> None:
    local = type("Local", (), {"train_epoch": None})
    with pytest.raises(
        InputError, match=r"its method is the class Local that other processes cannot find; give it a"
    ):
        offer_study(replace(find_study("./mine.py"), method=local))
    with pytest.raises(UsageError) as caught:
        command_line("study", {"method": local})
    assert str(caught.value) == (
        "method is the class Local that other processes cannot find; write it to a file and import it"
    )


def test_a_spec_that_only_this_process_has_is_refused(folder: Path) -> None:
    spec = METHODS.register(replace(METHODS["standard"], name="of_this_process"))
    try:
        text = (folder / "mine.py").read_text().replace('method="standard"', f'method="{spec.name}"')
        (folder / "mine.py").write_text(text)
        with pytest.raises(
            UsageError, match="of_this_process was registered in this process alone, and trials run in"
        ):
            plan_of()
    finally:
        METHODS.unregister(spec.name)


def test_nothing_is_imported_that_only_a_plan_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder that somebody sent: its file writes a mark when it is imported."""
    plan = plan_of()
    monkeypatch.setenv(APPROVED, "")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    (folder / "evil.py").write_text("open('mark', 'w')\nclass Evil: pass\n")
    stored = json.loads(json.dumps(to_dict(plan)).replace("mine.py:Mixup", "evil.py:Evil"))
    read = from_dict(stored)
    with pytest.raises(InputError, match=r"evil.py is not code that you have launched with; look"):
        METHODS[read.method]
    assert not (folder / "mark").exists()
    assert approved() == set()
