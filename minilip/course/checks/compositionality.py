"""Exercises of lesson 10: references, misconceptions and hints."""

import math

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.compositionality import (
    indistinct_floor,
    log_prior,
    negclip_loss,
    probe_hits,
    visual_gpt_score,
    worst_group,
)

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction
from ._inputs import far_rows, unit

LESSON = "10_compositionality"

# ---- 10.1 ties -------------------------------------------------------------------------------------------------------


def _hits_loop(scores):
    hits = []
    for true, *false in scores.tolist():
        beside = sum(s == true for s in false)
        hits.append(1 / (1 + beside) if true >= max(false) else 0.0)
    return torch.tensor(hits)


def _score_tables(g):
    tables = [(torch.randn(6, 2, generator=g),), (torch.randint(3, (40, 5), generator=g).float(),)]
    return [*tables, (torch.zeros(4, 5),), (torch.randint(2, (30, 2), generator=g).float(),)]


def _others_best(scores):
    return scores[:, 1:].max(dim=1).values


_HITS = Exercise(
    library=lambda scores: probe_hits(scores), reference=_hits_loop, inputs=_score_tables,
    right=(lambda s: (s[:, 0] == s.max(dim=1).values) / (s == s[:, :1]).sum(dim=1),
           lambda s: (s == s.amax(1, keepdim=True))[:, 0] / (s == s.amax(1, keepdim=True)).sum(1)),
    naive="comparisons and a division by a small whole number: nothing overflows",
    hints=(
        "Two questions: is the true caption among the best, and how many are as good as it?",
        "Among the best: scores[:, 0] equals the maximum of its row. As good: count the entries of the row equal to "
        "scores[:, 0]; the true one counts itself.",
        "(scores[:, 0] >= scores[:, 1:].amax(dim=1)) / (1 + (scores[:, 1:] == scores[:, :1]).sum(dim=1))",
    ),
    misconceptions=(
        Misconception("a tie is wrong", lambda s: (s[:, 0] > _others_best(s)).float(),
            "A scorer that says nothing gets 0 from you, worse than a coin. Of m + 1 equal captions one is drawn."),
        Misconception("a tie is right", lambda s: (s[:, 0] >= _others_best(s)).float(),
            "A scorer that says nothing gets 1 from you: perfect. That is argmax with the true caption first."),
        Misconception("a tie is one half", lambda s: ((s[:, 0] > _others_best(s)).float()
            + (s[:, 0] >= _others_best(s)).float()) / 2,
            "Right for one false caption. Of four that tie with the true one, a draw finds it once in five."),
        Misconception("the true caption last", lambda s: probe_hits(s.flip(1)),
            "You take the last column for the true caption. It is the first."),
        Misconception("pairwise accuracy",
            lambda s: ((s[:, :1] > s[:, 1:]).float() + (s[:, :1] == s[:, 1:]) / 2).mean(1),
            "You compare with each false caption by itself and average. One better caption loses the whole question."),
        Misconception("divides by the ties alone", lambda s: (s[:, 0] >= _others_best(s))
            / (s[:, 1:] == s[:, :1]).sum(1).clamp(min=1),
            "With m false captions beside it, 1 + m are drawn from: the true one is one of them."),
        Misconception("all that tie, not only at the top", lambda s: 1.0 / (s == s[:, :1]).sum(1),
            "You share out ties but never ask whether a false caption is better."),
        Misconception("mean over the questions", slips.then(lambda h: h.mean()),
            "You returned one number. The hit of each of the N questions is asked for."),
    ),
)  # fmt: skip

# ---- 10.2 the same words ---------------------------------------------------------------------------------------------


def same_bag(tokens: Tensor, others: Tensor) -> Tensor:
    """Whether two rows hold the same numbers, as often, in any order. (N, L), (N, L) -> (N,) bool"""
    return (tokens.sort(dim=1).values == others.sort(dim=1).values).all(dim=1)


def _bag_loop(tokens, others):
    return torch.tensor([sorted(a) == sorted(b) for a, b in zip(tokens.tolist(), others.tolist(), strict=True)])


def _token_rows(g):
    rows = torch.randint(3, 9, (24, 6), generator=g)
    order = torch.rand(24, 6, generator=g).argsort(dim=1)
    shuffled = rows.gather(1, order)
    shuffled[::3, 0] = torch.randint(3, 9, (8,), generator=g)
    # The same set, counted otherwise; the same sum; the same numbers of each, one padded.
    one = torch.tensor([[3, 3, 4, 5], [3, 6, 4, 5], [3, 4, 5, 0], [3, 4, 5, 6], [7, 3, 4, 4]])
    two = torch.tensor([[3, 4, 4, 5], [4, 5, 5, 4], [0, 5, 3, 4], [3, 4, 5, 6], [4, 4, 3, 7]])
    return [(rows, shuffled), (one, two), (rows, rows.flip(1))]


