"""Reuse of evaluations: bit for bit, by content, and never out of a broken entry."""

import json
import math
import multiprocessing
import time
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest

from trainables.evaluation import cache
from trainables.evaluation.cache import EvaluationCache, evaluation_key
from trainables.evaluation.measure import Evaluation
from trainables.evaluation.metrics.protocol import EvaluationProtocol

KEY = evaluation_key(b"checkpoint", EvaluationProtocol("test"), "data")


def an_evaluation(state=None):
    """Names that are no file names, values that text may lose."""
    scores = {"id": np.array([0.1, -np.inf, 1e-320]), "a/b c": np.array([np.pi]), "": np.zeros(0)}
    attacked = {"0.1": {"id": np.arange(3.0), "a/b c": np.array([2.0])}}
    metrics = {"test/x": 0.1 + 0.2, "test/nan": math.nan, "test/inf": math.inf}
    return Evaluation(metrics, scores, attacked, ["gradient masking: \u03b5 0.1"])


def same(left, right):
    assert list(left.metrics) == list(right.metrics)
    np.testing.assert_array_equal(list(left.metrics.values()), list(right.metrics.values()))
    for a, b in (
        (left.scores, right.scores),
        *zip(left.attacked_scores.values(), right.attacked_scores.values(), strict=True),
    ):
        assert list(a) == list(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])
    assert list(left.attacked_scores) == list(right.attacked_scores)
    assert left.remarks == right.remarks


def refuse(state):
    raise AssertionError("computed again")


def test_a_second_request_costs_nothing_and_is_bit_for_bit(tmp_path):
    store = EvaluationCache(tmp_path / "new" / "folder")
    assert store.load(KEY) is None
    same(store.reuse(KEY, an_evaluation), an_evaluation())
    same(store.reuse(KEY, refuse), an_evaluation())
    same(EvaluationCache(tmp_path / "new" / "folder").reuse(KEY, refuse), an_evaluation())


def test_a_key_depends_on_everything():
    protocol = EvaluationProtocol("test")
    others = {
        "name": "other",
        "score": "energy",
        "scores": ("msp",),
        "groups": ("clean",),
        "robust_epsilons": (0.15,),
        "ood_epsilons": (0.2,),
        "steps": 21,
        "restarts": 2,
        "margin": False,
        "max_images": 5,
        "ood_sides": ("ood", "id"),
        "robust_scores": ("energy",),
        "detectors": ("knn",),
        "auto_attack_epsilons": (0.1,),
        "auto_attack_images": 7,
        "check_steps": 40,
        "check_restarts": 3,
        "check_images": 8,
        "noise_rms": 0.1,
        "noise_steps": 9,
    }
    assert set(others) == {field.name for field in fields(EvaluationProtocol)}
    keys = [
        KEY,
        evaluation_key(b"checkpoinT", protocol, "data"),
        evaluation_key(b"checkpoint", protocol, "Data"),
    ]
    noisy = {"noise_steps": {"noise_rms": 0.1}}  # the steps alone change nothing
    keys += [
        evaluation_key(b"checkpoint", replace(protocol, **{k: v}, **noisy.get(k, {})), "data")
        for k, v in others.items()
    ]
    keys.append(evaluation_key(b"checkpoint", protocol, "data", seed=1))
    assert len(set(keys)) == len(keys) == 24
    assert evaluation_key(b"checkpoint", EvaluationProtocol("test"), "data") == KEY


def test_evaluations_with_the_former_neighbours_of_knn_are_not_found():
    vim, knn = (EvaluationProtocol("test", detectors=names) for names in (("vim",), ("vim", "knn")))
    assert "knn" not in vim.identity()
    assert knn.identity()["knn"] == "neighbours by data set"


def test_a_new_format_reads_no_old_entry(tmp_path, monkeypatch):
    store = EvaluationCache(tmp_path)
    store.store(KEY, an_evaluation())
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert evaluation_key(b"checkpoint", EvaluationProtocol("test"), "data") != KEY
    assert store.load(KEY) is None


