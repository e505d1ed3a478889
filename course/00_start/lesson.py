# %% [markdown]
# # 00 · Start here
#
# A child hears "dog" and sees the dog, a few hundred times, and then recognises dogs nobody has named. Nobody gave the child a list of classes. Which signal was enough?
#
# This course is about one answer: *compare*. Pull together what belongs together, push apart what does not, and what is left is a representation that knows what things have in common. You derive the method, write it yourself, train it on the machine in front of you, and find out where it fails.

# %%
from minilip.course import *

device = setup("00_start")

# %% [markdown]
# If the line above shows a version and a device, you are set up. A GPU is welcome and never needed.
#
# ## A world where every answer is known
#
# Below are eight *scenes*: pictures drawn by a program, each with a sentence that describes it. Look at the first one and cover its sentence. What would you have to know to write it?

# %%
import torch

from minilip.course import plot
from minilip.data.scenes import Scenes

world = Scenes(size=64)
latents = world.sample(8, torch.Generator().manual_seed(3))
pictures = world.render(latents)
figure = plot.images(pictures, world.caption(latents, detail=3), columns=4)

# %% [markdown]
# Size, colour and shape: the program chose them before it drew anything, and so it can tell us. These hidden choices are called *latents*. In a photograph they are unknown; here we can ask a model what it has understood, and check.
#
# Sentences say as much as we let them. This is the first scene, described in six ways, from vague to exact:

# %%
for detail in range(6):
    print(world.caption(latents[:1], detail=detail)[0])

# %% [markdown]
# Now the other way round. Each row below has eight pictures that fit one sentence. Read from top to bottom: what do the eight still share, and what is left open?

# %%
many = world.sample(6000, torch.Generator().manual_seed(4))
rows = []
for detail in (1, 2, 4):
    sentences = world.caption(many, detail=detail)
    wanted = world.caption(latents[:1], detail=detail)[0]
    rows += [(k, wanted) for k, sentence in enumerate(sentences) if sentence == wanted][:8]
shown = many[torch.tensor([k for k, _ in rows])]
under = [sentence if i % 8 == 0 else "" for i, (_, sentence) in enumerate(rows)]
under = [text.replace(" at ", "\nat ") for text in under]
figure = plot.images(world.render(shown), under, columns=8)

# %% [markdown]
# The vague sentences fit many pictures, the exact one fits few. That one picture has many true sentences, and one sentence many pictures, is the difficulty behind half of this course.
#
# Scenes are endless and free, so that you never wait for a download. Where it matters we switch to real pictures: emoji, each drawn by four artists. A row below is one artist, a column one thing.

# %%
from minilip.data.emoji import EmojiPairs

emoji = EmojiPairs()
names = ["fox", "guitar", "hamburger", "sailboat", "cactus", "rocket", "umbrella", "bicycle"]
drawn = torch.stack([emoji.images[emoji.row(name, artist)] for artist in emoji.artists for name in names])
figure = plot.images(drawn.float() / 255, [*[""] * 24, *names], columns=8)
print(*(emoji.credits[artist] for artist in emoji.artists), sep="\n")

# %% [markdown]
# The four of a column differ in outline and shading, and you give them one name. What they share is called *content*, what belongs to the artist *style*. To tell the two apart without being told either is what many of the lessons are about.
#
# ## How a lesson works
#
# 1. **A lesson** (`notebooks/`) asks a question, derives the answer, and trains a small model. Under every equation a cell computes both of its sides. Run the cells in order, change a number, run them again; nothing breaks.
# 2. **Its exercises** (`exercises/`) have the same number. You fill in a cell and run it. `check` says PASS, or names the mistake it recognises. The notebook goes on either way.
# 3. **Stuck?** Remove the `#` before `hint(...)` and run the cell: a nudge first, then more. `solutions/` has one way to do it.
# 4. **How far am I?** `progress()` lists every exercise. It remembers what you solved after you close the notebook.
#
# ## What the course is built from
#
# Beside the papers, which each lesson names, four documents. The lessons teach all that they contain, and say where one of them slipped.
#
# | called | what it is | lessons |
# | --- | --- | --- |
# | *the slides* | Diane Bouchacourt's lecture at a summer school on probabilistic AI, "Representation learning with SSL models (with a probabilistic view)" | 01 to 07, 09, 10 |
# | *the report* | Taehun Kim's summary of two papers, "CLIP and Linearly Mapping pre-report" (Pusan National University) | 07, 08 |
# | *the ProtoCLIP page* | abstract, short summary and figures of Chen et al. 2022 | 11 |
# | *the summary* | a short text on ProLIP written by a language model, which explains some parts otherwise than the paper does | 12 |
#
# *The sources* means these four, or those of them that a lesson is about.
#
# ## The map
#
# <!-- map -->
# <!-- /map -->
#
# Each lesson says which ones it builds on. If you are new to contrastive learning, begin with the lowest number.
