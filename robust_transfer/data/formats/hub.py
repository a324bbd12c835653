"""Data sets on the Hugging Face Hub: ``OWNER/NAME[:CONFIG][@REVISION]``, through the ``datasets`` library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from robust_transfer.data.formats.base import FORMATS, ColumnNames, Format, Role, StoredDataset, listed
from robust_transfer.data.formats.columns import choose_columns, class_names
from robust_transfer.data.formats.row_splits import Said, may_say_splits, roles_of, unheeded
from robust_transfer.data.formats.split_names import role_of
from robust_transfer.data.formats.table_cells import holds_other_things, plain_values
from robust_transfer.data.formats.tables import Table, divided, stored_splits
from robust_transfer.errors import DataError
from robust_transfer.messages import errors_only

_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[^:/@]+))?(?:@(?P<revision>[^:@\s]+))?")


@FORMATS.register(
    "hf:OWNER/NAME",
    summary="a data set on the Hub; hf:OWNER/NAME[:CONFIG][@REVISION] for one of several, and as it was then",
    paper="",
)
class Hub(Format):
    """Data sets on the Hugging Face Hub, downloaded into the HF cache."""

    prefix: ClassVar[str | None] = "hf"

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set ``hf:where``.

        Raises DataError where the Hub cannot be reached, the data set does not exist or a configuration must be chosen.
        """
        return read_hub(where, columns)


def read_hub(name: str, columns: ColumnNames) -> StoredDataset:
    """Data set on the Hub; the implementation of :meth:`Hub.read`."""
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise DataError(f"'hf:{name}' does not name a data set: write hf:OWNER/NAME[:CONFIG][@REVISION]")
    import datasets

    try:
        with errors_only("huggingface_hub"):  # not a line for each failed attempt: what comes of them is told once
            found = datasets.load_dataset(matched["repo"], matched["config"], revision=matched["revision"])
    except Exception as error:  # the library's, the Hub client's and the network's exceptions share no base
        raise DataError(_explain(name, matched["revision"], error)) from None
    tables: dict[Role, Table] = {}
    left, notes = list[str](), list[str]()
    for split, dataset in sorted(found.items(), key=lambda item: role_of(item[0]) != "train"):
        role = role_of(split)
        if role is None or role in tables:
            left.append(split)
            continue
        try:  # train comes first and settles the columns of the others
            columns = choose_columns(dataset.features, columns)
        except DataError as error:
            raise DataError(f"hf:{name}, {split} split: {error}") from None
        tables[role] = Table(
            dataset.data.column(columns.image),
            dataset.data.column(columns.label),
            class_names(dataset.features[columns.label]),
        )
        roles, said = _said_splits(dataset, f"hf:{name}", role if len(found) > 1 else None, columns)
        notes += said
        if roles is not None and len(found) == 1:
            tables = divided(tables[role], roles, f"hf:{name}", None)
    if not tables:
        raise DataError(f"hf:{name} has no train, validation or test split, only {listed(found)}: choose another")
    splits, said = stored_splits(tables)
    notes += said
    if left:
        notes.append(f"the splits {listed(left)} of hf:{name} are left out")
    return StoredDataset(f"hf:{name}", splits, tuple(notes))


def _said_splits(dataset: Any, called: str, role: Role | None, columns: ColumnNames) -> Said:
    """Splits of the rows by the column that is given. Without one, a note on what may be such a column.

    ``role``: the split that the rows are of; None where the data set has one split only, which the library calls train.
    """
    said: dict[str, Sequence[Any]] = {}
    for name, feature in dataset.features.items():
        column, names = dataset.data.column(name), class_names(feature)
        if name in (columns.image, columns.label) or holds_other_things(column.type) or not len(column):
            continue
        first = plain_values(called, column.slice(0, 1), names)
        if name == columns.split or (role is None and may_say_splits(name, first[0])):
            said[name] = plain_values(called, column, names)
    if columns.split is None:
        return None, unheeded(said, called)
    if columns.split not in said:
        raise DataError(f"the column {columns.split!r} of {called} holds no text: choose another split_column")
    return roles_of(said, called, role, columns.split)


def _explain(name: str, revision: str | None, error: Exception) -> str:
    text = str(error).strip()
    reason = " ".join(text.split())[:300].rstrip(".") or type(error).__name__
    kind = type(error).__name__
    if "Config" in text and ("available" in text.lower() or "pick one" in text.lower()):
        return f"hf:{name} needs a configuration: write hf:OWNER/NAME:CONFIG ({reason})"
    if revision is not None and "revision" in text.lower():
        return f"hf:{name} is not on the Hub as of {revision!r}: give a branch, a tag or a commit of it ({reason})"
    if kind in ("DatasetNotFoundError", "RepositoryNotFoundError", "GatedRepoError"):
        return f"hf:{name} is not on the Hub, or not open to you: check the name, or run `hf auth login` ({reason})"
    if any(word in kind for word in ("Connect", "Offline", "Timeout")):  # of the Hub's client, its HTTP library, Python
        return f"the Hugging Face Hub was not reached for hf:{name} ({reason}): check the network, or use data on disk"
    return f"cannot load hf:{name} ({kind}: {reason}): check its page on the Hub, or download it and give the folder"
