"""Text that was written for a terminal, as Markdown."""

import re

# Code in backticks, displayed formulas and *emphasis* mean in Markdown what they mean here; nothing else is markup.
KEPT = re.compile(r"(``.+?``|`[^`\n]+`|\$\$.+?\$\$|(?<![\w*])\*(?=[^\s*])[^*\n]*[^\s*]\*(?![\w*]))", re.S)
SPECIAL = re.compile(r"([\\*_\[\]<>$|#{}~^`])")


def plain(text: str) -> str:
    """Prose of a docstring or of a message: what looks like markup and is none is escaped."""
    parts = KEPT.split(text)
    return "".join(part if k % 2 else SPECIAL.sub(r"\\\1", part) for k, part in enumerate(parts))


def words(text: str) -> str:
    """On one line."""
    return " ".join(text.split())
