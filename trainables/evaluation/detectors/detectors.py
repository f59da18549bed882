"""Post-hoc outlier detectors that need more than logits: gradients, features, weights or training images.

A detector is fitted on training images, never on OOD images, and has the paper's settings: nothing is tuned. From
pytorch-ood where the installed version does what the paper says in enough digits (ReAct, ASH). ODIN, Mahalanobis,
KNN and ViM agree with it wherever both are accurate; each says what made own code necessary.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.errors import InputError, unknown
from trainables.data.loading.stream_loader import in_order
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.robust import batch_size
from trainables.evaluation.detectors.cores import Cores
from trainables.evaluation.detectors.features import batched, features_of, first_fit_images, in_double
from trainables.evaluation.metrics.by_set import ScoresBySet
from trainables.evaluation.metrics.scores import energy, msp
from trainables.networks import Classifier
from trainables.options.energy import CoresOptions


class Detector(ABC):
    """An outlier score fitted to one network, which runs in eval mode and is left as it was."""

    @abstractmethod
    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        """Look at the network, and at training images as far as the score needs them; return self.

        Args:
            network: on the device; kept, not copied.
            train: at most `features.FIT_IMAGES` are read, the same ones every time.

        Raises:
            InputError: too few images, or a network that does not suit.
        """

    @abstractmethod
    def score(self, images: Tensor) -> Tensor:
        """Return the outlier scores (n,) float64 on the CPU; higher = more OOD.

        Args:
            images: (n, c, h, w) in [0, 1], or uint8; on any device.
        """


class FeatureDetector(Detector):
    """A detector that sees an image only as its penultimate features, so that several can share them."""

    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        self._network, self._device = network, torch.device(device)
        data = first_fit_images(train)
        features = features_of(network, data.images, self._device)
        return self.fit_features(features, torch.tensor(data.labels), network.head)

    def score(self, images: Tensor) -> Tensor:
        return self.score_features(batched(self._network, self._network.features, images, self._device))

    @abstractmethod
    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        """Fit on features (n, d) float32 of images with labels (n,), which `head` maps to the logits."""

    @abstractmethod
    def score_features(self, features: Tensor) -> Tensor:
        """Return the scores (n,) float64 on the CPU of features (n, d)."""


@dataclass
class Odin(Detector):
    """ODIN: the softmax at a high temperature, of an image moved towards its predicted class.

    x~ = x - epsilon sign grad_x CE(f(x) / T, argmax f(x)); the score is that of the largest p of softmax f(x~) / T.
    As every network here takes [0, 1] and normalises inside, epsilon is in pixel units without a division by the
    standard deviation. x~ may leave [0, 1], as in the paper.

    Source:
        Liang et al. 2018. Own code for the last step: at T = 1000 every largest p is 1/classes to within some 1e-3,
        which float32 resolves coarsely. Here the score is the log-odds against p in float64, which rises strictly
        with -p. pytorch-ood 0.4 ranks alike up to that rounding; versions before it differ in more.
    """

    temperature: float = 1000.0
    epsilon: float = 0.0014

    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        self._network, self._device = network, torch.device(device)
        return self

    def score(self, images: Tensor) -> Tensor:
        return batched(self._network, self._of_batch, images, self._device).double().cpu()

    def _of_batch(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            logits = self._network(x) / self.temperature
            # the sum, not the mean: 1/T and 1/n together may leave nothing of a confident image's gradient
            loss = F.cross_entropy(logits, logits.argmax(1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
        moved = x.detach() - self.epsilon * gradient.sign()
        return msp(self._network(moved).double() / self.temperature)


@dataclass
class Mahalanobis(FeatureDetector):
    """The squared Mahalanobis distance to the nearest class mean, min_c (z - mu_c)^T P (z - mu_c).

    P is the inverse of the one covariance of all classes plus `ridge` on its diagonal.

    Source:
        Lee et al. 2018, penultimate features, without input perturbation. Own code: pytorch-ood 0.4 inverts the
        summed matrix in float32. Where ReLUs never fire, or features outnumber images, that inverse is made of
        rounding errors (digits, 1024 features of 603 images: negative "distances", AUROC .48 for .98). On regular
        features both rank alike.

    Example:
        Class means (0, 0) and (10, 0), covariance diag(4, 1), no ridge: (2, 3) scores 2^2 / 4 + 3^2 / 1 = 10.
    """

    ridge: float = 1e-6

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        labels = labels.to(features.device)
        classes = [c for c in labels.unique().tolist() if c >= 0]
        if not classes:
            raise InputError("the Mahalanobis detector needs labelled training images, and there are none")
        z = features.double()
        means = torch.stack([z[labels == c].mean(0) for c in classes])
        within = torch.cat([z[labels == c] - mean for c, mean in zip(classes, means, strict=True)])
        values, vectors = torch.linalg.eigh(within.T @ within / len(within))
        # rounding may push an empty direction below 0
        self._whiten = vectors / (values.clamp_min(0) + self.ridge).sqrt()
        self._origin = means.mean(0)  # near the data: the distances are differences of small numbers
        self._means = (means - self._origin) @ self._whiten
        return self

    def score_features(self, features: Tensor) -> Tensor:
        def nearest(z: Tensor) -> Tensor:
            white = (z - self._origin) @ self._whiten
            distances = torch.cdist(white, self._means, compute_mode="donot_use_mm_for_euclid_dist")
            return distances.amin(1).square()

        return in_double(nearest, features)


@dataclass
class Knn(FeatureDetector):
    """The distance to the k-th nearest training image, features scaled to unit length.

    Source:
        Sun et al. 2022; k = 50 is theirs for CIFAR-10, 200 for CIFAR-100, 1000 for ImageNet. Own code: pytorch-ood
        0.4 computes the same distances (before 0.3: k = 1, lengths kept), but always starts a worker for every
        core of the node, beside the other trials that run there, and leaves the GPU for it.

    Example:
        k = 2, training features (1, 0), (0, 3), (-2, 0): from (5, 0) they lie 0, sqrt 2 and 2 away, so sqrt 2.
    """

    k: int = 50

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        if len(features) < self.k:
            raise InputError(
                f"the KNN detector looks for neighbour {self.k}, but there are only {len(features)} training images"
            )
        self._bank = F.normalize(features.double(), dim=1)
        return self

    def score_features(self, features: Tensor) -> Tensor:
        def to_neighbour(z: Tensor) -> Tensor:
            z = F.normalize(z, dim=1)
            # float64: for near neighbours |a - b|^2 = 2 - 2 a b loses half of the digits
            squared = z.square().sum(1, keepdim=True) + self._bank.square().sum(1) - 2 * z @ self._bank.T
            return squared.topk(self.k, dim=1, largest=False).values[:, -1].clamp_min(0).sqrt()

        return in_double(to_neighbour, features)


def main_dimensions(width: int) -> int:
    """Return ViM's rule for features of this width."""
    return 1000 if width >= 2048 else 512 if width >= 768 else width // 2


