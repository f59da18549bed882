"""The authors' settings of adversarial noise training, Rob-GAN and DyART."""

from search_spaces.paper_setting import NOT_KNOWN, PaperPreset, PaperSetting, other, same, words

CODE = "code"
ANT_SOURCE = "Rusak et al., A simple way to make neural networks robust (ECCV 2020), and its code"
ROBGAN_SOURCE = "Liu & Hsieh, Rob-GAN (CVPR 2019), and its code"
DYART_SOURCE = "Xu et al., Exploring and Exploiting Decision Boundary Dynamics (ICLR 2023), and its code"
PIXELS = 3 * 224 * 224

_ANT: tuple[PaperSetting, ...] = (
    same("network", "resnet50", CODE),
    same("optimizer", "sgd", CODE),
    same("momentum", 0.9, CODE),
    same("lr", 1e-3, CODE),
    same("weight_decay", 0.0, CODE),
    same("schedule", "step", CODE),
    same("step_size", 60, CODE),
    same("gamma", 0.1, CODE),
    same("epochs", 121, CODE),
    same("batch_size", 70, CODE),
    same("augment", "resized_crop_flip", CODE, "RandomResizedCrop and flip"),
    same("rms", 135 / PIXELS**0.5, CODE, "L2 135 at 224 pixels"),
    same("ng_type", "1x1", CODE),
    same("ng_width", 20, CODE),
    same("lr_ng", 1e-4, CODE, "Adam, 1e-4"),
    same("lr_ng_retrain", 5e-4, CODE, "Adam, 5e-4"),
    same("retrain_iters", 1001, CODE),
    same("p_clean", 0.5, CODE),
    same("p_current", 0.3, CODE),
    same("p_history", 0.1, CODE),
    same("protocol.noise_rms", 135 / PIXELS**0.5, CODE, "L2 135, of a generator that is trained anew"),
    same("gaussian: sigma", 0.5, CODE),
    same("pretrain.augment", "resized_crop_flip", "torchvision", "RandomResizedCrop and flip"),
    words(
        "start", "the published ImageNet checkpoint of ResNet-50", "trained here for 90 epochs", CODE,
        "their file need not be there; --set pretrain.checkpoint=FILE takes it",
    ),
    words("momentum of SGD", "plain", "Nesterov", CODE, "every method's SGD is"),
    words("drop of the rate", "one epoch early", "after 60 epochs", CODE, "an old idiom of their library"),
    words(
        "earlier generators", "from disk, those of the current epoch among them", "in memory, without the current one",
        CODE, "the current one has rows of its own",
    ),
    words("ANT+SIN", "15 rows of 70 stylised", "no arm of its own", CODE,
          "--set sin_rows=15 --set sin_dir=FOLDER makes the study that of ANT+SIN"),
    words("validation", "1,000 clean images, 50 batches of each corruption", "the hold-out corruptions", CODE,
          "the 15 corruptions are the test here, and no search sees them"),
)  # fmt: skip

