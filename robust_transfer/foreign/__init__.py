"""Other people's checkpoints: read without executing them, recognised, and proved to be loaded right."""
