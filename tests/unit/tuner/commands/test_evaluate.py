"""`launch.py --evaluate`: one checkpoint by file, RUN/TRIAL or MLflow run; no work twice, errors in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit import disk_formats
from trainables import StandardTrainable
from trainables.data.loading.open_dataset import load
from trainables.data.types.radii import radii_of
from trainables.evaluation.measure import Evaluation, evaluate
from trainables.evaluation.metrics.presets import named
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.training import checkpoints
from tuner import cli
from tuner.commands.evaluate import newest_checkpoint
from tuner.console.evaluation_text import as_text
from tuner.execution import remote_tasks
from tuner.tracking.run_lookup import looks_like_run, trial_key_of


@pytest.fixture(scope="module")
def trained() -> bytes:
    """Return a checkpoint of a classifier of digits-open, trained for an epoch."""
    trial = StandardTrainable(
        config={"dataset": "digits-open", "epochs": 1, "validation": {"groups": ("clean",)}}
    )
    trial.step()
    assert trial._method is not None
    return checkpoints.pack("standard", trial._method, 1, trial._data.info)


@pytest.fixture
def folder(trained: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with a checkpoint and a run that has two of them; its cache is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "one.pt").write_bytes(trained)
    checkpoint_folder = tmp_path / "runs" / "study-1" / "checkpoints" / "0007"
    checkpoint_folder.mkdir(parents=True)
    (checkpoint_folder / "epoch-0002.pt").write_bytes(b"older")
    (checkpoint_folder / "epoch-0010.pt").write_bytes(trained)
    return tmp_path


def launch(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["--evaluate", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def scored(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = launch(capsys, *arguments, "--protocol", "quick", "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_numbers_are_those_of_the_protocol(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = scored(capsys, "one.pt")
    network = checkpoints.classifier_of(checkpoints.unpack((folder / "one.pt").read_bytes(), "one.pt"))
    protocol = named("quick", radii_of("digits-open"), "energy")
    generator = torch.Generator().manual_seed(remote_tasks.TEST_SEED)
    wanted = evaluate(network, load("digits-open"), protocol, generator, "cpu")
    assert found["metrics"] == wanted.metrics
    assert found["protocol"]["score"] == "energy"
    assert found["protocol"]["groups"] == ["clean", "calibration", "ood"]
    assert (found["checkpoint"], found["dataset"]) == ("one.pt", "digits-open")
    assert (found["method"], found["network"], found["epoch"]) == ("standard", "small_cnn", 1)
    assert found["remarks"] == []


def test_a_second_request_costs_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scored(capsys, "one.pt")

    def refuse(*arguments: Any) -> Evaluation:
        raise AssertionError("measured again")

    monkeypatch.setattr(remote_tasks, "evaluate", refuse)
    assert scored(capsys, "one.pt")["metrics"] == first["metrics"]
    assert scored(capsys, "study-1/7")["metrics"] == first["metrics"], "the same checkpoint elsewhere"
    with pytest.raises(AssertionError, match="measured again"):
        launch(capsys, "one.pt", "--protocol", "standard")


def test_a_checkpoint_does_not_choose_the_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever made it could send a folder of evaluations along, with numbers of their own."""
    content = torch.load(folder / "one.pt", weights_only=True)
    content["options"]["cache_dir"] = str(folder / "theirs")
    torch.save(content, folder / "hostile.pt")
    assert scored(capsys, "hostile.pt")["metrics"] == scored(capsys, "one.pt")["metrics"]
    assert not (folder / "theirs").exists()


@pytest.mark.parametrize(("there", "threads"), [(2, 2), (128, 64)])
def test_no_more_threads_than_the_machine_has_cpus(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    there: int,
    threads: int,
) -> None:
    given = []

    def measure(*arguments: Any) -> Evaluation:
        given.append(arguments[4])
        return Evaluation({"test/x": 1.0})

    monkeypatch.setattr(remote_tasks, "evaluate_checkpoint", measure)
    monkeypatch.setattr("tuner.commands.evaluate.os.cpu_count", lambda: there)
    scored(capsys, "one.pt", "--cpus-per-trial", "64")
    assert given == [threads]


