"""Exercises of lesson 12: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.prolip import csd, inclusion, ppcl_loss, vib_loss

from . import Exercise, Invariance, Misconception, Prediction

LESSON = "12_prolip"


def _squares(mu1, mu2):
    return (mu1[:, None] - mu2).square().sum(dim=2)  # (B1, B2)


# ---- 12.1 the distance to expect -------------------------------------------------------------------------------------


def _csd_loop(mu1, logvar1, mu2, logvar2):
    rows = []
    for m1, l1 in zip(mu1, logvar1, strict=True):
        row = []
        for m2, l2 in zip(mu2, logvar2, strict=True):
            # z1 - z2 is a Gaussian again: E x^2 = (E x)^2 + Var x, dimension by dimension.
            row.append(sum((a - b) ** 2 + va.exp() + vb.exp() for a, va, b, vb in zip(m1, l1, m2, l2, strict=True)))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _gaussian(generator, b, d, width=-1.0):
    return torch.randn(b, d, generator=generator), width + 0.7 * torch.randn(b, d, generator=generator)


def _two_sides(generator):
    sizes = ((2, 3, 4), (5, 4, 3), (4, 4, 4), (1, 6, 8))
    return [(*_gaussian(generator, b1, d), *_gaussian(generator, b2, d)) for b1, b2, d in sizes]


def _spread(l1, l2, of=torch.exp):
    """Sum over D of of(l1) + of(l2), for every pair. (B1, B2)"""
    return of(l1).sum(dim=1)[:, None] + of(l2).sum(dim=1)


_CSD = Exercise(
    library=csd,
    reference=_csd_loop,
    inputs=_two_sides,
    gradients=("mu1", "logvar1", "mu2", "logvar2"),
    hints=(
        "One dimension, one pair: z1 - z2 is a number that varies. What is the mean of its square, if you know its "
        "mean and its variance?",
        "E x^2 = (E x)^2 + Var x, and the variances of independent numbers add, also where the numbers are "
        "subtracted. So each dimension adds (m1 - m2)^2 + v1 + v2.",
        "torch.cdist(mu1, mu2).square() or a difference of mu1[:, None] and mu2, summed over D; then add "
        "logvar1.exp().sum(dim=1)[:, None] and logvar2.exp().sum(dim=1).",
    ),
    misconceptions=(
        Misconception(
            "standard deviations added",
            lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2, lambda x: (x / 2).exp()),
            "You added standard deviations. What adds up for independent numbers is the variance, and only that has "
            "the unit of a squared distance.",
        ),
        Misconception(
            "logarithm of the standard deviation",
            lambda m1, l1, m2, l2: csd(m1, 2 * l1, m2, 2 * l2),
            "You squared exp(logvar), as if the input were the logarithm of a standard deviation. It is that of the "
            "variance already.",
        ),
        Misconception(
            "log-variances not exponentiated",
            lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2, lambda x: x),
            "You added logarithms of variances: your distance can be negative. What is the variance itself?",
        ),
        Misconception(
            "variances of the first side only",
            lambda m1, l1, m2, l2: _squares(m1, m2) + l1.exp().sum(dim=1)[:, None],
            "Only the first side varies in your distance. The other end is a sample too.",
        ),
        Misconception(
            "variances of the second side only",
            lambda m1, l1, m2, l2: _squares(m1, m2) + l2.exp().sum(dim=1),
            "Only the second side varies in your distance. For ranking one gallery that is enough, because a query's "
            "own variance is the same in all of its row; as a distance it is not.",
        ),
        Misconception(
            "no variances",
            lambda m1, l1, m2, l2: _squares(m1, m2),
            "This is the distance of the means. Samples lie around their means, and on average that brings them "
            "farther apart and never nearer.",
        ),
        Misconception(
            "variances subtracted",
            lambda m1, l1, m2, l2: _squares(m1, m2) + l1.exp().sum(dim=1)[:, None] - l2.exp().sum(dim=1),
            "You took the difference of the variances. The variance of a difference of independent numbers is a sum: "
            "the sign is squared away.",
        ),
        Misconception(
            "covariance between the two",
            lambda m1, l1, m2, l2: csd(m1, l1, m2, l2) - 2 * (l1 / 2).exp() @ (l2 / 2).exp().T,
            "You took off 2 sigma1 sigma2. That is the covariance of two samples which move in step; then you have the "
            "distance of Wasserstein. Here the two are drawn independently, and two equal Gaussians are not at 0.",
        ),
        Misconception(
            "variances halved",
            lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2) / 2,
            "Your variances count half. The half stands in the logit, where it halves the distance of the means too.",
        ),
        Misconception(
            "mean over the dimensions",
            lambda m1, l1, m2, l2: csd(m1, l1, m2, l2) / m1.shape[1],
            "You averaged over D. A squared distance is a sum over the dimensions.",
        ),
        Misconception(
            "not squared",
            lambda m1, l1, m2, l2: csd(m1, l1, m2, l2).sqrt(),
            "You took the root. Expected is the squared distance, which has this closed form; the mean of the distance "
            "itself has none so short, and is smaller than your root.",
        ),
        Misconception(
            "distance of the means not squared",
            lambda m1, l1, m2, l2: torch.cdist(m1, m2) + _spread(l1, l2),
            "Your distance of the means is a length, your variances are squares of lengths. Only alike units add.",
        ),
        Misconception(
            "pairs only",
            lambda m1, l1, m2, l2: csd(m1, l1, m2, l2).diagonal(),
            "You compared row i with row i. Every row of one side is compared with every row of the other, (B1, B2): "
            "one side needs an axis of its own.",
        ),
        Misconception(
            "transposed",
            lambda m1, l1, m2, l2: csd(m2, l2, m1, l1),
            "Your table is turned on its side: the first Gaussian chooses the row.",
        ),
    ),
)


# ---- 12.1 the loss ---------------------------------------------------------------------------------------------------


def _ppcl_loop(mu1, logvar1, mu2, logvar2, logit_scale, logit_bias):
    d = _csd_loop(mu1, logvar1, mu2, logvar2)
    total = torch.zeros(())
    for i in range(len(d)):
        for j in range(len(d)):
            logit = logit_scale * (1 - d[i, j] / 2) + logit_bias
            wrong_way = -logit if i == j else logit
            total = total + torch.logaddexp(torch.zeros_like(logit), wrong_way)
    return total / len(d)


def _batches(generator):
    made = []
    for b, d, s, bias in ((2, 3, 1.0, 0.0), (5, 4, 4.0, -2.0), (8, 16, 14.3, -5.5), (3, 4, 7.0, 1.0)):
        (m1, l1), (m2, l2) = _gaussian(generator, b, d, -3.0), _gaussian(generator, b, d, -3.0)
        made.append((F.normalize(m1, dim=1), l1, F.normalize(m2, dim=1), l2, s, bias))
    m1, l1, m2, l2, _, _ = made[1]
    return [*made, (m1, l1 + 4.0, m2, l2 + 4.0, 100.0, -10.0)]  # the last: sigmoid(-500) is 0 in float32


def _logits(m1, l1, m2, l2, s, b):
    return s * (1 - csd(m1, l1, m2, l2) / 2) + b


def _signs(x):
    return 2 * torch.eye(len(x)) - 1


def _sigmoid_loss(logits):
    return -F.logsigmoid(_signs(logits) * logits).sum() / len(logits)


def _means_only(m1, m2, s):
    return s * (1 - _squares(m1, m2) / 2)


_PPCL = Exercise(
    library=ppcl_loss,
    reference=_ppcl_loop,
    inputs=_batches,
    gradients=("logvar1", "logvar2"),  # for unit means, 1 - d / 2 may be written with cosines: along mu it differs
    hints=(
        "Each of the B x B pairs is a question, do these two belong together? A small distance should say yes. What "
        "stands on the diagonal of the answers?",
        "Logits s (1 - d / 2) + b from the distances of before. Probability of the right answer: sigmoid of the logit "
        "for yes, of minus the logit for no. Multiply by +1 or -1 first.",
        "sign = 2 * torch.eye(B) - 1; -F.logsigmoid(sign * logits), summed over all pairs, divided by B.",
    ),
    misconceptions=(
        Misconception(
            "mean over all pairs",
            lambda m1, l1, m2, l2, s, b: ppcl_loss(m1, l1, m2, l2, s, b) / len(m1),
            "You divided by B squared. The paper sums over all pairs and divides by B: otherwise the one true pair of "
            "a row would count less and less as the batch grows.",
        ),
        Misconception(
            "sum over all pairs",
            lambda m1, l1, m2, l2, s, b: ppcl_loss(m1, l1, m2, l2, s, b) * len(m1),
            "Your loss is summed and not divided by B. Nats per image are asked for.",
        ),
        Misconception(
            "softmax",
            lambda *a: F.cross_entropy(_logits(*a), torch.arange(len(a[0]))),
            "Your rows are softmaxes. There a constant added to a row changes nothing, so the variance of a picture "
            "could not matter to its own row. Here each pair is a question of its own.",
        ),
        Misconception(
            "softmax both ways",
            lambda *a: sum(F.cross_entropy(x, torch.arange(len(x))) for x in (_logits(*a), _logits(*a).T)) / 2,
            "This is the loss of CLIP with distances in place of cosines. Here each pair is a question of its own, "
            "yes or no, with a sigmoid.",
        ),
        Misconception(
            "negatives left out",
            lambda *a: -F.logsigmoid(_logits(*a).diagonal()).mean(),
            "Only the true pairs are in your loss. Say yes to everything, and it is zero.",
        ),
        Misconception(
            "all pairs positive",
            lambda *a: -F.logsigmoid(_logits(*a)).sum() / len(a[0]),
            "Your loss wants every picture to match every caption: the sign for the negatives is missing.",
        ),
        Misconception(
            "all signs turned",
            lambda *a: -F.logsigmoid(-_signs(a[0]) * _logits(*a)).sum() / len(a[0]),
            "Your loss wants the true pairs apart and all others together: +1 belongs on the diagonal.",
        ),
        Misconception(
            "distance not halved",
            lambda m1, l1, m2, l2, s, b: _sigmoid_loss(s * (1 - csd(m1, l1, m2, l2)) + b),
            "Your distance is not halved. For means of length 1 the squared distance is 2 - 2 cos: only its half makes "
            "1 - d / 2 a cosine where there is no variance.",
        ),
        Misconception(
            "distance not turned into a similarity",
            lambda m1, l1, m2, l2, s, b: _sigmoid_loss(s * csd(m1, l1, m2, l2) / 2 + b),
            "Your logit grows with the distance, so far apart means yes. A similarity falls: 1 - d / 2.",
        ),
        Misconception(
            "1 left out of the logit",
            lambda m1, l1, m2, l2, s, b: _sigmoid_loss(-s * csd(m1, l1, m2, l2) / 2 + b),
            "Your logits are s lower: -s d / 2 + b. The bias could learn it, and then its start at -log(B - 1) would "
            "be off by s. With the 1, zero variance gives SigLIP to the letter.",
        ),
        Misconception(
            "scale on the distance only",
            lambda m1, l1, m2, l2, s, b: _sigmoid_loss(1 - s * csd(m1, l1, m2, l2) / 2 + b),
            "Your scale multiplies the distance and not the 1. It belongs before the whole of 1 - d / 2, which stands "
            "where SigLIP has the cosine.",
        ),
        Misconception(
            "variances with the wrong sign",
            lambda m1, l1, m2, l2, s, b: _sigmoid_loss(_means_only(m1, m2, s) + s / 2 * _spread(l1, l2) + b),
            "In your logits a wide Gaussian is near to everything. Variance is part of the distance: it makes a yes "
            "less likely, for all pairs.",
        ),
        Misconception(
            "variances left out",
            lambda m1, l1, m2, l2, s, b: _sigmoid_loss(_means_only(m1, m2, s) + b),
            "Your loss does not see the variances: this is SigLIP.",
        ),
        Misconception(
            "variances not scaled",
            lambda m1, l1, m2, l2, s, b: _sigmoid_loss(_means_only(m1, m2, s) - _spread(l1, l2) / 2 + b),
            "Your variances are not multiplied by s. They are part of the distance, and the scale counts in distances.",
        ),
        Misconception(
            "divides by the scale",
            lambda m1, l1, m2, l2, s, b: ppcl_loss(m1, l1, m2, l2, 1 / s, b),
            "You divided by the scale. It is a multiplier, one over a temperature: the larger, the sharper.",
        ),
        Misconception(
            "bias left out",
            lambda m1, l1, m2, l2, s, b: ppcl_loss(m1, l1, m2, l2, s, 0.0),
            "The bias is missing. B - 1 of B answers are no, and without it the variances have to say so.",
        ),
        Misconception(
            "bias subtracted",
            lambda m1, l1, m2, l2, s, b: ppcl_loss(m1, l1, m2, l2, s, -b),
            "You subtracted the bias. It is added; a negative one says no.",
        ),
        Misconception(
            "bias not turned with the sign",
            lambda m1, l1, m2, l2, s, b: (
                -F.logsigmoid(_signs(m1) * _logits(m1, l1, m2, l2, s, 0.0) + b).sum() / len(m1)
            ),
            "The sign belongs before the whole logit, the bias included.",
        ),
        Misconception(
            "log of sigmoid",
            lambda *a: -torch.sigmoid(_signs(a[0]) * _logits(*a)).log().sum() / len(a[0]),
            "Right, until a logit is far on the wrong side: its sigmoid is 0 in float32, and log 0 is minus infinity. "
            "Some function takes both steps at once.",
        ),
        Misconception(
            "detached variances",
            lambda m1, l1, m2, l2, s, b: ppcl_loss(m1, l1.detach(), m2, l2.detach(), s, b),
            "The value is right, but no gradient reaches the log-variances. Then nothing teaches them.",
        ),
    ),
)

# ---- 12.2 the price of a code ----------------------------------------------------------------------------------------


def _vib_loop(mu, logvar):
    """E log q - E log p, each a known moment of a Gaussian: cross-entropy minus entropy."""
    total = torch.zeros(())
    for means, logarithms in zip(mu, logvar, strict=True):
        for mean, logarithm in zip(means, logarithms, strict=True):
            cross_entropy = (math.log(2 * math.pi) + logarithm.exp() + mean**2) / 2
            entropy = (math.log(2 * math.pi) + 1 + logarithm) / 2
            total = total + cross_entropy - entropy
    return total / len(mu)


def _codes(generator):
    made = [_gaussian(generator, b, d, width) for b, d, width in ((2, 3, 0.0), (5, 4, -2.0), (3, 8, -10.0))]
    return [*made, (torch.randn(2, 3, generator=generator), torch.tensor([[-120.0, 0.0, 1.0], [-110.0, -3.0, 2.0]]))]


def _kl(mu, logvar, v=torch.exp, log_v=lambda x: x):
    return (mu.square() + v(logvar) - 1 - log_v(logvar)).sum(dim=1).mean() / 2


_VIB = Exercise(
    library=vib_loss,
    reference=_vib_loop,
    inputs=_codes,
    gradients=("mu", "logvar"),
    hints=(
        "KL is the mean of log N(z; mu, v) - log N(z; 0, 1) over z from the first. Write both logarithms in one "
        "dimension: which two moments of z do you need?",
        "E (z - mu)^2 = v and E z^2 = mu^2 + v. The log(2 pi) cancels, and (mu^2 + v - 1 - log v) / 2 is left. The "
        "dimensions are independent: they add.",
        "(mu.square() + logvar.exp() - 1 - logvar) / 2, summed over D, mean over B. The last term is the input itself.",
    ),
    misconceptions=(
        Misconception(
            "logarithm of the standard deviation",
            lambda m, w: _kl(m, 2 * w),
            "You took the input for the logarithm of a standard deviation. It is that of the variance: exp(logvar) is "
            "v, and logvar is log v.",
        ),
        Misconception(
            "log-variance halved",
            lambda m, w: _kl(m, w / 2),
            "You halved the log-variance first and then used exp of it as a variance. That is the slip of the released "
            "code: exp(logvar / 2) is the standard deviation, and the formula asks for the variance.",
        ),
        Misconception(
            "logarithm halved, variance not",
            lambda m, w: _kl(m, w, log_v=lambda x: x / 2),
            "Your logarithm is that of the standard deviation. Either log v, or 2 log sigma. Your minimum is not at "
            "v = 1.",
        ),
        Misconception(
            "half left out",
            lambda m, w: 2 * _kl(m, w),
            "Twice too much: the exponent of a Gaussian has a half, and log sigma is half of log v.",
        ),
        Misconception(
            "sign turned",
            lambda m, w: -_kl(m, w),
            "Your result is negative. A KL divergence never is: it is 0 where the two are one, and a price elsewhere.",
        ),
        Misconception(
            "mean over the dimensions",
            lambda m, w: _kl(m, w) / m.shape[1],
            "You averaged over D. The dimensions are independent: their information adds.",
        ),
        Misconception(
            "sum over the batch",
            lambda m, w: _kl(m, w) * len(m),
            "You summed over the batch. Nats a Gaussian are asked for: the mean over B.",
        ),
        Misconception(
            "log-variance taken for the variance",
            lambda m, w: _kl(m, w, v=lambda x: x, log_v=torch.log),
            "You took the logarithm of the log-variance. The input is log v already; v is its exponential.",
        ),
        Misconception(
            "variance not exponentiated",
            lambda m, w: _kl(m, w, v=lambda x: x),
            "You put the log-variance where the variance belongs. Then it cancels, and no width costs anything.",
        ),
        Misconception(
            "mean not squared",
            lambda m, w: (m + w.exp() - 1 - w).sum(dim=1).mean() / 2,
            "Your means are not squared: a negative mean would be rewarded.",
        ),
        Misconception(
            "mean left out",
            lambda m, w: _kl(0 * m, w),
            "The means are missing. A Gaussian that lies elsewhere is not the standard normal, however wide it is.",
        ),
        Misconception(
            "1 left out",
            lambda m, w: _kl(m, w) + m.shape[1] / 2,
            "At mu = 0 and v = 1 yours is not 0. The 1 comes from E (z - mu)^2 / v.",
        ),
        Misconception(
            "entropy left out",
            lambda m, w: _kl(m, w, log_v=torch.zeros_like),
            "Nothing in yours keeps the variance from 0, which would be the cheapest. In truth a narrow code is a "
            "precise one and costs most: where is -log v?",
        ),
        Misconception(
            "the other direction",
            lambda m, w: ((m.square() + 1) * (-w).exp() - 1 + w).sum(dim=1).mean() / 2,
            "This is KL(N(0, I) || N(mu, v)). The bottleneck averages over the code's own samples: the first argument "
            "of KL is what one draws from.",
        ),
        Misconception(
            "log of exp",
            lambda m, w: _kl(m, w, log_v=lambda x: x.exp().log()),
            "Right, until a log-variance is below -104: its exponential is 0 in float32, and log 0 is minus infinity. "
            "You had the logarithm all the time.",
        ),
    ),
)

# ---- 12.2 the slip ---------------------------------------------------------------------------------------------------

# Order of the answers: same minimum, same pull on the means, same pull on a narrow variance, wide variances cheaper.

_HALVED = Prediction(
    answer=(True, True, False, True),
    hints=(
        "Write the released sum for one dimension: (mu^2 + exp(l / 2) - 1 - l / 2) / 2. Differentiate it with respect "
        "to mu and to l, and the right one too.",
        "The right derivative by l is (e^l - 1) / 2, the released one (e^(l/2) - 1) / 4. Where are they 0? What are "
        "they at l = -10? Which of the two values is larger at l = 3?",
        "Both are 0 at l = 0, and mu^2 is the same. At l = -10 the exponentials are nearly 0, which leaves 1/2 and "
        "1/4. At l > 0, e^(l/2) - l/2 is below e^l - l.",
    ),
    misconceptions=(
        Misconception(
            "another minimum",
            (False, True, False, True),
            "exp(x) - x is smallest at x = 0, and l / 2 = 0 where l = 0. Which Gaussian is that?",
        ),
        Misconception(
            "another pull on the means",
            (True, False, False, True),
            "The mean enters both sums as mu^2 / 2, and nothing multiplies it. The halving touches l alone.",
        ),
        Misconception(
            "the same pull on a narrow variance",
            (True, True, True, True),
            "One minimum does not make one function. Far below 0 both are straight lines in l: with which slopes?",
        ),
        Misconception(
            "wide variances dearer",
            (True, True, False, False),
            "Above 0 the exponential decides, and l / 2 is less than l.",
        ),
        Misconception(
            "right up to a factor",
            (True, False, True, False),
            "The released sum is not half of the right one: the mean keeps its whole weight, so the balance between "
            "mean and variance changes.",
        ),
        Misconception(
            "nothing is the same",
            (False, False, False, True),
            "Both are KL divergences: the released one takes the standard deviation for the variance. What is the "
            "variance where the standard deviation is 1?",
        ),
    ),
)

# ---- 12.3 the integral of p1^2 p2 ------------------------------------------------------------------------------------


def _log_normal(x, mean, v):
    return -(2 * math.pi * v).log() / 2 - (x - mean) ** 2 / (2 * v)


def _overlap_loop(mu1, logvar1, mu2, logvar2):
    """The exponent a x^2 - b x + c collected and completed, as on paper; float64 carries the widest variances."""
    rows = []
    for pair in zip(mu1, logvar1, mu2, logvar2, strict=True):
        total = torch.zeros(())
        for x, lx, y, ly in zip(*(row.double() for row in pair), strict=True):
            u, w = (-lx).exp(), (-ly).exp() / 2
            a, b, c = u + w, 2 * (u * x + w * y), u * x**2 + w * y**2
            height = -1.5 * math.log(2 * math.pi) - lx - ly / 2
            total = total + height + (math.log(math.pi) - a.log()) / 2 + b**2 / (4 * a) - c
        rows.append(total)
    return torch.stack(rows)


def _four(generator):
    made = [
        (*_gaussian(generator, b, d, w1), *_gaussian(generator, b, d, w2))
        for b, d, w1, w2 in ((3, 1, -1.0, 0.5), (5, 4, 0.0, -1.0), (4, 8, -3.0, -2.5))
    ]
    mean, logvar = _gaussian(generator, 2, 3, -2.0)
    wide = (made[1][0], made[1][1] + 100, made[1][2], made[1][3] + 95)  # e^100 is no float32
    return [*made, (mean, logvar, mean + 0.1, logvar), wide]


def _per_dimension(m1, l1, m2, l2):
    wide = torch.logaddexp(l1, l2 + math.log(2))
    return -(math.log(2 * math.pi) + (l1 + wide) / 2 + (m1 - m2).square() * (-wide).exp())


def _through_variances(m1, l1, m2, l2):
    v1, v2 = l1.exp(), l2.exp()
    return (-(4 * math.pi * v1).log() / 2 + _log_normal(m1, m2, v1 / 2 + v2)).sum(dim=1)


def _divided(m1, l1, m2, l2):
    wide = torch.logaddexp(l1, l2 + math.log(2))
    return -(math.log(2 * math.pi) + (l1 + wide) / 2 + (m1 - m2).square() / wide.exp()).sum(dim=1)


def _as_released(m1, l1, m2, l2, constant=0.0):
    u, w = (-l1).exp(), (-l2).exp() / 2
    a, b, c = u + w, 2 * (u * m1 + w * m2), u * m1**2 + w * m2**2
    return (-2 * l1 - l2 - a.log() / 2 + b**2 / (4 * a) - c + constant).sum(dim=1)


def _safe_normal(m1, m2, log_v):
    return -(math.log(2 * math.pi) + log_v) / 2 - (m1 - m2).square() * (-log_v).exp() / 2


def _of_sum(l1, l2):
    return torch.logaddexp(l1, l2)


_HALF = math.log(1 / 2)

_LOG_OVERLAP = Exercise(
    library=inclusion,
    reference=_overlap_loop,
    inputs=_four,
    gradients=("mu1", "logvar1", "mu2", "logvar2"),
    hints=(
        "One dimension. The square of a Gaussian density is again a Gaussian density times a number: read off its "
        "width, then what the number must be.",
        "p1^2 = N(x; mu1, v1/2) / (2 sqrt(pi v1)), and two densities integrate to N(mu1; mu2, v1/2 + v2). The "
        "logarithm of an integral over D independent dimensions is a sum.",
        "With w = torch.logaddexp(logvar1, logvar2 + log 2), the logarithm of v1 + 2 v2 which cannot overflow, each "
        "dimension gives -(log(2 pi) + (logvar1 + w) / 2 + (mu1 - mu2)^2 exp(-w)).",
    ),
    misconceptions=(
        Misconception(
            "p1 p2^2",
            lambda m1, l1, m2, l2: inclusion(m2, l2, m1, l1),
            "This is the integral of p1 p2^2: the second density is squared. Here the first one counts twice.",
        ),
        Misconception(
            "p1 p2",
            lambda m1, l1, m2, l2: _safe_normal(m1, m2, _of_sum(l1, l2)).sum(dim=1),
            "This is the integral of p1 p2, which is the same whichever comes first. It takes the square to tell the "
            "inner one from the outer one.",
        ),
        Misconception(
            "p1^2 p2^2",
            lambda m1, l1, m2, l2: (
                _safe_normal(m1, m2, _of_sum(l1, l2) + _HALF) - (math.log(16) + 2 * math.log(math.pi) + l1 + l2) / 2
            ).sum(dim=1),
            "You squared both. Then neither counts more than the other, and the order is lost.",
        ),
        Misconception(
            "square not narrower",
            lambda m1, l1, m2, l2: (_safe_normal(m1, m2, _of_sum(l1, l2)) - (math.log(4 * math.pi) + l1) / 2).sum(
                dim=1
            ),
            "You kept the width v1 for the square of p1. Squaring doubles the exponent, and the exponent is divided by "
            "2 v: which v has twice the exponent?",
        ),
        Misconception(
            "square wider",
            lambda m1, l1, m2, l2: (
                _safe_normal(m1, m2, _of_sum(l1 - _HALF, l2)) - (math.log(4 * math.pi) + l1) / 2
            ).sum(dim=1),
            "Your square of p1 is wider than p1. Squaring lowers the small values more than the large ones, so the "
            "hill gets narrower.",
        ),
        Misconception(
            "standard deviation halved",
            lambda m1, l1, m2, l2: (
                _safe_normal(m1, m2, _of_sum(l1 + 2 * _HALF, l2)) - (math.log(4 * math.pi) + l1) / 2
            ).sum(dim=1),
            "You halved the standard deviation, which makes a quarter of the variance. The exponent doubles, so the "
            "variance is halved.",
        ),
        Misconception(
            "height of the square left out",
            lambda m1, l1, m2, l2: _safe_normal(m1, m2, _of_sum(l1 + _HALF, l2)).sum(dim=1),
            "You replaced p1^2 by a density. It is one times a number: its integral is 1 / (2 sqrt(pi v1)), which is "
            "large where p1 is narrow, and that is what makes the narrow one the inner one.",
        ),
        Misconception(
            "log(2 pi) left out",
            lambda m1, l1, m2, l2: inclusion(m1, l1, m2, l2) + m1.shape[1] * math.log(2 * math.pi),
            "Only the constant is missing, log(2 pi) a dimension. In a difference it cancels; as the logarithm of an "
            "integral it belongs there.",
        ),
        Misconception(
            "normaliser doubled, as released",
            _as_released,
            "This is the released code's sum, without its constants and with -2 logvar1 - logvar2 in front. The height "
            "of a density holds log sigma, half of the log-variance, so that is -logvar1 - logvar2 / 2.",
        ),
        Misconception(
            "normaliser doubled",
            lambda m1, l1, m2, l2: _as_released(m1, l1, m2, l2, (math.log(math.pi) - 3 * math.log(2 * math.pi)) / 2),
            "In your heights the log-variance stands for log sigma, in your exponents for log sigma^2. One density has "
            "one width: log N begins with -logvar / 2.",
        ),
        Misconception(
            "distance halved",
            lambda m1, l1, m2, l2: (
                _per_dimension(m1, l1, m2, l2) + (m1 - m2).square() * (-_of_sum(l1, l2 - _HALF)).exp() / 2
            ).sum(dim=1),
            "Your exponent is half of the right one. It is (mu1 - mu2)^2 over 2 (v1/2 + v2): is the 2 there twice?",
        ),
        Misconception(
            "distance doubled",
            lambda m1, l1, m2, l2: (
                _per_dimension(m1, l1, m2, l2) - (m1 - m2).square() * (-_of_sum(l1, l2 - _HALF)).exp()
            ).sum(dim=1),
            "Your exponent is twice the right one: the half of the Gaussian's exponent is missing.",
        ),
        Misconception(
            "distance left out",
            lambda m1, l1, m2, l2: _per_dimension(m1, l1, m1, l2).sum(dim=1),
            "The means are not in your result. Two densities that lie far apart hardly overlap.",
        ),
        Misconception(
            "distance not squared",
            lambda m1, l1, m2, l2: (
                _per_dimension(m1, l1, m1, l2) - (m1 - m2).abs() * (-_of_sum(l1, l2 - _HALF)).exp()
            ).sum(dim=1),
            "The distance of the means is not squared in your exponent.",
        ),
        Misconception(
            "distance with its sign turned",
            lambda m1, l1, m2, l2: (
                _per_dimension(m1, l1, m1, l2) + (m1 - m2).square() * (-_of_sum(l1, l2 - _HALF)).exp()
            ).sum(dim=1),
            "Yours grows as the means part. An overlap shrinks.",
        ),
        Misconception(
            "logarithm of the standard deviation",
            lambda m1, l1, m2, l2: inclusion(m1, 2 * l1, m2, 2 * l2),
            "You took the inputs for logarithms of standard deviations. They are those of variances.",
        ),
        Misconception(
            "one number a dimension",
            _per_dimension,
            "You return (B, D). The densities are products over D independent dimensions, so the logarithm of the "
            "integral is a sum over them.",
        ),
        Misconception(
            "mean over the dimensions",
            lambda m1, l1, m2, l2: _per_dimension(m1, l1, m2, l2).mean(dim=1),
            "You averaged over D. A product of D integrals has a logarithm that is a sum.",
        ),
        Misconception(
            "integral instead of its logarithm",
            lambda m1, l1, m2, l2: inclusion(m1, l1, m2, l2).exp(),
            "This is the integral itself. With a few hundred dimensions it is 0 in float32: keep to logarithms.",
        ),
        Misconception(
            "every pair",
            lambda m1, l1, m2, l2: _per_dimension(m1[:, None], l1[:, None], m2, l2).sum(dim=2),
            "You compared every row with every row. Asked for is one number a pair, (B,): row i with row i.",
        ),
        Misconception(
            "variances overflow",
            _through_variances,
            "Right, until a log-variance exceeds 88: its exponential is infinite in float32. That is no rare case, "
            "eps = -100 of a released recipe adds 100 to each. You need log(v1 + 2 v2), from log v1 and log v2.",
        ),
        Misconception(
            "divides by infinity",
            _divided,
            "The value is right: dividing by exp(w) = infinity gives 0, as it should. But its gradient is 0 times "
            "infinity, which is NaN. exp(-w) never forms the infinity.",
        ),
        Misconception(
            "detached variances",
            lambda m1, l1, m2, l2: inclusion(m1, l1.detach(), m2, l2.detach()),
            "The value is right, but no gradient reaches the log-variances, which are all that inclusion is to teach.",
        ),
    ),
)

# ---- 12.4 what the means can do --------------------------------------------------------------------------------------

_APART_SIGN = Prediction(
    answer="positive",
    hints=(
        "Write H for one dimension as f(v1, v2) + delta^2 g(v1, v2), from 12.3. What are the signs of f and of g where "
        "v1 < v2?",
        "g = 1 / (v2 + 2 v1) - 1 / (v1 + 2 v2). Which of the two denominators is larger where v1 < v2?",
        "v1 + 2 v2 is the larger one, so g is positive, as f is. And delta^2 is never negative.",
    ),
    misconceptions=(
        Misconception(
            "distance ends inclusion",
            "negative",
            "That is what inclusion should mean. But both logarithms fall as the means part, and H is their "
            "difference. Which of the two falls faster?",
        ),
        Misconception(
            "distance makes them equal",
            "zero",
            "Both overlaps go to zero, but H is the difference of their logarithms, which is the logarithm of a ratio. "
            "Does the ratio go to 1?",
        ),
    ),
)

_APART_SIZE = Prediction(
    answer="grows",
    hints=(
        "Only the term with delta^2 changes. What sign has its factor?",
        "The factor is 1 / (v2 + 2 v1) - 1 / (v1 + 2 v2).",
        "v1 < v2 makes the first denominator the smaller one: the factor is positive, and delta^2 rises.",
    ),
    misconceptions=(
        Misconception(
            "distance weakens inclusion",
            "falls",
            "Both overlaps fall. The one in which the narrow density counts twice falls less: it has only to reach "
            "the wide one's tail once.",
        ),
        Misconception(
            "the means cancel",
            "stays",
            "The means cancel only where v1 = v2. Else the two exponents have different denominators.",
        ),
    ),
)

# Order of the answers: widths that disagree, widths that agree.

_APART_2D = Prediction(
    answer=(True, False),
    hints=(
        "H of two dimensions is a sum, one number a dimension, and each dimension has a sign of its own that no mean "
        "can change.",
        "Where the signs differ, the sum is a vote with weights. Does a distance change a weight?",
        "Moving the means apart in the dimension that says no makes its no as large as you like. Where both say yes, "
        "there is no no to enlarge.",
    ),
    misconceptions=(
        Misconception(
            "as in one dimension",
            (False, False),
            "Each term keeps its sign, but not its size. What does a distance in the second dimension do to the term "
            "that is negative?",
        ),
        Misconception(
            "the means decide",
            (True, True),
            "Where both terms are positive, moving the means makes each of them larger. Can their sum get negative?",
        ),
        Misconception(
            "the wrong way round",
            (False, True),
            "In which of the two cases is there a negative term that a distance could enlarge?",
        ),
    ),
)

# ---- 12.5 say less ---------------------------------------------------------------------------------------------------


def say_less(codes: Tensor, u: Tensor, keep: float) -> Tensor:
    """A caption that names less: of the named attributes the one of largest u goes, of the others u < keep stays.

    (B, A) whole numbers, 0 = not named; (B, A) uniform numbers -> (B, A)
    """
    goes = F.one_hot(torch.where(codes > 0, u, -1.0).argmax(dim=1), codes.shape[1]).bool()  # (B, A)
    return torch.where((u < keep) & ~goes, codes, 0)


def _less_loop(codes, u, keep):
    out = codes.clone()
    for i in range(len(codes)):
        named = [a for a in range(codes.shape[1]) if codes[i, a] > 0]
        gone = [a for a in named if not u[i, a] < keep]
        if named and not gone:
            gone = [max(named, key=lambda a: float(u[i, a]))]
        for a in gone:
            out[i, a] = 0
    return out


def _captions(generator):
    made = []
    for b, a, keep in ((6, 4, 0.5), (5, 5, 0.9), (8, 3, 0.2), (7, 4, 1.0), (4, 6, 0.0)):
        codes = torch.randint(1, 9, (b, a), generator=generator)
        codes = codes * (torch.rand(b, a, generator=generator) < 0.7)
        codes[0], codes[1] = torch.arange(1, a + 1), 0  # everything named, nothing named
        made.append((codes, torch.rand(b, a, generator=generator), keep))
    return made


def _without(codes, u, keep, at):
    """Say less, with the column at (B,) for the one that always goes."""
    return torch.where((u < keep) & ~F.one_hot(at, codes.shape[1]).bool(), codes, 0)


def _masked(codes, u, keep, token=-1):
    return torch.where((say_less(codes, u, keep) == 0) & (codes > 0), token, codes)


def _packed(codes, u, keep):
    kept = say_less(codes, u, keep)
    order = (kept == 0).long().argsort(dim=1, stable=True)
    return kept.gather(1, order)


def _any_token(result, codes, u, keep):
    """Whatever number stands for a mask, it is one mistake."""
    result = torch.as_tensor(result)
    if result.is_floating_point() or result.shape != codes.shape:
        return result
    return torch.where((result != codes) & (result != 0), -1, result.long())


_SAY_LESS = Exercise(
    library=say_less,
    reference=_less_loop,
    inputs=_captions,
    view=_any_token,
    hints=(
        "What is kept are the entries of `codes` where u < keep; 0 elsewhere. Which captions come out as they went in?",
        "The named attribute of largest u goes in any case. An unnamed one must not win that, so give those a number "
        "below all others before you take the argmax along the caption.",
        "goes = F.one_hot(torch.where(codes > 0, u, -1.0).argmax(dim=1), A).bool(); then torch.where((u < keep) & "
        "~goes, codes, 0).",
    ),
    misconceptions=(
        Misconception(
            "a token for what is gone",
            _masked,
            "You write a token where an attribute was dropped. No caption of the data looks like that, so its variance "
            "can rise with the number of tokens and say nothing about captions. What does a caption hold that does not "
            "name the colour?",
        ),
        Misconception(
            "packs what is left",
            _packed,
            "You moved what is left to the front. A column is an attribute: there the number of a shape becomes that "
            "of a colour. Deleting words works that way, codes stay in their places.",
        ),
        Misconception(
            "keeps what should go",
            lambda c, u, keep: say_less(c, u, 1 - keep),
            "You drop with probability `keep`. It is the chance of staying.",
        ),
        Misconception(
            "drops below keep",
            lambda c, u, keep: torch.where(u < keep, 0, c),
            "You drop where u < keep, so that `keep` is the chance of going. And some captions come out as they went "
            "in.",
        ),
        Misconception(
            "not proper",
            lambda c, u, keep: torch.where(u < keep, c, 0),
            "Some of your captions come out as they went in. Then the loss asks a Gaussian to be inside itself, which "
            "it cannot be: it costs log 2 a dimension and teaches nothing. Something named has to go.",
        ),
        Misconception(
            "drops one that was never named",
            lambda c, u, keep: _without(c, u, keep, u.argmax(dim=1)),
            "You drop the largest u of the row, and that attribute may not be named at all: then nothing is gone. Look "
            "among the named ones.",
        ),
        Misconception(
            "drops the smallest",
            lambda c, u, keep: _without(c, u, keep, torch.where(c > 0, u, 2.0).argmin(dim=1)),
            "You drop the named attribute of smallest u. Then it is seldom that one alone is gone: the smallest goes "
            "and all above `keep` besides. The largest is the one that goes first.",
        ),
        Misconception(
            "drops the first",
            lambda c, u, keep: _without(c, u, keep, (c > 0).int().argmax(dim=1)),
            "You always drop the first named attribute. Then one attribute goes more often than the others, and the "
            "variance learns which one it was.",
        ),
        Misconception(
            "drops the largest code",
            lambda c, u, keep: _without(c, u, keep, c.argmax(dim=1)),
            "You drop the attribute whose code is largest. Codes are names, their size means nothing; chance is in u.",
        ),
        Misconception(
            "drops one and no more",
            lambda c, u, keep: say_less(c, u, 2.0),
            "You drop one attribute and keep all others. Then the loss compares neighbours only; `keep` says how far "
            "apart the two captions may be.",
        ),
        Misconception(
            "one draw for the whole batch",
            lambda c, u, keep: say_less(c, u[:1].expand_as(u), keep),
            "You drop the same attributes in all captions of the batch. Each row of u belongs to one caption.",
        ),
        Misconception(
            "one draw for the whole caption",
            lambda c, u, keep: torch.where(u[:, :1] < keep, c, 0),
            "You keep or drop whole captions. Each attribute has its own u.",
        ),
        Misconception(
            "as many for all",
            lambda c, u, keep: torch.where(
                u.argsort(dim=1).argsort(dim=1) < min(round(keep * c.shape[1]), c.shape[1] - 1), c, 0
            ),
            "You keep a fixed number of columns, named or not. Each named attribute stays with its own chance: the "
            "subset may have any size, none included.",
        ),
        Misconception(
            "scaled up",
            lambda c, u, keep: say_less(c, u, keep) / max(keep, 0.1),
            "You divided by keep, as a dropout layer does. Codes are names: twice a colour is another colour.",
        ),
        Misconception(
            "truth values",
            lambda c, u, keep: say_less(c, u, keep) > 0,
            "You return which attributes are still named. Which values they have is needed too.",
        ),
    ),
)

# ---- 12.6 knowing when to be silent ----------------------------------------------------------------------------------


def risk_coverage(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Share of errors among the k surest answers, k = 1 ... N, ties in random order; and its mean, the AURC.

    (N,), (N,) bool -> (N,), scalar
    """
    _, group, many = (-confidence).unique(return_inverse=True, return_counts=True)  # the surest first
    errors = torch.zeros(len(many), dtype=torch.double).index_add(0, group, (~right).double())  # (U,)
    expected = (errors / many).repeat_interleave(many)  # (N,) of ties, each carries the share of their group
    risk = expected.cumsum(dim=0) / torch.arange(1, len(right) + 1)  # (N,)
    return risk, risk.mean()


