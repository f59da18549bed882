"""The named protocols, and what a study makes of them."""

import json
from dataclasses import replace

import pytest

import search_spaces
from trainables.base.errors import InputError
from trainables.data.types.datasets import DATASETS
from trainables.data.types.radii import radii_of
from trainables.evaluation.metrics import presets
from trainables.evaluation.metrics.detector_specs import DETECTORS
from trainables.evaluation.metrics.protocol import (
    GROUPS,
    SIDES,
    EvaluationProtocol,
    from_fields,
)
from tuner.base.errors import UsageError
from tuner.planning.amend import amend
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve


def plan(study: str = "aoe_sigma", **changes: str) -> Plan:
    return resolve(LaunchOptions(study, **changes), "run")


@pytest.mark.parametrize("dataset", DATASETS.names)
@pytest.mark.parametrize("name", presets.PRESETS.names)
def test_every_protocol_suits_every_data_set(name: str, dataset: str) -> None:
    protocol = presets.named(name, radii_of(dataset), "energy")
    assert (protocol.name, protocol.score) == (name, "energy")


def test_what_they_measure() -> None:
    quick, standard, full, _, _, auto = (
        presets.named(name, radii_of("cifar10")) for name in presets.PRESETS.names
    )
    assert not any("robust" in group or group == "corrupted" for group in quick.groups)
    assert (standard.groups, standard.ood_sides) == (GROUPS, SIDES)
    assert standard.robust_epsilons == standard.ood_epsilons == (8 / 255,)
    assert full.detectors == DETECTORS.names
    assert [round(255 * e, 6) for e in full.ood_epsilons] == [2, 4, 8]
    assert full.check_steps > full.steps
    assert auto.auto_attack_epsilons == standard.robust_epsilons
    for cheap in (quick, standard, full):
        assert cheap.auto_attack_epsilons == ()
    assert presets.named("standard", radii_of("digits")).robust_epsilons == (0.15, 0.2)


def test_a_data_set_without_a_spec_has_no_radii_by_default() -> None:
    with pytest.raises(InputError, match="unknown dataset 'cifar11'; did you mean cifar10"):
        radii_of("cifar11")
    for spec in DATASETS:
        fields = presets.fields_of("standard", radii_of(spec.name))
        radii = spec.robust_epsilons, spec.ood_epsilons
        if spec.num_classes == 0:  # the user's pictures, 64 pixels
            radii = (8 / 255,), (8 / 255,)
        assert (fields["robust_epsilons"], fields["ood_epsilons"]) == radii


def test_wrong_protocols_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="unknown protocol 'ful'; did you mean full"):
        presets.named("ful", radii_of("digits"))
    for values, message in (
        ({"group": ()}, "unknown field of a protocol 'group'; did you mean groups"),
        ({"detectors": ["knnn"]}, "unknown detector 'knnn'; did you mean knn"),
        ({"ood_sides": ["out"]}, "unknown side of an attack 'out'"),
        ({"robust_scores": ["msq"]}, "unknown outlier score 'msq'; did you mean msp"),
        ({"ood_epsilons": [8]}, "8 is not in \\[0, 1\\] pixel units"),
        ({"auto_attack_epsilons": [-0.1]}, "auto_attack_epsilons of the protocol: -0.1"),
        ({"steps": 0}, "steps of the protocol is 0; it must be from 1 to 1000000000"),
        ({"check_images": 0}, "check_images"),
        (
            {"ood_epsilons": {"a": 1}},
            "ood_epsilons of the protocol is {'a': 1}; it must be a list of numbers",
        ),
        ({"ood_epsilons": "x"}, "ood_epsilons of the protocol is 'x'; it must be a list of numbers"),
        ({"detectors": [1]}, r"detectors of the protocol is \[1\]; it must be a list of names"),
        ({"scores": "msp"}, "scores of the protocol is 'msp'; it must be a list of names"),
        ({"groups": [[]]}, r"groups of the protocol is \[\[\]\]; it must be a list of names"),
        ({"score": {}}, "score of the protocol is {}; it must be a name"),
        ({"steps": "x"}, "steps of the protocol is 'x'; it must be a whole number"),
        ({"steps": True}, "steps of the protocol is True; it must be a whole number"),
        ({"margin": 1}, "margin of the protocol is 1; it must be true or false"),
        ({"noise_rms": None}, "noise_rms of the protocol is None; it must be a number"),
    ):
        with pytest.raises(InputError, match=message):
            from_fields("x", values)


