# %% [markdown]
# # 11b · ProtoCLIP on real pictures: what prototypes buy, and what they cost
#
# **You derive** nothing new: you read tables of paired differences, with the controls that tell a meaning from one more term in a loss, and ask of each "no" whether this test bed could have said "yes".
#
# **You train** CLIP with prototypes on emoji, beside CLIP without, over three seeds, and read longer measurements over five.
#
# After this lesson you can
# - compare two ways of training by pairs of runs, on data that neither has seen;
# - name the arm that a sentence about a cause needs, and say when it is missing;
# - tell a claim that fails from a claim that the bed cannot test.
#
# *Before this:* [lesson 11](11_protoclip.ipynb), whose equations are cited by their numbers. *Paper:* Chen et al. 2022 (ProtoCLIP). *Also:* Liang et al. 2022 on the modality gap.

# %%
from minilip.course import *

device = setup("11b_protoclip")

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

from minilip.course import plot
from minilip.data.emoji import EmojiPairs
from minilip.evaluation import accuracy
from minilip.protoclip import back_translate, kmeans
from minilip.studies.protoclip import emoji as proto_study
from minilip.studies.protoclip.emoji import compare, reach
from minilip.studies.protoclip.examination import clusters

gallery = EmojiPairs()

# %% [markdown]
# ## 1. The question, and the bed
#
# Does it help to group on purpose? The test bed is emoji. Three artists are trained on; the fourth, and a fifth of the concepts, are kept for the examination. The image tower is a frozen EfficientNet-Lite0 (ImageNet weights) with a small network on top that learns. So a run takes seconds, and we can afford many. Captions are a concept's label, or the label with a tag, or two tags. Texts are bags of words.
#
# The *groups* to be found are those of Unicode: 9 groups such as food or travel, 95 subgroups such as *food-fruit*. No training caption mentions them. We ask four things of every model:
#
# - **Linear probe:** logistic regression on the image tower's features names the group of held-out concepts.
# - **Zero-shot:** an image's group is the group whose mean label embedding is nearest. No picture's group is ever used.
# - **Retrieval:** R@k, the share of pictures whose right label is among the $k$ nearest, ties counted against them.
# - **Cluster agreement:** k-means groups of images, and of labels, against the true subgroups, by *adjusted mutual information* (AMI: 1 is perfect agreement, 0 is what chance gives).
#
# Held-out concepts can be chosen in two ways. By *lot*: then some have twins in training (man and woman firefighter, twelve clocks). Or by *families of subgroups*, so that nothing like them was trained on. We do both.

# One table says what every arm is. $w$ and $e$ are the weights of (19), $\tau_y$ is that of (12); "PBT" is back translation (15). Every arm trains 400 steps at batch 256 in episodes of 2,048 items with $K = 48$ groups, about half the number of subgroups; the warm-up is one episode. Weight 1 is the published one, weight 4 is there to make effects visible.
#
# | arm | $w$ | $e$ | targets | PBT | what differs from the paper's recipe |
# |---|---|---|---|---|---|
# | CLIP | – | – | – | – | the baseline |
# | ProtoCLIP | 1 | 0 | soft, $\tau_y = 0.01$ | yes | nothing but the scale |
# | ProtoCLIP x4 | 4 | 0 | soft | yes | weight |
# | one-hot targets | 4 | 0 | one-hot | yes | targets |
# | no back translation | 4 | 0 | soft | no | the teacher's centres are the prototypes |
# | groups by lot | 4 | 0 | soft | yes | labels dealt out blindly, groups of the same sizes |
# | teacher, teacher x4 | 1, 4 | 1, 4 | soft; teacher's one-hot | yes | MiniLM on the labels as external teacher |
# | CLIP, as long | – | – | – | – | the seconds that ProtoCLIP x4 takes, as further steps |
# | apart, ... | – or 4 | 0 | as named | as named | one vector added to images and subtracted from captions (section 3) |
# | prototypes alone | 1 | 0 | soft | yes or no | no InfoNCE, no warm-up |

# %%
task = proto_study.Task("random", 0)
print(f"{len(task.train)} concepts to train on, {len(task.held)} held out; {task.population} pictures")
LIVE = ("CLIP", "ProtoCLIP x4", "teacher x4")
SEEDS, STEPS = range(budget(cpu=3, quick=1)), budget(cpu=400, quick=16)
models, histories = {}, {}
for name, seeds in (("CLIP", SEEDS), ("ProtoCLIP", SEEDS), ("apart, CLIP", SEEDS), *((n, SEEDS[:1]) for n in LIVE[1:])):
    arm = proto_study.ARMS[name]._replace(steps=STEPS)
    for seed in seeds:
        models[name, seed], histories[name, seed] = proto_study.train(arm, proto_study.Task("random", seed), seed=seed)
    history = histories[name, 0]
    print(f"{name:14} {history.seconds[-1]:5.1f} s of training, loss {np.mean(history.loss[-20:]):.2f}")

