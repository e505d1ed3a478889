"""Exercises of lesson 07: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.clip import clip_loss, siglip_loss
from minilip.evaluation import retrieval

from . import Exercise, Misconception, Prediction

LESSON = "07_clip"

# ---- 7.1 the loss ----------------------------------------------------------------------------------------------------


def _loss_loop(image, text, logit_scale):
    batch, total = len(image), torch.zeros(())
    for i in range(batch):
        along = torch.stack([logit_scale * (image[i] * text[k]).sum() for k in range(batch)])
        down = torch.stack([logit_scale * (image[k] * text[i]).sum() for k in range(batch)])
        total = total + (along.logsumexp(0) - along[i]) + (down.logsumexp(0) - down[i])
    return total / (2 * batch)


def _pairs(generator):
    def unit(batch, dim):
        return F.normalize(torch.randn(batch, dim, generator=generator), dim=1)

    ordinary = [(unit(b, d), unit(b, d), s) for b, d, s in ((2, 3, 1.0), (5, 4, 7.0), (8, 16, 14.3))]
    free = (torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator), 2.0)
    opposite = unit(4, 8)
    return [*ordinary, free, (opposite, -opposite, 100.0)]  # the last: e^-200 is 0 in float32


def _rows(image, text, scale):
    return F.cross_entropy(scale * image @ text.T, torch.arange(len(image)))


def _without_positive(image, text, scale):
    logits = scale * image @ text.T
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)
    return (others.logsumexp(0) + others.logsumexp(1)).mean() / 2 - logits.diagonal().mean()


def _whole_table(image, text, scale):
    logits = scale * image @ text.T
    return logits.flatten().logsumexp(0) - logits.diagonal().mean()


def _log_of_softmax(image, text, scale):
    logits = scale * image @ text.T
    return -(logits.softmax(0).diagonal().log() + logits.softmax(1).diagonal().log()).mean() / 2


_CLIP_LOSS = Exercise(
    library=clip_loss,
    reference=_loss_loop,
    inputs=_pairs,
    gradients=("image", "text"),
    hints=(
        "Make the table of logits first: a row for each picture, a column for each caption. Where are the true pairs?",
        "A picture chooses among captions: a softmax along its row. A caption chooses among pictures: down its column. "
        "You want minus the log-probability of the diagonal, averaged over both.",
        "F.cross_entropy(logits, torch.arange(B)) is the row half. For the columns, transpose. Add and halve.",
    ),
    misconceptions=(
        Misconception(
            "rows only",
            _rows,
            "Only the pictures choose in your loss. The captions choose too: what does a column of the table say?",
        ),
        Misconception(
            "columns only",
            lambda v, t, s: _rows(t, v, s),
            "Only the captions choose in your loss. The pictures choose too: what does a row of the table say?",
        ),
        Misconception(
            "two directions, not halved",
            lambda v, t, s: 2 * clip_loss(v, t, s),
            "You added the two directions. CLIP takes their mean, so that log B still means a model that guesses.",
        ),
        Misconception(
            "sum instead of mean",
            lambda v, t, s: len(v) * clip_loss(v, t, s),
            "Your loss grows with the batch: it is summed over the pairs. Take the mean, or the learning rate would "
            "have to change with B.",
        ),
        Misconception(
            "divides by the scale",
            lambda v, t, s: clip_loss(v, t, 1 / s),
            "A larger scale should make the choice sharper, yours makes it softer. It is one over the temperature.",
        ),
        Misconception(
            "scale left out",
            lambda v, t, s: clip_loss(v, t, 1.0),
            "Your loss ignores logit_scale. Cosines lie in [-1, 1]: without a scale the softmax stays nearly flat.",
        ),
        Misconception(
            "one softmax over the whole table",
            _whole_table,
            "Your probabilities sum to one over the whole B x B table. Each picture makes its own choice, so each row "
            "sums to one by itself, and so does each column.",
        ),
        Misconception(
            "positive left out of the denominator",
            _without_positive,
            "Your denominator sums over the wrong captions only. Then the ratio is no probability: it can exceed one, "
            "and the loss can fall below zero. The true caption is one of the candidates.",
        ),
        Misconception(
            "log of softmax",
            _log_of_softmax,
            "Right, until a logit is 200 below the others: its softmax is 0 in float32, and log 0 is minus infinity. "
            "Some function takes both steps at once and never forms the small number.",
        ),
        Misconception(
            "normalises again",
            lambda v, t, s: clip_loss(F.normalize(v, dim=1), F.normalize(t, dim=1), s),
            "You made the vectors unit length inside the loss. In this course a loss takes vectors as they come; the "
            "model normalises. Doing it twice hides a model that forgot.",
        ),
        Misconception(
            "detached",
            lambda v, t, s: clip_loss(v.detach(), t, s),
            "The value is right, but no gradient reaches the pictures: a .detach(), .item() or no_grad on the way?",
        ),
    ),
)

# ---- 7.2 the gradient ------------------------------------------------------------------------------------------------


def _gradient(logits: Tensor) -> Tensor:
    b = len(logits)
    return (logits.softmax(dim=1) + logits.softmax(dim=0) - 2 * torch.eye(b).to(logits)) / (2 * b)


def _gradient_loop(logits):
    out, batch = torch.zeros_like(logits), len(logits)
    for i in range(batch):
        for j in range(batch):
            along = 1 / sum((logits[i, k] - logits[i, j]).exp() for k in range(batch))
            down = 1 / sum((logits[k, j] - logits[i, j]).exp() for k in range(batch))
            out[i, j] = (along + down - (2.0 if i == j else 0.0)) / (2 * batch)
    return out


_LOGIT_GRADIENT = Exercise(
    library=_gradient,
    reference=_gradient_loop,
    inputs=lambda g: [(torch.randn(b, b, generator=g) * s,) for b, s in ((2, 1.0), (5, 3.0), (9, 8.0))],
    hints=(
        "Start with one row: -log P_ii = -l_ii + log sum_k exp(l_ik). Differentiate the two terms apart.",
        "The derivative of a log-sum-exp is the softmax. So a row gives P_ij minus 1 where j is the true caption.",
        "Columns give Q_ij minus 1 on the diagonal. Each direction is a mean over B, and the loss is the mean of both: "
        "divide the sum by 2B.",
    ),
    misconceptions=(
        Misconception(
            "one true pair instead of two",
            lambda x: (x.softmax(1) + x.softmax(0) - torch.eye(len(x))) / (2 * len(x)),
            "The entries of your table do not sum to zero: the true pair is subtracted once for each direction.",
        ),
        Misconception(
            "rows only",
            lambda x: (x.softmax(1) - torch.eye(len(x))) / len(x),
            "This is the gradient of the picture-to-caption half. The columns pull at the same logits.",
        ),
        Misconception(
            "not divided by the batch",
            lambda x: len(x) * _gradient(x),
            "Right up to a factor B: the loss is a mean over the pairs of the batch.",
        ),
        Misconception(
            "not halved",
            lambda x: 2 * _gradient(x),
            "Right up to a factor 2: the loss is the mean of two directions, not their sum.",
        ),
        Misconception(
            "ascent",
            lambda x: -_gradient(x),
            "The sign is turned: raising the logit of a true pair must lower the loss, so its gradient is negative.",
        ),
        Misconception(
            "softmax of the transpose",
            lambda x: (x.softmax(1) + x.T.softmax(0) - 2 * torch.eye(len(x))) / (2 * len(x)),
            "After logits.T the entry (j, i) belongs to pair (i, j): transpose back before you add.",
        ),
    ),
)

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
        Misconception(
            "expects confidence to grow from the start",
            "up",
            "In the end the scale does grow. At the first step the model knows nothing and its softmax is already "
            "sharp: is it over- or underconfident?",
        ),
        Misconception(
            "expects no change",
            "stays",
            "The derivative (7) is zero only if the model expects exactly the cosine it finds. Does it, at the start?",
        ),
    ),
)

# ---- 7.4 the floor ---------------------------------------------------------------------------------------------------


def loss_floor(batch: int, captions: int) -> float:
    """Least CLIP loss when `captions` equally likely captions repeat within a batch: E log(1 + Binomial(B-1, 1/K))."""
    n, p = batch - 1, 1 / captions
    total = 0.0
    for k in range(n + 1):
        log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        total += math.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p)) * math.log(1 + k)
    return total


def _floor_recursion(batch, captions):
    """The binomial built up one caption at a time, as a table of probabilities."""
    chance = [1.0]
    for _ in range(batch - 1):
        miss = [c * (1 - 1 / captions) for c in chance] + [0.0]
        hit = [0.0] + [c / captions for c in chance]
        chance = [a + b for a, b in zip(miss, hit, strict=True)]
    return sum(c * math.log(1 + k) for k, c in enumerate(chance))


_LOSS_FLOOR = Exercise(
    library=loss_floor,
    reference=_floor_recursion,
    inputs=lambda _: [(2, 2), (16, 4), (128, 48), (256, 48), (64, 1000)],
    tolerance=1e-6,
    hints=(
        "Take one pair. How many of the other B - 1 captions are word for word the same, and with which probability?",
        "That number is binomial. With n copies in all, the best possible loss of the pair is log n.",
        "Sum over k = 0 ... B-1: (B-1 choose k) (1/K)^k (1-1/K)^(B-1-k) log(1 + k). math.comb or math.lgamma helps.",
    ),
    misconceptions=(
        Misconception(
            "log of the mean",
            lambda b, k: math.log(1 + (b - 1) / k),
            "This is the logarithm of the mean number of copies. The floor is the mean of the logarithm, which is "
            "smaller (Jensen).",
        ),
        Misconception(
            "always zero",
            lambda b, k: 0.0,
            "Zero would need each picture to find its own caption among word-for-word copies of it. Nothing can.",
        ),
        Misconception(
            "log of the batch",
            lambda b, k: math.log(b),
            "log B is the loss of a model that guesses, the top of the scale and not its floor.",
        ),
        Misconception(
            "B others instead of B - 1",
            lambda b, k: _floor_recursion(b + 1, k),
            "Almost. How many *other* captions does a batch of B hold?",
        ),
        Misconception(
            "own caption not counted",
            lambda b, k: math.log(max(1e-12, (b - 1) / k)),
            "Count the pair's own caption too: with no other copy the loss is log 1 = 0 and not log 0.",
        ),
    ),
)

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
    library=class_vectors,
    reference=_class_loop,
    inputs=lambda g: [
        (torch.randn(c, k, d, generator=g) * torch.rand(c, k, 1, generator=g).mul(9).add(0.2),)
        for c, k, d in ((2, 3, 4), (5, 2, 8), (4, 4, 4))
    ],
    hints=(
        "Each prompt should count once, however long its vector. And a class should not gain from prompts that agree.",
        "Three steps: make each prompt a direction, average over the prompts of a class, make the average a direction.",
        "F.normalize(x, dim=...) twice, with .mean(dim=1) between: the last dimension is the vector's, the middle one "
        "counts prompts.",
    ),
    misconceptions=(
        Misconception(
            "prompts not normalised first",
            lambda p: F.normalize(p.mean(dim=1), dim=1),
            "A long prompt vector outvotes the short ones in your average. Each prompt should count once.",
        ),
        Misconception(
            "mean not normalised",
            lambda p: F.normalize(p, dim=2).mean(dim=1),
            "Your class vectors are shorter than 1, by how much their prompts disagree: eq. (9). A class would lose "
            "points for having varied prompts.",
        ),
        Misconception(
            "no normalisation",
            lambda p: p.mean(dim=1),
            "Neither the prompts nor their mean have length 1. Cosines need directions.",
        ),
        Misconception(
            "averages over classes",
            lambda p: F.normalize(F.normalize(p, dim=2).mean(dim=0), dim=1),
            "You averaged over the classes. The shape (C, K, D) has the K prompts of a class in the middle.",
        ),
        Misconception(
            "normalises along the prompts",
            lambda p: F.normalize(F.normalize(p, dim=1).mean(dim=1), dim=1),
            "The first normalisation runs over the prompts. A vector's length is taken over its D coordinates.",
        ),
    ),
)

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


def _tables(generator):
    tables = [(torch.randn(q, q, generator=generator), k) for q, k in ((6, 1), (12, 3), (30, 5))]
    tied = torch.randint(3, (20, 20), generator=generator).float()
    return [*tables, (tied, 2), (torch.zeros(5, 5), 1)]


def _ahead(similarity, strict):
    own = similarity.diagonal()[:, None]
    beats = similarity > own if strict else (similarity >= own).fill_diagonal_(False)
    return beats.sum(dim=1)


_RECALL = Exercise(
    library=recall_at,
    reference=_recall_loop,
    inputs=_tables,
    hints=(
        "Do not sort. Count, for each query, how many wrong items are ahead of the right one.",
        "A wrong item with the same score is ahead too, or a model that scores everything alike would be perfect.",
        "own = similarity.diagonal()[:, None]; count similarity >= own off the diagonal; a hit has fewer than k ahead.",
    ),
    misconceptions=(
        Misconception(
            "ties count as hits",
            lambda x, k: (_ahead(x, True) < k).double().mean().item(),
            "Give your function a table of zeros: it reports a perfect model that knows nothing. A tie is not a hit.",
        ),
        Misconception(
            "ties broken by position",
            lambda x, k: (
                (x.argsort(dim=1, descending=True, stable=True)[:, :k] == torch.arange(len(x))[:, None])
                .any(dim=1)
                .double()
                .mean()
                .item()
            ),
            "Among equal scores yours favours whatever comes first in the table. Then the answer depends on the order "
            "of the gallery.",
        ),
        Misconception(
            "queries in columns",
            lambda x, k: (_ahead(x.T.contiguous(), False) < k).double().mean().item(),
            "You searched down the columns. Queries are the rows.",
        ),
        Misconception(
            "off by one",
            lambda x, k: (_ahead(x, False) <= k).double().mean().item(),
            "With k items ahead the right one comes in place k + 1. Recall at 1 allows none ahead.",
        ),
        Misconception(
            "counts hits without dividing",
            lambda x, k: (_ahead(x, False) < k).double().sum().item(),
            "You returned the number of hits. Recall is their share among the queries.",
        ),
    ),
)

# ---- 7.7 SigLIP ------------------------------------------------------------------------------------------------------


def _siglip_loop(image, text, logit_scale, logit_bias):
    total = torch.zeros(())
    for i in range(len(image)):
        for j in range(len(text)):
            sign = 1.0 if i == j else -1.0
            logit = sign * (logit_scale * (image[i] * text[j]).sum() + logit_bias)
            total = total + torch.logaddexp(torch.zeros_like(logit), -logit)
    return total / len(image)


def _signs(x):
    return 2 * torch.eye(len(x)) - 1


def _sigmoid_then_log(v, t, s, b):
    p = torch.sigmoid(_signs(v) * (s * v @ t.T + b))
    return -p.log().sum() / len(v)


_SIGLIP = Exercise(
    library=siglip_loss,
    reference=_siglip_loop,
    inputs=lambda g: [(*args, b) for args, b in zip(_pairs(g), (0.0, -2.0, -5.5, 1.0, -10.0), strict=True)],
    gradients=("image", "text"),
    hints=(
        "Every pair of the table is a question with the answer yes (diagonal) or no (all else). How probable is the "
        "right answer?",
        "sigmoid of the logit for yes, sigmoid of minus the logit for no: multiply the logits by +1 or -1 first.",
        "-F.logsigmoid(sign * (s V T^T + b)), summed over all B x B pairs, divided by B.",
    ),
    misconceptions=(
        Misconception(
            "mean over all pairs",
            lambda v, t, s, b: siglip_loss(v, t, s, b) / len(v),
            "You divided by B squared. The paper divides by B: otherwise the one true pair of a row would count less "
            "and less as the batch grows.",
        ),
        Misconception(
            "negatives left out",
            lambda v, t, s, b: -F.logsigmoid((s * v @ t.T + b).diagonal()).mean(),
            "Only the true pairs are in your loss. Say yes to everything, and it is zero.",
        ),
        Misconception(
            "all pairs positive",
            lambda v, t, s, b: -F.logsigmoid(s * v @ t.T + b).sum() / len(v),
            "Your loss wants every picture to match every caption. The answer off the diagonal is no.",
        ),
        Misconception(
            "bias not turned with the sign",
            lambda v, t, s, b: -F.logsigmoid(_signs(v) * (s * v @ t.T) + b).sum() / len(v),
            "The sign belongs before the whole logit, the bias included.",
        ),
        Misconception(
            "bias left out",
            lambda v, t, s, b: siglip_loss(v, t, s, 0.0),
            "Without the bias the model begins by saying yes half of the time, and B - 1 of B answers are no.",
        ),
        Misconception(
            "log of sigmoid",
            _sigmoid_then_log,
            "Right, until a logit is far on the wrong side: its sigmoid is 0 in float32, and log 0 is minus infinity.",
        ),
    ),
)

EXERCISES: dict[str, Exercise | Prediction] = {
    "clip_loss": _CLIP_LOSS,
    "logit_gradient": _LOGIT_GRADIENT,
    "first_step": _FIRST_STEP,
    "loss_floor": _LOSS_FLOOR,
    "class_vectors": _CLASS_VECTORS,
    "recall_at": _RECALL,
    "siglip_loss": _SIGLIP,
}
