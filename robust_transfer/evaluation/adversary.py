"""Adversary: its attacks, threat, knowledge and engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from robust_transfer.attacks.base import Attack, AttackResult
from robust_transfer.attacks.victim import Knowledge
from robust_transfer.engine import Engine
from robust_transfer.threat import Threat


@dataclass(frozen=True)
class Adversary:
    """``attacks`` within ``threat``, each on the survivors of the earlier ones.

    ``engine`` computes the steps; ``knowledge``: what the attacker has beside the model; ``seed`` addresses the
    noise; ``batch_size``: images attacked at a time, None for as many as memory is likely to hold; ``answers``: number of
    a random model's answers whose mean decides.
    """

    attacks: Sequence[Attack]
    threat: Threat
    engine: Engine = field(default_factory=Engine)
    knowledge: Knowledge | None = None
    seed: int = 0
    batch_size: int | None = None
    answers: int = 1

    def at(self, eps: float) -> Adversary:
        """Same adversary with another eps."""
        return replace(self, threat=replace(self.threat, eps=eps))

    def tight(self) -> Adversary:
        """Same adversary for small samples: passes shrink as examples leave. See :class:`Engine`."""
        return replace(self, engine=replace(self.engine, tight=True))

    def run(self, attack: Attack, model: nn.Module, x: Tensor, labels: Tensor, ids: Tensor) -> AttackResult:
        """Result of ``attack`` on a batch, as for :meth:`Attack.__call__`."""
        seed, engine, knowledge = self.seed, self.engine, self.knowledge
        return attack(
            model, x, labels, ids, self.threat, seed=seed, engine=engine, knowledge=knowledge, answers=self.answers
        )
