"""Exception tree. Every message says what went wrong and what to do next, in one or two sentences."""

from __future__ import annotations


class RobustTransferError(Exception):
    """Base of all errors that users can mend; the command line exits with ``exit_status``, without a traceback."""

    exit_status = 2


class ConfigError(RobustTransferError):
    """Setting, name or option that does not exist or does not make sense."""


class UnknownNameError(ConfigError):
    """Name that is not in a registry; the message lists the nearest ones."""


class ThreatError(ConfigError):
    """Threat model that cannot be parsed or is out of range."""


class DataError(RobustTransferError):
    """Data that cannot be found, decoded or used."""


class NetworkError(RobustTransferError):
    """Network that does not fit the Classifier's contract."""


class CheckpointError(RobustTransferError):
    """Checkpoint that cannot be found, trusted or loaded."""


class OutputError(RobustTransferError):
    """Output folder that cannot be written, or must not be overwritten."""


class DivergedError(RobustTransferError):
    """Training diverged (NaN, exploding loss, collapse to one class) and kept diverging at smaller rates."""

    exit_status = 3
