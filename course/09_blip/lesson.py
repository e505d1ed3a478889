# %% [markdown]
# # 09 · BLIP: contrast, match, describe
#
# **You derive** what a queue and slow towers are for, what soft targets repair, the loss of a matcher that ignores its input, what a matcher learns from hard negatives, and where the loss of a captioner has to stop.
#
# **You train** one model that compares, judges and writes, on scenes of two objects, and let it clean the captions that it learns from.
#
# After this lesson you can
# - say what the three roles of BLIP share, and what each of its three losses adds;
# - tell from one number, 0.6365, that a matcher looks at nothing;
# - test a matcher alone, so that re-ranking cannot hide it;
# - write captions greedily and from a nucleus, and look at where a word looks;
# - measure what a filter for captions catches, where the noise is known.
#
# *Before this:* [lesson 07](07_clip.ipynb) (CLIP), [lesson 08](08_limber.ipynb) (captions by a frozen language model). *Papers:* Li et al. 2022 (BLIP); Li et al. 2021 (ALBEF); He et al. 2020 (MoCo); Holtzman et al. 2020 (nucleus sampling).

# %%
from minilip.course import *

device = setup("09_blip")

# %%
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from minilip.blip import (
    Labelled,
    follow,
    hard_negatives,
    itc_loss,
    itm_loss,
    lm_loss,
    match_score,
    momentum_targets,
)
from minilip.course import plot
from minilip.course.widgets import panel
from minilip.data.reading import agreement
from minilip.data.scenes import COLOURS, RELATIONS, SHAPES
from minilip.evaluation import paired_interval, parameters
from minilip.nn.generation import with_end
from minilip.studies.blip import cleaning, losses, task
from minilip.training import fit

LIVE = budget(cpu=900, gpu=2000, quick=3)  # steps of the run in this notebook
WORLD, tokenizer = task.WORLD, task.tokenizer()

# %% [markdown]
# ## 1. A question
#
# Look at the first picture, then at the captions below. Which are true of it? You do not search for words that fit. All words but one or two fit in every line. You check *which* word belongs to *which* thing, and where it stands.


# %%
def broken(caption):
    """Over two lines, the relation first on the second."""
    for relation in RELATIONS:
        caption = caption.replace(f" {relation} ", f"\n{relation} ")
    return caption


dice = torch.Generator().manual_seed(5)
few = WORLD.sample(6, dice)
figure = plot.images(WORLD.render(few)[:5], [broken(c) for c in task.captions(few)[:5]], columns=5)
first = few[:1]
print("true: ", task.captions(first)[0])
print("also: ", task.captions(task.turned(first))[0])
for name, (index, said) in task.foils(first, dice).items():
    for caption in task.captions(said) if len(index) else ():
        print(f"wrong, {name}: {caption}")

# %% [markdown]
# CLIP turns picture and sentence into one vector each before the two ever meet. It can compare, fast and for millions of pairs. It cannot look again at the picture with the sentence in mind, and it cannot write. This lesson builds one model for three questions:
#
# - *contrast*: which of these captions is nearest to this picture?
# - *match*: is this caption true of this picture, yes or no?
# - *describe*: what would you say about it?
#
# ## 2. A first guess, and how it fails
#
# To learn "match", show right and wrong pairs and ask yes or no. Wrong pairs are free: take the caption of any other picture. Is that good enough? Here is a judge that cannot be right for the right reason. It knows which colours and shapes occur in a picture, but not which belongs to which, nor where. We ask it to tell a true caption from the caption of another picture, and from captions that are wrong in one thing.

# %%
many = WORLD.sample(budget(cpu=4000, quick=400), dice)


def bag(latents):
    """Which colours and which shapes occur, and how often: (N, 11)"""
    return (F.one_hot(latents.colour, 8).sum(dim=1), F.one_hot(latents.shape, 3).sum(dim=1))


def tells_apart(latents, said):
    """Share of captions that differ from the truth in their bag; where they do not, a coin decides."""
    differs = torch.stack([(a != b).any(dim=1) for a, b in zip(bag(latents), bag(said), strict=True)]).any(dim=0)
    return float((differs + 0.5 * ~differs).float().mean())


wrong = {"another picture's caption": tells_apart(many, WORLD.sample(len(many), dice))}
wrong |= {name: tells_apart(many[index], said) for name, (index, said) in task.foils(many, dice).items()}
for name, share in wrong.items():
    print(f"{name:27} told from the truth: {share:.3f}")

# %% [markdown]
# With wrong pairs taken at random a judge without any notion of order is right in more than 99 of 100 cases. Next to nothing is left to teach it, and half of our question is untouched. *The wrong pairs decide what is learnt.* So BLIP takes those which it itself holds for right: hard negatives, found by contrast, asked about by match.
#
# ## 3. The idea
#
# > One network reads text in three ways: alone, beside a picture, and one word after the other about a picture. Contrast finds what is hard, match learns from it, describe writes.
#
# $$\mathcal L = \mathcal L_{ITC} + \mathcal L_{ITM} + \mathcal L_{LM}, \qquad \texttt{loss = itc + itm + lm}$$
#
# with equal weights: image-text contrast, image-text matching, language modelling.
#
# ## 4. Derivation
#
# Letters: $B$ pairs in a batch; $Q$ keys in the queue; $v_i, t_j$ unit vectors of picture and caption, with a bar where they come from slow towers; $\tau$ temperature; $\mu$ momentum; $\alpha$ the share of soft targets; $m$ the log-odds of the matcher; $w_1, \dots, w_l$ the words of a caption, the end among them; $V$ words in the vocabulary; $\varepsilon$ label smoothing.
#
# ### 4.1 Contrast, with a queue
#
# InfoNCE (lesson 01) learns from its candidates, and a batch that also has to feed a matcher and a writer is small. The idea of MoCo: keep the vectors of past batches. A caption's vector from ten steps ago is still a good wrong answer. So picture $i$ chooses among $B + Q$ captions, and caption $i$ among as many pictures:
#
# $$\mathcal L_{ITC} = -\frac1{2B}\sum_{i}\sum_{j=1}^{B+Q}\Big[q^v_{ij}\log\frac{e^{v_i^\top\bar t_j/\tau}}{\sum_k e^{v_i^\top\bar t_k/\tau}} + q^t_{ij}\log\frac{e^{t_i^\top\bar v_j/\tau}}{\sum_k e^{t_i^\top\bar v_k/\tau}}\Big]. \tag{1}$$
#
# The targets $q$ say what should be found; for now $q_{ij} = 1$ where $j = i$.

