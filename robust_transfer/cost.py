"""Cost of making a network, as its card counts it."""

from __future__ import annotations

from robust_transfer.config import config


@config
class Cost:
    """Cost of a computation; costs add up.

    ``passes``: forward-equivalent image passes (a forward pass of an image 1, the gradient of the weights 2, of the image
    alone 1). ``adversarial_examples``: images crafted on the way, in training all and by an attack
    those that it attacks (:meth:`AttackResult.crafted`). ``seconds``: wall-clock time.
    """

    passes: float = 0.0
    adversarial_examples: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            passes=self.passes + other.passes,
            adversarial_examples=self.adversarial_examples + other.adversarial_examples,
            seconds=self.seconds + other.seconds,
        )
