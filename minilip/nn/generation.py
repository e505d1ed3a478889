"""Sentences out of a model of the next word: greedily, or drawn from the nucleus of its distribution.

Letters: B sentences, L words so far, V words in the vocabulary.

Source: Holtzman et al. 2020 (arXiv 1904.09751) for the nucleus; lessons 08 and 09.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minilip import _check
from minilip.nn.tokenizer import PAD


def with_end(tokens: Tensor, end: int) -> Tensor:
    """Put the end token behind the last word of each row. (B, L) -> (B, L + 1)

    >>> with_end(torch.tensor([[5, 6, 7], [5, 0, 0]]), end=9).tolist()
    [[5, 6, 7, 9], [5, 9, 0, 0]]

    Args:
        tokens: int64, padded with PAD at the end.
        end: the number of the end token, not PAD: the loss leaves padding out, and the end has to be learned.

    Raises:
        ValueError: tokens are not int64 (B, L), a word follows padding, or end is PAD.
    """
    _tokens("tokens", tokens)
    if _check.count("end", end) == PAD:
        _check.fail("end", "a number other than padding's", end)
    real = tokens != PAD  # (B, L)
    if bool((real[:, 1:] & ~real[:, :-1]).any()):
        _check.fail("tokens", "padding at the end only", "a word behind padding")
    longer = torch.cat([tokens, tokens.new_full((len(tokens), 1), PAD)], dim=1)  # (B, L + 1)
    return longer.scatter(1, real.sum(dim=1, keepdim=True), end)


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    r"""Leave the fewest words whose probabilities add up to `top_p`; the logits of the others become minus infinity.

    $$ V^{(p)} = \text{the smallest set with } \sum_{w \in V^{(p)}} p(w) \ge p $$

    Args:
        logits: (B, V); minus infinity where a word is ruled out already.
        top_p: p in (0, 1]; 1 leaves every word.

    Returns:
        (B, V)

    Raises:
        ValueError: logits are not (B, V) or hold NaN, a row leaves no word, or top_p is out of range.

    Source: Holtzman et al. 2020, section 3.1; lesson 09.
    """
    _check.tensor("logits", logits, dims=2, floating=True)
    if logits.numel() == 0:
        _check.fail("logits", "at least one row and one word", tuple(logits.shape))
    _check.finite("logits, the likeliest of each row", logits.amax(dim=1))
    if not 0 < _check.number("top_p", top_p) <= 1:
        _check.fail("top_p", "a number above 0 and at most 1", top_p)
    p, order = logits.softmax(dim=1).sort(dim=1, descending=True)  # (B, V)
    before = p.cumsum(dim=1) - p  # what the words ahead of this one hold together
    if top_p == 1:
        return logits
    outside = torch.zeros_like(p, dtype=torch.bool).scatter(1, order, before >= top_p)
    return logits.masked_fill(outside, -torch.inf)


@torch.no_grad()
def generate(
    next_word: Callable[[Tensor], Tensor],
    start: Tensor,
    length: int,
    end: int,
    top_p: float | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Write a sentence a row, word by word, until each has met its end. (B, L) -> (B, L + length)

    Args:
        next_word: (B, L) tokens so far -> (B, V) logits of the word that follows.
        start: int64, what each row begins with; it stays in front of what is returned.
        length: the most words written, the end among them.
        end: the token behind which a row holds padding only.
        top_p: None takes the likeliest word each time (greedy); a number in (0, 1] draws from that nucleus.
        temperature: the logits are divided by it before a word is drawn.
        generator: what is drawn from, on start's device; needed with `top_p`.

    Raises:
        ValueError: start is not int64 (B, L), length is below 1, or words are to be drawn without a generator.
    """
    _tokens("start", start)
    _check.count("length", length)
    _check.count("end", end)
    _check.positive("temperature", temperature)
    if top_p is not None:
        _check.generator("generator", generator, start.device)
    rows, finished = start, torch.zeros(len(start), dtype=torch.bool, device=start.device)
    for _ in range(length):
        logits = next_word(rows) / temperature  # (B, V)
        if top_p is None:
            word = logits.argmax(dim=1)  # (B,)
        else:
            word = torch.multinomial(nucleus(logits, top_p).softmax(dim=1), 1, generator=generator).squeeze(1)
        word = word.masked_fill(finished, PAD)
        rows = torch.cat([rows, word[:, None]], dim=1)
        finished = finished | (word == end)
        if bool(finished.all()):
            break
    written = rows.shape[1] - start.shape[1]
    return torch.cat([rows, rows.new_full((len(rows), length - written), PAD)], dim=1)


def _tokens(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dim() != 2 or x.dtype != torch.int64 or x.numel() == 0:
        _check.fail(name, "int64 of shape (B, L)", _check.described(x))
    if int(x.min()) < 0:
        _check.fail(name, "numbers of at least 0", int(x.min()))
