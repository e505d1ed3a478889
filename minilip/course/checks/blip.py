"""Exercises of lesson 09: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.blip import itc_loss, itm_loss, lm_loss, momentum_targets
from minilip.nn.generation import nucleus

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction
from ._inputs import unit

LESSON = "09_blip"


# ---- 9.1 contrast with a queue and soft targets ----------------------------------------------------------------------


def contrast(
    image: Tensor,
    text: Tensor,
    image_keys: Tensor,
    text_keys: Tensor,
    temperature: float | Tensor,
    alpha: float,
) -> Tensor:
    """ITC with the targets of the momentum towers: both formulas at once."""
    to_text = momentum_targets(image_keys[: len(image)], text_keys, temperature, alpha)
    to_image = momentum_targets(text_keys[: len(text)], image_keys, temperature, alpha)
    return itc_loss(image, text, image_keys, text_keys, to_text, to_image, temperature)


def _contrast_loop(image, text, image_keys, text_keys, temperature, alpha):
    b, total = len(image), torch.zeros(())
    for queries, keys, slow in ((image, text_keys, image_keys), (text, image_keys, text_keys)):
        for i in range(b):
            scores = torch.stack([(queries[i] * k).sum() / temperature for k in keys])
            told = torch.stack([(slow[i] * k).sum() / temperature for k in keys]).detach()
            told = (told - told.max()).exp()
            target = alpha * told / told.sum()
            target[i] = target[i] + 1 - alpha
            total = total - (target * (scores - scores.logsumexp(0))).sum()
    return total / (2 * b)


def _contrasted(sizes, scale=1.0):
    def inputs(g):
        return [(*(scale * unit(g, n, d) for n in (b, b, b + q, b + q)), tau, alpha) for b, q, d, tau, alpha in sizes]

    return inputs


def _soft_ce(logits, target):
    return -(target * logits.log_softmax(1)).sum(1).mean()


def _sides(change=None, keys=None, own=None, ce=_soft_ce):
    """`contrast` with a part replaced: what is made of slow logits, the keys, the label's weight, the cross-entropy."""

    def loss(image, text, image_keys, text_keys, tau, alpha):
        total = 0.0
        for x, y, slow in ((image, text_keys, image_keys), (text, image_keys, text_keys)):
            y = keys(y, len(x)) if keys else y
            told = (slow[: len(x)] @ y.T / tau).detach()
            told = change(told) if change else told.softmax(1)
            label = torch.eye(len(x), len(y)).to(x)
            target = alpha * told + (1 - alpha if own is None else own(alpha)) * label
            total = total + ce(x @ y.T / tau, target)
        return total / 2

    return loss


def _one_side(a, b):
    def loss(image, text, image_keys, text_keys, tau, alpha):
        rows = ((image, text_keys, image_keys), (text, image_keys, text_keys))[a:b]
        total = 0.0
        for x, y, slow in rows:
            target = momentum_targets(slow[: len(x)], y, tau, alpha)
            total = total + _soft_ce(x @ y.T / tau, target)
        return total

    return loss


def _own_queries(image, text, image_keys, text_keys, tau, alpha):
    """The fast towers teach themselves."""
    total = 0.0
    for x, y in ((image, text_keys), (text, image_keys)):
        target = alpha * (x.detach() @ y.T / tau).softmax(1).detach() + (1 - alpha) * torch.eye(len(x), len(y)).to(x)
        total = total + _soft_ce(x @ y.T / tau, target)
    return total / 2


def _same_side(image, text, image_keys, text_keys, tau, alpha):
    return contrast(image, text, text_keys, image_keys, tau, alpha)


