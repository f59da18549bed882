"""Adversarial noise training: exact resume, the parts of its batches, what trains when, stylised images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.unit import toy
from tests.unit.toy import check_resume, pretrained, round_trip, same, weights
from trainables.base.errors import DataFileError, InputError, TrainingFailed
from trainables.data.loading.stylised import StylisedLoader
from trainables.data.types.splits import Split
from trainables.functional.attacks import attack_mode
from trainables.methods.ant import ANT
from trainables.networks import build as build_network
from trainables.networks.noise_generator import NoiseGenerator, noise_loss, train_generator
from trainables.options import build
from trainables.options.ant import ANTOptions
from trainables.options.methods import METHODS

#: 3 steps of 21 an epoch.
COMMON = {"epochs": 3, "batch_size": 21, "seed": 5, "retrain_iters": 2, "rms": 0.2, "ng_width": 6}
FULL = {**COMMON, "augment": "crop_flip", "ema": 0.9, "dropout": 0.2, "grad_clip": 1.0}


def make(seed=5, **values):
    return ANT(build(ANTOptions, {**COMMON, **values}), toy.context(seed, pretrained))


def write_npz(path, count=12, label=3):
    """Images of one grey value per row, all of one class."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 8, 8, 1), np.uint8)
    np.savez(path, image=images, label=np.full(count, label))
    return str(path)


def test_is_registered_by_name():
    assert METHODS["ant"].load_method() is ANT
    assert METHODS["ant"].options is ANTOptions


RESUMES = [
    {},
    {"retrain_iters": 0, "optimizer": "sgd", "lr": 0.02, "schedule": "step", "step_size": 1},
    {"ng_type": "3x3", "p_clean": 0.2, "p_history": 0.2},
    {"from_pretrained": False, "p_current": 0.0},
    {"sin_rows": 4},
]


@pytest.mark.parametrize("values", RESUMES)
@pytest.mark.parametrize("streams_first", [True, False])
def test_resume_is_bit_exact_at_every_epoch(values, streams_first, tmp_path):
    if "sin_rows" in values:
        values = {**values, "sin_dir": write_npz(tmp_path / "sin.npz")}
    for done in (1, 2):
        straight, second = check_resume(lambda: make(**{**FULL, **values}), streams_first, done)
        assert same(weights(second.noise_generator), weights(straight.noise_generator))
        assert all(same(a, b) for a, b in zip(second.history, straight.history, strict=True))


def test_a_checkpoint_is_not_changed_by_training_on():
    method = make()
    method.train_epoch(0)
    state = method.state_dict()
    before = round_trip(state)
    method.train_epoch(1)
    assert len(state["history"]) == 1
    assert same(state["history"][0], before["history"][0])


# -- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p_clean", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_noise_of_the_exact_length_on_the_exact_share(p_clean):
    """Of 21 rows round(p_clean * 21) are untouched, the others are 0.2 * 8 = 1.6 away; nothing is edited."""
    method = make(p_clean=p_clean)
    images, labels = torch.rand(21, 1, 8, 8), torch.arange(21) % 4
    before = images.clone(), labels.clone()
    for history in ([], [0]):
        if history:
            method.train_epoch(0)
        picks = method.draw_history()[0]
        assert len(picks) == (len(method.parts.history) if history else 0)
        mixed, targets = method.mixed(images, labels, picks)
        distance = (mixed - images).flatten(1).norm(dim=1)
        clean = round(p_clean * 21 + 1e-9)
        torch.testing.assert_close(distance[: 21 - clean], torch.full((21 - clean,), 1.6), rtol=1e-5, atol=0)
        assert not distance[21 - clean :].any()
        assert torch.equal(targets, labels)
        assert 0 <= mixed.min() <= mixed.max() <= 1
        assert torch.equal(images, before[0])
        assert torch.equal(labels, before[1])


def test_rows_carry_the_noise_of_their_generators():
    """8 rows at (0.25, 0.25, 0.25): 2 current, 2 and 2 of the two that were picked, 2 clean.

    Generators with zero weights and biases of +-1000 in the last layer push every pixel up or down.
    """
    method = make(batch_size=8, p_clean=0.25, p_current=0.25, p_history=0.25)
    assert (method.parts.current, method.parts.history, method.parts.clean) == (2, (2, 2), 2)

    def pushing(value):
        state = {k: torch.zeros_like(v) for k, v in method.noise_generator.state_dict().items()}
        state["layers.3.bias"].fill_(value)
        return state

    method.noise_generator.load_state_dict(pushing(1000.0))
    method.history = [pushing(-1000.0), pushing(1000.0), pushing(0.0)]
    images = torch.full((8, 1, 8, 8), 0.5)
    change = (method.mixed(images, torch.zeros(8).long(), [0, 1])[0] - images).mean(dim=(1, 2, 3))
    torch.testing.assert_close(change, torch.tensor([1.0, 1, -1, -1, 1, 1, 0, 0]) * 0.2, rtol=1e-2, atol=1e-6)


