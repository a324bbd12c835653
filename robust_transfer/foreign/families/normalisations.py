"""Usual normalisations of networks for small images, by the number of classes: files seldom contain them."""

from __future__ import annotations

from collections.abc import Iterable

from robust_transfer.preprocessing import CIFAR10, CIFAR_MEAN, Normalisation, Preprocessing

RAW = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
HALF = Normalisation()  # 2x - 1: AugMix, Hendrycks et al. 2019
PER_IMAGE = Normalisation(per_image=True, unbiased=True)  # MMA, Ding et al. 2020
# Deviations over all pixels, in two roundings, and the mean of the images' own (kuangliu, MadryLab).
CIFAR10_2471 = Normalisation(mean=CIFAR_MEAN, std=(0.2471, 0.2435, 0.2616))
CIFAR10_2023 = Normalisation(mean=CIFAR_MEAN, std=(0.2023, 0.1994, 0.2010))
# DeepMind's rounding, and that of Chen et al. 2020
CIFAR100 = Normalisation(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))
CIFAR100_2675 = Normalisation(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
SVHN = Normalisation(mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970))
TINY_IMAGENET = Normalisation(mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262))
# Caffe's, for SqueezeNet and GoogLeNet: means of pixels from 0 to 255, no deviations; mostly with channels in BGR.
CAFFE = Normalisation(mean=(123 / 255, 117 / 255, 104 / 255), std=(1 / 255, 1 / 255, 1 / 255))
IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# Classes -> the data set's own, the likeliest first.
OWN = {
    10: (CIFAR10_2471, CIFAR10, CIFAR10_2023, SVHN),
    100: (CIFAR100, CIFAR100_2675, CIFAR10_2471),
    200: (TINY_IMAGENET, IMAGENET),
}
ANY = (CIFAR10_2471, CIFAR100, IMAGENET)


def preprocessings(
    num_classes: int, *, raw_first: bool, more: Iterable[Normalisation] = ()
) -> tuple[Preprocessing, ...]:
    """Preprocessings for so many classes, the likeliest first: none at all or the data set's own, then all others.

    Images have 64 pixels for Tiny ImageNet's 200 classes, otherwise 32.
    """
    own = OWN.get(num_classes, ANY)
    ordered = (RAW, *own, HALF, *more) if raw_first else (*own, RAW, HALF, *more)
    return tuple(Preprocessing(size=image_size(num_classes), normalisation=each) for each in ordered)


def image_size(num_classes: int) -> int:
    """Usual side in pixels of training images for so many classes."""
    return 64 if num_classes == 200 else 32


def on_size(num_classes: int) -> str:
    """Sentence on the image size, which no file contains."""
    why = "200 classes are taken for Tiny ImageNet's" if num_classes == 200 else "usual for this layout, no file tells"
    return f"images of {image_size(num_classes)} pixels: {why}"
