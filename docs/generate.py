"""Writes docs/losses.md and docs/samplers.md; a test holds them against what is written here.

python docs/generate.py
"""

import losses_page
import samplers_page

for page in (losses_page, samplers_page):
    page.PAGE.write_text(page.page(), encoding="utf-8")
