# %% [markdown]
# # 10 · What contrastive models miss: exercises
#
# Eight exercises on [lesson 10](../notebooks/10_compositionality.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("compositionality.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("10_compositionality")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.compositionality import PROBES, worst_group_interval
from minilip.course import plot
from minilip.data.scenes import Scenes
from minilip.nn.tokenizer import Tokenizer

world = Scenes(size=32, objects=2)
generator = torch.Generator().manual_seed(0)
latents = world.sample(300, generator)
tokenizer = Tokenizer(world.caption(latents, detail=2))

# %% [markdown]
# ## 10.1 What a tie is worth
#
# Equation (1). Each row of `scores` is a question; the first column is the true caption. A tie at the top is broken by lot: give the *expected* hit.


# %%
# Exercise 10.1 · implement · 15 min · difficulty 2 of 5
# Teaches to count a benchmark so that a scorer which says nothing gets exactly chance.
def my_hits(scores):
    """Expected hit of each question. scores (N, 1 + F), the true caption first -> (N,) in [0, 1]"""
    ### BEGIN SOLUTION
    best = scores[:, 0] >= scores[:, 1:].amax(dim=1)  # (N,)
    beside = (scores[:, 1:] == scores[:, :1]).sum(dim=1)  # (N,) false captions with the same score
    return best / (1 + beside)
    ### END SOLUTION


my_hits = check("compositionality.hits", my_hits).use
# hint("compositionality.hits")

# %% [markdown]
# Three scorers that know nothing: one says 7 always, one rolls a die with six sides, one draws any number. What does `argmax` make of them, and what do you?

# %%
for name, scores in (
    ("says 7", torch.full((2000, 5), 7.0)),
    ("rolls a die", torch.randint(6, (2000, 5), generator=generator).float()),
    ("any number", torch.rand(2000, 5, generator=generator)),
):
    first = (scores.numpy().argmax(axis=1) == 0).mean()
    last = (scores.flip(1).numpy().argmax(axis=1) == 4).mean()
    print(f"{name:12} argmax, true first {first:.2f}; argmax, true last {last:.2f}; yours {my_hits(scores).mean():.2f}")

# %% [markdown]
# ## 10.2 The same words
#
# Which false captions could a bag of words never reject? Two rows of tokens have the same *bag* if every number occurs equally often in both, padding (0) included.


# %%
# Exercise 10.2 · implement · 10 min · difficulty 2 of 5
# Teaches what a bag is: not a set, not a sum.
def my_same_bag(tokens, others):
    """Whether each pair of rows has the same bag. (N, L) and (N, L) int64 -> (N,) bool"""
    ### BEGIN SOLUTION
    return (tokens.sort(dim=1).values == others.sort(dim=1).values).all(dim=1)
    ### END SOLUTION


my_same_bag = check("compositionality.same_bag", my_same_bag).use
# hint("compositionality.same_bag")

# %% [markdown]
# Sort the course's probes by it. Which can a bag of words answer, at least in principle?

# %%
for name, make in PROBES.items():
    probe = make(latents, generator)
    kept = my_same_bag(tokenizer(probe.true), tokenizer([row[0] for row in probe.false]))
    print(f"{name:9} {kept.float().mean():4.0%} of false captions have the words of the true one")

# %% [markdown]
# ## 10.3 The wage for order
#
# Derive (5) before you write it. A critic takes each other pair of the batch for the true one with probability `words` if it reads words, with probability `meaning` if it reads everything. What does a batch of `batch` pairs pay for the difference? Use no library of minilip.
#
# <details><summary>The proof in steps</summary>
#
# 1. Fix a pair. Of the other $B-1$ pairs, $n$ look to the critic like it. They are drawn independently, so $n$ is binomial with $B-1$ trials and probability $p$.
# 2. The best it can do is to give the $1+n$ candidates the same probability: the cross-entropy is $\log(1+n)$. All other candidates it can rule out.
# 3. The mean over batches is $\ell(B,p) = \sum_k \binom{B-1}{k}p^k(1-p)^{B-1-k}\log(1+k)$.
# 4. It rises with $p$. The critic of words pays $\ell(B, p_{\text{words}})$, the one that reads everything $\ell(B, p_{\text{meaning}})$. The gradient of the loss can make no more than the difference out of reading.
# </details>


