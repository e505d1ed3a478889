"""Exercises of lesson 01: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.infonce import info_nce, info_nce_negatives

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction
from ._inputs import far_rows, far_table, unit

LESSON = "01_infonce"


def _places(x):
    return torch.arange(len(x))


# ---- 1.1 the loss ----------------------------------------------------------------------------------------------------


def _loss_loop(queries, keys, temperature):
    total = torch.zeros(()).to(queries)
    for i in range(len(queries)):
        scores = torch.stack([(queries[i] * key).sum() / temperature for key in keys])
        total = total + scores.logsumexp(0) - scores[i]
    return total / len(queries)


def _batches(generator):
    sizes = ((2, 3, 1.0), (5, 4, 0.2), (8, 16, 0.07))
    free = (torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator), 0.5)  # no unit vectors
    return [*((unit(generator, b, d), unit(generator, b, d), t) for b, d, t in sizes), free]


def _far_batches(generator):
    opposite = unit(generator, 4, 8)
    return [(*far_rows(generator), 0.01), (opposite, -opposite, 0.01)]  # scores of 100, a row at -100


def _of_logits(loss):
    """A loss of queries, keys and temperature, from one of the table of logits."""
    return lambda queries, keys, temperature: loss(queries @ keys.T / temperature)


def _without_positive(logits):
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)
    return (others.logsumexp(dim=1) - logits.diagonal()).mean()


def _log_of_sums(logits):
    return (logits.exp().sum(dim=1).log() - logits.diagonal()).mean()


def _log_of_quotients(logits):
    e = logits.exp()
    return -(e.diagonal() / e.sum(dim=1)).log().mean()


_INFO_NCE = Exercise(
    library=info_nce, reference=_loss_loop, inputs=_batches, extreme=_far_batches,
    stability="Some function takes the logarithm of a sum of exponentials in one go, row by row.",
    gradients=("queries", "keys", "temperature"),
    right=(_of_logits(lambda x: -x.log_softmax(dim=1).diagonal().mean()),
           _of_logits(lambda x: _log_of_sums(x - x.amax(dim=1, keepdim=True))),
           lambda q, k, t: (torch.einsum("id,jd->ij", q, k) / t).logsumexp(1).mean() - (q * k).sum(1).mean() / t),
    naive=(_of_logits(_log_of_sums), _of_logits(_log_of_quotients), _of_logits(lambda x: _log_of_sums(x - x.max())),
           _of_logits(lambda x: -x.softmax(dim=1).diagonal().log().mean())),
    hints=(
        "Make the table of scores first: one row for each query, one column for each key. Where are the real pairs?",
        "Each row is a choice among B candidates, a softmax. You want minus the log-probability of the diagonal entry, "
        "averaged over the rows.",
        "logits = queries @ keys.T / temperature, then F.cross_entropy(logits, torch.arange(B)).",
    ),
    misconceptions=(
        Misconception("multiplies by the temperature", slips.inverted(2),
            "A low temperature should make the choice sharper, yours makes it softer: scores are divided by it."),
        Misconception("temperature left out", slips.left_out(2, 1.0),
            "Your loss does not depend on the temperature. Cosines lie in [-1, 1]: without it the softmax stays flat."),
        Misconception("temperature on the sum only",
            lambda q, k, t: ((q @ k.T / t).logsumexp(1) - (q * k).sum(1)).mean(),
            "You divide the scores in the denominator by the temperature and not the real one in the numerator."),
        Misconception("temperature on the real one only",
            lambda q, k, t: ((q @ k.T).logsumexp(1) - (q * k).sum(1) / t).mean(),
            "You divide the real score by the temperature and not those in the denominator. Every score is."),
        Misconception("temperature squared", slips.argument(2, lambda t: t * t),
            "You divide by the temperature twice."),
        Misconception("softmax over the queries", slips.swapped(0, 1),
            "Your probabilities sum to one down the columns: keys choose among queries. Here a query chooses a key."),
        Misconception("both directions", lambda q, k, t: (info_nce(q, k, t) + info_nce(k, q, t)) / 2,
            "This is the symmetric loss, the mean of both directions. Here only queries choose among keys."),
        slips.summed("the queries, so that log B means a blind guess"),
        Misconception("mean over all pairs", slips.averaged,
            "You divided by the batch once too often: the mean is over the B queries, not over the B x B scores."),
        Misconception("positive left out of the denominator", _of_logits(_without_positive),
            "Your denominator sums over the impostors only. Then the ratio is no probability: it can exceed one, and "
            "the loss can fall below zero. The real key is one of the candidates."),
        slips.softmax_twice(_of_logits(lambda x: F.cross_entropy(x.softmax(dim=1), _places(x)))),
        Misconception("distances instead of products",
            lambda q, k, t: F.cross_entropy(-torch.cdist(q, k) / t, _places(q)),
            "Your scores are distances with a minus. Here a score is the product of query and key."),
        Misconception("all labels 0", _of_logits(lambda x: F.cross_entropy(x, 0 * _places(x))),
            "You ask every query for the first key. Query i belongs to key i."),
        Misconception("yes or no for each pair",
            _of_logits(lambda x: F.binary_cross_entropy_with_logits(x, torch.eye(len(x)).to(x))),
            "You ask of each pair alone whether it is real. Here each query chooses one of B keys: one softmax a row."),
        Misconception("no logarithm", _of_logits(lambda x: -x.softmax(dim=1).diagonal().mean()),
            "You averaged the probabilities of the real keys. The loss averages their logarithms.",
            says=lambda loss, *_: -1 <= loss <= 0),
        Misconception("logarithm of the mean", _of_logits(lambda x: -x.softmax(1).diagonal().mean().log()),
            "You took the logarithm of the mean probability. The loss is the mean of the logarithms: one query that is "
            "far off should cost much."),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0, 1),
    ),
)  # fmt: skip

# ---- 1.2 the general form --------------------------------------------------------------------------------------------


def _negatives_loop(query, positive, negatives, temperature):
    total = torch.zeros(()).to(query)
    for q, p, others in zip(query, positive, negatives, strict=True):
        real = (q * p).sum()
        races = torch.stack([((q * n).sum() - real) / temperature for n in others] + [torch.zeros_like(real)])
        total = total + races.logsumexp(0)
    return total / len(query)


def _line_ups(generator):
    shapes = ((1, 1, 3, 1.0), (4, 3, 4, 0.3), (3, 12, 8, 0.1))
    found = [(unit(generator, b, d), unit(generator, b, d), unit(generator, b, m, d), t) for b, m, d, t in shapes]
    free = [torch.randn(*shape, generator=generator) for shape in ((3, 4), (3, 4), (3, 5, 4))]  # no unit vectors
    return [*found, (*free, 0.7)]


def _far_line_ups(generator):
    queries, keys = far_rows(generator)
    candidates = keys[None].repeat(4, 1, 1)  # all at -100 for the first query, at 100 for the second
    return [(queries, keys, candidates, 0.01), (keys, -keys, candidates, 0.01)]


def _of_scores(loss):
    """A loss of the arguments, from one of the scores of the positive (B, 1), of the negatives (B, M), and tau."""

    def of_arguments(query, positive, negatives, temperature):
        right = (query * positive).sum(dim=1, keepdim=True)
        return loss(right, torch.einsum("bd,bmd->bm", query, negatives), temperature)

    return of_arguments


def _choice(right, wrong):
    return (torch.cat([right, wrong], dim=1).logsumexp(dim=1) - right[:, 0]).mean()


def _first(logits):
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


_NEGATIVES = Exercise(
    library=info_nce_negatives, reference=_negatives_loop, inputs=_line_ups, extreme=_far_line_ups,
    stability="Some function takes the logarithm of a sum of exponentials in one go, row by row.",
    gradients=("query", "positive", "negatives", "temperature"),
    right=(_of_scores(lambda r, w, t: _first(torch.cat([r, w], dim=1) / t)),
           _of_scores(lambda r, w, t: F.softplus((w / t).logsumexp(1) - r[:, 0] / t).mean())),
    naive=(_of_scores(lambda r, w, t: -((r / t).exp() / ((r / t).exp() + (w / t).exp().sum(1, True))).log().mean()),
           _of_scores(lambda r, w, t: (torch.cat([r, w], dim=1) / t).exp().sum(1).log().mean() - r.mean() / t)),
    hints=(
        "Two kinds of scores: one for the positive, (B,), and M for the negatives, (B, M). How many candidates in all?",
        "Put the positive's score in front of the negatives': (B, 1 + M). Then it is a choice whose right answer is "
        "place 0.",
        "torch.einsum('bd,bmd->bm', query, negatives) scores the negatives. Concatenate, divide by the temperature, "
        "logsumexp minus the first column.",
    ),
    misconceptions=(
        Misconception("positive left out of the denominator",
            _of_scores(lambda r, w, t: ((w / t).logsumexp(dim=1) - r[:, 0] / t).mean()),
            "With one negative and the positive equal your loss is 0 where a coin would be thrown: log 2 is right. The "
            "positive is a candidate too."),
        Misconception("mean over the negatives",
            _of_scores(lambda r, w, t: _choice(r / t, (w / t).logsumexp(1, True) - math.log(w.shape[1]))),
            "You averaged the exponentials of the negatives. Then a hundred negatives count as one, and the ceiling "
            "of the bound stays at log 2. Sum them."),
        Misconception("temperature outside the exponential",
            _of_scores(lambda r, w, t: ((r.exp() / t + (w / t).exp().sum(1, True)).log() - r / t).mean()),
            "This is the slip of the slide: exp(...)/tau in the denominator. The temperature divides the score, inside "
            "each exponential, or numerator and denominator speak of different critics."),
        Misconception("temperature outside every exponential",
            _of_scores(lambda r, w, t: ((r.exp() / t + (w.exp() / t).sum(1, True)).log() - r / t).mean()),
            "You have exp(...)/tau in the denominator. The temperature divides the score, inside each exponential."),
        Misconception("temperature on the positive only", _of_scores(lambda r, w, t: _choice(r / t, w)),
            "The negatives' scores are not divided by the temperature in yours. Every score is."),
        Misconception("temperature on the negatives only", _of_scores(lambda r, w, t: _choice(r, w / t)),
            "The positive's score is not divided by the temperature in yours. Every score is."),
        Misconception("temperature left out", slips.left_out(3, 1.0),
            "Your loss does not depend on the temperature. Every score is divided by it."),
        Misconception("multiplies by the temperature", slips.inverted(3),
            "A low temperature should make the choice sharper, yours makes it softer."),
        Misconception("everybody's negatives",
            lambda q, p, n, t: info_nce_negatives(q, p, n.flatten(0, 1), t),
            "Each query meets the negatives of all queries in yours, B times M of them. Row b of `negatives` belongs "
            "to query b."),
        Misconception("positive last, label 0", _of_scores(lambda r, w, t: _first(torch.cat([w, r], dim=1) / t)),
            "You ask for place 0, where the first negative stands: the positive is the last column of your table."),
        slips.softmax_twice(_of_scores(lambda r, w, t: _first((torch.cat([r, w], dim=1) / t).softmax(dim=1)))),
        slips.summed("the queries"),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0, 1, 2),
    ),
)  # fmt: skip

# ---- 1.3 the true posterior ------------------------------------------------------------------------------------------


def posterior(log_conditional: Tensor, log_marginal: Tensor) -> Tensor:
    """p(d = i | X, c) from log p(x_i | c) and log p(x_i). (N,), (N,) -> (N,)"""
    return torch.softmax(log_conditional - log_marginal, dim=0)


def _bayes_loop(log_conditional, log_marginal):
    """Bayes' rule with the whole product of every line-up, in logarithms."""
    n, joint = len(log_marginal), []
    for i in range(n):
        joint.append(sum(log_conditional[j] if j == i else log_marginal[j] for j in range(n)) - math.log(n))
    log_joint = torch.stack(joint)
    return (log_joint - log_joint.logsumexp(0)).exp()


