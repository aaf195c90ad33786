"""Classifiers: networks, what they may be loaded from, training and calibration."""

from arena.classifiers.classifier import Classifier
from arena.classifiers.errors import ClassifierError
from arena.classifiers.from_numpy import FromNumpy
from arena.classifiers.loading import load_classifier
from arena.classifiers.spec import ClassifierSpec

__all__ = ["Classifier", "ClassifierError", "ClassifierSpec", "FromNumpy", "load_classifier"]
