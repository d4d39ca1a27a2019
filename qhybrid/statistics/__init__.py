"""Metrics of a classifier and their uncertainty, computed from stored predictions."""

from qhybrid.statistics.bootstrap import RocBand, bootstrap_intervals, paired_bootstrap_differences, roc_band
from qhybrid.statistics.metrics import classification_metrics, confusion_matrix, metrics_of_weights
from qhybrid.statistics.proportions import Interval, wilson_interval, wilson_intervals

__all__ = [
    "Interval",
    "RocBand",
    "bootstrap_intervals",
    "classification_metrics",
    "confusion_matrix",
    "metrics_of_weights",
    "paired_bootstrap_differences",
    "roc_band",
    "wilson_interval",
    "wilson_intervals",
]
