"""Exercises of lesson 01: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.infonce import info_nce, info_nce_negatives

from ._exercise import Exercise, Misconception, Prediction

LESSON = "01_infonce"


def _unit(generator, *shape):
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


# ---- 1.1 the loss ----------------------------------------------------------------------------------------------------


def _loss_loop(queries, keys, temperature):
    total = torch.zeros(()).to(queries)
    for i in range(len(queries)):
        scores = torch.stack([(queries[i] * key).sum() / temperature for key in keys])
        total = total + scores.logsumexp(0) - scores[i]
    return total / len(queries)


def _batches(generator):
    ordinary = [
        (_unit(generator, b, d), _unit(generator, b, d), t) for b, d, t in ((2, 3, 1.0), (5, 4, 0.2), (8, 16, 0.07))
    ]
    free = (torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator), 0.5)
    opposite = _unit(generator, 4, 8)
    return [*ordinary, free, (opposite, -opposite, 0.01)]  # the last: e^-200 is 0 in float32


def _plain_sum(queries, keys, temperature):
    e = (queries @ keys.T / temperature).exp()
    return -(e.diagonal() / e.sum(dim=1)).log().mean()


def _without_positive(queries, keys, temperature):
    logits = queries @ keys.T / temperature
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)
    return (others.logsumexp(dim=1) - logits.diagonal()).mean()


_INFO_NCE = Exercise(
    library=info_nce,
    reference=_loss_loop,
    inputs=_batches,
    gradients=("queries", "keys"),
    hints=(
        "Make the table of scores first: one row for each query, one column for each key. Where are the real pairs?",
        "Each row is a choice among B candidates, a softmax. You want minus the log-probability of the diagonal entry, "
        "averaged over the rows.",
        "logits = queries @ keys.T / temperature, then F.cross_entropy(logits, torch.arange(B)).",
    ),
    misconceptions=(
        Misconception(
            "multiplies by the temperature",
            lambda q, k, t: info_nce(q, k, 1 / t),
            "A low temperature should make the choice sharper, yours makes it softer: scores are divided by it.",
        ),
        Misconception(
            "temperature left out",
            lambda q, k, t: info_nce(q, k, 1.0),
            "Your loss does not depend on the temperature. Cosines lie in [-1, 1]: without it the softmax stays flat.",
        ),
        Misconception(
            "softmax over the queries",
            lambda q, k, t: info_nce(k, q, t),
            "Your probabilities sum to one down the columns: keys choose among queries. Here each query chooses a key.",
        ),
        Misconception(
            "sum instead of mean",
            lambda q, k, t: len(q) * info_nce(q, k, t),
            "Your loss grows with the batch. Take the mean over the queries, so that log B means a blind guess.",
        ),
        Misconception(
            "positive left out of the denominator",
            _without_positive,
            "Your denominator sums over the impostors only. Then the ratio is no probability: it can exceed one, and "
            "the loss can fall below zero. The real key is one of the candidates.",
        ),
        Misconception(
            "log of a plain sum",
            _plain_sum,
            "Right, until a score is 200 nats away from the others: exp overflows or gives 0, and log 0 is minus "
            "infinity. Some function takes the logarithm of a softmax in one go.",
        ),
        Misconception(
            "sign turned",
            lambda q, k, t: -info_nce(q, k, t),
            "Your loss is negative: it is the log-probability itself. A loss is what should fall.",
        ),
        Misconception(
            "normalises inside",
            lambda q, k, t: info_nce(F.normalize(q, dim=1), F.normalize(k, dim=1), t),
            "You made the vectors unit length inside the loss. In this course a loss takes vectors as they come; the "
            "model normalises. Doing it twice hides a model that forgot.",
        ),
    ),
)

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
    found = [(_unit(generator, b, d), _unit(generator, b, d), _unit(generator, b, m, d), t) for b, m, d, t in shapes]
    far = _unit(generator, 3, 8)
    return [*found, (far, -far, far[:, None].repeat(1, 5, 1), 0.01)]


def _only_negatives(query, positive, negatives, temperature):
    wrong = torch.einsum("bd,bmd->bm", query, negatives) / temperature
    return (wrong.logsumexp(dim=1) - (query * positive).sum(dim=1) / temperature).mean()


def _mean_of_negatives(query, positive, negatives, temperature):
    right = (query * positive).sum(dim=1, keepdim=True) / temperature
    wrong = torch.einsum("bd,bmd->bm", query, negatives) / temperature
    wrong = wrong.logsumexp(dim=1, keepdim=True) - math.log(negatives.shape[1])
    return (torch.cat([right, wrong], dim=1).logsumexp(dim=1) - right[:, 0]).mean()


def _slide(query, positive, negatives, temperature):
    right = (query * positive).sum(dim=1).exp() / temperature
    wrong = (torch.einsum("bd,bmd->bm", query, negatives) / temperature).exp().sum(dim=1)
    return -((query * positive).sum(dim=1) / temperature - (right + wrong).log()).mean()


def _everybodys(query, positive, negatives, temperature):
    return info_nce_negatives(query, positive, negatives.flatten(0, 1), temperature)


_NEGATIVES = Exercise(
    library=info_nce_negatives,
    reference=_negatives_loop,
    inputs=_line_ups,
    gradients=("query", "positive", "negatives"),
    hints=(
        "Two kinds of scores: one for the positive, (B,), and M for the negatives, (B, M). How many candidates in all?",
        "Put the positive's score in front of the negatives': (B, 1 + M). Then it is a choice whose right answer is "
        "place 0.",
        "torch.einsum('bd,bmd->bm', query, negatives) scores the negatives. Concatenate, divide by the temperature, "
        "logsumexp minus the first column.",
    ),
    misconceptions=(
        Misconception(
            "positive left out of the denominator",
            _only_negatives,
            "With one negative and the positive equal your loss is 0 where a coin would be thrown: log 2 is right. The "
            "positive is a candidate too.",
        ),
        Misconception(
            "mean over the negatives",
            _mean_of_negatives,
            "You averaged the exponentials of the negatives. Then a hundred negatives count as one, and the ceiling "
            "of the bound stays at log 2. Sum them.",
        ),
        Misconception(
            "temperature outside the exponential",
            _slide,
            "This is the slip of the slide: exp(...)/tau in the denominator. The temperature divides the score, inside "
            "each exponential, or numerator and denominator speak of different critics.",
        ),
        Misconception(
            "everybody's negatives",
            _everybodys,
            "Each query meets the negatives of all queries in yours, B times M of them. Row b of `negatives` belongs "
            "to query b.",
        ),
        Misconception(
            "sum instead of mean",
            lambda q, p, n, t: len(q) * info_nce_negatives(q, p, n, t),
            "Your loss grows with the batch. Take the mean over the queries.",
        ),
        Misconception(
            "multiplies by the temperature",
            lambda q, p, n, t: info_nce_negatives(q, p, n, 1 / t),
            "A low temperature should make the choice sharper, yours makes it softer.",
        ),
    ),
)

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
    cases = []
    for n, spread in ((2, 1.0), (5, 2.0), (9, 3.0)):
        cases.append(tuple(spread * torch.randn(n, generator=generator) - 2 for _ in range(2)))
    high = 150 * torch.ones(4) + torch.randn(4, generator=generator)  # densities in many dimensions leave float32
    return [*cases, (high, torch.randn(4, generator=generator) - 100)]


def _lost_marginal(a, b):
    return (a - (a - b).logsumexp(0)).exp()


_POSTERIOR = Exercise(
    library=posterior,
    reference=_bayes_loop,
    inputs=_densities,
    hints=(
        "Write down the probability that the real one stands in place i *and* all candidates are as they are: eq. (3).",
        "Divide numerator and denominator of Bayes' rule by the product of all p(x_l). Which factor stays behind?",
        "What is left is the ratio p(x_i | c) / p(x_i), over its sum. In logarithms: a softmax of differences.",
    ),
    misconceptions=(
        Misconception(
            "conditional alone",
            lambda a, b: torch.softmax(a, dim=0),
            "You compare the p(x_i | c). A candidate that is common everywhere then looks real. What matters is how "
            "much the context *raises* its probability.",
        ),
        Misconception(
            "marginal lost in the numerator",
            _lost_marginal,
            "Your numbers do not sum to one: the denominator has p(x|c)/p(x), the numerator p(x|c) alone. The slide "
            "that repeats the result has this slip.",
        ),
        Misconception(
            "ratio upside down",
            lambda a, b: torch.softmax(b - a, dim=0),
            "Your favourite is the candidate that the context makes *least* likely: the ratio is upside down.",
        ),
        Misconception(
            "product of the densities",
            lambda a, b: torch.softmax(a + b, dim=0),
            "You multiplied by p(x_i). It is the missing factor of the product over l != i: it ends in a denominator.",
        ),
        Misconception(
            "leaves the logarithms too early",
            lambda a, b: (a.exp() / b.exp()) / (a.exp() / b.exp()).sum(),
            "Right, until the densities of many dimensions come: exp(150) is infinite in float32. Subtract first, and "
            "let softmax take the exponential.",
        ),
        Misconception(
            "logarithm returned",
            lambda a, b: torch.log_softmax(a - b, dim=0),
            "You returned the logarithm of the probabilities.",
        ),
    ),
)

# ---- 1.4 the bound ---------------------------------------------------------------------------------------------------


def bound_from_scores(scores: Tensor) -> Tensor:
    """log N - InfoNCE of a table of scores with the real ones on the diagonal. (N, N) -> nats"""
    return math.log(len(scores)) - F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def _bound_loop(scores):
    """The mean of log w, w the belief in the real one measured against a blind guess: eq. (7)."""
    n, total = len(scores), torch.zeros(()).to(scores)
    for i in range(n):
        total = total - torch.stack([scores[i, j] - scores[i, i] for j in range(n)]).logsumexp(0) + math.log(n)
    return total / n


_BOUND = Exercise(
    library=bound_from_scores,
    reference=_bound_loop,
    inputs=lambda g: [
        (s * torch.randn(n, n, generator=g) + s * torch.eye(n),) for n, s in ((2, 1.0), (6, 2.0), (9, 4.0))
    ],
    gradients=("scores",),
    hints=(
        "What should come out for a table of zeros, a critic that guesses? And for a huge diagonal?",
        "0 and log N. It is log N minus the loss of exercise 1.1, whose table is already made.",
        "math.log(N) - F.cross_entropy(scores, torch.arange(N)), with N the number of columns.",
    ),
    misconceptions=(
        Misconception(
            "sign turned",
            lambda s: -bound_from_scores(s),
            "Your bound falls as the critic gets better: you have loss - log N.",
        ),
        Misconception(
            "log N forgotten",
            lambda s: bound_from_scores(s) - math.log(len(s)),
            "A critic that guesses should certify 0 nats; yours certifies -log N. The loss is measured against log N.",
        ),
        Misconception(
            "counts the negatives only",
            lambda s: bound_from_scores(s) + math.log((len(s) - 1) / len(s)),
            "You took log(N - 1). N counts the candidates, and the real one is among them: a blind guess is right "
            "with probability 1/N.",
        ),
        Misconception(
            "in bits",
            lambda s: bound_from_scores(s) / math.log(2),
            "This is right in bits. The course counts in nats: natural logarithms throughout.",
        ),
        Misconception(
            "log N in bits",
            lambda s: bound_from_scores(s) + math.log2(len(s)) - math.log(len(s)),
            "log2 of N minus a loss in nats: two units in one difference.",
        ),
        Misconception(
            "softmax over the contexts",
            lambda s: bound_from_scores(s.T),
            "You let candidates choose contexts, down the columns. That is a bound as well, but of the other "
            "direction; rows are contexts here.",
        ),
        Misconception(
            "sum over the contexts",
            lambda s: math.log(len(s)) - F.cross_entropy(s, torch.arange(len(s)), reduction="sum"),
            "The loss is a mean over line-ups. With a sum, more line-ups would certify less.",
        ),
    ),
)

# ---- 1.5 the ceiling -------------------------------------------------------------------------------------------------

_CANDIDATES = Prediction(
    answer=149,
    hints=(
        "What is the largest value the bound can take with N candidates, for the best critic there could be?",
        "log N, by (10). It has to reach 5 nats.",
        "N is at least e^5 = 148.4, and a whole number.",
    ),
    misconceptions=(
        Misconception(
            "counts in bits",
            32,
            "2^5 = 32 candidates would do for 5 *bits*. A nat is a natural logarithm.",
        ),
        Misconception(
            "rounds down",
            148,
            "log 148 = 4.997 is still below 5.",
        ),
        Misconception(
            "one candidate a nat",
            5,
            "The bound grows with the *logarithm* of N. Five candidates can certify log 5 = 1.6 nats.",
        ),
        Misconception(
            "counts the negatives",
            150,
            "149 negatives would make N = 150. The real one is a candidate, so one fewer will do.",
        ),
    ),
    tolerance=1e-9,
)

# ---- 1.6 chosen minus true -------------------------------------------------------------------------------------------


def score_gradient(similarity: Tensor, temperature: float) -> Tensor:
    """d InfoNCE / d similarity, where logits = similarity / temperature. (B, B) -> (B, B)"""
    chosen = torch.softmax(similarity / temperature, dim=1)
    return (chosen - torch.eye(len(chosen)).to(chosen)) / (len(chosen) * temperature)


def _gradient_loop(similarity, temperature):
    batch, out = len(similarity), torch.zeros_like(similarity)
    for i in range(batch):
        for j in range(batch):
            chosen = 1 / sum(((similarity[i, k] - similarity[i, j]) / temperature).exp() for k in range(batch))
            out[i, j] = (chosen - (1.0 if i == j else 0.0)) / (batch * temperature)
    return out


_GRADIENT = Exercise(
    library=score_gradient,
    reference=_gradient_loop,
    inputs=lambda g: [(torch.rand(b, b, generator=g) * 2 - 1, t) for b, t in ((2, 1.0), (5, 0.5), (9, 0.1), (4, 3.0))],
    hints=(
        "One row, in logits: -l_ii + log sum_k exp(l_ik). Differentiate the two terms apart.",
        "With respect to the logits it is softmax minus one-hot, (12). The similarity is not the logit: chain rule.",
        "(softmax(similarity / temperature, dim=1) - identity) / (B * temperature). B comes from the mean.",
    ),
    misconceptions=(
        Misconception(
            "chain rule forgotten",
            lambda s, t: t * score_gradient(s, t),
            "This is the gradient with respect to the logits. The similarity is divided by the temperature on the way, "
            "so a cold loss pulls harder.",
        ),
        Misconception(
            "multiplies by the temperature",
            lambda s, t: t * t * score_gradient(s, t),
            "The derivative of s / tau with respect to s is 1 / tau; you multiplied by tau.",
        ),
        Misconception(
            "not divided by the batch",
            lambda s, t: len(s) * score_gradient(s, t),
            "Right up to a factor B: the loss is a mean over the queries.",
        ),
        Misconception(
            "ascent",
            lambda s, t: -score_gradient(s, t),
            "The sign is turned: raising the similarity of a real pair must lower the loss, so its gradient is "
            "negative.",
        ),
        Misconception(
            "true left out",
            lambda s, t: torch.softmax(s / t, dim=1) / (len(s) * t),
            "Every entry of yours is positive: all keys are pushed away, the real one too. Chosen *minus true*.",
        ),
        Misconception(
            "softmax over the queries",
            lambda s, t: score_gradient(s.T, t).T,
            "Your columns sum to zero. Each query makes its own choice: the rows should.",
        ),
    ),
)

# ---- 1.7 what the temperature does -----------------------------------------------------------------------------------


def effective_negatives(negatives: Tensor, temperature: float) -> Tensor:
    """exp(entropy) of the push on the negatives, eq. (14): how many of them the loss listens to. (M,) -> [1, M]"""
    log_share = torch.log_softmax(negatives / temperature, dim=0)
    return (-(log_share.exp() * log_share).sum()).exp()


def _effective_loop(negatives, temperature):
    entropy = torch.zeros(()).to(negatives)
    for score in negatives:
        log_share = -torch.stack([(other - score) / temperature for other in negatives]).logsumexp(0)
        entropy = entropy - log_share.exp() * log_share
    return entropy.exp()


def _entropy_of_plain_shares(scores, temperature):
    share = torch.softmax(scores / temperature, dim=0)
    return (-(share * share.log()).sum()).exp()


_EFFECTIVE = Exercise(
    library=effective_negatives,
    reference=_effective_loop,
    inputs=lambda g: [
        *[(torch.rand(m, generator=g) * 2 - 1, t) for m, t in ((3, 1.0), (20, 0.3), (50, 0.1))],
        (torch.tensor([0.9, -0.9, 0.5, 0.8]), 0.005),  # shares of e^-360: 0 in float32
        (torch.zeros(7), 0.1),
    ],
    hints=(
        "By (14) the push is shared out by a softmax over the negatives alone. Of M equal shares, all M count.",
        "The entropy of equal shares is log M. So its exponential counts the negatives that matter.",
        "log_share = torch.log_softmax(negatives / temperature, dim=0); exp(-sum(share * log_share)).",
    ),
    misconceptions=(
        Misconception(
            "entropy, not its exponential",
            lambda n, t: effective_negatives(n, t).log(),
            "This is the entropy, in nats. Equal scores of 7 negatives should count as 7, yours gives log 7.",
        ),
        Misconception(
            "multiplies by the temperature",
            lambda n, t: effective_negatives(n, 1 / t),
            "Colder should mean fewer, yours listens to more of them: divide by the temperature.",
        ),
        Misconception(
            "log of a share of zero",
            _entropy_of_plain_shares,
            "Right, until a share is 0 in float32: 0 times log 0 is not a number. Some function gives the logarithm of "
            "a softmax without forming the share first.",
        ),
        Misconception(
            "inverse of the largest share",
            lambda n, t: 1 / torch.softmax(n / t, dim=0).max(),
            "One over the largest share looks at the hardest negative alone. The entropy asks all of them.",
        ),
        Misconception(
            "temperature left out",
            lambda n, t: effective_negatives(n, 1.0),
            "Your count does not depend on the temperature, which is what the exercise is about.",
        ),
    ),
)

EXERCISES: dict[str, Exercise | Prediction] = {
    "info_nce": _INFO_NCE,
    "negatives": _NEGATIVES,
    "posterior": _POSTERIOR,
    "bound": _BOUND,
    "candidates": _CANDIDATES,
    "gradient": _GRADIENT,
    "effective_negatives": _EFFECTIVE,
}
