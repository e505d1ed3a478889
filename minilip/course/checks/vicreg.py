"""Exercises of lesson 05: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F

from minilip.evaluation import effective_rank
from minilip.vicreg import EPS, vicreg_terms

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction

LESSON = "05_vicreg"

# ---- 5.1 the three terms ---------------------------------------------------------------------------------------------


def _terms_loop(x, y):
    batch, dim = x.shape
    s = sum(((x[i, d] - y[i, d]) ** 2 for i in range(batch) for d in range(dim)), torch.zeros(())) / (batch * dim)
    v = c = torch.zeros(())
    for z in (x, y):
        mean = z.sum(dim=0) / batch
        C = [
            [sum((z[i, d] - mean[d]) * (z[i, e] - mean[e]) for i in range(batch)) / (batch - 1) for e in range(dim)]
            for d in range(dim)
        ]
        v = v + sum(torch.relu(1 - (C[d][d] + EPS) ** 0.5) for d in range(dim)) / dim / 2
        c = c + sum((C[d][e] ** 2 for d in range(dim) for e in range(dim) if d != e), torch.zeros(())) / dim
    return s, v, c


def _spread_over(g, *shape):
    """Dimensions of which some are narrower than 1 and some wider, and some that repeat each other."""
    x = torch.randn(*shape, generator=g) * torch.linspace(0.3, 2.0, shape[1])
    return x + 0.5 * x.roll(1, dims=1)


def _views(g):
    return [(_spread_over(g, b, d) + 0.7, _spread_over(g, b, d)) for b, d in ((2, 3), (5, 4), (12, 6))]


def _of_views(v=None, c=None):
    """The three terms, of which the spread or the covariance of a view is another."""

    def terms(x, y):
        s, right_v, right_c = vicreg_terms(x, y)
        return (
            s,
            right_v if v is None else (v(x) + v(y)) / 2,
            right_c if c is None else c(x) + c(y),
        )

    return terms


def _hinge(deviation):
    return lambda z: F.relu(1 - deviation(z)).mean()


def _squares(z, rows=lambda z: len(z) - 1, centred=True, off=True):
    away = z - z.mean(dim=0) if centred else z
    C = away.T @ away / rows(z)
    return (C.square().sum() - (C.diagonal().square().sum() if off else 0)) / len(C)


def _changed(at, what):
    def change(terms):
        found = list(terms)
        found[at] = what(found[at])
        return tuple(found)

    return slips.then(change)


_TERMS = Exercise(
    library=vicreg_terms, reference=_terms_loop, inputs=_views, gradients=("x", "y"),
    extreme=lambda g: [(torch.full((4, 3), 2.0), torch.full((4, 3), 2.0))],
    stability="At a full collapse every variance is 0, where a square root has an infinite slope. What is the 1e-4 "
    "for, and does it stand under the root?",
    right=(_of_views(v=_hinge(lambda z: ((z - z.mean(0)).square().sum(0) / (len(z) - 1) + 1e-4).sqrt())),
           _of_views(c=lambda z: (torch.cov(z.T) * (1 - torch.eye(z.shape[1]).to(z))).square().sum() / z.shape[1]),
           lambda x, y: (F.mse_loss(x, y), *vicreg_terms(x, y)[1:])),
    naive=(_of_views(v=_hinge(lambda z: z.std(dim=0) + 5e-5 / z.std(dim=0))),),
    hints=(
        "Three numbers: a mean over all B D squared differences; a hinge for every column of x and of y; the "
        "covariance matrix of the columns of x, and of y, without its diagonal.",
        "The hinge is max(0, 1 - S), S the root of the column's variance plus 1e-4. It is averaged over columns "
        "and over "
        "the two views. The squared covariances are summed over pairs of different columns, divided by D, and the two "
        "views are added.",
        "S = (z.var(dim=0) + 1e-4).sqrt(); C = (z - z.mean(0)).T @ (z - z.mean(0)) / (B - 1); "
        "c(z) = (C.square().sum() - C.diagonal().square().sum()) / D.",
    ),
    misconceptions=(
        Misconception("variance not halved", _changed(1, lambda v: 2 * v),
            "You added the hinges of the two views. Theirs is a mean; the covariance term is the one that is a sum."),
        Misconception("covariance halved", _changed(2, lambda c: c / 2),
            "You averaged the covariance terms of the two views. The released code halves the variance term only."),
        Misconception("squared differences summed over dimensions",
            lambda x, y: ((x - y).square().sum(1).mean(), *vicreg_terms(x, y)[1:]),
            "Your invariance grows with D. It is a mean over dimensions as well as pictures."),
        Misconception("squared differences summed", lambda x, y: ((x - y).square().sum(), *vicreg_terms(x, y)[1:]),
            "Your invariance grows with the batch and with D. It is a mean over both."),
        Misconception("hinge on the variance", _of_views(v=_hinge(lambda z: z.var(dim=0) + 1e-4)),
            "Your hinge takes the variance, and its push fades as the cloud shrinks: (4). A root is missing."),
        Misconception("no hinge", _of_views(v=lambda z: (1 - (z.var(dim=0) + 1e-4).sqrt()).mean()),
            "Your spread may be larger than 1 and is then rewarded: the embeddings would grow for ever. max(0, ...)."),
        Misconception("one hinge for the mean spread",
            _of_views(v=lambda z: F.relu(1 - (z.var(0) + 1e-4).sqrt().mean())),
            "You average the spreads before the hinge: a wide dimension then pays for a collapsed one."),
        Misconception("variance over B", _of_views(v=_hinge(lambda z: (z.var(dim=0, unbiased=False) + 1e-4).sqrt())),
            "Your variances are divided by B. They are the unbiased ones, over B - 1."),
        Misconception("covariance over B", _of_views(c=lambda z: _squares(z, rows=len)),
            "Your covariances are divided by B. They are the unbiased ones, over B - 1."),
        Misconception("not centred", _of_views(c=lambda z: _squares(z, centred=False)),
            "You multiply columns without taking their means away: a common offset is no covariance."),
        Misconception("diagonal counted", _of_views(c=lambda z: _squares(z, off=False)),
            "The diagonal holds the variances, which the hinge wants large. Only different dimensions count."),
        Misconception("absolute covariances",
            _of_views(c=lambda z: (torch.cov(z.T) * (1 - torch.eye(z.shape[1]).to(z))).abs().sum() / z.shape[1]),
            "You sum absolute covariances. Their squares are asked for."),
        Misconception("covariance not divided by D",
            lambda x, y: (*vicreg_terms(x, y)[:2], vicreg_terms(x, y)[2] * x.shape[1]),
            "Your covariance term is a sum over all pairs of dimensions. It is divided by D."),
        Misconception("mean over all pairs", lambda x, y: (*vicreg_terms(x, y)[:2], vicreg_terms(x, y)[2] / x.shape[1]),
            "You divided the squared covariances by D twice. Their sum is divided by D, not by D squared."),
        Misconception("only the first view", lambda x, y: (vicreg_terms(x, y)[0], *vicreg_terms(x, x)[1:]),
            "Your variance and covariance terms look at x alone. y must not collapse either."),
        Misconception("weights included", slips.then(lambda t: (25 * t[0], 25 * t[1], t[2])),
            "These are the weighted terms. Without the weights 25, 25 and 1, please."),
    ),
)  # fmt: skip

# ---- 5.2 the push of the hinge ---------------------------------------------------------------------------------------


def hinge_gradient(x):
    """The gradient of v(x), eq. (3), by (4). (B, D) -> (B, D)"""
    S = (x.var(dim=0) + EPS).sqrt()  # (D,)
    push = (x - x.mean(dim=0)) / S / (x.shape[1] * (len(x) - 1))  # (B, D)
    return -push * (S < 1)


def _push_loop(x):
    batch, dim = x.shape
    rows = []
    for i in range(batch):
        row = []
        for d in range(dim):
            mean = x[:, d].sum() / batch
            S = (((x[:, d] - mean) ** 2).sum() / (batch - 1) + EPS).sqrt()
            row.append(-(x[i, d] - mean) / S / (dim * (batch - 1)) if float(S) < 1 else 0 * S)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _clouds(g):
    return [(_spread_over(g, b, d) + 0.4,) for b, d in ((3, 4), (6, 5), (16, 3))]


def _push(change):
    """The gradient of other deviations, spreads and sizes."""

    def wrong(x):
        b, d = x.shape
        away, S = x - x.mean(dim=0), (x.var(dim=0) + EPS).sqrt()
        return change(x, away, S, b, d) * (S < 1)

    return wrong


_HINGE_GRADIENT = Exercise(
    library=hinge_gradient, reference=_push_loop, inputs=_clouds,
    right=(_push(lambda x, away, S, b, d: away / (S * (d - b * d))),
           lambda x: torch.where(x.var(0) + 1e-4 < 1, -(x - x.mean(0)) * (x.var(0) + 1e-4).rsqrt(), torch.zeros_like(x))
           / (x.shape[1] * (len(x) - 1))),
    naive="sums and quotients of moderate numbers, with 1e-4 under the root: nothing overflows",
    hints=(
        "Chain rule from outside: the mean over D, the hinge, the root, the variance.",
        "d Var / d x_id = 2 (x_id - mean) / (B - 1): the mean's own share drops out, since deviations sum to 0. "
        "The root "
        "brings 1 / (2 S).",
        "Where S < 1: -(x - mean) / (D (B - 1) S). Where S is 1 or more the hinge is flat: 0.",
    ),
    misconceptions=(
        Misconception("sign turned", slips.negated,
            "Your gradient points away from the mean. A gradient points uphill; the push is minus the gradient."),
        Misconception("hinge forgotten",
            lambda x: -(x - x.mean(0)) / (x.var(0) + EPS).sqrt() / (x.shape[1] * (len(x) - 1)),
            "Dimensions that are wide enough get a gradient too. The hinge is flat there."),
        Misconception("hinge on the wrong side", lambda x: -(x - x.mean(0)) / (x.var(0) + EPS).sqrt()
            / (x.shape[1] * (len(x) - 1)) * (x.var(0) + EPS >= 1),
            "Only wide dimensions get a gradient from you. It is the narrow ones that are pushed."),
        Misconception("no root", _push(lambda x, away, S, b, d: -2 * away / (d * (b - 1))),
            "This is the gradient of a hinge on the variance, which fades with the cloud. The root brings 1 / (2 S)."),
        Misconception("variance in place of its root", _push(lambda x, away, S, b, d: -away / (S**2 * d * (b - 1))),
            "You divided by the variance. The derivative of a root has the root below it."),
        Misconception("the 2 left over", _push(lambda x, away, S, b, d: -2 * away / (S * d * (b - 1))),
            "The 2 of the square and the 2 below the root cancel."),
        Misconception("root counted half", _push(lambda x, away, S, b, d: -away / (2 * S * d * (b - 1))),
            "Half of it: the square under the variance brings a 2, which cancels that of the root."),
        Misconception("not centred", _push(lambda x, away, S, b, d: -x / (S * d * (b - 1))),
            "You push away from 0. The variance knows deviations from the mean only."),
        Misconception("mean over D forgotten", _push(lambda x, away, S, b, d: -away / (S * (b - 1))),
            "v(x) is a mean over D dimensions: each has a share of 1 / D."),
        Misconception("over B", _push(lambda x, away, S, b, d: -away / (S * d * b)),
            "The variance is the unbiased one, over B - 1."),
        Misconception("over D alone", _push(lambda x, away, S, b, d: -away / (S * d)),
            "The variance is a sum over pictures divided by B - 1: one picture has a small share of it."),
    ),
)  # fmt: skip

# ---- 5.3 the covariance term from the spectrum -----------------------------------------------------------------------


def covariance_term(eigenvalues, variances):
    """c(x) from the eigenvalues of C and its diagonal, with no off-diagonal entry in sight. (D,), (D,) -> scalar"""
    return (eigenvalues.square().sum() - variances.square().sum()) / len(variances)


def _spectra(g):
    found = []
    for b, d in ((9, 2), (12, 4), (6, 7)):
        C = torch.cov(_spread_over(g, b, d).double().T)
        found.append((torch.linalg.eigvalsh(C).float(), C.diagonal().float().clone()))
    return found


def _covariance_loop(eigenvalues, variances):
    # An orthogonal Q with this diagonal is not needed: traces of C and C^2 are all that the answer has of C.
    total = torch.zeros(())
    for value in eigenvalues:
        total = total + value * value
    for value in variances:
        total = total - value * value
    return total / len(variances)


_COVARIANCE_TERM = Exercise(
    library=covariance_term, reference=_covariance_loop, inputs=_spectra,
    scale=lambda eigenvalues, variances: eigenvalues.square().mean(),
    right=(lambda e, v: ((e - e.mean()).square().sum() - (v - v.mean()).square().sum()) / len(v),
           lambda e, v: e.square().mean() - v.square().mean()),
    naive="squares of moderate numbers: nothing overflows",
    hints=(
        "All squared entries of a symmetric matrix together are the trace of its square. What is a trace in terms of "
        "eigenvalues?",
        "tr C^2 = sum of squared eigenvalues. The off-diagonal squares are what is left after the diagonal's.",
        "(sum of eigenvalues^2 - sum of variances^2) / D.",
    ),
    misconceptions=(
        Misconception("diagonal left in", lambda e, v: e.square().mean(),
            "This is the sum of all squared entries of C, its diagonal included."),
        Misconception("eigenvalues not squared", lambda e, v: (e.sum() - v.square().sum()) / len(v),
            "The trace of C is the sum of its eigenvalues; that of C squared is the sum of their squares."),
        Misconception("trace subtracted", lambda e, v: (e.square().sum() - v.sum()) / len(v),
            "Subtract the squares of the diagonal's entries: it is C squared, entry by entry."),
        Misconception("square of the trace", lambda e, v: (e.square().sum() - v.sum().square()) / len(v),
            "You squared the sum of the variances. Each is squared for itself."),
        Misconception("variances taken as equal", lambda e, v: (e - e.mean()).square().mean(),
            "Right where all variances are equal, eq. (7). These differ: take away what they really are."),
        Misconception("not divided by D", slips.times(lambda e, v: len(v)), "The sum is divided by D."),
        Misconception("two views", slips.times(2), "This is for two views. One is asked for."),
        Misconception("pairs counted once", slips.times(0.5),
            "You count each pair of dimensions once. In the sum over d and e every pair stands twice."),
        Misconception("divided by D(D-1)", slips.times(lambda e, v: 1 / (len(v) - 1)),
            "You averaged over all pairs. The sum is divided by D only."),
        Misconception("sign turned", slips.negated, "A sum of squares cannot be negative.",
            says=lambda result, e, v: result < 0),
    ),
)  # fmt: skip

# ---- 5.4 effective rank ----------------------------------------------------------------------------------------------


def _rank_loop(x):
    away = (x - x.mean(dim=0)).double()
    eigenvalues = torch.linalg.eigvalsh(away.T @ away).tolist()
    shares = [max(value, 0.0) / sum(eigenvalues) for value in eigenvalues]
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))


def _points(g):
    return [(_spread_over(g, b, d) + 1.5,) for b, d in ((8, 3), (20, 6), (5, 9))]


def _shares(x, power=2.0, centred=True):
    s = torch.linalg.svdvals(x - x.mean(dim=0) if centred else x).double() ** power
    return s / s.sum()


def _entropy(p):
    return torch.special.entr(p).sum()


_EFFECTIVE_RANK = Exercise(
    library=effective_rank, reference=_rank_loop, inputs=_points,
    extreme=lambda g: [(torch.cat([torch.randn(9, 2, generator=g), torch.zeros(9, 2)], dim=1),)],
    stability="A direction of no variance has the share 0, and 0 log 0 is NaN. It should count as 0.",
    right=(lambda x: _entropy(_shares(x)).exp(),
           lambda x: torch.distributions.Categorical(_shares(x)).entropy().exp()),
    naive=(lambda x: (lambda p: (-(p * p.log()).sum()).exp())(_shares(x).float()),),
    hints=(
        "Centre the points. The squared singular values are the variances along the principal axes, up to a factor.",
        "Divide them by their sum: shares, which are probabilities. Take their entropy in nats, and exp of it.",
        "s = torch.linalg.svdvals(x - x.mean(0)); p = s**2 / (s**2).sum(); torch.special.entr(p).sum().exp().",
    ),
    misconceptions=(
        Misconception("singular values not squared", lambda x: _entropy(_shares(x, 1.0)).exp(),
            "Your shares are of singular values. Those of variances, their squares, are asked for."),
        Misconception("not centred", lambda x: _entropy(_shares(x, centred=False)).exp(),
            "You forgot to take the mean away: a cloud far from 0 then seems wide in the direction of its mean."),
        Misconception("entropy itself", slips.then(lambda r: math.log(r)),
            "This is the entropy. Its exponential is a number of directions."),
        Misconception("bits", lambda x: (_entropy(_shares(x)) / math.log(2)).exp(),
            "You took the entropy in bits and e to its power. Use one base for both."),
        Misconception("participation ratio", lambda x: 1 / _shares(x).square().sum(),
            "This is the participation ratio, 1 / sum of p squared: another count of directions. (9) has an entropy."),
        Misconception("rank", lambda x: float(torch.linalg.matrix_rank(x - x.mean(dim=0))),
            "You counted the singular values that are not 0, which is nearly all of them in any network."),
        Misconception("share of the maximum", slips.times(lambda x: 1 / x.shape[1]),
            "You divided by D. The effective rank counts directions, from 1 to D."),
        Misconception("fourth powers", lambda x: _entropy(_shares(x, 4.0)).exp(),
            "You squared twice: the squared singular values are the variances already."),
        Misconception("dimensions in place of directions", lambda x: _entropy(x.var(dim=0) / x.var(dim=0).sum()).exp(),
            "These are shares of the coordinates' variances. Copies of one coordinate would count as many."),
    ),
)  # fmt: skip

# ---- 5.5 copies ------------------------------------------------------------------------------------------------------

_COPIES = Prediction(
    answer=254,
    hints=(
        "All entries of C are alike. What is each of them?",
        "Every entry is 1. How many are off the diagonal, and what divides their sum?",
        "D (D - 1) ones, divided by D, for each of two views.",
    ),
    misconceptions=(
        Misconception("one view", 127, "Right for one view. The covariance term adds both."),
        Misconception("divided by D squared", 127 / 128, "The sum over pairs is divided by D, and so it grows with D."),
        Misconception("diagonal counted", 256, "The diagonal holds the variances and does not count."),
        Misconception("sum over pairs", 32512, "The sum over all pairs is divided by D."),
        Misconception("nothing", 0, "That is the variance term, which sees no harm in copies. Look at C."),
        Misconception("collapse", 24.75, "That is the loss of a full collapse. Here each dimension has variance 1."),
    ),
)  # fmt: skip

# ---- 5.6 what a batch must be ----------------------------------------------------------------------------------------


def noise_floor(dim: int, batch: int) -> float:
    """The expected covariance term of two views whose dimensions are independent, of variance 1."""
    return 2 * (dim - 1) / (batch - 1)


def _floor_loop(dim, batch):
    total = 0.0
    for _view in range(2):
        for d in range(dim):
            for e in range(dim):
                total += 1 / (batch - 1) / dim if d != e else 0.0
    return total


_NOISE_FLOOR = Exercise(
    library=noise_floor, reference=_floor_loop,
    inputs=lambda g: [(3, 4), (8, 16), (32, 5), (20, 64), (2, 2)],
    right=(lambda d, b: (d - 1) / (b - 1) + (d - 1) / (b - 1), lambda d, b: 2 * (d * d - d) / (d * (b - 1))),
    naive="whole numbers of moderate size: nothing overflows",
    hints=(
        "What is the variance of one entry C_de, when the two columns have nothing to do with each other?",
        "C_de is a sum of B products of deviations over B - 1. Its mean is 0, and its mean square 1 / (B - 1).",
        "D (D - 1) entries off the diagonal, each 1 / (B - 1), divided by D, for two views.",
    ),
    misconceptions=(
        Misconception("one view", slips.times(0.5), "Right for one view. The term adds both."),
        Misconception("over B", lambda d, b: 2 * (d - 1) / b,
            "The mean square of a covariance is 1 / (B - 1): one degree of freedom went into the mean."),
        Misconception("diagonal counted", lambda d, b: 2 * d / (b - 1),
            "There are D (D - 1) entries off the diagonal, and D to divide by."),
        Misconception("sum over pairs", slips.times(lambda d, b: d), "The sum over pairs is divided by D."),
        Misconception("mean over pairs", lambda d, b: 2 / (b - 1),
            "You averaged over all pairs. The sum is divided by D only, so the floor grows with D."),
        Misconception("its root", lambda d, b: 2 * (d - 1) / (b - 1) ** 0.5,
            "1 / root(B - 1) is the size of a covariance. The term has its square."),
        Misconception("squared twice", lambda d, b: 2 * (d - 1) / (b - 1) ** 2,
            "The mean square of a covariance is its variance, 1 / (B - 1), already a square."),
        Misconception("dimensions and batch exchanged", lambda d, b: 2 * (b - 1) / (d - 1) + 0.0,
            "Your floor grows with the batch. More pictures make a better estimate."),
        Misconception("nothing", lambda d, b: 0.0,
            "Independent dimensions have covariance 0 in the population. What does a batch of B see?"),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "terms": _TERMS,
    "hinge_gradient": _HINGE_GRADIENT,
    "covariance_term": _COVARIANCE_TERM,
    "effective_rank": _EFFECTIVE_RANK,
    "copies": _COPIES,
    "noise_floor": _NOISE_FLOOR,
}