# %%
# check (1): the library on the left; on the right, loops
B, Q, D, tau = 4, 6, 8, 0.2


def unit(n):
    return F.normalize(torch.randn(n, D, dtype=torch.double), dim=1)


v, t, v_slow, t_slow = unit(B), unit(B), unit(B + Q), unit(B + Q)
hard = torch.eye(B, B + Q, dtype=torch.double)
total = 0.0
for queries, keys in ((v, t_slow), (t, v_slow)):
    for i in range(B):
        e = [math.exp(float(queries[i] @ k) / tau) for k in keys]
        total -= math.log(e[i] / sum(e))
same("(1)", itc_loss(v, t, v_slow, t_slow, hard, hard, tau), total / (2 * B))

# %% [markdown]
# There is a catch. The towers move at each step, so the keys of the queue were made by *other* towers than the queries. If those differ, the softmax can tell old from new and learns that instead. The repair is a second pair of towers, without a gradient, that follows slowly:
#
# $$\bar\theta_n = \mu\,\bar\theta_{n-1} + (1 - \mu)\,\theta_n
#   \quad\Longrightarrow\quad \bar\theta_n = \mu^n\theta_0 + (1-\mu)\sum_{k=0}^{n-1}\mu^k\,\theta_{n-k}. \tag{2}$$
#
# Put the left side into itself to get the right one. It is an average over the past whose weights fall by $\mu$ a step; its mean age is $\mu/(1-\mu)$ steps. With BLIP's $\mu = 0.995$ that is 199 steps. Our run is short, so we take $0.99$: 99 steps. All keys are made by the slow towers, those of the batch too.

# %%
# check (2): `follow` step by step on the left, the weighted sum of the past on the right
mu, steps = 0.9, 12
fast, slow = torch.nn.Linear(3, 2).double(), torch.nn.Linear(3, 2).double()
slow.load_state_dict(fast.state_dict())
past = [fast.weight.detach().clone()]
for _ in range(steps):
    with torch.no_grad():
        fast.weight += torch.randn(2, 3)
    past.append(fast.weight.detach().clone())
    follow(slow, fast, mu)
summed = mu**steps * past[0] + (1 - mu) * sum(mu**k * past[steps - k] for k in range(steps))
same("(2)", slow.weight, summed)

# %% [markdown]
# ### 4.2 Soft targets, and what they repair
#
# Two pictures of a batch may have the same caption, or captions that say the same. The label calls one of them right and the other wrong: a *false negative*. How often here? There are $24\cdot23\cdot4 = 2{,}208$ captions, and two of them are true of each picture ("A left of B", "B right of A"). Among 319 other candidates, $319\cdot2/2208 = 0.29$ are true by chance. (Our batches hold twins besides, section 7: one in four has the very same caption.) On the web nobody can count them.
#
# The slow towers have an opinion about it. ALBEF and BLIP mix it into the label:
#
# $$q_{ij} = \alpha\,\frac{e^{\bar v_i^\top\bar t_j/\tau}}{\sum_k e^{\bar v_i^\top\bar t_k/\tau}} + (1-\alpha)\,y_{ij}, \qquad \alpha = 0.4. \tag{3}$$
#
# What does that change? By lesson 07 the gradient of a cross-entropy is *chosen minus wanted*. With logits $\ell_{ij}$ and the model's softmax $P$,
#
# $$\frac{\partial\mathcal L}{\partial\ell_{ij}} = \frac{P_{ij} - q_{ij}}{B}\ \text{ for one direction,} \tag{4}$$
#
# so it vanishes at $P = q$ and not at the label. Take a caption that occurs twice, where both towers split evenly, $P = \bar P = (\tfrac12, \tfrac12)$. The hard label pushes the twin away with force $\tfrac12$. With (3) the target is $\alpha\tfrac12 = 0.2$ and the force $0.3$. Soft targets weaken a false negative by the share $\alpha$; they do not undo it. (Our library does one thing more, as BLIP's fine-tuning for retrieval does: captions that are equal word for word share the label. The other half, told from the other end, is left to the soft targets.)

# %%
# check (3): the library on the left, a loop on the right
left = momentum_targets(v_slow[:B], t_slow, tau, 0.4)
e = [[math.exp(float(v_slow[i] @ k) / tau) for k in t_slow] for i in range(B)]
right = torch.tensor([[0.4 * e[i][j] / sum(e[i]) + 0.6 * (i == j) for j in range(B + Q)] for i in range(B)])
same("(3)", left, right.double())

# check (4): autograd on the left, chosen minus wanted on the right
logits = (v @ t_slow.T / tau).requires_grad_()
grad = torch.autograd.grad(F.cross_entropy(logits, left), logits)[0]
same("(4)", grad, (logits.detach().softmax(dim=1) - left) / B)

twin = torch.zeros(1, 2, dtype=torch.double, requires_grad=True)  # two candidates that say the same
for name, alpha in (("hard label", 0.0), ("soft target", 0.4)):
    wanted = alpha * torch.tensor([[0.5, 0.5]]) + (1 - alpha) * torch.tensor([[1.0, 0.0]])
    force = torch.autograd.grad(F.cross_entropy(twin, wanted.double()), twin)[0][0, 1]
    print(f"{name}: the twin is pushed away with force {force:.2f}")

