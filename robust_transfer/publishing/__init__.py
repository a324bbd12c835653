"""Publishing: a checkpoint as a repository on the Hugging Face Hub, which ``hf:OWNER/NAME`` loads again."""

from robust_transfer.publishing.hub_model import HubModel
from robust_transfer.publishing.publisher import push_to_hub

__all__ = ["HubModel", "push_to_hub"]
