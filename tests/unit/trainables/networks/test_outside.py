"""Networks of torchvision and of the user: built, checked, taken apart, attacked, stacked, or refused in one line."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.base.errors import InputError
from trainables.networks import build
from trainables.networks.attack_copy import AttackCopy
from trainables.options import build as build_options
from trainables.options.classifiers import StandardOptions
from trainables.packed.network import stack

GREY = ((1, 8, 8), (0.3,), (0.4,))
SOURCE = """
from torch import nn
from my_parts import stem

class Net(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.stem = stem(channels)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * size * size, classes)
        self.extra = nn.Linear(8 * size * size, 2)

    def forward(self, x):
        return self.fc(self.norm(self.stem(x)).flatten(1))

def normalizing(classes, channels, size):
    net = Net(classes, channels, size)
    net.normalizes = True
    return net

class Softmax(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)

class Two(Net):
    def forward(self, x):
        y = self.norm(self.stem(x)).flatten(1)
        return self.fc(y) + 0 * self.extra(y).sum()

def convolutional(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, num_classes, 8), nn.Flatten())

def wrong(classes, channels, size):
    return Net(classes + 1, channels, size)

def pair(channels, size, classes, *, width=3, dropout):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 7 * 7, classes))

def needs(classes, depth):
    return None

def nothing():
    return 3

def raises():
    return 1 / 0

NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network in two files, which is the current one."""
    (tmp_path / "my_net.py").write_text(SOURCE)
    (tmp_path / "my_parts.py").write_text(
        "from torch import nn\ndef stem(channels):\n    return nn.Conv2d(channels, 8, 3, padding=1)\n"
    )
    (tmp_path / "broken.py").write_text("import torch\nraise OSError('no disk')\nmake = 1\n")
    (tmp_path / "torn.py").write_text("def make(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("my_net", "my_parts", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize("reference", ["./my_net.py:Net", "my_net:Net"])
def test_an_own_network_is_split_into_features_and_head(reference: str, folder: Path) -> None:
    torch.manual_seed(0)
    ours = build(reference, 5, *GREY).eval()
    torch.manual_seed(0)
    theirs = sys.modules["my_net"].Net(5, 1, 8).eval()
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        expected = theirs((images - 0.3) / 0.4)
        torch.testing.assert_close(ours(images), expected)
        torch.testing.assert_close(ours.head(ours.features(images)), expected)
    assert ours.features(images).shape == (3, 512)
    assert ours.body.head_name == "fc"


def test_a_network_that_normalizes_gets_the_images_as_they_are(folder: Path) -> None:
    images = torch.rand(3, 1, 8, 8)
    for ours in (
        build("./my_net.py:normalizing", 5, *GREY),
        build("./my_net.py:Net", 5, *GREY, normalize=False),
    ):
        assert torch.equal(ours.normalize(images), images)


def test_the_text_of_a_path_means_the_same_in_every_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = build_options(StandardOptions, {"network": "./my_net.py:Net@fc"})
    assert options.network == f"{folder}/my_net.py:Net@fc"
    monkeypatch.chdir("/")
    assert build_options(StandardOptions, {"network": options.network}) == options


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (
            "./my_net.py:Softmax",
            "its logits are not what its linear layer fc returns; nothing may follow that layer (no softmax, no "
            "scaling), and it must run once; another layer is named with @layer behind the network",
        ),
        (
            "./my_net.py:convolutional",
            "no linear layer runs in it; detectors and fine-tuning need its last one, which makes the logits",
        ),
        (
            "./my_net.py:wrong",
            "it returns (2, 6) for 2 images; it must return (2, 5), the logits of 5 classes",
        ),
        (
            "./my_net.py:pair",
            "it cannot take images of 8 x 8 with 1 channel: RuntimeError: mat1 and mat2 shapes cannot be multiplied "
            "(2x64 and 49x5)",
        ),
        ("./my_net.py:Net@head", "it has no linear layer head that runs; those that do: fc"),
        (
            "./my_net.py:needs",
            "its parameter depth has no default; what is given: classes, channels, size, dropout",
        ),
        ("./my_net.py:nothing", "what it makes is of type int, not a torch.nn.Module"),
        ("./my_net.py:raises", "it cannot be built: ZeroDivisionError: division by zero"),
        ("./my_net.py:NUMBER", "it is of type int, not a function or class that makes a network"),
        ("./broken.py:make", "{folder}/broken.py cannot be imported: OSError: no disk (broken.py, line 2)"),
        ("./torn.py:make", "{folder}/torn.py is not Python: invalid syntax (torn.py, line 1)"),
        ("./my_net.py:Nett", "./my_net.py has no Nett; did you mean Net? known: "),
        ("./gone.py:make", "{folder}/gone.py is not a file"),
        ("my_nett:make", "there is no module my_nett, neither installed nor in {folder}"),
        ("torchvision:resnet19", "unknown model of torchvision 'resnet19'; did you mean resnet18? known: "),
        ("./my_net.py:", "'./my_net.py:' is not module:attribute or ./file.py:attribute"),
    ],
)
def test_what_does_not_suit_is_one_line(reference: str, says: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        build(reference, 5, *GREY)
    place, _, reason = str(caught.value).partition(": ")
    assert place.startswith("network ")
    assert place.endswith(reference.removeprefix(".").partition("@")[0])
    assert reason.startswith(says.format(folder=folder))
    assert "\n" not in reason


def test_another_layer_may_be_the_head(folder: Path) -> None:
    with pytest.raises(InputError, match="its linear layer extra returns"):
        build("./my_net.py:Two", 5, *GREY)
    assert build("./my_net.py:Two@fc", 5, *GREY).head.out_features == 5


def test_a_library_that_is_not_there_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.options.networks.find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        build("timm:convnext_tiny", 10, *GREY)
    assert str(caught.value) == "network timm:convnext_tiny needs timm; install it with: pip install timm"


def test_published_weights_of_an_own_network_are_refused(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"pretrained is true, but network \S+/my_net\.py:Net has no published"
    ):
        build("./my_net.py:Net", 5, *GREY, pretrained=True)


def test_a_new_last_layer_for_another_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published weights without a download: torchvision's loader is given a state dict."""
    from torchvision.models import resnet18
    from torchvision.models._api import WeightsEnum

    published = resnet18(num_classes=1000)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *a, **k: published.state_dict())
    ours = build("torchvision:resnet18", 7, (3, 32, 32), (0.5,) * 3, (0.2,) * 3, pretrained=True)
    assert torch.equal(ours.body.layers.layer1[0].conv1.weight, published.layer1[0].conv1.weight)
    assert ours.head.weight.shape == (7, 512)

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    with pytest.raises(InputError) as caught:
        build("torchvision:resnet18", 7, (3, 32, 32), (0.5,) * 3, (0.2,) * 3, pretrained=True)
    assert str(caught.value) == (
        "network torchvision:resnet18: its published weights cannot be had, from the cache or online: OSError: Name or "
        "service not known"
    )