# %% [markdown]
# ### 4.3 Match, and the number 0.6365
#
# The matcher reads the caption beside the picture and says one number, the log-odds $m$ that the two belong together. Each item of the batch asks three questions: its own pair, its caption with a wrong picture, its picture with a wrong caption.
#
# $$\mathcal L_{ITM} = -\frac1{3B}\sum_i\big[\log\sigma(m_i) + \log\sigma(-m^v_i) + \log\sigma(-m^t_i)\big]. \tag{5}$$
#
# (The released code has two outputs and a softmax. Only their difference counts, and $\mathrm{softmax}(a, b)_2 = \sigma(b - a)$: our $m$.)
#
# *What does a matcher pay that looks at nothing?* It says one $m$ to all, $p = \sigma(m)$. One answer in three is yes:
#
# $$\mathcal L(p) = -\tfrac13\log p - \tfrac23\log(1 - p), \qquad \mathcal L'(p) = -\frac{1}{3p} + \frac{2}{3(1-p)} = 0 \iff p = \tfrac13,$$
#
# $$\mathcal L(\tfrac13) = \tfrac13\log 3 + \tfrac23\log\tfrac32 = \log 3 - \tfrac23\log 2 = 0.6365\ldots \tag{6}$$
#
# Remember it. "Stuck at 0.63" stands in an issue report of the released code, and it says exactly this: the matcher knows how often the answer is yes, and nothing else.

# %%
# check (5): the library on the left, a two-way cross-entropy on the right
m, m_v, m_t = (torch.randn(5, dtype=torch.double) for _ in range(3))
two_way = torch.stack([torch.zeros(15), torch.cat([m, m_v, m_t])], dim=1)  # (3 B, 2)
same("(5)", itm_loss(m, m_v, m_t), F.cross_entropy(two_way.double(), torch.tensor([1] * 5 + [0] * 10)))

# check (6): the least loss over a fine grid of constant answers on the left, the formula on the right
grid = torch.linspace(-6, 6, 100_001, dtype=torch.double)[:, None]  # (answers, 1)
paid = (F.softplus(-grid) + 2 * F.softplus(grid)).squeeze(1) / 3
same("(6)", paid.min(), math.log(3) - 2 / 3 * math.log(2))
print(f"at probability {torch.sigmoid(grid[paid.argmin()]).item():.4f}")

# %% [markdown]
# *Which wrong pairs?* Those that contrast holds for likely, in the same batch. The caption $j$ is drawn for picture $i$ with
#
# $$\pi(j\mid i) \propto \operatorname{softmax}_j\big(v_i^\top t_j/\tau\big) + 10^{-4} \quad (j \ne i), \qquad \pi(i \mid i) = 0. \tag{7}$$
#
# Two small things carry it. The zero: with the own pair left in, it would be drawn most of all, and the matcher would be told *no* about the truth. The $10^{-4}$: without it a row whose own pair has all the probability has nothing to draw from.
#
# *What does the matcher learn from them?* Ask one picture $x$ about a caption $y$. Yes comes with density $p(y\mid x)$, no with $\pi(y\mid x)$, twice as often (once from each side; we take both alike). For one $y$ the expected loss is $-p\log\sigma(m) - 2\pi\log(1-\sigma(m))$ up to a factor. Its derivative in $m$ is $-p\,(1-\sigma) + 2\pi\,\sigma$, zero where $\sigma/(1-\sigma) = p/2\pi$:
#
# $$m^\star(x, y) = \log\frac{p(y \mid x)}{\pi(y \mid x)} - \log 2. \tag{8}$$
#
# Compare lesson 01, equation (6'): the same ratio, with absolute height. Where negatives are drawn evenly, $\pi = p(y)$ and $m^\star$ is the pointwise mutual information less $\log 2$. With (7), $\pi$ is what contrast believes. Whatever contrast knows already cancels. *The matcher is paid for what contrast does not know*: which word belongs to which object.

# %%
# check (7): draws of the library on the left, the formula on the right
similarity = torch.tensor([[5.0, 3.0, 2.0, -9.0], [0.0, 5.0, 1.0, 1.0], [2.0, 2.0, 5.0, 0.0], [0.0, 0.0, 0.0, 5.0]])
counts = torch.zeros(4, 4)
weights = similarity.softmax(dim=1) + 1e-4
weights.fill_diagonal_(0)
weights /= weights.sum(dim=1, keepdim=True)
for _ in range(5000):
    counts[torch.arange(4), hard_negatives(similarity, dice)] += 1
same("(7)", counts / counts.sum(dim=1, keepdim=True), weights, tolerance=0.03)

# check (8): the slope of the expected loss at the formula is flat
p_y, pi_y = (torch.rand(6, dtype=torch.double) for _ in range(2))
p_y, pi_y = p_y / p_y.sum(), pi_y / pi_y.sum()  # six captions of one picture
best = ((p_y / pi_y).log() - math.log(2)).requires_grad_()
expected = -(p_y * F.logsigmoid(best) + 2 * pi_y * F.logsigmoid(-best)).sum() / 3
same("(8)", torch.autograd.grad(expected, best)[0], torch.zeros(6))

# %% [markdown]
# ### 4.4 Describe
#
# A sentence is a chain of choices, each given the picture and the words before it:
#
# $$\log P(w \mid x) = \sum_{n=1}^{l} \log P(w_n \mid x, w_1, \dots, w_{n-1}). \tag{9}$$
#
# One pass computes all terms: the input is [DEC], $w_1, \dots$, the target at each place is the *next* word, and a mask hides what comes later. The end is a word too. What stands behind it is masked *by length*: in many tokenizers padding and end are one token, and a mask by value would lose the end, or learn to write padding.
#
# BLIP smooths the label: $1-\varepsilon$ on the right word, $\varepsilon = 0.1$ spread over all $V$. The loss then cannot reach 0. It is smallest where the model's distribution equals the target, so its floor is the target's entropy, with $a = 1 - \varepsilon + \varepsilon/V$:
#
# $$\mathcal L_{LM} \ \ge\ -a\log a - (V-1)\,\tfrac{\varepsilon}{V}\log\tfrac{\varepsilon}{V}. \tag{10}$$

# %%
# check (9): the model's own sum on the left; on the right each next word asked for by itself
torch.manual_seed(0)
model = task.start(0, warm=0).eval()
pictures, tokens = WORLD.render(few), tokenizer(task.captions(few))
left = model.log_likelihood(pictures, tokens)
right, rows = torch.zeros(6), with_end(tokens, model.end)
with torch.no_grad():
    looked = model.reader.look(model.eye(pictures))
    for n in range(rows.shape[1]):
        so_far = F.pad(rows[:, :n], (1, 0), value=model.dec)
        states = model.reader(so_far.masked_fill(so_far == model.end, 0), looked, writes=True)[0]
        log_p = model.word_head(states[:, -1]).log_softmax(dim=1)
        right += log_p.gather(1, rows[:, n : n + 1]).squeeze(1) * (rows[:, n] != 0)
