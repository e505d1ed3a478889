"""Exercises of lesson 04: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.hypersphere import alignment, uniformity

from . import _slips as slips
from ._exercise import Exercise, Invariance, Misconception, Prediction
from ._inputs import unit

LESSON = "04_hypersphere"

# ---- 4.1 alignment ---------------------------------------------------------------------------------------------------


def _alignment_loop(x, y, alpha):
    return torch.stack([torch.linalg.vector_norm(a - b) ** alpha for a, b in zip(x, y, strict=True)]).mean()


def _views(generator):
    shapes = ((1, 3, 2.0), (4, 5, 1.0), (7, 4, 3.0), (5, 8, 2.0))
    free = (torch.randn(3, 6, generator=generator), torch.randn(3, 6, generator=generator), 1.5)  # no unit vectors
    return [*((unit(generator, b, d), unit(generator, b, d), a) for b, d, a in shapes), free]


def _coinciding(generator):
    x = unit(generator, 4, 5)
    y = torch.cat([x[:2], unit(generator, 2, 5)])
    return [(x, y, 1.0), (x, y, 2.0)]


def _distance(x, y):
    return (x - y).norm(dim=1)


_ALIGNMENT = Exercise(
    library=alignment, reference=_alignment_loop, inputs=_views, extreme=_coinciding,
    stability="Where two views coincide, a square root of a sum of squares has an infinite slope and its gradient is "
    "NaN. torch's own norm has 0 there.",
    gradients=("x", "y"),
    right=(lambda x, y, alpha: _distance(x, y).pow(alpha).mean(),
           lambda x, y, alpha: F.pairwise_distance(x, y, eps=0.0).pow(alpha).mean(),
           lambda x, y, alpha: sum(torch.dist(a, b) ** alpha for a, b in zip(x, y, strict=True)) / len(x)),
    naive=(lambda x, y, alpha: ((x - y) ** 2).sum(dim=1).sqrt().pow(alpha).mean(),),
    hints=(
        "One number for each pair first: how far is row i of x from row i of y?",
        "A distance is the root of a sum over the D coordinates. It is raised to alpha, then averaged over the pairs.",
        "(x - y).norm(dim=1).pow(alpha).mean()",
    ),
    misconceptions=(
        slips.summed("the pairs"),
        Misconception("power taken after the mean", lambda x, y, alpha: _distance(x, y).mean() ** alpha,
            "You raised the mean distance to alpha. The mean is over powers: a pair that is far off should cost more."),
        Misconception("alpha left out", slips.left_out(2, 1.0),
            "Your loss does not depend on alpha: it is the mean distance itself."),
        Misconception("always squared", slips.left_out(2, 2.0),
            "Your loss does not depend on alpha: it is the mean squared distance, right for alpha = 2."),
        Misconception("mean over coordinates too",
            lambda x, y, alpha: (x - y).square().mean(dim=1).pow(alpha / 2).mean(),
            "You averaged over the D coordinates as well. A squared distance is their sum: for unit vectors it must "
            "be 2 - 2 cos, whatever D is."),
        Misconception("power twice", slips.argument(2, lambda a: 2 * a),
            "You took the squared distance to the power alpha: the root is missing."),
        Misconception("power of each coordinate", lambda x, y, alpha: (x - y).abs().pow(alpha).sum(dim=1).mean(),
            "You raised each coordinate's difference to alpha. The power is of the Euclidean distance."),
        Misconception("all pairs", lambda x, y, alpha: torch.cdist(x, y).pow(alpha).mean(),
            "You averaged over all B x B pairs. Only row i of x and row i of y are views of one picture."),
        Misconception("sign turned", slips.negated,
            "Your loss is negative: training would drive partners apart.", says=lambda r, *_: r < 0),
        slips.normalises_inside(0, 1),
    ),
)  # fmt: skip

# ---- 4.2 uniformity --------------------------------------------------------------------------------------------------


def _uniformity_loop(x, t):
    logs = [-t * (x[i] - x[j]).square().sum() for i in range(len(x)) for j in range(i)]
    return torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs))


def _crowds(generator):
    shapes = ((2, 3, 1.0), (5, 4, 2.0), (9, 3, 0.5), (6, 8, 3.0))
    return [*((unit(generator, b, d), t) for b, d, t in shapes), (1.5 * torch.randn(5, 3, generator=generator), 0.3)]


def _sharp(generator):
    return [(unit(generator, 6, 12), 400.0), (torch.cat([unit(generator, 3, 4), -unit(generator, 1, 4)]), 300.0)]


def _squared(x):
    return (x[:, None] - x).square().sum(dim=2)


def _pairs_of(x):
    return _squared(x)[torch.triu(torch.ones(len(x), len(x), dtype=torch.bool), diagonal=1)]


def _of_pairs(loss):
    """A loss of x and t, from one of the squared distances of distinct pairs and t."""
    return lambda x, t: loss(_pairs_of(x), t)


def _log_mean_exp(v):
    return torch.logsumexp(v, dim=0) - math.log(len(v))


_UNIFORMITY = Exercise(
    library=uniformity, reference=_uniformity_loop, inputs=_crowds, extreme=_sharp,
    stability="For t = 400 every exponential is 0 in float32. Some function takes the logarithm of a sum of "
    "exponentials in one go.",
    gradients=("x",),
    right=(_of_pairs(lambda d, t: _log_mean_exp(-t * d)),
           lambda x, t: _log_mean_exp(-t * torch.pdist(x).square()),
           lambda x, t: (-t * _squared(x)).masked_fill(torch.eye(len(x), dtype=torch.bool), -math.inf).flatten()
           .logsumexp(0) - math.log(len(x) * (len(x) - 1))),
    naive=(_of_pairs(lambda d, t: (-t * d).exp().mean().log()),
           lambda x, t: torch.pdist(x).pow(2).mul(-t).exp().mean().log()),
    hints=(
        "B vectors have B (B - 1) / 2 pairs. torch.pdist gives the distance of each, once.",
        "Exponents first: -t times the squared distance. Then the logarithm of the mean of their exponentials.",
        "e = -t * torch.pdist(x).square(); torch.logsumexp(e, dim=0) - math.log(len(e)).",
    ),
    misconceptions=(
        Misconception("pairs with itself", lambda x, t: _log_mean_exp((-t * _squared(x)).flatten()),
            "Your mean counts every vector's pair with itself, at distance 0. Those B pairs do not depend on the "
            "encoder, and they keep the measure above -log B."),
        Misconception("logarithm before the mean", _of_pairs(lambda d, t: -t * d.mean()),
            "You averaged the exponents. Then two crowds at opposite poles are as good as an even spread: the mean "
            "squared distance cannot tell. The mean is over exponentials, the logarithm comes last."),
        Misconception("logarithm forgotten", slips.then(torch.exp),
            "Your number lies between 0 and 1: it is the mean potential, and the logarithm is missing.",
            says=lambda r, *_: 0 < r <= 1),
        Misconception("sum instead of mean", _of_pairs(lambda d, t: torch.logsumexp(-t * d, dim=0)),
            "You took the logarithm of the sum over pairs. It grows with the batch; divide by the number of pairs."),
        Misconception("divided by all B x B pairs",
            lambda x, t: uniformity(x, t) + math.log((len(x) - 1) / len(x)),
            "You summed over distinct pairs and divided as if there were B x B of them, or half as many."),
        Misconception("distance not squared", lambda x, t: _log_mean_exp(-t * torch.pdist(x)),
            "Your exponent has the distance. A Gaussian has its square."),
        Misconception("divides by t", slips.inverted(1),
            "A larger t should make the measure look closer; yours looks further. t multiplies the squared distance."),
        Misconception("t left out", slips.left_out(1, 1.0), "Your measure does not depend on t."),
        Misconception("t doubled", slips.argument(1, lambda t: 2 * t),
            "Your exponent is twice as large as asked for: -t times the squared distance, without a factor of 2."),
        Misconception("t halved", slips.argument(1, lambda t: t / 2),
            "Your exponent is half as large as asked for, as in a Gaussian density. Here it is -t times the square."),
        Misconception("sign of the exponent", lambda x, t: _log_mean_exp(t * torch.pdist(x).square()),
            "Your measure grows as vectors move apart, so training would collapse them.", says=lambda r, *_: r > 0),
        Misconception("sign turned", slips.negated,
            "Your measure is positive and grows as vectors spread. It is a loss: it should fall.",
            says=lambda r, *_: r > 0),
        Misconception("mean over coordinates", lambda x, t: uniformity(x, t / x.shape[1]),
            "You averaged the squared differences over the coordinates. A squared distance is their sum."),
        slips.IN_BITS,
        slips.normalises_inside(0),
    ),
)  # fmt: skip

# ---- 4.3 the limit ---------------------------------------------------------------------------------------------------


def limit_of_infonce(positive: Tensor, others: Tensor, temperature: float) -> Tensor:
    """L_inf of (3) for a world of K pictures. x.y (B,), x.x' (B, K), tau -> nats"""
    log_potential = torch.logsumexp(others / temperature, dim=1) - math.log(others.shape[1])
    return (log_potential - positive / temperature).mean()


