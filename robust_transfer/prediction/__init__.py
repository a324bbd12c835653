"""Predictions for single images: the likeliest classes, and the perturbation size that flips them."""

from robust_transfer.prediction.predictor import predict
from robust_transfer.prediction.record import Prediction

__all__ = ["Prediction", "predict"]