def _densities(generator):
    sizes = ((2, 1.0), (5, 2.0), (9, 3.0))
    return [tuple(spread * torch.randn(n, generator=generator) - 2 for _ in range(2)) for n, spread in sizes]


def _extreme_densities(generator):  # densities in many dimensions leave float32
    a, b = torch.randn(2, 4, generator=generator)
    return [(a + 150, b - 100), (a - 150, b - 150)]


_POSTERIOR = Exercise(
    library=posterior, reference=_bayes_loop, inputs=_densities, extreme=_extreme_densities,
    stability="exp(150) is infinite in float32, and exp(-150) is 0. Subtract first, and let softmax take the "
    "exponential.",
    right=(lambda a, b: (a - b - (a - b).logsumexp(0)).exp(),
           lambda a, b: torch.stack([1 / ((a - b) - (a[i] - b[i])).exp().sum() for i in range(len(a))])),
    naive=(lambda a, b: (a.exp() / b.exp()) / (a.exp() / b.exp()).sum(),
           lambda a, b: (a - b).exp() / (a - b).exp().sum()),
    hints=(
        "Write down the probability that the real one stands in place i *and* all candidates are as they are: eq. (3).",
        "Divide numerator and denominator of Bayes' rule by the product of all p(x_l). Which factor stays behind?",
        "What is left is the ratio p(x_i | c) / p(x_i), over its sum. In logarithms: a softmax of differences.",
    ),
    misconceptions=(
        Misconception("conditional alone", lambda a, b: torch.softmax(a, dim=0),
            "You compare the p(x_i | c). A candidate that is common everywhere then looks real. What matters is how "
            "much the context *raises* its probability."),
        Misconception("marginal lost in the numerator", lambda a, b: (a - (a - b).logsumexp(0)).exp(),
            "Your numbers do not sum to one: the denominator has p(x|c)/p(x), the numerator p(x|c) alone. The slide "
            "that repeats the result has this slip.", says=lambda p, *_: abs(p.sum() - 1) > 1e-3),
        Misconception("ratio upside down", slips.swapped(0, 1),
            "Your favourite is the candidate that the context makes *least* likely: the ratio is upside down.",
            says=lambda p, a, b: p.argmax() == (a - b).argmin()),
        Misconception("product of the densities", lambda a, b: torch.softmax(a + b, dim=0),
            "You multiplied by p(x_i). It is the missing factor of the product over l != i: it ends in a denominator."),
        Misconception("not normalised", lambda a, b: (a - b).exp(),
            "These are the density ratios. To be probabilities of the N places they have to sum to one.",
            says=lambda p, *_: abs(p.sum() - 1) > 1e-3),
        Misconception("exponential taken twice", lambda a, b: torch.softmax((a - b).exp(), dim=0),
            "You gave the ratios themselves to softmax, which takes the exponential once more. It wants logarithms."),
        Misconception("logarithm returned", slips.then(torch.log),
            "You returned the logarithm of the probabilities.", says=lambda p, *_: p.max() < 0),
    ),
)  # fmt: skip

