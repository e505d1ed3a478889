"""Fine-tuning: an encoder goes on learning, with labels, under a new linear head.

Letters: N examples, K classes, D feature dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.nn.modes import evaluating
from minilip.training.loop import fit


def finetune(
    encoder: nn.Module,
    x: Tensor,
    y: Tensor,
    x_test: Tensor,
    steps: int,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    batch: int = 128,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    seed: int = 0,
    label: str = "fine-tune",
    progress: bool = True,
) -> Tensor:
    r"""Train a copy of an encoder and a linear head on labelled examples, and say what it takes the test examples for.

    $$ \min_{\theta, W, b} \; -\frac1N \sum_i \log \operatorname{softmax}(W f_\theta(x_i) + b)_{y_i} $$

    The head starts at zero: the first loss is log K whatever the encoder, and the first step moves the head alone. From
    a random encoder this is supervised training, so that one function gives both rows of a table.

    Args:
        encoder: f, (N, ...) -> (N, D), with D in `.dim`; it is copied and stays as it is.
        x: (N, ...) training examples, on the encoder's device.
        y: (N,) int64 classes from 0 on; K is one more than the largest.
        x_test: (N', ...) examples to classify. Their labels are not asked for, so that nothing can be chosen by them.
        steps: of AdamW with a warm-up and a cosine (`minilip.training.fit`).
        lr, weight_decay: at the peak of the schedule, for encoder and head alike.
        batch: examples a step, drawn without replacement; all N where that is fewer.
        augment: what is done to the examples of each step; None for nothing. Test examples are taken as they are.
        seed: of the batches and of the encoder's own randomness.
        label, progress: of the progress bar.

    Returns:
        (N',) int64, the class of highest score for each test example.

    Raises:
        ValueError: no `.dim`, labels that are no classes of the N examples, features that are not (N, D).

    Source: Chen et al. 2020, section 4.2 and table 8 ("fine-tuned"); lessons 02 and 03.
    """
    _check.count("batch", batch)
    _check.tensor("x", x)
    _check.tensor("x_test", x_test)
    if x.dim() == 0 or x.shape[1:] != x_test.shape[1:] or len(x_test) == 0:
        _check.fail("x_test", f"examples of shape {tuple(x.shape[1:])}", tuple(x_test.shape))
    classes = int(y.max()) + 1 if isinstance(y, Tensor) and y.numel() else 1
    _check.labels("y", y, len(x), classes)
    if classes < 2:
        _check.fail("y", "at least two classes", "one")
    model = _Classifier(copy.deepcopy(encoder), classes).to(x.device)

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randperm(len(x), generator=generator, device=x.device)[:batch]
        return (x[rows] if augment is None else augment(x[rows], generator)), y[rows]

    fit(model, batches, steps, lr=lr, weight_decay=weight_decay, seed=seed, every=steps, label=label, progress=progress)
    with evaluating(model), torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in x_test.split(512)])  # (N',)


class _Classifier(nn.Module):
    """An encoder and a linear head on it, which starts at zero."""

    def __init__(self, encoder: nn.Module, classes: int):
        super().__init__()
        dim = _check.width("encoder", encoder)
        self.encoder, self.head = encoder, nn.Linear(dim, classes)
        self.encoder.requires_grad_(True)  # a frozen encoder is what a linear probe reads
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x)
        if h.shape != (len(x), self.head.in_features):
            _check.fail("encoder", f"features of shape {(len(x), self.head.in_features)}", tuple(h.shape))
        return self.head(h)  # (N, K)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, y = batch
        logits = self(x)  # (N, K)
        return F.cross_entropy(logits, y), {"accuracy": (logits.argmax(dim=1) == y).float().mean()}
