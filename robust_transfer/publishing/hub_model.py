"""``HubModel``: a checkpoint with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` of huggingface_hub's mixin."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from torch import Tensor, nn

from robust_transfer.checkpoint import CARD, WEIGHTS, Checkpoint, load_checkpoint
from robust_transfer.config import expect
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.evaluation import Evaluation
from robust_transfer.publishing.publisher import described
from robust_transfer.trained_on import FINGERPRINTS


class HubModel(nn.Module, ModelHubMixin):
    """Module from pixels ``(N, 3, size, size)`` in [0, 1] to logits ``(N, K)``, in evaluation mode; it has a ``checkpoint``.

    What it saves and pushes is a run folder, and what it loads is checked as one: weights are safetensors of the hash on
    their card. Repositories are those of :func:`push_to_hub`, which also writes ``.eval_results``.
    """

    def __new__(cls, *given: Any, **more: Any) -> Self:
        """Without the mixin's configuration of arguments: the card says all of it."""
        made: Self = super().__new__(cls)
        return made

    # __new__ takes anything, so that copies can be made; what a caller gives is the checkpoint
    __signature__ = inspect.Signature(
        [inspect.Parameter("checkpoint", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Checkpoint)]
    )

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        expect("checkpoint", checkpoint, Checkpoint, hint="such as load_source(folder)")
        self.checkpoint, self.classifier = checkpoint, checkpoint.classifier
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits."""
        found: Tensor = self.classifier(pixels)
        return found

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **unknown: Any,
    ) -> Self:
        """Load ``OWNER/NAME`` or a folder; what is asked for is the Hub client's. Raises :class:`CheckpointError`."""
        if unknown:
            raise ConfigError(f"from_pretrained does not know {', '.join(unknown)}: the card says what the network is")
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            try:
                folder = Path(
                    snapshot_download(
                        str(pretrained_model_name_or_path),
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        token=token,
                        local_files_only=local_files_only,
                        allow_patterns=[WEIGHTS, CARD, FINGERPRINTS],
                        library_name="robust-transfer",
                    )
                )
            except (OSError, ValueError) as error:  # the client's own are of these
                told = str(error).strip().splitlines() or [type(error).__name__]
                raise CheckpointError(f"hf:{pretrained_model_name_or_path} is not to be had: {told[0]}") from None
            if not (folder / CARD).is_file():
                raise CheckpointError(
                    f"hf:{pretrained_model_name_or_path} holds no run, as {CARD} is missing: use load_source for other weights"
                )
        return cls(load_checkpoint(folder))

    def push_to_hub(self, repo_id: str, **how: Any) -> str:
        """Push as the mixin does; ``model_card_kwargs`` are those of :meth:`generate_model_card`."""
        told = {**(how.pop("model_card_kwargs", None) or {}), "repo": repo_id}
        self.generate_model_card(**told)  # what does not fit is refused before there is a repository
        done: str = super().push_to_hub(repo_id, model_card_kwargs=told, **how)
        return done

    def generate_model_card(
        self,
        *,
        repo: str | None = None,
        evaluations: Sequence[Evaluation] = (),
        dataset: str | None = None,
        base_model: str | None = None,
        licence: str | None = None,
    ) -> ModelCard:
        """Model card as :func:`push_to_hub` writes it, for the repository ``repo``, or for a folder where that is None."""
        page, _ = described(
            self.checkpoint, repo, evaluations=evaluations, dataset=dataset, base_model=base_model, licence=licence
        )
        return ModelCard(page)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.checkpoint.save(save_directory, dtype=self.checkpoint.stored_dtype)
        (save_directory / "README.md").unlink()  # the mixin writes the model card where there is none