def test_set_changes_what_is_measured_and_the_result_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer images, one score, other radii: the numbers are those of that protocol and not of the preset."""
    changes = ["max_images=50", "groups=clean,robust", "robust_epsilons=1/4", "steps=2", "margin=false"]
    found = scored(capsys, "one.pt", *(word for change in changes for word in ("--set", change)))
    assert set(found["metrics"]) == {"test/accuracy/clean", "test/accuracy/robust_0.25"}
    assert (found["metrics"]["test/accuracy/clean"] * 50).is_integer()
    protocol = found["protocol"]
    assert (protocol["max_images"], protocol["steps"], protocol["margin"]) == (50, 2, False)
    assert (protocol["groups"], protocol["robust_epsilons"]) == (["clean", "robust"], [0.25])


def test_radii_of_the_command_line_are_those_of_every_attack(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["max_images=10", "groups=robust,robust_ood", "steps=1", "ood_sides=ood", "margin=false"]
    words = [word for change in few for word in ("--set", change)]
    found = scored(capsys, "one.pt", "--eval-epsilon", "2/255,4/255", *words)
    assert found["protocol"]["robust_epsilons"] == found["protocol"]["ood_epsilons"] == [2 / 255, 4 / 255]
    assert {"test/accuracy/robust_0.007843", "test/robust_auroc_0.01569/near"} <= set(found["metrics"])
    assert not any("_0.15" in name for name in found["metrics"])
    for words, says in (
        (["--set", "robust_epsilons=0.1"], "--set robust_epsilons and --eval-epsilon both set radii"),
        (
            ["--protocol", "quick"],
            "--eval-epsilon changes nothing: protocol quick attacks nothing; add --protocol",
        ),
    ):
        code, out, err = launch(capsys, "one.pt", "--eval-epsilon", "0.1", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert says in err


def test_a_setting_that_is_no_field_of_the_protocol_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = launch(capsys, "one.pt", "--set", "step=3")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--set step: unknown field of a protocol 'step'; did you mean steps?" in err


def test_a_study_s_job_and_the_command_line_share_what_was_measured(
    folder: Path, trained: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluate stage's own job: same checkpoint, protocol and data; any of them different is measured."""
    calls = []

    def counted(*arguments: Any) -> Evaluation:
        calls.append(1)
        return Evaluation({"test/x": float(len(calls))})

    monkeypatch.setattr(remote_tasks, "evaluate", counted)
    benchmark = load("digits-open")
    version, protocol = remote_tasks.data_version(benchmark), EvaluationProtocol("test")

    def measured(
        name: str = "one.pt", protocol: EvaluationProtocol = protocol, version: str = version
    ) -> float:
        return remote_tasks.evaluate_checkpoint(str(folder), name, benchmark, protocol, 1, version).metrics[
            "test/x"
        ]

    assert [measured(), measured(), measured("runs/study-1/checkpoints/0007/epoch-0010.pt")] == [1, 1, 1]
    (folder / "other.pt").write_bytes(trained + b"\n")
    assert measured("other.pt") == 2
    assert measured(protocol=EvaluationProtocol("test", steps=21)) == 3
    assert measured(version="other data") == 4
    assert measured(version="") == 5
    assert measured() == 1


def test_a_trial_is_named_by_number_key_or_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = str(Path("runs/study-1/checkpoints/0007/epoch-0010.pt"))
    for name in ("study-1/7", "study-1/0007", "runs/study-1/checkpoints/0007"):
        assert scored(capsys, name)["checkpoint"] == whole
    (folder / "elsewhere").mkdir()
    (folder / "runs").rename(folder / "elsewhere" / "r")
    assert scored(capsys, "study-1/7", "--storage", "elsewhere/r")["epoch"] == 1


def test_what_was_measured_is_shown_where_the_file_cannot_be_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "taken").mkdir()
    code, out, err = launch(capsys, "one.pt", "--protocol", "quick", "--json", "taken")
    assert code == 2
    assert err == "launch.py: --json taken cannot be written: Is a directory\n"
    assert "clean accuracy" in out


def test_the_table_and_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = launch(capsys, "one.pt", "--protocol", "quick", "--json", "result.json")
    assert (code, err) == (0, "")
    found = json.loads((folder / "result.json").read_text())
    for words in (
        "quick on digits-open",
        "clean accuracy",
        "expected calibration error",
        "unknown classes",
        "energy",
    ):
        assert words in out, words
    share = found["metrics"]["test/auroc/china"]
    assert any(line.split()[:2] == ["china", f"{100 * share:.1f}"] for line in out.splitlines())
    assert out == as_text(found) + "\n"


