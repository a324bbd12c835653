"""Downloads: weights from an address, Google Drive or the Hugging Face Hub into one cache folder, each with its sha256."""

from robust_transfer.download.cache import sha256_of as sha256_of
from robust_transfer.download.fetching import Fetched as Fetched
from robust_transfer.download.fetching import fetch as fetch
