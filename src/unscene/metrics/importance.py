"""What importance weights say about a posterior: evidence, ELBO, and the gap between them."""

import math
from typing import NamedTuple

from jaxtyping import Float, Float64
from torch import Tensor


class ImportanceGap(NamedTuple):
    """In nats per image, but for ``ess``; all from the same samples."""

    gap: Float64[Tensor, " B"]  # log_evidence - elbo >= 0
    log_evidence: Float64[Tensor, " B"]  # log (1/S) sum_s w_s: at most log p(x) on average
    elbo: Float64[Tensor, " B"]  # mean of log w_s
    std: Float64[Tensor, " B"]  # of log w_s over the samples
    ess: Float64[Tensor, " B"]  # (sum w)^2 / sum w^2, from 1 to S: how many samples the evidence rests on


def importance_gap(log_weights: Float[Tensor, "B S"]) -> ImportanceGap:
    """The inference gap log p(x) - ELBO(x) = KL(q(z | x) || p(z | x)), estimated from samples z_s of q.

    ``log_weights`` are log p(x | z_s) + log p(z_s) - log q(z_s | x). The evidence is the importance weighted bound
    (Burda et al., 2016), as in Duplicate Latent Representation Suppression (Li et al., 2021), whose S is 500. The gap
    is too small where a few samples carry all the weight (``ess`` near 1), and grows with S: compare at equal S.
    """
    log_weights = log_weights.double()
    total = log_weights.logsumexp(1)
    log_evidence, elbo = total - math.log(log_weights.shape[1]), log_weights.mean(1)
    return ImportanceGap(
        gap=log_evidence - elbo,
        log_evidence=log_evidence,
        elbo=elbo,
        std=log_weights.std(1, correction=0),
        ess=(2 * total - (2 * log_weights).logsumexp(1)).exp(),
    )
