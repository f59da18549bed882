"""What an installed package gives by name: its entry points, in every registry; what two packages give is refused."""

import sys
from pathlib import Path

import pytest

from tests.unit.own_files import FILES
from trainables.base.errors import InputError
from trainables.base.user_code import APPROVED
from trainables.evaluation.metrics.detector_specs import DETECTORS
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.options.attacks import INLIER_ATTACKS, OUTLIER_ATTACKS
from trainables.options.methods import METHODS
from trainables.options.networks import NETWORKS
from trainables.options.outliers import OUTLIER_SOURCES
from trainables.ray.trainable import trainable_class
from tuner.planning.command_line import parse
from tuner.planning.launch_options import launch_options
from tuner.planning.own_study import find_study, study_names
from tuner.planning.resolve import resolve
from tuner.search.sampler_specs import SAMPLERS

ENTRY_POINTS = """
[robust_tuner.studies]
pack_mixup = own_pack.mine:STUDY
[robust_tuner.methods]
pack_method = own_pack.own_method:Mixup
[robust_tuner.datasets]
pack_data = own_pack.own_data:data
[robust_tuner.networks]
pack_network = own_pack.own_network:network
[robust_tuner.attacks]
pack_attack = own_pack.own_parts:sprinkle
[robust_tuner.outliers]
pack_outliers = own_pack.own_parts:stripes
[robust_tuner.detectors]
pack_detector = own_pack.own_parts:FeatureNorm
[robust_tuner.scores]
pack_score = own_pack.own_parts:second_logit
[robust_tuner.samplers]
pack_sampler = own_pack.own_parts:halton
"""


def install(folder: Path, package: str, entry_points: str) -> None:
    """Put a package into a folder as pip does."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    for name, text in FILES.items():
        (folder / package / name).write_text(text.replace("from own_", f"from {package}.own_"))
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `site-packages` on the path, with one package of every kind of thing."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    install(folder, "own_pack", ENTRY_POINTS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv(APPROVED, "")
    for name in [name for name in sys.modules if name.split(".")[0] == "own_pack"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def test_every_kind_of_thing_has_its_name(site: Path) -> None:
    assert METHODS["pack_method"].options.__name__ == "MixupOptions"
    assert OUTLIER_ATTACKS["pack_attack"].about == "A few pixels, all the way up"
    assert OUTLIER_SOURCES["pack_outliers"].about == "Rows of one brightness each"
    assert DETECTORS["pack_detector"].about == "Minus the L1 norm of the penultimate features"
    assert SCORES["pack_score"].about == "Minus the second largest logit"
    assert SAMPLERS["pack_sampler"].about == "Halton's sequence"
    assert NETWORKS["pack_network"].arguments["reference"] == "own_pack.own_network:network"
    assert "pack_mixup" in study_names()
    protocol = EvaluationProtocol("p", detectors=("pack_detector",), scores=("pack_score",))
    protocol.check()
    with pytest.raises(InputError, match=r"^unknown method 'pack_methd'; did you mean pack_method\? known: "):
        METHODS["pack_methd"]
    with pytest.raises(InputError, match=r"^unknown inlier attack 'pack_attack'"):
        INLIER_ATTACKS["pack_attack"]


def test_a_study_of_a_package_names_what_else_it_has(site: Path) -> None:
    assert find_study("pack_mixup").defined_in == "own_pack.mine:STUDY"
    words = ["--study", "pack_mixup", "--set", "network=pack_network", "--sampler", "pack_sampler"]
    words += ["--dataset", "pack_data"]
    plan = resolve(parse(words), "run-1")
    assert (plan.method, plan.sampler) == ("own_pack.mine:Mixup", "pack_sampler")
    assert plan.dataset == "pack_data"
    assert plan.lanes[0].fixed["network"] == "pack_network"
    names = {str(Path(path).relative_to(site)) for path in plan.code}
    assert names == {f"own_pack/{name}" for name in ("__init__.py", *FILES)}


def test_a_trial_of_a_package_is_trained(site: Path, tmp_path: Path) -> None:
    short = {"dataset": "digits-open", "epochs": 2, "cache_dir": str(tmp_path), "network": "pack_network"}
    trial = trainable_class("pack_method")(config={**short, "alpha": 0.5, "lr": 0.01})
    first, second = trial.step(), trial.step()
    assert second["train/loss"] < first["train/loss"]


def test_a_name_that_two_packages_give_is_refused(site: Path) -> None:
    install(site, "own_other", "[robust_tuner.methods]\npack_method = own_other.own_method:Mixup\n")
    sys.path.append(str(site / "nothing"))  # what is installed is looked up once for each path
    with pytest.raises(InputError) as caught:
        METHODS["pack_method"]
    assert str(caught.value) == (
        "method 'pack_method' is given by two packages, own_other and own_pack; name the one you mean: "
        "own_other.own_method:Mixup or own_pack.own_method:Mixup"
    )


def test_a_name_of_this_project_stays_what_it_is(site: Path) -> None:
    install(site, "own_other", "[robust_tuner.methods]\noe = own_other.own_method:Mixup\n")
    sys.path.append(str(site / "nothing"))
    assert METHODS["oe"].options.__name__ == "OEOptions"
    assert METHODS.code("oe") is None


@pytest.mark.parametrize(
    ("option", "prefix", "name"),
    [
        ("method", "", "pack_method"),
        ("dataset", "", "pack_data"),
        ("sampler", "", "pack_sampler"),
        ("study", "", "pack_mixup"),
        ("settings", "network=", "network=pack_network"),
        ("settings", "attack.name=", "attack.name=pack_attack"),
    ],
)
def test_a_shell_completes_what_a_package_gives(site: Path, option: str, prefix: str, name: str) -> None:
    suggest = launch_options()[option].suggests
    assert suggest is not None
    assert name in suggest(prefix, {"study": "aoe_sigma"})
    assert "own_pack.mine" not in sys.modules
