"""What learns on top of frozen features of pictures; lessons 11 and 12."""

from torch import Tensor, nn


class Head(nn.Module):
    """EfficientNet-Lite0's features to those of a tower: (B, 1280) -> (B, 128)"""

    dim = 128

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.3), nn.Linear(1280, 256), nn.GELU(), nn.Linear(256, self.dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
