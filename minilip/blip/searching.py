r"""Retrieval with two heads: contrast compares all pairs at once, the matcher reads each pair, and re-ranking shares.

Letters: Q queries (pictures), G captions.

Source: Li et al. 2022 (arXiv 2201.12086), section 5.1 and the released code; lesson 09.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minilip import _check
from minilip.blip.model import BLIP
from minilip.nn.modes import evaluating
from minilip.nn.text import check_tokens


@torch.no_grad()
def match_table(model: BLIP, images: Tensor, tokens: Tensor, only: Tensor | None = None, batch: int = 1024) -> Tensor:
    """Log-odds of every pair, read one by one: Q G passes of the reader. (Q, 3, H, W), (G, L) -> (Q, G)

    Args:
        images: of the queries; tokens: of the captions.
        only: (Q, G) bool, the pairs to read; the others get 0.
        batch: pairs at a time.

    Raises:
        ValueError: not pictures, or `only` of another shape.
    """
    _check.pictures("images", images)
    check_tokens(tokens, len(model.tokenizer))
    batch = _check.count("batch", batch)
    shape = (len(images), len(tokens))
    if only is None:
        only = torch.ones(shape, dtype=torch.bool, device=images.device)
    elif only.shape != shape or only.dtype != torch.bool:
        _check.fail("only", f"bool of shape {shape}", _check.described(only))
    table = torch.zeros(shape, device=images.device)
    with evaluating(model):
        picture = model.reader.look(torch.cat([model.eye(part) for part in images.split(256)]))  # each looked at once
        for pairs in only.nonzero().split(batch):
            i, j = pairs.unbind(1)
            table[i, j] = model.match_seen([(k[i], v[i]) for k, v in picture], tokens[j]).to(table.dtype)
    return table


def shortlist(similarity: Tensor, k: int) -> Tensor:
    """The k nearest of each row and the k nearest of each column, as a mask. (Q, G) -> (Q, G) bool"""
    _check.embeddings("similarity", similarity)
    _check.count("k", k)
    mask = torch.zeros_like(similarity, dtype=torch.bool)
    mask.scatter_(1, similarity.topk(min(k, similarity.shape[1]), dim=1).indices, True)
    return mask.scatter(0, similarity.topk(min(k, len(similarity)), dim=0).indices, True)


def rerank(similarity: Tensor, matching: Tensor, k: int) -> Tensor:
    r"""Put the k most similar of each row in the matcher's order, ahead of all others in theirs. (Q, G) -> (Q, G)

    $$ r_{ij} = m_{ij} + S_{ij} \text{ where } S_{ij} \text{ is among the } k \text{ largest of row } i $$

    Args:
        similarity: S (Q, G), cosines of contrast.
        matching: m (Q, G), log-odds of the matcher; only the k of each row are read.
        k: 256 on COCO, 128 on Flickr30K in the paper.

    Raises:
        ValueError: not two tables of one shape and finite numbers.

    Source: the released code, whose other entries stay at -100; lesson 09.
    """
    _check.paired("similarity", similarity, "matching", matching, least=1)
    _check.count("k", k)
    inside = torch.zeros_like(similarity, dtype=torch.bool)
    inside.scatter_(1, similarity.topk(min(k, similarity.shape[1]), dim=1).indices, True)
    score = matching + similarity
    floor = score.masked_fill(~inside, torch.inf).amin(dim=1, keepdim=True)  # (Q, 1) the last of those inside
    below = floor - 1 - (similarity.amax(dim=1, keepdim=True) - similarity)
    return torch.where(inside, score, below)