same("(9)", left, right)

# check (10): a perfect guesser under torch's loss on the left, the entropy on the right
V, eps = len(tokenizer) + 1, 0.1
target = torch.full((V,), eps / V, dtype=torch.double)
target[3] += 1 - eps
a = 1 - eps + eps / V
lm_floor = -a * math.log(a) - (V - 1) * eps / V * math.log(eps / V)
same("(10)", F.cross_entropy(target.log()[None], torch.tensor([3]), label_smoothing=eps), lm_floor)

# %% [markdown]
# One more term belongs to our world. Which object comes first is decided by a coin that no picture shows. That costs $\log 2$ nats a caption, whatever the model. A caption has 7.5 words and an end on average, so expect the curve to end some 0.08 above the floor (10).
#
# ## 5. The method in twenty lines


# %%
def blip_from_scratch(v, t, v_slow, t_slow, tau, alpha, match, logits, words, lengths, eps, generator):
    eye = torch.eye(len(v), len(v_slow))  # (B, B + Q)
    itc = 0
    for x, x_slow, keys in ((v, v_slow, t_slow), (t, t_slow, v_slow)):  # contrast, in both directions
        told = (x_slow[: len(x)] @ keys.T / tau).softmax(dim=1)  # (B, B + Q) the slow towers' opinion
        q = alpha * told.detach() + (1 - alpha) * eye
        itc = itc - (q * (x @ keys.T / tau).log_softmax(dim=1)).sum(dim=1).mean() / 2
    s = v @ t.T / tau  # (B, B) what is hard?
    wrong_v = hard_negatives(s.T, generator)  # (B,) a picture for each caption
    wrong_t = hard_negatives(s, generator)  # (B,) a caption for each picture
    own = torch.arange(len(v))
    m = torch.stack([match(own, own), -match(wrong_v, own), -match(own, wrong_t)])  # match: (picture, caption)
    itm = F.softplus(-m).mean()
    log_p = logits.log_softmax(dim=2)  # (B, L, V) describe
    right = log_p.gather(2, words[..., None]).squeeze(2)  # (B, L)
    each = -(1 - eps) * right - eps * log_p.mean(dim=2)
    real = torch.arange(words.shape[1]) < lengths[:, None]  # (B, L) by length
    lm = (each * real).sum() / real.sum()
    return itc, itm, lm


# %% [markdown]
# And the same numbers from the library's functions, whose sources follow.

# %%
table = torch.randn(B, B)
logits, words, lengths = torch.randn(B, 5, 9), torch.randint(9, (B, 5)), torch.tensor([5, 3, 4, 1])
given = (v.float(), t.float(), v_slow.float(), t_slow.float(), tau, 0.4, lambda i, j: table[i, j])
scratch = blip_from_scratch(*given, logits, words, lengths, 0.1, torch.Generator().manual_seed(0))
q_v, q_t = momentum_targets(v_slow[:B], t_slow, tau, 0.4), momentum_targets(t_slow[:B], v_slow, tau, 0.4)
g, own = torch.Generator().manual_seed(0), torch.arange(B)
wrong_v, wrong_t = hard_negatives((v @ t.T / tau).T.float(), g), hard_negatives((v @ t.T / tau).float(), g)
library = (
    itc_loss(v, t, v_slow, t_slow, q_v, q_t, tau),
    itm_loss(table[own, own], table[wrong_v, own], table[own, wrong_t]),
    lm_loss(logits, words, lengths, 0.1),
)
same("from scratch, and minilip.blip: ITC, ITM, LM", scratch, library)

# %%
show(hard_negatives)
show(type(model).loss)

# %% [markdown]
# ## 6. One model, three roles
#
# The text Transformer has two layers. In front of the words stands a token that names the role: [CLS] reads words alone, [ENC] reads them beside the picture, [DEC] writes. What do the roles share? We ask the module itself: each role computes something, and whichever parameters get a gradient took part. The same parameter in two columns is one parameter: they are told by identity.

# %%
roles = {
    "eye": lambda: model.encode_image(pictures).sum(),
    "[CLS]\ncontrast": lambda: model.encode_text(tokens).sum(),
    "[ENC]\nmatch": lambda: model.match(pictures, tokens).sum(),
    "[DEC]\ndescribe": lambda: model.log_likelihood(pictures, tokens).sum(),
}
parts = {
    "eye": model.eye.stem,
    "words": model.reader.embed,
    "self-attention, both ways": torch.nn.ModuleList(layer.reads for layer in model.reader.layers),
    "self-attention, backwards": torch.nn.ModuleList(layer.writes for layer in model.reader.layers),
    "cross-attention": torch.nn.ModuleList(layer.looks for layer in model.reader.layers),
    "feed-forward": torch.nn.ModuleList(layer.mlp for layer in model.reader.layers),
    "map into the shared space": torch.nn.ModuleList([model.image_map, model.text_map]),
    "yes-or-no head": model.match_head,
    "next-word head": model.word_head,
}
used = {}
for name, compute in roles.items():
    model.zero_grad()
    compute().backward()
    used[name] = {id(p) for p in model.parameters() if p.grad is not None}
model.zero_grad()
shared = torch.tensor(
    [[float(any(id(p) in used[role] for p in part.parameters())) for role in roles] for part in parts.values()]
)
figure, ax = plt.subplots(figsize=(8, 3.6))
ax.imshow(shared, cmap=plt.matplotlib.colors.ListedColormap(["#F4F4F4", plot.SKY]), vmin=0, vmax=1, aspect="auto")
ax.set_xticks(range(len(roles)), list(roles))
ax.set_yticks(range(len(parts)), [f"{name}  ({parameters(part):,})" for name, part in parts.items()])
ax.set(title="which part takes part in which role (number of parameters)")
ax.grid(False)
for k in range(1, len(roles)):
    ax.axvline(k - 0.5, color="white", linewidth=3)
for k in range(1, len(parts)):
    ax.axhline(k - 0.5, color="white", linewidth=3)
plt.show()
slow = sum(p.numel() for p in model.slow.parameters())
print(f"{parameters(model):,} parameters learn; {slow:,} more are their slow copies, of which none learns")

