"""Exercises of lesson 12b: references, misconceptions and hints."""

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from minilip import evaluation
from minilip.prolip import partial_spearman

from . import _slips as slips
from ._exercise import Exercise, Invariance, Misconception, Prediction

LESSON = "12b_uncertainty"

# ---- 12b.1 knowing when to be silent ---------------------------------------------------------------------------------


def risk_coverage(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Share of errors among the k surest answers, ties in random order, and its mean. (N,), (N,) -> (N,), scalar"""
    return _with_area(evaluation.risk_coverage(confidence, right)[1])


def _with_area(risk):
    return risk, risk.mean()


def _counted(risk):
    return torch.arange(1, len(risk) + 1)


def _shared_out(confidence, right):
    """Each of N answers carries the error rate of those that are as sure as it is."""
    alike = (confidence[:, None] == confidence).double()
    errors = alike @ (~right).double() / alike.sum(dim=1)
    return _with_area(errors[confidence.argsort(descending=True)].cumsum(0) / _counted(right))


def _answers(generator):  # no more than 15 ties: so few are sorted as stored by any sort
    def drawn(n, ties):
        c = torch.rand(n, generator=generator)
        right = torch.rand(n, generator=generator) < 0.2 + 0.6 * c
        right[0], right[-1] = True, False  # so that a storage order shows among ties
        return ((c * 4).floor() / 4 if ties else (c * 64).round() + torch.arange(n) / 128, right)

    same = (torch.full((6,), 0.5), torch.tensor([True, True, False, True, False, False]))
    return [drawn(5, False), drawn(12, False), drawn(15, True), drawn(9, True), same]


def _by_order(order, right):
    return _with_area((~right[order]).double().cumsum(0) / _counted(right))


def _ties_by(confidence, right, first):
    """Ties with `first` in front."""
    front = (right != first).long().argsort(stable=True)
    return _by_order(front[(-confidence[front]).argsort(stable=True)], right)


def _curve(change):
    """Another curve, and the mean of that."""
    return slips.then(lambda found: _with_area(change(found[0])))


def _area(change):
    """The curve as it is, another area."""
    return slips.then(lambda found: (found[0], change(found[0])))


_RISK_COVERAGE = Exercise(
    library=risk_coverage, reference=_shared_out, inputs=_answers, naive="counts and their quotients",
    invariances=(
        Invariance("depends on the order of storage", lambda c, right: (c.flip(0), right.flip(0)),
            "Stored in another order, the same answers give you another curve. Only ranks may count."),
        Invariance("depends on the scale of the confidence", lambda c, right: (4 * c - 3, right),
            "Stretching all confidences changes your curve. Only their order may count: they share no unit."),
    ),
    hints=("Answer the surest question first. After k answers, what share of them was wrong?",
           "The running sum of the errors over k, surest first. In random order a tie carries its group's error rate.",
           "(-confidence).unique(return_inverse=True, return_counts=True): groups, surest first, and their sizes."),
    misconceptions=(
        Misconception("ties as stored", lambda c, r: _by_order((-c).argsort(stable=True), r),
            "Equal confidences come as they are stored. Then one score for all has any area, as the file is sorted."),
        Misconception("ties as stored, the last first", lambda c, r: _by_order(c.argsort(stable=True).flip(0), r),
            "Equal confidences come in the reverse of the order in which they are stored. Take it as random."),
        Misconception("wrong ones first among ties", lambda c, r: _ties_by(c, r, False),
            "Of equal confidences you answer the wrong ones first: cautious, but their order is random."),
        Misconception("right ones first among ties", lambda c, r: _ties_by(c, r, True),
            "Of equal confidences you answer the right ones first. One score for all would then be an oracle."),
        Misconception("least sure first", slips.argument(0, torch.neg),
            "You answer the least sure questions first. The area is then large where the score is good."),
        Misconception("accuracy instead of risk", slips.argument(1, torch.logical_not),
            "This is the share of right answers. A risk is a share of wrong ones, and small is good."),
        Misconception("errors among all", _curve(lambda risk: risk * _counted(risk) / len(risk)),
            "You divide by N throughout. The risk at coverage k / N is the share of errors among the k answered."),
        Misconception("errors counted", _curve(lambda risk: risk * _counted(risk)),
            "You count errors. A risk is their share of what was answered."),
        Misconception("counts from 0", _curve(lambda risk: risk * _counted(risk) / (_counted(risk) - 1)),
            "You divide by 0, 1, 2, and so on. The first answer is one answer."),
        Misconception("sum under the curve", _area(torch.sum),
            "Your area is a sum: coverage runs from 0 to 1, so the N risks are averaged."),
        Misconception("trapezoids", _area(lambda risk: torch.trapezoid(risk) / len(risk)),
            "Trapezoids leave out the first coverage, from 0 to 1 / N. The area asked for is the mean of N risks."),
        Misconception("last point instead of the area", _area(lambda risk: risk[-1]),
            "Your second number is the curve's last point. At coverage 1 every score has one risk: the error rate."),
        Misconception("above the oracle",
            slips.Slip(lambda f: lambda c, r: (f(c, r)[0], f(c, r)[1] - risk_coverage(1.0 * r, r)[1])),
            "From the area you took that of the oracle, which gives the excess AURC."),
        Misconception("area first", slips.then(lambda found: found[::-1]),
            "You return the area first. The curve comes first, then its mean."),
        Misconception("coverage and risk", slips.then(lambda found: (_counted(found[0]) / len(found[0]), found[0])),
            "You return the coverages and the risks. Asked for are the risks and their mean."),
        Misconception("curve alone", slips.then(lambda found: found[0]),
            "You return the curve alone. Its mean, the AURC, is the second result."),
        Misconception("not sorted", lambda c, r: _by_order(torch.arange(len(r)), r),
            "Your curve does not use the confidence: the answers come as they are stored."),
        Misconception("ranks instead of an order", lambda c, r: _by_order((-c).argsort(stable=True).argsort(), r),
            "You indexed with ranks. argsort once says who comes first; argsort twice says each one's place."),
        Misconception("errors sorted", slips.given(lambda c, r: (1.0 * r, r)),
            "You sorted the errors themselves: the oracle, which no score can beat, because it knows what is wrong."),
        Misconception("confidence summed", lambda c, r: _with_area(c.msort().flip(0).cumsum(0) / _counted(c)),
            "You averaged the confidence. It gives the order only; what is summed are the errors."),
    ),
)  # fmt: skip

# ---- 12b.2 two tables ------------------------------------------------------------------------------------------------

# Order of the answers: one is the transpose of the other; the query's own width; all captions wider; a picture wider.
_TWO_TABLES = Prediction(
    answer=(False, False, False, True),
    hints=("Write an entry of each table: whose width is taken off, the query's or that of what it finds?",
           "In P it is the caption's, in C the picture's. What does a number added to all of a row do to its order?",
           "It moves no entry past another: so much for 2 and 3. In C a picture is a column, and only that one falls."),
    misconceptions=(
        Misconception("one table, turned", (True, False, False, True),
            "The cosines are each other's transpose. P takes off the width of the caption, C that of the picture."),
        Misconception("the query's width decides", (False, True, False, True),
            "Its own half S is the same for every caption that the picture could find."),
        Misconception("wider means worse", (False, False, True, True),
            "All captions fall by the same amount. Which of them is then the first?"),
        Misconception("a picture's width is its own affair", (False, False, False, False),
            "A caption that looks for a picture compares pictures, and takes off the width of each."),
        Misconception("widths change nothing", (True, False, False, False),
            "What is found pays for its width: compare two captions of equal cosine to one picture."),
    ),
)  # fmt: skip

# ---- 12b.3 one step of EM --------------------------------------------------------------------------------------------


def prompt_step(log_p: Tensor, pi: Tensor, alpha: float) -> Tensor:
    """The weights after one step: the share of the images that each prompt explains. (N, K), (K,) -> (K,)"""
    shares = torch.softmax(pi.log() + log_p, dim=1)  # (N, K)
    return (shares.sum(dim=0) + alpha - 1) / (len(log_p) + len(pi) * (alpha - 1))


def _step_loop(log_p, pi, alpha):
    counts = torch.full_like(pi, alpha - 1)
    for row in log_p:
        joint = torch.stack([p.log() + x for p, x in zip(pi, row, strict=True)])
        counts = counts + (joint - joint.logsumexp(0)).exp()
    return counts / counts.sum()


def _densities(generator):
    sizes = ((3, 2, 2.0), (5, 4, 1.0), (2, 3, 1.5), (7, 3, 4.0))
    return [(2 * torch.randn(n, k, generator=generator), torch.rand(k, generator=generator).softmax(0), alpha)
            for n, k, alpha in sizes]  # fmt: skip


def _counts(shares, alpha):
    return (shares.sum(dim=0) + alpha - 1) / (len(shares) + shares.shape[1] * (alpha - 1))


_PROMPT_STEP = Exercise(
    library=prompt_step, reference=_step_loop, inputs=_densities,
    extreme=lambda g: [(_densities(g)[0][0] + torch.tensor([[150.0], [-300.0], [0.0]]), torch.tensor([0.3, 0.7]), 2.0)],
    stability="exp(150) is infinite in float32. The shares of a row are a softmax: let that take the exponential.",
    right=(lambda x, pi, a: F.normalize((pi.log() + x).log_softmax(1).exp().sum(0) + a - 1, p=1, dim=0),),
    naive=(lambda x, pi, a: _counts(F.normalize(pi * x.exp(), p=1, dim=1), a),
           lambda x, pi, a: _counts(pi * (x - x.max()).exp() / (pi * (x - x.max()).exp()).sum(1, True), a)),
    hints=("First the shares r (N, K): a prompt's share of an image is its pi_k p_k over the sum of all prompts'.",
           "That is a softmax of log pi + log p along each row. To the sum of r the prior adds alpha - 1 a prompt.",
           "r = torch.softmax(pi.log() + log_p, dim=1); (r.sum(dim=0) + alpha - 1) / (N + K * (alpha - 1))."),
    misconceptions=(
        Misconception("images compete for a prompt", lambda x, pi, a: _counts((pi.log() + x).softmax(dim=0), a),
            "Your shares sum to one down each column. An image was drawn from one of the prompts: its row does."),
        Misconception("weights left out of the shares", slips.argument(1, torch.ones_like),
            "Your shares compare the densities alone. A prompt that is trusted more explains more: pi_k p_k."),
        Misconception("weights not in logarithms", slips.argument(1, torch.exp),
            "You added pi to log p. A product becomes a sum of logarithms: log pi + log p."),
        Misconception("densities without logarithm", lambda x, pi, a: _counts((pi * x).softmax(dim=1), a),
            "You gave pi times log p to softmax. It takes the logarithm of the product, log pi + log p."),
        Misconception("prior left out", slips.left_out(2, 1.0),
            "Your weights do not depend on alpha: this is maximum likelihood."),
        Misconception("alpha for alpha - 1", slips.argument(2, lambda a: a + 1),
            "Your prior counts alpha images for every prompt. The exponent in the prior is alpha - 1."),
        Misconception("prior as large as the data", slips.given(lambda x, pi, a: (x, pi, 1 + len(x) * (a - 1))),
            "You added alpha - 1 to the mean of the shares, where it counts N times. Add it to their sum."),
        Misconception("only images counted", slips.times(lambda x, pi, a: 1 + len(pi) * (a - 1) / len(x)),
            "You divided by N. The prior added alpha - 1 for each of K prompts: your weights do not sum to one.",
            says=lambda pi, *_: abs(pi.sum() - 1) > 1e-3),
        Misconception("not divided", slips.times(lambda x, pi, a: len(x) + len(pi) * (a - 1)),
            "These are counts. To be weights they have to sum to one.", says=lambda pi, *_: pi.sum() > 1.5),
        Misconception("images not shared", lambda x, pi, a: _counts(F.one_hot((pi.log() + x).argmax(1), len(pi)), a),
            "You gave each image to its best prompt, whole (k-means). EM shares it out."),
        Misconception("all images from one prompt", lambda x, pi, a: _counts((pi.log() + x.sum(0)).softmax(0)[None], a),
            "You multiplied the densities of all images first, as if all came from one and the same prompt."),
    ),
)  # fmt: skip

# ---- 12b.4 what length explains --------------------------------------------------------------------------------------


def partial_rank_correlation(x: Tensor, y: Tensor, control: Tensor) -> float:
    """Spearman's correlation of what the control leaves of the ranks of x and y. (N,) three times -> from -1 to 1"""
    return partial_spearman(x, y, control)


def _of_three(x, y, control):
    """From the three correlations, without any regression."""
    xy, xz, yz = (spearmanr(*pair).statistic for pair in ((x, y), (x, control), (y, control)))
    return (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5


def _measured(generator):  # no more than 15 ties, as above
    made = []
    for n, levels in ((8, 3), (15, 4), (12, 6)):
        z = torch.randint(0, levels, (n,), generator=generator).float()
        x = (1.5 * z + 2 * torch.randn(n, generator=generator)).exp()  # heavy tails: ranks and values differ
        made.append((x, (z + 3 * torch.rand(n, generator=generator)).round(), z))
    free = torch.randn(3, 12, generator=generator)
    return [*made, (free[0] + free[2], (free[1] - free[2]) ** 3, free[2])]


def _ranks(x):
    """1 is the smallest, ties share the mean of their ranks. (N,) -> (N,)"""
    return ((x[:, None] > x).sum(dim=1) + ((x[:, None] == x).sum(dim=1) + 1) / 2).double()


def _left(y, z, centre=1):
    """What the best line in z leaves of y."""
    y, z = (v.double() - centre * v.double().mean() for v in (y, z))
    return y - (y @ z) / (z @ z) * z


def _pearson(x, y):
    return F.cosine_similarity(x.double() - x.double().mean(), y.double() - y.double().mean(), dim=0)


def _partial(x, y, z):
    return _pearson(_left(x, z), _left(y, z))


def _ranked(wrong, rank=_ranks):
    """A function of the three ranks."""
    return lambda *values: wrong(*(rank(v).double() for v in values))


_PARTIAL = Exercise(
    library=partial_rank_correlation, reference=_of_three, inputs=_measured,
    naive="ranks and their correlations: no number is large", right=(_ranked(_partial),),
    invariances=(
        Invariance("depends on the scale of x", lambda x, y, z: (x.sign() * x.square(), y, z),
            "Squaring x (with its sign) changes your result, though it changes no order. Only ranks may count."),
        Invariance("depends on the order of storage", lambda x, y, z: (x.flip(0), y.flip(0), z.flip(0)),
            "Stored in another order, the same numbers give another correlation. Equal values need equal ranks."),
    ),
    hints=("Ranks of all three; remove the line in the control's ranks from the other two; correlate what is left.",
           "A tie's rank is the mean of the places it takes. The line has an intercept: centre before you regress.",
           "x = ranks - mean, z likewise; residual x - (x @ z) / (z @ z) * z, y the same; the cosine of the two."),
    misconceptions=(
        Misconception("ties as stored", slips.given(lambda *v: tuple(x.argsort(stable=True).argsort() for x in v)),
            "Equal values get different ranks, as they are stored. Each takes the mean of the places that they share."),
        Misconception("argsort instead of ranks", slips.given(lambda *v: tuple(x.argsort(stable=True) for x in v)),
            "argsort says who stands at each place, ranks at which place each one stands: its inverse."),
        Misconception("ties at their lowest place", _ranked(_partial, lambda x: (x[:, None] > x).sum(dim=1)),
            "Equal values take the lowest of the places they share. The mean place keeps the mean of all ranks."),
        Misconception("ties at one place", _ranked(_partial, lambda x: x.unique(return_inverse=True)[1]),
            "You numbered the distinct values. A shared value takes several places, and each of it their mean."),
        Misconception("values instead of ranks", _partial,
            "You correlate the values themselves. One caption of a huge variance then decides; ranks ask for order."),
        Misconception("control left out", _ranked(lambda x, y, z: _pearson(x, y)),
            "This is Spearman's correlation as it is. What both owe to the control is still in it."),
        Misconception("correlation of the values", lambda x, y, z: _pearson(x, y),
            "This is Pearson's correlation of the values: neither ranks nor a control."),
        Misconception("residuals ranked", lambda x, y, z: _pearson(_ranks(_left(x, z)), _ranks(_left(y, z))),
            "You regressed the values and ranked what was left. Ranks first, then the line: tails are heavy."),
        Misconception("control not ranked", lambda x, y, z: _partial(_ranks(x), _ranks(y), z),
            "The control's values are in your line, not its ranks. Then the unit of length counts."),
        Misconception("only x regressed", _ranked(lambda x, y, z: _pearson(_left(x, z), y)),
            "You removed the control from x and left it in y (a semipartial correlation)."),
        Misconception("only y regressed", _ranked(lambda x, y, z: _pearson(x, _left(y, z))),
            "You removed the control from y and left it in x (a semipartial correlation)."),
        Misconception("control subtracted", _ranked(lambda x, y, z: _pearson(x - z, y - z)),
            "You subtracted the control's ranks, which puts it into both. Remove only the share that a line finds."),
        Misconception("line through the origin", _ranked(lambda x, y, z: _pearson(_left(x, z, 0), _left(y, z, 0))),
            "Your line has no intercept. Ranks are all positive: through the origin it explains too much."),
        Misconception("another control", slips.swapped(1, 2),
            "You correlated x with the control and held y fixed. The third argument is the one to remove."),
        Misconception("yet another control", slips.swapped(0, 2),
            "You correlated y with the control and held x fixed. The third argument is the one to remove."),
        Misconception("numerator only", _ranked(lambda x, y, z: _pearson(x, y) - _pearson(x, z) * _pearson(y, z)),
            "You have r_xy - r_xz r_yz. What is left of x and of y is shorter than they: divide by both lengths."),
        Misconception("root left out",
            _ranked(lambda x, y, z: _partial(x, y, z) / ((1 - _pearson(x, z)**2) * (1 - _pearson(y, z)**2)).sqrt()),
            "Your result may exceed 1: 1 - r^2 is the share of variance that is left, and its root the length."),
        Misconception("not normalised", _ranked(lambda x, y, z: (_left(x, z) * _left(y, z)).mean()),
            "This is a covariance of residuals. A correlation is divided by both standard deviations."),
        Misconception("squared", slips.then(lambda r: r**2),
            "You squared it: the share of variance explained. The sign is gone with it, and it is the question."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "risk_coverage": _RISK_COVERAGE, "two_tables": _TWO_TABLES, "prompt_step": _PROMPT_STEP,
    "partial_rank_correlation": _PARTIAL,
}  # fmt: skip
