"""Classifiers: networks, their weights, training and calibration."""

from arena.classifiers.classifier import Classifier
from arena.classifiers.loading import ClassifierError, ClassifierSpec, load_classifier

__all__ = ["Classifier", "ClassifierError", "ClassifierSpec", "load_classifier"]