def damaged(data, rng):
    """Return bytes with one of: a flipped bit, a cut end, a cut middle, nothing, more at the end."""
    at = int(rng.integers(len(data)))
    return [
        data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :],
        data[:at],
        data[: at // 2] + data[at:] if at > 1 else b"",
        b"",
        data + b"x",
    ][int(rng.integers(5))]


@pytest.mark.parametrize("ending", ["json", "npz"])
def test_no_damage_changes_a_number(tmp_path, ending):
    """200 mutations: each is found out, or changed nothing that counts; then it is computed again and stored whole."""
    store = EvaluationCache(tmp_path)
    store.store(KEY, an_evaluation())
    path = tmp_path / f"{KEY}.{ending}"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        path.write_bytes(damaged(whole, rng))
        found = store.load(KEY)
        missed += found is None
        if found is not None:
            same(found, an_evaluation())
    assert missed >= 190
    path.write_bytes(whole[:-20])
    same(store.reuse(KEY, an_evaluation), an_evaluation())
    same(store.reuse(KEY, refuse), an_evaluation())


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"format": 1}', '{"format": 1, "sha256": 3}'])
def test_json_of_another_shape_is_no_entry(tmp_path, text):
    store = EvaluationCache(tmp_path)
    store.store(KEY, an_evaluation())
    (tmp_path / f"{KEY}.json").write_text(text)
    assert store.load(KEY) is None


def test_half_an_entry_is_none(tmp_path):
    """The JSON is written last; an npz of another evaluation beside it is found out."""
    store = EvaluationCache(tmp_path)
    store.store(KEY, an_evaluation())
    (tmp_path / f"{KEY}.json").unlink()
    assert store.load(KEY) is None
    store.store(KEY, an_evaluation())
    entry = json.loads((tmp_path / f"{KEY}.json").read_text())
    store.store(KEY, Evaluation({"test/x": 1.0}, {"id": np.ones(2)}))
    (tmp_path / f"{KEY}.json").write_text(json.dumps(entry))
    assert store.load(KEY) is None


def test_an_evaluation_that_fails_leaves_no_entry(tmp_path):
    store = EvaluationCache(tmp_path)

    def fail(state):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.reuse(KEY, fail)
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]
    same(store.reuse(KEY, an_evaluation), an_evaluation())  # the lock was let go


def test_a_folder_that_cannot_be_written_loses_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="cannot be stored"):
        same(EvaluationCache(blocked).reuse(KEY, an_evaluation), an_evaluation())


def test_a_disk_that_fills_up_loses_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "atomic_write", full)
    with pytest.warns(UserWarning, match="No space left"):
        same(EvaluationCache(tmp_path).reuse(KEY, an_evaluation), an_evaluation())


def slow_evaluation(folder, log):
    def compute(state):
        with open(log, "a") as file:
            file.write("computed\n")
        time.sleep(0.3)
        return an_evaluation()

    EvaluationCache(folder).reuse(KEY, compute)


def test_what_goes_on_after_a_kill_is_kept_until_the_evaluation_is_stored(tmp_path):
    folders = []

    def killed(state):
        folders.append(state)
        state.mkdir(exist_ok=True)
        (state / "autoattack-0.1.npz").write_bytes(b"half")
        raise KeyboardInterrupt

    store = EvaluationCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.reuse(KEY, killed)
    seen = []

    def resumed(state):
        seen.extend((state, (state / "autoattack-0.1.npz").read_bytes()))
        return an_evaluation()

    store.reuse(KEY, resumed)
    assert seen == [folders[0], b"half"]
    assert not folders[0].exists()


def test_two_processes_compute_once(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of torch and fork
        processes = [context.Process(target=slow_evaluation, args=(tmp_path / "c", log)) for _ in range(3)]
        for process in processes:
            process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert log.read_text() == "computed\n"


def test_the_default_folder_is_the_user_s_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EvaluationCache().folder == tmp_path / "robust-tuner" / "evaluations"