_CONTRAST = Exercise(
    library=contrast, reference=_contrast_loop,
    inputs=_contrasted([(2, 0, 3, 0.5, 0.4), (4, 3, 5, 0.2, 0.4), (3, 6, 4, 0.1, 0.7), (5, 2, 8, 1.0, 0.25)]),
    extreme=_contrasted([(3, 2, 4, 0.004, 0.4), (4, 0, 4, 0.004, 0.4)]),
    stability="At a temperature of 0.004 a logit reaches 250. log_softmax never forms the exponential of it alone.",
    gradients=("image", "text", "temperature"),
    right=(_sides(), _sides(ce=lambda x, q: F.cross_entropy(x, q)),
           lambda v, t, vk, tk, tau, alpha: (1 - alpha) * _sides()(v, t, vk, tk, tau, 0.0)
           + alpha * _sides()(v, t, vk, tk, tau, 1.0)),
    naive=(_sides(ce=lambda x, q: -(q * x.softmax(1).log()).sum(1).mean()),
           _sides(change=lambda x: x.exp() / x.exp().sum(1, keepdim=True))),
    hints=(
        "Two tables of logits: fast queries against slow keys for the loss, slow queries (the first B slow keys of the "
        "queries' own modality) against the same keys for the targets.",
        "target = alpha * softmax(slow table) + (1 - alpha) * eye(B, B + Q), no gradient. The queue has no label.",
        "F.cross_entropy(logits, target) takes probabilities. Pictures ask text_keys, captions image_keys; the mean "
        "of both.",
    ),
    misconceptions=(
        Misconception("queue left out", _sides(keys=lambda k, b: k[:b]),
            "Your softmax runs over the batch alone. The keys of the queue are candidates too."),
        Misconception("hard targets", slips.left_out(5, 0.0),
            "Your targets are one-hot. A share alpha of each comes from the slow towers."),
        Misconception("soft targets only", slips.left_out(5, 1.0),
            "Your targets come from the slow towers alone. The label keeps a share of 1 - alpha."),
        Misconception("shares exchanged", slips.argument(5, lambda a: 1 - a),
            "You gave alpha to the label. It is the share of the slow towers."),
        Misconception("label added whole", _sides(own=lambda a: 1.0),
            "Your targets add up to 1 + alpha. The label has the share 1 - alpha."),
        Misconception("slow scores without a softmax",
            _sides(change=lambda x: x),
            "The slow similarities are logits. Targets are probabilities: take the softmax along each row."),
        Misconception("targets of the fast towers", _own_queries,
            "Your targets ask with the fast queries: a model that teaches itself. Who asks is slow too: the first B "
            "keys of the queries' own modality."),
        Misconception("modalities exchanged", _same_side,
            "Pictures look for pictures in yours. Pictures ask text_keys, captions ask image_keys."),
        Misconception("pictures only", _one_side(0, 1), "Only the pictures ask in yours. The captions ask too."),
        Misconception("captions only", _one_side(1, 2), "Only the captions ask in yours. The pictures ask too."),
        Misconception("not halved", slips.times(2), "You added the two directions. The loss is their mean."),
        slips.summed("the batch"),
        Misconception("multiplies by the temperature", slips.inverted(4),
            "A low temperature makes a choice sharper, yours makes it softer. Logits are divided by it."),
        Misconception("temperature left out", slips.left_out(4, 1.0), "Your loss ignores the temperature."),
        slips.SIGN_TURNED,
        slips.IN_BITS,
        slips.normalises_inside(0, 1, 2, 3),
    ),
)  # fmt: skip

# ---- 9.2 hard negatives ----------------------------------------------------------------------------------------------


def negative_weights(similarity: Tensor) -> Tensor:
    """The probability of each column to be drawn as the negative of a row. (B, B) -> (B, B), rows that sum to 1"""
    weight = (similarity.softmax(dim=1) + 1e-4).masked_fill(_eye(similarity), 0)
    return weight / weight.sum(dim=1, keepdim=True)


def _eye(x):
    return torch.eye(len(x), dtype=torch.bool, device=x.device)


def _weights_loop(similarity):
    rows = []
    for i, row in enumerate(similarity):
        p = (row - row.max()).exp()
        p = p / p.sum()
        kept = torch.stack([p[j] + 1e-4 if j != i else 0 * p[j] for j in range(len(p))])
        rows.append(kept / kept.sum())
    return torch.stack(rows)