# %% [markdown]
# Read the rows. The two self-attentions are the only part of a layer that match and describe do not share: to read, a word may look both ways; to write, only back. Cross-attention and feed-forward net are used by both. So what describe learns about "red", where to look for it, is there for match, and the other way round.
#
# ## 7. Train
#
# | section | what learns | data | loss | batch | steps | runs |
# |---|---|---|---|---|---|---|
# | 7 | the eye's four convolutions, under labels | single scenes, colour and shape | two cross-entropies | 64 | 300 | 3, one a seed |
# | 7, 8 | all | two objects, endless | ITC + ITM + LM, weights 1 : 1 : 1 | 64, queue 256 | 900 | 1, live |
# | 9 | all | the same | ITC; with ITM; with LM; with both | 64, queue 256 | 900; with both also 1,500 | 3 an arm |
# | 10 | all | 4,096 scenes, 40 % of the captions wrong | ITC + ITM + LM | 64 | 450, tuning 100 | 3 |
#
# Two choices need a word. *The eye does not start from nothing.* BLIP's starts from a Transformer trained on ImageNet with labels. Ours has a short time under labels too, on single objects, a few seconds long. From random weights our captioner learned colours at once and, in 600 steps, no shapes: a triangle is five pixels wide. *Half of a batch are twins:* the same two objects again, elsewhere. Photographs come in series too. Without twins a batch of 64 rarely holds two scenes that differ in their relation alone, and no negative can be drawn by (7) that the batch does not hold.

# %%
WARM = budget(cpu=300, quick=2)
warm = Labelled(task.start(0, warm=0).eye, (8, 3)).to(device)
history = fit(warm, task.labelled, WARM, lr=task.LR, seed=0, label="the eye, under labels")
single, label = task.labelled(torch.Generator(device).manual_seed(99))
with torch.no_grad():
    found = [(x.argmax(dim=1) == y).float().mean().item() for x, y in zip(warm(single), label.T, strict=True)]
print(f"after {WARM} steps: colour {found[0]:.2f}, shape {found[1]:.2f} of single objects it has not seen")

# %%
model = task.start(0, warm=0).to(device)
for eye in (model.eye, model.slow[0]):
    eye.stem.load_state_dict(warm.stem.state_dict())
held = WORLD.sample(budget(cpu=250, quick=20), torch.Generator().manual_seed(77))  # never trained on
seen = WORLD.render(held).to(device)


def all_right(model):
    return float(agreement(model.caption(seen), held)["all"].float().mean())