@dataclass
class Vim(FeatureDetector):
    """ViM: one more logit, the length of what the features have outside the subspace of the training images.

    With u = -pinv(W) b the features of all-equal logits, and R the eigenvectors of the second moment of z - u
    beyond the `dim` largest: score = a |R^T (z - u)| - logsumexp f, where a is the ratio of the mean largest logit
    to the mean length on training images.

    Attributes:
        dim: of the main subspace; 0 = the paper's rule: 1000 of 2048 features, 512 of 768, else half.

    Source:
        Wang et al. 2022. Own code: pytorch-ood 0.4 decomposes in float32, where ReLUs that never fire make many
        equal eigenvalues of 0 whose vectors mix with those of small ones (measured on digits: rank correlation
        .991, AUROC .834 for .845). In float64 both agree where the spectrum is regular.
    """

    dim: int = 0

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        width = features.shape[1]
        dim = self.dim or main_dimensions(width)
        if not 0 < dim < width:
            raise InputError(f"ViM keeps {dim} of {width} dimensions; it must leave at least one")
        self._weight = head.weight.detach().double()
        self._bias = (
            self._weight.new_zeros(len(self._weight)) if head.bias is None else head.bias.detach().double()
        )
        self._origin = -torch.linalg.pinv(self._weight) @ self._bias
        z = features.double()
        centred = z - self._origin
        # ascending: the first columns are the least used directions
        vectors = torch.linalg.eigh(centred.T @ centred / len(z)).eigenvectors
        self._residual = vectors[:, : width - dim].contiguous()
        lengths = (centred @ self._residual).norm(dim=1)
        smallest = 1e-12 * centred.norm(dim=1).mean()  # images of too low a rank leave nothing outside
        self.alpha = float(self._logits(z).amax(1).mean() / torch.maximum(lengths.mean(), smallest))
        return self

    def _logits(self, z: Tensor) -> Tensor:
        return z @ self._weight.T + self._bias

    def score_features(self, features: Tensor) -> Tensor:
        def virtual(z: Tensor) -> Tensor:
            return self.alpha * ((z - self._origin) @ self._residual).norm(dim=1) + energy(self._logits(z))

        return in_double(virtual, features)


