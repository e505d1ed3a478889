"""What a representation is worth: retrieval, zero-shot, probes, selective prediction, and how sure we are."""

from minilip.evaluation.encoding import encode, parameters
from minilip.evaluation.latents import latent_r2, latents_r2
from minilip.evaluation.paired import paired_interval, permutation_test
from minilip.evaluation.probes import few_shot, knn, linear_predictions, linear_probe
from minilip.evaluation.retrieval import accuracy, ranks, retrieval
from minilip.evaluation.selective import aurc, risk_coverage
from minilip.evaluation.spectrum import covariance_spectrum, effective_rank
from minilip.evaluation.statistics import interval

__all__ = [
    "accuracy",
    "aurc",
    "covariance_spectrum",
    "effective_rank",
    "encode",
    "few_shot",
    "interval",
    "knn",
    "latent_r2",
    "latents_r2",
    "linear_predictions",
    "linear_probe",
    "paired_interval",
    "parameters",
    "permutation_test",
    "ranks",
    "retrieval",
    "risk_coverage",
]
