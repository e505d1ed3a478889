"""Encoders that one lesson trains and another starts from, kept in the cache folder and never unpickled."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from torch import nn

from minilip import _check
from minilip._files import replacing
from minilip.data import home
from minilip.data.fetch import MissingData


def keep_encoder(name: str, encoder: nn.Module, about: str, root: str | Path | None = None) -> Path:
    """Save an encoder's parameters and buffers, whole or not at all, in place of what had the name before.

    Args:
        name: of the file under `encoders`: letters, digits, "-" and "_", such as "05-vicreg".
        encoder: on any device.
        about: how it was made, for whoever loads it.
        root: cache folder; None is `minilip.data.home()`.

    Returns:
        The file's path.

    Raises:
        ValueError: a name of other letters; not a module.
        OSError: the folder cannot be written to.

    Lessons 05, 05b (which keep "05-vicreg" and "05b-mae") and 06.
    """
    path = _path(name, root)
    if not isinstance(encoder, nn.Module):
        _check.fail("encoder", "an nn.Module", type(encoder).__name__)
    state = {key: value.detach().cpu() for key, value in encoder.state_dict().items()}
    with replacing(path) as part:
        torch.save({"about": str(about), "state": state}, part)
    return path


def load_encoder(name: str, encoder: nn.Module, root: str | Path | None = None) -> str:
    """Give an encoder the parameters and buffers that `keep_encoder` has saved under a name.

    Args:
        name, root: as for `keep_encoder`.
        encoder: of the same architecture; it stays on its device, and as it was if anything is wrong.

    Returns:
        How the encoder was made.

    Raises:
        MissingData: nothing is kept under the name.
        ValueError: a name of other letters; the file is damaged, or holds another architecture.

    Lesson 06.
    """
    path = _path(name, root)
    if not path.exists():
        raise MissingData(
            f"no encoder {name!r} in {path.parent}: run lesson {name.split('-')[0]}, which keeps it there"
        )
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        about, state = str(kept["about"]), kept["state"]
        mine = {key: value.shape for key, value in encoder.state_dict().items()}
        same = {key: value.shape for key, value in state.items()} == mine
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, KeyError, TypeError, AttributeError):
        _check.fail("name", "a whole file that keep_encoder wrote", f"{path}, which is damaged")
    if not same:
        _check.fail("encoder", f"the architecture that {path} holds ({about})", type(encoder).__name__)
    encoder.load_state_dict(state)
    return about


def _path(name: str, root: str | Path | None) -> Path:
    if not isinstance(name, str) or not name or not name.replace("-", "").replace("_", "").isalnum():
        _check.fail("name", 'letters, digits, "-" and "_"', repr(name))
    return (home() if root is None else Path(root).expanduser()) / "encoders" / f"{name}.pt"
