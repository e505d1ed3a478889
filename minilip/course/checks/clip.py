"""Exercises of lesson 07: references, misconceptions and hints."""

import math

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.clip import clip_loss, siglip_loss
from minilip.evaluation import retrieval

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction
from ._inputs import far_rows, far_table, unit

LESSON = "07_clip"


def _places(x):
    return torch.arange(len(x))


def _of_logits(loss):
    """A loss of pictures, captions and scale, from one of the table of logits."""
    return lambda image, text, scale, bias=0.0: loss(scale * image @ text.T + bias)


# ---- 7.1 the loss ----------------------------------------------------------------------------------------------------


def _loss_loop(image, text, logit_scale):
    batch, total = len(image), torch.zeros(())
    for i in range(batch):
        along = torch.stack([logit_scale * (image[i] * text[k]).sum() for k in range(batch)])
        down = torch.stack([logit_scale * (image[k] * text[i]).sum() for k in range(batch)])
        total = total + (along.logsumexp(0) - along[i]) + (down.logsumexp(0) - down[i])
    return total / (2 * batch)


def _pairs(g):
    sizes = ((2, 3, 1.0), (5, 4, 7.0), (8, 16, 14.3))
    return [*((unit(g, b, d), unit(g, b, d), s) for b, d, s in sizes), (*torch.randn(2, 4, 6, generator=g), 2.0)]


def _far_pairs(g):
    v = unit(g, 4, 8)
    return [(*far_rows(g), 100.0), (*far_rows(g)[::-1], 100.0), (v, -v, 100.0)]


def _rows(logits):
    return F.cross_entropy(logits, _places(logits))


def _log_of_softmax(logits):
    return -(logits.softmax(0).diagonal().log() + logits.softmax(1).diagonal().log()).mean() / 2


def _log_of_sums(logits):
    return (logits.exp().sum(0).log() + logits.exp().sum(1).log()).mean() / 2 - logits.diagonal().mean()


def _without_positive(logits):
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)
    return (others.logsumexp(0) + others.logsumexp(1)).mean() / 2 - logits.diagonal().mean()


_CLIP_LOSS = Exercise(
    library=clip_loss, reference=_loss_loop, inputs=_pairs, extreme=_far_pairs,
    stability="Some function takes the logarithm of a softmax at once, and never forms the small or the large number.",
    gradients=("image", "text", "logit_scale"),
    right=(_of_logits(lambda x: -(x.log_softmax(0).diagonal() + x.log_softmax(1).diagonal()).mean() / 2),
           lambda v, t, s: (s * torch.einsum("id,jd->ij", v, t)).logsumexp((1,)).mean() / 2
           + (s * torch.einsum("id,jd->ij", t, v)).logsumexp((1,)).mean() / 2 - s * (v * t).sum(1).mean()),
    naive=(_of_logits(_log_of_softmax),
           _of_logits(_log_of_sums),
           _of_logits(lambda x: _log_of_sums(x - x.max()))),
    hints=(
        "Make the table of logits first: a row for each picture, a column for each caption. Where are the true pairs?",
        "A picture chooses among captions: a softmax along its row. A caption chooses among pictures: down its column. "
        "You want minus the log-probability of the diagonal, averaged over both.",
        "F.cross_entropy(logits, torch.arange(B)) is the row half. For the columns, transpose. Add and halve.",
    ),
    misconceptions=(
        Misconception("rows only", _of_logits(_rows),
            "Only the pictures choose in your loss. The captions choose too: what does a column of the table say?"),
        Misconception("columns only", _of_logits(lambda x: _rows(x.T)),
            "Only the captions choose in your loss. The pictures choose too: what does a row of the table say?"),
        Misconception("two directions, not halved", slips.times(2),
            "You added the two directions. CLIP takes their mean, so that log B still means a model that guesses."),
        slips.summed("the pairs, or the learning rate would have to change with B"),
        Misconception("divides by the scale", slips.inverted(2),
            "A larger scale should make the choice sharper, yours makes it softer. It is one over the temperature."),
        Misconception("scale left out", slips.left_out(2, 1.0),
            "Your loss ignores logit_scale. Cosines lie in [-1, 1]: without a scale the softmax stays nearly flat."),
        Misconception("scale exponentiated twice", slips.exponentiated(2),
            "You take exp of logit_scale. It is the multiplier itself here: the model has taken the exponential."),
        Misconception("scale on one direction only",
            lambda v, t, s: (_rows(s * v @ t.T) + _rows(t @ v.T)) / 2,
            "Only one of the two directions is scaled. Both are choices by the same logits."),
        Misconception("one softmax over the whole table",
            _of_logits(lambda x: x.flatten().logsumexp(0) - x.diagonal().mean()),
            "Your probabilities sum to one over the whole table. Each row sums to one by itself, and so each column."),
        Misconception("positive left out of the denominator", _of_logits(_without_positive),
            "Your denominator sums over the wrong captions only. Then the ratio is no probability: it can exceed one, "
            "and the loss can fall below zero. The true caption is one of the candidates."),
        slips.softmax_twice(_of_logits(lambda x: (_rows(x.softmax(1)) + _rows(x.T.softmax(1))) / 2)),
        Misconception("softmax before the cross-entropy, once for both",
            _of_logits(lambda x: (_rows(x.softmax(1)) + _rows(x.softmax(1).T)) / 2),
            "F.cross_entropy does the softmax itself, over the rows of what you give it: logits, then logits.T."),
        Misconception("no logarithm", _of_logits(lambda x: -(x.softmax(0) + x.softmax(1)).diagonal().mean() / 2),
            "You averaged the probabilities of the true pairs. The loss averages their logarithms.",
            says=lambda loss, *_: -1 <= loss <= 0),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0, 1),
    ),
)  # fmt: skip