history = fit(
    model, task.batch, LIVE, lr=task.LR, seed=0, label="BLIP", watch=all_right, every=budget(cpu=100, gpu=250, quick=3)
)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9))
for (name, curve), colour in zip(history.metrics.items(), (plot.BLUE, plot.RED, plot.GREEN), strict=True):
    width = max(1, len(curve) // 30)
    left.plot(
        np.arange(width, len(curve) + 1), np.convolve(curve, np.ones(width) / width, "valid"), color=colour, label=name
    )
plot.line(left, math.log(3) - 2 / 3 * math.log(2), "0.6365, looks at nothing")
left.set(xlabel="step", ylabel="loss (nats)", ylim=(0, 3))
left.legend()
right.plot([s for s, *_ in history.watched], [x for *_, x in history.watched], marker="o", markersize=3)
plot.line(right, 0.85, "asked for: 0.85")
right.set(xlabel="step", ylabel="captions right in everything", ylim=(0, 1.02))
plt.show()
tail = {name: float(np.mean(x[-50:])) for name, x in history.metrics.items()}
print(", ".join(f"{name} {x:.3f}" for name, x in tail.items()), f"nats at the end; floor of LM (10): {lm_floor:.3f}")

# %% [markdown]
# Look at the red curve first. It starts at 0.6365 and leaves it slowly, while contrast already falls: *ITC converges and ITM does not yet*. Issue reports of the released code speak of runs that stay there. What the matcher learns first is words that are missing from the picture; the steep part, where it comes, is the order: which word belongs to which object. If yours stays flat, look at the matcher alone before you look at re-ranked results.
#
# ## 8. Look
#
# ### What it says
#
# Below each fresh scene stands the greedy caption and two drawn from the *nucleus* of $p = 0.9$: at each word, the fewest words that hold nine tenths of the probability, and a draw among them. Green is true in everything.

# %%
show_n = 5
greedy = model.caption(seen[:show_n])
g = torch.Generator(device).manual_seed(0)
drawn = [model.caption(seen[:show_n], top_p=0.9, generator=g) for _ in range(2)]
right = agreement(greedy, held[:show_n])["all"]
figure = plot.images(
    seen[:show_n], [broken(c) for c in greedy], columns=5, colours=[plot.GREEN if ok else plot.RED for ok in right]
)
for k, rows in enumerate(drawn):
    ok = agreement(rows, held[:show_n])["all"].tolist()
    print(f"nucleus {k + 1}: " + " | ".join(("" if y else "✗ ") + c for c, y in zip(rows, ok, strict=True)))

# %% [markdown]
# Greedy decoding says one thing about a picture. The nucleus varies what no picture decides, who is named first, and now and then it takes a word that is wrong. BLIP uses the nucleus where variety is worth more than the last bit of certainty: to write captions for training (section 10).
#
# ### Where a word looks
#
# Cross-attention has weights, and they have places. For 200 fresh scenes and their captions we measure, head by head of the writer's first layer, how much of a colour word's attention falls on its own object, and take the head where that is most. The pictures show it for two captions, the bars for all 200.


# %%
COLOUR_WORDS, SHAPE_WORDS = set(COLOURS), set(SHAPES)
axis = (torch.arange(8) + 0.5) / 4 - 1  # centres of the places
down, across = torch.meshgrid(-axis, axis, indexing="ij")
some = slice(0, budget(cpu=200, quick=20))
centre, radius = held.position[some], held.radius[some]  # (N, 2, 2), (N, 2)
apart = ((across - centre[..., 0, None, None]) ** 2 + (down - centre[..., 1, None, None]) ** 2).sqrt()  # (N, 2, 8, 8)
near = (apart < 1.3 * radius[..., None, None] + 0.13).float()  # places that show some of an object
sentences = task.captions(held[some])
look = model.attention(seen[some], tokenizer(sentences, device), writes=True)[0].cpu()  # (N, heads, 1 + L, 8, 8)
fall = torch.einsum("nhlyx,noyx->nhlo", look, near)  # (N, heads, 1 + L, object) what falls on each


def kind(word, objects_so_far):
    if word in COLOUR_WORDS | SHAPE_WORDS:
        return ("colour" if word in COLOUR_WORDS else "shape") + f" of object {objects_so_far}"
    return {"left": "relation", "right": "relation", "above": "relation", "below": "relation"}.get(word)


shares = {}  # kind of word: rows of (heads, object)
for n, sentence in enumerate(sentences):
    objects = 0
    for k, word in enumerate(sentence.split()):
        objects += word in ("a", "an")
        if name := kind(word, objects):
            shares.setdefault(name, []).append(fall[n, :, k + 1])
shares = {name: torch.stack(rows).mean(dim=0) for name, rows in shares.items()}  # (heads, object)
head = int((shares["colour of object 1"][:, 0] + shares["colour of object 2"][:, 1]).argmax())

columns, middle = max(len(x.split()) for x in sentences[:2]), np.arange(8) + 0.5
figure, axes = plt.subplots(2, columns + 1, figsize=(8, 2.3))
for row in range(2):
    axes[row, 0].imshow(seen[row].permute(1, 2, 0).cpu())
    for k, word in enumerate(sentences[row].split()):
        ax = axes[row, k + 1]
        ax.imshow(look[row, head, k + 1], extent=(0, 8, 8, 0), vmin=0, cmap="gray")
        for o, colour in ((0, plot.ORANGE), (1, plot.SKY)):  # where the objects are
            ax.contour(middle, middle, near[row, o], levels=[0.5], colors=[colour], linewidths=1)
        ax.set_xlabel(word, fontsize=8)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    if not ax.images:
        ax.set_visible(False)
plt.show()

names = ["colour of object 1", "colour of object 2", "shape of object 1", "shape of object 2", "relation"]
figure, ax = plt.subplots(figsize=(8, 2.4))
for o, colour in ((0, plot.ORANGE), (1, plot.SKY)):
    lengths_ = [float(shares[n][head, o]) for n in names]
    ax.barh(np.arange(5) + 0.36 * o, lengths_, 0.34, color=colour, label=f"on object {o + 1}")
ax.set_yticks(np.arange(5) + 0.18, names)
ax.invert_yaxis()
ax.set(xlabel=f"share of a word's attention (head {head + 1} of 4)", xlim=(0, 1))
even = float(near.mean())
ax.axvline(even, color="#777777", linewidth=0.8, linestyle="--")
ax.annotate("evenly spread", (even, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
ax.legend()
plt.show()

# %% [markdown]
# White is where a word looks; outlines mark the two objects. In this head a colour word finds its own object and leaves the other alone: most of its attention falls on a seventh of the picture. Shape words and the relation have no place of their own: what they need was fetched by the colour word, and self-attention carries it on. So an attention map says where information *may* come from. That a word does not look at its object is no proof that it does not know of it.
#
# ### The matcher, alone
#
# Move the slider to other pictures. The bars are the matcher's log-odds of the true caption, of the same truth told from the other end, and of five captions that are wrong in one thing. Look for bars of wrong captions to the right of 0, and at which kind they are.


# %%
def judged(picture):
    one = held[picture : picture + 1]
    said = {"true": one, "true, from the other end": task.turned(one)}
    foils = task.foils(one, torch.Generator().manual_seed(picture))
    said |= {name: s for name, (index, s) in foils.items() if len(index)}
    captions = [task.captions(s)[0] for s in said.values()]
    images = seen[picture : picture + 1].expand(len(captions), -1, -1, -1)
    m = match_score(model, images, tokenizer(captions, device)).cpu()
    figure, (left, right) = plt.subplots(1, 2, figsize=(5.2, 2.6), width_ratios=(1, 1.6))
    left.imshow(seen[picture].permute(1, 2, 0).cpu())
    left.set(xticks=[], yticks=[], xlabel=broken(captions[0]))
    left.xaxis.label.set_fontsize(7)
    left.grid(False)
    right.barh(range(len(m)), m, color=[plot.GREEN if "true" in name else plot.RED for name in said])
    right.set_yticks(range(len(m)), list(said), fontsize=7)
    right.invert_yaxis()
    right.axvline(0, color="#777777", linewidth=0.8)
    right.set_xlabel("log-odds (nats)", fontsize=8)
    return figure


panel(judged, widgets.IntSlider(value=4, min=0, max=len(held) - 1, description="picture"))

# %% [markdown]
# ## 9. What each loss does
#
# One run shows little. `minilip/studies/blip/losses.py` names five arms, from the same eye and on the same batches: contrast alone, with match, with describe, and all three, 900 steps each; and all three for 1,500 steps. The longer run was added when two seeds of the shorter one had been seen on these very scenes, so both stand in every claim. All numbers from here on are **stored runs** on fresh scenes of their own, not the live run above; `python -m minilip.studies.blip.losses` measures them again.

# %%
known = losses.known()  # {arm: [result of each seed]}
FOILS, full = task.FOILS, "ITC + ITM + LM"
best = "all, longer"
area = {
    "ITC, cosine": ("ITC", "cosine", plot.SKY),
    f"{full}, cosine": (full, "cosine", plot.BLUE),
    "ITC + ITM, matcher": ("ITC + ITM", "matched", plot.ORANGE),
    f"{full}, matcher": (full, "matched", plot.RED),
    "all, 1,500 steps, matcher": ("all, longer", "matched", plot.PINK),
}
figure, ax = plt.subplots(figsize=(8, 3.2))
for k, (label, (name, how, colour)) in enumerate(area.items()):
    rows = np.array([[run[how][kind] for kind in FOILS] for run in known[name]])  # (seeds, foils)
    at = np.arange(len(FOILS)) + (k - (len(area) - 1) / 2) * 0.16
    ax.bar(at, rows.mean(axis=0), 0.15, color=colour, label=label)
    ax.plot(at, rows.T, "o", color="black", markersize=2.5)
plot.line(ax, 0.5, "a coin")
ax.set(ylabel="AUROC, true against wrong", ylim=(0.4, 1.02))
ax.set_xticks(range(len(FOILS)), FOILS)
ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
plt.show()
for name, runs in known.items():
    if "said" in runs[0]:
        for way in ("greedy", "nucleus"):
            shares = {
                what: np.mean([run["said"][way][what] for run in runs])
                for what in ("colour", "shape", "relation", "all")
            }
            print(f"{name:14} {way:7}", ", ".join(f"{what} {x:.3f}" for what, x in shares.items()))

# %% [markdown]
# Read the bars by kind and the dots by seed. A caption with one wrong colour or shape is caught by the cosine alone: contrast needs no matcher for that. A swap holds the same words, a turned relation all but one. There the matcher of 900 steps is perfect in one seed; in the two others it has not learned order yet, and is near a coin about relations. All three captioners write the relation right in most captions by then. After 1,500 steps all three matchers have it. The steep part of the matcher's curve comes, and when it comes differs from seed to seed: one run would have told either story.
#
# And the arms beside each other: after 900 steps no loss has helped another beyond the noise of three seeds. The captioner that shares its steps with a matcher is behind the one that does not, 0.91 against 0.98 of captions right in everything. What the three buy together is one model that does all three.
#
# ### Three ways to search
#
# Contrast compares all pairs at the price of two encodings. The matcher has to read each pair: $256 \times 256$ passes for this gallery. BLIP does both: contrast chooses 16 candidates, the matcher puts them in order, $m_{ij} + v_i^\top t_j$. Every caption that is true of a picture counts as right.

# %%
ways = {"ITC": plot.BLUE, "ITM": plot.RED, "ITM re-ranks ITC": plot.ORANGE}
hits = {
    side: {
        w: np.array([[r == 1 for r in run["found"][w][side]] for run in known[best]]) for w in ways
    }  # (seeds, queries)
    for side in ("captions", "pictures")
}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.2), sharex=True)
for ax, (side, found) in zip(axes, hits.items(), strict=True):
    plot.bars(
        ax, {w: x.mean(axis=1) for w, x in found.items()}, f"R@1, {side} searched for", colours=list(ways.values())
    )
    ax.set_xlim(0.5, 1.0)
plt.show()
gain = {}
for side, found in hits.items():
    query = np.tile(np.arange(found["ITC"].shape[1]), len(found["ITC"]))
    pair = [found[w].ravel().astype(float) for w in ("ITM re-ranks ITC", "ITC")]
    gain[side] = (float(np.mean(pair[0] - pair[1])), *paired_interval(*pair, groups=query))
    print(f"{side}: re-ranking gains {gain[side][0]:+.3f} [{gain[side][1]:+.3f}, {gain[side][2]:+.3f}] of R@1")

# %% [markdown]
# Re-ranking is as good as the matcher. After 900 steps it raises R@1 of captions from 0.96 to 1.00 in the seed whose matcher knows order, and *lowers* it from 0.93 to 0.86 in the seed whose matcher knows least. And note what would have been seen with re-ranking alone: R@1 of 0.86, a decent number, from a matcher that is at a coin about relations. After 1,500 steps contrast alone finds a true caption first in 99 of 100 cases. The figure is of those runs, and there is nothing left for re-ranking to raise.
#
# ## 10. CapFilt: a model that cleans what it learns from
#
# Captions from the web are often wrong. BLIP's second idea: the model learns from them all the same; a copy is tuned on a few clean pairs to *write* (the captioner), another to *judge* (the filter). The captioner writes a second caption for each picture, the filter throws out of both what it does not believe, and a new model learns from the rest.
#
# Nobody knows which captions of the web are wrong. Here we do: of 4,096 captions we made 40 % wrong, half of them another picture's, half wrong in one thing.

# %%
cleaned = cleaning.known()  # one result for each seed
caught = {k: [run["filter"][k] for run in cleaned] for k in cleaned[0]["filter"]}
for name, values in caught.items():
    print(f"{name:28} {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
said = {name: [run["arms"][name]["said"]["all"] for run in cleaned] for name in cleaning.ARMS}
swaps = {name: [min(run["arms"][name]["matched"][k] for k in FOILS) for run in cleaned] for name in cleaning.ARMS}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.2))
colours = [plot.BLUE, plot.ORANGE, plot.BLACK]
plot.bars(axes[0], said, "captions right in everything", colours=colours)
plot.bars(axes[1], swaps, "AUROC of the hardest kind", colours=colours)
plt.show()