_SAME_BAG = Exercise(
    library=same_bag, reference=_bag_loop, inputs=_token_rows,
    right=(lambda a, b: (F.one_hot(a, 32).sum(1) == F.one_hot(b, 32).sum(1)).all(dim=1),
           lambda a, b: ((a[:, :, None] == a[:, None]).sum(2) == (a[:, :, None] == b[:, None]).sum(2)).all(1)),
    naive="whole numbers are compared: nothing overflows",
    hints=(
        "What is left of a sentence if its order is thrown away? How do you throw it away for both?",
        "Put both into an order that depends on the words alone. Then equal bags are equal rows.",
        "(tokens.sort(dim=1).values == others.sort(dim=1).values).all(dim=1)",
    ),
    misconceptions=(
        Misconception("compares sets",
            lambda a, b: torch.tensor([set(x) == set(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]),
            "A set forgets how often a word occurs. \"a red a\" and \"a red red\" are different bags."),
        Misconception("compares sums", lambda a, b: a.sum(1) == b.sum(1),
            "Different words can have numbers of the same sum: 3 + 6 is 4 + 5."),
        Misconception("compares word by word", lambda a, b: (a == b).all(dim=1),
            "You ask whether the two sentences are the same. A swap keeps the words and moves them."),
        Misconception("one word in common", lambda a, b: (a[:, :, None] == b[:, None]).any(2).any(1),
            "One common word is enough for you. All of them have to agree, each as often."),
        Misconception("every word occurs in the other", lambda a, b: (a[:, :, None] == b[:, None]).any(2).all(1),
            "You ask whether each word of the first occurs in the second. How often it does counts too, in both."),
        Misconception("one answer for the batch", slips.then(lambda x: x.all()),
            "You returned one answer for all rows. Each pair of sentences has its own."),
    ),
)  # fmt: skip

# ---- 10.3 the wage for order -----------------------------------------------------------------------------------------


def order_wage(batch: int, words: float, meaning: float) -> float:
    """What a batch pays for reading order, eq. (5), in nats."""
    return indistinct_floor(batch, words) - indistinct_floor(batch, meaning)


def _wage_by_scipy(batch, words, meaning):
    floors = [scipy.stats.binom(batch - 1, p).expect(np.log1p) for p in (words, meaning)]
    return float(floors[0] - floors[1])


def _floor_with(change):
    """The wage of another floor, a function of (batch, share)."""
    return lambda batch, words, meaning: float(change(batch, words) - change(batch, meaning))


def _chances(batch, share):
    return torch.distributions.Binomial(batch - 1, torch.tensor(float(share))).log_prob(torch.arange(batch)).exp()


_ORDER_WAGE = Exercise(
    library=order_wage, reference=_wage_by_scipy,
    inputs=lambda _: [(2, 0.5, 0.25), (64, 8 / 1344, 2 / 1344), (160, 8 / 1344, 2 / 1344), (24, 0.3, 0.05)],
    right=(lambda b, w, m: sum(math.comb(b - 1, k) * (w**k * (1 - w) ** (b - 1 - k) - m**k * (1 - m) ** (b - 1 - k))
                               * math.log1p(k) for k in range(b)),
           _floor_with(lambda b, p: (_chances(b, p) * torch.arange(b).log1p()).sum())),
    naive="a sum of positive numbers: at the sizes of the course nothing overflows",
    hints=(
        "Two floors: of a critic that reads words, and of one that reads meanings. Their difference is paid.",
        "A floor is E log(1 + n), n the number of other pairs that this critic takes for the true one: binomial with "
        "B - 1 trials.",
        "floor(p) = sum over k of (B-1 choose k) p^k (1-p)^(B-1-k) log(1 + k); return floor(words) - floor(meaning).",
    ),
    misconceptions=(
        Misconception("log of the mean", _floor_with(lambda b, p: math.log1p((b - 1) * p)),
            "This is the logarithm of the mean number of rivals. The floor is the mean of the logarithm: smaller."),
        Misconception("the floor of the words alone", lambda b, w, m: indistinct_floor(b, w),
            "Even a model that reads everything pays for captions of the same meaning. Subtract its floor."),
        Misconception("sign turned", slips.negated,
            "Your wage is negative. The bag of words pays more: its floor comes first.", says=lambda r, *_: r < 0),
        Misconception("B others instead of B - 1", lambda b, w, m: order_wage(b + 1, w, m),
            "Almost. How many *other* pairs does a batch of B hold?"),
        Misconception("rivals counted apart", lambda b, w, m: indistinct_floor(b, w - m),
            "The rivals alone are binomial with the difference of the two shares, but the logarithm of a sum is no sum "
            "of logarithms: pairs of the same meaning stand in both."),
        Misconception("the chance to meet a rival", lambda b, w, m: 1 - (1 - (w - m)) ** (b - 1),
            "That is the share of batches with a rival, eq. (6). What is asked is what it costs there, in nats."),
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 10.4 NegCLIP ----------------------------------------------------------------------------------------------------


def _negclip_loop(image, text, hard_text, logit_scale):
    total = torch.zeros(())
    for i in range(len(image)):
        along = torch.stack([logit_scale * (image[i] * c).sum() for c in (*text, *hard_text)])
        down = torch.stack([logit_scale * (v * text[i]).sum() for v in image])
        total = total + (along.logsumexp(0) - along[i]) + (down.logsumexp(0) - down[i])
    return total / (2 * len(image))


def _own(x):
    return torch.arange(len(x))


def _triples(g):
    plain = [
        (unit(g, b, d), unit(g, b, d), unit(g, h, d), s)
        for b, h, d, s in ((2, 1, 3, 1.0), (5, 5, 4, 7.0), (4, 9, 8, 14.3))
    ]
    return [
        *plain,
        (torch.randn(3, 6, generator=g), torch.randn(3, 6, generator=g), torch.randn(3, 6, generator=g), 2.0),
    ]


def _far_triples(g):
    v, t = far_rows(g)
    return [(v, t, unit(g, 4, 8), 100.0), (v, t, -v, 100.0), (t, v, t, 100.0)]


def _tables(v, t, h, s):
    return s * v @ torch.cat([t, h]).T, s * t @ v.T


def _of_tables(loss):
    return lambda v, t, h, s: loss(*_tables(v, t, h, s))


def _with_table(table, v, t, s):
    """The loss with another table for the pictures' choice."""
    return (F.cross_entropy(table, _own(v)) + F.cross_entropy(s * t @ v.T, _own(v))) / 2


def _naive_row(x):
    return (x.exp().sum(1).log() - x.diagonal()).mean()


_NEGCLIP = Exercise(
    library=negclip_loss, reference=_negclip_loop, inputs=_triples, extreme=_far_triples,
    stability="Some function takes the logarithm of a softmax at once, and never forms the small or the large number.",
    gradients=("image", "text", "hard_text", "logit_scale"),
    right=(_of_tables(lambda a, b: -(a.log_softmax(1).diagonal() + b.log_softmax(1).diagonal()).mean() / 2),
           lambda v, t, h, s: ((torch.logaddexp((s * v @ t.T).logsumexp(1), (s * v @ h.T).logsumexp(1))
                                + (s * v @ t.T).logsumexp(0)) / 2 - s * (v * t).sum(1)).mean()),
    naive=(_of_tables(lambda a, b: (_naive_row(a) + _naive_row(b)) / 2),
           _of_tables(lambda a, b: -(a.softmax(1).diagonal().log() + b.softmax(1).diagonal().log()).mean() / 2)),
    hints=(
        "Begin with CLIP's two halves. In which of them does a caption without a picture have a place?",
        "A picture chooses among B true and H false captions, a table (B, B + H); a true caption among B pictures.",
        "logits = s * image @ cat([text, hard_text]).T; cross_entropy(logits, arange(B)) and "
        "cross_entropy(logits[:, :B].T, arange(B)); add and halve.",
    ),
    misconceptions=(
        Misconception("false captions left out", lambda v, t, h, s: _with_table(s * v @ t.T, v, t, s),
            "This is CLIP's loss: your false captions are nowhere in it. They are columns of the pictures' table."),
        Misconception("false captions ask too",
            lambda v, t, h, s: (F.cross_entropy(_tables(v, t, h, s)[0], _own(v))
                + F.cross_entropy(s * torch.cat([t, h]) @ v.T, torch.arange(len(t) + len(h)) % len(v))) / 2,
            "Your false captions choose a picture, and learn that it is the right one. They belong to no picture: "
            "columns of the first table only."),
        Misconception("pictures only", _of_tables(lambda a, b: F.cross_entropy(a, _own(a))),
            "Only the pictures choose in your loss. The true captions choose among the pictures too."),
        Misconception("captions only", _of_tables(lambda a, b: F.cross_entropy(b, _own(b))),
            "Only the captions choose in your loss, and they never meet the false ones."),
        Misconception("false captions in place of the others",
            lambda v, t, h, s: (F.cross_entropy(s * torch.cat([(v * t).sum(1, keepdim=True), v @ h.T], 1), _own(v) * 0)
                + F.cross_entropy(s * t @ v.T, _own(v))) / 2,
            "Your pictures choose between their caption and false ones. The other captions of the batch are candidates "
            "too."),
        Misconception("true captions counted twice",
            lambda v, t, h, s: _with_table(s * v @ torch.cat([t, t, h]).T, v, t, s),
            "Each true caption is a candidate twice in your table, and shares its probability with itself."),
        Misconception("two directions, not halved", slips.times(2),
            "You added the two directions. The loss is their mean, as in CLIP."),
        slips.summed("the pairs"),
        Misconception("divides by the scale", slips.inverted(3),
            "A larger scale should make the choice sharper, yours makes it softer. It is one over the temperature."),
        Misconception("scale left out", slips.left_out(3, 1.0), "Your loss ignores logit_scale."),
        Misconception("scale exponentiated twice", slips.exponentiated(3),
            "You take exp of logit_scale. It is the multiplier itself here: the model has taken the exponential."),
        slips.softmax_twice(_of_tables(lambda a, b: (F.cross_entropy(a.softmax(1), _own(a))
                                                     + F.cross_entropy(b.softmax(1), _own(b))) / 2)),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0, 1, 2),
    ),
)  # fmt: skip

# ---- 10.5 what NegCLIP learns in a world of habits -------------------------------------------------------------------

_HABITS = Prediction(
    answer="below",
    hints=(
        "In this world all true captions are usual ones. What do all the false captions have in common?",
        "A sentence can be recognised as unusual without a picture. Is that enough for the loss?",
        "It is enough, and it is easier than looking. On unusual scenes the unusual caption is the true one.",
    ),
    misconceptions=(
        Misconception("expects that order was learned", "above",
            "The loss was satisfied, but by what? Every false caption was an unusual sentence: no picture is needed to "
            "reject it."),
        Misconception("expects ignorance", "at",
            "A model that knew nothing would toss a coin. This one has learned something: which sentences to dislike."),
    ),
)  # fmt: skip

# ---- 10.6 the prior taken away ---------------------------------------------------------------------------------------


def debiased(given: Tensor, table: Tensor, alpha: float) -> Tensor:
    """log p(t | i) - alpha log p(t), p(t) from a table over pictures. (T,), (T, I) -> (T,)"""
    return visual_gpt_score(given, log_prior(table), alpha)


def _debiased_loop(given, table, alpha):
    scores = []
    for own, row in zip(given, table, strict=True):
        top = row.max()
        scores.append(own - alpha * (top + ((row - top).exp().sum() / len(row)).log()))
    return torch.stack(scores)


def _likelihoods(g):
    made = []
    for t, i, alpha in ((3, 5, 1.0), (4, 4, 0.5), (6, 2, 0.0), (5, 7, 1.4)):
        table = -6 + 2 * torch.randn(t, i, generator=g)
        made.append((-5 + torch.randn(t, generator=g), table, alpha))
    return made


def _prior_with(change):
    return lambda given, table, alpha: given - alpha * change(table)


_DEBIASED = Exercise(
    library=debiased, reference=_debiased_loop, inputs=_likelihoods,
    extreme=lambda g: [(-150 + torch.randn(3, generator=g), -200 + 30 * torch.randn(3, 6, generator=g), 1.0)],
    stability="A long sentence has a log-probability of -150, whose exponential is 0 in float32. Which function takes "
              "the logarithm of a sum of exponentials at once?",
    right=(_prior_with(lambda x: torch.logsumexp(x - math.log(x.shape[1]), dim=1)),
           _prior_with(lambda x: x.max(1).values + (x - x.max(1, keepdim=True).values).exp().mean(1).log())),
    naive=(_prior_with(lambda x: x.exp().mean(1).log()),
           _prior_with(lambda x: x.exp().sum(1).log() - math.log(x.shape[1]))),
    hints=(
        "log p(t) first: p(t) is a mean over the pictures. A mean of what?",
        "Of probabilities, not of logarithms: log of the mean of exponentials, along the pictures of each caption.",
        "given - alpha * (table.logsumexp(dim=1) - log(table.shape[1]))",
    ),
    misconceptions=(
        Misconception("mean of logarithms", _prior_with(lambda x: x.mean(1)),
            "You averaged logarithms. p(t) is a mean of probabilities; the mean of logarithms lies below it, by (11)."),
        Misconception("sum over the pictures", _prior_with(lambda x: x.logsumexp(1)),
            "You added up the probabilities over the pictures. Their mean is the prior: it must not grow with I."),
        Misconception("divided by the number of captions", _prior_with(lambda x: x.logsumexp(1) - math.log(len(x))),
            "You divided by the number of captions. The mean runs over the pictures, I of them."),
        Misconception("the likeliest picture", _prior_with(lambda x: x.amax(1)),
            "You took the picture that fits best. The prior is what the caption is worth over all pictures."),
        Misconception("prior added", slips.argument(2, lambda a: -a),
            "You add the prior. A caption that is common anyway should lose by it."),
        Misconception("prior taken away whole", slips.left_out(2, 1.0),
            "You ignore alpha. It says how much of the prior is taken away."),
        Misconception("alpha on the likelihood too", lambda g, x, a: a * (g - log_prior(x)),
            "alpha multiplies your likelihood as well. It belongs to the prior alone."),
        Misconception("mixes the two", lambda g, x, a: (1 - a) * g - a * log_prior(x),
            "Your likelihood is weighted with 1 - alpha. It keeps its weight of one."),
        Misconception("a ratio of logarithms", lambda g, x, a: g / log_prior(x).abs() ** a,
            "You divided the logarithms. p(t|i) / p(t)^alpha is a difference once the logarithm is taken."),
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 10.7 the worst group --------------------------------------------------------------------------------------------


def _worst_loop(hits, groups):
    rows: dict[int, list[float]] = {}
    for hit, group in zip(hits.tolist(), groups.tolist(), strict=True):
        rows.setdefault(group, []).append(hit)
    return min(sum(row) / len(row) for row in rows.values())


def _by_group(hits, groups):
    return [hits[groups == k].double() for k in range(int(groups.max()) + 1)]


def _grouped(g):
    made = []
    for n, k in ((40, 3), (60, 5), (30, 2)):
        groups = torch.cat([torch.arange(k), torch.randint(k, (n - k,), generator=g)])
        groups = torch.where((groups == 0) & (torch.rand(n, generator=g) < 0.6), torch.full((n,), k - 1), groups)
        groups[0] = 0
        hits = (torch.rand(n, generator=g) < 0.45 + 0.5 * torch.rand(k, generator=g)[groups]).float()
        made.append((hits, groups))
    return [*made, (torch.tensor([1.0, 1, 1, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 0, 1, 1, 1]))]


_WORST = Exercise(
    library=worst_group, reference=_worst_loop, inputs=_grouped,
    right=(lambda h, g: min(float(x.mean()) for x in _by_group(h, g)),
           lambda h, g: (torch.zeros(int(g.max()) + 1).index_add(0, g, h.float()) / torch.bincount(g)).min()),
    naive="means of zeros and ones: nothing overflows",
    hints=(
        "First an accuracy for each group, then the least of them. What is an accuracy divided by?",
        "By the size of its own group. A mask, groups == k, picks it; or bincount counts all groups at once.",
        "min(hits[groups == k].mean() for k in groups.unique())",
    ),
    misconceptions=(
        Misconception("mean over everything", lambda h, g: float(h.double().mean()),
            "This is the accuracy of all examples: what hides the worst group."),
        Misconception("mean of the groups", lambda h, g: float(torch.stack([x.mean() for x in _by_group(h, g)]).mean()),
            "You averaged the groups. That is a fairer mean, and still a mean: the least is asked for."),
        Misconception("divided by all examples", lambda h, g: min(float(x.sum()) for x in _by_group(h, g)) / len(h),
            "You divide each group's hits by all N examples, so that a small group looks bad whatever it does."),
        Misconception("the fewest hits", lambda h, g: min(float(x.sum()) for x in _by_group(h, g)),
            "You counted hits. A small group has few of them; divide by its size."),
        Misconception("the best group", lambda h, g: max(float(x.mean()) for x in _by_group(h, g)),
            "This is the best group."),
        Misconception("the smallest group", lambda h, g: float(min(_by_group(h, g), key=len).mean()),
            "You took the accuracy of the smallest group. The worst need not be the smallest."),
        Misconception("which group it is", lambda h, g: float(np.argmin([float(x.mean()) for x in _by_group(h, g)])),
            "You returned the number of the group. Its accuracy is asked for."),
        Misconception("the error", slips.then(lambda x: 1 - x), "This is the worst group's error, not its accuracy."),
        slips.PERCENT,
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "hits": _HITS,
    "same_bag": _SAME_BAG,
    "order_wage": _ORDER_WAGE,
    "negclip_loss": _NEGCLIP,
    "habits": _HABITS,
    "debiased": _DEBIASED,
    "worst_group": _WORST,
}
