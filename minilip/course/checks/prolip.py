"""Exercises of lesson 12: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from minilip.prolip import csd, inclusion, ppcl_loss, vib_loss

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction

LESSON = "12_prolip"

POINT = 200  # taken off a log-variance, it leaves no variance
LOG_2PI = math.log(2 * math.pi)

_PER_DIMENSION = slips.times(lambda mu, *_: 1 / mu.shape[1])
_OF_POINTS = slips.given(lambda m1, l1, m2, l2, *rest: (m1, l1 - POINT, m2, l2 - POINT, *rest))
_LOGVAR_DOUBLED = slips.given(lambda m1, l1, m2, l2: (m1, 2 * l1, m2, 2 * l2))
_OTHER_WAY = slips.given(lambda m1, l1, m2, l2: (m2, l2, m1, l1))


def _gaussian(generator, b, d, width=-1.0):
    return torch.randn(b, d, generator=generator), width + 0.7 * torch.randn(b, d, generator=generator)


def _squares(mu1, mu2):
    return (mu1[:, None] - mu2).square().sum(dim=2)  # (B1, B2)


def _spread(l1, l2, of=torch.exp):
    """Sum over D of of(l1) + of(l2), for every pair. (B1, B2)"""
    return of(l1).sum(dim=1)[:, None] + of(l2).sum(dim=1)


# ---- 12.1 the distance to expect -------------------------------------------------------------------------------------


def _csd_loop(mu1, logvar1, mu2, logvar2):
    rows = []
    for m1, l1 in zip(mu1, logvar1, strict=True):
        # z1 - z2 is a Gaussian again: E x^2 = (E x)^2 + Var x, dimension by dimension.
        pairs = [((m1 - m2) ** 2, l1.exp() + l2.exp()) for m2, l2 in zip(mu2, logvar2, strict=True)]
        rows.append(torch.stack([sum(mean) + sum(variance) for mean, variance in pairs]))
    return torch.stack(rows)


_CSD = Exercise(
    library=csd, reference=_csd_loop, gradients=("mu1", "logvar1", "mu2", "logvar2"),
    inputs=lambda g: [(*_gaussian(g, b1, d), *_gaussian(g, b2, d))
                      for b1, b2, d in ((2, 3, 4), (5, 4, 3), (4, 4, 4), (1, 6, 8))],
    naive="a sum of squares and variances: nothing overflows that the distance itself does not",
    right=(lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2),
           lambda m1, l1, m2, l2: torch.cdist(m1, m2).square() + (l1.exp()[:, None] + l2.exp()).sum(2),
           lambda m1, l1, m2, l2: _spread(m1, m2, torch.square) + _spread(l1, l2) - 2 * torch.einsum("id,jd", m1, m2)),
    hints=("One dimension, one pair: z1 - z2 varies. What is the mean of its square, from its mean and its variance?",
           "E x^2 = (E x)^2 + Var x, and variances of independent numbers add, also where the numbers are subtracted.",
           "The squares of mu1[:, None] - mu2, summed over D; plus logvar1.exp().sum(1)[:, None], plus the other."),
    misconceptions=(
        Misconception("standard deviations added", slips.given(lambda m1, l1, m2, l2: (m1, l1 / 2, m2, l2 / 2)),
            "You added standard deviations. What adds up for independent numbers is the variance."),
        Misconception("logarithm of the standard deviation", _LOGVAR_DOUBLED,
            "You squared exp(logvar), as if logvar were log sigma. It is the logarithm of the variance already."),
        Misconception("logarithms added", lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2, lambda x: x),
            "You added logarithms of variances. These can be negative, a variance cannot."),
        Misconception("variances of the first side only", slips.argument(3, lambda x: x - POINT),
            "Only the first side varies in your distance. The other end is a sample too."),
        Misconception("variances of the second side only", slips.argument(1, lambda x: x - POINT),
            "Only the second side varies in yours. To rank one gallery that is enough; as a distance it is not."),
        Misconception("no variances", _OF_POINTS,
            "This is the distance of the means. Samples lie around them, on average farther apart and never nearer."),
        Misconception("cosines for distances", lambda m1, l1, m2, l2: 2 - 2 * m1 @ m2.T + _spread(l1, l2),
            "2 - 2 mu1.mu2 is the squared distance of vectors of length 1. Here the means have any length."),
        Misconception("variances subtracted", slips.plus(lambda m1, l1, m2, l2: -2 * l2.exp().sum(dim=1)),
            "You subtracted variances. That of a difference of independent numbers is a sum: the sign is squared."),
        Misconception("covariance taken off", slips.plus(lambda m1, l1, m2, l2: -2 * (l1 / 2).exp() @ (l2 / 2).exp().T),
            "You took off 2 sigma1 sigma2, as if samples moved in step (Wasserstein). They are drawn independently."),
        Misconception("variances halved", lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2) / 2,
            "Your variances count half. The half stands in the logit, and there before the means' distance too."),
        Misconception("mean over the dimensions", _PER_DIMENSION,
            "You averaged over D. A squared distance is a sum over the dimensions."),
        Misconception("not squared", slips.then(torch.sqrt),
            "You took the root. The squared distance has this closed form; the mean distance is less than its root."),
        Misconception("distance of the means not squared", lambda m1, l1, m2, l2: torch.cdist(m1, m2) + _spread(l1, l2),
            "Your distance of the means is a length, your variances are squares of lengths. Only alike units add."),
        Misconception("pairs only", lambda m1, l1, m2, l2: ((m1 - m2).square() + l1.exp() + l2.exp()).sum(dim=1),
            "You compared row i with row i. Every row of one side meets every row of the other: (B1, B2)."),
        Misconception("transposed", _OTHER_WAY,
            "Your table is turned on its side: the first Gaussian chooses the row."),
    ),
)  # fmt: skip

# ---- 12.1 the loss ---------------------------------------------------------------------------------------------------


def _ppcl_loop(mu1, logvar1, mu2, logvar2, logit_scale, logit_bias):
    d = _csd_loop(mu1, logvar1, mu2, logvar2)
    total = torch.zeros(()).to(mu1)
    for i in range(len(d)):
        for j in range(len(d)):
            logit = logit_scale * (1 - d[i, j] / 2) + logit_bias
            total = total + torch.logaddexp(torch.zeros_like(logit), -logit if i == j else logit)
    return total / len(d)


def _pairs(generator, b, d, s, bias, width=-3.0):
    (m1, l1), (m2, l2) = _gaussian(generator, b, d, width), _gaussian(generator, b, d, width)
    return F.normalize(m1, dim=1), l1, F.normalize(m2, dim=1), l2, s, bias


def _logits(m1, l1, m2, l2, s, b):
    return s * (1 - csd(m1, l1, m2, l2) / 2) + b


def _of_logits(loss):
    """A loss of the six arguments, from one of the table of logits."""
    return lambda *args: loss(_logits(*args))


def _signs(x):
    return 2 * torch.eye(len(x)).to(x) - 1


def _sigmoid_loss(logits):
    return -F.logsigmoid(_signs(logits) * logits).sum() / len(logits)


def _of_parts(logits):
    """The loss of the six arguments, from logits of the squares, the variances, s and b."""
    return lambda m1, l1, m2, l2, s, b: _sigmoid_loss(logits(_squares(m1, m2), _spread(l1, l2), s, b))


_PPCL = Exercise(
    library=ppcl_loss, reference=_ppcl_loop,
    inputs=lambda g: [_pairs(g, 2, 3, 1.5, 0.5), _pairs(g, 5, 4, 4.0, -2.0), _pairs(g, 8, 16, 14.3, -5.5)],
    extreme=lambda g: [_pairs(g, 4, 4, 100.0, -10.0, 0.5)],
    stability="sigmoid(-500) is 0 in float32, and log 0 minus infinity. Some function takes both steps at once.",
    gradients=("logvar1", "logvar2", "logit_scale", "logit_bias"),  # of mu: cosines may stand for unit means
    right=(_of_logits(lambda x: F.binary_cross_entropy_with_logits(x, torch.eye(len(x)).to(x)) * len(x)),
           _of_logits(lambda x: (F.softplus(x).sum() - x.trace()) / len(x)),
           lambda m1, l1, m2, l2, s, b: _sigmoid_loss(s * (m1 @ m2.T - _spread(l1, l2) / 2) + b)),
    naive=(_of_logits(lambda x: -torch.sigmoid(_signs(x) * x).log().sum() / len(x)),
           _of_logits(lambda x: (1 + (-_signs(x) * x).exp()).log().sum() / len(x))),
    hints=("Each of the B x B pairs is a question: do these two belong together? What stands on the diagonal?",
           "Logits s (1 - d / 2) + b. The right answer has probability sigmoid(logit) for yes, sigmoid(-logit) for no.",
           "sign = 2 * torch.eye(B) - 1; -F.logsigmoid(sign * logits), summed over all pairs, divided by B."),
    misconceptions=(
        Misconception("mean over all pairs", slips.averaged,
            "You divided by B squared. Divide by B: else a row's one true pair counts less the larger the batch."),
        Misconception("sum over all pairs", slips.per_batch,
            "Your loss is summed and not divided by B. Nats per image are asked for."),
        Misconception("softmax", _of_logits(lambda x: (x.logsumexp(dim=1) - x.diagonal()).mean()),
            "Your rows are softmaxes: a picture's variance could not matter to its own row. Ask each pair alone."),
        Misconception("loss of CLIP", _of_logits(lambda x: (x.logsumexp(1) + x.logsumexp(0) - 2 * x.diag()).mean() / 2),
            "This is the loss of CLIP with distances for cosines. Here each pair is asked alone, with a sigmoid."),
        Misconception("negatives left out", _of_logits(lambda x: -F.logsigmoid(x.diagonal()).mean()),
            "Only the true pairs are in your loss. Say yes to everything, and it is zero."),
        Misconception("all pairs positive", _of_logits(lambda x: -F.logsigmoid(x).sum() / len(x)),
            "Your loss wants every picture to match every caption: the sign for the negatives is missing."),
        Misconception("all signs turned", _of_logits(lambda x: _sigmoid_loss(-x)),
            "Your loss wants the true pairs apart and all others together: +1 belongs on the diagonal."),
        Misconception("0 in place of -1", _of_logits(lambda x: -F.logsigmoid(x * torch.eye(len(x))).sum() / len(x)),
            "You multiply the negatives' logits by 0: each costs log 2, whatever it says. The sign is +1 or -1."),
        Misconception("sigmoid twice", _of_logits(lambda x: _sigmoid_loss(x.sigmoid())),
            "The sigmoid is taken twice: what takes logits does it itself, and you gave it probabilities."),
        Misconception("distance not halved", _of_parts(lambda d, v, s, b: s * (1 - d - v) + b),
            "Your distance is not halved. For unit means it is 2 - 2 cos: only its half makes 1 - d / 2 a cosine."),
        Misconception("distance not turned into a similarity", _of_parts(lambda d, v, s, b: s * (d + v) / 2 + b),
            "Your logit grows with the distance, so far apart means yes. A similarity falls: 1 - d / 2."),
        Misconception("1 left out of the logit", _of_parts(lambda d, v, s, b: -s * (d + v) / 2 + b),
            "Your logits are s lower: -s d / 2 + b. With the 1, zero variance gives SigLIP to the letter."),
        Misconception("scale on the distance only", _of_parts(lambda d, v, s, b: 1 - s * (d + v) / 2 + b),
            "Your scale multiplies the distance and not the 1. It stands before the whole of 1 - d / 2."),
        Misconception("variances with the wrong sign", _of_parts(lambda d, v, s, b: s * (1 - (d - v) / 2) + b),
            "In your logits a wide Gaussian is near to everything. Variance is distance: it makes a yes less likely."),
        Misconception("variances left out", _OF_POINTS,
            "Your loss does not see the variances: this is SigLIP."),
        Misconception("variances not scaled", _of_parts(lambda d, v, s, b: s * (1 - d / 2) - v / 2 + b),
            "Your variances are not multiplied by s. They are part of the distance, and s multiplies all of that."),
        Misconception("variances not halved", _of_parts(lambda d, v, s, b: s * (1 - d / 2 - v) + b),
            "Your variances count twice: the half stands before the whole of the distance, the variances included."),
        Misconception("divides by the scale", slips.inverted(4),
            "You divided by the scale. It is a multiplier, one over a temperature: the larger, the sharper."),
        Misconception("scale exponentiated", slips.exponentiated(4),
            "You took exp of the scale. The model does that before it calls the loss; s is the multiplier itself."),
        Misconception("scale on the bias too", lambda *a: _sigmoid_loss(_logits(*a) + (a[4] - 1) * a[5]),
            "Your scale multiplies the bias too. It stands before 1 - d / 2 alone."),
        Misconception("bias left out", slips.left_out(5, 0.0),
            "The bias is missing. B - 1 of B answers are no, and without it the variances have to say so."),
        Misconception("bias subtracted", slips.argument(5, lambda b: -b),
            "You subtracted the bias. It is added; a negative one says no."),
        Misconception("bias not turned with the sign",
            lambda *a: -F.logsigmoid(_signs(a[0]) * (_logits(*a) - a[5]) + a[5]).sum() / len(a[0]),
            "The sign belongs before the whole logit, the bias included."),
        slips.SIGN_TURNED,
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 12.2 the price of a code ----------------------------------------------------------------------------------------


def _by_moments(mu, logvar):
    """E log q - E log p, each a known moment of a Gaussian: cross-entropy minus entropy."""
    cross_entropy = (LOG_2PI + logvar.exp() + mu**2) / 2
    return (cross_entropy - (LOG_2PI + 1 + logvar) / 2).sum() / len(mu)


def _kl(mu, logvar, v=torch.exp, log_v=lambda x: x):
    return (mu.square() + v(logvar) - 1 - log_v(logvar)).sum(dim=1).mean() / 2


_VIB = Exercise(
    library=vib_loss, reference=_by_moments, gradients=("mu", "logvar"),
    inputs=lambda g: [_gaussian(g, b, d, width) for b, d, width in ((2, 3, 0.0), (5, 4, -2.0), (3, 8, -10.0))],
    naive="the logarithm of an exponential is exact enough for every log-variance that training meets",
    right=(lambda m, w: kl_divergence(Normal(m, (w / 2).exp()), Normal(0, 1)).sum(dim=1).mean(),
           _kl, lambda m, w: _kl(m, w, log_v=lambda x: x.exp().log()),
           lambda m, w: -(1 + w - m.pow(2) - w.exp()).sum() / (2 * len(m))),
    hints=("KL is the mean of log N(z; mu, v) - log N(z; 0, 1) over z from the first. Which moments of z does it need?",
           "E (z - mu)^2 = v and E z^2 = mu^2 + v. The log(2 pi) cancels: (mu^2 + v - 1 - log v) / 2 a dimension.",
           "(mu.square() + logvar.exp() - 1 - logvar) / 2, summed over D, mean over B. Log v is the input itself."),
    misconceptions=(
        Misconception("logarithm of the standard deviation", slips.argument(1, lambda w: 2 * w),
            "exp(logvar) is the variance. In yours it stands for a standard deviation, as in Normal(mu, scale)."),
        Misconception("log-variance halved", slips.argument(1, lambda w: w / 2),
            "That is the slip of the released code: exp(logvar / 2) is sigma, and the formula asks for its square."),
        Misconception("logarithm halved, variance not", lambda m, w: _kl(m, w, log_v=lambda x: x / 2),
            "Your logarithm is log sigma. Take log v, or 2 log sigma: your minimum is not at v = 1."),
        Misconception("half left out", slips.times(2),
            "Twice too much: the exponent of a Gaussian has a half, and log sigma is half of log v."),
        Misconception("sign turned", slips.negated,
            "Your result is negative. A KL divergence never is: it is a price.", says=lambda loss, *_: loss < 0),
        Misconception("mean over the dimensions", _PER_DIMENSION,
            "You averaged over D. The dimensions are independent: their information adds."),
        Misconception("sum over the batch", slips.per_batch,
            "You summed over the batch. Nats a Gaussian are asked for: the mean over B."),
        Misconception("log-variance taken for the variance", lambda m, w: _kl(m, w, v=lambda x: x, log_v=torch.log),
            "You took the logarithm of the log-variance. The input is log v already; v is its exponential."),
        Misconception("variance not exponentiated", lambda m, w: _kl(m, w, v=lambda x: x),
            "You put the log-variance where the variance belongs. Then it cancels, and no width costs anything."),
        Misconception("mean not squared", lambda m, w: (m + w.exp() - 1 - w).sum(dim=1).mean() / 2,
            "Your means are not squared: a negative mean would be rewarded."),
        Misconception("mean left out", slips.argument(0, lambda m: 0 * m),
            "The means are missing. A Gaussian that lies elsewhere is not the standard normal, however wide it is."),
        Misconception("1 left out", slips.plus(lambda m, w: m.shape[1] / 2),
            "At mu = 0 and v = 1 yours is not 0. The 1 comes from E (z - mu)^2 / v."),
        Misconception("entropy left out", lambda m, w: _kl(m, w, log_v=torch.zeros_like),
            "In yours a variance of 0 is the cheapest. A narrow code is precise and costs most: where is -log v?"),
        Misconception("the other direction", lambda m, w: ((m.square() + 1) * (-w).exp() - 1 + w).sum(dim=1).mean() / 2,
            "This is KL(N(0, I) || N(mu, v)). The first argument of KL is what one draws from: here the code."),
        slips.IN_BITS,
    ),
)  # fmt: skip

# Order of the answers: same minimum, same pull on the means, same pull on a narrow variance, wide variances cheaper.
_HALVED = Prediction(
    answer=(True, True, False, True),
    hints=("Write both sums for one dimension, with l for log v, and differentiate them by mu and by l.",
           "By l: (e^l - 1) / 2 and (e^(l/2) - 1) / 4. Where are they 0? At l = -10? Which value is larger at l = 3?",
           "Both are 0 at l = 0; mu^2 is in both. At -10: -1/2 and -1/4. At l > 0, e^(l/2) - l/2 is below e^l - l."),
    misconceptions=(
        Misconception("another minimum", (False, True, False, True),
            "exp(x) - x is smallest at x = 0, and l / 2 = 0 where l = 0. Which Gaussian is that?"),
        Misconception("another pull on the means", (True, False, False, True),
            "The mean enters both sums as mu^2 / 2, and nothing multiplies it. The halving touches l alone."),
        Misconception("the same pull on a narrow variance", (True, True, True, True),
            "One minimum does not make one function. Far below 0 both are straight lines in l: with which slopes?"),
        Misconception("wide variances dearer", (True, True, False, False),
            "Above 0 the exponential decides, and l / 2 is less than l."),
        Misconception("right up to a factor", (True, False, True, False),
            "The released sum is not half of the right one: in it the mean keeps its whole weight."),
        Misconception("nothing is the same", (False, False, False, True),
            "The released one takes sigma for the variance. What is the variance where sigma is 1?"),
    ),
)  # fmt: skip

# ---- 12.3 the integral of p1^2 p2 ------------------------------------------------------------------------------------


def _completed(mu1, logvar1, mu2, logvar2):
    """The exponent a x^2 - b x + c collected and completed, as on paper."""
    u, w = (-logvar1).exp(), (-logvar2).exp() / 2
    a, b, c = u + w, 2 * (u * mu1 + w * mu2), u * mu1**2 + w * mu2**2
    height = -1.5 * LOG_2PI - logvar1 - logvar2 / 2
    return (height + (math.log(math.pi) - a.log()) / 2 + b**2 / (4 * a) - c).sum(dim=1)


def _overlap(mu1, logvar1, mu2, logvar2):
    return _completed(*(x.double() for x in (mu1, logvar1, mu2, logvar2)))  # which carries e^100


def _four(generator):
    sizes = ((3, 1, -1.0, 0.5), (5, 4, 0.0, -1.0), (4, 8, -3.0, -2.5))
    return [(*_gaussian(generator, b, d, w1), *_gaussian(generator, b, d, w2)) for b, d, w1, w2 in sizes]


def _log_normal(m1, m2, log_v):
    return -(LOG_2PI + log_v + (m1 - m2).square() * (-log_v).exp()) / 2


def _log_sum(l1, l2, times=1.0):
    return torch.logaddexp(l1 + math.log(times), l2)  # log(times v1 + v2)


def _square_of_width(times):
    """The right height of p1^2, and times v1 for the variance of the density that it is. (B, D)"""
    return lambda m1, l1, m2, l2: _log_normal(m1, m2, _log_sum(l1, l2, times)) - (LOG_2PI + math.log(2) + l1) / 2


def _of_width(times):
    return lambda *args: _square_of_width(times)(*args).sum(dim=1)


def _of_exponent(exponent):
    """What is left of the formula if `exponent(mu1 - mu2, w)` stands for the distance, with w = log(v1 + 2 v2)."""
    return lambda m1, l1, m2, l2: inclusion(m1, l1, m1, l2) - exponent(m1 - m2, _log_sum(l2, l1, 2)).sum(dim=1)


def _nearer(factor):
    return slips.given(lambda m1, l1, m2, l2: (m1, l1, m1 + factor * (m2 - m1), l2))


_DOUBLED = slips.plus(lambda m1, l1, m2, l2: -(l1 + l2 / 2).sum(dim=1))

_LOG_OVERLAP = Exercise(
    library=inclusion, reference=_overlap, inputs=_four, gradients=("mu1", "logvar1", "mu2", "logvar2"),
    extreme=lambda g: [(*_gaussian(g, 5, 4, 100.0), *_gaussian(g, 5, 4, 95.0))],  # e^100 is no float32
    stability="e^100 is infinite in float32: you need log(v1 + 2 v2) from log v1 and log v2. And divide by nothing "
    "that is infinite: the value survives as 0, its gradient is 0 times infinity, NaN.",
    right=(_of_width(1 / 2), _of_exponent(lambda x, w: (x * (-w / 2).exp()) ** 2),
           lambda m1, l1, m2, l2: -(l1 + F.softplus(l2 - l1 + math.log(2)) / 2 + LOG_2PI + (m1 - m2) ** 2
                                    * (-l1).exp() / (1 + 2 * (l2 - l1).exp())).sum(dim=1)),
    naive=(lambda m1, l1, m2, l2: (Normal(m1, (l1.exp() / 2 + l2.exp()).sqrt(), False).log_prob(m2)
                                   - (4 * math.pi * l1.exp()).log() / 2).sum(dim=1),
           _completed, _of_exponent(lambda x, w: x.square() / w.exp()),
           lambda m1, l1, m2, l2: inclusion(m1, l1, m1, l2) - ((m1 - m2) ** 2 / (
               l1.exp() * (1 + 2 * (l2 - l1).exp()))).sum(dim=1)),
    hints=("The square of a Gaussian density is another one times a number: read off its width, then the number.",
           "p1^2 = N(x; mu1, v1/2) / (2 sqrt(pi v1)), and two densities integrate to N(mu1; mu2, v1/2 + v2).",
           "-log(2 pi) - (logvar1 + w) / 2 - (mu1 - mu2)^2 exp(-w), w = torch.logaddexp(logvar1, logvar2 + log 2)."),
    misconceptions=(
        Misconception("p1 p2^2", _OTHER_WAY,
            "This is the integral of p1 p2^2: the second density is squared. Here the first one counts twice."),
        Misconception("p1 p2", lambda m1, l1, m2, l2: _log_normal(m1, m2, _log_sum(l1, l2)).sum(dim=1),
            "This is the integral of p1 p2, the same whichever comes first. The square tells inner from outer."),
        Misconception("p1^2 p2^2", lambda m1, l1, m2, l2: (_log_normal(m1, m2, _log_sum(l1, l2) - math.log(2))
                                                           - math.log(4 * math.pi) - (l1 + l2) / 2).sum(dim=1),
            "You squared both. Then neither counts more than the other, and the order is lost."),
        Misconception("square not narrower", _of_width(1),
            "You kept the width v1 for the square of p1. The exponent -x^2 / 2v doubles: which v has twice that?"),
        Misconception("square wider", _of_width(2),
            "Your square of p1 is wider than p1. Squaring lowers small values more than large ones."),
        Misconception("standard deviation halved", _of_width(1 / 4),
            "You halved sigma, which makes a quarter of v. The exponent doubles, so the variance is halved."),
        Misconception("height of p1^2 lost", lambda m1, l1, m2, l2: _log_normal(m1, m2, _log_sum(l1, l2, 0.5)).sum(1),
            "You replaced p1^2 by a density. It is one times 1 / (2 sqrt(pi v1)), which is what favours the narrow."),
        Misconception("log(2 pi) left out", slips.plus(lambda m, *_: m.shape[1] * LOG_2PI),
            "Only log(2 pi) a dimension is missing. In a difference it cancels; in the integral it belongs there."),
        Misconception("normaliser doubled, as released", lambda m1, l1, m2, l2: _DOUBLED(inclusion)(m1, l1, m2, l2)
                      + m1.shape[1] * (3 * LOG_2PI - math.log(math.pi)) / 2,
            "This is the released sum, with -2 logvar1 - logvar2. A height holds log sigma, half of a log-variance."),
        Misconception("normaliser doubled", _DOUBLED,
            "Your heights take logvar for log sigma, your exponents for log sigma^2. log N begins with -logvar / 2."),
        Misconception("distance halved", _nearer(math.sqrt(0.5)),
            "Your exponent is half of the right one. It is (mu1 - mu2)^2 over 2 (v1/2 + v2): is the 2 there twice?"),
        Misconception("distance doubled", _nearer(math.sqrt(2)),
            "Your exponent is twice the right one: the half of the Gaussian's exponent is missing."),
        Misconception("distance left out", _nearer(0),
            "The means are not in your result. Two densities that lie far apart hardly overlap."),
        Misconception("distance not squared", _of_exponent(lambda x, w: x.abs() * (-w).exp()),
            "The distance of the means is not squared in your exponent."),
        Misconception("distance with its sign turned", _of_exponent(lambda x, w: -x.square() * (-w).exp()),
            "Yours grows as the means part. An overlap shrinks."),
        Misconception("logarithm of the standard deviation", _LOGVAR_DOUBLED,
            "You took the inputs for logarithms of standard deviations. They are those of variances."),
        Misconception("one number a dimension", _square_of_width(1 / 2),
            "You return (B, D). The dimensions are independent: the logarithm of the integral is a sum over them."),
        Misconception("mean over the dimensions", _PER_DIMENSION,
            "You averaged over D. A product of D integrals has a logarithm that is a sum."),
        Misconception("integral instead of its logarithm", slips.then(torch.exp),
            "This is the integral itself. With a few hundred dimensions it is 0 in float32: keep to logarithms."),
        Misconception("every pair", lambda m1, l1, m2, l2: torch.stack(
                [inclusion(*torch.broadcast_tensors(m, w, m2, l2)) for m, w in zip(m1, l1, strict=True)]),
            "You compared every row with every row. Asked for is one number a pair, (B,): row i with row i."),
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 12.4 what the means can do --------------------------------------------------------------------------------------

_APART_SIGN = Prediction(
    answer="positive",
    hints=("Write H for one dimension as f(v1, v2) + delta^2 g(v1, v2), from 12.3. Which signs have f and g?",
           "g = 1 / (v2 + 2 v1) - 1 / (v1 + 2 v2). Which of the two denominators is larger where v1 < v2?",
           "v1 + 2 v2 is the larger one, so g is positive, as f is. And delta^2 is never negative."),
    misconceptions=(
        Misconception("distance ends inclusion", "negative",
            "That is what inclusion should mean. But H is a difference of two that fall: which one falls faster?"),
        Misconception("distance makes them equal", "zero",
            "Both overlaps go to zero, but H is the logarithm of their ratio. Does the ratio go to 1?"),
    ),
)  # fmt: skip

_APART_SIZE = Prediction(
    answer="grows",
    hints=("Only the term with delta^2 changes. What sign has its factor?",
           "The factor is 1 / (v2 + 2 v1) - 1 / (v1 + 2 v2).",
           "v1 < v2 makes the first denominator the smaller one: the factor is positive, and delta^2 rises."),
    misconceptions=(
        Misconception("distance weakens inclusion", "falls",
            "Both overlaps fall. The one in which the narrow density counts twice falls less."),
        Misconception("the means cancel", "stays",
            "The means cancel only where v1 = v2. Else the two exponents have different denominators."),
    ),
)  # fmt: skip

# Order of the answers: widths that disagree, widths that agree.
_APART_2D = Prediction(
    answer=(True, False),
    hints=("H of two dimensions is a sum, one number a dimension, each with a sign of its own that no mean can change.",
           "Where the signs differ, the sum is a vote with weights. Does a distance change a weight?",
           "A distance in the dimension that says no enlarges its no. Where both say yes, there is no no to enlarge."),
    misconceptions=(
        Misconception("as in one dimension", (False, False),
            "Each term keeps its sign, but not its size. What does a distance do to the term that is negative?"),
        Misconception("the means decide", (True, True),
            "Where both terms are positive, moving the means makes each of them larger. Can their sum get negative?"),
        Misconception("the wrong way round", (False, True),
            "In which of the two cases is there a negative term that a distance could enlarge?"),
    ),
)  # fmt: skip

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
    # One named attribute with u = 0; one with u = keep; one whose code is 1 and which goes.
    few = torch.tensor([[0, 0, 5, 0], [3, 1, 7, 2], [1, 2, 0, 0]])
    return [*made, (few, torch.tensor([[0.9, 0.1, 0, 0.6], [0.5, 0.75, 0, 0.25], [0.4, 0.3, 0.9, 0.1]]), 0.5)]


def _without(at):
    """Say less, with another column, at(codes, u) (B,), for the one that always goes."""
    return lambda c, u, keep: torch.where((u < keep) & ~F.one_hot(at(c, u), c.shape[1]).bool(), c, 0)


_SAY_LESS = Exercise(
    library=say_less, reference=_less_loop, inputs=_captions,
    # Whatever number stands for a mask, it is one mistake.
    view=lambda result, *_: torch.where((1.0 * torch.as_tensor(result) - 4).abs() > 4, -1, torch.as_tensor(result)),
    naive="a choice among whole numbers: there is nothing to round",
    right=(lambda c, u, keep: c * ((u < keep) & (u < (u * (c > 0) - (c == 0).float()).amax(1, True))),),
    hints=("What is kept are the entries of `codes` where u < keep; 0 elsewhere. Which captions come out unchanged?",
           "The named attribute of largest u goes. Give unnamed ones a number below all others before the argmax.",
           "goes = F.one_hot(torch.where(codes > 0, u, -1.0).argmax(dim=1), A).bool(); stay: (u < keep) & ~goes."),
    misconceptions=(
        Misconception("a token for what is gone", lambda c, u, keep: torch.where(say_less(c, u, keep) < c, -1, c),
            "You write a token for what was dropped. No caption of the data looks like that: a variance can count "
            "tokens and say nothing about captions. What does a caption hold that does not name the colour?"),
        Misconception("packs what is left",
            slips.then(lambda kept: kept.gather(1, (kept == 0).long().argsort(dim=1, stable=True))),
            "You moved what is left to the front. A column is an attribute: a shape's number becomes a colour's."),
        Misconception("mask inverted", lambda c, u, keep: c - say_less(c, u, keep),
            "You return what should go, and what should stay is 0. The mask is the wrong way round."),
        Misconception("keeps what should go", slips.argument(2, lambda keep: 1 - keep),
            "You drop with probability `keep`. It is the chance of staying."),
        Misconception("stays above keep", lambda c, u, keep: torch.where(u >= keep, say_less(c, u, 2), 0),
            "Yours keeps what has a u of at least `keep`. Then `keep` is the chance of going."),
        Misconception("drops below keep", lambda c, u, keep: torch.where(u < keep, 0, c),
            "You drop where u < keep: it is the chance of staying. And some captions come out as they went in."),
        Misconception("not proper", lambda c, u, keep: torch.where(u < keep, c, 0),
            "Some of your captions come out as they went in, and nothing is inside itself. Something named must go."),
        Misconception("drops one that was never named", _without(lambda c, u: u.argmax(dim=1)),
            "You drop the largest u of the row, which may not be named: then nothing is gone. Look among the named."),
        Misconception("drops the smallest", _without(lambda c, u: torch.where(c > 0, u, 2.0).argmin(dim=1)),
            "You drop the named attribute of smallest u, and all above `keep` besides. The largest goes first."),
        Misconception("drops the first", _without(lambda c, u: (c > 0).int().argmax(dim=1)),
            "You always drop the first named attribute. The variance would learn which one it was."),
        Misconception("drops the largest code", _without(lambda c, u: c.argmax(dim=1)),
            "You drop the attribute whose code is largest. Codes are names, their size means nothing; chance is in u."),
        Misconception("drops one and no more", slips.left_out(2, 2.0),
            "You drop one attribute and keep all others. `keep` says how far apart the two captions may be."),
        Misconception("one draw for the whole batch", slips.argument(1, lambda u: u[:1].expand_as(u)),
            "You drop the same attributes in all captions of the batch. Each row of u belongs to one caption."),
        Misconception("one draw for the whole caption", lambda c, u, keep: torch.where(u[:, :1] < keep, c, 0),
            "You keep or drop whole captions. Each attribute has its own u."),
        Misconception("as many for all", lambda c, u, keep: torch.where(
                u.argsort(1).argsort(1) < min(round(keep * u.shape[1]), u.shape[1] - 1), c, 0),
            "You keep a fixed number of columns, named or not. The subset may have any size, none included."),
        Misconception("scaled up", lambda c, u, keep: say_less(c, u, keep) / max(keep, 0.1),
            "You divided by keep, as a dropout layer does. Codes are names: twice a colour is another colour."),
        Misconception("truth values", slips.then(lambda kept: kept > 0),
            "You return which attributes are still named. Which values they have is needed too."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "csd": _CSD, "ppcl_loss": _PPCL, "vib_loss": _VIB, "halved": _HALVED, "log_overlap": _LOG_OVERLAP,
    "apart_sign": _APART_SIGN, "apart_size": _APART_SIZE, "apart_2d": _APART_2D, "say_less": _SAY_LESS,
}  # fmt: skip