# %%
SHADE = {"CLIP": plot.BLACK, "ProtoCLIP x4": plot.BLUE, "teacher x4": plot.RED}


def seen_along(name, key):
    """(step, value) of what was looked at in training."""
    return np.array([[step, look[key]] for step, _, look in histories[name, 0].watched if key in look]).T


figure, axes = plt.subplots(1, 3, figsize=(8, 2.9))
for name in LIVE:
    axes[0].plot(*seen_along(name, "zero-shot"), color=SHADE[name], label=name)
    axes[1].plot(*seen_along(name, "gap, embedding"), color=SHADE[name])
    if name != "CLIP":
        axes[1].plot(*seen_along(name, "gap, projected"), color=SHADE[name], linestyle="--")
    axes[2].plot(*seen_along(name, "AMI images, truth, embedding"), "o-", markersize=4, color=SHADE[name])
axes[0].set(xlabel="step", title="zero-shot, held-out concepts", ylabel="accuracy")
axes[1].set(xlabel="step", title="modality gap (dashed: projected)", ylabel="distance of the means", ylim=(0, None))
axes[2].set(xlabel="step", title="image groups and subgroups", ylabel="AMI")
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# One seed, to see the shape of things; the numbers to believe are in section 2. Left: the naming of held-out groups climbs fast, then slowly and with wobbles of a point or two. Middle: at the first look, after 25 steps, the gap between images and labels stands open; then InfoNCE closes most of it in the embedding. (6) says only that the loss has no *force* that carries one cloud to the other before vectors are made unit, and here the two towers learn as well. Behind the heads (dashed) a gap remains. Right: groups that k-means finds among images agree with the true subgroups better and better. These groups are of pictures that were trained on; the next cell looks at others.

# %%
def held_out_groups(name):
    """AMI of k-means groups of *held-out* pictures with their true subgroups, for each seed."""
    out = []
    for seed in SEEDS:
        own = proto_study.Task("random", seed)
        x, concept = own.pictures(proto_study.SEEN, own.held)
        v = proto_study.see(models[name, seed], x).embedding
        t = proto_study.read(models[name, seed], own.labels[own.held]).embedding
        out.append(clusters(v, t.repeat(3, 1), own.subgroup[concept], 48)["AMI images, truth"])
    return np.array(out)


held_ami = {name: held_out_groups(name) for name in ("CLIP", "ProtoCLIP")}
for name, found in held_ami.items():
    print(f"{name:10} AMI of groups of held-out pictures with the true subgroups: {found.mean():.3f}", found.round(3))

# %% [markdown]
# On pictures that were not trained on, the groups of the two agree with the subgroups about equally well, and the seeds scatter by more than the models differ. Keep that beside the right panel above, and beside section 2: what grows there is the grouping of pictures that training has seen.
#
# ### What the prototypes mean
#
# Cluster one more episode with the trained model and look inside. For each of six groups of *captions*: the five labels nearest to its centre, and pictures that belong to it.

# %%
proto = models["ProtoCLIP x4", 0].eval()
with torch.no_grad():
    h_text = proto_study.read(proto, task.labels[task.train]).projected  # (K, D)
    x, concept = task.pictures(proto_study.SEEN, task.train)
    h_image = proto_study.see(proto, x).projected  # (N, D)