def test_earlier_generators_are_drawn_evenly_and_differ_within_a_batch():
    method = make(batch_size=2, p_clean=0.0, p_current=0.0, p_history=0.5)
    assert method.draw_history() == [[]] * 32
    method.history = [weights(method.noise_generator)]
    assert method.draw_history() == [[0, 0]] * 32
    method.history *= 3
    picks = [batch for _ in range(10) for batch in method.draw_history()]
    assert all(sorted(set(batch)) == sorted(batch) for batch in picks)
    counts = np.bincount(np.ravel(picks), minlength=3)
    assert counts.sum() == 640
    assert (abs(counts - 640 / 3) < 45).all()


# -- the game ----------------------------------------------------------------------------------------------


def test_generator_training_leaves_the_classifier_alone():
    method = make(retrain_iters=5, dropout=0.5)
    method.network.train()
    before = weights(method.network)
    old = weights(method.noise_generator)
    method.renew_generator()
    assert same(weights(method.network), before)
    assert method.network.training
    assert all(p.requires_grad and p.grad is None for p in method.network.parameters())
    assert not same(weights(method.noise_generator), old)


def test_a_trained_generator_hurts_more_than_gaussian_noise_of_its_length():
    """On the same images with the same seeds, against a classifier that has learnt its classes."""
    method = make(epochs=8, rms=0.3)
    for epoch in range(8):
        method.train_epoch(epoch)
    data = method.context.data.labelled(Split.TRAIN)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    fresh = NoiseGenerator(1, method.l2, torch.Generator().manual_seed(0))
    losses = []
    for iterations in (0, 60):
        batches = iter([(images, labels)] * iterations)
        train_generator(fresh, method.network, batches, iterations, 1e-2, torch.Generator().manual_seed(1))
        with attack_mode(method.network), torch.no_grad():
            seeds = torch.Generator().manual_seed(2)
            losses.append(noise_loss(fresh, method.network, images, labels, seeds).item())
    assert losses[1] > 1.3 * losses[0]


def test_generators_gradient_is_that_of_the_loss():
    """Against central differences in float64, through the rescaling and a clipped image."""
    network = build_network("small_cnn", 4, (1, 8, 8), (0.3,), (0.25,)).double()
    generator = NoiseGenerator(1, 1.5, torch.Generator().manual_seed(0), width=3).double()
    images = torch.from_numpy(toy.images_of(6, 0).images).double().mul(1.4).sub(0.2).clamp(0, 1)
    labels = torch.from_numpy(toy.images_of(6, 0).labels)
    parameter = generator.layers[3].weight

    def loss():
        return noise_loss(generator, network, images, labels, torch.Generator().manual_seed(1))

    with attack_mode(network):
        (gradient,) = torch.autograd.grad(loss(), parameter)
        for at in range(3):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[0, at] += step
                    values.append(loss().item())
                    parameter[0, at] -= step
            assert gradient[0, at].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-9)


def test_every_epoch_starts_from_a_fresh_generator_unless_it_is_kept():
    for iterations, fresh in ((1, True), (0, False)):
        method = make(retrain_iters=iterations, lr_ng=0.0, lr_ng_retrain=0.0)
        first = method.noise_generator
        for epoch in range(2):
            method.train_epoch(epoch)
        assert (method.noise_generator is not first) is fresh
        assert same(method.history[0], method.history[1]) is not fresh
        assert len(method.history) == 2


def test_history_holds_the_generators_of_the_epochs_ends():
    method = make(retrain_iters=0)
    for epoch in range(2):
        method.train_epoch(epoch)
        assert same(method.history[epoch], weights(method.noise_generator))
    assert not same(method.history[0], method.history[1])