def _limit_loop(positive, others, temperature):
    total = torch.zeros(()).to(positive)
    for p, row in zip(positive, others, strict=True):
        total = total + torch.stack([(o - p) / temperature for o in row]).logsumexp(0) - math.log(len(row))
    return total / len(positive)


def _worlds(generator):
    shapes = ((1, 3, 1.0), (4, 6, 0.5), (3, 20, 0.2))
    return [
        (torch.rand(b, generator=generator), 2 * torch.rand(b, k, generator=generator) - 1, t) for b, k, t in shapes
    ]


def _cold_worlds(generator):
    positive, others = torch.rand(3, generator=generator), 2 * torch.rand(3, 8, generator=generator) - 1
    others[0] = 0.95 + 0.05 * others[0]
    others[1] = others[1] / 20 - 0.95
    return [(positive, others, 0.01)]


_LIMIT = Exercise(
    library=limit_of_infonce, reference=_limit_loop, inputs=_worlds, extreme=_cold_worlds,
    stability="At a temperature of 0.01 the exponents reach 100. Take the logarithm of the sum in one go, row by row.",
    gradients=("positive", "others"),
    right=(lambda p, o, t: (o / t).logsumexp(1).mean() - math.log(o.shape[1]) - p.mean() / t,
           lambda p, o, t: ((o - p[:, None]) / t).logsumexp(1).mean() - math.log(o.shape[1])),
    naive=(lambda p, o, t: (o / t).exp().mean(1).log().mean() - p.mean() / t,
           lambda p, o, t: ((o - o.max()) / t).exp().mean(1).log().mean() + o.max() / t - p.mean() / t),
    hints=(
        "Two means over x: one of minus the cosine over tau, one of a logarithm.",
        "The potential of x is a mean over its row, so it takes a division by K, and the logarithm of it comes before "
        "the mean over x.",
        "(torch.logsumexp(others / tau, dim=1) - math.log(K) - positive / tau).mean()",
    ),
    misconceptions=(
        Misconception("sum instead of potential", lambda p, o, t: ((o / t).logsumexp(1) - p / t).mean(),
            "Your potential is a sum over the K others. It is a mean: the log M that was subtracted went there."),
        Misconception("logarithm outside", lambda p, o, t: _log_mean_exp((o / t).flatten()) - p.mean() / t,
            "You took one logarithm of the mean over all pairs. That is the bound (6); in (3) every x has its own."),
        Misconception("the slide's sign", lambda p, o, t: -((o / t).logsumexp(1) - math.log(o.shape[1]) + p / t).mean(),
            "You have minus the logarithm, as on the slide. A crowd must cost: the second term enters with a plus."),
        Misconception("sign of the first term",
            lambda p, o, t: ((o / t).logsumexp(1) - math.log(o.shape[1]) + p / t).mean(),
            "Your loss grows when partners come closer."),
        Misconception("temperature on the first term only",
            lambda p, o, t: (o.logsumexp(1) - math.log(o.shape[1]) - p / t).mean(),
            "You divide the partner's cosine by tau and not those of the others."),
        Misconception("temperature outside the exponential",
            lambda p, o, t: (o.logsumexp(1) - math.log(o.shape[1]) - math.log(t) - p / t).mean(),
            "This is the slip of the slide: exp(...)/tau. The temperature divides the cosine, inside the exponential."),
        Misconception("temperature left out", slips.left_out(2, 1.0), "Your loss does not depend on the temperature."),
        Misconception("multiplies by the temperature", slips.inverted(2),
            "A low temperature should sharpen the potential, yours flattens it: cosines are divided by tau."),
        Misconception("partner among the others",
            lambda p, o, t: (torch.cat([p[:, None], o], 1) / t).logsumexp(1).mean() - math.log(o.shape[1])
            - p.mean() / t,
            "Your denominator has the partner in it. Its share is of order 1/M and is gone in the limit."),
        Misconception("logarithm before the mean", lambda p, o, t: (o.mean(1) - p).mean() / t,
            "You averaged the exponents over the others. The potential is a mean of exponentials."),
        slips.summed("the x"),
        Misconception("sign turned", slips.negated,
            "The sign of the whole is turned: training would drive partners apart and others together."),
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 4.4 the bias ----------------------------------------------------------------------------------------------------


def bias_constant(positive: Tensor, others: Tensor, temperature: float) -> Tensor:
    """The constant of (4), so that L_M - log M is L_inf + constant / M. x.y (B,), x.x' (B, K), tau -> a number"""
    log_k = math.log(others.shape[1])
    log_p = torch.logsumexp(others / temperature, dim=1) - log_k  # (B,)
    second = torch.logsumexp(2 * others / temperature, dim=1) - log_k  # (B,) of the mean square
    return ((positive / temperature - log_p).exp() - ((second - 2 * log_p).exp() - 1) / 2).mean()


def _bias_loop(positive, others, temperature):
    total = torch.zeros(()).to(positive)
    for p, row in zip(positive, others, strict=True):
        e = ((row - row.max()) / temperature).exp()
        a, mean = ((p - row.max()) / temperature).exp(), e.mean()
        total = total + a / mean - (e - mean).square().mean() / (2 * mean**2)
    return total / len(positive)


def _cold_pairs(generator):
    others = 0.92 + 0.08 * torch.rand(3, 8, generator=generator)
    low = -0.92 - 0.08 * torch.rand(3, 8, generator=generator)
    return [(others[:, 0] + 0.002, others, 0.01), (low[:, 0] + 0.002, low, 0.01)]


def _bias_of(number):
    """A constant of the arguments, from one of a, P and V, each (B,)."""

    def of(p, o, t):
        e = (o / t).exp()
        return number((p / t).exp(), e.mean(1), e.var(1, unbiased=False)).mean()

    return of


_BIAS = Exercise(
    library=bias_constant, reference=_bias_loop, inputs=_worlds, extreme=_cold_pairs,
    stability="At a temperature of 0.01 an exponential, or its square, leaves the range of float32. Both terms are "
    "ratios: take a common factor out of each row first.",
    right=(_bias_loop,
           lambda p, o, t: _bias_of(lambda a, P, V: a / P - V / (2 * P**2))(p.double(), o.double(), t).float()),
    naive=(_bias_of(lambda a, P, V: a / P - V / (2 * P**2)),
           _bias_of(lambda a, P, V: a / P - (V / P / P) / 2)),
    hints=(
        "Three numbers for each x: a of the partner, and mean P and variance V of the exponentials of its row.",
        "a / P - V / (2 P^2), averaged over x. Multiply every exponential of a row by one number: nothing changes.",
        "Subtract each row's largest cosine from the row and from the partner before you take exponentials.",
    ),
    misconceptions=(
        Misconception("partner's part only", _bias_of(lambda a, P, V: a / P),
            "You have the partner's part. The logarithm is concave, so the fluctuation of the mean lowers the loss."),
        Misconception("fluctuation only", _bias_of(lambda a, P, V: -V / (2 * P**2)),
            "You have the part of the fluctuation. The partner stands in the denominator too, with a/M.",
            says=lambda r, *_: r <= 0),
        Misconception("sign of the fluctuation", _bias_of(lambda a, P, V: a / P + V / (2 * P**2)),
            "Your two parts add. The second derivative of a logarithm is negative."),
        Misconception("half forgotten", _bias_of(lambda a, P, V: a / P - V / P**2),
            "The second-order term of a Taylor expansion has a factor of one half."),
        Misconception("P not squared", _bias_of(lambda a, P, V: a / P - V / (2 * P)),
            "The second derivative of log P is -1 / P^2; you divide the variance by P."),
        Misconception("standard deviation", _bias_of(lambda a, P, V: a / P - V.sqrt() / (2 * P**2)),
            "You took the standard deviation in place of the variance."),
        Misconception("unbiased variance", lambda p, o, t: _bias_of(
            lambda a, P, V: a / P - V * o.shape[1] / (o.shape[1] - 1) / (2 * P**2))(p, o, t),
            "You divided the squares by K - 1. The K others are the whole world, no sample of it: divide by K."),
        Misconception("mean square for variance", _bias_of(lambda a, P, V: a / P - (V + P**2) / (2 * P**2)),
            "You took the mean of the squares. The variance is what is left after P squared has been taken away."),
        Misconception("a not divided by P", _bias_of(lambda a, P, V: a - V / (2 * P**2)),
            "The first derivative of log P is 1 / P: a has to be divided by it."),
        Misconception("one P for all", lambda p, o, t: (lambda e: ((p / t).exp() / e.mean()
            - e.var(1, unbiased=False) / (2 * e.mean() ** 2)).mean())((o / t).exp()),
            "You used one potential for all x. Every x has its own, the mean of its row."),
        Misconception("temperature left out", slips.left_out(2, 1.0),
            "Your number does not depend on the temperature."),
        slips.summed("the x"),
    ),
)  # fmt: skip

# ---- 4.5 below the floor ---------------------------------------------------------------------------------------------

_SIMPLEX = Prediction(
    answer=-6.75,
    hints=("Spread nine vectors so that all their distances are equal. What do they sum to?",
           "The sum is 0. So all squared distances together are 2 C^2, shared by C (C - 1) pairs: (10).",
           "Every squared distance is 2 * 9 / 8, and the measure is -t times it."),
    misconceptions=(
        Misconception("random directions", -6.0,
            "That is -2t: all squared distances equal to 2, as of orthogonal vectors. Nine vectors can do better."),
        Misconception("ratio upside down", -16 / 3,
            "You multiplied by (C - 1)/C. The squared distances of a simplex are larger than 2, not smaller."),
        Misconception("t of the lesson", -4.5, "That is right for t = 2. Here t is 3."),
        Misconception("counts the dimensions", -6 * 16 / 15,
            "You used the 16 dimensions for C. They only have to be enough, D >= C - 1; C is the number of vectors."),
        Misconception("opposite vectors", -12.0,
            "At squared distance 4 lie opposite vectors. Two can be opposite, nine cannot all be."),
        Misconception("sign turned", 6.75, "The logarithm of a mean of numbers below 1 is negative."),
        Misconception("self-pairs counted", math.log(1 / 9 + 8 / 9 * math.exp(-6.75)),
            "You counted each vector's pair with itself. The measure of a batch leaves those out."),
    ),
)  # fmt: skip

# ---- 4.6 balls -------------------------------------------------------------------------------------------------------


def ball_scores(x: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """The linear scores of (14): the ball that x lies in has the largest. (N, D), (K, D), (K,) -> (N, K)"""
    return 2 * x @ centres.T - centres.square().sum(dim=1) + radii.square()


def _power_loop(x, centres, radii):
    rows = [[p.square().sum() - (p - c).square().sum() + r * r for c, r in zip(centres, radii, strict=True)] for p in x]
    return torch.stack([torch.stack(row) for row in rows])


def _balls(generator):
    shapes = ((1, 2, 3), (5, 3, 4), (6, 4, 2))
    return [
        (torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator),
         0.2 + torch.rand(k, generator=generator))
        for n, k, d in shapes
    ]  # fmt: skip


_BALLS = Exercise(
    library=ball_scores, reference=_power_loop, inputs=_balls,
    right=(lambda x, c, r: 2 * torch.einsum("nd,kd->nk", x, c) - (c * c).sum(1) + r**2,
           lambda x, c, r: torch.cat([x, torch.ones_like(x[:, :1])], 1)
           @ torch.cat([2 * c, (r**2 - (c**2).sum(1))[:, None]], 1).T),
    hints=(
        "Write down the inequality for being inside ball k, and multiply the square out.",
        "|x|^2 appears for every k alike, so leave it out. Turn the sign, so that inside means large.",
        "2 * x @ centres.T - centres.square().sum(dim=1) + radii.square()",
    ),
    naive="a polynomial of moderate numbers: nothing overflows",
    misconceptions=(
        Misconception("nearest centre", lambda x, c, r: 2 * x @ c.T - c.square().sum(1),
            "You ask for the nearest centre. Beside a large ball, a point in it can be nearer to a small one's centre: "
            "the radii count."),
        Misconception("dot product alone", lambda x, c, r: 2 * x @ c.T,
            "A product without a constant is a question about directions, right for caps on a sphere and not here."),
        Misconception("|x|^2 left in", lambda x, c, r: ball_scores(x, c, r) - x.square().sum(1, True),
            "Your scores have |x|^2 in them: not linear in x. It is the same for every ball, so it decides nothing."),
        Misconception("distance, not score", slips.negated,
            "Your largest score is the ball that x is furthest from. The sign is turned."),
        Misconception("radius not squared", lambda x, c, r: 2 * x @ c.T - c.square().sum(1) + r,
            "You added the radius. What is compared are squares: |x - c|^2 < r^2."),
        Misconception("sign of the radius", lambda x, c, r: 2 * x @ c.T - c.square().sum(1) - r**2,
            "You subtract the squared radius: then a large ball is harder to be in than a small one."),
        Misconception("2 forgotten", lambda x, c, r: x @ c.T - c.square().sum(1) + r**2,
            "The mixed term of (x - c)^2 is 2 x.c."),
        Misconception("halved", slips.times(0.5),
            "Right up to a factor of 2, which decides nothing; (14) is asked for as it stands."),
        Misconception("centre not squared", lambda x, c, r: 2 * x @ c.T - c.norm(dim=1) + r**2,
            "You subtract the length of the centre. Multiplying out (x - c)^2 gives its square."),
        Misconception("sign of the centre", lambda x, c, r: 2 * x @ c.T + c.square().sum(1) + r**2,
            "You add |c|^2. Then far balls win everywhere. Mind the sign when you turn the inequality."),
    ),
)  # fmt: skip

# ---- 4.7 whom a cold loss pushes -------------------------------------------------------------------------------------


def push_on_own_class(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The mean share of a vector's push on others that goes to its own class. (B, D), (B,), tau -> [0, 1]"""
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)  # (B, B)
    return (logits.softmax(dim=1) * (labels[:, None] == labels)).sum(dim=1).mean()


def _push_loop(z, labels, temperature):
    total = torch.zeros(()).to(z)
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        share = torch.stack([(z[i] * z[j]).sum() / temperature for j in others]).softmax(0)
        own = torch.tensor([float(labels[j] == labels[i]) for j in others]).to(z)
        total = total + (share * own).sum()
    return total / len(z)


def _classes(generator):
    shapes = ((3, 3, 1.0), (6, 4, 0.5), (9, 5, 0.2))
    found = [(unit(generator, b, d), torch.arange(b) % 3 % 2, t) for b, d, t in shapes]
    return [*found, (torch.randn(5, 4, generator=generator), torch.tensor([0, 1, 0, 0, 2]), 1.5)]


def _near_copies(generator):
    z = F.normalize(unit(generator, 1, 6) + 0.1 * torch.randn(6, 6, generator=generator), dim=1)
    return [(torch.cat([z, -z[:1]]), torch.tensor([0, 0, 1, 1, 2, 2, 0]), 0.01)]


def _table_of(share):
    """The mean share, from a function of the table of logits."""

    def of(z, labels, t):
        own = labels[:, None] == labels
        return (share(z @ z.T / t) * own).sum(dim=1).mean()

    return of


def _off(logits):
    return logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)


def _quotient(logits):
    e = logits.exp() * ~torch.eye(len(logits), dtype=torch.bool)
    return e / e.sum(dim=1, keepdim=True)


_PUSH = Exercise(
    library=push_on_own_class, reference=_push_loop, inputs=_classes, extreme=_near_copies,
    stability="At a temperature of 0.01 the exponential of a logit overflows. torch.softmax never forms it.",
    right=(_table_of(lambda x: _off(x).softmax(dim=1)), _table_of(lambda x: _off(x).log_softmax(dim=1).exp())),
    naive=(_table_of(_quotient),),
    hints=(
        "A table of logits, one row for each vector. Which entry of the row is no other?",
        "Take the diagonal out before the softmax, not after it: the shares of the others have to sum to one.",
        "logits.fill_diagonal_(-inf), softmax(dim=1), then sum where labels[:, None] == labels, mean over rows.",
    ),
    misconceptions=(
        Misconception("itself among the others", _table_of(lambda x: x.softmax(dim=1)),
            "Your table has every vector pushing itself, and it is of its own class. Others only."),
        Misconception("diagonal taken out after the softmax",
            _table_of(lambda x: x.softmax(dim=1) * ~torch.eye(len(x), dtype=torch.bool)),
            "Your shares of the others do not sum to one: the vector itself has taken most of the softmax. Take it out "
            "before."),
        Misconception("diagonal set to 0",
            _table_of(lambda x: (x * ~torch.eye(len(x), dtype=torch.bool)).softmax(dim=1)),
            "You set the diagonal's logits to 0. The exponential of 0 is 1: each vector still pushes itself."),
        Misconception("other classes", slips.then(lambda s: 1 - s),
            "This is the share that goes to *other* classes."),
        Misconception("multiplies by the temperature", slips.inverted(2),
            "Colder should mean that near ones get more, yours makes all alike: divide by the temperature."),
        Misconception("temperature left out", slips.left_out(2, 1.0), "Your share does not depend on the temperature."),
        Misconception("one softmax over the table", lambda z, labels, t:
            (_off(z @ z.T / t).flatten().softmax(0).view(len(z), -1) * (labels[:, None] == labels)).sum(),
            "You took one softmax over all pairs. That is how uniformity shares its push, (12); in NT-Xent every "
            "vector has its own."),
        Misconception("counted, not weighed",
            _table_of(lambda x: (~torch.eye(len(x), dtype=torch.bool)).to(x) / (len(x) - 1)),
            "This is the share of others that are of the class. Each other counts by its push."),
        slips.summed("the vectors"),
        slips.PERCENT,
        slips.normalises_inside(0),
    ),
    invariances=(
        Invariance("classes renumbered", lambda z, labels, t: (z, 7 - labels, t),
            "Which number a class has should not count: compare labels with each other."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "alignment": _ALIGNMENT,
    "uniformity": _UNIFORMITY,
    "limit": _LIMIT,
    "bias": _BIAS,
    "simplex": _SIMPLEX,
    "balls": _BALLS,
    "push": _PUSH,
}
