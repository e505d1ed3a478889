"""Exercises of lesson 12: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.prolip import csd, inclusion, ppcl_loss, vib_loss

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction

LESSON = "12_prolip"

POINT = 200  # taken off a log-variance, it leaves none


def _gaussian(generator, b, d, width=-1.0):
    return torch.randn(b, d, generator=generator), width + 0.7 * torch.randn(b, d, generator=generator)


def _squares(mu1, mu2):
    return (mu1[:, None] - mu2).square().sum(dim=2)  # (B1, B2)


def _spread(l1, l2, of=torch.exp):
    """Sum over D of of(l1) + of(l2), for every pair. (B1, B2)"""
    return of(l1).sum(dim=1)[:, None] + of(l2).sum(dim=1)


_PER_DIMENSION = slips.times(lambda mu, *_: 1 / mu.shape[1])
_OF_POINTS = slips.given(lambda m1, l1, m2, l2, *rest: (m1, l1 - POINT, m2, l2 - POINT, *rest))

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


def _two_sides(generator):
    sizes = ((2, 3, 4), (5, 4, 3), (4, 4, 4), (1, 6, 8))
    return [(*_gaussian(generator, b1, d), *_gaussian(generator, b2, d)) for b1, b2, d in sizes]


def _by_variable(m1, l1, m2, l2):
    """The difference of two normal variables, asked for its mean and its variance."""
    apart = torch.distributions.Normal(m1[:, None] - m2, (l1.exp()[:, None] + l2.exp()).sqrt())
    return (apart.mean.square() + apart.variance).sum(dim=2)


_CSD = Exercise(
    library=csd, reference=_csd_loop, inputs=_two_sides, gradients=("mu1", "logvar1", "mu2", "logvar2"),
    naive="a sum of squares and variances: nothing overflows that the distance itself does not",
    right=(_by_variable,
           lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2),
           lambda m1, l1, m2, l2: torch.cdist(m1, m2).square() + (l1.exp()[:, None] + l2.exp()).sum(2),
           lambda m1, l1, m2, l2: _spread(m1, m2, torch.square) + _spread(l1, l2) - 2 * torch.einsum("id,jd", m1, m2)),
    hints=(
        "One dimension, one pair: z1 - z2 is a number that varies. What is the mean of its square, if you know its "
        "mean and its variance?",
        "E x^2 = (E x)^2 + Var x, and the variances of independent numbers add, also where the numbers are "
        "subtracted. So each dimension adds (m1 - m2)^2 + v1 + v2.",
        "torch.cdist(mu1, mu2).square() or a difference of mu1[:, None] and mu2, summed over D; then add "
        "logvar1.exp().sum(dim=1)[:, None] and logvar2.exp().sum(dim=1).",
    ),
    misconceptions=(
        Misconception("standard deviations added",
            lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2, lambda x: (x / 2).exp()),
            "You added standard deviations. What adds up for independent numbers is the variance, and only that has "
            "the unit of a squared distance."),
        Misconception("logarithm of the standard deviation",
            slips.given(lambda m1, l1, m2, l2: (m1, 2 * l1, m2, 2 * l2)),
            "You squared exp(logvar), as if the input were the logarithm of a standard deviation. It is that of the "
            "variance already."),
        Misconception("log-variances not exponentiated",
            lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2, lambda x: x),
            "You added logarithms of variances. These can be negative, a variance cannot. What is the variance itself?"),
        Misconception("variances of the first side only",
            slips.argument(3, lambda x: x - POINT),
            "Only the first side varies in your distance. The other end is a sample too."),
        Misconception("variances of the second side only",
            slips.argument(1, lambda x: x - POINT),
            "Only the second side varies in yours. For ranking one gallery that is enough, because a query's own "
            "variance is the same in all of its row; as a distance it is not."),
        Misconception("no variances", _OF_POINTS,
            "This is the distance of the means. Samples lie around their means, and on average that brings them "
            "farther apart and never nearer."),
        Misconception("cosines for distances",
            lambda m1, l1, m2, l2: 2 - 2 * m1 @ m2.T + _spread(l1, l2),
            "2 - 2 mu1.mu2 is the squared distance of vectors of length 1. Here means have any length: "
            "|mu1|^2 + |mu2|^2 - 2 mu1.mu2."),
        Misconception("variances subtracted",
            lambda m1, l1, m2, l2: _squares(m1, m2) + l1.exp().sum(dim=1)[:, None] - l2.exp().sum(dim=1),
            "You took the difference of the variances. The variance of a difference of independent numbers is a sum: "
            "the sign is squared away."),
        Misconception("covariance between the two",
            slips.plus(lambda m1, l1, m2, l2: -2 * (l1 / 2).exp() @ (l2 / 2).exp().T),
            "You took off 2 sigma1 sigma2, the covariance of samples that move in step: the distance of Wasserstein. "
            "Here the two are drawn independently, and two equal Gaussians are not at 0."),
        Misconception("variances halved",
            lambda m1, l1, m2, l2: _squares(m1, m2) + _spread(l1, l2) / 2,
            "Your variances count half. The half stands in the logit, where it halves the distance of the means too."),
        Misconception("mean over the dimensions", _PER_DIMENSION,
            "You averaged over D. A squared distance is a sum over the dimensions."),
        Misconception("not squared", slips.then(torch.sqrt),
            "You took the root. Expected is the squared distance, which has this closed form; the mean of the distance "
            "itself has none so short, and is smaller than your root."),
        Misconception("distance of the means not squared",
            lambda m1, l1, m2, l2: torch.cdist(m1, m2) + _spread(l1, l2),
            "Your distance of the means is a length, your variances are squares of lengths. Only alike units add."),
        Misconception("pairs only",
            lambda m1, l1, m2, l2: ((m1 - m2).square() + l1.exp() + l2.exp()).sum(dim=1),
            "You compared row i with row i. Every row of one side is compared with every row of the other, (B1, B2): "
            "one side needs an axis of its own."),
        Misconception("one number a dimension",
            lambda m1, l1, m2, l2: (m1[:, None] - m2).square() + l1.exp()[:, None] + l2.exp(),
            "You return (B1, B2, D). The dimensions are still to be summed."),
        Misconception("transposed", slips.given(lambda m1, l1, m2, l2: (m2, l2, m1, l1)),
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
            wrong_way = -logit if i == j else logit
            total = total + torch.logaddexp(torch.zeros_like(logit), wrong_way)
    return total / len(d)


def _pairs(generator, b, d, s, bias, width=-3.0):
    (m1, l1), (m2, l2) = _gaussian(generator, b, d, width), _gaussian(generator, b, d, width)
    return F.normalize(m1, dim=1), l1, F.normalize(m2, dim=1), l2, s, bias


def _batches(generator):
    return [_pairs(generator, *sizes) for sizes in ((2, 3, 1.5, 0.5), (5, 4, 4.0, -2.0), (8, 16, 14.3, -5.5))]


def _wide_batches(generator):
    return [_pairs(generator, 4, 4, 100.0, -10.0, 0.5)]  # sigmoid(-500) is 0 in float32


def _logits(m1, l1, m2, l2, s, b):
    return s * (1 - csd(m1, l1, m2, l2) / 2) + b


def _signs(x):
    return 2 * torch.eye(len(x)).to(x) - 1


def _of_logits(loss, logits=_logits):
    """A loss of the six arguments, from one of the table of logits."""
    return lambda *args: loss(logits(*args))


def _sigmoid_loss(logits):
    return -F.logsigmoid(_signs(logits) * logits).sum() / len(logits)


def _of_parts(logits):
    """The loss of the six arguments, from logits of the squares, the variances, s and b."""
    return lambda m1, l1, m2, l2, s, b: _sigmoid_loss(logits(_squares(m1, m2), _spread(l1, l2), s, b))


def _chosen(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)))


_PPCL = Exercise(
    library=ppcl_loss, reference=_ppcl_loop, inputs=_batches, extreme=_wide_batches,
    stability="The sigmoid of a logit that is far on the wrong side is 0 in float32, and log 0 is minus infinity. Some "
    "function takes both steps at once.",
    # For unit means 1 - d / 2 may be written with cosines, so what comes out along the means may differ.
    gradients=("logvar1", "logvar2", "logit_scale", "logit_bias"),
    right=(_of_logits(lambda x: F.binary_cross_entropy_with_logits(x, torch.eye(len(x)).to(x)) * len(x)),
           _of_logits(lambda x: (F.softplus(x).sum() - x.trace()) / len(x)),
           lambda m1, l1, m2, l2, s, b: _sigmoid_loss(s * (m1 @ m2.T - _spread(l1, l2) / 2) + b)),
    naive=(_of_logits(lambda x: -torch.sigmoid(_signs(x) * x).log().sum() / len(x)),
           _of_logits(lambda x: (1 + (-_signs(x) * x).exp()).log().sum() / len(x))),
    hints=(
        "Each of the B x B pairs is a question, do these two belong together? A small distance should say yes. What "
        "stands on the diagonal of the answers?",
        "Logits s (1 - d / 2) + b from the distances of before. Probability of the right answer: sigmoid of the logit "
        "for yes, of minus the logit for no. Multiply by +1 or -1 first.",
        "sign = 2 * torch.eye(B) - 1; -F.logsigmoid(sign * logits), summed over all pairs, divided by B.",
    ),
    misconceptions=(
        Misconception("mean over all pairs", slips.averaged,
            "You divided by B squared. The paper sums over all pairs and divides by B: otherwise the one true pair of "
            "a row would count less and less as the batch grows."),
        Misconception("sum over all pairs", slips.per_batch,
            "Your loss is summed and not divided by B. Nats per image are asked for."),
        Misconception("softmax", _of_logits(_chosen),
            "Your rows are softmaxes. There a constant added to a row changes nothing, so the variance of a picture "
            "could not matter to its own row. Here each pair is a question of its own."),
        Misconception("softmax both ways", _of_logits(lambda x: (_chosen(x) + _chosen(x.T)) / 2),
            "This is the loss of CLIP with distances in place of cosines. Here each pair is a question of its own, "
            "yes or no, with a sigmoid."),
        Misconception("negatives left out", _of_logits(lambda x: -F.logsigmoid(x.diagonal()).mean()),
            "Only the true pairs are in your loss. Say yes to everything, and it is zero."),
        Misconception("all pairs positive", _of_logits(lambda x: -F.logsigmoid(x).sum() / len(x)),
            "Your loss wants every picture to match every caption: the sign for the negatives is missing."),
        Misconception("all signs turned", _of_logits(lambda x: _sigmoid_loss(-x)),
            "Your loss wants the true pairs apart and all others together: +1 belongs on the diagonal."),
        Misconception("0 in place of -1", _of_logits(lambda x: -F.logsigmoid(x * torch.eye(len(x))).sum() / len(x)),
            "You multiply the logits of the negatives by 0. Then each of them costs log 2, whatever it says: the sign "
            "is +1 or -1."),
        Misconception("sigmoid twice",
            _of_logits(lambda x: F.binary_cross_entropy_with_logits(x.sigmoid(), torch.eye(len(x))) * len(x)),
            "That function takes logits and does the sigmoid itself. You gave it probabilities, so it is done twice."),
        Misconception("distance not halved", _of_parts(lambda d, v, s, b: s * (1 - d - v) + b),
            "Your distance is not halved. For means of length 1 the squared distance is 2 - 2 cos: only its half makes "
            "1 - d / 2 a cosine where there is no variance."),
        Misconception("distance not turned into a similarity", _of_parts(lambda d, v, s, b: s * (d + v) / 2 + b),
            "Your logit grows with the distance, so far apart means yes. A similarity falls: 1 - d / 2."),
        Misconception("1 left out of the logit", _of_parts(lambda d, v, s, b: -s * (d + v) / 2 + b),
            "Your logits are s lower: -s d / 2 + b. The bias could learn it, and then its start at -log(B - 1) would "
            "be off by s. With the 1, zero variance gives SigLIP to the letter."),
        Misconception("scale on the distance only", _of_parts(lambda d, v, s, b: 1 - s * (d + v) / 2 + b),
            "Your scale multiplies the distance and not the 1. It belongs before the whole of 1 - d / 2, which stands "
            "where SigLIP has the cosine."),
        Misconception("variances with the wrong sign", _of_parts(lambda d, v, s, b: s * (1 - (d - v) / 2) + b),
            "In your logits a wide Gaussian is near to everything. Variance is part of the distance: it makes a yes "
            "less likely, for all pairs."),
        Misconception("variances left out", _OF_POINTS,
            "Your loss does not see the variances: this is SigLIP."),
        Misconception("variances not scaled", _of_parts(lambda d, v, s, b: s * (1 - d / 2) - v / 2 + b),
            "Your variances are not multiplied by s. They are part of the distance, and the scale counts in distances."),
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
            lambda *a: -F.logsigmoid(_signs(a[0]) * _logits(*a[:5], 0.0) + a[5]).sum() / len(a[0]),
            "The sign belongs before the whole logit, the bias included."),
        slips.SIGN_TURNED,
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 12.2 the price of a code ----------------------------------------------------------------------------------------


def _vib_loop(mu, logvar):
    """E log q - E log p, each a known moment of a Gaussian: cross-entropy minus entropy."""
    total = torch.zeros(()).to(mu)
    for means, logarithms in zip(mu, logvar, strict=True):
        for mean, logarithm in zip(means, logarithms, strict=True):
            cross_entropy = (math.log(2 * math.pi) + logarithm.exp() + mean**2) / 2
            entropy = (math.log(2 * math.pi) + 1 + logarithm) / 2
            total = total + cross_entropy - entropy
    return total / len(mu)


def _codes(generator):
    return [_gaussian(generator, b, d, width) for b, d, width in ((2, 3, 0.0), (5, 4, -2.0), (3, 8, -10.0))]


def _kl(mu, logvar, v=torch.exp, log_v=lambda x: x):
    return (mu.square() + v(logvar) - 1 - log_v(logvar)).sum(dim=1).mean() / 2


def _by_torch(mu, logvar):
    normal = torch.distributions.Normal
    return torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0, 1)).sum(dim=1).mean()


_VIB = Exercise(
    library=vib_loss, reference=_vib_loop, inputs=_codes, gradients=("mu", "logvar"),
    naive="the logarithm of an exponential is exact enough for every log-variance that training meets",
    right=(_by_torch, _kl, lambda m, w: _kl(m, w, log_v=lambda x: x.exp().log()),
           lambda m, w: -(1 + w - m.pow(2) - w.exp()).sum() / (2 * len(m)),
           lambda m, w: ((w / 2).exp().square() + m * m).sum(1).mean() / 2 - (1 + 2 * (w / 2)).sum(1).mean() / 2),
    hints=(
        "KL is the mean of log N(z; mu, v) - log N(z; 0, 1) over z from the first. Write both logarithms in one "
        "dimension: which two moments of z do you need?",
        "E (z - mu)^2 = v and E z^2 = mu^2 + v. The log(2 pi) cancels, and (mu^2 + v - 1 - log v) / 2 is left. The "
        "dimensions are independent: they add.",
        "(mu.square() + logvar.exp() - 1 - logvar) / 2, summed over D, mean over B. The last term is the input itself.",
    ),
    misconceptions=(
        Misconception("logarithm of the standard deviation", slips.argument(1, lambda w: 2 * w),
            "Your variance is exp(2 logvar): exp(logvar) stands where a standard deviation belongs. It is the variance "
            "already. (Normal(mu, scale) asks for the standard deviation.)"),
        Misconception("log-variance halved", slips.argument(1, lambda w: w / 2),
            "You halved the log-variance first and then used exp of it as a variance. That is the slip of the released "
            "code: exp(logvar / 2) is the standard deviation, and the formula asks for the variance."),
        Misconception("logarithm halved, variance not", lambda m, w: _kl(m, w, log_v=lambda x: x / 2),
            "Your logarithm is that of the standard deviation. Either log v, or 2 log sigma. Your minimum is not at "
            "v = 1."),
        Misconception("half left out", slips.times(2),
            "Twice too much: the exponent of a Gaussian has a half, and log sigma is half of log v."),
        Misconception("sign turned", slips.negated,
            "Your result is negative. A KL divergence never is: it is 0 where the two are one, and a price elsewhere.",
            says=lambda loss, *_: loss < 0),
        Misconception("mean over the dimensions", _PER_DIMENSION,
            "You averaged over D. The dimensions are independent: their information adds."),
        Misconception("sum over the batch", slips.per_batch,
            "You summed over the batch. Nats a Gaussian are asked for: the mean over B."),
        Misconception("one number a Gaussian", lambda m, w: (m.square() + w.exp() - 1 - w).sum(dim=1) / 2,
            "You return (B,), a price for each Gaussian. Asked for is their mean."),
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
            "Nothing in yours keeps the variance from 0, which would be the cheapest. In truth a narrow code is a "
            "precise one and costs most: where is -log v?"),
        Misconception("the other direction",
            lambda m, w: ((m.square() + 1) * (-w).exp() - 1 + w).sum(dim=1).mean() / 2,
            "This is KL(N(0, I) || N(mu, v)). The bottleneck averages over the code's own samples: the first argument "
            "of KL is what one draws from."),
        slips.IN_BITS,
    ),
)  # fmt: skip

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
        Misconception("another minimum", (False, True, False, True),
            "exp(x) - x is smallest at x = 0, and l / 2 = 0 where l = 0. Which Gaussian is that?"),
        Misconception("another pull on the means", (True, False, False, True),
            "The mean enters both sums as mu^2 / 2, and nothing multiplies it. The halving touches l alone."),
        Misconception("the same pull on a narrow variance", (True, True, True, True),
            "One minimum does not make one function. Far below 0 both are straight lines in l: with which slopes?"),
        Misconception("wide variances dearer", (True, True, False, False),
            "Above 0 the exponential decides, and l / 2 is less than l."),
        Misconception("right up to a factor", (True, False, True, False),
            "The released sum is not half of the right one: the mean keeps its whole weight, so the balance between "
            "mean and variance changes."),
        Misconception("nothing is the same", (False, False, False, True),
            "Both are KL divergences: the released one takes the standard deviation for the variance. What is the "
            "variance where the standard deviation is 1?"),
    ),
)  # fmt: skip

# ---- 12.3 the integral of p1^2 p2 ------------------------------------------------------------------------------------


def _by_completion(mu1, logvar1, mu2, logvar2):
    """The exponent a x^2 - b x + c collected and completed, as on paper."""
    u, w = (-logvar1).exp(), (-logvar2).exp() / 2
    a, b, c = u + w, 2 * (u * mu1 + w * mu2), u * mu1**2 + w * mu2**2
    height = -1.5 * math.log(2 * math.pi) - logvar1 - logvar2 / 2
    return (height + (math.log(math.pi) - a.log()) / 2 + b**2 / (4 * a) - c).sum(dim=1)


def _overlap(mu1, logvar1, mu2, logvar2):
    return _by_completion(*(x.double() for x in (mu1, logvar1, mu2, logvar2)))  # which carries e^100


def _four(generator):
    made = [(*_gaussian(generator, b, d, w1), *_gaussian(generator, b, d, w2))
            for b, d, w1, w2 in ((3, 1, -1.0, 0.5), (5, 4, 0.0, -1.0), (4, 8, -3.0, -2.5))]  # fmt: skip
    mean, logvar = _gaussian(generator, 2, 3, -2.0)
    return [*made, (mean, logvar, mean + 0.1, logvar)]


def _hundred(generator):
    (m1, l1), (m2, l2) = _gaussian(generator, 5, 4, 100.0), _gaussian(generator, 5, 4, 95.0)  # e^100 is no float32
    return [(m1, l1, m2, l2)]


def _log_normal(m1, m2, log_v):
    return -(math.log(2 * math.pi) + log_v + (m1 - m2).square() * (-log_v).exp()) / 2


def _summed(l1, l2, times=1.0):
    """log(times v1 + v2)"""
    return torch.logaddexp(l1 + math.log(times), l2)


def _wide(l1, l2):
    return torch.logaddexp(l1, l2 + math.log(2))  # log(v1 + 2 v2)


def _square_of_width(times):
    """The right height of p1^2, and times v1 for the variance of the density that it is."""
    return lambda m1, l1, m2, l2: (
        _log_normal(m1, m2, _summed(l1, l2, times)) - (math.log(4 * math.pi) + l1) / 2
    ).sum(dim=1)


def _of_exponent(exponent, right=math.log(2 * math.pi)):
    """What is left of the formula if `exponent(mu1 - mu2, w)` stands for the distance."""
    return lambda m1, l1, m2, l2: -(right + (l1 + _wide(l1, l2)) / 2 + exponent(m1 - m2, _wide(l1, l2))).sum(dim=1)


def _through_variances(m1, l1, m2, l2):
    v1, v2 = l1.exp(), l2.exp()
    return -((4 * math.pi * v1).log() / 2 + (math.pi * (v1 + 2 * v2)).log() / 2 + (m1 - m2) ** 2 / (v1 + 2 * v2)).sum(1)


def _as_released(constant):
    def wrong(m1, l1, m2, l2):
        return _by_completion(m1, l1, m2, l2) - (l1 + l2 / 2 + constant).sum(dim=1)

    return wrong


def _nearer(factor):
    return slips.given(lambda m1, l1, m2, l2: (m1, l1, m1 + factor * (m2 - m1), l2))


_LOG_OVERLAP = Exercise(
    library=inclusion, reference=_overlap, inputs=_four, extreme=_hundred,
    gradients=("mu1", "logvar1", "mu2", "logvar2"),
    stability="e^100 is infinite in float32: you need log(v1 + 2 v2) from log v1 and log v2. And divide by nothing that "
    "is infinite: the value survives as 0, its gradient is 0 times infinity, NaN.",
    right=(_square_of_width(1 / 2), _of_exponent(lambda x, w: x.square() * (-w).exp()),
           _of_exponent(lambda x, w: (x * (-w / 2).exp()) ** 2),
           lambda m1, l1, m2, l2: -(l1 + F.softplus(l2 - l1 + math.log(2)) / 2 + math.log(2 * math.pi) + (m1 - m2) ** 2
                                    * (-l1).exp() / (1 + 2 * (l2 - l1).exp())).sum(1),
           lambda *a: _through_variances(*(x.double() for x in a))),
    naive=(_through_variances, _by_completion, _of_exponent(lambda x, w: x.square() / w.exp()),
           lambda m1, l1, m2, l2: inclusion(m1, l1, m1, l2) - ((m1 - m2) ** 2 / (
               l1.exp() * (1 + 2 * (l2 - l1).exp()))).sum(1)),
    hints=(
        "One dimension. The square of a Gaussian density is again a Gaussian density times a number: read off its "
        "width, then what the number must be.",
        "p1^2 = N(x; mu1, v1/2) / (2 sqrt(pi v1)), and two densities integrate to N(mu1; mu2, v1/2 + v2). The "
        "logarithm of an integral over D independent dimensions is a sum.",
        "With w = torch.logaddexp(logvar1, logvar2 + log 2), the logarithm of v1 + 2 v2 which cannot overflow, each "
        "dimension gives -(log(2 pi) + (logvar1 + w) / 2 + (mu1 - mu2)^2 exp(-w)).",
    ),
    misconceptions=(
        Misconception("p1 p2^2", slips.given(lambda m1, l1, m2, l2: (m2, l2, m1, l1)),
            "This is the integral of p1 p2^2: the second density is squared. Here the first one counts twice."),
        Misconception("p1 p2", lambda m1, l1, m2, l2: _log_normal(m1, m2, _summed(l1, l2)).sum(dim=1),
            "This is the integral of p1 p2, which is the same whichever comes first. It takes the square to tell the "
            "inner one from the outer one."),
        Misconception("p1^2 p2^2",
            lambda m1, l1, m2, l2: (_log_normal(m1, m2, _summed(l1, l2) - math.log(2))
                                    - (2 * math.log(4 * math.pi) + l1 + l2) / 2).sum(dim=1),
            "You squared both. Then neither counts more than the other, and the order is lost."),
        Misconception("square not narrower", _square_of_width(1),
            "You kept the width v1 for the square of p1. Squaring doubles the exponent, and the exponent is divided by "
            "2 v: which v has twice the exponent?"),
        Misconception("square wider", _square_of_width(2),
            "Your square of p1 is wider than p1. Squaring lowers the small values more than the large ones, so the "
            "hill gets narrower."),
        Misconception("standard deviation halved", _square_of_width(1 / 4),
            "You halved the standard deviation, which makes a quarter of the variance. The exponent doubles, so the "
            "variance is halved."),
        Misconception("height of the square left out",
            lambda m1, l1, m2, l2: _log_normal(m1, m2, _summed(l1, l2, 1 / 2)).sum(dim=1),
            "You replaced p1^2 by a density. It is one times a number: its integral is 1 / (2 sqrt(pi v1)), large where "
            "p1 is narrow, and that is what makes the narrow one the inner one."),
        Misconception("log(2 pi) left out", slips.plus(lambda m, *_: m.shape[1] * math.log(2 * math.pi)),
            "Only the constant is missing, log(2 pi) a dimension. In a difference it cancels; as the logarithm of an "
            "integral it belongs there."),
        Misconception("normaliser doubled, as released", _as_released((math.log(math.pi) - 3 * math.log(2 * math.pi)) / 2),
            "This is the released code's sum, without its constants and with -2 logvar1 - logvar2 in front. The height "
            "of a density holds log sigma, half of the log-variance, so that is -logvar1 - logvar2 / 2."),
        Misconception("normaliser doubled", _as_released(0.0),
            "In your heights the log-variance stands for log sigma, in your exponents for log sigma^2. One density has "
            "one width: log N begins with -logvar / 2."),
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
        Misconception("logarithm of the standard deviation",
            slips.given(lambda m1, l1, m2, l2: (m1, 2 * l1, m2, 2 * l2)),
            "You took the inputs for logarithms of standard deviations. They are those of variances."),
        Misconception("one number a dimension",
            lambda m1, l1, m2, l2: _log_normal(m1, m2, _summed(l1, l2, 1 / 2)) - (math.log(4 * math.pi) + l1) / 2,
            "You return (B, D). The densities are products over D independent dimensions, so the logarithm of the "
            "integral is a sum over them."),
        Misconception("mean over the dimensions", _PER_DIMENSION,
            "You averaged over D. A product of D integrals has a logarithm that is a sum."),
        Misconception("integral instead of its logarithm", slips.then(torch.exp),
            "This is the integral itself. With a few hundred dimensions it is 0 in float32: keep to logarithms."),
        Misconception("every pair",
            lambda m1, l1, m2, l2: torch.stack([inclusion(*torch.broadcast_tensors(m, l, m2, l2))
                                                for m, l in zip(m1, l1, strict=True)]),
            "You compared every row with every row. Asked for is one number a pair, (B,): row i with row i."),
        Misconception("sign turned", slips.negated,
            "Your sign is turned: what is asked for is log of the integral, not minus that."),
        slips.IN_BITS,
    ),
)  # fmt: skip

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
        Misconception("distance ends inclusion", "negative",
            "That is what inclusion should mean. But both logarithms fall as the means part, and H is their "
            "difference. Which of the two falls faster?"),
        Misconception("distance makes them equal", "zero",
            "Both overlaps go to zero, but H is the difference of their logarithms, which is the logarithm of a ratio. "
            "Does the ratio go to 1?"),
    ),
)  # fmt: skip

_APART_SIZE = Prediction(
    answer="grows",
    hints=(
        "Only the term with delta^2 changes. What sign has its factor?",
        "The factor is 1 / (v2 + 2 v1) - 1 / (v1 + 2 v2).",
        "v1 < v2 makes the first denominator the smaller one: the factor is positive, and delta^2 rises.",
    ),
    misconceptions=(
        Misconception("distance weakens inclusion", "falls",
            "Both overlaps fall. The one in which the narrow density counts twice falls less: it has only to reach "
            "the wide one's tail once."),
        Misconception("the means cancel", "stays",
            "The means cancel only where v1 = v2. Else the two exponents have different denominators."),
    ),
)  # fmt: skip

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
        Misconception("as in one dimension", (False, False),
            "Each term keeps its sign, but not its size. What does a distance in the second dimension do to the term "
            "that is negative?"),
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
    # One named attribute with u = 0, and one with u = keep.
    return [*made, (torch.tensor([[0, 0, 5, 0], [3, 1, 7, 2]]), torch.tensor([[0.9, 0.1, 0, 0.6], [0.5, 0.75, 0, 0.25]]), 0.5)]


def _without(codes, u, keep, at):
    """Say less, with the column at (B,) for the one that always goes."""
    return torch.where((u < keep) & ~F.one_hot(at, codes.shape[1]).bool(), codes, 0)


def _largest(codes, u):
    return F.one_hot(torch.where(codes > 0, u, -1.0).argmax(dim=1), codes.shape[1]).bool()


def _masked(codes, u, keep, token=-1):
    return torch.where((say_less(codes, u, keep) == 0) & (codes > 0), token, codes)


def _packed(kept):
    return kept.gather(1, (kept == 0).long().argsort(dim=1, stable=True))


def _any_token(result, codes, u, keep):
    """Whatever number stands for a mask, it is one mistake."""
    result = torch.as_tensor(result)
    return result if result.is_floating_point() else torch.where((result < 0) | (result > 8), -1, result.long())


def _as_many(codes, u, keep):
    return torch.where(u.argsort(1).argsort(1) < min(round(keep * u.shape[1]), u.shape[1] - 1), codes, 0)


_SAY_LESS = Exercise(
    library=say_less, reference=_less_loop, inputs=_captions, view=_any_token,
    naive="a choice among whole numbers: there is nothing to round",
    right=(lambda c, u, keep: c * ((u < keep) & (u < (u * (c > 0) - (c == 0).float()).amax(1, True))),
           lambda c, u, keep: c.masked_fill((u >= keep) | _largest(c, u), 0)),
    hints=(
        "What is kept are the entries of `codes` where u < keep; 0 elsewhere. Which captions come out as they went in?",
        "The named attribute of largest u goes in any case. An unnamed one must not win that, so give those a number "
        "below all others before you take the argmax along the caption.",
        "goes = F.one_hot(torch.where(codes > 0, u, -1.0).argmax(dim=1), A).bool(); then torch.where((u < keep) & "
        "~goes, codes, 0).",
    ),
    misconceptions=(
        Misconception("a token for what is gone", _masked,
            "You write a token where an attribute was dropped. No caption of the data looks like that: its variance can "
            "count tokens and say nothing about captions. What does a caption hold that does not name the colour?"),
        Misconception("packs what is left", slips.then(_packed),
            "You moved what is left to the front. A column is an attribute: there the number of a shape becomes that "
            "of a colour. Deleting words works that way, codes stay in their places."),
        Misconception("mask inverted", lambda c, u, keep: c - say_less(c, u, keep),
            "You return what should go, and what should stay is 0. The mask is the wrong way round."),
        Misconception("keeps what should go", slips.argument(2, lambda keep: 1 - keep),
            "You drop with probability `keep`. It is the chance of staying."),
        Misconception("stays above keep", lambda c, u, keep: torch.where((u >= keep) & ~_largest(c, u), c, 0),
            "Yours keeps what has a u of at least `keep`. Then `keep` is the chance of going."),
        Misconception("drops below keep", lambda c, u, keep: torch.where(u < keep, 0, c),
            "You drop where u < keep, so that `keep` is the chance of going. And some captions come out as they went "
            "in."),
        Misconception("not proper", lambda c, u, keep: torch.where(u < keep, c, 0),
            "Some of your captions come out as they went in. Then the loss asks a Gaussian to be inside itself, which "
            "it cannot be: it costs log 2 a dimension and teaches nothing. Something named has to go."),
        Misconception("drops one that was never named", lambda c, u, keep: _without(c, u, keep, u.argmax(dim=1)),
            "You drop the largest u of the row, and that attribute may not be named at all: then nothing is gone. Look "
            "among the named ones."),
        Misconception("drops the smallest",
            lambda c, u, keep: _without(c, u, keep, torch.where(c > 0, u, 2.0).argmin(dim=1)),
            "You drop the named attribute of smallest u. Then it is seldom that one alone is gone: the smallest goes "
            "and all above `keep` besides. The largest is the one that goes first."),
        Misconception("drops the first", lambda c, u, keep: _without(c, u, keep, (c > 0).int().argmax(dim=1)),
            "You always drop the first named attribute. Then one attribute goes more often than the others, and the "
            "variance learns which one it was."),
        Misconception("drops the largest code", lambda c, u, keep: _without(c, u, keep, c.argmax(dim=1)),
            "You drop the attribute whose code is largest. Codes are names, their size means nothing; chance is in u."),
        Misconception("drops one and no more", slips.left_out(2, 2.0),
            "You drop one attribute and keep all others. Then the loss compares neighbours only; `keep` says how far "
            "apart the two captions may be."),
        Misconception("keeps the largest alone", lambda c, u, keep: torch.where((u < keep) & _largest(c, u), c, 0),
            "You keep the attribute of largest u, if it is below `keep`, and nothing else. That is the one that goes."),
        Misconception("one condition is enough", lambda c, u, keep: torch.where((u < keep) | ~_largest(c, u), c, 0),
            "Yours stays if one of the two conditions holds. Both have to: u < keep, and not the largest."),
        Misconception("one draw for the whole batch", slips.argument(1, lambda u: u[:1].expand_as(u)),
            "You drop the same attributes in all captions of the batch. Each row of u belongs to one caption."),
        Misconception("one draw for the whole caption", lambda c, u, keep: torch.where(u[:, :1] < keep, c, 0),
            "You keep or drop whole captions. Each attribute has its own u."),
        Misconception("as many for all", _as_many,
            "You keep a fixed number of columns, named or not. Each named attribute stays with its own chance: the "
            "subset may have any size, none included."),
        Misconception("scaled up", lambda c, u, keep: say_less(c, u, keep) / max(keep, 0.1),
            "You divided by keep, as a dropout layer does. Codes are names: twice a colour is another colour."),
        Misconception("truth values", slips.then(lambda kept: kept > 0),
            "You return which attributes are still named. Which values they have is needed too."),
    ),
)  # fmt: skip

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
}
