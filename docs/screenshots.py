"""The picture in docs/labelling.md: python docs/screenshots.py FOLDER_OF_PHOTOS, with Chromium."""

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
WORDS = ("oracle=page", "teacher=none", "loss=none", "budget=20", "data=image_folder", "recipe=smoke")
ANSWERED = 7


def main(photos: Path) -> None:
    """Label a few photos in a run of their own, and keep what is then to be seen."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from browser.chromium import Chromium

    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("kdal"), "al-loop", *WORDS, f"data.root={photos}"]
        run = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        address = next(found[0] for line in run.stdout if (found := re.search(r"http://\S+", line)))
        browser = Chromium(Path(folder, "profile"))
        tab = browser.open(address)
        tab.screen(1120, 680)
        for number in range(ANSWERED + 1):
            there = "typeof question !== 'undefined' && question !== null && !busy"
            tab.wait_for(f"{there} && answers.size === {number} && document.getElementById('picture').naturalWidth > 0")
            if number < ANSWERED:
                tab.press("1")
        picture = Path(folder, "page.png")
        tab.picture(picture)
        Image.open(io.BytesIO(picture.read_bytes())).convert("RGB").save(HERE / "labelling.jpg", quality=82)
        browser.close()
        run.terminate()
        run.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