def test_the_table_has_every_part() -> None:
    """Text of a synthetic result with attacks, detectors, corruptions, AutoAttack and remarks."""
    metrics = {
        "test/accuracy/clean": 0.98,
        "test/accuracy/autoattack_0.2": 0.41,
        "test/attack_check_0.1/auroc_change": -0.004,
        "test/auroc/hflip": 0.9,
        "test/auroc/near": 0.8,
        "test/robust_auroc_0.1/hflip": 0.7,
        "test/robust_auroc_id_0.1/hflip": 0.6,
        "test/robust_auroc_both_0.1/hflip": None,
        "test/vim/auroc/near": 0.85,
        "test/accuracy/corrupted": 0.5,
        "test/accuracy/corrupted/off_noise": 0.55,
        "test/accuracy/corrupted/shot_noise": 0.45,
    }
    text = as_text(
        {
            "checkpoint": "a.pt",
            "method": "aoe",
            "network": "small_cnn",
            "epoch": 3,
            "dataset": "digits-open",
            "protocol": {"name": "full", "score": "msp"},
            "seconds": 1.5,
            "metrics": metrics,
            "remarks": ["gradient masking: careful"],
        }
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "accuracy under AutoAttack (ε 0.2) 41.0 %",
        "robust AUROC, stronger attack minus this one (ε 0.1) -0.4 %",
        "OOD set OOD attacked, 0.1 ID attacked, 0.1 both attacked, 0.1",
        "hflip 70.0 % 60.0 % -",
        "near OOD 80.0 %",
        "vim 85.0 %",
        "off noise 55.0 %",
        "shot noise 45.0 %",
        "note: gradient masking: careful",
    ):
        assert line in lines, line


# -- MLflow ------------------------------------------------------------------------------------------------


