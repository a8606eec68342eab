#!/usr/bin/env python
"""Make the picture of the reader's screen in the documentation, from a folder of reports.

    python tools/serve_figure.py reports serve.png --studies /data/cases

A headless Chromium shows the study that is called positive with the highest score.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

from pe_unified.benchmarks.chromium import Chromium
from pe_unified.command import exit_on_user_error
from pe_unified.files import write_bytes
from pe_unified.paths import require_there

#: Noisy pictures compress badly: the number of colours is reduced.
_COLOURS = 128
_READY = "window.scene && scene.volume && !scene.volume.missing && scene.lesions.some(l => l.mask)"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", type=Path)
    parser.add_argument("out", type=Path, help="a PNG")
    parser.add_argument("--studies", type=Path, nargs="+", required=True, metavar="DIR")
    args = parser.parse_args()
    require_there(args.reports, *args.studies)
    from pe_unified.serve.app import ServeOptions, make_app
    from pe_unified.serve.images import ImageCache
    from pe_unified.serve.server import running

    options = ServeOptions(args.reports, tuple(args.studies))
    with (
        ImageCache() as images,
        running(make_app(options, images)) as url,
        Chromium(1400, 820) as page,
        tempfile.TemporaryDirectory() as scratch,
    ):
        page.open(url)
        page.run("localStorage.setItem('pe-unified-reader', 'A reader')")
        page.reload()
        page.wait_for("document.querySelector('#rows a')")
        page.click("#rows a")
        page.wait_for(_READY, 120)
        page.run("document.activeElement.blur()")
        page.run("new Promise(done => setTimeout(done, 300))")
        page.screenshot(Path(scratch) / "seen.png")
        seen = Image.open(Path(scratch) / "seen.png").convert("RGB")
        packed = io.BytesIO()
        seen.quantize(_COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    write_bytes(args.out, packed.getvalue())


if __name__ == "__main__":
    with exit_on_user_error():
        main()