_STEPS = (0.004, 0.01, 0.016, 0.02, 0.024, 0.03, 0.04)  # in [-1, 1]
_ROBGAN: tuple[PaperSetting, ...] = (
    same("epochs", 260, CODE, "200 joint and 60 of fine-tuning"),
    same("ft.share", 60 / 260, CODE, "60 of 260 epochs"),
    same("batch_size", 64, CODE),
    same("augment", "crop_flip", CODE, "crop and flip"),
    same("loss", "bce", CODE),
    same("fake_cls_in_d", False, CODE, "their own loss: D does not learn the classes of fakes"),
    same("w_c", 1.0, CODE, "both heads weigh 0.5"),
    same("w_g", 1.0, CODE, "both heads weigh 0.5"),
    same("w_g_ramp", 0.0, CODE, "none"),
    same("lr_d", 2e-4, CODE),
    same("lr_g", 2e-4, CODE),
    same("beta1", 0.0, CODE),
    same("beta2", 0.9, CODE),
    same("schedule", "halve", CODE, "halved every 50 epochs"),
    same("reset_optimizer", True, CODE, "a new Adam at every drop"),
    same("n_dis", 5, CODE),
    same("nz", 128, CODE),
    same("ngf", 64, CODE),
    same("ndf", 64, CODE),
    same("pool", "sum", CODE),
    same("d_norm", "batch", CODE, "batch norm in D at 32 pixels"),
    same("joint_batch", False, CODE, "reals and fakes apart"),
    same("spectral_norm", False, CODE),
    same("r1_gamma", 0.0, CODE, "none"),
    same("ema", 0.0, CODE, "none"),
    same("dequantize", 1 / 256, CODE, "1/128 in [-1, 1]"),
    same("bn_momentum", 0.9, CODE),
    same("attack.steps", 5, CODE),
    same("attack.random_start", False, CODE),
    same("attack.warmup", 0.0, CODE, "none"),
    other("attack.epsilon", "4/255 at 64 pixels, 8/255 on ImageNet; of CIFAR-10 not known", 8 / 255, CODE,
          "the radius that the study is judged at"),
    same("attack.step_scale", 5 * 0.0078 / 0.0625, CODE, "step length 0.0078 in [-1, 1]: 0.624 x 8/255 / 5"),
    same("ft.lambda_f", 0.3, CODE, "0.3 shown, 0.3 to 0.8 recommended"),
    same("ft.lr", 1e-3, CODE, "Adam, 1e-3"),
    same("ft.schedule", "stages", CODE, "20, 20, 10 and 10 epochs, a tenth of the rate after each"),
    same("ft.frozen_bn", True, CODE, "the attack leaves D in eval mode"),
    same("guards.enabled", False, CODE, "none"),
    other(
        "protocol.robust_epsilons", "0.004 to 0.04 in [-1, 1]", (*(e / 2 for e in _STEPS), 4 / 255, 8 / 255), CODE,
        "the study's own radii besides",
    ),
    words("batch of the fine-tuning", "128", "64, that of the joint phase", CODE, "both phases share one loader"),
    words("steps of the fine-tuning's attack", "5 of epsilon / 5", "5 of 0.624 epsilon / 5", CODE,
          "both phases share one attack"),
    words("generator while fine-tuning", "in train mode", "in eval mode", CODE, "samples do not depend on the batch"),
    words("dequantisation", "after the scaling to [-1, 1], then clamped by the attack", "in [0, 1]", CODE,
          "an image that is not attacked stays as it is"),
    words("test of the accuracy", "the training images; the fine-tuned net's test images cropped and flipped",
          "the test images as they are", CODE, "theirs is no test"),
    words("model that is tested", NOT_KNOWN, "the best on validation of ten epochs in the second half", CODE,
          "as in the study; --epoch last takes the last"),
    words("class head of that test", "a pre-activation ResNet-18", "the discriminator that was trained", CODE,
          "one network throughout"),
)  # fmt: skip

# what CIFAR-10 and Tiny-ImageNet share
_DYART: tuple[PaperSetting, ...] = (
    same("optimizer", "sgd", CODE, "SGD, Nesterov"),
    same("lr", 0.1, CODE),
    other("momentum", "between 0.85 and 0.95, against the rate", 0.9, CODE, "no schedule of it here"),
    same("weight_decay", 5e-4, CODE),
    same("schedule", "one_cycle", CODE, "one cycle, cosine"),
    same("warmup", 0.025, CODE, "2.5 %"),
    same("augment", "crop_flip", CODE, "crop with padding 4, flip"),
    same("ema", 0.995, CODE),
    same("temperature", 5.0, CODE),
    same("norm", "bn_upstream", CODE, "boundary points pass batch norm apart"),
    same("start", "pretrained", CODE, "the burn-in"),
    same("burn_in_epochs", 0, CODE, "before the schedule begins"),
    same("boundary.search", "fab", CODE),
    same("boundary.steps", 20, CODE),
    same("boundary.epsilon_init", 8 / 255, CODE),
    same("boundary.mixing", 0.1, CODE),
    same("boundary.shared_alpha", True, CODE, "the first image's share serves the batch"),
    same("boundary.quality_filter", True, CODE),
    same("pretrain.lr", 0.1, CODE),
    same("pretrain.optimizer", "sgd", CODE),
    same("pretrain.augment", "crop_flip", CODE),
    other("pretrain.ema", "its weight average, of a decay that is not known", 0.995, CODE, "that of the training"),
    other("pretrain.schedule", "steps of a schedule of twice the epochs", "constant", CODE,
          "where it drops is not known; half of it is gone through"),
    other("pretrain.weight_decay", NOT_KNOWN, 5e-4, CODE, "that of the training"),
    other("pretrain.batch_size", NOT_KNOWN, 256, CODE, "that of the training"),
    same("attack.epsilon", 8 / 255, CODE, "8/255, of the baselines"),
    same("attack.steps", 10, CODE),
    same("attack.step_scale", 2.5, CODE, "step length 2/255: 2.5 x 8/255 / 10"),
    same("pgd_at: attack_bn", "eval", CODE),
    same("trades: attack_bn", "train", CODE),
    same("trades: attack.widen", 1.0, CODE, "the radius itself"),
    same("trades: beta", 6.0, CODE),
    same("trades: label_smoothing", 0.1, CODE),
    same("validation.steps", 40, CODE),
    same("validation.max_images", 1024, CODE),
    words("validation's attack", "40 steps of 2/255 up the margin loss",
          "40 of 2.5 x 8/255 / 40, up it and the cross-entropy", CODE, "one attack for every study"),
    words("model that is tested", "the best epoch on validation", "the best of ten epochs in the second half", CODE,
          "no other is validated"),
    words("step of the rate", "once an epoch, down to a 10,000th of the start", "once a batch, down to 0", CODE,
          "as in every training here"),
    words("start of the weight average", "after the warm-up", "at once, with an early ramp", CODE,
          "it forgets the first weights within a thousand steps"),
    words("optimiser and schedule of pgd_at and trades", NOT_KNOWN, "DyART's, from scratch", CODE,
          "the baselines' own numbers are not at hand"),
    words("buffers of the weight average", "those of the live network", "a copy after each step", CODE,
          "live statistics would leak into it"),
)  # fmt: skip