def store_plan(folder: Path, run_id: str = "") -> None:
    """Write as much of a `plan.json` as names the run; without an id it is of an earlier version."""
    plan = {"study": "aoe_sigma", "run_name": "study-1"} | ({"run_id": run_id} if run_id else {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps({"created": "2026-01-01", "plan": plan}))


@pytest.fixture
def runs(folder: Path) -> dict[str, str]:
    """Return {what: id} of runs as a study writes them, and of one that no study wrote."""
    import mlflow

    store_plan(folder / "runs" / "study-1")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("study")
    parent = client.create_run(experiment, tags={"run": "study-1"})
    unfinished = client.create_run(experiment, tags={"run": "study-2"})
    child = client.create_run(
        experiment, tags={"key": "0007", "trial": "7", "mlflow.parentRunId": parent.info.run_id}
    )
    client.set_tag(parent.info.run_id, "best_trial", "7")
    foreign = client.create_run(experiment)
    known = {"parent": parent, "unfinished": unfinished, "child": child, "foreign": foreign}
    return {name: run.info.run_id for name, run in known.items()}


@pytest.mark.slow
def test_an_mlflow_run_is_its_trial_and_a_study_s_run_its_winner(
    folder: Path, runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("child", "parent"):
        found = scored(capsys, runs[name], "--tracking-uri", f"sqlite:///{folder}/mlflow.db")
        assert found["checkpoint"] == "runs/study-1/checkpoints/0007/epoch-0010.pt"
    assert scored(capsys, runs["child"])["epoch"] == 1, "mlflow.db of the working folder is the default"
    for name, says in (("unfinished", "has no winner yet"), ("foreign", "none that a study wrote")):
        code, _, err = launch(capsys, runs[name])
        assert code == 2
        assert says in one_line(err)
    code, _, err = launch(capsys, "0" * 32)
    assert code == 2
    assert "cannot be read" in one_line(err)


def test_the_folder_of_an_mlflow_run_is_found_by_its_id_whatever_it_is_called(
    folder: Path, runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another run has the name by now; its checkpoints are not those of this MLflow run."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    client.set_tag(runs["parent"], "run_id", "study-1-0123456789ab")
    for name in ("child", "parent"):
        code, _, err = launch(capsys, runs[name])
        assert code == 2
        assert one_line(err) == (
            "launch.py: run 'study-1' (id study-1-0123456789ab) is not in runs; "
            "name the root of its run folder with --storage"
        )
    (folder / "runs" / "study-1").rename(folder / "runs" / "renamed")
    store_plan(folder / "runs" / "study-1", "study-1-ba9876543210")
    store_plan(folder / "runs" / "renamed", "study-1-0123456789ab")
    for name in ("child", "parent"):
        found = scored(capsys, runs[name])
        assert found["checkpoint"] == "runs/renamed/checkpoints/0007/epoch-0010.pt"


def test_ids_and_keys() -> None:
    assert looks_like_run("0123456789abcdef" * 2)
    assert not looks_like_run("aoe_sigma-20260101-000000/7")
    assert [trial_key_of(t) for t in ("7", "0007", "12345", "oe-0003")] == [
        "0007",
        "0007",
        "12345",
        "oe-0003",
    ]
    assert newest_checkpoint(["epoch-0009.pt", "epoch-0010.pt", ".epoch-0011.pt.tmp", "x"]) == "epoch-0010.pt"
    assert newest_checkpoint([]) == ""


# -- what cannot be -----------------------------------------------------------------------------------------


def one_line(err: str) -> str:
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("launch.py: ")
    assert "Traceback" not in err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.pt"], "'nowhere.pt' is no file; name a checkpoint file, RUN/TRIAL of a run in runs"),
        (["one.pt", "--protocol", "standrd"], "unknown protocol 'standrd'; did you mean standard?"),
        (
            ["one.pt", "--dataset", "digits"],
            "digits has 10 classes and images (1, 8, 8), the classifier in one.pt",
        ),
        (["one.pt", "--dataset", "digit"], "did you mean digits?"),
        (["one.pt", "--dataset", "cifar10"], "was made for 6 and (1, 8, 8) (digits-open)"),
        (["one.pt", "--data-dir", "/nowhere/at/all"], "--data-dir /nowhere/at/all is not a folder"),
        (["text.pt"], "text.pt is not a readable checkpoint"),
        (["cut.pt"], "cut.pt is not a readable checkpoint"),
        (["study-1/8"], "trial 0008 of run 'study-1' has no checkpoint in runs"),
        (["study-9/7"], "run 'study-9' does not exist in runs; known: none"),
        (["../7"], "may hold only letters"),
        (["0" * 32], "there is no MLflow store"),
        (["0" * 32, "--tracking-uri", "./mlruns"], "sqlite:///"),
        (["one.pt", "--json", "/nowhere/at/all.json"], "there is no folder /nowhere/at"),
        (["one.pt", "--study", "aoe_sigma"], "--study does not go with --evaluate"),
    ],
)
def test_errors_are_one_line(
    folder: Path, trained: bytes, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    (folder / "text.pt").write_text("no checkpoint")
    (folder / "cut.pt").write_bytes(trained[: len(trained) // 2])
    code, out, err = launch(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in one_line(err)


def test_json_is_for_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--study", "aoe_sigma", "--json"]) == 2
    assert "--json does not go with --study; it goes with --evaluate or --status" in one_line(
        capsys.readouterr().err
    )


def _with(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, **changes}


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {k: v for k, v in content.items() if k != key}


def _dataset(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, "dataset": {**content["dataset"], **changes}}


def _weights(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], Any]:
    def changed(content: dict[str, Any]) -> dict[str, Any]:
        name, tensor = next(iter(content["classifier"].items()))
        return {**content, "classifier": {**content["classifier"], name: change(tensor)}}

    return changed


UNUSABLE = "one.pt is not a checkpoint that can be used: "


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: [content], "one.pt is not a checkpoint of this program"),
        (_without("format"), "one.pt is not a checkpoint of this program"),
        (_without("method"), f"{UNUSABLE}method is missing"),
        (_without("dataset"), f"{UNUSABLE}dataset is missing"),
        (_with(format=99), f"{UNUSABLE}it has format 99; this version reads up to 1"),
        (_with(format="1"), f"{UNUSABLE}format is of type str"),
        (_with(method="standrd"), f"{UNUSABLE}unknown method 'standrd'; did you mean standard?"),
        (_with(epoch=-1), f"{UNUSABLE}epoch is -1"),
        (_with(epoch=None), f"{UNUSABLE}epoch is of type NoneType"),
        (_with(options=[]), f"{UNUSABLE}options is of type list"),
        (_with(options={"lr": "fast"}), f"{UNUSABLE}lr is 'fast'; it must be of type float"),
        (_with(options={"speed": 1}), f"{UNUSABLE}unknown option 'speed'"),
        (_with(classifier=[1]), f"{UNUSABLE}classifier is of type list"),
        (
            _with(classifier={}),
            "one.pt: the weights do not fit the network that its options name: Missing key",
        ),
        (_weights(lambda tensor: None), f"{UNUSABLE}classifier["),
        (_weights(lambda tensor: tensor[:1]), "one.pt: the weights do not fit the network"),
        (
            _weights(lambda tensor: tensor * float("nan")),
            "hold numbers that are not finite; it cannot be scored",
        ),
        (_weights(lambda tensor: tensor / 0), "hold numbers that are not finite; it cannot be scored"),
        (_dataset(num_classes=10**12), f"{UNUSABLE}dataset has 1000000000000 classes"),
        (_dataset(num_classes="6"), f"{UNUSABLE}dataset has '6' classes"),
        (_dataset(shape=(8, 8)), f"{UNUSABLE}dataset has 6 classes and images (8, 8)"),
        (_dataset(mean=(float("nan"),)), f"{UNUSABLE}dataset['mean'] is (nan,); it must be 1 finite numbers"),
        (_dataset(name="digit"), "did you mean digits?"),
        (_dataset(name=None), f"{UNUSABLE}dataset['name'] is None"),
    ],
)
def test_a_malformed_checkpoint_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    content = torch.load(folder / "one.pt", weights_only=True)
    torch.save(change(content), folder / "one.pt")
    code, out, err = launch(capsys, "one.pt", "--protocol", "quick")
    assert (code, out) == (2, "")
    assert says in one_line(err)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([0, 1, 2, 3, 4, 5], ""),
        ([1, 0, 2, 3, 4, 5], ": their order differs, and with it every label"),
        ([6, 1, 2, 3, 4, 5], "; they are taken for the same, in this order"),
    ],
)
def test_classes_of_other_names_are_told_and_in_another_order_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], order: list[int], says: str
) -> None:
    """A classifier of six folders of pictures, scored on them; it was trained with other ones or in another order."""
    disk_formats.imagefolder(folder / "data", classes=6)
    (folder / "data" / "dataset.json").write_text('{"side": 8, "channels": 1}')
    content = torch.load(folder / "one.pt", weights_only=True)
    trained = [f"class {c}" for c in order]
    content = _dataset(name="imagefolder", classes=trained)(content)
    torch.save(content, folder / "one.pt")
    code, out, err = launch(capsys, "one.pt", "--data-dir", "data", "--protocol", "quick", "--json")
    lists = (
        "imagefolder has the classes class 0, class 1, class 2, class 3, class 4, class 5, the classifier in one.pt "
        f"was trained on {', '.join(trained)}{says}"
    )
    if order[0] == 1:
        assert (code, one_line(err)) == (2, f"launch.py: {lists}")
    else:
        assert code == 0, err
        assert (lists in json.loads(out)["remarks"]) == bool(says)