# ---- 1.4 the bound ---------------------------------------------------------------------------------------------------


def bound_from_scores(scores: Tensor) -> Tensor:
    """log N - InfoNCE of a table of scores with the real ones on the diagonal. (N, N) -> nats"""
    return math.log(len(scores)) - F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def _mean_log_w(scores):
    """w is the belief in the real one measured against a blind guess: eq. (7)."""
    return torch.stack([math.log(len(scores)) + row.log_softmax(0)[i] for i, row in enumerate(scores)]).mean()


def _log_n(scores):
    return math.log(len(scores))


_BOUND = Exercise(
    library=bound_from_scores, reference=_mean_log_w,
    inputs=lambda g: [
        (s * torch.randn(n, n, generator=g) + s * torch.eye(n),) for n, s in ((2, 1.0), (6, 2.0), (9, 4.0))
    ],
    extreme=lambda g: [(far_table(g),), (50 * torch.randn(4, 4, generator=g),)],
    stability="Take the logarithm of the softmax in one go, row by row, as in 1.1.",
    right=(lambda s: (s.diagonal() - s.logsumexp(1) + _log_n(s)).mean(),
           lambda s: _log_n(s) + s.log_softmax(1).diag().mean().item(),
           lambda s: sum(_log_n(s) - float(row.logsumexp(0) - row[i]) for i, row in enumerate(s)) / len(s)),
    naive=(lambda s: (len(s) * s.exp().diagonal() / s.exp().sum(1)).log().mean(),
           lambda s: _log_n(s) - ((s - s.max()).exp().sum(1).log() + s.max() - s.diagonal()).mean()),
    hints=("What should come out for a table of zeros, a critic that guesses? And for a huge diagonal?",
           "0 and log N. It is log N minus the loss of exercise 1.1, whose table is already made.",
           "math.log(N) - F.cross_entropy(scores, torch.arange(N)), with N the number of columns."),
    misconceptions=(
        Misconception("sign turned", slips.negated,
            "Your bound falls as the critic gets better: you have loss - log N."),
        Misconception("log N forgotten", slips.plus(lambda s: -_log_n(s)),
            "A critic that guesses should certify 0 nats; yours certifies -log N. The loss is measured against log N."),
        Misconception("log N added", lambda s: F.cross_entropy(s, _places(s)) + _log_n(s),
            "You added the loss to log N. A large loss should certify little."),
        Misconception("counts the negatives only", slips.plus(lambda s: math.log((len(s) - 1) / len(s))),
            "You took log(N - 1). N counts the candidates, and the real one is among them: a blind guess is right "
            "with probability 1/N."),
        slips.IN_BITS,
        Misconception("log N in bits", slips.plus(lambda s: math.log2(len(s)) - _log_n(s)),
            "log2 of N minus a loss in nats: two units in one difference."),
        Misconception("share of log N", slips.times(lambda s: 1 / _log_n(s)),
            "You divided by log N, which gives a share of the ceiling. The bound is asked for in nats."),
        Misconception("softmax over the contexts", slips.transposed(),
            "You let candidates choose contexts, down the columns. That is a bound as well, but of the other "
            "direction; rows are contexts here."),
        slips.softmax_twice(lambda s: _log_n(s) - F.cross_entropy(s.softmax(1), _places(s))),
        Misconception("sum over the contexts", lambda s: _log_n(s) - F.cross_entropy(s, _places(s), reduction="sum"),
            "The loss is a mean over line-ups. With a sum, more line-ups would certify less."),
    ),
)  # fmt: skip

