"""Classifiers: networks, their weights, training and calibration."""

from arena.classifiers.classifier import Classifier

__all__ = ["Classifier"]
