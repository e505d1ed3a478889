"""Exercises of lesson 08: references, misconceptions and hints."""

import math

import torch
import torch.nn.functional as F

from minilip.limber import caption_loss, caption_mask, ridge_map

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction

LESSON = "08_limber"
END = 2


def _tokens(g, batch, length, vocabulary, end=END):
    """Captions of 1 to `length` tokens, their end among them, padded with the number of the end; one has none."""
    rows = torch.randint(3, vocabulary, (batch, length), generator=g)
    ends = torch.randint(0, length, (batch,), generator=g)
    ends[0], ends[-1] = length - 2, length
    return torch.where(torch.arange(length) >= ends[:, None], end, rows)


# ---- 8.1 what goes in, and what is expected --------------------------------------------------------------------------


def inputs_and_labels(prompts, vectors, tokens, end):
    """What enters the language model, and what it should expect at each place; -100 where nothing is learned."""
    k = prompts.shape[1]
    inputs = torch.cat([prompts, vectors[tokens[:, :-1]]], dim=1)  # (B, k + L - 1, D)
    labels = tokens.masked_fill(~caption_mask(tokens, end), -100)  # (B, L)
    return inputs, F.pad(labels, (k - 1, 0), value=-100)  # (B, k + L - 1)


def _inputs_loop(prompts, vectors, tokens, end):
    inputs, labels = [], []
    for p, row in zip(prompts, tokens.tolist(), strict=True):
        expected, over = [-100] * (len(p) - 1), False
        for t in row:
            expected.append(-100 if over else t)
            over = over or t == end
        inputs.append(torch.stack([*p, *(vectors[t] for t in row[:-1])]))
        labels.append(expected)
    return torch.stack(inputs), torch.tensor(labels)


def _prompted(g):
    sizes = ((3, 1, 4, 5), (2, 3, 5, 3), (4, 2, 6, 4))  # B, k, L, D
    return [
        (torch.randn(b, k, d, generator=g), torch.randn(9, d, generator=g), _tokens(g, b, n, 9), END)
        for b, k, n, d in sizes
    ]


def _relabelled(change):
    def wrong(prompts, vectors, tokens, end):
        inputs, labels = inputs_and_labels(prompts, vectors, tokens, end)
        return inputs, change(labels, prompts.shape[1], tokens, end)

    return wrong


def _unmasked(_, k, tokens, end):
    return F.pad(tokens, (k - 1, 0), value=-100)


def _by_value(_, k, tokens, end):
    return F.pad(tokens.masked_fill(tokens == end, -100), (k - 1, 0), value=-100)


def _zero(labels, *_):
    return labels.clamp(min=0)


def _late(labels, k, tokens, end):
    return F.pad(labels, (1, -1), value=-100)


def _reversed_order(prompts, vectors, tokens, end):
    inputs, labels = inputs_and_labels(prompts, vectors, tokens, end)
    k = prompts.shape[1]
    return torch.cat([inputs[:, k:], prompts], dim=1), labels


def _whole(prompts, vectors, tokens, end):
    inputs = torch.cat([prompts, vectors[tokens]], dim=1)
    labels = tokens.masked_fill(~caption_mask(tokens, end), -100)
    return inputs, F.pad(labels, (prompts.shape[1], 0), value=-100)


_INPUTS = Exercise(
    library=inputs_and_labels, reference=_inputs_loop, inputs=_prompted, gradients=("prompts",),
    naive="nothing is exponentiated",
    hints=(
        "The k-th prompt stands before the first word: what should the model expect there? And at the prompts before?",
        "Inputs: the prompts, then the vectors of all words but the last, k + L - 1 in all. Labels: -100 for the first "
        "k - 1 places, then t_1 ... t_L, with -100 behind the first end.",
        "is_end = tokens == end; before = is_end.cumsum(1) - is_end.int() counts the ends that stand before a token. "
        "Keep a token where that is 0, masked_fill the others with -100, and pad k - 1 times -100 in front.",
    ),
    misconceptions=(
        Misconception("nothing masked", _relabelled(_unmasked),
            "What follows the first end is a target in yours. It is padding, whatever its number."),
        Misconception("the end masked too", _relabelled(_by_value),
            "You leave out every token that equals the end. The first end is a target: without it no caption stops."),
        Misconception("0 instead of -100", _relabelled(_zero),
            "Where nothing is learned stands -100, which cross_entropy ignores. 0 is a word."),
        Misconception("one place late", _relabelled(_late),
            "Your labels come a place late: the last prompt should expect the first word, a word the one after it."),
        Misconception("prompts behind the words", _reversed_order,
            "Your prompts stand behind the words. A word sees what stands before it: so the prompts come first."),
        Misconception("the last word goes in as well", _whole,
            "You feed the last token too, and expect each token where it stands. Nothing is expected behind the last "
            "token, and a token must be expected a place before it is seen."),
    ),
)  # fmt: skip