# ---- 7.2 the gradient ------------------------------------------------------------------------------------------------


def _minus_true(chosen, times=2):
    return (chosen - times * torch.eye(len(chosen)).to(chosen)) / (times * len(chosen))


def _gradient(logits: Tensor) -> Tensor:
    return _minus_true(logits.softmax(dim=1) + logits.softmax(dim=0))


def _by_autograd(logits):
    x = logits.detach().requires_grad_()
    return torch.autograd.grad(clip_loss(x, torch.eye(len(x)).to(x), 1.0), x)[0]


def _quotients(logits):
    e = logits.exp()
    return _minus_true(e / e.sum(1, keepdim=True) + e / e.sum(0))


_LOGIT_GRADIENT = Exercise(
    library=_gradient, reference=_by_autograd,
    inputs=lambda g: [(torch.randn(b, b, generator=g) * s,) for b, s in ((2, 1.0), (5, 3.0), (9, 8.0))],
    extreme=lambda g: [(far_table(g),), (far_table(g).T.contiguous(),)],
    stability="torch.softmax takes the largest number of each row away before it takes exponentials.",
    right=(
        lambda x: _minus_true(x.log_softmax(1).exp() + x.T.log_softmax(1).exp().T),
        lambda x: _minus_true(torch.stack([r.softmax(0) for r in x]) + torch.stack([c.softmax(0) for c in x.T], dim=1)),
    ),
    naive=(_quotients, lambda x: _quotients(x - x.max())),
    hints=(
        "Start with one row: -log P_ii = -l_ii + log sum_k exp(l_ik). Differentiate the two terms apart.",
        "The derivative of a log-sum-exp is the softmax. So a row gives P_ij minus 1 where j is the true caption.",
        "Columns give Q_ij minus 1 on the diagonal. Each direction is a mean over B, and the loss is the mean of both: "
        "divide the sum by 2B.",
    ),
    misconceptions=(
        Misconception("one true pair instead of two",
            lambda x: (x.softmax(1) + x.softmax(0) - torch.eye(len(x))) / (2 * len(x)),
            "The entries of your table do not sum to zero: the true pair is subtracted once for each direction.",
            says=lambda g, *_: g.sum().abs() > 0.1),
        Misconception("rows only", lambda x: _minus_true(x.softmax(1), 1),
            "This is the gradient of the picture-to-caption half. The columns pull at the same logits."),
        Misconception("columns only", lambda x: _minus_true(x.softmax(0), 1),
            "This is the gradient of the caption-to-picture half. The rows pull at the same logits."),
        Misconception("not divided by the batch", slips.per_batch,
            "Right up to a factor B: the loss is a mean over the pairs of the batch."),
        Misconception("divided by B twice", slips.averaged,
            "Right up to a factor B: the loss is a mean over B pairs, not over all B x B entries."),
        Misconception("not halved", slips.times(2),
            "Right up to a factor 2: the loss is the mean of two directions, not their sum."),
        Misconception("ascent", slips.negated,
            "The sign is turned: raising the logit of a true pair must lower the loss, so its gradient is negative.",
            says=lambda g, *_: (g.diagonal() > 0).all()),
        Misconception("true left out", slips.plus(lambda x: torch.eye(len(x)) / len(x)),
            "Every entry of yours is positive: all captions are pushed away, the true one too. Chosen *minus true*.",
            says=lambda g, *_: (g > 0).all()),
        Misconception("columns not transposed back", lambda x: _minus_true(x.softmax(1) + x.T.softmax(1)),
            "After logits.T the entry (j, i) belongs to pair (i, j): transpose back before you add."),
        Misconception("rows twice, once transposed", lambda x: _minus_true(x.softmax(1) + x.T.softmax(0)),
            "softmax(logits.T, 0) is no choice of the captions: the columns of logits.T are the rows of logits."),
        Misconception("one softmax over the whole table",
            lambda x: _minus_true(x.flatten().softmax(0).view_as(x) * len(x), 1),
            "Your probabilities sum to one over the whole table. Each row makes its own choice, and each column."),
    ),
)  # fmt: skip

