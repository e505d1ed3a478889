"""Exercises of lesson 03: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.simclr import nt_xent

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction
from ._inputs import far_rows, unit

LESSON = "03_simclr"


def _loss(z1: Tensor, z2: Tensor, temperature: float | Tensor) -> Tensor:
    return nt_xent(z1, z2, temperature)


# ---- 3.1 the loss ----------------------------------------------------------------------------------------------------


def _loss_loop(z1, z2, temperature):
    z, b = torch.cat([z1, z2]), len(z1)
    total = torch.zeros(()).to(z)
    for i in range(2 * b):
        others = [j for j in range(2 * b) if j != i]
        scores = torch.stack([(z[i] * z[j]).sum() / temperature for j in others])
        total = total + scores.logsumexp(0) - scores[others.index((i + b) % (2 * b))]
    return total / (2 * b)


def _batches(generator):
    sizes = ((2, 3, 1.0), (3, 4, 0.3), (6, 16, 0.2))
    found = [(unit(generator, b, d), unit(generator, b, d), t) for b, d, t in sizes]
    free = [0.7 * torch.randn(4, 5, generator=generator) for _ in range(2)]  # no unit vectors
    return [*found, (*free, 0.6)]


def _far_batches(generator):
    opposite = unit(generator, 4, 8)
    return [(*far_rows(generator), 0.01), (opposite, -opposite, 0.01)]


def _itself(n, like):
    return torch.eye(n, dtype=torch.bool, device=like.device)


def _partners(n, device=None):
    return torch.arange(n, device=device).roll(n // 2)


def _own(z, t):
    return (z @ z.T / t).masked_fill(_itself(len(z), z), -math.inf)


def _table(z1, z2, t):
    return _own(torch.cat([z1, z2]), t)


def _of_table(loss):
    """A loss of the views and the temperature, from one of the table of logits with -inf on its diagonal."""
    return lambda z1, z2, t: loss(_table(z1, z2, t))


def _chosen(x):
    return x.gather(1, _partners(len(x))[:, None])[:, 0]


def _with_itself(z1, z2, t):
    z = torch.cat([z1, z2])
    return F.cross_entropy(z @ z.T / t, _partners(len(z)))


def _zero_for_itself(z1, z2, t):
    z = torch.cat([z1, z2])
    return F.cross_entropy((z @ z.T / t).masked_fill(_itself(len(z), z), 0.0), _partners(len(z)))


def _without_partner(x):
    partner = torch.zeros_like(x, dtype=torch.bool).scatter(1, _partners(len(x))[:, None], True)
    return (x.masked_fill(partner, -math.inf).logsumexp(1) - _chosen(x)).mean()


def _across_only(z1, z2, t):
    table, own = z1 @ z2.T / t, torch.arange(len(z1))
    return (F.cross_entropy(table, own) + F.cross_entropy(table.T, own)) / 2


def _log_sums(x):
    return (x.exp().sum(1).log() - _chosen(x)).mean()


_NT_XENT = Exercise(
    library=_loss, reference=_loss_loop, inputs=_batches, extreme=_far_batches,
    stability="Some function takes the logarithm of a sum of exponentials in one go, row by row.",
    gradients=("z1", "z2", "temperature"),
    right=(_of_table(lambda x: (x.logsumexp(1) - _chosen(x)).mean()),
           _of_table(lambda x: -_chosen(x.log_softmax(1)).mean()),
           lambda a, b, t: (F.cross_entropy(torch.cat([a @ b.T / t, _own(a, t)], 1), torch.arange(len(a)))
                            + F.cross_entropy(torch.cat([b @ a.T / t, _own(b, t)], 1), torch.arange(len(a)))) / 2),
    naive=(_of_table(_log_sums), _of_table(lambda x: -_chosen(x.exp() / x.exp().sum(1, True)).log().mean())),
    hints=(
        "Put the 2B views under each other. Which row is the partner of row i?",
        "A table of 2B x 2B scores; each row is a choice. The diagonal must never be chosen: what number has "
        "probability 0?",
        "logits = z @ z.T / tau with -inf on the diagonal; cross_entropy with labels B ... 2B-1, 0 ... B-1.",
    ),
    misconceptions=(
        Misconception("a view may choose itself", _with_itself,
            "Your denominators have 2B terms: a view is its own best match and takes the place of the partner. There "
            "are 2B - 1 candidates."),
        Misconception("itself with score 0", _zero_for_itself,
            "You wrote 0 where a view meets itself, but e^0 = 1 is still a candidate. A number with probability 0 is "
            "needed."),
        Misconception("only views of the other kind", _across_only,
            "Your candidates are the B views of the other half: this is the symmetric loss of lesson 07. Views of the "
            "own half are negatives too, B - 1 of them."),
        Misconception("one half asks",
            _of_table(lambda x: F.cross_entropy(x[: len(x) // 2], _partners(len(x))[: len(x) // 2])),
            "Only the first views choose a partner in yours. The second views choose too."),
        Misconception("partner left out of the denominator", _of_table(_without_partner),
            "Your denominator sums over the negatives only. The partner is a candidate: without it the loss can fall "
            "below zero."),
        Misconception("neighbours as partners",
            _of_table(lambda x: F.cross_entropy(x, torch.arange(len(x)) ^ 1)),
            "You take rows 1 and 2, 3 and 4 for partners. The first views come first, then the second ones."),
        Misconception("twice the loss", slips.times(2),
            "You added the means of the two halves, as the released code does: the mean over all 2B views is half of "
            "it."),
        Misconception("mean over the pairs", slips.times(lambda a, b, t: 1 / (2 * len(a) - 1)),
            "You divided by the number of candidates once too often: the mean is over the 2B views."),
        slips.summed("the 2B views"),
        Misconception("sum over all views", slips.times(lambda a, b, t: 2 * len(a)),
            "Your loss grows with the batch: take the mean over the 2B views."),
        Misconception("multiplies by the temperature", slips.inverted(2),
            "A low temperature should make the choice sharper, yours makes it softer: scores are divided by it."),
        Misconception("temperature left out", slips.left_out(2, 1.0),
            "Your loss does not depend on the temperature. Every score is divided by it."),
        Misconception("logarithm of the mean", _of_table(lambda x: -_chosen(x.softmax(1)).mean().log()),
            "You took the logarithm of the mean probability. The loss is the mean of the logarithms: section 4.4."),
        Misconception("no logarithm", _of_table(lambda x: -_chosen(x.softmax(1)).mean()),
            "You averaged the probabilities of the partners. The loss averages their logarithms.",
            says=lambda loss, *_: -1 <= loss <= 0),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0, 1),
    ),
)  # fmt: skip

# ---- 3.2 interleaved views -------------------------------------------------------------------------------------------


def interleaved(z: Tensor, temperature: float | Tensor) -> Tensor:
    """NT-Xent of views in the order a1, b1, a2, b2, ... (2B, D) -> scalar"""
    return nt_xent(z[0::2], z[1::2], temperature)


def _interleaved_loop(z, temperature):
    total = torch.zeros(()).to(z)
    for i in range(len(z)):
        partner = i + 1 if i % 2 == 0 else i - 1
        scores = torch.stack([(z[i] * z[j]).sum() / temperature for j in range(len(z)) if j != i])
        total = total + scores.logsumexp(0) - (z[i] * z[partner]).sum() / temperature
    return total / len(z)


def _pairs(generator):
    return [(unit(generator, 4, 3), 1.0), (unit(generator, 10, 6), 0.3), (unit(generator, 12, 8), 0.15)]


def _in_place(z, t):
    return F.cross_entropy(_own(z, t), torch.arange(len(z), device=z.device) ^ 1)


_INTERLEAVED = Exercise(
    library=interleaved, reference=_interleaved_loop, inputs=_pairs, gradients=("z",),
    naive="the order of the rows is the point; 3.1 asks for numerics",
    right=(_in_place, lambda z, t: (lambda pairs: nt_xent(pairs[:, 0], pairs[:, 1], t))(z.reshape(-1, 2, z.shape[1]))),
    hints=(
        "Which rows are first views, and which are second ones?",
        "Either sort the rows into two halves and use the loss of 3.1, or give each row another label.",
        "Every second row from 0 on, every second row from 1 on: z[0::2], z[1::2].",
    ),
    misconceptions=(
        Misconception("halves as partners", lambda z, t: nt_xent(z[: len(z) // 2], z[len(z) // 2 :], t),
            "You split the rows in the middle: then a1 is matched with a stranger. Views come a1, b1, a2, b2, ..."),
        Misconception("reversed halves", lambda z, t: nt_xent(z[: len(z) // 2], z[len(z) // 2 :].flip(0), t),
            "You match the first row with the last. Partners stand beside each other."),
        Misconception("the next row", lambda z, t: F.cross_entropy(_own(z, t), torch.arange(len(z)).roll(-1)),
            "Every row of yours has the next one for a partner: b1 is then matched with a2. Partners are mutual."),
        Misconception("a view may choose itself", lambda z, t: F.cross_entropy(z @ z.T / t, torch.arange(len(z)) ^ 1),
            "The labels are right, but a view may choose itself in yours: there are 2B - 1 candidates."),
        Misconception("only views of the other kind", lambda z, t: _across_only(z[0::2], z[1::2], t),
            "Your candidates are the B views of the other kind only. Views of the own kind are negatives too."),
        Misconception("twice the loss", slips.times(2), "Twice too large: the mean is over all 2B views."),
        Misconception("multiplies by the temperature", slips.inverted(1),
            "A low temperature should make the choice sharper: scores are divided by it."),
        Misconception("temperature left out", slips.left_out(1, 1.0), "Your loss does not depend on the temperature."),
    ),
)  # fmt: skip

# ---- 3.3 chosen minus true, twice ------------------------------------------------------------------------------------


def similarity_gradient(similarity: Tensor, temperature: float) -> Tensor:
    """d NT-Xent / d similarity, each pair as one number. (2B, 2B) -> (2B, 2B)"""
    n = len(similarity)
    x = (similarity / temperature).masked_fill(_itself(n, similarity), -math.inf)
    chosen = torch.softmax(x, dim=1)
    return (chosen + chosen.T - 2 * _partner_table(chosen)) / (n * temperature)


def _partner_table(like):
    n = len(like)
    return torch.eye(n, dtype=like.dtype, device=like.device).roll(n // 2, dims=1)


def _by_autograd(similarity, temperature):
    n = len(similarity)
    upper = similarity.detach().triu(1).requires_grad_()
    both = upper + upper.T
    x = (both / temperature).masked_fill(_itself(n, both), -math.inf)
    found = torch.autograd.grad(F.cross_entropy(x, _partners(n, both.device)), upper)[0].triu(1)
    return found + found.T


def _symmetric(generator):
    found = []
    for n, t in ((4, 1.0), (6, 0.5), (8, 0.2), (10, 2.0)):
        x = torch.rand(n, n, generator=generator) * 2 - 1
        found.append(((x + x.T) / 2, t))
    return found


def _far_symmetric(generator):
    z = torch.cat(far_rows(generator))
    return [(z @ z.T, 0.01)]


def _rows(s, t):
    return torch.softmax((s / t).masked_fill(_itself(len(s), s), -math.inf), dim=1)


def _log_rows(s, t):
    return (s / t).masked_fill(_itself(len(s), s), -math.inf).log_softmax(1).exp()


def _one_row(s, t):
    return (_rows(s, t) - _partner_table(s)) / (len(s) * t)


def _naive_rows(s, t):
    e = (s / t).exp().masked_fill(_itself(len(s), s), 0.0)
    p = e / e.sum(dim=1, keepdim=True)
    return (p + p.T - 2 * _partner_table(p)) / (len(s) * t)


_GRADIENT = Exercise(
    library=similarity_gradient, reference=_by_autograd, inputs=_symmetric, extreme=_far_symmetric,
    stability="torch.softmax takes the largest number of each row away before it takes exponentials.",
    right=(lambda s, t: _one_row(s, t) + _one_row(s, t).T,
           lambda s, t: (_log_rows(s, t) + _log_rows(s, t).T - 2 * _partner_table(s)) / (len(s) * t)),
    naive=(_naive_rows,),
    hints=(
        "One row: minus the partner's logit, plus a log-sum-exp over the others. What is the derivative of each part?",
        "Softmax of the row without the diagonal, minus one at the partner. Each pair stands in two rows.",
        "With P the softmax and T the table of partners: (P + P.T - 2 T) / (2B tau).",
    ),
    misconceptions=(
        Misconception("one row only", _one_row,
            "You counted the choice of view i only. The same similarity stands in the choice of view j.",
            says=lambda g, *_: g.sum(dim=1).abs().max() < 1e-4),
        Misconception("chain rule forgotten", slips.times(lambda s, t: t),
            "This is the gradient by the logits. The similarity is divided by the temperature on the way."),
        Misconception("multiplies by the temperature", slips.times(lambda s, t: t * t),
            "The derivative of s / tau with respect to s is 1 / tau; you multiplied by tau."),
        Misconception("divided by the pictures", slips.times(2),
            "You divided by B. The loss is a mean over 2B views."),
        Misconception("not divided by the batch", slips.per_batch,
            "The loss is a mean over the 2B views: divide by their number."),
        Misconception("true counted once", lambda s, t: _one_row(s, t) + _rows(s, t).T / (len(s) * t),
            "The partner is chosen from both ends too: minus two, not minus one."),
        Misconception("true left out", lambda s, t: (_rows(s, t) + _rows(s, t).T) / (len(s) * t),
            "All pairs are pushed apart in yours, partners too.",
            says=lambda g, *_: (g >= 0).all()),
        Misconception("diagonal as partner",
            lambda s, t: (_rows(s, t) + _rows(s, t).T - 2 * torch.eye(len(s)).to(s)) / (len(s) * t),
            "You took views for their own partners. The partner of row i is row i + B, or i - B."),
        Misconception("a view may choose itself",
            lambda s, t: ((s / t).softmax(1) + (s / t).softmax(1).T - 2 * _partner_table(s)) / (len(s) * t),
            "Your softmax includes the diagonal: a view would push itself away."),
        Misconception("temperature left out", slips.left_out(1, 1.0), "Your gradient does not depend on tau."),
        Misconception("temperature left out of the softmax",
            lambda s, t: (_rows(s, 1.0) + _rows(s, 1.0).T - 2 * _partner_table(s)) / (len(s) * t),
            "Your softmax does not depend on the temperature: the logits are similarity / temperature."),
        Misconception("ascent", slips.negated, "The sign is turned: bringing partners closer must lower the loss.",
            says=lambda g, *_: _chosen(g).min() > 0),
    ),
)  # fmt: skip

# ---- 3.4 collapse ----------------------------------------------------------------------------------------------------

_COLLAPSE = Prediction(
    answer=1.946,
    hints=("All scores are equal. Among how many candidates does each view guess?",
           "There are 8 views, and a view is no candidate for itself.",
           "log 7."),
    misconceptions=(
        Misconception("as in lesson 01", 1.386, "log 4: four keys for a query. Here each view meets all the others."),
        Misconception("a view may choose itself", 2.079, "log 8: a view is no candidate for itself."),
        Misconception("negatives only", 1.792, "log 6: the partner is a candidate too."),
        Misconception("twice the loss", 3.892, "2 log 7: the released code's value. The mean over all views is half."),
        Misconception("in bits", 2.807, "log2 7: right in bits. The course counts in nats."),
        Misconception("divided by the temperature", 19.459,
            "The temperature does not matter: all scores are equal, whatever they are divided by."),
        Misconception("zero", 0.0, "Partners agree, but so does everybody else: it is a guess among 7."),
    ),
    tolerance=5e-4,
)  # fmt: skip

# ---- 3.5 the best critic ---------------------------------------------------------------------------------------------


def critic_ratio(content: Tensor, style: Tensor, keep: float) -> Tensor:
    """p(x' | x) / p(x') of a view that keeps the content, and the style with probability keep. -> (C, S, C, S)"""
    eye = torch.eye(style.shape[1], dtype=style.dtype, device=style.device)
    inside = keep * eye / style[:, None, :] + 1 - keep  # (C, S, S)
    return torch.einsum("cd,cst->csdt", torch.diag(1 / content), inside)


def _ratio_loop(content, style, keep):
    c_all, s_all = style.shape
    joint = torch.zeros(c_all, s_all, c_all, s_all).to(style)  # of picture and other view
    for c in range(c_all):
        for s in range(s_all):
            p = content[c] * style[c, s]
            joint[c, s, c, s] += p * keep
            for new in range(s_all):
                joint[c, s, c, new] += p * (1 - keep) * style[c, new]
    return joint / (joint.sum(dim=(2, 3), keepdim=True) * joint.sum(dim=(0, 1)))


def _worlds(generator):
    def simplex(*shape):
        return torch.softmax(torch.randn(*shape, generator=generator), dim=-1)

    return [(simplex(c), simplex(c, s), keep) for c, s, keep in ((2, 2, 0.3), (3, 2, 0.6), (2, 4, 0.15), (4, 3, 0.5))]


def _other_view(content, style, keep):
    """p(x' | x)"""
    eye = torch.eye(style.shape[1]).to(style)
    inside = keep * eye + (1 - keep) * style[:, None, :]
    return torch.einsum("cd,cst->csdt", torch.eye(len(content)).to(content), inside)


_CRITIC = Exercise(
    library=critic_ratio, reference=_ratio_loop, inputs=_worlds,
    naive="ratios of moderate probabilities, without exponentials",
    right=(lambda p, q, k: _other_view(p, q, k) / (p[:, None] * q),),
    hints=(
        "Write p(x' | x) first, from (6): two ways in which the other view can come about.",
        "Divide by p(c') p(s' | c'). What becomes of each of the two ways where c' = c?",
        "[c' = c] / p(c) times (rho [s' = s] / p(s | c) + 1 - rho), as one table.",
    ),
    misconceptions=(
        Misconception("keeping and drawing exchanged", lambda p, q, k: critic_ratio(p, q, 1 - k),
            "You draw anew with probability rho: rho is the probability of keeping the style."),
        Misconception("not divided", _other_view,
            "This is p(x' | x), a probability: each picture's row sums to one. The critic is a ratio to p(x').",
            says=lambda r, *_: (r.sum(dim=(2, 3)) - 1).abs().max() < 1e-4),
        Misconception("the joint probability",
            lambda p, q, k: _other_view(p, q, k) * (p[:, None] * q)[:, :, None, None],
            "This is the joint probability of the two views: it sums to one. The ratio divides it by both marginals.",
            says=lambda r, *_: abs(r.sum() - 1) < 1e-4),
        Misconception("style not divided", lambda p, q, k: critic_ratio(p, torch.ones_like(q), k),
            "A kept style is rarer evidence where the style is rare: rho is divided by p(s | c)."),
        Misconception("content not divided", lambda p, q, k: critic_ratio(torch.ones_like(p), q, k),
            "You left out 1 / p(c): agreeing on a rare content says more."),
        Misconception("style drawn evenly",
            lambda p, q, k: _other_view(p, torch.full_like(q, 1 / q.shape[1]), k) / (p[:, None] * q),
            "A new style comes from p(s | c), not from all styles alike."),
        Misconception("content drawn anew too",
            lambda p, q, k: k * _other_view(p, q, 1.0) / (p[:, None] * q) + 1 - k,
            "Other contents have a positive ratio in yours: the augmentation never changes the content.",
            says=lambda r, *_: (r > 0).all()),
        Misconception("always drawn anew", lambda p, q, k: critic_ratio(p, q, 0.0),
            "Your ratio does not depend on rho: this is the case rho = 0."),
        Misconception("its logarithm", lambda p, q, k: critic_ratio(p, q, k).log(),
            "This is the logarithm, which is minus infinity where contents differ. The ratio itself is asked for."),
    ),
)  # fmt: skip

# ---- 3.6 who is listened to ------------------------------------------------------------------------------------------


def listened_to(log_p: Tensor) -> Tensor:
    """Weights of the views in the gradient of -log(mean p). (N,) -> (N,)"""
    return torch.softmax(log_p, dim=0)


def _weights_loop(log_p):
    x = log_p.detach().requires_grad_()
    return torch.autograd.grad(x.logsumexp(0), x)[0]


_WEIGHTS = Exercise(
    library=listened_to, reference=_weights_loop,
    inputs=lambda g: [(torch.randn(n, generator=g) - 2,) for n in (2, 5, 9)],
    extreme=lambda g: [(torch.randn(4, generator=g) - 200,), (torch.tensor([-300.0, -299.0, -1.0]),)],
    stability="Probabilities of e^-200 are 0 in float32. Shares of them can be had from the logarithms alone.",
    right=(lambda x: (x - x.logsumexp(0)).exp(), lambda x: (x - x.max()).exp() / (x - x.max()).exp().sum()),
    naive=(lambda x: x.exp() / x.exp().sum(), lambda x: x.exp() / x.exp().mean() / len(x)),
    hints=(
        "The mean of p is a sum of e^(log p). Differentiate its logarithm with respect to one log p.",
        "p_i over the sum of all p: each view's share of the probability.",
        "Shares of exponentials of given numbers have a name, and a function that never forms the small number.",
    ),
    misconceptions=(
        Misconception("all alike", lambda x: torch.full_like(x, 1 / len(x)),
            "These are the weights of the mean of -log p. Here the logarithm is taken of the mean."),
        Misconception("the probabilities", lambda x: x.exp(),
            "These do not sum to one: they are the p themselves. Divide by their sum."),
        Misconception("the derivative by p", lambda x: torch.full_like(x, 1.0) / x.exp().sum(),
            "This is the derivative by p_i, the same for all. The question is for log p_i, which brings a factor p_i.",
            says=lambda w, *_: w.max() - w.min() < 1e-5),
        Misconception("the lost ones first", lambda x: torch.softmax(-x, dim=0),
            "Your largest weight is on the view with the smallest p. It is the other way round, which is the trouble.",
            says=lambda w, x, *_: w.argmax() == x.argmin()),
        Misconception("the misses", lambda x: (1 - x.exp()) / (1 - x.exp()).sum(),
            "You weigh with 1 - p: that is how strongly the mean of -log p pulls a view's logits. Here it is p.",
            says=lambda w, x, *_: not (x < 0).all() or w.argmin() == x.argmax()),
        Misconception("shares of the logarithms", lambda x: x / x.sum(),
            "You divided the logarithms by their sum. Shares of p are asked for, not of log p."),
        Misconception("in logarithms", lambda x: x.log_softmax(dim=0),
            "These are the logarithms of the weights: they are negative.", says=lambda w, *_: (w <= 0).all()),
        Misconception("divided by the number of views", slips.averaged,
            "The mean over N cancels: its logarithm is a constant. The weights sum to one."),
    ),
)  # fmt: skip

# ---- 3.7 better or lucky ---------------------------------------------------------------------------------------------


def p_value(a: Tensor, b: Tensor, signs: Tensor) -> Tensor:
    """Two-sided p of a paired permutation test with given swaps. (N,), (N,), (R, N) -> scalar"""
    d = (a - b).to(signs.dtype)  # (N,)
    swapped = (signs * d).mean(dim=1).abs()  # (R,)
    return (1 + (swapped >= d.mean().abs() - 1e-6).sum()).to(signs.dtype) / (1 + len(signs))


def _p_loop(a, b, signs):
    found = sum(float(x) - float(y) for x, y in zip(a, b, strict=True)) / len(a)
    count = 0
    for row in signs:
        swapped = 0.0
        for x, y, sign in zip(a, b, row, strict=True):
            swapped += (float(x) - float(y)) if sign > 0 else (float(y) - float(x))
        count += abs(swapped / len(a)) >= abs(found) - 1e-6
    return torch.tensor((1 + count) / (1 + len(signs)), dtype=signs.dtype)


def _exams(generator):
    found = []
    for n, r, share in ((8, 30, 0.9), (20, 50, 0.75), (15, 40, 0.5), (40, 60, 0.3)):
        b = (torch.rand(n, generator=generator) < 0.5).float()
        own = (torch.rand(n, generator=generator) < share).float()
        a = torch.where(torch.rand(n, generator=generator) < share - 0.1, b, own)
        found.append((a, b, 2.0 * torch.randint(2, (r, n), generator=generator) - 1))
    a, b, signs = found[1]
    return [*found, (b, a, signs), (b[:1].expand(20).clone() * 0, b, signs)]


def _swapped(a, b, signs):
    return (signs * (a - b)).mean(dim=1)


def _unpaired(a, b, signs):
    """Swaps the results after sorting: what the pairs were is lost."""
    return p_value(a.sort().values, b.sort().values, signs)


def _share(counts):
    """A p from one bool for each draw."""
    return lambda a, b, s: (1 + counts(_swapped(a, b, s), (a - b).mean()).sum()) / (1 + len(s))


_P_VALUE = Exercise(
    library=p_value, reference=_p_loop, inputs=_exams,
    naive="counts and means of small numbers",
    right=(lambda a, b, s: (1 + ((s @ (a - b).to(s)).abs() >= (a - b).sum().abs() - 1e-4).sum()) / (1 + len(s)),
           _share(lambda draws, d: draws.square() >= d.square() - 1e-6)),
    hints=(
        "Make the N differences first. What does swapping do to a difference?",
        "signs * d has a row for each draw; its means are what chance alone would bring.",
        "Count |mean| of the rows at least |mean of d|, minus a rounding error; add one above and below.",
    ),
    misconceptions=(
        Misconception("one-sided", _share(lambda draws, d: draws >= d - 1e-6),
            "You count differences in one direction only. Two-sided: by their size, in either direction."),
        Misconception("the found one not counted",
            lambda a, b, s: (_swapped(a, b, s).abs() >= (a - b).mean().abs() - 1e-6).float().mean(),
            "Your p can be 0, as if no draw could ever be as far. The found result is one of the possible draws: one "
            "above, one below."),
        Misconception("one above only", slips.times(lambda a, b, s: (1 + len(s)) / len(s)),
            "You added one to the count and not to the number of draws."),
        Misconception("strictly larger", _share(lambda draws, d: draws.abs() > d.abs() + 1e-6),
            "Draws exactly as far count too, and with hits there are many: at least as large, not larger."),
        Misconception("the other tail", _share(lambda draws, d: draws.abs() < d.abs() - 1e-6),
            "You counted the draws that are less far. Small p means that chance seldom brings so much."),
        Misconception("confidence for p", lambda a, b, s: 1 - p_value(a, b, s),
            "This is 1 - p."),
        Misconception("the pairs lost", _unpaired,
            "You sorted the results, or tested two means: which questions both got right is then forgotten. Swap the "
            "two results of one question."),
        Misconception("a sum for the mean",
            lambda a, b, s: _share(lambda draws, d: len(a) * draws.abs() >= d.abs() - 1e-6)(a, b, s),
            "You compare sums of swapped differences with a mean. Both sums or both means."),
        Misconception("sizes of the differences",
            lambda a, b, s: (1 + ((s * (a - b)).abs().mean(1) >= (a - b).mean().abs() - 1e-6).sum()) / (1 + len(s)),
            "You took the size before the mean: then a sign changes nothing. First the mean of a row, then its size.",
            says=lambda p, *_: p == 1),
    ),
)  # fmt: skip

EXERCISES = {
    "nt_xent": _NT_XENT,
    "interleaved": _INTERLEAVED,
    "gradient": _GRADIENT,
    "collapse": _COLLAPSE,
    "critic": _CRITIC,
    "weights": _WEIGHTS,
    "p_value": _P_VALUE,
}
