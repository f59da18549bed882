"""Names of the OOD sets that are made, not read: noise for tests, transformed validation images for search. No torch.

`trainables.data.synthetic.made_ood` makes them.
"""

#: Noise test sets; `NOISE_N` images of each.
NOISES = ("uniform", "gaussian")
NOISE_N = 500

#: Validation OOD that resembles the ID images: two of different classes in one, or one bent out of shape.
NEAR_TRANSFORMS = ("halves", "patchwork", "warped")

#: Validation OOD of outlier exposure (Hendrycks et al. 2019) and energy fine-tuning (Liu et al. 2020).
TRANSFORMS = (
    "arithmetic_mean",
    "geometric_mean",
    "jigsaw",
    "speckled",
    "pixelated",
    "rgb_shifted",
    "inverted",
)
