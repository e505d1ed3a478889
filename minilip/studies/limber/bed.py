"""What lesson 08's scenes are made of: texts without pictures, a language model of them, and five eyes.

Letters: B pictures, K features of a picture, D_I width of a feature, L tokens.

The language model reads texts of up to four sentences about one scene, so that it has a use for what was said before:
soft prompts stand where such a sentence would. It sees no picture. The eyes are one ConvNet, trained on as many
pictures each by CLIP (sentences), by the names of shapes (a category), by SimCLR (no word at all) or not at all; the
fifth is the picture itself in patches. Their features are standardised, which a linear map could do by itself.

Source: Merullo et al. 2023 (arXiv 2209.15162), section 3 for the four degrees of linguistic supervision; test bed,
sizes and the control by pixels are ours. Lesson 08.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minilip import _check
from minilip.clip import CLIP
from minilip.data.scenes import COLOURS, SHAPES, SIZES, Latents, Scenes
from minilip.evaluation import encode
from minilip.limber import FeatureMap, freeze
from minilip.nn import BagOfWords, ConvNet, Tokenizer
from minilip.nn.augment import simclr_view
from minilip.nn.language import LanguageModel
from minilip.nn.tokenizer import PAD
from minilip.simclr import SimCLR
from minilip.training import fit

EYES = ("CLIP", "supervised", "SimCLR", "random", "pixels")
ATTRIBUTES = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}
CAPTION = "a {size} {colour} {shape}"
SENTENCES = (CAPTION, "it is {size} and {colour}", *(f"what {name} is it {{{name}}}" for name in ATTRIBUTES))
SHARES = (0.4, 0.15, 0.15, 0.15, 0.15)  # of the sentences in a text
SAID = 4  # the most sentences in a text
WORDS = [[kind.format(size=s, colour=c, shape=h) for s in SIZES for c in COLOURS for h in SHAPES] for kind in SENTENCES]
TOKENIZER = Tokenizer([sentence for kind in WORDS for sentence in kind])
END = len(TOKENIZER)  # behind the vocabulary
LENGTH = 32  # 16 soft prompts and a sentence
WIDTH, DIM, PROMPTS = 16, 64, 4  # of the ConvNet, D_L, soft prompts of a pooled feature
TEXTS, LANGUAGE_STEPS = 96, 400
BATCH, EYE_STEPS = 128, 500
WORLD = Scenes(size=32)


# ---- words -----------------------------------------------------------------------------------------------------------


def code(latents: Latents) -> Tensor:
    """Which of the 48 sentences of a kind is true of each scene. -> (B,)"""
    size, colour, shape = (getattr(latents, name)[:, 0] for name in ATTRIBUTES)
    return (size * len(COLOURS) + colour) * len(SHAPES) + shape


def tokens_of(latents: Latents, kind: int = 0) -> Tensor:
    """A sentence about each scene, ended. -> (B, L)"""
    return _table(kind)[code(latents).cpu()].to(latents.shape.device)


def _table(kind: int) -> Tensor:
    rows = TOKENIZER(WORDS[kind])  # (48, L), all of one length but for padding
    rows = rows[:, : int((rows != PAD).sum(dim=1).max())]
    return F.pad(rows, (0, 1), value=END)  # (48, L + 1)


TABLES = [_table(kind) for kind in range(len(SENTENCES))]


def texts(generator: torch.Generator, count: int = TEXTS) -> Tensor:
    """Texts of 1 to SAID sentences, each text about one scene that nobody draws. -> (B, L)"""
    device = generator.device
    scene = torch.randint(len(WORDS[0]), (count,), generator=generator, device=device).tolist()
    many = torch.randint(1, SAID + 1, (count,), generator=generator, device=device).tolist()
    share = torch.tensor(SHARES, device=device)
    kinds = torch.multinomial(share, count * SAID, True, generator=generator).view(count, SAID).tolist()
    rows = [
        [END, *(word for kind in of[:m] for word in TABLES[kind][s].tolist())]
        for s, m, of in zip(scene, many, kinds, strict=True)
    ]
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], device=device)


def train_language(seed: int, device: torch.device, steps: int = LANGUAGE_STEPS, label: str = "read") -> LanguageModel:
    """A language model of texts alone, frozen."""
    torch.manual_seed(seed)
    model = LanguageModel(END + 1, LENGTH, DIM).to(device)
    fit(model, texts, steps, lr=3e-3, seed=seed, label=label)
    return freeze(model)


# ---- eyes ------------------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """A tower that learns the names of the shapes, as numbers, and nothing else."""

    def __init__(self, tower: ConvNet):
        super().__init__()
        self.tower, self.head = tower, nn.Linear(tower.dim, len(SHAPES))

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        return F.cross_entropy(self.head(self.tower(batch[0])), batch[1]), {}


class Patches(nn.Module):
    """The picture itself, in squares of 8 pixels: what any eye has to beat. (B, 3, H, W) -> (B, H W / 64, 192)"""

    dim = 192

    def forward(self, images: Tensor) -> Tensor:
        return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=8, q=8)


class Eye(nn.Module):
    """A frozen eye whose features have mean 0 and standard deviation 1 on some pictures.

    Args:
        see: pictures -> (B, K, D_I) or (B, D_I), with `.dim`.
        pictures: on which mean and deviation are measured.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, see: nn.Module, pictures: Tensor):
        super().__init__()
        self.see, self.dim = freeze(see), int(see.dim)  # type: ignore[arg-type]
        h = encode(see, pictures).flatten(0, -2)  # (B K, D_I)
        self.register_buffer("mean", h.mean(dim=0))
        self.register_buffer("deviation", h.std(dim=0) + 1e-3)

    def forward(self, images: Tensor) -> Tensor:
        return (self.see(images) - self.mean) / self.deviation