# ---- 8.2 the loss ----------------------------------------------------------------------------------------------------


def _loss_loop(logits, tokens, end):
    total, count = logits.new_zeros(()), 0
    for scores, row in zip(logits, tokens.tolist(), strict=True):
        for s, t in zip(scores, row, strict=True):
            total, count = total + s.logsumexp(0) - s[t], count + 1
            if t == end:
                break
    return total / count


def _scored(g):
    sizes = ((2, 3, 5), (4, 6, 9), (3, 5, 7))
    return [(2 * torch.randn(b, n, v, generator=g), _tokens(g, b, n, v), END) for b, n, v in sizes]


def _far_scored(g):
    logits, tokens, end = _scored(g)[1]
    return [(100 * logits, tokens, end), (logits + 300, tokens, end)]


def _learned(weights):
    """A loss of log-probabilities (B, L) from how much each token counts."""

    def loss(logits, tokens, end):
        log_p = logits.log_softmax(dim=2).gather(2, tokens[..., None]).squeeze(2)
        w = weights(tokens, end).to(log_p.dtype)
        return -(log_p * w).sum() / w.sum()

    return loss


def _per_caption(logits, tokens, end):
    log_p = logits.log_softmax(dim=2).gather(2, tokens[..., None]).squeeze(2)
    mask = caption_mask(tokens, end)
    return -((log_p * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def _log_of_softmax(logits, tokens, end):
    p = logits.softmax(dim=2).gather(2, tokens[..., None]).squeeze(2)
    return -p.log()[caption_mask(tokens, end)].mean()


def _log_of_sum(logits, tokens, end):
    cost = logits.exp().sum(dim=2).log() - logits.gather(2, tokens[..., None]).squeeze(2)
    return cost[caption_mask(tokens, end)].mean()


_LOSS = Exercise(
    library=caption_loss, reference=_loss_loop, inputs=_scored, extreme=_far_scored, gradients=("logits",),
    stability="Some function takes the logarithm of a softmax at once, and never forms the small or the large number.",
    right=(_learned(caption_mask),
           lambda logits, tokens, end: F.cross_entropy(
               logits.transpose(1, 2), tokens.masked_fill(~caption_mask(tokens, end), -100))),
    naive=(_log_of_softmax, _log_of_sum),
    hints=(
        "Two parts: what each token costs, and which tokens count. Which of the ends in a padded row is learned?",
        "A token counts if no end stands before it. That keeps the first end. Then take the mean over all tokens that "
        "count, of all captions together.",
        "labels = tokens with -100 where (tokens == end).cumsum(1) - (tokens == end).int() > 0; then "
        "F.cross_entropy(logits.flatten(0, 1), labels.flatten()).",
    ),
    misconceptions=(
        Misconception("padding learned", _learned(lambda t, end: torch.ones_like(t)),
            "Every token counts in yours, padding too. The model would be praised for writing ends behind an end."),
        Misconception("the end left out", _learned(lambda t, end: t != end),
            "You leave out each token that equals the end. The first one is learned: without it no caption stops."),
        Misconception("a mean for each caption first", _per_caption,
            "You take the mean in each caption, then over captions: a word of a short caption weighs more. Here all "
            "tokens that count weigh the same."),
        Misconception("per caption, not per token", slips.times(
            lambda logits, tokens, end: caption_mask(tokens, end).sum() / len(tokens)),
            "You divide by the captions. Divide by the tokens that count."),
        Misconception("divides by all places", slips.times(
            lambda logits, tokens, end: caption_mask(tokens, end).double().mean().item()),
            "You divide by B times L, padding included: the loss would fall if a batch had one long caption more."),
        slips.softmax_twice(slips.argument(0, lambda x: x.softmax(dim=-1))(caption_loss)),
        slips.SIGN_TURNED,
        slips.IN_BITS,
    ),
)  # fmt: skip


# ---- 8.3 the gradient of the map -------------------------------------------------------------------------------------


def map_gradient(arriving, features):
    """dL/dP and dL/db from what arrives at the prompts."""
    return torch.einsum("bkd,bki->di", arriving, features), arriving.sum(dim=(0, 1))


def _gradient_loop(arriving, features):
    p, b = arriving.new_zeros(arriving.shape[2], features.shape[2]), arriving.new_zeros(arriving.shape[2])
    for g_row, h_row in zip(arriving, features, strict=True):
        for g, h in zip(g_row, h_row, strict=True):
            p, b = p + torch.outer(g, h), b + g
    return p, b


def _arrivals(g):
    sizes = ((1, 1, 3, 2), (3, 4, 2, 5), (2, 5, 4, 4))
    return [(torch.randn(b, k, d, generator=g), torch.randn(b, k, i, generator=g)) for b, k, d, i in sizes]


def _part(change_p, change_b=lambda b, *_: b):
    def wrong(arriving, features):
        p, b = map_gradient(arriving, features)
        return change_p(p, arriving, features), change_b(b, arriving, features)

    return wrong


def _same(p, *_):
    return p


_GRADIENT = Exercise(
    library=map_gradient, reference=_gradient_loop, inputs=_arrivals,
    naive="sums of products of moderate numbers",
    right=(lambda g, h: (g.flatten(0, 1).T @ h.flatten(0, 1), g.flatten(0, 1).sum(0)),),
    hints=(
        "Write one prompt: p = P h + b. How does p change with the entry of P in row r and column c?",
        "dp_r / dP_rc = h_c, so one prompt gives dL / dP_rc = g_r h_c: an outer product. All prompts of all pictures "
        "share one P.",
        'torch.einsum("bkd,bki->di", arriving, features), and the sum of arriving over pictures and prompts.',
    ),
    misconceptions=(
        Misconception("transposed", _part(lambda p, *_: p.T),
            "You have the feature along the rows. P maps features to prompts: its rows are the prompt's coordinates."),
        Misconception("mean over the batch", _part(lambda p, g, h: p / len(g), lambda b, g, h: b / len(g)),
            "You average over the pictures. If the loss is a mean, its 1/B is in what arrives already."),
        Misconception("mean over the prompts", _part(lambda p, g, h: p / g.shape[1], lambda b, g, h: b / g.shape[1]),
            "You average over the prompts of a picture. Each of them uses the same P: their gradients add up."),
        Misconception("last prompt only", lambda g, h: map_gradient(g[:, -1:], h[:, -1:]),
            "Only the last prompt counts in yours. The words see all of them."),
        Misconception("summed before the product", _part(
            lambda p, g, h: torch.outer(g.sum(dim=(0, 1)), h.sum(dim=(0, 1)))),
            "You sum gradients and features first and multiply then. Each gradient belongs with its own feature."),
        Misconception("bias left as it arrives", _part(_same, lambda b, g, h: g.sum(dim=0)),
            "Your gradient for b still has a row a prompt. All prompts share one b."),
        Misconception("bias with the feature", _part(_same, lambda b, g, h: (g * h.sum(2, keepdim=True)).sum((0, 1))),
            "A bias is added as it is: its gradient is what arrives, whatever the feature."),
        Misconception("sign turned", _part(lambda p, *_: -p, lambda b, *_: -b),
            "The sign is turned: this is the direction of descent, not the gradient."),
    ),
)  # fmt: skip


# ---- 8.4 the closed form ---------------------------------------------------------------------------------------------


def _ridge_loop(x, y, ridge):
    """By the normal equations of the rows with a 1 appended, whose weight is not penalised."""
    n, d = x.shape
    a, c = torch.zeros(d + 1, d + 1).to(x), torch.zeros(d + 1, y.shape[1]).to(x)
    for row, target in zip(x, y, strict=True):
        one = torch.cat([row, row.new_ones(1)])
        a, c = a + torch.outer(one, one) / n, c + torch.outer(one, target) / n
    for i in range(d):
        a[i, i] = a[i, i] + ridge
    w = torch.linalg.solve(a, c)  # (D_I + 1, D)
    return w[:-1].T, w[-1]


def _pairs(g):
    sizes = ((12, 3, 2, 0.5), (30, 4, 6, 0.1), (20, 5, 3, 2.0))
    return [(torch.randn(n, i, generator=g) + 1.5, torch.randn(n, d, generator=g) - 1.0, r) for n, i, d, r in sizes]


def _with_bias(p, x, y):
    return p, y.mean(dim=0) - p @ x.mean(dim=0)


def _raw(x, y, ridge):
    p = torch.linalg.solve(x.T @ x / len(x) + ridge * torch.eye(x.shape[1]).to(x), x.T @ y / len(x)).T
    return _with_bias(p, x, y)


def _subtracted(x, y, ridge):
    a, c = x - x.mean(dim=0), y - y.mean(dim=0)
    p = torch.linalg.solve(a.T @ a / len(x) - ridge * torch.eye(x.shape[1]).to(x), a.T @ c / len(x)).T
    return _with_bias(p, x, y)


_RIDGE = Exercise(
    library=ridge_map, reference=_ridge_loop, inputs=_pairs,
    naive="solved in the precision it comes in",
    right=(lambda x, y, r: _with_bias(
        torch.linalg.lstsq(
            torch.cat([x - x.mean(0), math.sqrt(r * len(x)) * torch.eye(x.shape[1]).to(x)]),
            torch.cat([y - y.mean(0), y.new_zeros(x.shape[1], y.shape[1])])).solution.T, x, y),
        lambda x, y, r: _with_bias(
            (y - y.mean(0)).T @ (x - x.mean(0)) / len(x)
            @ torch.linalg.inv((x - x.mean(0)).T @ (x - x.mean(0)) / len(x) + r * torch.eye(x.shape[1]).to(x)), x, y)),
    hints=(
        "Set the derivative with respect to b to zero first. What is left of x and y?",
        "Centre both. Then P = C_yx (C_xx + ridge I)^-1 with covariances that are means over the N rows.",
        "a, c = x - x.mean(0), y - y.mean(0); torch.linalg.solve(a.T @ a / N + ridge * torch.eye(D_I), a.T @ c / N).T; "
        "then b = y.mean(0) - P @ x.mean(0).",
    ),
    misconceptions=(
        Misconception("not centred", _raw,
            "You did not take the means away before solving. Then P has to explain the mean of y as well, and pays "
            "for it."),
        Misconception("no price", slips.left_out(2, 1e-9),
            "Your result does not depend on ridge. It belongs on the diagonal of C_xx."),
        Misconception("sums instead of means", slips.given(lambda x, y, r: (x, y, r / len(x))),
            "Your price is spread over N: covariances are means over the rows, sums make the price N times smaller."),
        Misconception("price times N", slips.given(lambda x, y, r: (x, y, r * len(x))),
            "Your price grows with N. The objective is a mean over rows plus ridge, so ridge stands beside a mean."),
        Misconception("price subtracted", _subtracted,
            "You subtract the price from the diagonal. It is added: it keeps the matrix from being singular."),
        Misconception("P transposed", slips.then(lambda r: (r[0].T, r[1])),
            "P is turned over: (D, D_I) maps a feature to a target, and its rows are the target's coordinates."),
        Misconception("bias is the mean of y", slips.given(lambda x, y, r: (x - x.mean(dim=0), y, r)),
            "Your bias is the mean of y, as if the features had mean 0. They have not: P times their mean comes off."),
        Misconception("no bias", slips.then(lambda r: (r[0], torch.zeros_like(r[1]))),
            "Your bias is zero. Without it all predictions are off by a constant."),
        Misconception("bias with the sign turned", slips.then(lambda r: (r[0], -r[1])),
            "The sign of your bias is turned: b is the mean of y minus P times the mean of x."),
    ),
)  # fmt: skip


# ---- 8.5 greedy ------------------------------------------------------------------------------------------------------


def greedy(picture, table, start, length, end):
    """The likeliest word each time, until the end; 0 behind it."""
    rows = [torch.full((len(picture),), start, dtype=torch.int64, device=picture.device)]
    done = rows[0] != rows[0]
    for _ in range(length):
        word = (picture + table[rows[-1]]).argmax(dim=1).masked_fill(done, 0)  # (B,)
        rows.append(word)
        done = done | (word == end)
    return torch.stack(rows, dim=1)  # (B, 1 + length)


def _greedy_loop(picture, table, start, length, end):
    out = []
    for scores in picture:
        row = [start]
        for _ in range(length):
            if end in row[1:]:
                row.append(0)
                continue
            best = scores + table[row[-1]]
            row.append(best.tolist().index(max(best.tolist())))
        out.append(row)
    return torch.tensor(out)


def _writers(g):
    found = []
    for b, v, n in ((3, 7, 4), (5, 9, 6), (6, 8, 5)):
        table = 2 * torch.randn(v, v, generator=g)
        table[:, 0] -= 20.0  # padding is no word
        table[:, END] += 1.0
        found.append((2 * torch.randn(b, v, generator=g), table, 3, n, END))
    return found


def _goes_on(picture, table, start, length, end):
    return greedy(picture, table, start, length, -1)


def _ends_behind(picture, table, start, length, end):
    rows = greedy(picture, table, start, length, end)
    is_end = rows == end
    return rows.masked_fill(is_end.cumsum(1) > 0, end)


def _blind(picture, table, start, length, end):
    return greedy(torch.zeros_like(picture), table, start, length, end)


def _first_only(picture, table, start, length, end):
    rows = greedy(picture, table, start, 1, end)
    for _ in range(length - 1):
        word = table[rows[:, -1]].argmax(dim=1).masked_fill((rows[:, 1:] == end).any(dim=1), 0)
        rows = torch.cat([rows, word[:, None]], dim=1)
    return rows


def _forgets(picture, table, start, length, end):
    rows = [torch.full((len(picture),), start)]
    done = rows[0] != rows[0]
    for _ in range(length):
        word = (picture + table[rows[0]]).argmax(dim=1).masked_fill(done, 0)
        rows.append(word)
        done = done | (word == end)
    return torch.stack(rows, dim=1)


_GREEDY = Exercise(
    library=greedy, reference=_greedy_loop, inputs=_writers,
    naive="nothing is exponentiated",
    hints=(
        "Begin with a column of `start`. What do you know of each row when you choose the next word?",
        "Each time: picture + table[last word of each row], the argmax of each row; write 0 where the row has met its "
        "end before.",
        "done = all False; then length times: word = (picture + table[rows[:, -1]]).argmax(1); word[done] = 0; append; "
        "done |= word == end.",
    ),
    misconceptions=(
        Misconception("goes on behind the end", _goes_on,
            "Your sentences go on behind their end. A row that has met it gets zeros only."),
        Misconception("ends behind the end", _ends_behind,
            "You repeat the end behind the end. Here padding is 0."),
        Misconception("blind", _blind,
            "Your sentences do not depend on the picture: one caption for every image. What the picture adds belongs "
            "to every step."),
        Misconception("looks once", _first_only,
            "The picture counts for the first word only in yours. Prompts stay in front of every later word too."),
        Misconception("forgets what it wrote", _forgets,
            "You ask the table about the start each time. The next word depends on the last one written."),
        Misconception("start left out", slips.then(lambda r: r[:, 1:]),
            "The start is missing in front: (B, 1 + length) is asked for."),
        Misconception("the least likely word", lambda p, t, s, n, e: greedy(-p, -t, s, n, e),
            "You take the least likely word. Logits grow with the probability."),
    ),
)  # fmt: skip


# ---- predictions -----------------------------------------------------------------------------------------------------

_SHUFFLED = Prediction(
    answer="higher",
    hints=(
        "A blind writer spreads its bets over all captions. What does the map's writer do with its bets?",
        "The writer is sure of what it sees, and what it sees is not what the caption says.",
        "Of 48 captions, 47 are wrong for the other picture, and it gave them nearly no probability. -log of nearly 0?",
    ),
    misconceptions=(
        Misconception("equal", "equal",
            "That would be so if a wrong picture were as good as none. But the writer believes it."),
        Misconception("lower", "lower",
            "A wrong picture cannot help to predict a caption that has nothing to do with it."),
    ),
)  # fmt: skip

_MOVES = Prediction(
    answer="statistics",
    hints=(
        "requires_grad=False stops the optimiser. What else can change a number in a module?",
        "Some layers keep means and variances of what passes through, in buffers, whenever they are in training mode.",
        "Batch normalisation updates its running mean and variance in each forward pass in training mode.",
    ),
    misconceptions=(
        Misconception("nothing", "nothing",
            "No gradient, no step of the optimiser; and still something is written down in every forward pass."),
        Misconception("weights", "weights",
            "The optimiser never gets a parameter that requires no gradient. What is no parameter at all?"),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "inputs": _INPUTS,
    "caption_loss": _LOSS,
    "map_gradient": _GRADIENT,
    "ridge_map": _RIDGE,
    "greedy": _GREEDY,
    "shuffled": _SHUFFLED,
    "what_moves": _MOVES,
}