# ---- 1.5 the ceiling -------------------------------------------------------------------------------------------------

_CANDIDATES = Prediction(
    answer=91,
    hints=("What is the largest value the bound can take with N candidates, for the best critic there could be?",
           "log N, by (10). It has to reach 4.5 nats.",
           "N is at least e^4.5 = 90.02, and a whole number."),
    misconceptions=(
        Misconception("counts in bits", 23, "2^4.5 = 22.6, so 23 candidates would do for 4.5 *bits*."),
        Misconception("rounds down", 90, "log 90 = 4.4998 is still below 4.5."),
        Misconception("one candidate a nat", 5,
            "The bound grows with the *logarithm* of N. Five candidates can certify log 5 = 1.6 nats."),
        Misconception("counts the negatives", 92,
            "91 negatives would make N = 92. The real one is a candidate, so one fewer will do."),
    ),
    tolerance=1e-9,
)  # fmt: skip

# ---- 1.6 chosen minus true -------------------------------------------------------------------------------------------


def score_gradient(similarity: Tensor, temperature: float) -> Tensor:
    """d InfoNCE / d similarity, where logits = similarity / temperature. (B, B) -> (B, B)"""
    chosen = torch.softmax(similarity / temperature, dim=1)
    return (chosen - torch.eye(len(chosen)).to(chosen)) / (len(chosen) * temperature)


