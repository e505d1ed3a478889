"""Parts that methods are made of: towers, the tokenizer, augmentations."""

from minilip.nn.text import BagOfWords, TextTransformer
from minilip.nn.tokenizer import Tokenizer
from minilip.nn.vision import ConvNet, ResNet, ViT

__all__ = ["BagOfWords", "ConvNet", "ResNet", "TextTransformer", "Tokenizer", "ViT"]