# ---- 7.3 which way the temperature goes first ------------------------------------------------------------------------

_FIRST_STEP = Prediction(
    answer="down",
    hints=(
        "Use (7): the sign of the derivative is the sign of (cosine the model expects) minus (cosine of the truth).",
        "At the start the true pair is a pair like any other. Where does a softmax with s = 14 put its weight?",
        "It puts its weight on the largest cosines of the row, so it expects more than an average pair has. The "
        "derivative is positive, and gradient descent goes against it.",
    ),
    misconceptions=(
        Misconception("expects confidence to grow from the start", "up",
            "In the end the scale does grow. At the first step the model knows nothing and its softmax is already "
            "sharp: is it over- or underconfident?"),
        Misconception("expects no change", "stays",
            "The derivative (7) is zero only if the model expects exactly the cosine it finds. Does it, at the start?"),
    ),
)  # fmt: skip

# ---- 7.4 the floor ---------------------------------------------------------------------------------------------------


def _chances(batch, captions):
    """Of k = 0 ... B-1 other copies."""
    return torch.distributions.Binomial(batch - 1, torch.tensor(1 / captions)).log_prob(torch.arange(batch)).exp()


def loss_floor(batch: int, captions: int) -> float:
    """Least CLIP loss when `captions` equally likely captions repeat within a batch: E log(1 + Binomial(B-1, 1/K))."""
    n, p = batch - 1, 1 / captions
    total = 0.0
    for k in range(n + 1):
        log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        total += math.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p)) * math.log(1 + k)
    return total


def _expectation(batch, captions):
    return float(scipy.stats.binom(batch - 1, 1 / captions).expect(np.log1p))