def _minus_true(chosen, t):
    return (chosen - torch.eye(len(chosen)).to(chosen)) / (len(chosen) * t)


def _by_autograd(similarity, temperature):
    x = similarity.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(x / temperature, _places(x)), x)[0]


def _naive_choice(x, shift):
    return (x - shift).exp() / (x - shift).exp().sum(dim=1, keepdim=True)


_GRADIENT = Exercise(
    library=score_gradient, reference=_by_autograd,
    inputs=lambda g: [(torch.rand(b, b, generator=g) * 2 - 1, t) for b, t in ((2, 1.0), (5, 0.5), (9, 0.1), (4, 3.0))],
    extreme=lambda g: [(far_table(g) / 100, 0.01)],
    stability="torch.softmax takes the largest number of each row away before it takes exponentials.",
    right=(lambda s, t: _minus_true((s / t).log_softmax(1).exp(), t),
           lambda s, t: _minus_true(torch.stack([1 / ((row[None] - row[:, None]) / t).exp().sum(1) for row in s]), t)),
    naive=(lambda s, t: _minus_true(_naive_choice(s / t, 0.0), t),
           lambda s, t: _minus_true(_naive_choice(s / t, (s / t).max()), t)),
    hints=(
        "One row, in logits: -l_ii + log sum_k exp(l_ik). Differentiate the two terms apart.",
        "With respect to the logits it is softmax minus one-hot, (12). The similarity is not the logit: chain rule.",
        "(softmax(similarity / temperature, dim=1) - identity) / (B * temperature). B comes from the mean.",
    ),
    misconceptions=(
        Misconception("chain rule forgotten", slips.times(lambda s, t: t),
            "This is the gradient with respect to the logits. The similarity is divided by the temperature on the way, "
            "so a cold loss pulls harder."),
        Misconception("multiplies by the temperature", slips.times(lambda s, t: t * t),
            "The derivative of s / tau with respect to s is 1 / tau; you multiplied by tau."),
        Misconception("temperature left out of the softmax", lambda s, t: _minus_true(s.softmax(dim=1), t),
            "Your softmax does not depend on the temperature: the logits are similarity / temperature."),
        Misconception("temperature left out", slips.left_out(1, 1.0),
            "Your gradient does not depend on the temperature."),
        Misconception("not divided by the batch", slips.per_batch,
            "Right up to a factor B: the loss is a mean over the queries."),
        Misconception("ascent", slips.negated,
            "The sign is turned: raising the similarity of a real pair must lower the loss, so its gradient is "
            "negative.", says=lambda g, *_: (g.diagonal() > 0).all()),
        Misconception("true left out", lambda s, t: torch.softmax(s / t, dim=1) / (len(s) * t),
            "Every entry of yours is positive: all keys are pushed away, the real one too. Chosen *minus true*.",
            says=lambda g, *_: (g > 0).all()),
        Misconception("softmax over the queries", slips.transposed(),
            "Your columns sum to zero. Each query makes its own choice: the rows should.",
            says=lambda g, *_: g.sum(dim=0).abs().max() < 1e-4),
        Misconception("both directions",
            lambda s, t: (score_gradient(s, t) + score_gradient(s.T, t).T) / 2,
            "This is the gradient of the symmetric loss. In 1.1 only the queries choose."),
    ),
)  # fmt: skip