def _risk_loop(confidence, right):
    """Of k answered, the chance that example i is among them: its ties share the places left after the surer ones."""
    n, risks = len(right), []
    for k in range(1, n + 1):
        total = 0.0
        for i in range(n):
            surer = sum(bool(c > confidence[i]) for c in confidence)
            alike = sum(bool(c == confidence[i]) for c in confidence)
            total += float(not right[i]) * min(max((k - surer) / alike, 0.0), 1.0)
        risks.append(total / k)
    return torch.tensor(risks, dtype=torch.double), sum(risks) / n


def _answers(generator):
    def drawn(n, ties):
        c = torch.rand(n, generator=generator)
        right = torch.rand(n, generator=generator) < 0.2 + 0.6 * c
        right[0], right[-1] = True, False  # so that a storage order shows among ties
        return ((c * 4).floor() / 4 if ties else (c * 64).round() + torch.arange(n) / 128, right)

    same = (torch.full((6,), 0.5), torch.tensor([True, True, False, True, False, False]))
    perfect = (torch.tensor([0.9, 0.7, 0.8, 0.6]), torch.tensor([True, False, True, False]))
    return [drawn(5, False), drawn(12, False), drawn(15, True), drawn(9, True), same, perfect]


def _by_order(order, right):
    risk = (~right[order]).double().cumsum(0) / _counted(len(right))
    return risk, risk.mean()


