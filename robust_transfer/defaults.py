"""Defaults shared by several rooms, free of PyTorch for the command line."""

DEFAULT_THREAT = "linf:8/255"  # the field's usual threat, and the transfer paper's
DEFAULT_NETWORK = "wrn-16-2"  # small enough to be trained anywhere