# ---- 1.7 what the temperature does -----------------------------------------------------------------------------------


def effective_negatives(negatives: Tensor, temperature: float) -> Tensor:
    """exp(entropy) of the push on the negatives, eq. (14): how many of them the loss listens to. (M,) -> [1, M]"""
    log_share = torch.log_softmax(negatives / temperature, dim=0)
    return (-(log_share.exp() * log_share).sum()).exp()


def _perplexity(negatives, temperature):
    return torch.distributions.Categorical(logits=negatives / temperature).entropy().exp()


def _entropy_of_plain_shares(scores, temperature):
    share = torch.softmax(scores / temperature, dim=0)
    return (-(share * share.log()).sum()).exp()


def _entropy_of_quotients(scores, temperature):
    e = (scores / temperature).exp()
    return (e.sum().log() - (e * scores / temperature).sum() / e.sum()).exp()


_EFFECTIVE = Exercise(
    library=effective_negatives, reference=_perplexity,
    inputs=lambda g: [
        *[(torch.rand(m, generator=g) * 2 - 1, t) for m, t in ((3, 1.0), (20, 0.3), (50, 0.1))],
        (torch.zeros(7), 0.1),
    ],
    extreme=lambda g: [(torch.tensor([0.9, -0.9, 0.5, 0.899]), 0.005)],  # scores of 180, shares of e^-360
    stability="A share of 0 in float32 has no logarithm. Some function gives the logarithm of a softmax without "
    "forming the share first.",
    right=(lambda n, t: torch.special.entr(torch.softmax(n / t, 0)).sum().exp(),
           lambda n, t: math.exp(sum(-p * math.log(p) for p in torch.softmax(n.double() / t, 0).tolist() if p)),
           lambda n, t: (torch.logsumexp(n / t, 0) - (torch.softmax(n / t, 0) * n / t).sum()).exp()),
    naive=(_entropy_of_plain_shares, _entropy_of_quotients),
    hints=("By (14) the push is shared out by a softmax over the negatives alone. Of M equal shares, all M count.",
           "The entropy of equal shares is log M. So its exponential counts the negatives that matter.",
           "log_share = torch.log_softmax(negatives / temperature, dim=0); exp(-sum(share * log_share))."),
    misconceptions=(
        Misconception("entropy, not its exponential", slips.then(torch.log),
            "This is the entropy, in nats. Equal scores of 7 negatives should count as 7, yours gives log 7."),
        Misconception("minus forgotten", slips.then(torch.reciprocal),
            "Your number is below 1. The entropy is *minus* the sum of p log p.", says=lambda n, *_: n < 1),
        Misconception("2 to the nats", slips.then(lambda n: 2 ** n.log()),
            "You raised 2 to an entropy in nats. A natural logarithm is undone by exp; 2 undoes bits."),
        Misconception("exponential of bits", slips.then(lambda n: n.log2().exp()),
            "You took exp of an entropy in bits. Bits are undone by a power of 2; the course counts in nats."),
        Misconception("multiplies by the temperature", slips.inverted(1),
            "Colder should mean fewer, yours listens to more of them: divide by the temperature."),
        Misconception("temperature left out", slips.left_out(1, 1.0),
            "Your count does not depend on the temperature, which is what the exercise is about."),
        Misconception("inverse of the largest share", lambda n, t: 1 / torch.softmax(n / t, dim=0).max(),
            "One over the largest share looks at the hardest negative alone. The entropy asks all of them."),
        Misconception("inverse of the sum of squares", lambda n, t: 1 / torch.softmax(n / t, dim=0).square().sum(),
            "One over the sum of the squared shares counts too (Simpson), but it is not the exponential of the "
            "entropy: large shares weigh more in it."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "info_nce": _INFO_NCE,
    "negatives": _NEGATIVES,
    "posterior": _POSTERIOR,
    "bound": _BOUND,
    "candidates": _CANDIDATES,
    "gradient": _GRADIENT,
    "effective_negatives": _EFFECTIVE,
}
