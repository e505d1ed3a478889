"""Text on whatever terminal there is."""

import sys


def say(text: str) -> None:
    """Print; what standard output has no character for becomes a question mark."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
