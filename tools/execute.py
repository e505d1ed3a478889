"""Execute a notebook and leave outputs that are the same in every run and readable without a kernel."""

import base64
import io
import json
import os
import re
import time
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

from tools.sources import BuildError, first_line

WIDGET = "application/vnd.jupyter.widget-view+json"
LARGE_FIGURE = 60_000  # bytes
CELL_TIMEOUT = 600  # seconds


def execute(root: Path, path: str, notebook: NotebookNode) -> float:
    """Run the notebook in place and clean its outputs; the seconds from kernel start to the last cell."""
    # Headers promise a time on 2 cores, whatever machine this is.
    environment = {**os.environ, "MINILIP_THREADS": "2", "MINILIP_STRICT": "1" if path.startswith("solutions/") else ""}
    metadata = notebook.metadata.copy()
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
    )
    start = time.perf_counter()
    try:
        client.execute(env=environment, cwd=str(root))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise BuildError(f"{path}: {error}") from error
    seconds = time.perf_counter() - start
    notebook.metadata = metadata  # without the version of the kernel's Python
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            cell.outputs = clean(cell.outputs, f"{path}, cell {number} ({first_line(cell)!r})", root)
    return seconds


def clean(outputs: list[NotebookNode], where: str, root: Path) -> list[NotebookNode]:
    """Outputs that are the same in every run and readable without a kernel."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        elif output.output_type == "error":
            kept.append(NotebookNode(output, traceback=[f"{output.ename}: {output.evalue}"]))
        elif not (output.get("data", {}).pop(WIDGET, None) and set(output.data) <= {"text/plain"}):
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            # A carriage return goes back to the start of its line; on stderr that is a progress bar.
            lines = output.text.replace("\r\n", "\n").split("\n")
            output.text = "\n".join(x.rsplit("\r", 1)[-1] for x in lines if output.name == "stdout" or "\r" not in x)
            output.text = without_addresses(output.text)
            if output.name == "stderr" and "Warning" in output.text:
                raise BuildError(f"{where}: a learner would see this warning:\n{output.text}")
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                output.data[kind] = without_addresses(value)
            elif kind == "image/png":
                output.data[kind] = png = smaller(value)
                if (size := len(base64.b64decode(png))) > LARGE_FIGURE:
                    print(f"  {where}: a figure of {size / 1000:.0f} kB")
        if any(f"{folder}{os.sep}" in json.dumps(output) for folder in (root, Path.home())):
            raise BuildError(f"{where}: the output names a folder of this machine")
    return [output for output in kept if output.get("text", " ").strip(" \n") or output.output_type != "stream"]


def smaller(png: str) -> str:
    """The picture with a palette of 256 colours, where that takes less room: half of it for lines with soft edges."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    palette = base64.b64encode(buffer.getvalue()).decode()
    return min(png, palette, key=len)


def without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def rounded(seconds: float) -> int:
    """Run times scatter by a few per cent: a finer figure would only change the headers with every build."""
    return max(1, round(seconds)) if seconds < 10 else 5 * round(seconds / 5)


def device() -> str:
    import torch  # only a build that records times needs it

    return "gpu" if torch.cuda.is_available() else "cpu"