def test_the_copy_for_attacks_and_the_stack_compute_the_same(folder: Path) -> None:
    networks = [build("./my_net.py:Net", 5, *GREY) for _ in range(2)]
    for network in networks:
        network(torch.rand(16, 1, 8, 8))  # running statistics of their own
    images = torch.rand(2, 3, 1, 8, 8)
    stacked = stack(networks).eval(images)
    for network, batch, together in zip(networks, images, stacked, strict=True):
        network.eval()
        torch.testing.assert_close(together, network(batch), rtol=1e-4, atol=1e-5)
        copied = AttackCopy(network, torch.float32).refresh()
        torch.testing.assert_close(copied(batch), network(batch), rtol=1e-4, atol=1e-5)


def test_a_sequential_with_a_forward_of_its_own_is_not_folded() -> None:
    """Batch norm behind a convolution in the list, but before it in what is computed."""

    class Reversed(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[0](self[1](x))

    network = build("small_cnn", 5, *GREY).eval()
    network.body.layers = nn.Sequential(
        Reversed(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)), network.body.layers
    )
    norm = network.body.layers[0][1]
    norm.running_mean.fill_(0.7)
    norm.bias.data.fill_(0.2)
    images = torch.rand(3, 1, 8, 8)
    copied = AttackCopy(network.eval(), torch.float32).refresh()
    torch.testing.assert_close(copied(images), network(images), rtol=1e-4, atol=1e-5)
