"""Zoos of robust networks, as tables of facts: each file's address, its network in the zoo's code, published accuracies."""

from robust_transfer.foreign.zoos.tables import ZOOS as ZOOS
from robust_transfer.foreign.zoos.tables import Entry as Entry
from robust_transfer.foreign.zoos.tables import entries as entries
from robust_transfer.foreign.zoos.tables import find as find
from robust_transfer.foreign.zoos.tables import known_file as known_file
from robust_transfer.foreign.zoos.tables import read_from as read_from
from robust_transfer.foreign.zoos.tables import summaries as summaries
