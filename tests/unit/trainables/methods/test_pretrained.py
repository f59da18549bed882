"""The pretrained classifier as a method: its weights stay, its loss is that of the training images."""

import pytest
import torch
from torch.nn import functional as F

from tests.unit import toy
from tests.unit.toy import check_resume, pretrained, same
from trainables.data.types.splits import Split
from trainables.methods.pretrained import Pretrained
from trainables.options import build
from trainables.options.classifiers import PretrainedOptions


def make() -> Pretrained:
    values = {"epochs": 3, "batch_size": 16, "seed": 5, "dropout": 0.2}
    return Pretrained(build(PretrainedOptions, values), toy.context(5, pretrained))


def test_nothing_is_learnt_and_the_loss_is_that_of_the_training_images_in_eval_mode() -> None:
    method = make()
    reported = method.train_epoch(0)
    assert same(method.classifier().state_dict(), pretrained())
    data = method.context.data.labelled(Split.TRAIN)  # 64 images, four full batches
    with torch.no_grad():
        loss = F.cross_entropy(method.network(torch.tensor(data.images)), torch.tensor(data.labels))
    assert reported == {"loss": pytest.approx(float(loss), rel=1e-5)}
    assert method.passes == 1  # a forward pass for each image, none backward


@pytest.mark.parametrize("streams_first", [True, False])
def test_it_resumes(streams_first: bool) -> None:
    check_resume(make, streams_first, 1)
