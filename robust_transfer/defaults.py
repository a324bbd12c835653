"""Defaults shared by several rooms, free of PyTorch for the command line."""

DEFAULT_THREAT = "linf:8/255"  # where nobody names a threat: the field's own, and the transfer paper's
