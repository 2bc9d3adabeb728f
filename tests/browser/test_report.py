"""The page as Chromium shows it: without a complaint, in light and dark, on a narrow screen and on paper."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_folders import run_folder, study

from kdal_cli.report.page import page

CHROMIUM = shutil.which("chromium")
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
DARK = "--blink-settings=preferredColorScheme=0"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


class Browser:
    """Chromium, started anew for each look at a page."""

    def __init__(self, top: Path) -> None:
        self.page, self.profiles, self.top = top / "report.html", 0, top

    def __call__(self, *words: str) -> tuple[str, str]:
        """(what it printed, what it complained about)"""
        self.profiles += 1
        profile = f"--user-data-dir={self.top / f'profile{self.profiles}'}"
        command = [str(CHROMIUM), *QUIET.split(), profile, *words, self.page.as_uri()]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return ended.stdout, "\n".join(line for line in ended.stderr.splitlines() if "CONSOLE" in line)

    def screenshot(self, width: int, height: int, *words: str) -> np.ndarray:
        """(height, width, 3) pixels"""
        file = self.top / "screen.png"
        self(f"--window-size={width},{height}", f"--screenshot={file}", *words)
        return np.asarray(Image.open(file).convert("RGB")).astype(int)


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    runs = tmp_path / "runs"
    for seed in range(5):
        for sampler, more in (("random", 0.0), ("<margin>", 0.1)):
            accuracy = [0.3 + 0.01 * seed, 0.5 + more + 0.007 * (seed % 3), 0.6 + more + 0.005 * (seed % 2)]
            run_folder(runs, accuracy, seed=seed, sampler=sampler, recall=[0.4, 0.6])
    opened = Browser(tmp_path)
    opened.page.write_text(page(study(runs)))
    return opened


def has(pixels: np.ndarray, colour: tuple[int, int, int], near: int = 12) -> bool:
    """Whether there are some pixels of a colour."""
    return int((abs(pixels - np.array(colour)).max(axis=2) < near).sum()) > 200


def test_the_page_is_shown_whole_and_nothing_is_refused(browser: Browser) -> None:
    dom, complaints = browser("--dump-dom")
    assert complaints == ""
    assert "How to read it" in dom
    assert "&lt;margin&gt;" in dom
    assert dom.count("<table") == browser.page.read_text().count("<table")


def test_the_console_would_have_told_of_what_the_policy_refuses(browser: Browser) -> None:
    text = browser.page.read_text()
    browser.page.write_text(text.replace("</main>", "<script>document.title = 'acted'</script></main>"))
    dom, complaints = browser("--dump-dom")
    assert "Content Security Policy" in complaints
    assert "<title>acted" not in dom


def test_light_and_dark_with_the_curves_in_both(browser: Browser) -> None:
    light, dark = browser.screenshot(1200, 1600), browser.screenshot(1200, 1600, DARK)
    assert light[5, 5].tolist() == [255, 255, 255]
    assert dark[5, 5].max() < 40
    assert light.mean() > 225
    assert dark.mean() < 45
    assert has(light, (0x1D, 0x5F, 0xA8))
    assert not has(dark, (0x1D, 0x5F, 0xA8))


def test_a_narrow_screen_cuts_nothing_off_to_the_right(browser: Browser) -> None:
    """What is wider than the screen scrolls within itself, so that the margin of the page stays empty."""
    pixels = browser.screenshot(400, 2500)
    assert pixels.shape == (2500, 400, 3)
    assert (pixels[:, -8:] == 255).all()


def test_the_page_prints(browser: Browser) -> None:
    browser(f"--print-to-pdf={browser.top / 'report.pdf'}")
    assert (browser.top / "report.pdf").read_bytes().startswith(b"%PDF-")
