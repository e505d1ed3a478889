"""Exercises of lesson 02: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.cpc import cpc_loss, overlapping_patches

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction

LESSON = "02_cpc"


# ---- 2.1 the loss ----------------------------------------------------------------------------------------------------


def _cpc(z: Tensor, c: Tensor, W: Tensor) -> Tensor:
    """`cpc_loss` with its predictors as one tensor (K, D, H)."""
    return cpc_loss(z, c, [_Map(w) for w in W])


class _Map(torch.nn.Module):
    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix  # a plain tensor: its gradient is asked for

    def forward(self, c):
        return c @ self.matrix.T


def _cpc_loop(z, c, W):
    batch, times, steps = len(z), z.shape[1], []
    for k in range(1, len(W) + 1):
        terms = []
        for b in range(batch):
            for t in range(times - k):
                guess = W[k - 1] @ c[b, t]
                scores = torch.stack([(z[j, t + k] * guess).sum() for j in range(batch)])
                terms.append(scores.logsumexp(0) - scores[b])
        steps.append(torch.stack(terms).mean())
    return torch.stack(steps).mean()


def _sequences(g):
    shapes = ((2, 3, 3, 2, 1), (4, 6, 3, 5, 2), (5, 5, 4, 3, 3))
    return [
        tuple(torch.randn(*shape, generator=g) for shape in ((b, t, d), (b, t, h), (k, d, h)))
        for b, t, d, h, k in shapes
    ]


def _far_sequences(g):
    z, c, W = _sequences(g)[1]
    return [(12 * z, 6 * c, W)]


def _steps(one, mean=True):
    """A loss from one of the scores (B, T - k, B) of each step: row b and time t, column the candidate j at t + k."""

    def loss(z, c, W):
        found = [one(torch.einsum("bth,dh,jtd->btj", c[:, :-k], W[k - 1], z[:, k:])) for k in range(1, len(W) + 1)]
        return sum(found) / len(found) if mean else sum(found)

    return loss


def _own(scores):
    return torch.einsum("btb->bt", scores)


def _right(scores):
    return (scores.logsumexp(2) - _own(scores)).mean()


def _shifted(ahead):
    """The loss with codes `ahead(k)` steps after the context, over the times that are left."""

    def loss(z, c, W):
        found = []
        for k in range(1, len(W) + 1):
            s = ahead(k)
            past = c[:, : c.shape[1] - s]
            found.append(_right(torch.einsum("bth,dh,jtd->btj", past, W[k - 1], z[:, s:])))
        return sum(found) / len(found)

    return loss


def _one_time(z, c, W):
    found = []
    for k in range(1, len(W) + 1):
        found.append(_right(torch.einsum("bth,dh,jtd->btj", c[:, -1 - k : -k], W[k - 1], z[:, -1:])))
    return sum(found) / len(found)


def _without_positive(scores):
    own = torch.eye(len(scores), dtype=torch.bool)[:, None]
    return (scores.masked_fill(own, -math.inf).logsumexp(2) - _own(scores)).mean()


_LOSS = Exercise(
    library=_cpc, reference=_cpc_loop, inputs=_sequences, extreme=_far_sequences,
    stability="Some function takes the logarithm of a sum of exponentials in one go, over the candidates.",
    gradients=("z", "c", "W"),
    right=(_steps(_right), _steps(lambda s: -_own(s.log_softmax(2)).mean())),
    naive=(_steps(lambda s: (s.exp().sum(2).log() - _own(s)).mean()),
           _steps(lambda s: -_own(s.softmax(2)).log().mean())),
    hints=(
        "For one k: which contexts still have a code k steps later? How many times are left of T?",
        "guess = c[:, :-k] @ W[k - 1].T and future = z[:, k:] are both (B, T - k, D). Each guess of sequence b at t is "
        "compared with the futures of all sequences at the same t.",
        "scores = torch.einsum('btd,jtd->btj', guess, future): a softmax over j, the right answer is j = b. Then the "
        "mean over b and t, and over k.",
    ),
    misconceptions=(
        Misconception("softmax over the contexts", _steps(lambda s: (s.logsumexp(0).T - _own(s)).mean()),
            "Your probabilities sum to one over the contexts: codes choose contexts. It is the slip of section 8. Here "
            "a context chooses among codes."),
        Misconception("sum over the steps ahead", _steps(_right, mean=False),
            "You added the losses of the steps ahead. The loss is their mean, so that log B still means a guess."),
        Misconception("codes of now", _shifted(lambda k: 0),
            "Your contexts pick the code of their own time t, which they have seen. The real one is k steps later."),
        Misconception("one step too few", _shifted(lambda k: k - 1),
            "W[0] is the map for one step ahead; yours picks the code of now with it."),
        Misconception("one step ahead for all", _shifted(lambda k: 1),
            "All of your maps predict the next code. The k-th predicts k steps ahead."),
        Misconception("last time only", _one_time,
            "You use one context for each k. Every t that has a code k steps later is a line-up."),
        Misconception("positive left out of the denominator", _steps(_without_positive),
            "Your denominator sums over the impostors only. The real code is a candidate too."),
        Misconception("no logarithm", _steps(lambda s: -_own(s.softmax(2)).mean()),
            "You averaged the probabilities of the real codes. The loss averages their logarithms.",
            says=lambda loss, *_: -1 <= loss <= 0),
        slips.softmax_twice(_steps(lambda s: _right(s.softmax(2)))),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0),
    ),
)  # fmt: skip

# ---- 2.2 what same-speaker impostors leave ---------------------------------------------------------------------------


def _split(p: Tensor) -> Tensor:
    """I(x; s) and I(x; c | s) of a table p(s, c, x). (S, C, X) -> (2,)"""
    x, s_x, s, s_c = p.sum((0, 1)), p.sum(1), p.sum((1, 2)), p.sum(2)
    first = (torch.xlogy(s_x, s_x) - torch.xlogy(s_x, s[:, None] * x)).sum()
    second = (torch.xlogy(p, p * s[:, None, None]) - torch.xlogy(p, s_c[:, :, None] * s_x[:, None])).sum()
    return torch.stack([first, second])


def _entropy_of(p):
    p = p[p > 0]
    return -(p * p.log()).sum()


def _split_loop(p):
    """By entropies: I(x; s) = H(x) - H(x|s), and I(x; c|s) averaged over the speakers one by one."""
    first, second = _entropy_of(p.sum((0, 1))), torch.zeros(()).to(p)
    for table in p:  # (C, X) of one speaker
        share = table.sum()
        q = table / share
        first = first - share * _entropy_of(q.sum(0))
        second = second + share * (_entropy_of(q.sum(0)) + _entropy_of(q.sum(1)) - _entropy_of(q))
    return torch.stack([first, second])


def _tables(g):
    sizes = ((2, 2, 3), (3, 4, 2), (2, 5, 6))
    return [((1.5 * torch.randn(*size, generator=g)).flatten().softmax(0).view(size),) for size in sizes]


def _sparse_tables(g):
    p = _tables(g)[2][0].clone()
    p[0, :, 0] = 0  # a sound that one speaker never makes
    p[1, 2, 1:3] = 0
    return [(p / p.sum(),)]


def _joint_information(p):
    table = p.flatten(0, 1)  # (s, c) together
    return torch.xlogy(table, table / (table.sum(1, keepdim=True) * table.sum(0))).sum()


def _plain_information(p):
    table = p.sum(0)
    return torch.xlogy(table, table / (table.sum(1, keepdim=True) * table.sum(0))).sum()


def _of_each(p):
    """The information within each speaker."""
    return torch.stack([_plain_information((table / table.sum())[None]) for table in p])


_SPLIT = Exercise(
    library=_split, reference=_split_loop, inputs=_tables, extreme=_sparse_tables,
    stability="0 log 0 counts as 0: torch.xlogy, or leave out the zeros before the logarithm.",
    right=(_split_loop, lambda p: torch.stack([_split(p)[0], _joint_information(p) - _split(p)[0]])),
    naive=(lambda p: torch.stack([
        (p.sum(1) * (p.sum(1) / (p.sum((1, 2))[:, None] * p.sum((0, 1)))).log()).sum(),
        (p * (p * p.sum((1, 2))[:, None, None] / (p.sum(2)[:, :, None] * p.sum(1)[:, None])).log()).sum()]),),
    hints=(
        "Sum the table over what does not occur: p(s, x) for the first, and what for the second?",
        "I(x; s) is the mean of log p(s, x) / (p(s) p(x)). I(x; c | s) is the mean of log p(c, x | s) / (p(c | s) "
        "p(x | s)).",
        "In the second, multiply numerator and denominator by p(s)^2: log of p(s, c, x) p(s) / (p(s, c) p(s, x)).",
    ),
    misconceptions=(
        Misconception("speaker ignored", lambda p: torch.stack([_split(p)[0], _plain_information(p)]),
            "Your second number is I(x; c), with the speakers thrown together. Condition on s: one table a speaker, "
            "then their mean."),
        Misconception("everything in the second", lambda p: torch.stack([_split(p)[0], _joint_information(p)]),
            "Your second number still contains the first: it is I(x; c, s). Take away what the speaker tells."),
        Misconception("speakers not weighted",
            lambda p: torch.stack([_split(p)[0], _of_each(p).mean()]),
            "You averaged over speakers as if each spoke as often. Weight them by p(s)."),
        Misconception("summed over speakers",
            lambda p: torch.stack([_split(p)[0], _of_each(p).sum()]),
            "You added the speakers' information. It is a mean, weighted by p(s)."),
        Misconception("the other way round", slips.then(lambda r: r.flip(0)),
            "Right numbers, in the other order: first I(x; s), then I(x; c | s)."),
        Misconception("about the context", lambda p: torch.stack([_split(p.transpose(1, 2))[0], _split(p)[1]]),
            "Your first number is I(c; s), what the context tells of the speaker. Asked for is what the future tells."),
        Misconception("entropy of the speaker", lambda p: torch.stack([_entropy_of(p.sum((1, 2))), _split(p)[1]]),
            "H(s) is what the future would tell if it gave the speaker away altogether."),
        slips.IN_BITS,
        Misconception("sign turned", slips.negated,
            "Information is not negative: the joint probability stands above the product.",
            says=lambda r, *_: bool((r <= 0).all())),
    ),
)  # fmt: skip

# ---- 2.3 the floor ---------------------------------------------------------------------------------------------------


def _floor(negatives, share):
    """E log(1 + J), J ~ Binomial(M, share)."""
    m = int(negatives)
    return math.fsum(math.comb(m, j) * share**j * (1 - share) ** (m - j) * math.log1p(j) for j in range(m + 1))


def _floor_loop(negatives, share):
    """Draw by draw: the distribution of J grows by one negative at a time."""
    chances = [1.0]
    for _ in range(int(negatives)):
        more = [0.0] * (len(chances) + 1)
        for j, p in enumerate(chances):
            more[j] += p * (1 - share)
            more[j + 1] += p * share
        chances = more
    return sum(p * math.log(1 + j) for j, p in enumerate(chances))


_FLOOR = Exercise(
    library=_floor, reference=_floor_loop,
    inputs=lambda g: [(1, 0.3), (8, 0.25), (20, 0.05), (40, 0.4)],
    hints=(
        "With J copies of the answer among the negatives there are 1 + J candidates that nothing tells apart.",
        "The best critic gives each of them 1 / (1 + J): it pays log(1 + J). Average over J.",
        "sum over j of math.comb(M, j) * share**j * (1 - share)**(M - j) * math.log(1 + j).",
    ),
    right=(lambda m, p: float(sum(math.exp(math.lgamma(m + 1) - math.lgamma(j + 1) - math.lgamma(m - j + 1))
                                  * p**j * (1 - p) ** (m - j) * math.log(1 + j) for j in range(int(m) + 1))),),
    naive="a sum of at most M + 1 moderate numbers overflows nowhere",
    misconceptions=(
        Misconception("logarithm of the mean", lambda m, p: math.log(1 + m * p),
            "You took the logarithm of the mean number of candidates. It is the mean of a logarithm, which is less."),
        Misconception("at most one copy", lambda m, p: (1 - (1 - p) ** m) * math.log(2),
            "You count line-ups with a copy as if they had one. Several copies cost more."),
        Misconception("mean number of copies", lambda m, p: m * p,
            "That is how many copies to expect, not what they cost."),
        Misconception("log 2 a copy", lambda m, p: m * p * math.log(2),
            "Each copy after the first costs less than log 2: log(1 + J) bends down."),
        Misconception("the answer not counted", lambda m, p: sum(
            math.comb(int(m), j) * p**j * (1 - p) ** (int(m) - j) * math.log(j) for j in range(2, int(m) + 1)),
            "log J counts the copies and forgets the answer itself: there are 1 + J that look alike."),
        Misconception("the blind guesser", lambda m, p: math.log(m + 1),
            "That is the loss of a critic that guesses. The floor is that of one that knows the answer."),
        slips.IN_BITS,
        Misconception("sign turned", slips.negated, "A loss is not negative: the belief in the answer is 1 / (1 + J)."),
    ),
)  # fmt: skip

# ---- 2.4 the speaker -------------------------------------------------------------------------------------------------

_SPEAKER = Prediction(
    answer="falls",
    hints=("Which of the two terms of (5) does an impostor of the same object take away?",
           "I(x; s): nothing is earned by knowing who is shown, because everybody in the line-up is the same.",
           "The probe of *who* falls; the place is still worth its nats."),
    misconceptions=(
        Misconception("rises", "rises",
            "Harder impostors make the task harder. But what tells objects apart separates none of them: it earns "
            "nothing."),
        Misconception("stays", "stays",
            "The network is the same, and what it is paid for is not: look at the first term of (5)."),
    ),
)  # fmt: skip

# ---- 2.5 patches -----------------------------------------------------------------------------------------------------


def _patches_loop(images, patch, stride):
    rows = []
    for top in range(0, images.shape[2] - patch + 1, stride):
        row = [
            images[:, :, top : top + patch, left : left + patch]
            for left in range(0, images.shape[3] - patch + 1, stride)
        ]
        rows.append(torch.stack(row, dim=1))
    return torch.stack(rows, dim=1)


def _by_unfold(images, patch, stride):
    columns = F.unfold(images, patch, stride=stride)  # (B, 3 P P, R C)
    high = (images.shape[2] - patch) // stride + 1
    return columns.transpose(1, 2).reshape(len(images), high, -1, 3, patch, patch)


_PATCHES = Exercise(
    library=overlapping_patches, reference=_patches_loop,
    inputs=lambda g: [(torch.rand(b, 3, h, w, generator=g), p, s)
                      for b, h, w, p, s in ((1, 4, 6, 2, 1), (2, 8, 12, 4, 2), (3, 10, 7, 4, 3), (2, 9, 9, 3, 3))],
    right=(_by_unfold, _patches_loop),
    naive="pixels are copied, nothing is computed",
    hints=(
        "How many patches fit along a side of H pixels? The first begins at 0, the last ends at H.",
        "R = (H - P) / stride + 1. tensor.unfold(dimension, size, step) cuts one dimension and puts the pieces last.",
        "images.unfold(2, P, stride).unfold(3, P, stride) is (B, 3, R, C, P, P). Which permute makes it "
        "(B, R, C, 3, P, P)?",
    ),
    misconceptions=(
        Misconception("columns for rows", slips.then(lambda r: r.transpose(1, 2)),
            "Your grid is (columns, rows). CPC reads it downwards: rows come first."),
        Misconception("patches turned", slips.then(lambda r: r.transpose(4, 5)),
            "Each of your patches is transposed: height before width."),
        Misconception("a reshape where pixels must move",
            lambda x, p, s: x.unfold(2, p, s).unfold(3, p, s).reshape(
                len(x), (x.shape[2] - p) // s + 1, (x.shape[3] - p) // s + 1, 3, p, p),
            "The shape is right and the pixels are not: reshape reads them in the order in which they lie. Colours "
            "have to be moved behind the grid by permute."),
        Misconception("no overlap", lambda x, p, s: _patches_loop(x, p, p),
            "Your patches lie side by side. A new one begins every `stride` pixels."),
        Misconception("stride one", lambda x, p, s: _patches_loop(x, p, 1),
            "Yours begin at every pixel. A new one begins every `stride` pixels."),
    ),
)  # fmt: skip

# ---- 2.6 the bound of each step --------------------------------------------------------------------------------------


def _bounds(scores: Tensor) -> Tensor:
    """log N - InfoNCE of each step, from its table of scores. (K, N, N) -> (K,)"""
    return math.log(scores.shape[1]) + scores.log_softmax(dim=2).diagonal(dim1=1, dim2=2).mean(dim=1)


def _bounds_loop(scores):
    found = []
    for table in scores:
        beliefs = torch.stack([len(table) * row.softmax(0)[i] for i, row in enumerate(table)])
        found.append(beliefs.log().mean())
    return torch.stack(found)


def _far_scores(g):
    far = torch.randn(2, 4, 4, generator=g)
    far[0] += 90 * torch.eye(4) - 60
    far[1, 1] -= 150
    far[1, :, 2] += 95
    return [(far,)]


_BOUNDS = Exercise(
    library=_bounds, reference=_bounds_loop,
    inputs=lambda g: [(s * torch.randn(k, n, n, generator=g) + s * torch.eye(n),)
                      for k, n, s in ((1, 2, 1.0), (3, 5, 2.0), (4, 8, 1.5))],
    extreme=_far_scores,
    stability="Take the logarithm of the softmax in one go, row by row.",
    right=(lambda s: torch.stack([math.log(len(t)) - F.cross_entropy(t, torch.arange(len(t))) for t in s]),
           lambda s: math.log(s.shape[1]) + (torch.einsum("knn->kn", s) - s.logsumexp(2)).mean(1)),
    naive=(lambda s: math.log(s.shape[1]) + torch.einsum("knn->kn", s.exp() / s.exp().sum(2, True)).log().mean(1),),
    hints=("For one step it is exercise 1.4: log N minus a cross-entropy.",
           "log_softmax along the rows of every table; its diagonal is the logarithm of the belief in the real one.",
           "scores.log_softmax(dim=2).diagonal(dim1=1, dim2=2).mean(dim=1) + math.log(N)"),
    misconceptions=(
        Misconception("all steps in one", lambda s: _bounds(s).mean().expand(len(s)),
            "You return one number for all steps. How it falls with k is what the figure shows."),
        Misconception("log N forgotten", slips.plus(lambda s: -math.log(s.shape[1])),
            "A guesser should certify 0 nats; yours certifies -log N."),
        Misconception("sign turned", slips.negated, "Your bound falls as the critic gets better."),
        Misconception("softmax over the contexts", lambda s: _bounds(s.mT),
            "Your softmax runs down the columns: candidates choose contexts. Rows are contexts here."),
        Misconception("counts the negatives only", slips.plus(lambda s: math.log((s.shape[1] - 1) / s.shape[1])),
            "You took log(N - 1). The real one is a candidate too."),
        Misconception("log of the number of steps", slips.plus(lambda s: math.log(len(s) / s.shape[1])),
            "You took the logarithm of K. N is the number of candidates, the side of a table."),
        Misconception("log of the mean belief",
            lambda s: math.log(s.shape[1]) + s.softmax(2).diagonal(dim1=1, dim2=2).mean(1).log(),
            "You took the logarithm of the mean belief, which is larger. The loss is a mean of logarithms."),
        Misconception("summed over the line-ups", lambda s: _bounds(s) * s.shape[1],
            "You added the N line-ups. Each of them is one estimate: take their mean."),
        slips.IN_BITS,
    ),
)  # fmt: skip

EXERCISES = {
    "cpc_loss": _LOSS,
    "information_split": _SPLIT,
    "floor": _FLOOR,
    "speaker": _SPEAKER,
    "patches": _PATCHES,
    "step_bounds": _BOUNDS,
}