def _shares(weight):
    return weight / weight.sum(dim=1, keepdim=True)


def _quotient(x):
    return x.exp() / x.exp().sum(1, keepdim=True)


_NEGATIVES = Exercise(
    library=negative_weights, reference=_weights_loop,
    inputs=lambda g: [
        (s * torch.randn(b, b, generator=g) + k * torch.eye(b),) for b, s, k in ((2, 1, 0), (4, 2, 2), (6, 3, 5))
    ],
    extreme=lambda g: [(150 * torch.randn(4, 4, generator=g),), (200 * torch.eye(3),)],
    stability="A logit of 150 has no exponential in float32. And where the own pair has it all, the others keep 1e-4 "
    "each: without it there is nothing left to draw from.",
    right=(lambda x: _shares((x.log_softmax(1).exp() + 1e-4) * ~_eye(x)),
           lambda x: _shares(x.softmax(1) - torch.diag(x.softmax(1).diagonal()) + 1e-4 * ~_eye(x))),
    naive=(lambda x: _shares((_quotient(x) + 1e-4).masked_fill(_eye(x), 0)),),
    hints=(
        "Three steps: a softmax along each row, a small floor, and nothing for the own pair. Then make rows sum to 1.",
        "(similarity.softmax(dim=1) + 1e-4), then zero on the diagonal, then divide by the row's sum.",
        "weight.masked_fill(torch.eye(B, dtype=torch.bool), 0): the diagonal is emptied after the floor is added.",
    ),
    misconceptions=(
        Misconception("positive left on the diagonal", lambda x: _shares(x.softmax(1) + 1e-4),
            "A picture can draw its own caption as a negative in yours, and it is the likeliest of all: the matcher is "
            "then told no for what is true.", says=lambda w, x: (w.diagonal() > 0).all()),
        Misconception("floor added after the diagonal",
            lambda x: _shares(x.softmax(1).masked_fill(_eye(x), 0) + 1e-4),
            "You empty the diagonal and then add the floor to it: the own pair is drawn now and then.",
            says=lambda w, x: (w.diagonal() > 0).all()),
        Misconception("floor left out", lambda x: _shares(x.softmax(1).masked_fill(_eye(x), 0)),
            "Without the floor of 1e-4 a wrong pair far below the others is never drawn, and a row whose own pair has "
            "all of the probability has nothing to draw from."),
        Misconception("diagonal emptied before the softmax",
            lambda x: _shares((x.masked_fill(_eye(x), -torch.inf).softmax(1) + 1e-4).masked_fill(_eye(x), 0)),
            "You take the own pair out before the softmax. In the released code it is still in: where the model is "
            "sure of the pair, the floor then weighs more, and negatives become easier."),
        Misconception("down the columns",
            lambda x: _shares((x.softmax(0) + 1e-4).masked_fill(_eye(x), 0)),
            "Your softmax runs down the columns. Each row draws a column."),
        Misconception("easy negatives", lambda x: negative_weights(-x),
            "The least similar are the likeliest in yours. A hard negative is one that the model takes for right."),
        Misconception("uniform", lambda x: _shares((~_eye(x)).to(x)),
            "All negatives are equally likely in yours. Hard ones come first: the softmax of the similarities."),
        Misconception("rows not normalised", lambda x: (x.softmax(1) + 1e-4).masked_fill(_eye(x), 0),
            "multinomial would do the division for you, but probabilities are asked for: rows sum to one.",
            says=lambda w, x: ((w.sum(1) - 1).abs() > 1e-5).any()),
        Misconception("logits with a floor", lambda x: _shares((x.abs() + 1e-4).masked_fill(_eye(x), 0)),
            "You weigh by the size of the logits. Probabilities come out of a softmax."),
    ),
)  # fmt: skip

# ---- 9.3 match -------------------------------------------------------------------------------------------------------


def _itm_loop(positive, negative_image, negative_text):
    total, zero = torch.zeros(()), torch.zeros(())
    for i in range(len(positive)):
        total = total + torch.logaddexp(zero, -positive[i])
        total = total + torch.logaddexp(zero, negative_image[i]) + torch.logaddexp(zero, negative_text[i])
    return total / (3 * len(positive))