def test_the_classifier_sees_its_batches_in_the_same_order_whatever_the_generator_does():
    seen = []
    for iterations in (0, 7):
        method, labels_seen = make(retrain_iters=iterations), []
        original = method.mixed

        def spy(images, labels, picks, original=original, labels_seen=labels_seen):
            labels_seen.append((images, labels))
            return original(images, labels, picks)

        method.mixed = spy
        method.train_epoch(0)
        seen.append(labels_seen)
    for left, right in zip(*seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_strength_by_rms_or_by_length():
    assert make(rms=0.2).l2 == pytest.approx(1.6)
    assert make(l2=0.7).l2 == 0.7
    assert make(l2=0.7).noise_generator.l2.item() == pytest.approx(0.7)
    with pytest.raises(InputError, match="rms"):
        make(rms=0.0)


def test_starts_from_the_pretrained_weights_unless_told_otherwise():
    assert same(weights(make().network), pretrained())
    scratch = ANT(build(ANTOptions, {**COMMON, "from_pretrained": False}), toy.context(5))
    assert not same(weights(scratch.network), pretrained())


def test_passes_golden():
    """3 for training, 2 for a generator step before each of the 3 batches, and 2 for each of 6 more: 3 + 2 + 4."""
    method = make(retrain_iters=6)
    method.train_epoch(0)
    assert method.passes == 9.0


def test_learns_the_toy_classes_under_noise():
    method = make(epochs=8, rms=0.15, retrain_iters=5)
    for epoch in range(8):
        means = method.train_epoch(epoch)
    assert set(means) == {"loss", "generator"}
    data = toy.images_of(32, 1)
    logits = method.classifier().eval()(torch.from_numpy(data.images))
    assert (logits.argmax(1) == torch.from_numpy(data.labels)).float().mean().item() >= 0.95
    assert F.cross_entropy(logits, torch.from_numpy(data.labels)) < 0.3


def test_a_diverged_generator_is_reported():
    method = make(lr_ng_retrain=1e30, retrain_iters=3)
    with pytest.raises(TrainingFailed, match="diverged"):
        method.train_epoch(0)


# -- stylised images ---------------------------------------------------------------------------------------


def test_stylised_rows_come_last_with_their_own_labels(tmp_path):
    """Grey values 0..11 of 255 and label 3 replace the last 4 of 21 rows."""
    method = make(sin_rows=4, sin_dir=write_npz(tmp_path / "sin.npz"))
    images, labels = torch.full((21, 1, 8, 8), 0.5), torch.zeros(21).long()
    mixed, targets = method.mixed(images, labels, [])
    assert targets.tolist() == [0] * 17 + [3] * 4
    assert not labels.any()
    assert torch.equal(mixed[method.parts.noisy : 17], images[method.parts.noisy : 17])
    assert (mixed[17:] <= 11 / 255).all()


def test_every_stylised_image_comes_once_a_round(tmp_path):
    info = toy.benchmark().info
    loader = StylisedLoader(
        write_npz(tmp_path / "a.npz"), info, "cpu", torch.Generator().manual_seed(0), "none"
    )
    first = torch.cat([loader.next(count)[0][:, 0, 0, 0] for count in (5, 7)])
    assert sorted((first * 255).round().int().tolist()) == list(range(12))
    assert len(loader.next(30)[0]) == 30


def test_stylised_folders_of_images(tmp_path):
    """Labels follow the folders' names; other sizes are cut to the centre; a train folder is looked into."""
    for label in range(4):
        folder = tmp_path / "train" / f"class{label}"
        folder.mkdir(parents=True)
        Image.new("RGB", (16, 24), (50 * label,) * 3).save(folder / "a.png")
        Image.new("L", (8, 8), 50 * label).save(folder / "b.JPEG")
        (folder / "notes.txt").write_text("no image")
    info = toy.benchmark().info
    loader = StylisedLoader(str(tmp_path), info, "cpu", torch.Generator().manual_seed(0), "none")
    images, labels = loader.next(8)
    assert images.shape == (8, 1, 8, 8)
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), labels * 50 / 255, rtol=0, atol=2 / 255)


def bad_npz(tmp_path, **arrays):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    return str(path)


PIXELS = np.zeros((5, 8, 8, 1), np.uint8)
BAD = {
    "needs arrays image": {"image": PIXELS},
    "want uint8 n x 8 x 8 x 1": {"image": PIXELS.transpose(0, 3, 1, 2), "label": np.zeros(5, int)},
    "image is float64": {"image": PIXELS / 255, "label": np.zeros(5, int)},
    "want integers": {"image": PIXELS, "label": np.zeros(4, int)},
    "labels run from 0 to 4": {"image": PIXELS, "label": np.arange(5)},
}


@pytest.mark.parametrize("message", BAD)
def test_malformed_arrays_are_refused_in_one_line(message, tmp_path):
    with pytest.raises(DataFileError, match=message) as caught:
        make(sin_rows=2, sin_dir=bad_npz(tmp_path, **BAD[message]))
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_broken_copies_are_refused_in_one_line(tmp_path):
    with pytest.raises(DataFileError, match="does not exist"):
        make(sin_rows=2, sin_dir=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="sin_dir is empty"):
        make(sin_rows=2)
    with pytest.raises(InputError, match="only 11 unnoised rows"):
        make(sin_rows=12, sin_dir=write_npz(tmp_path / "sin.npz"))
    torn = tmp_path / "torn.npz"
    torn.write_bytes((tmp_path / "sin.npz").read_bytes()[:400] if (tmp_path / "sin.npz").exists() else b"PK")
    with pytest.raises(DataFileError, match=r"torn\.npz is not a whole npz file"):
        make(sin_rows=2, sin_dir=str(torn))
    folders = tmp_path / "folders"
    for label in range(4):
        (folders / str(label)).mkdir(parents=True)
    with pytest.raises(DataFileError, match="holds no picture"):
        make(sin_rows=2, sin_dir=str(folders))
    for label in range(4):
        (folders / str(label) / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataFileError, match=r"a\.png is a picture of no known format, or damaged"):
        make(sin_rows=2, sin_dir=str(folders))
    (folders / "extra").mkdir()
    with pytest.raises(DataFileError, match="has 5 class folders"):
        make(sin_rows=2, sin_dir=str(folders))


def test_a_picture_that_breaks_later_fails_by_name(tmp_path):
    for label in range(4):
        (tmp_path / str(label)).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / str(label) / "a.png")
    method = make(sin_rows=8, sin_dir=str(tmp_path))
    (tmp_path / "2" / "a.png").write_bytes(b"")
    with pytest.raises(DataFileError, match=r"2/a\.png"):
        method.train_epoch(0)