def _surest_first(confidence):
    return (-confidence).argsort(stable=True)


def _ties_by(confidence, right, first):
    """Ties with `first` in front."""
    front = (right != first).long().argsort(stable=True)
    return _by_order(front[_surest_first(confidence[front])], right)


def _curve(confidence, right):
    return risk_coverage(confidence, right)[0]


def _counted(n):
    return torch.arange(1, n + 1)


def _with_area(risk):
    return risk, risk.mean()


_RISK_COVERAGE = Exercise(
    library=risk_coverage,
    reference=_risk_loop,
    inputs=_answers,
    invariances=(
        Invariance(
            "depends on the order of storage",
            lambda c, right: (c.flip(0), right.flip(0)),
            "Stored in another order, the same answers give you another curve. Only the ranks of the confidences may "
            "count.",
        ),
        Invariance(
            "depends on the scale of the confidence",
            lambda c, right: (4 * c - 3, right),
            "Stretching all confidences changes your curve. Only their order may count: a variance and a probability "
            "have no unit in common.",
        ),
    ),
    hints=(
        "Answer the surest question first. After k answers, what share of them was wrong?",
        "Sort by falling confidence; the running sum of the errors over k = 1 ... N is the curve, and its mean the "
        "area. Then ties: in random order each of them carries the share of errors of their group.",
        "_, group, many = (-confidence).unique(return_inverse=True, return_counts=True) numbers the groups, the surest "
        "first. The errors of each group over `many`, repeated `many` times, is what to sum up.",
    ),
    misconceptions=(
        Misconception(
            "least sure first",
            lambda c, r: risk_coverage(-c, r),
            "You answer the least sure questions first. The area is then large where the score is good.",
        ),
        Misconception(
            "accuracy instead of risk",
            lambda c, r: risk_coverage(c, ~r),
            "This is the share of right answers. A risk is a share of wrong ones, and small is good.",
        ),
        Misconception(
            "errors among all",
            lambda c, r: _with_area(_curve(c, r) * _counted(len(r)) / len(r)),
            "You divide by N throughout. The risk at coverage k / N is the share of errors among the k answered.",
        ),
        Misconception(
            "errors counted",
            lambda c, r: _with_area(_curve(c, r) * _counted(len(r))),
            "You count errors. A risk is their share of what was answered.",
        ),
        Misconception(
            "counts from 0",
            lambda c, r: _with_area(_curve(c, r) * _counted(len(r)) / torch.arange(len(r))),
            "You divide by 0, 1, 2, and so on. The first answer is one answer.",
        ),
        Misconception(
            "ties as stored",
            lambda c, r: _by_order(_surest_first(c), r),
            "Equal confidences come in the order in which they are stored. Then a score that says the same of "
            "everything has any area, as the file happens to be sorted. Its curve should be flat at the error rate.",
        ),
        Misconception(
            "wrong ones first among ties",
            lambda c, r: _ties_by(c, r, False),
            "Of equal confidences you answer the wrong ones first. That is cautious, but a score that says the same of "
            "everything is then the worst of all. Take their order as random.",
        ),
        Misconception(
            "right ones first among ties",
            lambda c, r: _ties_by(c, r, True),
            "Of equal confidences you answer the right ones first: a score that says the same of everything is then "
            "as good as an oracle. Take their order as random.",
        ),
        Misconception(
            "not sorted",
            lambda c, r: _by_order(torch.arange(len(r)), r),
            "Your curve does not use the confidence: the answers come as they are stored.",
        ),
        Misconception(
            "ranks instead of an order",
            lambda c, r: _by_order(_surest_first(c).argsort(), r),
            "You indexed with ranks. argsort once says who comes first, second, third; argsort twice says which place "
            "each one has. To put things in order you need the first.",
        ),
        Misconception(
            "errors sorted",
            lambda c, r: risk_coverage(r.double(), r),
            "You sorted the errors themselves. That is the oracle, which no score can beat, because it knows what is "
            "wrong.",
        ),
        Misconception(
            "confidence instead of errors",
            lambda c, r: _with_area(c.sort(descending=True).values.cumsum(0) / _counted(len(c))),
            "You averaged the confidence. It gives the order only; what is summed are the errors.",
        ),
        Misconception(
            "sum under the curve",
            lambda c, r: (_curve(c, r), _curve(c, r).sum()),
            "The curve is right, its area is not: coverage runs from 0 to 1, so the N risks are averaged.",
        ),
        Misconception(
            "trapezoids",
            lambda c, r: (_curve(c, r), torch.trapezoid(_curve(c, r), _counted(len(r)) / len(r))),
            "The curve is right. Trapezoids leave out the first coverage, from 0 to 1 / N; the area asked for is the "
            "mean of the N risks.",
        ),
        Misconception(
            "above the oracle",
            lambda c, r: (_curve(c, r), _curve(c, r).mean() - _curve(r.double(), r).mean()),
            "The curve is right. From its area you took that of the oracle, which is the excess AURC.",
        ),
        Misconception(
            "last point instead of the area",
            lambda c, r: (_curve(c, r), _curve(c, r)[-1]),
            "The curve is right, but your second number is its last point. At coverage 1 every score has the same "
            "risk: the error rate.",
        ),
    ),
)

