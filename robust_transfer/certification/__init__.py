"""Certificates: radii within which no attack whatever can change an answer, proved or with a stated confidence."""

from robust_transfer.certification.base import Certified, Certifier
from robust_transfer.certification.feature_shift import FeatureShift
from robust_transfer.certification.naming import CERTIFIERS, parse_certifiers
from robust_transfer.certification.record import Certificate, CertifiedShare
from robust_transfer.certification.smoothing import Smoothing

__all__ = [
    "CERTIFIERS",
    "Certificate",
    "Certified",
    "CertifiedShare",
    "Certifier",
    "FeatureShift",
    "Smoothing",
    "parse_certifiers",
]
