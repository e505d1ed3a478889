"""Every public function and class of minilip with valid arguments: what tests of the whole surface go through.

A new function is added to `cases`; a test fails until it is. Tests then give it wrong arguments, other devices, other
numbers of threads and numbers at the edges of their range without another line.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minilip

# Not part of the surface of this table, and why.
ELSEWHERE = {
    "minilip.course": "what notebooks import; has tests of its own",
    "minilip.studies": "stored measurements; have tests of their own",
    "minilip.training": "takes models and functions; test_train.py",
    "minilip.nn.modes": "takes a model; test_clip_loss.py",
    "minilip.data.drawing": "takes latents and functions of them; test_scenes.py",
    "minilip.data.home": "takes nothing; test_home.py",
    "minilip.data.NoHome": "an error",
    "minilip.data.locks": "takes a path; test_fetch.py",
    "minilip.data.archives": "takes paths and packages; test_speech.py",
    "minilip.data.speech": "takes paths and bytes; test_speech.py",
    "minilip.data.cache": "takes a path and a function; test_cache.py",
    "minilip.data.fetch": "takes paths and packages; test_fetch.py",
    "minilip.data.concepts": "takes paths and tables; test_emoji.py",
    "minilip.data.emoji": "takes strings and paths; test_emoji.py",
    "minilip.data.poses": "takes names and paths; test_poses.py",
    "minilip.data.pretrained": "takes paths; test_pretrained.py",
    "minilip.data.sugarcrepe": "takes paths and bytes; test_sugarcrepe.py",
    "minilip.data.transfer": "takes names and paths; test_transfer.py",
}


@dataclass
class Case:
    call: Callable[..., Any]
    given: dict[str, Any]
    free: tuple[str, ...] = ()  # arguments that may be anything: functions, modules, of any type

    def __call__(self, **changes: Any) -> Any:
        return self.call(**{**self.given, **changes})


def modules() -> list[Any]:
    names = [m.name for m in pkgutil.walk_packages(minilip.__path__, "minilip.")]
    kept = [n for n in names if not any(n == e or n.startswith(f"{e}.") for e in ELSEWHERE)]
    return [importlib.import_module(n) for n in kept if not any(part.startswith("_") for part in n.split("."))]


def public() -> dict[str, Any]:
    """Functions and classes by the name of the module that defines them, and public methods that take arguments."""
    found: dict[str, Any] = {}
    for module in modules():
        for name, thing in vars(module).items():
            if (
                name.startswith("_")
                or f"{module.__name__}.{name}" in ELSEWHERE
                or getattr(thing, "__module__", None) != module.__name__
            ):
                continue
            if inspect.isfunction(thing):
                found[name] = thing
            elif inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
                found[name] = thing
                for method, f in vars(thing).items():
                    if (
                        not method.startswith("_")
                        and inspect.isfunction(f)
                        and len(inspect.signature(f).parameters) > 1
                    ):
                        found[f"{name}.{method}"] = f
    return found


SENTENCES = ["a red circle", "a blue square", "a green star", "a white circle"]
B, D, K = 4, 6, 3  # batch, dimension, groups


def cases(device: str = "cpu", generator: Callable[[], Any] | None = None) -> dict[str, Case]:
    """Valid arguments on a device. Sizes are as small as they can be; all tensors are new."""
    from minilip import (
        blip,
        clip,
        compositionality,
        cpc,
        evaluation,
        hypersphere,
        infonce,
        lie,
        limber,
        mae,
        prolip,
        protoclip,
        simclr,
        tiled,
        vicreg,
    )
    from minilip.data import gaussians, motion, reading, scenes
    from minilip.data import latents as latent
    from minilip.nn import (
        BagOfWords,
        ConvNet,
        ResNet,
        TextTransformer,
        ViT,
        adjust,
        augment,
        gather,
        generation,
        language,
        ngrams,
        sequence,
        sound,
        text,
        tokenizer,
        transformer,
        vectors,
        vision,
    )
    from minilip.prolip import model
    from minilip.protoclip import clustering

    source = torch.Generator().manual_seed(0)
    make = generator or (lambda: torch.Generator(device).manual_seed(0))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source).to(device)

    def whole(high: int, *shape: int) -> Tensor:
        return (torch.arange(max(1, torch.Size(shape).numel())).reshape(shape) % high).to(device)

    def unit(*shape: int) -> Tensor:
        return F.normalize(normal(*shape), dim=-1)

    def gauss(n: int = B, side: str = "") -> dict[str, Tensor]:
        return {f"mu{side}": unit(n, D), f"logvar{side}": normal(n, D) - 3}

    def two() -> dict[str, Tensor]:
        return {**gauss(side="1"), **gauss(side="2")}

    def images(b: int = B, size: int = 16) -> Tensor:
        return torch.rand(b, 3, size, size, generator=source).to(device)

    def amount(value: float = 0.4) -> Tensor:
        return torch.full((B,), value).to(device)

    tokens = tokenizer.Tokenizer(SENTENCES, length=5)
    pictures, sentences = images(), tokens(SENTENCES).to(device)

    def towers() -> dict[str, Any]:
        return {
            "image_tower": ConvNet(4).to(device),
            "text_tower": BagOfWords(len(tokens), 8).to(device),
            "tokenizer": tokens,
        }

    def on(module: nn.Module) -> Any:
        return module.to(device)

    pair = on(clip.CLIP(**towers(), dim=D))
    group = on(protoclip.ProtoCLIP(**towers(), dim=D, k=K, projected=5, hidden=7))
    spread = on(prolip.ProLIP(**towers(), dim=D, batch=B))
    sees = on(blip.BLIP(tokens, 16, dim=8, depth=1, heads=2, embedding=D, queue=6))
    asked = {"images": pictures, "tokens": sentences}
    looked = [(k.detach(), v.detach()) for k, v in sees.reader.look(sees.eye(pictures))]

    def write(images: Any, top_p: Any, generator: Any) -> Any:
        return tokens([caption or "a" for caption in sees.caption(images, top_p, generator)])

    masked = on(mae.MAE(16, 4, 16, 1, 2, 8, 1))
    views = on(simclr.SimCLR(ConvNet(4), D))
    sphere = on(hypersphere.Hypersphere(ConvNet(4), D))
    styled = on(simclr.StructuredSimCLR(ConvNet(4), 1, D))
    three = on(vicreg.VICReg(ConvNet(4), D))
    writes = on(language.LanguageModel(12, 10, 8, 1, 2))
    describes = on(
        limber.LimBeR(
            limber.FeatureMap(ConvNet(4)), limber.LinearPrompt(16, 8), language.LanguageModel(12, 12, 8, 1), 9
        )
    )
    hears = on(cpc.CPC(sequence.SpectrumEncoder(8, 6, D), 5, 2))
    looks = on(cpc.PatchCPC(ConvNet(2), 8, 4, 5, 1))
    spectrum = normal(B, 12, 8)
    operator = on(lie.LieOperator(D, 1, 8))
    world = scenes.Scenes(16, 1, 0.5, 0.5, noise=0.1)
    normals = gaussians.Gaussians(D, 0.5)
    cinema = motion.MovingScenes(8, 4)
    times = torch.linspace(-1, 1, 5)[:, None].to(device)
    y = whole(2, 8)
    features = {"x": normal(8, D), "y": y, "x_test": normal(4, D), "y_test": whole(2, 4)}
    read = {"x": normal(12, D), "y": normal(12, 2), "x_test": normal(5, D), "y_test": normal(5, 2)}
    noise = torch.rand(B, 16, generator=source).to(device)
    patches = normal(B, 16, 48)
    mask = (whole(16, B, 16) % 4 > 0).float()

    def latents() -> Any:
        drawn = scenes.Scenes(16, 1, 0.5, 0.5).sample(B, torch.Generator().manual_seed(0))
        return latent.Latents(**{f: getattr(drawn, f).to(device) for f in latent.Latents.__dataclass_fields__})

    drawn = latents()

    def pair_latents() -> Any:
        shown = scenes.Scenes(16, 2).sample(8, torch.Generator().manual_seed(0))
        return latent.Latents(**{f: getattr(shown, f).to(device) for f in latent.Latents.__dataclass_fields__})

    two_objects = pair_latents()
    probe = compositionality.Probe(whole(B, 2), SENTENCES[:2], [SENTENCES[2:3], SENTENCES[3:]])
    negative = on(compositionality.NegCLIP(**towers(), dim=D))

    def films() -> Any:
        shown = cinema.sample(2, torch.Generator().manual_seed(0))
        return motion.Films(**{f: getattr(shown, f).to(device) for f in motion.Films.__dataclass_fields__})

    def episodes() -> Any:
        return protoclip.Episodes(group, lambda i, g: (pictures[i % B], sentences[i % B]), 8, size=4, batch=2, warmup=0)

    def draw(generator: Any) -> Any:
        return episodes()(generator)

    def find(generator: Any) -> Any:
        group.episode([(pictures, sentences)], generator)
        return [group.groups[name] for name in ("labels", "centroids", "prototypes")]

    ab = {"queries": unit(B, D), "keys": unit(B, D), "temperature": 0.3}
    vt = {"image": unit(B, D), "text": unit(B, D), "logit_scale": 3.0}
    zz = {"z1": unit(B, D), "z2": unit(B, D), "temperature": 0.3}
    xy = {"x": normal(B, D), "y": normal(B, D)}
    one = {"images": images()}
    drawing = {"images": images(), "generator": make()}
    C = Case
    return {
        # losses and their parts
        "info_nce": C(infonce.info_nce, ab),
        "info_nce_negatives": C(
            infonce.info_nce_negatives,
            {"query": unit(B, D), "positive": unit(B, D), "negatives": unit(5, D), "temperature": 0.3},
        ),
        "mi_lower_bound": C(infonce.mi_lower_bound, {"loss": 1.0, "candidates": 4}),
        "info_nce_tiled": C(tiled.info_nce_tiled, {**ab, "tile": 2}),
        "symmetric_info_nce_tiled": C(
            tiled.symmetric_info_nce_tiled, {"a": unit(B, D), "b": unit(B, D), "scale": 3.0, "tile": 2}
        ),
        "nt_xent_tiled": C(tiled.nt_xent_tiled, {"z": unit(2 * B, D), "scale": 3.0, "tile": 3}),
        "clip_loss": C(clip.clip_loss, {**vt, "tile": 2}),
        "siglip_loss": C(clip.siglip_loss, {**vt, "logit_bias": -1.0}),
        "pairwise_sigmoid": C(clip.pairwise_sigmoid, {"logits": normal(B, B)}),
        "nt_xent": C(simclr.nt_xent, {**zz, "tile": 3}),
        "alignment": C(hypersphere.alignment, {**xy, "alpha": 1.5}),
        "uniformity": C(hypersphere.uniformity, {"x": unit(B, D), "t": 2.0}),
        "uniformity_floor": C(hypersphere.uniformity_floor, {"dim": 3, "t": 2.0}),
        "align_uniform_loss": C(
            hypersphere.align_uniform_loss, {**xy, "align": 1.0, "uniform": 1.0, "alpha": 2.0, "t": 2.0}
        ),
        "vicreg_terms": C(vicreg.vicreg_terms, xy),
        "vicreg_loss": C(vicreg.vicreg_loss, {**xy, "invariance": 25.0, "variance": 25.0, "covariance": 1.0}),
        "mae_loss": C(mae.mae_loss, {"prediction": patches, "patches": normal(B, 16, 48), "mask": mask}),
        "patchify": C(mae.patchify, {"images": images(), "patch": 4}),
        "unpatchify": C(mae.unpatchify, {"patches": patches, "patch": 4}),
        "random_masking": C(mae.random_masking, {"noise": noise, "keep": 4}),
        "sincos_positions": C(mae.sincos_positions, {"grid": 3, "dim": 8}),
        "exp_action": C(lie.exp_action, {"basis": 0.1 * normal(2, D, D), "t": normal(B, 2), "z": normal(B, D)}),
        "lie_loss": C(
            lie.lie_loss, {"operator": operator, "z": unit(B, D), "z_g": unit(B, D), "temperature": 0.2}, ("operator",)
        ),
        "orbit": C(lie.orbit, {"operator": operator, "z": unit(B, D), "times": times}, ("operator",)),
        "search": C(
            lie.search,
            {"operator": operator, "z": unit(B, D), "z_g": unit(B, D), "times": times, "steps": 2},
            ("operator",),
        ),
        "spectrum": C(lie.spectrum, {"operator": operator, "z": unit(B, D)}, ("operator",)),
        "LieOperator": C(lie.LieOperator, {"dim": 4, "generators": 1, "hidden": 8, "scale": 0.02}),
        "LieOperator.infer": C(operator.infer, {"z": unit(B, D), "z_g": unit(B, D)}),
        "LieOperator.group": C(operator.group, {"t": times}),
        "LieOperator.forward": C(operator, {"z": unit(B, D), "t": normal(B, 1)}),
        # CPC
        "cpc_loss": C(
            cpc.cpc_loss,
            {
                "z": normal(B, 5, D),
                "c": normal(B, 5, 3),
                "predictors": [on(nn.Linear(3, D)) for _ in range(2)],
                "candidates": "all",
            },
        ),
        "CPC": C(cpc.CPC, {"encoder": hears.encoder, "context": 4, "ahead": 2, "candidates": "batch"}, ("encoder",)),
        "CPC.encode": C(hears.encode, {"x": spectrum}),
        "CPC.forward": C(hears, {"x": spectrum}),
        "CPC.loss": C(hears.loss, {"batch": spectrum}, ("batch",)),
        "overlapping_patches": C(cpc.overlapping_patches, {"images": images(), "patch": 8, "stride": 4}),
        "PatchCPC": C(
            cpc.PatchCPC, {"tower": ConvNet(2), "patch": 8, "stride": 4, "context": 4, "ahead": 1}, ("tower",)
        ),
        "PatchCPC.encode": C(looks.encode, {"images": pictures}),
        "PatchCPC.context": C(looks.context, {"z": normal(B, 3, 3, looks.dim)}),
        "PatchCPC.forward": C(looks, {"images": pictures}),
        "PatchCPC.loss": C(looks.loss, {"images": pictures}),
        # ProtoCLIP
        "kmeans": C(clustering.kmeans, {"x": normal(12, D), "k": K, "generator": make(), "iterations": 3}),
        "group_means": C(clustering.group_means, {"x": normal(8, D), "labels": whole(K, 8), "k": K}),
        "back_translate": C(protoclip.back_translate, {"features": normal(8, D), "labels": whole(K, 8), "k": K}),
        "soft_targets": C(protoclip.soft_targets, {"centroids": unit(K, D), "labels": whole(K, B), "temperature": 0.1}),
        "prototype_loss": C(
            protoclip.prototype_loss,
            {"features": unit(B, D), "prototypes": unit(K, D), "targets": whole(K, B), "logit_scale": 3.0},
        ),
        "ProtoCLIP": C(
            protoclip.ProtoCLIP,
            {**towers(), "dim": 4, "k": 2, "projected": 4, "hidden": 4, "weight": 1.0, "external": 1.0},
            ("image_tower", "text_tower", "tokenizer"),
        ),
        "ProtoCLIP.project": C(group.project, {"images": pictures, "tokens": sentences}),
        "ProtoCLIP.episode": C(find, {"generator": make()}),
        "ProtoCLIP.loss": C(group.loss, {"batch": (pictures, sentences)}, ("batch",)),
        "ProtoCLIP.set_extra_state": C(group.set_extra_state, {"state": {"groups": {}, "place": {}}}, ("state",)),
        "Episodes": C(draw, {"generator": make()}),
        # BLIP
        "momentum_targets": C(
            blip.momentum_targets, {"queries": unit(B, D), "keys": unit(7, D), "temperature": 0.3, "alpha": 0.4}
        ),
        "itc_loss": C(
            blip.itc_loss,
            {
                "image": unit(B, D),
                "text": unit(B, D),
                "image_keys": unit(7, D),
                "text_keys": unit(7, D),
                "image_targets": normal(B, 7).softmax(dim=1),
                "text_targets": normal(B, 7).softmax(dim=1),
                "temperature": 0.3,
            },
        ),
        "hard_negatives": C(blip.hard_negatives, {"similarity": normal(B, B), "generator": make()}),
        "itm_loss": C(blip.itm_loss, {"positive": normal(B), "negative_image": normal(B), "negative_text": normal(B)}),
        "lm_loss": C(
            blip.lm_loss,
            {"logits": normal(B, 3, 5), "targets": whole(5, B, 3), "lengths": whole(3, B) + 1, "smoothing": 0.1},
        ),
        "follow": C(
            blip.follow, {"slow": on(nn.Linear(2, 2)), "fast": on(nn.Linear(2, 2)), "momentum": 0.9}, ("slow", "fast")
        ),
        "BLIP": C(blip.BLIP, {"tokenizer": tokens, "size": 8, "dim": 8, "depth": 1, "heads": 2}, ("tokenizer",)),
        "BLIP.encode_image": C(sees.encode_image, {"images": pictures}),
        "BLIP.encode_text": C(sees.encode_text, {"tokens": sentences}),
        "BLIP.match": C(sees.match, asked),
        "BLIP.match_seen": C(sees.match_seen, {"picture": looked, "tokens": sentences}, ("picture",)),
        "BLIP.log_likelihood": C(sees.log_likelihood, asked),
        "BLIP.caption": C(write, {"images": pictures, "top_p": 0.9, "generator": make()}),
        "BLIP.attention": C(sees.attention, {**asked, "writes": True}, ("writes",)),
        "BLIP.loss": C(sees.loss, {"batch": (pictures, sentences)}, ("batch",)),
        "Eye": C(blip.Eye, {"size": 8, "dim": 8, "heads": 2}),
        "Eye.forward": C(sees.eye, {"images": pictures}),
        "Labelled": C(blip.Labelled, {"eye": sees.eye, "classes": (3, 2)}, ("eye", "classes")),
        "Labelled.forward": C(on(blip.Labelled(blip.Eye(16, 8, 2), (3, 2))), {"images": pictures}),
        "Labelled.loss": C(
            on(blip.Labelled(blip.Eye(16, 8, 2), (3, 2))).loss, {"batch": (pictures, whole(2, B, 2))}, ("batch",)
        ),
        "Reader": C(blip.Reader, {"vocabulary": 9, "length": 5, "dim": 8, "depth": 1, "heads": 2}),
        "Reader.look": C(sees.reader.look, {"places": normal(B, 3, 8)}),
        "Reader.forward": C(on(blip.Reader(9, 5, 8, 1, 2)), {"tokens": whole(9, B, 5)}),
        "Kept": C(
            blip.Kept,
            {"picture": whole(3, 2), "tokens": whole(9, 2, 5), "written": whole(2, 2) > 0},
            ("picture", "tokens", "written"),
        ),
        "match_score": C(blip.match_score, {"model": sees, **asked, "batch": 3}, ("model",)),
        "capfilt": C(
            blip.capfilt,
            {
                "captioner": sees,
                "judge": sees,
                **asked,
                "generator": make(),
                "top_p": 0.9,
                "threshold": -99.0,
                "batch": 3,
            },
            ("captioner", "judge"),
        ),
        "match_table": C(blip.match_table, {"model": sees, **asked, "batch": 3}, ("model",)),
        "shortlist": C(blip.shortlist, {"similarity": normal(B, 5), "k": 2}),
        "rerank": C(blip.rerank, {"similarity": normal(B, 5), "matching": normal(B, 5), "k": 2}),
        # ProLIP
        "csd": C(model.csd, two()),
        "ppcl_loss": C(model.ppcl_loss, {**two(), "logit_scale": 3.0, "logit_bias": -1.0}),
        "vib_loss": C(model.vib_loss, gauss()),
        "reparametrise": C(model.reparametrise, {**gauss(), "generator": make()}),
        "ProLIP": C(prolip.ProLIP, {**towers(), "dim": 4, "batch": 4}, ("image_tower", "text_tower", "tokenizer")),
        "ProLIP.image_gaussian": C(spread.image_gaussian, {"images": pictures}),
        "ProLIP.text_gaussian": C(spread.text_gaussian, {"tokens": sentences}),
        "ProLIP.encode_image": C(spread.encode_image, {"images": pictures}),
        "ProLIP.encode_text": C(spread.encode_text, {"tokens": sentences}),
        "ProLIP.loss": C(spread.loss, {"batch": (pictures, sentences, pictures[:2], sentences[:2])}, ("batch",)),
        "inclusion": C(prolip.inclusion, two()),
        "inclusion_difference": C(prolip.inclusion_difference, two()),
        "inclusion_loss": C(prolip.inclusion_loss, {**two(), "scale": 1000.0, "eps": -20.0}),
        "projection_residual": C(prolip.projection_residual, {"t": normal(B, D), "basis": normal(2, D)}),
        "clip_norm": C(prolip.clip_norm, {"v": normal(B, D), "gamma": 1.0}),
        "uncertainty": C(prolip.uncertainty, {"logvar": normal(B, D)}),
        "gallery_scores": C(
            prolip.gallery_scores, {"mu": unit(2, D), "gallery_mu": unit(B, D), "gallery_logvar": normal(B, D)}
        ),
        "prompt_weights": C(
            prolip.prompt_weights,
            {**gauss(K), "samples": unit(8, D), "prior": 2.0, "widen": 0.02, "start": "inverse", "steps": 3},
        ),
        "reweighted_class": C(prolip.reweighted_class, {**gauss(2), "weights": torch.tensor([0.25, 0.75]).to(device)}),
        "traverse": C(prolip.traverse, {"start": unit(D), "root": unit(D), "steps": 3}),
        "partial_spearman": C(prolip.partial_spearman, {"x": normal(9), "y": normal(9), "given": normal(9, 2)}),
        "contains": C(prolip.contains, two()),
        # LimBeR
        "FeatureMap": C(limber.FeatureMap, {"tower": ConvNet(4)}, ("tower",)),
        "FeatureMap.forward": C(on(limber.FeatureMap(ConvNet(4))), {"images": pictures}),
        "LinearPrompt": C(limber.LinearPrompt, {"features": D, "dim": 4, "prompts": 2}),
        "LinearPrompt.forward": C(on(limber.LinearPrompt(D, 4, 2)), {"h": normal(B, 3, D)}),
        "ridge_map": C(limber.ridge_map, {"x": normal(B, D), "y": normal(B, 3), "ridge": 0.1}),
        "caption_mask": C(limber.caption_mask, {"tokens": sentences, "end": 9}),
        "caption_log_probabilities": C(
            limber.caption_log_probabilities, {"logits": normal(B, 5, 12), "tokens": sentences, "end": 9}
        ),
        "caption_loss": C(limber.caption_loss, {"logits": normal(B, 5, 12), "tokens": sentences, "end": 9}),
        "freeze": C(limber.freeze, {"module": ConvNet(2)}),
        "frozen_hash": C(limber.frozen_hash, {"module": ConvNet(2)}),
        "LimBeR": C(
            limber.LimBeR,
            {
                "eye": limber.FeatureMap(ConvNet(4)),
                "prompt": limber.LinearPrompt(16, 8),
                "language": language.LanguageModel(12, 12, 8, 1, 2),
                "end": 9,
            },
            ("eye", "prompt", "language"),
        ),
        "LimBeR.train": C(describes.train, {"mode": False}),
        "LimBeR.soft_prompts": C(describes.soft_prompts, {"images": pictures}),
        "LimBeR.logits": C(describes.logits, {"images": pictures, "tokens": sentences}),
        "LimBeR.log_likelihood": C(describes.log_likelihood, {"images": pictures, "tokens": sentences}),
        "LimBeR.loss": C(describes.loss, {"batch": (pictures, sentences)}, ("batch",)),
        "LimBeR.caption": C(
            describes.caption,
            {
                "images": pictures,
                "start": sentences[0, :2],
                "length": 3,
                "top_p": 0.9,
                "temperature": 0.7,
                "generator": make(),
            },
        ),
        "LanguageModel": C(language.LanguageModel, {"vocabulary": 9, "length": 5, "dim": 8, "depth": 1, "heads": 2}),
        "LanguageModel.forward": C(writes, {"x": sentences}),
        "LanguageModel.loss": C(writes.loss, {"batch": sentences}),
        # models
        "CLIP": C(clip.CLIP, {**towers(), "dim": 4, "hidden": 3}, ("image_tower", "text_tower", "tokenizer")),
        "SigLIP": C(clip.SigLIP, {**towers(), "dim": 4, "batch": 4}, ("image_tower", "text_tower", "tokenizer")),
        "SigLIP.loss": C(
            on(clip.SigLIP(**towers(), dim=D, batch=B)).loss, {"batch": (pictures, sentences)}, ("batch",)
        ),
        "CLIP.encode_image": C(pair.encode_image, {"images": pictures}),
        "CLIP.encode_text": C(pair.encode_text, {"tokens": sentences}),
        "CLIP.loss": C(pair.loss, {"batch": (pictures, sentences)}, ("batch",)),
        "zero_shot_classifier": C(
            clip.zero_shot_classifier, {"model": pair, "names": ["circle", "square"], "templates": "a {}"}, ("model",)
        ),
        "SimCLR": C(simclr.SimCLR, {"tower": ConvNet(4), "dim": 4, "hidden": 3, "temperature": 0.2}, ("tower",)),
        "SimCLR.forward": C(views, {"images": pictures}),
        "SimCLR.project": C(views.project, {"images": pictures}),
        "SimCLR.loss": C(views.loss, {"batch": (pictures, images())}, ("batch",)),
        "Hypersphere": C(
            hypersphere.Hypersphere,
            {"tower": ConvNet(4), "dim": 4, "objective": hypersphere.align_uniform_loss, "hidden": 3},
            ("tower", "objective"),
        ),
        "Hypersphere.forward": C(sphere, {"images": pictures}),
        "Hypersphere.project": C(sphere.project, {"images": pictures}),
        "Hypersphere.loss": C(sphere.loss, {"batch": (pictures, images())}, ("batch",)),
        "StructuredSimCLR": C(
            simclr.StructuredSimCLR,
            {"tower": ConvNet(4), "styles": 2, "dim": 4, "hidden": 3, "temperature": 0.2},
            ("tower",),
        ),
        "StructuredSimCLR.forward": C(styled, {"images": pictures}),
        "StructuredSimCLR.project": C(styled.project, {"images": pictures}),
        "StructuredSimCLR.loss": C(styled.loss, {"batch": (pictures, images(), images())}, ("batch",)),
        "VICReg": C(vicreg.VICReg, {"tower": ConvNet(4), "dim": 4, "invariance": 25.0}, ("tower",)),
        "VICReg.forward": C(three, {"images": pictures}),
        "VICReg.expand": C(three.expand, {"images": pictures}),
        "VICReg.loss": C(three.loss, {"batch": (pictures, images())}, ("batch",)),
        "MAE": C(
            mae.MAE,
            {
                "size": 8,
                "patch": 4,
                "dim": 8,
                "depth": 1,
                "heads": 2,
                "decoder_dim": 8,
                "decoder_depth": 1,
                "mask": 0.5,
            },
        ),
        "MAE.forward": C(masked, {"images": pictures}),
        "MAE.tokens": C(masked.tokens, {"images": pictures, "kept": whole(16, B, 3)}),
        "MAE.predict": C(masked.predict, {"images": pictures, "noise": noise}),
        "MAE.reconstruct": C(masked.reconstruct, {"images": pictures, "generator": make()}),
        "MAE.loss": C(masked.loss, {"images": pictures}),
        # what contrastive models miss
        "exchange": C(compositionality.exchange, {"latents": two_objects}),
        "order_probe": C(
            compositionality.order_probe,
            {"latents": two_objects, "generator": make(), "shuffles": 2, "named": ("colour",)},
            ("named",),
        ),
        "attribute_probe": C(
            compositionality.attribute_probe,
            {"latents": two_objects, "name": "colour", "named": ("colour", "shape")},
            ("named",),
        ),
        "relation_probe": C(
            compositionality.relation_probe, {"latents": two_objects, "how": "objects", "named": ("shape",)}, ("named",)
        ),
        "replaced_probe": C(
            compositionality.replaced_probe,
            {"latents": two_objects, "generator": make(), "name": "shape", "named": ("shape",)},
            ("named",),
        ),
        "Probe": C(
            compositionality.Probe,
            {"scenes": whole(B, 2), "true": SENTENCES[:2], "false": [SENTENCES[2:3], SENTENCES[3:]]},
            ("scenes", "true", "false"),
        ),
        "probe_scores": C(
            compositionality.probe_scores,
            {"model": pair, "images": pictures, "probe": probe, "batch": 2},
            ("model", "probe"),
        ),
        "probe_hits": C(compositionality.probe_hits, {"scores": normal(B, 3), "ties": "lot"}),
        "probe_accuracy": C(compositionality.probe_accuracy, {"scores": normal(B, 3), "ties": "right"}),
        "log_prior": C(compositionality.log_prior, {"log_p": normal(B, 5)}),
        "visual_gpt_score": C(
            compositionality.visual_gpt_score, {"log_p_given_image": normal(B), "log_p": normal(B), "alpha": 0.5}
        ),
        "negclip_loss": C(compositionality.negclip_loss, {**vt, "hard_text": unit(3, D)}),
        "NegCLIP": C(
            compositionality.NegCLIP, {**towers(), "dim": 4, "hidden": 3}, ("image_tower", "text_tower", "tokenizer")
        ),
        "NegCLIP.loss": C(negative.loss, {"batch": (pictures, sentences, sentences[:2])}, ("batch",)),
        "hard_captions": C(
            compositionality.hard_captions,
            {"latents": two_objects, "generator": make(), "named": ("colour",)},
            ("named",),
        ),
        "indistinct_floor": C(compositionality.indistinct_floor, {"batch": 8, "share": 0.25}),
        "group_accuracy": C(compositionality.group_accuracy, {"hits": torch.ones(6).to(device), "groups": whole(2, 6)}),
        "worst_group": C(compositionality.worst_group, {"hits": torch.ones(6).to(device), "groups": whole(2, 6)}),
        "worst_group_interval": C(
            compositionality.worst_group_interval,
            {"hits": torch.ones(6).to(device), "groups": whole(2, 6), "draws": 20, "seed": 0},
        ),
        "group_weights": C(compositionality.group_weights, {"groups": whole(2, 6)}),
        # nn
        "ConvNet": C(ConvNet, {"width": 4}),
        "ConvNet.forward": C(on(ConvNet(4)), {"x": images()}),
        "ResNet": C(ResNet, {"width": 4, "stages": 2}),
        "ResNet.forward": C(on(ResNet(4, 2)), {"x": images()}),
        "ViT": C(ViT, {"size": 8, "patch": 4, "dim": 8, "depth": 1, "heads": 2, "readouts": 1}),
        "ViT.forward": C(on(ViT(16, 4, 8, 1, 2, 2)), {"x": images()}),
        "check_images": C(vision.check_images, {"x": images(), "size": 16}),
        "BagOfWords": C(BagOfWords, {"vocabulary": 9, "dim": 4}),
        "BagOfWords.forward": C(on(BagOfWords(9, 4)), {"tokens": whole(9, B, 5)}),
        "TextTransformer": C(
            TextTransformer, {"vocabulary": 9, "length": 5, "dim": 8, "depth": 1, "heads": 2, "readouts": 1}
        ),
        "TextTransformer.forward": C(on(TextTransformer(9, 5, 8, 1, 2, 2)), {"tokens": whole(9, B, 5)}),
        "check_tokens": C(text.check_tokens, {"x": whole(9, B, 5), "vocabulary": 9}),
        "ngrams": C(ngrams.ngrams, {"word": "cats", "sizes": (3, 4)}),
        "NGrams": C(ngrams.NGrams, {"buckets": 9, "sizes": (3, 4)}),
        "NGrams.unknown": C(ngrams.NGrams().unknown, {"sentence": "a zebra"}),
        "BagOfNGrams": C(ngrams.BagOfNGrams, {"vocabulary": 9, "dim": 4}),
        "BagOfNGrams.forward": C(on(ngrams.BagOfNGrams(9, 4)), {"tokens": whole(9, B, 5)}),
        "Tokenizer": C(tokenizer.Tokenizer, {"sentences": SENTENCES, "length": 5, "least": 1}),
        "Tokenizer.unknown": C(tokens.unknown, {"sentence": "a zebra"}),
        "Tokenizer.decode": C(tokens.decode, {"tokens": sentences}),
        "words": C(tokenizer.words, {"sentence": "a man's hat"}),
        "with_end": C(generation.with_end, {"tokens": sentences, "end": 9}),
        "nucleus": C(generation.nucleus, {"logits": normal(B, 9), "top_p": 0.5}),
        "generate": C(
            generation.generate,
            {
                "next_word": lambda rows: F.one_hot(rows[:, -1], 12).float(),
                "start": sentences,
                "length": 2,
                "end": 9,
                "top_p": 0.9,
                "generator": make(),
            },
            ("next_word",),
        ),
        "read": C(reading.read, {"captions": SENTENCES, "objects": 1}),
        "agreement": C(reading.agreement, {"captions": SENTENCES, "latents": drawn}, ("latents",)),
        "fill": C(tokenizer.fill, {"templates": ["a {}"], "names": ["cat"]}),
        "Block": C(transformer.Block, {"dim": 8, "heads": 2}),
        "Block.forward": C(on(transformer.Block(8, 2)), {"x": normal(B, 5, 8)}),
        "unit": C(vectors.unit, {"x": normal(B, D)}),
        "FrameEncoder": C(sequence.FrameEncoder, {"tower": ConvNet(2)}, ("tower",)),
        "FrameEncoder.forward": C(on(sequence.FrameEncoder(ConvNet(2))), {"frames": images().unflatten(0, (2, -1))}),
        "SpectrumEncoder": C(sequence.SpectrumEncoder, {"bands": 8, "width": 4, "dim": 3}),
        "SpectrumEncoder.forward": C(hears.encoder, {"x": spectrum}),
        "segment_means": C(sequence.segment_means, {"codes": spectrum, "lengths": whole(5, B) + 1, "segments": 3}),
        "Utterance": C(sequence.Utterance, {"codes": hears, "segments": 2}, ("codes",)),
        "Utterance.forward": C(on(sequence.Utterance(hears, 2)), {"x": spectrum}),
        "frames_of": C(sequence.frames_of, {"x": spectrum}),
        "padded": C(sequence.padded, {"sequences": [normal(3, D), normal(5, D)], "times": 4}),
        "log_mel": C(sound.log_mel, {"wave": normal(400).clamp(-1, 1), "bands": 8}),
        "mfcc": C(sound.mfcc, {"spectrum": spectrum, "coefficients": 3}),
        "other_mouth": C(sound.other_mouth, {"spectrum": spectrum, "generator": make()}),
        "gather": C(gather.gather, {"x": normal(B, D)}),
        # augmentations
        "move": C(augment.move, {**drawing, "degrees": 15.0, "zoom": (0.8, 1.15), "shift": 0.1}),
        "recolour": C(augment.recolour, {**drawing, "strength": 0.25}),
        "crop": C(adjust.crop, {**one, "box": torch.tensor([0.1, 0.1, 0.5, 0.5]).expand(B, 4).to(device)}),
        "adjust_brightness": C(adjust.adjust_brightness, {**one, "factor": amount()}),
        "adjust_contrast": C(adjust.adjust_contrast, {**one, "factor": amount()}),
        "adjust_saturation": C(adjust.adjust_saturation, {**one, "factor": amount()}),
        "adjust_hue": C(adjust.adjust_hue, {**one, "shift": amount()}),
        "greyscale": C(adjust.greyscale, one),
        "gaussian_blur": C(adjust.gaussian_blur, {**one, "sigma": amount(), "radius": 2}),
        "random_resized_crop": C(augment.random_resized_crop, drawing),
        "colour_jitter": C(
            augment.colour_jitter,
            {**drawing, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "probability": 0.8},
        ),
        "simclr_view": C(augment.simclr_view, {**drawing, "strength": 0.5, "grey": 0.2, "blur": 0.5}),
        # data
        "Gaussians": C(gaussians.Gaussians, {"dim": 3, "correlation": 0.5}),
        "Gaussians.sample": C(normals.sample, {"n": 5, "generator": make()}),
        "Gaussians.log_ratio": C(normals.log_ratio, {"x": normal(B, D), "c": normal(B, D)}),
        "Gaussians.log_ratios": C(normals.log_ratios, {"x": normal(5, D), "c": normal(B, D)}),
        "Scenes": C(scenes.Scenes, {"size": 16, "objects": 1, "blur": 0.5, "occlusion": 0.5, "noise": 0.1}),
        "Scenes.sample": C(world.sample, {"n": 5, "generator": make()}),
        "Scenes.render": C(
            world.render, {"latents": drawn, "generator": make(), "occluder_colour": "grey"}, ("latents",)
        ),
        "Scenes.caption": C(world.caption, {"latents": drawn, "detail": 3}, ("latents",)),
        "Latents": C(latents, {}),
        "Latents.with_": C(drawn.with_, {"angle": torch.zeros(B, 1).to(device)}),
        "MovingScenes": C(motion.MovingScenes, {"size": 8, "times": 3, "noise": 0.1, "flicker": True}),
        "MovingScenes.sample": C(cinema.sample, {"n": 3, "generator": make(), "identity": whole(24, 3)}),
        "Films": C(films, {}),
        # evaluation
        "encode": C(evaluation.encode, {"function": vectors.unit, "inputs": normal(B, D), "batch": 2}, ("function",)),
        "parameters": C(evaluation.parameters, {"module": ConvNet(2)}, ("module",)),
        "linear_probe": C(evaluation.linear_probe, {**features, "strength": 1.0}),
        "covariance_spectrum": C(evaluation.covariance_spectrum, {"x": normal(B, D)}),
        "effective_rank": C(evaluation.effective_rank, {"x": normal(B, D)}),
        "linear_predictions": C(
            evaluation.linear_predictions, {"x": features["x"], "y": y, "x_test": features["x_test"], "strength": 1.0}
        ),
        "latent_r2": C(evaluation.latent_r2, read),
        "latents_r2": C(
            evaluation.latents_r2,
            {"x": read["x"], "y": {"a": read["y"]}, "x_test": read["x_test"], "y_test": {"a": read["y_test"]}},
        ),
        "few_shot": C(evaluation.few_shot, {**features, "shots": [1, 2], "repeats": 1, "seed": 0}),
        "knn": C(evaluation.knn, {**features, "k": 3}),
        "ranks": C(evaluation.ranks, {"similarity": normal(B, 5), "match": whole(5, B)}),
        "retrieval": C(evaluation.retrieval, {"similarity": normal(B, 5), "match": whole(5, B), "at": (1, 5)}),
        "accuracy": C(evaluation.accuracy, {"similarity": normal(B, 5), "labels": whole(5, B)}),
        "risk_coverage": C(evaluation.risk_coverage, {"confidence": normal(B), "right": (whole(2, B) > 0)}),
        "aurc": C(evaluation.aurc, {"confidence": normal(B), "right": (whole(2, B) > 0)}),
        "permutation_test": C(
            evaluation.permutation_test, {"a": [0.1, 0.2, 0.4], "b": [0.3, 0.1, 0.0], "draws": 20, "seed": 0}
        ),
        "paired_interval": C(
            evaluation.paired_interval, {"a": [0.1, 0.2, 0.4], "b": [0.3, 0.1, 0.0], "draws": 20, "seed": 0}
        ),
        "interval": C(evaluation.interval, {"values": [0.1, 0.2, 0.4], "draws": 20, "seed": 0}),
    }