centres, y = kmeans(h_text, 48, torch.Generator().manual_seed(0))
size = torch.bincount(y, minlength=48)
tight = torch.stack([(h_text[y == k] - centres[k]).square().sum(dim=1).mean() for k in range(48)])
tight[size < 12] = 9.0
gallery_train = gallery.images.unflatten(0, (4, -1))
shown, words = [], []
for k in tight.argsort()[:6].tolist():
    members = (y == k).nonzero()[:, 0]
    nearest = members[(h_text[members] @ centres[k]).argsort(descending=True)[:5]]
    prototype = back_translate(h_image, y.repeat(3), 48)[k]  # the captions' group, among the images
    own = (y.repeat(3) == k).nonzero()[:, 0]
    best = own[(h_image[own] @ prototype).argsort(descending=True)]
    distinct = list({int(concept[i]): int(i) for i in best.flip(0).tolist()}.items())[::-1][:8]
    for c, i in distinct:
        shown.append(gallery_train[proto_study.SEEN[i // len(task.train)], c])
        label = gallery.labels[c]
        words.append(label if len(label) < 15 else f"{label[:13]}…")
    print(f"group of {len(members):2}: " + ", ".join(gallery.labels[task.train[n]] for n in nearest.tolist()))
figure = plot.images(F.avg_pool2d(torch.stack(shown).float() / 255, 2), words, columns=8)

# %% [markdown]
# Each row is one prototype, in the order of the printed lines: the pictures nearest to the back-translated point. The groups of captions follow shared words, such as *face*, *man* or *button*: a bag of words knows little else. The pictures follow the groups, and look alike as well.
#
# ## 2. Grouping on purpose, over many seeds
#
# From here on we read measurements made by the same functions with five seeds and both splits (`python -m minilip.studies.protoclip.emoji` repeats them, in about an hour on one core; untrained towers, pixels, groups by lot and longer training on the split by lot only). Validation concepts did not prefer weight 4 to weight 1. Every arm sees the same number of pairs, and arms of one seed start with the same towers, so that we can compare *pairs of runs*: the mean of the differences, with its 95 % interval by Student's $t$. Bold is an interval that leaves out 0. (Among so many cells a few are bold by chance. Trust what both splits say.)

# %%
study = proto_study.known()
SPLITS = ("random", "subgroups")
WANTED = {
    "probe, held, seen": "linear probe",
    "zero-shot, held, seen": "zero-shot",
    "zero-shot, held, unseen": "zero-shot, new artist",
    "R@1, held, seen": "R@1, held out",
    "R@10, held, seen": "R@10, held out",
    "R@1, train, seen": "R@1, trained on",
}
LABEL = {"random": "concepts held out by lot", "subgroups": "families of subgroups held out"}


def values(split, arm, key):
    return [result[key] for result in study[split][arm]]


def table(split, arms, base="CLIP", wanted=WANTED):
    """Differences to a base arm in points, with their intervals; bold where the interval leaves out 0."""
    rows = [f"| {LABEL[split]} | " + " | ".join(wanted.values()) + " |", "|---" * (1 + len(wanted)) + "|"]
    rows += [f"| {base} | " + " | ".join(f"{100 * np.mean(values(split, base, k)):.1f}" for k in wanted) + " |"]
    for arm in (arm for arm in arms if arm in study[split]):
        cells = []
        for k in wanted:
            mean, low, high = (100 * d for d in compare(values(split, arm, k), values(split, base, k)))
            mark = "**" if low > 0 or high < 0 else ""
            cells.append(f"{mark}{mean:+.1f} [{low:+.1f}, {high:+.1f}]{mark}")
        rows.append(f"| {arm} | " + " | ".join(cells) + " |")
    display(Markdown("\n".join(rows)))


ARMS = (
    "ProtoCLIP",
    "ProtoCLIP x4",
    "one-hot targets",
    "no back translation",
    "groups by lot",
    "teacher",
    "teacher x4",
    "CLIP, as long",
)
for split in SPLITS:
    table(split, ARMS)

# %% [markdown]
# Read the columns.
#
# - **Linear probe.** No interval leaves out 0. The paper's first claim cannot be seen here. Section 4 asks whether it could have been.
# - **Zero-shot.** At the published weight of 1 the gain is within the noise. At weight 4 it is clear by families and not by lot; and there the arms without back translation and with one-hot targets have it too, so it is not these parts that help. The external teacher helps by lot and, at weight 4, *hurts* by families. MiniLM's groups serve concepts that have relatives in training.
# - **Retrieval.** Two columns with opposite messages. On *held-out* concepts weight 1 changes R@1 and R@10 by less than the intervals can tell. On pictures that were *trained on* R@1 falls, by two points at weight 1 and by fifteen or more at weight 4: images whose captions share a group become harder to tell apart. That column says what the training did to what it saw, and nothing about new pictures.
# - **Groups by lot** is the control that makes the rest readable: groups of the same sizes, with members drawn by lot. It changes nothing. What the other arms do, they do by *which* items are grouped, and not by one more term in the loss.
# - **CLIP, as long:** the baseline gets the extra seconds that ProtoCLIP spends on episodes, as further steps. What it buys is R@1.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
names = (
    "ProtoCLIP",
    "ProtoCLIP x4",
    "one-hot targets",
    "no back translation",
    "groups by lot",
    "teacher",
    "teacher x4",
)
keys = (  # R@1 of trained concepts would squeeze these: it is in the table
    ("zero-shot, held, seen", "zero-shot", plot.BLUE, "o"),
    ("probe, held, seen", "linear probe", plot.GREEN, "s"),
    ("R@10, held, seen", "R@10, held out", plot.RED, "^"),
)
for ax, split in zip(axes, SPLITS):
    for offset, (key, name, colour, marker) in zip((-0.22, 0, 0.22), keys):
        for row, arm in ((row, arm) for row, arm in enumerate(names) if arm in study[split]):
            mean, low, high = (100 * d for d in compare(values(split, arm, key), values(split, "CLIP", key)))
            ax.plot([low, high], [row + offset] * 2, color=colour, linewidth=1.5)
            ax.plot(mean, row + offset, marker, color=colour, markersize=5, label=name if row == 0 else None)
    ax.axvline(0, color="#777777", linewidth=0.8)
    ax.set(xlabel="points above CLIP, 95 % interval", title=LABEL[split], yticks=range(len(names)), yticklabels=names)
    ax.grid(axis="y", visible=False)
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
plt.show()

# %% [markdown]
# ### What happens to the groups, and to the gap
#
# The diagnostics over training, as means of five seeds, on the split by lot, of pictures that are trained on. AMI of image groups with the truth, and of image groups with caption groups; and the gap behind the heads, with and without back translation.


# %%
def course_of(split, arm, key):
    """Steps, and the mean over seeds of what was looked at."""
    curves = np.array([result["curve"][key] for result in study[split][arm]])  # (seeds, looks, 2)
    return curves[0, :, 0], curves[:, :, 1].mean(axis=0)


figure, axes = plt.subplots(1, 3, figsize=(8, 3))
DRAWN = {
    "CLIP": (plot.BLACK, "-"),
    "ProtoCLIP x4": (plot.BLUE, "-"),
    "no back translation": (plot.ORANGE, "--"),
    "groups by lot": (plot.PINK, ":"),
    "teacher x4": (plot.RED, "-"),
}
for arm, (colour, style) in DRAWN.items():
    for ax, key in zip(axes, ("AMI images, truth", "AMI images, texts", "gap")):
        space = "embedding" if ax is not axes[2] or arm == "CLIP" else "projected"
        if ax is axes[2] and arm == "CLIP":
            continue
        ax.plot(*course_of("random", arm, f"{key}, {space}"), style, color=colour, label=arm)
for ax, title in zip(axes, ("image groups, true subgroups", "image groups, caption groups", "gap behind the heads")):
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("step")
axes[0].set_ylabel("AMI, in the embedding")
axes[2].set(ylabel="distance of the means", ylim=(0, None))
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8)
plt.show()
for arm in ("ProtoCLIP x4", "no back translation"):
    _, gaps = course_of("random", arm, "gap, projected")
    print(f"{arm:20} gap behind the heads {gaps[0]:.2f} -> {gaps[-1]:.2f}")

# %% [markdown]
# Left and middle are the effect that the paper describes, on pictures that were trained on: groups of images come closer to Unicode's, and image groups and caption groups closer to each other, in the very embedding that CLIP uses. The teacher adds most. Groups by lot add nothing.
#
# Right: behind the heads the gap rises steeply at first, in every arm. Without back translation it then falls back to about where it began: an image is compared with the captions' centres, which ties the two clouds together. With back translation nothing ties them, and it falls less. It ends highest of all for groups by lot. There the prototypes are nearly the same point, the mean of each side, and the quickest way to please the loss is to leave that point. This is "decoupling grouping from alignment", as a curve. In the scores of the table it makes no difference.
#
# ### Faster to CLIP's final score?
#
# The paper's claim on YFCC is about time: CLIP's result in a third of it. For each seed we take CLIP's zero-shot at the end and ask at which step, and after how many seconds, each arm reaches it for the first time. The first time of a curve that wobbles is early for everybody, CLIP included; so CLIP is in the table too.


# %%
def when(split, arm):
    """The step at which each seed first reaches the final score of CLIP with that seed; inf if it never does."""
    return [
        reach(mine["curve"]["zero-shot"], other["curve"]["zero-shot"][-1][1])
        for mine, other in zip(study[split][arm], study[split]["CLIP"])
    ]


cost = {name: histories[name, 0].seconds[-1] / histories["CLIP", 0].seconds[-1] for name in (*LIVE, "ProtoCLIP")}
print("seconds of training in the runs above, as multiples of CLIP's:", {n: round(c, 1) for n, c in cost.items()})
for split in SPLITS:
    print(LABEL[split])
    for arm in ("CLIP", "ProtoCLIP", "ProtoCLIP x4", "teacher x4"):
        steps = when(split, arm)
        in_time = f"median {np.median(steps):.0f}, that is {np.median(steps) * cost[arm]:.0f} of CLIP's steps in time"
        print(f"   {arm:14} first at step {', '.join(f'{step:.0f}' for step in steps)}; {in_time}")
steps, scores = course_of("random", "CLIP", "zero-shot")
climb = ", ".join(f"step {step:.0f}: {100 * score:.1f} %" for step, score in zip(steps[::4], scores[::4]))
print(f"CLIP's zero-shot by lot, mean of seeds: {climb}")

# %% [markdown]
# Zero-shot on held-out concepts climbs to the end, most of it early, and wobbles by a point or two on the way. So the first time that a curve touches CLIP's last value has some luck in it, and CLIP itself touches it before its end. By lot the arm with a teacher is sooner in every seed. But a step of it costs about twice the time: extraction and clustering cost what is saved.
#
# ## 3. Under a wide gap
#
# [Lesson 11](11_protoclip.ipynb) found in 4.4 that a constant offset is a temperature, and in 4.9 that back translation does not see where a space lies. Here both are put to the test on real pictures: one unit vector is added to every image embedding and subtracted from every caption embedding, before they are made unit, in both spaces. The maps before it can move against it, and they do: look at the gap under each table.

# %%
for split in SPLITS:
    table(split, ("apart, ProtoCLIP x4", "apart, no back translation"), base="apart, CLIP")
    for arm in ("apart, CLIP", "apart, ProtoCLIP x4", "apart, no back translation"):
        space = "embedding" if arm == "apart, CLIP" else "projected"
        print(f"   {arm:28} gap at the end {course_of(split, arm, f'gap, {space}')[1][-1]:.2f} ({space})")
    print()

# %% [markdown]
# Compare the first rows with those of section 2: by lot zero-shot seems to fall by several points. Before believing it, look at the *classifier*. A group's vector is the mean of its labels, made unit. With an offset all label vectors share a direction, and so do the means, more or less by their spread: a mean of labels that differ keeps more of the shared direction than of its own. That is a fault of the means, and can be taken out by subtracting the mean of all labels first. The models are those trained above.

# %%
def named(name, centre):
    """Zero-shot accuracy on held-out concepts for each seed, with the mean label subtracted or not."""
    out = []
    for seed in SEEDS:
        own = proto_study.Task("random", seed)
        x, concept = own.pictures(proto_study.SEEN, own.held)
        v = proto_study.see(models[name, seed], x).embedding
        t = proto_study.read(models[name, seed], own.labels[own.train]).embedding
        t = t - t.mean(dim=0) if centre else t
        group = own.group[own.train]
        w = torch.stack([F.normalize(t[group == g].mean(dim=0), dim=0) for g in group.unique()])  # (groups, D)
        out.append(100 * accuracy(v @ w.T, own.group[concept]))
    return np.array(out)


classifier = {(name, centre): named(name, centre) for name in ("CLIP", "apart, CLIP") for centre in (False, True)}
for (name, centre), found in classifier.items():
    print(f"{name:12} {'mean label subtracted' if centre else 'class means as they are':24}", found.round(1))

# %% [markdown]
# With the mean label taken out, most of the loss is gone. The offset does not spoil what CLIP has learned; it spoils a classifier made of plain means.
#
# Between back translation and none there is no difference that both splits share. For *one-hot* targets the equations predict it: a shift of the teacher drops out of the prototype loss with or without PBT (4.9). These arms have soft targets, which by (18) do feel a shift; at $\tau_y = 0.01$ they are nearly one-hot, so that little of it is left. What PBT protects from is a turn, a stretch, or a space of another dimension. The external teacher is that case, with 384 dimensions instead of 64; without PBT that arm cannot even be written down.
#
# ### Prototypes without pairs
#
# How much can groups do alone, with no InfoNCE at all?

# %%
for split in SPLITS:
    table(split, ("prototypes alone", "alone, no back translation"))

# %% [markdown]
# Without InfoNCE nothing ties an image to its own caption, and retrieval is gone. With PBT zero-shot is gone as well: each side groups within itself, and image groups and label means need not lie in the same place. Without PBT much of zero-shot survives, since comparing with the captions' centres *is* an alignment, group by group. And the linear probe, which needs no alignment, does not notice at all. Alignment and grouping are two things, and here they come apart.
#
# ## 4. Could this test bed have shown it?
#
# A claim that fails may fail because it is wrong, or because the test could not see it. Three controls. *Opaque captions:* every concept has one meaningless word, the same for all its artists, so that no caption shares a word with another. *An untrained tower:* EfficientNet with random weights. *Pixels:* a small ConvNet from scratch, three seeds.

# %%
CONTROLS = {
    "opaque, CLIP": ("opaque, ProtoCLIP x4", "opaque, teacher x4"),
    "untrained, CLIP": ("untrained, ProtoCLIP x4",),
    "pixels, CLIP": ("pixels, ProtoCLIP x4", "pixels, teacher x4"),
}
READ = {"probe, held, seen": "linear probe", "zero-shot, held, seen": "zero-shot", "R@1, held, seen": "R@1, held out"}
RAW = {"pixels": "random ConvNet", "untrained": "random EfficientNet", "trained": "EfficientNet as it is"}
for split in SPLITS:
    anchors = study[split]["anchors"]
    print(LABEL[split], "- linear probe of the 9 groups, and zero-shot:")
    print(f"   {'majority':28}{100 * np.mean([a['majority'] for a in anchors]):6.1f}")
    for name, title in RAW.items():
        print(f"   {title:28}{100 * np.mean([a[name]['held, seen'] for a in anchors]):6.1f}")
    print(f"   {'MiniLM, on the labels':28}{100 * np.mean([a['MiniLM']['held'] for a in anchors]):6.1f}")
    for arm in ("CLIP", *CONTROLS):
        if arm in study[split]:
            both = (100 * np.mean(values(split, arm, key)) for key in ("probe, held, seen", "zero-shot, held, seen"))
            print("   {:28}{:6.1f}{:12.1f}".format(arm, *both))
    print()
    for base, arms in CONTROLS.items():
        if base in study[split]:
            table(split, arms, base, READ)
            print()

# %% [markdown]
# The answer is uncomfortable. By families, *opaque* captions give the same probe and the same zero-shot as real ones, and so do the raw features; even a random ConvNet has the probe. Whatever these numbers measure there, it is not what captions mean. That four artists draw one concept is enough. By lot, real captions are ahead of opaque ones, by four points of zero-shot, and the raw features already have the trained model's probe. A gain of 5.8 points in the probe would have shown against intervals of two or three; but nothing that was trained here moved that probe at all. With a random EfficientNet there is nothing to group.
#
# Two beds do respond. From *pixels*, where the tower has everything to learn, prototypes gain about four points of zero-shot (three seeds; the interval just leaves out 0). And with *opaque captions* the teacher brings back the five points that the missing meaning had cost: it is the only one who has read the labels.
#
# So the linear-probe claim is *not testable* on this bed, and its row says so. Zero-shot by lot, and from pixels, can see a difference of three points.
#
# One more part of the paper has no bed here. Its figure 5 shows augmentations: on the *non-iconic* pictures of Conceptual Captions, where the thing that the caption names is one of many in the frame, a hard crop may lose it, and then the caption is wrong. The authors choose augmentations that keep more of the meaning. An emoji is iconic: one thing, filling the frame. What a crop would lose cannot be seen on it.
#
# ## 5. The paper's rows beside ours
#
# | Run (README of the released code) | batch | linear probe | zero-shot | 10 data sets | COCO recall |
# |---|---|---|---|---|---|
# | CLIP, 8 epochs | 64 | 38.95 | 12.29 | 15.30 | 26.20 |
# | ProtoCLIP | 64 | 44.55 | 14.50 | 20.48 | 28.26 |
# | CLIP, 32 epochs | 512 | 49.41 | 19.46 | 21.87 | 36.48 |
# | ProtoCLIP | 512 | 55.22 | 21.47 | 22.52 | 35.69 |
#
# Conceptual Captions 2.5M, ResNet-50; probe and zero-shot on ImageNet. The abstract's +5.81 and +2.01 are the last two rows. The ProtoCLIP page says that it is "also improving retrieval". The same rows show a rise at batch 64 and a *drop* at batch 512, where the mean recall on COCO falls by 0.79. How is it here?

# %%
OURS = {
    "probe, held, seen": "linear probe",
    "zero-shot, held, seen": "zero-shot",
    "R@1, held, seen": "R@1, held out",
    "R@10, held, seen": "R@10, held out",
}
print(f"{'ours, by lot, batch 256':26}" + "".join(f"{name:>16}" for name in OURS.values()))
for arm in ("CLIP", "ProtoCLIP", "ProtoCLIP x4", "teacher x4"):
    print(f"{arm:26}" + "".join(f"{100 * np.mean(values('random', arm, k)):16.2f}" for k in OURS))

# %% [markdown]
# Direction by direction: their probe rises, ours does not (and hardly could). Their zero-shot rises by two points; ours by half a point, within the noise, and by two with a teacher. Their retrieval rises at batch 64 and falls at 512; ours, at 256 and on held-out concepts, does neither. Absolute numbers of the two tables have nothing to do with each other, and we did not vary the batch.
#
# ## 6. Claims


# %%
def gains(arm, key, base="CLIP", split="random"):
    """Mean difference in points with its interval, as words; and the interval."""
    mean, low, high = (100 * d for d in compare(values(split, arm, key), values(split, base, key)))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]", low, high


def over_splits(arm, key, base="CLIP"):
    """The same on both splits: words, the lower and the upper ends."""
    rows = [gains(arm, key, base, split) for split in SPLITS]
    text = "; ".join(f"{words} ({split})" for split, (words, *_) in zip(SPLITS, rows))
    return text, [low for _, low, _ in rows], [high for *_, high in rows]


found, lows, _ = over_splits("ProtoCLIP", "probe, held, seen")
claim(
    "linear-probe",
    says="prototypes raise the linear probe (+5.81 on ImageNet)",
    source="ProtoCLIP, abstract",
    measured=f"weight 1: {found} points; weight 4: {over_splits('ProtoCLIP x4', 'probe, held, seen')[0]}",
    holds=True if min(lows) > 0 else UNTESTABLE,
    note="the features that are probed sit on a frozen network whose own probe is as good, and opaque captions give "
    "the same probe: this bed could not have shown a gain",
)
found, lows, _ = over_splits("ProtoCLIP", "zero-shot, held, seen")
claim(
    "zero-shot",
    says="prototypes raise zero-shot (+2.01 on ImageNet)",
    source="ProtoCLIP, abstract",
    measured=f"weight 1: {found} points; weight 4: {over_splits('ProtoCLIP x4', 'zero-shot, held, seen')[0]}",
    holds=min(lows) > 0,
    note="5 seeds, paired; 9 groups instead of 1000 classes",
)
found, lows, _ = over_splits("teacher x4", "zero-shot, held, seen")
claim(
    "teacher",
    says="an external language teacher adds knowledge through PBT",
    source="ProtoCLIP, section on unaligned spaces",
    measured=f"zero-shot with MiniLM, weight 4: {found} points; "
    f"weight 1: {over_splits('teacher', 'zero-shot, held, seen')[0]}",
    holds=min(lows) > 0,
    note="the teacher has read what the captions mean; nothing else here has",
)
at_1, lows_1, highs_1 = over_splits("ProtoCLIP", "R@1, held, seen")
at_10, lows_10, highs_10 = over_splits("ProtoCLIP", "R@10, held, seen")
trained_on = over_splits("ProtoCLIP", "R@1, train, seen")[0]
claim(
    "retrieval",
    says="prototypes also improve retrieval",
    source="the ProtoCLIP page, TL;DR",
    measured=f"held out, weight 1: R@1 {at_1} points; R@10 {at_10}; (R@1 of pictures trained on: {trained_on})",
    holds=min(*lows_1, *lows_10) > 0,
    note="holds if both intervals lie above 0 on both splits; the README has a rise at batch 64 and a drop at 512",
)
claim(
    "retrieval-drop",
    says="(in the README's rows, not in the abstract) retrieval falls at batch 512: 36.48 to 35.69",
    source="README of the released code",
    measured=f"held out, batch 256, weight 1: R@1 {at_1} points; weight 4: "
    f"{over_splits('ProtoCLIP x4', 'R@1, held, seen')[0]}",
    holds=max(highs_1) < 0,
    note="held-out concepts; on pictures that were trained on R@1 does fall, most at weight 4 (section 2)",
)


def groups_of(split, arm):
    """AMI of image groups with the true subgroups at the end, in the embedding, for each seed."""
    return [result["curve"]["AMI images, truth, embedding"][-1][1] for result in study[split][arm]]


grown = [compare(groups_of(split, "ProtoCLIP"), groups_of(split, "CLIP")) for split in SPLITS]
on_held = compare(held_ami["ProtoCLIP"], held_ami["CLIP"]) if len(SEEDS) > 1 else (0.0, 0.0, 0.0)
claim(
    "grouping",
    says="prototypes enhance the grouping that InfoNCE does by accident",
    source="ProtoCLIP, abstract and figure 2",
    measured="AMI of image groups with the true subgroups, weight 1, held-out pictures by lot, "
    f"{len(SEEDS)} seeds: {on_held[0]:+.3f} [{on_held[1]:+.3f}, {on_held[2]:+.3f}]; pictures trained on, 5 seeds: "
    + "; ".join(f"{m:+.3f} [{a:+.3f}, {b:+.3f}] ({split})" for split, (m, a, b) in zip(SPLITS, grown)),
    holds=on_held[1] > 0 and min(low for _, low, _ in grown) > 0,
    note="in the space that CLIP uses; holds if held-out pictures show it too; groups drawn by lot change nothing",
)
found, lows, _ = over_splits("ProtoCLIP x4", "zero-shot, held, seen", "no back translation")
claim(
    "back-translation",
    says="PBT learns better under a large modality gap",
    source="ProtoCLIP, abstract",
    measured="zero-shot, with less without PBT, in the widened gap: "
    + over_splits("apart, ProtoCLIP x4", "zero-shot, held, seen", "apart, no back translation")[0]
    + f"; in the natural one: {found}",
    holds=UNTESTABLE,
    note="a constant gap, which one-hot targets do not feel by (17) and (10), and targets at 0.01 hardly; "
    "lesson 11, 4.9 has a turn, which the loss without PBT does feel",
)
found, lows, _ = over_splits("ProtoCLIP x4", "zero-shot, held, seen", "one-hot targets")
claim(
    "soft-targets",
    says="soft targets carry relations between groups to the student",
    source="ProtoCLIP",
    measured=f"zero-shot, soft less one-hot: {found} points",
    holds=True if min(lows) > 0 else UNTESTABLE,
    note="at the recipe's temperature of 0.01 the soft targets are nearly one-hot (lesson 11, 4.8): there is nothing "
    "to tell apart",
)


def in_time(split):
    arms = ("CLIP", "ProtoCLIP", "teacher x4")
    return ", ".join(f"{arm} {np.median(when(split, arm)):.0f} x {cost[arm]:.1f}" for arm in arms)


claim(
    "faster",
    says="CLIP's result in a third of the time (YFCC-15M)",
    source="ProtoCLIP, abstract",
    measured="first step at CLIP's final zero-shot, median over 5 seeds, times the cost of a step: "
    + "; ".join(f"{LABEL[split]}: {in_time(split)}" for split in SPLITS),
    holds=all(
        np.median(when(split, "ProtoCLIP")) * cost["ProtoCLIP"] < np.median(when(split, "CLIP")) for split in SPLITS
    ),
    note="in steps the arm with a teacher is sooner by lot, in time it is not; runs of 400 steps",
)
claim(
    "augmentation",
    says="its augmentations keep more of the meaning of non-iconic pictures",
    source="the ProtoCLIP page, figure 5",
    measured="every picture here shows one thing that fills the frame",
    holds=UNTESTABLE,
    note="needs pictures in which the named thing is one of many",
)
opaque = [
    np.mean(values(split, "opaque, CLIP", "probe, held, seen")) - np.mean(values(split, "CLIP", "probe, held, seen"))
    for split in SPLITS
]
claim(
    "test-bed",
    says="(control) the linear probe depends on what captions mean",
    source="opaque captions, ours",
    measured="probe with one meaningless word a concept, less with captions: "
    + "; ".join(f"{100 * d:+.1f} ({split})" for split, d in zip(SPLITS, opaque))
    + " points",
    holds=max(opaque) < -0.05,
    note="where it does not, the probe could not have shown better use of captions",
)

# %% [markdown]
# ## 7. What goes wrong, and further reading
#
# - *Everything improves but retrieval:* that is the trade-off, where there is one. Lower the weight, or use the projected space for groups and the embedding for pairs, as here. And look which pictures the score is of.
# - *The gain does not survive a control:* draw the groups by lot, and make the captions opaque. What remains is yours.
# - *A classifier made of means falls behind:* subtract the mean of all labels before you blame the model.
#
# **Further reading.** Liang et al. 2022, *Mind the Gap*, on the modality gap; Caron et al. 2020 (SwAV).
#
# **Exercises:** [those of lesson 11](../exercises/11_protoclip.ipynb); 11.6 to 11.8 belong to this sitting.