# ---- 12.7 what length explains ---------------------------------------------------------------------------------------


def _ranks(x: Tensor) -> Tensor:
    """1 is the smallest, ties share the mean of their ranks. (N,) -> (N,)"""
    below = (x[:, None] > x).sum(dim=1)  # (N,)
    return below + ((x[:, None] == x).sum(dim=1) + 1) / 2


def _residual(y: Tensor, z: Tensor) -> Tensor:
    """What a straight line in z, intercept included, leaves of y. (N,), (N,) -> (N,)"""
    y, z = y - y.mean(), z - z.mean()
    return y - (y @ z) / (z @ z) * z


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    return F.cosine_similarity(x - x.mean(), y - y.mean(), dim=0)


def partial_rank_correlation(x: Tensor, y: Tensor, control: Tensor) -> Tensor:
    """Spearman's correlation of what the control leaves of the ranks of x and y. (N,) three times -> scalar"""
    x, y, z = (_ranks(v).double() for v in (x, y, control))
    return _pearson(_residual(x, z), _residual(y, z))


def _partial_loop(x, y, control):
    """From the three correlations, without any regression."""

    def ranked(values):
        numbers = values.tolist()
        return [1 + sum(o < n for o in numbers) + (sum(o == n for o in numbers) - 1) / 2 for n in numbers]

    def correlation(p, q):
        mean_p, mean_q = sum(p) / len(p), sum(q) / len(q)
        together = sum((a - mean_p) * (b - mean_q) for a, b in zip(p, q, strict=True))
        return together / math.sqrt(sum((a - mean_p) ** 2 for a in p) * sum((b - mean_q) ** 2 for b in q))

    x, y, z = ranked(x), ranked(y), ranked(control)
    xy, xz, yz = correlation(x, y), correlation(x, z), correlation(y, z)
    return (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))


