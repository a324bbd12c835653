"""Diagnosis of an installation: versions, hardware, caches, extras, speeds, a self-test."""

from robust_transfer.doctor.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