_CIFAR10: tuple[PaperSetting, ...] = (
    same("network", "wrn_28_10_dm", CODE, "WRN-28-10 with SiLU"),
    same("normalize", "dataset", CODE, "inside the network"),
    same("bn_momentum", 0.01, CODE),
    same("norm_decay", False, CODE, "none on batch norm"),
    same("alpha", 3.0, CODE),
    same("r0", 16 / 255, CODE),
    same("grad_clip", 0.1, CODE),
    same("pretrain.epochs", 11, CODE, "11 of 22"),
    same("protocol.auto_attack_epsilons", (8 / 255,), CODE),
    same("protocol.auto_attack_images", 0, CODE, "all 10,000"),
)
_PLAIN: tuple[PaperSetting, ...] = (
    same("epochs", 200, CODE),
    same("batch_size", 256, CODE),
    same("robust_weight", 1000.0, CODE),
)
_EXTRA: tuple[PaperSetting, ...] = (
    same("epochs", 800, CODE),
    same("batch_size", 512, CODE),
    same("robust_weight", 800.0, CODE),
    same("unsup_fraction", 0.7, CODE),
    words("steps of an epoch", "98", "95", CODE, "without 1,024 validation images and the last short batch"),
)  # fmt: skip
_TINY: tuple[PaperSetting, ...] = (
    same("network", "preact_resnet18", CODE),
    same("normalize", "none", CODE, "no normalisation"),
    same("norm_decay", True, CODE, "batch norm decays too: their test of names misses it"),
    other("bn_momentum", NOT_KNOWN, 0.1, CODE, "the library's"),
    same("epochs", 100, CODE),
    same("batch_size", 256, CODE),
    same("alpha", 5.0, CODE),
    same("r0", 32 / 255, CODE),
    same("robust_weight", 500.0, CODE),
    same("grad_clip", 1.0, CODE),
    same("pretrain.epochs", 21, CODE),
    words("validation images", "a random tenth of the training images", "docs/data.md", CODE,
          "the split of every study on these data"),
)  # fmt: skip
_ANT_ARMS = {
    "gaussian": "Gaussian augmentation of sigma 0.5, as published",
    "pretrained": "the clean classifier before any training with noise",
    "gaussian_l2": "Gaussian noise of exactly its length",
    "speckle": "speckle noise of five strengths, as published",
    "vanilla": "the same training without noise",
}
_ROBGAN_ARMS = {
    "class_head_at": "PGD-AT of the same class head without a generator",
    "no_fakes": "the same, fine-tuned without generated images",
    "plain_gan": "the same without any attack",
}
_DYART_ARMS = {
    "pgd_at": "adversarial training at the radius of the objective",
    "trades": "TRADES at the radius of the objective",
    "ce": "its start and schedule with the cross-entropy alone",
}
_DYART_CLAIM = (
    "DyART is at least as accurate under attack as PGD-AT and TRADES, at higher clean accuracy, as published"
)

ROBUST = (
    PaperPreset(
        "ant_strength", "imagenet", ANT_SOURCE,
        "ANT beats Gaussian augmentation in mean accuracy on unseen corruptions at equal clean accuracy, as published",
        _ANT, _ANT_ARMS,
    ),
    PaperPreset(
        "robgan", "cifar10", ROBGAN_SOURCE,
        "Rob-GAN's class head, as published, is more accurate under attack than PGD-AT of the same network",
        _ROBGAN, _ROBGAN_ARMS,
    ),
    PaperPreset("dyart_margin", "cifar10", DYART_SOURCE, _DYART_CLAIM, _DYART + _CIFAR10 + _PLAIN, _DYART_ARMS),
    PaperPreset(
        "dyart_margin", "cifar10", DYART_SOURCE, _DYART_CLAIM, _DYART + _CIFAR10 + _EXTRA, _DYART_ARMS, "paper-extra",
        {"synthetic_path": "the npz file of generated images"},
    ),
    PaperPreset("dyart_margin", "tiny-imagenet", DYART_SOURCE, _DYART_CLAIM, _DYART + _TINY, _DYART_ARMS),
)  # fmt: skip
