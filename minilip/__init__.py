"""minilip: contrastive and vision-language representation learning, one small readable file per method."""

__version__ = "0.1.0"