def _ones(p, n, m):
    return torch.cat([torch.ones_like(p), torch.zeros_like(n), torch.zeros_like(m)])


_ITM = Exercise(
    library=itm_loss, reference=_itm_loop,
    inputs=lambda g: [tuple(torch.randn(3, b, generator=g) * s) for b, s in ((1, 1.0), (4, 2.0), (7, 3.0))],
    extreme=lambda g: [tuple(s * torch.ones(3, 4)) for s in (150.0, -150.0)],
    stability="A sigmoid of -150 is 0 in float32, and log 0 is minus infinity. Some function takes both steps at once.",
    gradients=("positive", "negative_image", "negative_text"),
    right=(lambda p, n, m: (F.softplus(-p) + F.softplus(n) + F.softplus(m)).mean() / 3,
           lambda p, n, m: F.binary_cross_entropy_with_logits(torch.cat([p, n, m]), _ones(p, n, m)),
           lambda p, n, m: F.cross_entropy(F.pad(torch.cat([p, n, m])[:, None], (1, 0)), _ones(p, n, m).long())),
    naive=(lambda p, n, m: -torch.cat([p.sigmoid().log(), (1 - n.sigmoid()).log(), (1 - m.sigmoid()).log()]).mean(),
           lambda p, n, m: torch.cat([(1 + (-p).exp()).log(), (1 + n.exp()).log(), (1 + m.exp()).log()]).mean()),
    hints=(
        "Three questions an item: its pair (yes), a wrong picture (no), a wrong caption (no). How probable is the "
        "right answer to each?",
        "sigmoid(m) for yes, sigmoid(-m) for no. Minus the logarithm, and the mean over all 3 B questions.",
        "-F.logsigmoid(torch.cat([positive, -negative_image, -negative_text])).mean()",
    ),
    misconceptions=(
        Misconception("mean of three means added up", slips.times(3),
            "Your loss is three times too large: the sum over three questions. It is the mean over all 3 B of them, so "
            "that a matcher that ignores its input stands at 0.6365."),
        Misconception("positives and negatives weighed alike",
            lambda p, n, m: (F.softplus(-p).mean() + F.softplus(torch.cat([n, m])).mean()) / 2,
            "You weigh yes and no alike. There are two questions with the answer no for each with yes: prior 1/3."),
        Misconception("wrong pictures left out", lambda p, n, m: (F.softplus(-p) + F.softplus(m)).mean() / 2,
            "Only wrong captions are asked about in yours. A wrong picture is a question too."),
        Misconception("wrong captions left out", lambda p, n, m: (F.softplus(-p) + F.softplus(n)).mean() / 2,
            "Only wrong pictures are asked about in yours. A wrong caption is a question too."),
        Misconception("negatives left out", lambda p, n, m: F.softplus(-p).mean(),
            "Say yes to everything, and your loss is zero: the negatives are missing."),
        Misconception("answers turned round", lambda p, n, m: itm_loss(-p, -n, -m),
            "Your loss wants no for the pair and yes for the wrong ones: a sign is missing."),
        Misconception("all answers yes", lambda p, n, m: itm_loss(p, -n, -m),
            "Your loss wants yes three times. For the wrong picture and the wrong caption the answer is no."),
        Misconception("three-way choice",
            lambda p, n, m: F.cross_entropy(torch.stack([p, n, m], 1), torch.zeros(len(p), dtype=torch.int64)),
            "You let the three compete in one softmax. Each is a question of its own, yes or no."),
        slips.summed("the batch"),
        Misconception("no logarithm", lambda p, n, m: -torch.cat([p, -n, -m]).sigmoid().mean(),
            "You averaged the probabilities of the right answers. The loss averages their logarithms.",
            says=lambda loss, *_: loss < 0),
        slips.SIGN_TURNED,
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 9.4 the matcher that ignores its input --------------------------------------------------------------------------


def ignored(negatives: int) -> float:
    """Least loss of a matcher that says the same to all, with so many negatives to each positive, in nats."""
    n = negatives + 1
    return math.log(n) - negatives / n * math.log(negatives)


def _entropy(negatives):
    return float(torch.distributions.Bernoulli(torch.tensor(1 / (negatives + 1), dtype=torch.double)).entropy())


_IGNORED = Exercise(
    library=ignored, reference=_entropy, inputs=lambda _: [(1,), (2,), (3,), (9,), (63,)],
    right=(lambda k: -(math.log(1 / (k + 1)) + k * math.log(k / (k + 1))) / (k + 1),
           lambda k: math.log1p(1 / k) * k / (k + 1) + math.log(k + 1) / (k + 1)),
    naive="logarithms of small whole numbers: nothing overflows",
    hints=(
        "A constant answer is one probability p of yes. Of k + 1 questions one is answered yes, k are answered no.",
        "-(log p + k log(1 - p)) / (k + 1). Set its derivative to 0: which p is best?",
        "p = 1 / (k + 1), the base rate. Put it in: log(k + 1) - k / (k + 1) log k. For k = 2 that is 0.6365.",
    ),
    misconceptions=(
        Misconception("answers half and half", lambda k: math.log(2),
            "log 2 is what a coin pays. Who knows how often the answer is yes pays less.",
            says=lambda x, k: x >= ignored(k)),
        Misconception("log of the candidates", lambda k: math.log(k + 1),
            "log(k + 1) is a choice among k + 1. Here each is a yes-or-no question of its own."),
        Misconception("sum over the questions", slips.times(lambda k: k + 1),
            "You added up the questions of one item. The loss is the mean over all questions."),
        Misconception("positives only", lambda k: math.log(k + 1) / (k + 1),
            "You counted only the questions whose answer is yes. Those with no cost something too."),
        Misconception("negatives only", lambda k: math.log1p(1 / k) * k / (k + 1),
            "You counted only the questions whose answer is no. The one with yes costs most."),
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 9.5 describe ----------------------------------------------------------------------------------------------------


def _lm_loop(logits, targets, lengths, smoothing):
    total, count, v = torch.zeros(()), 0, logits.shape[2]
    for i in range(len(logits)):
        for n in range(int(lengths[i])):
            log_p = logits[i, n] - logits[i, n].logsumexp(0)
            total = total - (1 - smoothing) * log_p[int(targets[i, n])] - smoothing * log_p.sum() / v
            count += 1
    return total / count


def _sentences(scale):
    def inputs(g):
        found = []
        for b, n, v, smoothing in ((2, 3, 5, 0.1), (3, 4, 6, 0.1), (4, 2, 3, 0.3), (3, 5, 4, 0.0)):
            lengths = torch.randint(1, n + 1, (b,), generator=g)
            lengths[0] = n
            lengths[1] = n - 1
            targets = torch.randint(1, v, (b, n), generator=g)
            behind = torch.arange(n) >= lengths[:, None]
            found.append(
                (scale * torch.randn(b, n, v, generator=g), targets.masked_fill(behind, 0), lengths, smoothing)
            )
        return found

    return inputs


def _real(logits, lengths):
    return torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]


def _lm(logits, targets, lengths, smoothing):
    return F.cross_entropy(
        logits.flatten(0, 1), targets.masked_fill(~_real(logits, lengths), -100).flatten(), label_smoothing=smoothing
    )


def _by_row(logits, targets, lengths, smoothing):
    return torch.stack(
        [
            F.cross_entropy(x[:n], t[:n], label_smoothing=smoothing)
            for x, t, n in zip(logits, targets, lengths, strict=True)
        ]
    ).mean()


def _shifted_once_more(logits, targets, lengths, smoothing):
    real = _real(logits, lengths)[:, 1:]
    return F.cross_entropy(logits[:, :-1][real], targets[:, 1:][real], label_smoothing=smoothing)


def _others(logits, targets, lengths, smoothing):
    """The smoothed share over the V - 1 other words."""
    real = _real(logits, lengths)
    x, t, v = logits[real].log_softmax(1), targets[real], logits.shape[2]
    own = x.gather(1, t[:, None])[:, 0]
    return -((1 - smoothing) * own + smoothing * (x.sum(1) - own) / (v - 1)).mean()


def _unsmoothed_log(logits, targets, lengths, smoothing):
    real = _real(logits, lengths)
    p, t = logits[real].softmax(1), targets[real]
    return -((1 - smoothing) * p.gather(1, t[:, None])[:, 0].log() + smoothing * p.log().mean(1)).mean()


_LM = Exercise(
    library=lm_loss, reference=_lm_loop, inputs=_sentences(2.0), extreme=_sentences(80.0),
    stability="A word 200 below the likeliest has probability 0 in float32, and smoothing asks for its logarithm too.",
    gradients=("logits",),
    right=(_lm,
           lambda x, t, n, e: -(((1 - e) * x.log_softmax(2).gather(2, t[..., None])[..., 0]
           + e * x.log_softmax(2).mean(2)) * _real(x, n)).sum() / n.sum()),
    naive=(_unsmoothed_log,),
    hints=(
        "Which positions count? Those before the length: torch.arange(L) < lengths[:, None]. Not those whose token is "
        "not padding, for in many a tokenizer padding is the end token.",
        "logits[real] is (words, V), targets[real] is (words,): one ordinary classification, one class a word.",
        "F.cross_entropy(logits[real], targets[real], label_smoothing=smoothing)",
    ),
    misconceptions=(
        Misconception("padding learned",
            lambda x, t, n, e: F.cross_entropy(x.flatten(0, 1), t.flatten(), label_smoothing=e),
            "Your loss teaches the model to write padding behind the end. What stands behind a row's length counts for "
            "nothing."),
        Misconception("divides by all positions", lambda x, t, n, e: lm_loss(x, t, n, e) * n.sum() / t.numel(),
            "You divide by B L, padding included. Short captions would then weigh less: divide by the real words."),
        Misconception("mean of the rows' means", _by_row,
            "You average each caption first, then the captions. A word of a short caption then counts more."),
        Misconception("per caption", lambda x, t, n, e: lm_loss(x, t, n, e) * n.sum() / len(t),
            "You divided by the captions. The loss is nats a word."),
        Misconception("end left out", lambda x, t, n, e: lm_loss(x, t, (n - 1).clamp(min=1), e),
            "Your mask stops one short: the end itself is a word to be learned, or the captioner never stops."),
        Misconception("shifted once more", _shifted_once_more,
            "Position n of the logits has read the words before n already: logits and targets stand side by side. You "
            "shift a second time, and the model learns the word after next."),
        Misconception("smoothing left out", slips.left_out(3, 0.0), "Your loss ignores the smoothing."),
        Misconception("smoothing over the other words only", _others,
            "You spread the share over the V - 1 other words. Here, as in torch, all V get it, the right one too."),
        Misconception("shares exchanged", slips.argument(3, lambda e: 1 - e),
            "You gave epsilon to the right word. It is the share that is spread over the vocabulary."),
        Misconception("sum over the words", lambda x, t, n, e: lm_loss(x, t, n, e) * n.sum(),
            "You added up the words. The loss is their mean, nats a word."),
        slips.SIGN_TURNED,
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 9.6 the mask that was forgotten ---------------------------------------------------------------------------------

_CAUSAL = Prediction(
    answer="falls to 0",
    hints=(
        "At position n the target is word n. Without the mask, which words has position n - 1 read?",
        "It has read the word it is asked for: it stands one place to the right in its own input.",
        "To copy a word from the place to the right is easier than to look at a picture. The loss says nothing of it.",
    ),
    misconceptions=(
        Misconception("expects it to be harder", "rises",
            "More context is no burden. What does position n - 1 see of word n now?"),
        Misconception("expects no difference", "stays",
            "The picture has to be looked at only if the words do not tell. What do they tell without the mask?"),
    ),
)  # fmt: skip

# ---- 9.7 the nucleus -------------------------------------------------------------------------------------------------


def kept(logits: Tensor, top_p: float) -> Tensor:
    """Probabilities after the nucleus has been taken. (B, V) -> (B, V), rows that sum to 1"""
    return nucleus(logits, top_p).softmax(dim=1)


def _kept_loop(logits, top_p):
    rows = []
    for row in logits:
        p = (row - row.logsumexp(0)).exp()
        inside, total = torch.zeros_like(p), 0.0
        for j in p.argsort(descending=True).tolist():
            if total >= top_p:
                break
            inside[j] = p[j]
            total += float(p[j])
        rows.append(inside / inside.sum())
    return torch.stack(rows)


def _cut(logits, keep):
    """Probabilities of the words for which keep(p sorted downwards, its cumulative sum) holds, divided by their sum."""
    p, order = logits.softmax(1).sort(dim=1, descending=True)
    inside = p * keep(p, p.cumsum(1))
    inside = inside / inside.sum(1, keepdim=True)
    return torch.zeros_like(inside).scatter(1, order, inside)


_NUCLEUS = Exercise(
    library=kept, reference=_kept_loop,
    inputs=lambda g: [
        (s * torch.randn(b, v, generator=g), p)
        for b, v, s, p in ((2, 5, 1.0, 0.7), (4, 8, 2.0, 0.9), (6, 12, 0.5, 0.5), (5, 6, 3.0, 0.95))
    ],
    right=(lambda x, p: _cut(x, lambda q, c: c - q < p),
           lambda x, p: x.masked_fill(_cut(x, lambda q, c: F.pad(c[:, :-1], (1, 0)) < p) == 0, -torch.inf).softmax(1)),
    naive="a softmax of moderate logits: nothing overflows that torch.softmax does not catch",
    hints=(
        "Sort each row's probabilities downwards and add them up. Which word is the last that is needed to reach p?",
        "A word stays if those ahead of it hold less than p together: cumsum - own < p. So the likeliest always stays.",
        "Put the zeros back in the words' own order (scatter), then divide each row by its sum.",
    ),
    misconceptions=(
        Misconception("last word left out",
            lambda x, p: _cut(x, lambda q, c: (c <= p) | (torch.arange(q.shape[1]) == 0)),
            "Your words hold less than p together. The one that crosses p belongs to the nucleus."),
        Misconception("not renormalised",
            lambda x, p: torch.where(kept(x, p) > 0, x.softmax(1), torch.zeros_like(x)),
            "What is left adds up to less than 1. Divide by its sum: it is a distribution again.",
            says=lambda q, x, p: (q.sum(1) < 1 - 1e-6).any()),
        Misconception("a threshold on each word", lambda x, p: _cut(x, lambda q, c: (q >= 1 - p) | (q == q[:, :1])),
            "You keep words above a probability. The nucleus is a set whose words add up to p: few where the model is "
            "sure, many where it is not."),
        Misconception("in the sorted order", lambda x, p: kept(x, p).sort(dim=1, descending=True).values,
            "Your probabilities stand in order of size, not in the words' places.",
            says=lambda q, x, p: (q[:, :-1] >= q[:, 1:]).all()),
        Misconception("the least likely words", lambda x, p: kept(-x, p),
            "You sorted upwards: the nucleus holds the likeliest words."),
        Misconception("greedy", lambda x, p: F.one_hot(x.argmax(1), x.shape[1]).to(x),
            "Only the likeliest word is left in yours. That is greedy decoding, p near 0."),
        Misconception("nothing cut", lambda x, p: x.softmax(1), "You cut nothing away: that is p = 1."),
        Misconception("p of the words", lambda x, p: _cut(x, lambda q, c: torch.arange(q.shape[1]) < p * q.shape[1]),
            "You keep a share p of the words. It is a share of the probability."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "contrast": _CONTRAST,
    "negative_weights": _NEGATIVES,
    "itm_loss": _ITM,
    "ignored": _IGNORED,
    "lm_loss": _LM,
    "causal": _CAUSAL,
    "nucleus": _NUCLEUS,
}
