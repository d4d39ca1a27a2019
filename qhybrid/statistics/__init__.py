"""Metrics of a classifier, their uncertainty and their comparison, computed from stored predictions."""

from qhybrid.statistics.bootstrap import (
    bootstrap_distributions,
    bootstrap_intervals,
    paired_bootstrap_differences,
    paired_distributions,
)
from qhybrid.statistics.calibration import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    reliability_table,
)
from qhybrid.statistics.delong import AucDifference, AucEstimate, delong_auc, delong_test
from qhybrid.statistics.distribution import BootstrapDistribution
from qhybrid.statistics.equivalence import (
    Equivalence,
    accuracy_equivalence,
    accuracy_equivalence_of_counts,
    bootstrap_equivalence,
    delong_equivalence,
    paired_t_equivalence,
)
from qhybrid.statistics.metrics import classification_metrics, confusion_matrix, metrics_of_weights
from qhybrid.statistics.multiple import holm
from qhybrid.statistics.paired_tests import McNemar, mcnemar_of_counts, mcnemar_test
from qhybrid.statistics.proportions import Interval, wilson_interval, wilson_intervals
from qhybrid.statistics.roc import RocBand, roc_band
from qhybrid.statistics.seeds import SeedDifference, SeedMean, paired_seeds_test, seed_mean, seeds_and_samples
from qhybrid.statistics.shots import shot_redraws
from qhybrid.statistics.signal_retention import SignalRetention, signal_retention

__all__ = [
    "AucDifference",
    "AucEstimate",
    "BootstrapDistribution",
    "Equivalence",
    "Interval",
    "McNemar",
    "ReliabilityBin",
    "RocBand",
    "SeedDifference",
    "SeedMean",
    "SignalRetention",
    "accuracy_equivalence",
    "accuracy_equivalence_of_counts",
    "bootstrap_distributions",
    "bootstrap_equivalence",
    "bootstrap_intervals",
    "brier_score",
    "classification_metrics",
    "confusion_matrix",
    "delong_auc",
    "delong_equivalence",
    "delong_test",
    "expected_calibration_error",
    "holm",
    "mcnemar_of_counts",
    "mcnemar_test",
    "metrics_of_weights",
    "paired_bootstrap_differences",
    "paired_distributions",
    "paired_seeds_test",
    "paired_t_equivalence",
    "reliability_table",
    "roc_band",
    "seed_mean",
    "seeds_and_samples",
    "shot_redraws",
    "signal_retention",
    "wilson_interval",
    "wilson_intervals",
]