# %%
# Exercise 10.3 · prove · 20 min · difficulty 3 of 5
# Teaches to compute what a loss can pay for something before training for it.
def my_order_wage(batch, words, meaning):
    """(5) in nats. B a whole number up to 256, 0 < meaning < words < 1 -> a number"""
    ### BEGIN SOLUTION
    n = batch - 1

    def floor(p):
        return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) * math.log1p(k) for k in range(n + 1))

    return floor(words) - floor(meaning)
    ### END SOLUTION


my_order_wage = check("compositionality.order_wage", my_order_wage).use
# hint("compositionality.order_wage")

# %%
figure, ax = plt.subplots(figsize=(8, 2.6))
sizes = [2, 4, 8, 16, 32, 64, 128, 256]
for captions, colour in ((1344, plot.BLUE), (20_000, plot.GREEN), (1_000_000, plot.RED)):
    ax.semilogx(sizes, [my_order_wage(b, 8 / captions, 2 / captions) for b in sizes], "o-", base=2, color=colour,
                label=f"{captions:,} captions")
ax.set(xlabel="batch B", ylabel="wage for order (nats)")
ax.legend()
plt.show()

# %% [markdown]
# ## 10.4 NegCLIP
#
# Equation (7). `hard_text` holds $H$ false captions, as many as you like. The scale reaches 100 in training: loss and gradients have to stay finite there.


# %%
# Exercise 10.4 · implement · 15 min · difficulty 3 of 5
# Teaches which candidates belong to which question.
def my_negclip_loss(image, text, hard_text, logit_scale):
    """Mean of both directions in nats. image, text (B, D), hard_text (H, D), s > 0 -> scalar"""
    ### BEGIN SOLUTION
    logits = logit_scale * image @ torch.cat([text, hard_text]).T  # (B, B + H)
    own = torch.arange(len(image), device=logits.device)  # (B,)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits[:, : len(image)].T, own)) / 2
    ### END SOLUTION


my_negclip_loss = check("compositionality.negclip_loss", my_negclip_loss).use
# hint("compositionality.negclip_loss")

# %% [markdown]
# ## 10.5 A repair in a world of habits
#
# In a world of habits the first-named object has the earlier colour, always. NegCLIP is trained there; its false captions exchange colours, shapes or objects. Then it is asked about scenes whose colours were exchanged, so that the *unusual* caption is the true one. With two captions a question, will its accuracy be "above", "at" or "below" one half? Decide before you look at section 5 again.

# %%
# Exercise 10.5 · predict · 5 min · difficulty 2 of 5
# Teaches to ask what the cheapest way to satisfy a loss is: "above", "at" or "below"?
### BEGIN SOLUTION
on_unusual_scenes = "below"
### END SOLUTION
on_unusual_scenes = check("compositionality.habits", on_unusual_scenes).use
# hint("compositionality.habits")

# %% [markdown]
# ## 10.6 A score without the prior
#
# Equations (10) and (11). `given` is $\log p(t\mid i)$ of $T$ captions with the picture that is asked about, `table` holds $\log p(t\mid i)$ of the same captions with $I$ pictures drawn at random. Log-probabilities of sentences may be $-150$ and less: the score has to stay finite there.


# %%
# Exercise 10.6 · implement · 15 min · difficulty 3 of 5
# Teaches that a prior is a mean of probabilities, and how to take its logarithm.
def my_debiased(given, table, alpha):
    """log p(t | i) - alpha log p(t). (T,), (T, I), alpha >= 0 -> (T,)"""
    ### BEGIN SOLUTION
    log_p = table.logsumexp(dim=1) - math.log(table.shape[1])  # (T,)
    return given - alpha * log_p
    ### END SOLUTION


my_debiased = check("compositionality.debiased", my_debiased).use
# hint("compositionality.debiased")

# %% [markdown]
# Two captions and a picture in fog. "A rider on a horse" is said of one picture in ten, "a horse on a rider" of one in a thousand. The fog leaves odds of 3 to 1 for the rare one. Who wins at which $\alpha$?

# %%
said = torch.tensor([0.1, 0.001])
fog = torch.tensor([1.0, 3.0])  # p(i | t), up to a factor that both share
given = (said * fog / (said * fog).sum()).log()
table = said.log()[:, None].expand(2, 50)  # here every picture is as good as any
for alpha in (0.0, 0.5, 0.8, 1.0):
    score = my_debiased(given, table, alpha)
    winner = "the common" if score[0] > score[1] else "the rare"
    print(f"alpha {alpha}: {winner} caption, by {float((score[0] - score[1]).abs()):.2f} nats")