_LOSS_FLOOR = Exercise(
    library=loss_floor, reference=_expectation, inputs=lambda _: [(2, 2), (16, 4), (128, 48), (256, 48), (64, 1000)],
    right=(lambda b, c: sum(math.comb(b - 1, k) * (c - 1) ** (b - 1 - k) / c ** (b - 1) * math.log(1 + k)
                            for k in range(b)),
           lambda b, c: (_chances(b, c) * torch.arange(b).log1p()).sum(),
           lambda b, c: (_chances(b, c) * torch.arange(b).log1p()).sum().item()),
    naive="a sum of positive numbers: at the sizes of the course nothing overflows",
    hints=(
        "Take one pair. How many of the other B - 1 captions are word for word the same, and with which probability?",
        "That number is binomial. With n copies in all, the best possible loss of the pair is log n.",
        "Sum over k = 0 ... B-1: (B-1 choose k) (1/K)^k (1-1/K)^(B-1-k) log(1 + k). math.comb or math.lgamma helps.",
    ),
    misconceptions=(
        Misconception("log of the mean", lambda b, k: math.log(1 + (b - 1) / k),
            "This is the logarithm of the mean number of copies. The floor is the mean of the logarithm, which is "
            "smaller (Jensen).", says=lambda x, b, k: x > loss_floor(b, k)),
        Misconception("always zero", lambda b, k: 0.0,
            "Zero would need each picture to find its own caption among word-for-word copies of it. Nothing can."),
        Misconception("log of the batch", lambda b, k: math.log(b),
            "log B is the loss of a model that guesses, the top of the scale and not its floor."),
        Misconception("B others instead of B - 1", lambda b, k: loss_floor(b + 1, k),
            "Almost. How many *other* captions does a batch of B hold?"),
        Misconception("own caption not counted",
            lambda b, c: float((_chances(b, c)[1:] * torch.arange(1, b).log()).sum()),
            "Count the pair's own caption too: with one other copy there are two, and the loss is log 2."),
        Misconception("own caption not counted, log of the mean", lambda b, k: math.log(max(1e-12, (b - 1) / k)),
            "Two slips: the pair's own caption counts too, and the floor is the mean of the logarithm."),
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 7.5 a classifier made of words ----------------------------------------------------------------------------------


def class_vectors(prompts: Tensor) -> Tensor:
    """Normalise, average, normalise. (C, K, D) -> (C, D)"""
    return F.normalize(F.normalize(prompts, dim=2).mean(dim=1), dim=1)


def _class_loop(prompts):
    rows = []
    for of_one_class in prompts:
        mean = sum(p / p.square().sum().sqrt() for p in of_one_class) / len(of_one_class)
        rows.append(mean / mean.square().sum().sqrt())
    return torch.stack(rows)


_CLASS_VECTORS = Exercise(
    library=class_vectors, reference=_class_loop,
    inputs=lambda g: [
        (torch.randn(c, k, d, generator=g) * torch.rand(c, k, 1, generator=g).mul(9).add(0.2),)
        for c, k, d in ((2, 3, 4), (5, 2, 8), (4, 4, 4))
    ],
    right=(lambda p: F.normalize((p / p.norm(dim=2, keepdim=True)).sum(1), dim=1),
           lambda p: F.normalize(torch.einsum("ckd,ck->cd", p, 1 / p.norm(dim=2)), dim=1)),
    naive="a division by lengths of ordinary size: nothing overflows",
    hints=(
        "Each prompt should count once, however long its vector. And a class should not gain from prompts that agree.",
        "Three steps: make each prompt a direction, average over the prompts of a class, make the average a direction.",
        "F.normalize(x, dim=...) twice, with .mean(dim=1) between: the last dimension is the vector's, the middle one "
        "counts prompts.",
    ),
    misconceptions=(
        Misconception("prompts not normalised first", lambda p: F.normalize(p.mean(dim=1), dim=1),
            "A long prompt vector outvotes the short ones in your average. Each prompt should count once."),
        Misconception("mean not normalised", lambda p: F.normalize(p, dim=2).mean(dim=1),
            "Your class vectors are shorter than 1, by how much their prompts disagree: eq. (9). A class would lose "
            "points for having varied prompts.", says=lambda w, p: (w.norm(dim=1) < 1).all()),
        Misconception("sum not normalised", lambda p: F.normalize(p, dim=2).sum(dim=1),
            "Your class vectors have no unit length: a class with more prompts would get larger scores."),
        Misconception("no normalisation", lambda p: p.mean(dim=1),
            "Neither the prompts nor their mean have length 1. Cosines need directions."),
        Misconception("averages over classes", lambda p: F.normalize(F.normalize(p, dim=2).mean(dim=0), dim=1),
            "You averaged over the classes. The shape (C, K, D) has the K prompts of a class in the middle."),
        Misconception("normalises along the prompts", lambda p: F.normalize(F.normalize(p, dim=1).mean(dim=1), dim=1),
            "The first normalisation runs over the prompts. A vector's length is taken over its D coordinates."),
        Misconception("normalises along the classes", lambda p: F.normalize(F.normalize(p, dim=2).mean(dim=1), dim=0),
            "The last normalisation runs over the classes. A vector's length is taken over its D coordinates."),
    ),
)  # fmt: skip

# ---- 7.6 recall ------------------------------------------------------------------------------------------------------


def recall_at(similarity: Tensor, k: int) -> float:
    """Share of queries whose own item is among the first k; a tie counts against. (Q, Q) -> [0, 1]"""
    return retrieval(similarity, torch.arange(len(similarity)), at=(k,))[f"R@{k}"]


def _recall_loop(similarity, k):
    hits = 0
    for i, row in enumerate(similarity.tolist()):
        ahead = sum(score >= row[i] for j, score in enumerate(row) if j != i)
        hits += ahead < k
    return hits / len(similarity)


def _tables(g):
    tables = [(torch.randn(q, q, generator=g), k) for q, k in ((6, 1), (12, 3), (30, 5))]
    three_alike = torch.eye(4) + torch.tensor([[0.0, 1, 1, 0]] * 4)
    return [*tables, (torch.randint(3, (20, 20), generator=g).float(), 2), (torch.zeros(5, 5), 1), (three_alike, 2)]


def _share(hit):
    return hit.double().mean().item()


def _before(x):
    """Items ahead of the own one, and items with its score, itself left out: (Q,) each."""
    own = x.diagonal()[:, None]
    return (x > own).sum(dim=1), (x == own).sum(dim=1) - 1


def _found(x, k, descending=True):
    return (x.argsort(dim=1, descending=descending, stable=True)[:, :k] == _places(x)[:, None]).any(dim=1)


_RECALL = Exercise(
    library=recall_at, reference=_recall_loop, inputs=_tables,
    right=(lambda x, k: _share(_found(x.double() - 1e-9 * torch.eye(len(x)), k)),  # its own score below any gap
           lambda x, k: (sum(_before(x)) < k).float().mean()),
    naive="comparisons only: nothing overflows",
    hints=(
        "Do not sort. Count, for each query, how many wrong items are ahead of the right one.",
        "A wrong item with the same score is ahead too, or a model that scores everything alike would be perfect.",
        "own = similarity.diagonal()[:, None]; count similarity >= own off the diagonal; a hit has fewer than k ahead.",
    ),
    misconceptions=(
        Misconception("ties count as hits", lambda x, k: _share(_before(x)[0] < k),
            "Give your function a table of zeros: it reports a perfect model that knows nothing. A tie is not a hit."),
        Misconception("half credit for a tie", lambda x, k: _share(_before(x)[0] + _before(x)[1] / 2 < k),
            "You place the right item in the middle of those with its score. All of them count as ahead of it."),
        Misconception("chance of a tie", lambda x, k: _share(((k - _before(x)[0]) / (1 + _before(x)[1])).clamp(0, 1)),
            "You give a tie the share of hits that a random order would have. A tie is not a hit."),
        Misconception("ties broken by position", lambda x, k: _share(_found(x, k)),
            "Among equal scores yours favours whatever comes first in the table. Then the answer depends on the order "
            "of the gallery."),
        Misconception("ties broken by topk",
            lambda x, k: _share((x.topk(k, dim=1).indices == _places(x)[:, None]).any(dim=1)),
            "Among equal scores topk takes whichever it likes. A tie is not a hit, whatever the order."),
        Misconception("smallest first", lambda x, k: _share(_found(x, k, descending=False)),
            "You sorted the scores upwards. Larger is nearer."),
        Misconception("queries in columns", lambda x, k: _share(sum(_before(x.T)) < k),
            "You searched down the columns. Queries are the rows."),
        Misconception("off by one", lambda x, k: _share(sum(_before(x)) <= k),
            "With k items ahead the right one comes in place k + 1. Recall at 1 allows none ahead."),
        Misconception("counts hits without dividing", slips.per_batch,
            "You returned the number of hits. Recall is their share among the queries."),
        Misconception("divides by k", lambda x, k: recall_at(x, k) / k,
            "You divided by k, which would be precision. There is one right item: found or not."),
        Misconception("misses instead of hits", lambda x, k: 1 - recall_at(x, k),
            "You returned the share of misses."),
        slips.PERCENT,
    ),
)  # fmt: skip

# ---- 7.7 SigLIP ------------------------------------------------------------------------------------------------------


def _siglip_loop(image, text, logit_scale, logit_bias):
    total = torch.zeros(())
    for i in range(len(image)):
        for j in range(len(text)):
            sign = 1.0 if i == j else -1.0
            logit = sign * (logit_scale * (image[i] * text[j]).sum() + logit_bias)
            total = total + torch.logaddexp(torch.zeros_like(logit), -logit)
    return total / len(image)


def _signed(logits):
    return (2 * torch.eye(len(logits)).to(logits) - 1) * logits


def _bce(logits, target):
    return F.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="sum") / len(logits)


_SIGLIP = Exercise(
    library=siglip_loss, reference=_siglip_loop,
    inputs=lambda g: [(*args, b) for args, b in zip(_pairs(g), (0.5, -2.0, -5.5, 1.0), strict=True)],
    extreme=lambda g: [(*args, -10.0) for args in _far_pairs(g)],
    stability="Far on the wrong side a sigmoid is 0 in float32, and log 0 is minus infinity. Some function takes both "
    "steps at once.",
    gradients=("image", "text", "logit_scale", "logit_bias"),
    right=(_of_logits(lambda x: _bce(x, torch.eye(len(x)))),
           _of_logits(lambda x: (F.softplus(x).sum() - x.diagonal().sum()) / len(x)),
           lambda v, t, s, b: -F.logsigmoid(_signed(s * torch.einsum("id,jd->ij", v, t) + b)).sum(1).mean()),
    naive=(
        _of_logits(lambda x: -_signed(x).sigmoid().log().sum() / len(x)),
        _of_logits(lambda x: (1 + (-_signed(x)).exp()).log().sum() / len(x)),
        _of_logits(lambda x: F.binary_cross_entropy(x.sigmoid(), torch.eye(len(x)).to(x), reduction="sum") / len(x)),
    ),
    hints=(
        "Every pair of the table is a question with the answer yes (diagonal) or no (all else). How probable is the "
        "right answer?",
        "sigmoid of the logit for yes, sigmoid of minus the logit for no: multiply the logits by +1 or -1 first.",
        "-F.logsigmoid(sign * (s V T^T + b)), summed over all B x B pairs, divided by B.",
    ),
    misconceptions=(
        Misconception("mean over all pairs", slips.averaged,
            "You divided by B squared. The paper divides by B: otherwise the one true pair of a row would count less "
            "and less as the batch grows."),
        slips.summed("the pictures"),
        Misconception("negatives left out", _of_logits(lambda x: -F.logsigmoid(x.diagonal()).mean()),
            "Only the true pairs are in your loss. Say yes to everything, and it is zero."),
        Misconception("all pairs positive", _of_logits(lambda x: -F.logsigmoid(x).sum() / len(x)),
            "Your loss wants every picture to match every caption. The answer off the diagonal is no."),
        Misconception("answers turned round", _of_logits(lambda x: -F.logsigmoid(-_signed(x)).sum() / len(x)),
            "Your loss wants no for the true pairs and yes for all others: a sign is missing."),
        Misconception("0 instead of -1", _of_logits(lambda x: -F.logsigmoid(torch.eye(len(x)) * x).sum() / len(x)),
            "You multiply the logits off the diagonal by 0, so that they cost log 2 whatever the model says. With "
            "sigmoid(y l) the two answers are +1 and -1."),
        Misconception("sigmoid taken twice", _of_logits(lambda x: _bce(x.sigmoid(), torch.eye(len(x)))),
            "binary_cross_entropy_with_logits takes logits and does the sigmoid itself. You gave it probabilities."),
        Misconception("no logarithm", _of_logits(lambda x: -_signed(x).sigmoid().sum() / len(x)),
            "You summed the probabilities of the right answers. The loss sums their logarithms.",
            says=lambda loss, *_: loss < 0),
        Misconception("bias not turned with the sign",
            lambda v, t, s, b: -F.logsigmoid(_signed(s * v @ t.T) + b).sum() / len(v),
            "The sign belongs before the whole logit, the bias included."),
        Misconception("bias left out", slips.left_out(3, 0.0),
            "Without the bias the model begins by saying yes half of the time, and B - 1 of B answers are no."),
        Misconception("bias subtracted", slips.argument(3, lambda b: -b),
            "You subtract the bias. It is added to the logit."),
        Misconception("scale on the bias", lambda v, t, s, b: siglip_loss(v, t, s, s * b),
            "You multiply the bias by the scale as well: s (v t + b). It is added after the scale."),
        Misconception("scale left out", slips.left_out(2, 1.0), "Your loss ignores logit_scale."),
        Misconception("divides by the scale", slips.inverted(2),
            "A larger scale should make the answers surer, yours makes them less sure."),
        Misconception("scale exponentiated twice", slips.exponentiated(2),
            "You take exp of logit_scale. It is the multiplier itself here: the model has taken the exponential."),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0, 1),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "clip_loss": _CLIP_LOSS,
    "logit_gradient": _LOGIT_GRADIENT,
    "first_step": _FIRST_STEP,
    "loss_floor": _LOSS_FLOOR,
    "class_vectors": _CLASS_VECTORS,
    "recall_at": _RECALL,
    "siglip_loss": _SIGLIP,
}