def scenes(generator: torch.Generator, count: int = BATCH) -> tuple[Tensor, Latents]:
    latents = WORLD.sample(count, generator)
    return WORLD.render(latents), latents


def train_eye(name: str, seed: int, device: torch.device, steps: int = EYE_STEPS) -> nn.Module:
    """The ConvNet of an eye, or the patches, frozen."""
    _check.choice("name", name, EYES)
    torch.manual_seed(seed)
    options: dict[str, Any] = {"lr": 3e-3, "seed": seed, "label": f"train the eye: {name}"}
    tower = ConvNet(WIDTH)
    if name == "pixels":
        return Patches()
    if name == "CLIP":
        words = Tokenizer(WORDS[0])
        model: nn.Module = CLIP(tower, BagOfWords(len(words), DIM), words).to(device)

        def pairs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            images, latents = scenes(generator)
            return images, words(WORLD.caption(latents), device)

        fit(model, pairs, steps, **options)
    elif name == "supervised":

        def labelled(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            images, latents = scenes(generator)
            return images, latents.shape[:, 0]

        fit(Classifier(tower).to(device), labelled, steps, **options)
    elif name == "SimCLR":

        def views(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            images, _ = scenes(generator)
            return simclr_view(images, generator), simclr_view(images, generator)

        fit(SimCLR(tower).to(device), views, steps, **options)
    else:  # random: its batch normalisations have at least seen pictures
        tower.to(device).train()
        generator = torch.Generator(device).manual_seed(seed)
        with torch.no_grad():
            for _ in range(40):
                tower(scenes(generator)[0])
    return freeze(tower)


def standardised(tower: nn.Module, pooled: bool, device: torch.device) -> Eye:
    """A tower as an eye: its feature map, or the mean over it."""
    pictures = scenes(torch.Generator(device).manual_seed(1000), 1000)[0]
    if isinstance(tower, ConvNet):
        return Eye(tower if pooled else FeatureMap(tower), pictures).to(device)
    return Eye(Pooled(tower) if pooled else tower, pictures).to(device)


class Pooled(nn.Module):
    """The mean over a map of features. (B, K, D_I) -> (B, D_I)"""

    def __init__(self, see: nn.Module):
        super().__init__()
        self.see, self.dim = see, see.dim

    def forward(self, images: Tensor) -> Tensor:
        return self.see(images).mean(dim=1)