# %% [markdown]
# ## 10.7 The worst group, and what it hides
#
# The accuracy of the worst group. Groups are numbered from 0, each has at least one example.


# %%
# Exercise 10.7 · break · 20 min · difficulty 2 of 5
# Teaches a statistic that everyone reports and that is too low on average.
def my_worst_group(hits, groups):
    """Accuracy of the worst group. hits (N,) of 0 and 1, groups (N,) int64 -> a number"""
    ### BEGIN SOLUTION
    return min(float(hits[groups == k].double().mean()) for k in groups.unique().tolist())
    ### END SOLUTION


my_worst_group = check("compositionality.worst_group", my_worst_group).use
# hint("compositionality.worst_group")

# %% [markdown]
# Now break it. A model is equally good on all groups, 0.9. Cut the same 400 examples into more and more groups and watch the worst one fall. In a sentence each: (a) why does it fall, (b) which of two models looks worse if one is examined on 4 groups and the other on 40, (c) what does the reflected interval of the library say that the single number does not?

# %%
hits = (torch.rand(400, generator=generator) < 0.9).float()
for k in (1, 4, 10, 40):
    groups = torch.arange(400) % k
    low, high, bias = worst_group_interval(hits, groups, draws=budget(cpu=1000, quick=100))
    print(f"{k:2} groups of {400 // k:3}: worst {my_worst_group(hits, groups):.3f}, "
          f"corrected {my_worst_group(hits, groups) - bias:.3f}, interval {low:.3f} to {high:.3f}")

# %% [markdown]
# ## 10.8 Break a benchmark, then mend it
#
# Twelve pairs in the manner of SugarCrepe, made up for this exercise: a caption as a person types it, and a false one as a language model writes it. Write a rule that looks at one sentence and returns a number; the sentence with the larger number is chosen. No picture, no list of the sentences. Ten of twelve are easy.

# %%
PAIRS = (
    ("a dog asleep on a red sofa ", "A dog asleep on a red sofa beside a lamp."),
    ("Two boys fly a kite", "Two boys fly a kite near a wooden fence."),
    ("man with umbrella walking past a shop", "A man with an umbrella walking past a bank."),
    ("A bowl of soup and some bread.", "A steaming bowl of soup and some dark bread."),
    ("The cat looks at the bird ", "The bird looks at the cat."),
    ("A white mug next to a blue plate", "A blue mug next to a white plate."),
    ("a train is leaving the station", "A train is approaching the station."),
    ("Girl in a yellow coat holds a balloon.", "A girl in a green coat holds a balloon."),
    ("three cows in a field", "Three horses in a grassy field."),
    ("A small boat under a bridge.", "A small boat passes swiftly under a stone bridge."),
    ("a clock on a tower by the sea ", "A clock on a tower by the lake."),
    ("Some people are eating at a table.", "Some people are sitting silently at a table."),
)

# %%
# Exercise 10.8 · explore · 25 min · difficulty 3 of 5
# A rule for a single sentence; then false captions that your rule cannot tell from true ones.
### BEGIN SOLUTION
def rule(sentence):
    bare = sentence.strip()
    return (sentence != bare) + (not bare.endswith(".")) + bare[:1].islower() - len(bare) / 100


### END SOLUTION


def blind(rule, pairs):
    scores = torch.tensor([[float(rule(true)), float(rule(false))] for true, false in pairs])
    return float(my_hits(scores).mean())


if rule is not ...:
    print(f"right without a picture: {blind(rule, PAIRS):.0%} of {len(PAIRS)}")
    typed = [(true, false.lower().rstrip(".") + " ") for true, false in PAIRS]
    print(f"false captions typed hastily too: {blind(rule, typed):.0%}")
    balanced = [*PAIRS, *((false, true) for true, false in PAIRS)]
    print(f"each caption true of one picture and false of the other: {blind(rule, balanced):.0%}")

# %% [markdown]
# **Rubric.** A good answer (a) says what its rule measures and why people and language models differ in it, (b) takes one cue away at a time and reports what is left, (c) explains why the last line is 50 % for *every* rule, (d) writes three pairs of which both captions are plausible, equally long and equally typed, and says what picture would be needed for each.

# %%
progress()