def test_widening_adds_and_never_changes_how_a_number_is_measured() -> None:
    base = {"groups": ("clean",), "steps": 20, "score": "msp", "robust_epsilons": (0.15,)}
    more = {"groups": ("clean", "ood"), "steps": 100, "score": "energy", "check_steps": 500, "restarts": 5}
    found = presets.widened(base, more | {"robust_epsilons": (0.2,), "detectors": ("knn",)})
    assert found == {
        "groups": ("clean", "ood"),
        "steps": 20,
        "score": "msp",
        "robust_epsilons": (0.15, 0.2),
        "detectors": ("knn",),
        "check_steps": 500,
    }
    assert presets.widened({}, {"scores": ("entropy",)}) == {"scores": ("msp", "energy", "entropy")}


def test_the_closer_look_follows_the_groups() -> None:
    assert presets.winner_protocol({"groups": ("clean", "robust")}) == {}
    assert set(presets.winner_protocol({"groups": ("ood",)})) == {"detectors"}
    assert "check_steps" in presets.winner_protocol({})


@pytest.mark.parametrize(
    ("study", "dataset"),
    [
        (n, d)
        for n in search_spaces.NAMES
        for d in (None, *(p.dataset for p in search_spaces.get(n).profiles))
    ],
)
def test_every_study_evaluates_by_the_protocol(study: str, dataset: str | None, tmp_path: object) -> None:
    """Calibration and outlier scores always; detectors and AutoAttack not for every trial."""
    made = resolve(LaunchOptions(study, dataset=dataset, data_dir=str(tmp_path)), "run")
    every, arm, winner = (
        made.test_protocol(*where) for where in (("search", ""), ("confirm", "oe"), ("confirm", "best"))
    )
    assert {"clean", "calibration", "ood"} <= set(every.groups)
    assert every == arm
    assert (every.detectors, every.check_steps, every.auto_attack_epsilons) == ((), 0, ())
    assert winner.detectors == DETECTORS.names
    assert winner.auto_attack_epsilons == ()
    same = {"detectors": (), "check_steps": 0, "check_restarts": 2, "check_images": 16}
    assert replace(winner, **same) == every
    found = {metric for metric in made.headline if "robust_" in metric}
    assert all(
        any(f"_{epsilon:.4g}" in metric for epsilon in (*every.robust_epsilons, *every.ood_epsilons))
        for metric in found
    )


def test_a_study_takes_a_protocol_for_its_confirm_stage() -> None:
    made = plan("adversarial_baselines", protocol="autoattack")
    assert made.test_protocol("search").auto_attack_epsilons == ()
    for arm in ("trades", "best"):
        assert made.test_protocol("confirm", arm).auto_attack_epsilons == (0.15, 0.2)
    assert made.test_protocol("confirm", "best").detectors == DETECTORS.names
    assert made.content_hash != plan("adversarial_baselines").content_hash
    with pytest.raises(UsageError, match="unknown protocol 'autoatack'; did you mean autoattack"):
        plan(protocol="autoatack")


def test_plan_json_holds_what_is_measured() -> None:
    made = plan(protocol="full")
    text = json.dumps(to_dict(made))
    assert from_dict(json.loads(text)) == made
    assert json.loads(text)["confirm"]["detectors"] == list(DETECTORS.names)
    assert json.loads(text)["protocol"]["ood_sides"] == list(SIDES)


def test_a_resume_may_ask_for_more() -> None:
    made = plan()
    amended = amend(made, LaunchOptions("aoe_sigma", protocol="autoattack"), "again")
    assert amended.test_protocol("search") == made.test_protocol("search")
    assert amended.test_protocol("confirm", "oe").auto_attack_epsilons == (0.15, 0.2)
    assert amend(amended, LaunchOptions("aoe_sigma"), "again").confirm == amended.confirm
    assert from_dict(to_dict(amended)) == amended


def test_defaults_of_the_code_are_those_of_the_built_in_data() -> None:
    assert from_fields("x", {}) == EvaluationProtocol("x")
