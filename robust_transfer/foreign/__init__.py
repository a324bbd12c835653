"""Third-party checkpoints: read without executing them, recognised, and proved to be loaded correctly."""
