"""Dynamics-aware robust training: grow the input-space margins themselves, the small ones first."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.attacks import attack_mode
from trainables.boundary import (
    Boundary,
    closest_boundary,
    margin_surrogate,
    margin_weights,
    quality_filter,
    soft_margin,
)
from trainables.data.loader import DeviceLoader, augment, to_unit
from trainables.data.splits import DatasetInfo, Split
from trainables.errors import DataFileError, InputError
from trainables.losses import full_precision
from trainables.method import Context, Method, StateDict, Trainer, make_optimizer
from trainables.methods.adversarial import speed_batch, speed_report
from trainables.methods.standard import TRAINING_PASSES, initial_network
from trainables.networks import Classifier, build
from trainables.options.dyart import DyARTOptions

#: One step of the search: two forward passes and one backward to the images.
SEARCH_PASSES = 3.0
#: Margins up to here count as wrong: such an image has no boundary of its own to push away.
RIGHT_FROM = 1e-9
#: Channels that share their statistics in group norm, at most so many groups.
GROUPS = 32

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
