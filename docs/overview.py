"""Draw docs/overview.png, the figure of the README: `python docs/overview.py` (half a minute)."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from minilip.clip import CLIP, zero_shot_classifier
from minilip.course import plot
from minilip.data.scenes import COLOURS, SHAPES, SIZES, Scenes
from minilip.evaluation import accuracy, encode
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import Tokenizer
from minilip.training import fit

torch.manual_seed(0)
plot.style()
world = Scenes(32)
names = [f"{size} {colour} {shape}" for shape in SHAPES for colour in COLOURS for size in SIZES]
tokenizer = Tokenizer([f"a {name}" for name in names])
test = world.sample(1000, torch.Generator().manual_seed(5))
pictures, labels = world.render(test), (test.shape * 16 + test.colour * 2 + test.size)[:, 0]


def batches(generator):
    latents = world.sample(256, generator)
    return world.render(latents), tokenizer(world.caption(latents))


def watch(model):
    return accuracy(encode(model.encode_image, pictures) @ zero_shot_classifier(model, names).T, labels)


model = CLIP(ConvNet(32), BagOfWords(len(tokenizer), 64), tokenizer)
history = fit(model, batches, 500, lr=3e-3, watch=watch, every=25, label="overview")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), width_ratios=[1.15, 1])
chosen = [0, 15, 18, 33, 36, 46]
rows = torch.stack([(labels == c).nonzero()[0, 0] for c in chosen])
cosine = encode(model.encode_image, pictures[rows]) @ zero_shot_classifier(model, [names[c] for c in chosen]).T
shown = left.imshow(cosine, aspect="auto")
left.grid(False)
left.set(title="cosine of picture and sentence", yticks=[])
left.set_xticks(range(6), [names[c] for c in chosen], fontsize=8, rotation=35, ha="right", rotation_mode="anchor")
for i, row in enumerate(rows):
    inset = left.inset_axes([-0.17, 1 - (i + 0.96) / 6, 0.15, 0.92 / 6])
    inset.imshow(pictures[row].permute(1, 2, 0).numpy())
    inset.axis("off")
figure.colorbar(shown, ax=left, shrink=0.85)
right.plot([step for step, *_ in history.watched], [a for *_, a in history.watched], marker="o", markersize=3)
plot.line(right, 1 / 48, "chance")
right.set(xlabel="training step", ylabel="accuracy", ylim=(0, 1.02), title="48 classes, not one label: zero-shot")
figure.savefig(Path(__file__).with_suffix(".png"))