@dataclass
class React(FeatureDetector):
    """ReAct: the energy after the features were cut off at a quantile of all training features.

    Source:
        Sun et al. 2021; pytorch-ood 0.4.
    """

    quantile: float = 0.9

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        from pytorch_ood.detector import ReAct

        self._library = ReAct(backbone=nn.Identity(), head=head, percentile=self.quantile)
        self._library.fit_feature_maps(features, labels.to(features.device))
        self.threshold = float(self._library.threshold)
        return self

    def score_features(self, features: Tensor) -> Tensor:
        return self._library.predict_feature_maps(features).double().cpu()


@dataclass
class Ash(FeatureDetector):
    """ASH: the energy after each image's smallest features were set to 0 and the others rescaled.

    Attributes:
        percentile: the share of the features that is set to 0.
        variant: "ash-s" scales by exp(sum before / sum after), "ash-p" by nothing, "ash-b" makes what is left equal.

    Source:
        Djurisic et al. 2023; pytorch-ood 0.4, on pooled features. What differs: where all features of an image are 0,
        the sums' ratio is 0 / 0 and the library's score NaN; such an image is scored as it is.
    """

    percentile: float = 0.65
    variant: str = "ash-s"

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        from pytorch_ood.detector import ASH

        if self.variant not in ASH.variants:
            raise InputError(unknown("variant of ASH", self.variant, ASH.variants))
        self._head = lambda z: head(z.flatten(1))  # the library wants maps; pooled ones are 1 x 1
        self._library = ASH(nn.Identity(), self._head, self.variant, self.percentile)
        return self

    @torch.no_grad()
    def score_features(self, features: Tensor) -> Tensor:
        shaped: Tensor = self._library.predict_feature_maps(features[:, :, None, None])
        silent = (features == 0).all(1)
        return torch.where(silent, energy(self._head(features)), shaped).double().cpu()


@dataclass
class CoresDetector(Detector):
    """CORES, see `cores`; its thresholds come from noise of a fixed seed, no image is looked at."""

    options: CoresOptions = field(default_factory=CoresOptions)
    seed: int = 0

    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        _, channels, height, width = train.images.shape
        generator = torch.Generator(device).manual_seed(self.seed)
        self._cores = Cores(network, (channels, height, width), generator, self.options)
        return self

    def score(self, images: Tensor) -> Tensor:
        return self._cores.score(images).cpu()


#: {name in reports: how to make one with the paper's settings}.
DETECTORS: Mapping[str, type[Detector]] = {
    "odin": Odin,
    "mahalanobis": Mahalanobis,
    "knn": Knn,
    "vim": Vim,
    "react": React,
    "ash": Ash,
    "cores": CoresDetector,
}


def score_all(
    network: Classifier,
    train: LabelledImages,
    images: Mapping[str, Any],
    names: Sequence[str],
    device: torch.device | str,
    unsuited: dict[str, str] | None = None,
) -> dict[str, ScoresBySet]:
    """Fit detectors on training images and score sets of images.

    Features are computed once for all detectors that need them.

    Args:
        train: of the ID classes; nothing else is looked at to fit.
        images: {set: images, an array or lazy}.
        names: of `DETECTORS`.
        unsuited: takes {detector: reason} of those that do not suit the network or the training images, which are
            then left out.

    Returns:
        {detector: {set: (n,) float64 scores}}.

    Raises:
        InputError: an unknown name; without `unsuited` also a detector that does not suit.
    """
    for name in names:
        if name not in DETECTORS:
            raise InputError(unknown("detector", name, DETECTORS))
    train = first_fit_images(train)
    detectors: dict[str, Detector] = {}
    seen: Tensor | None = None
    for name in names:
        detector = DETECTORS[name]()
        try:
            if isinstance(detector, FeatureDetector):
                seen = features_of(network, train.images, device) if seen is None else seen
                detector.fit_features(seen, torch.tensor(train.labels), network.head)
            else:
                detector.fit(network, train, device)
        except InputError as error:
            if unsuited is None:
                raise
            unsuited[name] = str(error)
            continue
        detectors[name] = detector
    features: dict[str, Tensor] = {}
    if any(isinstance(detector, FeatureDetector) for detector in detectors.values()):
        features = {name: features_of(network, part, device) for name, part in images.items()}
    found: dict[str, ScoresBySet] = {}
    size = batch_size(device)
    for name, detector in detectors.items():
        if isinstance(detector, FeatureDetector):
            found[name] = {s: detector.score_features(z).numpy() for s, z in features.items()}
        else:
            found[name] = {
                s: torch.cat([detector.score(x) for x in in_order(part, size, device)]).numpy()
                for s, part in images.items()
            }
    return found
