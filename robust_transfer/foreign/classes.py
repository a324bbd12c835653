"""Class names of well-known data sets in label order, and the mapping of images' classes to a network's."""

from __future__ import annotations

from collections.abc import Sequence

from robust_transfer.data import imagenet
from robust_transfer.errors import ConfigError, DataError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
    "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR100 = tuple(_CIFAR100.split())


def class_names(given: Sequence[str] | None, count: int, address: str) -> tuple[str, ...]:
    """Names of ``count`` classes: the given ones, those of CIFAR-10, CIFAR-100 or ImageNet by their number, else numbers.

    A thousand classes are ImageNet's in their usual order. Ten or a hundred are CIFAR's only where the ``address``
    says so, as many data sets have that number.
    """
    if given is not None:
        if len(given) != count:
            raise ConfigError(f"{len(given)} class names are given for a network of {count} classes")
        return tuple(given)
    folded = address.lower().replace("-", "").replace("_", "")
    if count == 10 and "cifar10" in folded and "cifar100" not in folded:
        return CIFAR10
    if count == 100 and "cifar100" in folded:
        return CIFAR100
    if count == imagenet.COUNT:
        return imagenet.categories()
    return tuple(str(i) for i in range(count))


def labels_in(names: Sequence[str], of_images: Sequence[str]) -> tuple[list[int] | None, str]:
    """Label of each class of the images among a network's classes ``names``, by name; or None and the reason.

    ImageNet's classes are known by any of their names. A network whose classes are numbers has those of the images if it
    has as many. No reason is given where the images' classes are simply others.
    """
    given = list(of_images)
    if imagenet.is_imagenet(names):
        try:
            given = imagenet.renamed(given)
        except DataError as error:
            return None, f"clean accuracy does not count: {error}"
    if set(given) <= set(names):
        return [names.index(name) for name in given], ""
    return (list(range(len(names))) if nameless(names) and len(given) == len(names) else None), ""


def nameless(names: Sequence[str]) -> bool:
    """True if a network's class names are only numbers, from 0."""
    return tuple(names) == tuple(map(str, range(len(names))))