def _measured(generator):
    made = []
    for n, levels in ((8, 3), (15, 4), (40, 6)):
        z = torch.randint(0, levels, (n,), generator=generator).float()
        x = (1.5 * z + 2 * torch.randn(n, generator=generator)).exp()  # heavy tails: ranks and values differ
        y = (z + 3 * torch.rand(n, generator=generator)).round()  # ties
        made.append((x, y, z))
    free = torch.randn(3, 12, generator=generator)
    return [*made, (free[0] + free[2], (free[1] - free[2]) ** 3, free[2])]


def _in_order(x):
    """Ranks without ties: as they come."""
    return x.argsort(stable=True).argsort(stable=True).double()


def _dense(x):
    return x.unique(return_inverse=True)[1].double()


def _lowest(x):
    return (x[:, None] > x).sum(dim=1).double()


def _partial(x, y, z):
    return _pearson(_residual(x, z), _residual(y, z))


def _ranked(*values):
    return tuple(_ranks(v).double() for v in values)


def _correlations(x, y, z):
    x, y, z = _ranked(x, y, z)
    return _pearson(x, y), _pearson(x, z), _pearson(y, z)


def _through_origin(y, z):
    return y - (y @ z) / (z @ z) * z


def _semi(x, y, z):
    x, y, z = _ranked(x, y, z)
    return _pearson(_residual(x, z), y)