# %% [markdown]
# Read the printed rows first. Another picture's caption hardly ever passes the filter; of the captions with one wrong thing about half do. The captioner adds a caption for most pictures, and of those that the filter believes, many are wrong too: captioner and filter are copies of one model, which after 450 steps does not know order, so the one writes what the other cannot see. The figure asks whether it paid all the same: a model that learned from the web as it is, one from what CapFilt kept, and one from the true pairs alone, which nobody could pick in practice. The right half is about the hardest kind of foil: no matcher learns it in so few steps, whatever the captions.
#
# ## 11. Claims


# %%
def mean_sd(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def written(what, name=best, way="greedy"):
    return [run["said"][way][what] for run in known[name]]


both = [min(a, b) for a, b in zip(written("colour"), written("shape"), strict=True)]
claim(
    "blip-describes",
    says="one model learns to describe: both objects in 90 % and the relation in 85 % of captions",
    source="our bar, after Li et al. 2022, sec. 3.2",
    measured=f"colour of both {mean_sd(written('colour'))}, shape of both {mean_sd(written('shape'))}, relation "
    f"{mean_sd(written('relation'))}, all {mean_sd(written('all'))}",
    holds=min(both) >= 0.9 and min(written("relation")) >= 0.85,
    note=f"holds if every one of 3 seeds passes; {losses.ARMS[best].steps} steps, 1,000 fresh scenes, greedy; "
    f"after 900 steps all right {mean_sd(written('all', full))}, the worst seed {min(written('all', full)):.3f}",
)
hardest = {k: [run["matched"][k] for run in known[best]] for k in FOILS}
short = {k: [run["matched"][k] for run in known[full]] for k in FOILS}
worst = min(hardest, key=lambda k: np.mean(hardest[k]))
early = min(short, key=lambda k: min(short[k]))
claim(
    "blip-matches",
    says="the matcher alone tells true captions from hard negatives",
    source="our test, after Li et al. 2022, sec. 3.2",
    measured="AUROC " + ", ".join(f"{k} {np.mean(x):.3f}" for k, x in hardest.items()),
    holds=min(hardest[worst]) >= 0.9,
    note=f"holds if at least 0.9 for every kind and seed; the hardest is {worst}: {mean_sd(hardest[worst])}; "
    f"after 900 steps the hardest is {early}: {mean_sd(short[early])}, the worst seed {min(short[early]):.3f}",
)
claim(
    "blip-reranks",
    says="re-ranking by the matcher raises retrieval",
    source="Li et al. 2022, sec. 5.1",
    measured="; ".join(
        f"{side}: R@1 {hits[side]['ITC'].mean():.3f} to {hits[side]['ITM re-ranks ITC'].mean():.3f}, "
        f"gain {g:+.3f} [{lo:+.3f}, {hi:+.3f}]"
        for side, (g, lo, hi) in gain.items()
    ),
    holds=all(low > 0 for _, low, _ in gain.values()),
    note=f"holds if both 95 % intervals lie above 0; {losses.ARMS[best].steps} steps, gallery of 256, 16 re-ranked, "
    f"3 seeds; contrast alone leaves little to raise on this bed; the matcher alone reaches "
    f"{hits['captions']['ITM'].mean():.3f} and {hits['pictures']['ITM'].mean():.3f}",
)


def helps(id, says, with_, without, value, what):
    difference = np.array([value(a) - value(b) for a, b in zip(known[with_], known[without], strict=True)])
    claim(
        id,
        says=says,
        source="our ablation; Li et al. 2022 train the three together",
        measured=f"{what}: {mean_sd([value(r) for r in known[with_]])} against "
        f"{mean_sd([value(r) for r in known[without]])}, difference {mean_sd(difference)}",
        holds=bool(difference.mean() - 2 * difference.std(ddof=1) > 0),
        note="900 steps each, not equal time; holds if the mean of 3 seeds exceeds two standard deviations",
    )


def swaps_told(run):
    return np.mean([run["matched"][k] for k in FOILS[:3]])


def captions_right(run):
    return run["said"]["greedy"]["all"]


def recall_of_contrast(run):
    return np.mean(np.array(run["found"]["ITC"]["captions"]) == 1)


for id, says, name, value, what in (
    ("blip-lm-helps-itm", "describe helps match", "ITC + ITM", swaps_told, "AUROC of swaps and turned, mean"),
    ("blip-itm-helps-lm", "match helps describe", "ITC + LM", captions_right, "captions right in everything"),
    ("blip-more-helps-itc", "match and describe help contrast", "ITC", recall_of_contrast, "R@1 of contrast"),
):
    helps(id, says, full, name, value, what)

others = caught["kept of others' captions"]
precision, before = np.array(caught["precision"]), np.array(caught["true before"])
claim(
    "blip-filter",
    says="the filter removes wrong captions",
    source="Li et al. 2022, sec. 3.3",
    measured=f"true among the web's pairs {mean_sd(before)}, among those kept {mean_sd(precision)}; recall "
    f"{mean_sd(caught['recall'])}; kept of others' captions {mean_sd(others)}, of those wrong in one thing "
    f"{mean_sd(caught['kept of wrong in one thing'])}",
    holds=bool((precision - before).mean() - 2 * (precision - before).std(ddof=1) > 0),
    note=f"{len(cleaned)} seeds, 4,096 pairs, 40 % wrong by construction; tuned on 512 clean pairs",
)
difference = np.array(said["CapFilt"]) - np.array(said["web"])
claim(
    "blip-capfilt",
    says="training on captions written and filtered beats training on the web's",
    source="Li et al. 2022, table 1",
    measured=f"captions right in everything {mean_sd(said['CapFilt'])} against {mean_sd(said['web'])}, difference "
    f"{mean_sd(difference)}; true pairs alone {mean_sd(said['true pairs alone'])}",
    holds=bool(difference.mean() - 2 * difference.std(ddof=1) > 0),
    note=f"{len(cleaned)} seeds, same number of steps, same eye; fresh scenes; "
    "holds if the mean over seeds exceeds two standard deviations",
)

# %% [markdown]
# ## 12. Doubts
#
# **What the released code does differently**
# - It learns $\tau$ itself, from 0.07, and keeps it in $[0.001, 0.5]$. At our learning rate that would be steps of 4 % of it; we learn $\log 1/\tau$, as CLIP does.
# - `queue_size % (batch · processes) == 0` is asserted, and a last batch of another size stops the run: drop it, or let the queue roll by rows, as ours does.
# - Pretraining gives each picture one positive; fine-tuning for retrieval keeps picture numbers in the queue, so that all captions of a picture count. Ours compares the captions' words.
# - The stand-alone file for matching, `blip_itm.py`, never puts [ENC] in front of the words. It keeps [CLS], a role that the matching head was not trained with.
# - Its forward pass has 110 lines with Python loops over the batch for the negatives. `torch.multinomial` draws a whole table at once.
# - Embeddings, cross-attention and feed-forward nets are tied between reader and writer, by name: every module whose path does not contain `/attention`.
#
# **What goes wrong in practice**
# - *ITC converges, ITM and LM do not, and re-ranking hides it*: $m + $ cosine with a useless $m$ still ranks by cosine. Test ITM alone.
# - ITM at 0.63: equation (6). Look for labels in the wrong order, for the own pair among the negatives, for a picture that never reaches cross-attention.
# - LM near its floor from the start: the causal mask is missing (exercise 9.6). Fluent captions that have nothing to do with the picture: shuffle the pictures; the loss must rise.
# - The same picture twice in a batch is a false negative for ITC *and* the hardest negative for ITM.
#
# **What is smaller here.** Our captions come from one grammar of 2,208 sentences, so "fluent" costs nothing. Our eye has had labels of the very attributes that captions name. Real pictures with real captions, emoji among them, are *not* part of this lesson's measurements. Lesson 08 writes captions of real drawings with a frozen language model.
#
# **Read on:** lesson 10 asks contrast, match and describe the questions of ARO and SugarCrepe, and what a blind language model answers.
#
# **Now you:** [exercises 09](../exercises/09_blip.ipynb), with [solutions](../solutions/09_blip.ipynb).
