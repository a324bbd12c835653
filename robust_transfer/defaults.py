"""Defaults that several rooms share, for the command line too: it must not wait for PyTorch."""

DEFAULT_THREAT = "linf:8/255"  # where nobody names a threat: the field's own, and the transfer paper's