def _semi_other(x, y, z):
    return _semi(y, x, z)


def _no_intercept(x, y, z):
    x, y, z = _ranked(x, y, z)
    return _pearson(_through_origin(x, z), _through_origin(y, z))


def _subtracted(x, y, z):
    x, y, z = _ranked(x, y, z)
    return _pearson(x - z, y - z)


def _covariance(x, y, z):
    x, y, z = _ranked(x, y, z)
    return (_residual(x, z) * _residual(y, z)).mean()


def _numerator(x, y, z):
    xy, xz, yz = _correlations(x, y, z)
    return xy - xz * yz


def _without_root(x, y, z):
    xy, xz, yz = _correlations(x, y, z)
    return (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2))


def _raw_control(x, y, z):
    x, y = _ranked(x, y)
    return _partial(x, y, z.double())


_PARTIAL = Exercise(
    library=partial_rank_correlation,
    reference=_partial_loop,
    inputs=_measured,
    invariances=(
        Invariance(
            "depends on the scale of x",
            lambda x, y, z: (x.sign() * x.square(), y, z),
            "Squaring x (with its sign) changes your result, though it changes no order. Only ranks may count.",
        ),
        Invariance(
            "depends on the order of storage",
            lambda x, y, z: (x.flip(0), y.flip(0), z.flip(0)),
            "Stored in another order, the same numbers give you another correlation. Equal values need equal ranks.",
        ),
    ),
    hints=(
        "Three steps: ranks of all three, remove what a straight line in the control's ranks explains of the other "
        "two, correlate what is left. Which of them do ties concern?",
        "The rank of a tie is the mean of the places it takes: the number of smaller values, plus half of (the number "
        "of equal ones, itself included, plus 1). The line has an intercept: centre before you regress.",
        "x = ranks - mean, z likewise; residual x - (x @ z) / (z @ z) * z, and for y the same. Then the cosine of the "
        "two residuals.",
    ),
    misconceptions=(
        Misconception(
            "values instead of ranks",
            lambda x, y, z: _partial(x.double(), y.double(), z.double()),
            "You correlate the values themselves. One caption of a huge variance then decides; ranks ask for the order "
            "alone.",
        ),
        Misconception(
            "control left out",
            lambda x, y, z: _correlations(x, y, z)[0],
            "This is Spearman's correlation as it is. What both owe to the control is still in it.",
        ),
        Misconception(
            "correlation of the values",
            lambda x, y, z: _pearson(x.double(), y.double()),
            "This is Pearson's correlation of the values: neither ranks nor a control.",
        ),
        Misconception(
            "residuals ranked instead of ranks regressed",
            lambda x, y, z: _pearson(*_ranked(_residual(x.double(), z.double()), _residual(y.double(), z.double()))),
            "You regressed the values and ranked what was left. A straight line through heavy-tailed values removes "
            "the wrong thing: ranks first, then the line.",
        ),
        Misconception(
            "control not ranked",
            _raw_control,
            "The control's values are in your line, not its ranks. Then the result depends on the unit in which length "
            "is counted, and a straight line in it need not fit ranks.",
        ),
        Misconception(
            "only x regressed",
            _semi,
            "You removed the control from x and left it in y (a semipartial correlation). What y owes to length now "
            "counts as unexplained, and the result is too small.",
        ),
        Misconception(
            "only y regressed",
            _semi_other,
            "You removed the control from y and left it in x (a semipartial correlation). What x owes to length now "
            "counts as unexplained, and the result is too small.",
        ),
        Misconception(
            "control subtracted",
            _subtracted,
            "You subtracted the control's ranks. Subtracting puts the control into both, even where neither had "
            "anything of it. Remove only the share that a straight line finds.",
        ),
        Misconception(
            "line through the origin",
            _no_intercept,
            "Your line has no intercept. Ranks are all positive, so a line through the origin explains much that is no "
            "relation: centre first.",
        ),
        Misconception(
            "another control",
            lambda x, y, z: partial_rank_correlation(x, z, y),
            "You correlated x with the control and held y fixed. The third argument is the one to remove.",
        ),
        Misconception(
            "yet another control",
            lambda x, y, z: partial_rank_correlation(y, z, x),
            "You correlated y with the control and held x fixed. The third argument is the one to remove.",
        ),
        Misconception(
            "numerator only",
            _numerator,
            "You have the numerator, r_xy - r_xz r_yz. What is left of x and of y is shorter than x and y: divide by "
            "both lengths.",
        ),
        Misconception(
            "root left out",
            _without_root,
            "Your result may exceed 1: 1 - r^2 is the share of variance that is left, and its root the length.",
        ),
        Misconception(
            "not normalised",
            _covariance,
            "This is a covariance of residuals. A correlation is divided by both standard deviations.",
        ),
        Misconception(
            "squared",
            lambda x, y, z: partial_rank_correlation(x, y, z) ** 2,
            "You squared it: the share of variance explained. The sign is gone with it, and the sign is the question.",
        ),
        Misconception(
            "ties as stored",
            lambda x, y, z: _partial(*map(_in_order, (x, y, z))),
            "Equal values get different ranks, by the order in which they are stored. Lengths are full of ties: each "
            "takes the mean of the places that it shares.",
        ),
        Misconception(
            "argsort instead of ranks",
            lambda x, y, z: _partial(*(v.argsort(stable=True).double() for v in (x, y, z))),
            "argsort says who stands at each place, and ranks say at which place each one stands. The second is the "
            "inverse of the first.",
        ),
        Misconception(
            "ties at their lowest place",
            lambda x, y, z: _partial(*map(_lowest, (x, y, z))),
            "Equal values take the lowest of the places they share. The mean place keeps the mean of all ranks what "
            "it is without ties.",
        ),
        Misconception(
            "ties at one place",
            lambda x, y, z: _partial(*map(_dense, (x, y, z))),
            "You numbered the distinct values. A value shared by half of the captions then takes one place only; each "
            "of them takes the mean of the places they share.",
        ),
    ),
)

EXERCISES: dict[str, Exercise | Prediction] = {
    "csd": _CSD,
    "ppcl_loss": _PPCL,
    "vib_loss": _VIB,
    "halved": _HALVED,
    "log_overlap": _LOG_OVERLAP,
    "apart_sign": _APART_SIGN,
    "apart_size": _APART_SIZE,
    "apart_2d": _APART_2D,
    "say_less": _SAY_LESS,
    "risk_coverage": _RISK_COVERAGE,
    "partial_rank_correlation": _PARTIAL,
}