def test_weights_of_another_program_are_scored(
    folder: Path, trained: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same numbers as the checkpoint that the weights were taken from."""
    state = checkpoints.unpack(trained, "one.pt")["classifier"]
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "weights.pt")
    code, _, err = launch(capsys, "weights.pt")
    assert (code, err) == (
        2,
        "launch.py: weights.pt is not a checkpoint of this program (no format entry); for weights of another one add "
        "--network NAME --dataset NAME\n",
    )
    assert launch(capsys, "weights.pt", "--network", "small_cnn") == (
        2,
        "",
        "launch.py: --network needs --dataset: what the weights were trained on\n",
    )
    given = ["--network", "small_cnn", "--dataset", "digits-open"]
    foreign, own = scored(capsys, "weights.pt", *given), scored(capsys, "one.pt")
    assert foreign["checkpoint"] == "weights.pt"
    assert foreign["metrics"] == own["metrics"]
    raw = scored(capsys, "weights.pt", *given, "--set", "normalize=none")
    assert raw["metrics"].keys() == own["metrics"].keys()
    assert raw["metrics"] != own["metrics"]


def test_code_that_only_a_checkpoint_names_is_not_run(
    folder: Path, trained: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends a checkpoint could name any module in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("TUNER_APPROVED_CODE", "")
    (folder / "theirs.py").write_text("from pathlib import Path\nPath('run').touch()\nmake = 3\n")
    content = checkpoints.unpack(trained, "one.pt")
    for name in (f"{folder}/theirs.py:make", "marshal:loads"):  # a module of C has no file to look at
        content["options"]["network"] = name
        torch.save(content, "sent.pt")
        assert launch(capsys, "sent.pt") == (
            2,
            "",
            f"launch.py: sent.pt is not a checkpoint that can be used: its network is the code {name}, which you have "
            "not launched with; look at it, and name it yourself: --network\n",
        )
    content = checkpoints.unpack(trained, "one.pt")
    torch.save(content | {"method": f"{folder}/theirs.py:make"}, "sent.pt")
    code, _, said = launch(capsys, "sent.pt")
    assert code == 2
    assert said.endswith(
        f"theirs.py:make: {folder}/theirs.py is not code that you have launched with; look at it, and name it "
        "yourself, or add --allow-changed-code\n"
    )
    assert not (folder / "run").exists()
    code, _, said = launch(capsys, "sent.pt", "--allow-changed-code")
    assert (code, (folder / "run").exists()) == (2, True)
    assert "theirs.py:make: it is of type int; it must be a class that extends" in said
