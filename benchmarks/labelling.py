"""Waiting at the labelling page: between two images of a long query, and for the next query of a small student.

    python benchmarks/labelling.py [--queued 10000] [--answers 200] [--queries 8]

A run of `kdal al-loop oracle=page` is answered through its own server, as the page does it. Between two images: the
answer until it is on disk and acknowledged, then the next image. For the next query: from the last answer of one until
the first image of the next one is there; the student, its last layer alone, is trained and measured before that.
Beside the time by the clock stands the CPU time of the run, which is what it takes on a machine that does nothing else.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.request import Request, urlopen

KDAL = Path(sys.executable).with_name("kdal")
COMMON = ("al-loop", "oracle=page", "loss=none", "teacher=none", "threads=1", "recipe=equal_steps")
LONG = ("data=blobs", "data.train=20000", "data.split.validation=0", "budget.rounds=0")
HEAD = ("data=digits", "data.split.validation=0", "recipe.learns=head", "recipe.steps=100", "budget.initial=20")
HEAD = (*HEAD, "budget.query=10", "baselines=[]")


class Page:
    """A run that waits, seen as its page sees it."""

    def __init__(self, words: Sequence[str]) -> None:
        folder = tempfile.mkdtemp(prefix="kdal-labelling-")
        command = [str(KDAL), *COMMON, *words, f"hydra.run.dir={folder}"]
        self.run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        assert self.run.stdout is not None
        found = next(found for line in self.run.stdout if (found := re.search(r"labels: (http\S+)", line)))
        self.address, self.events = found.group(1), 0

    def cpu(self) -> float:
        """Seconds that the run has computed for, in steps of 10 ms."""
        fields = Path(f"/proc/{self.run.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str) -> bytes:
        with urlopen(self.address + path) as reply:
            return reply.read()

    def answer(self, name: str, id: int, label: int) -> None:
        body = {"name": name, "id": id, "label": label, "word": "", "seconds": 1.0, "seen": self.events}
        headers = {"Content-Type": "application/json", "Origin": re.sub(r"(//[^/]+).*", r"\1", self.address)}
        with urlopen(Request(self.address + "answer", json.dumps(body).encode(), headers)) as reply:
            reply.read()
        self.events += 1

    def question(self, before: str = "") -> dict:
        """The next question, once it is there; while there is none the server waits for it, as for the page."""
        while (found := json.loads(self.get("state?name=&seen=0&wait=1")))["question"] is None or found[
            "name"
        ] == before:
            assert self.run.poll() is None
            time.sleep(0.005)
        self.events = len(found["events"])
        return found["question"]


def between_images(queued: int, answers: int) -> list[tuple[float, float]]:
    """Seconds from an answer to the next image, of the first answers to a long query."""
    page = Page([*LONG, f"budget.initial={queued}"])
    question, took = page.question(), []
    for id, after in zip(question["ids"][:answers], question["ids"][1:], strict=False):
        began, computed = time.perf_counter(), page.cpu()
        page.answer(question["name"], id, id % 4)
        page.get(f"image/{after}")
        took.append((time.perf_counter() - began, page.cpu() - computed))
    page.run.kill()
    return took


def between_queries(queries: int) -> list[tuple[float, float]]:
    """Seconds from the last answer of a query to the first image of the next one."""
    page = Page([*HEAD, f"budget.rounds={queries}"])
    question, took = page.question(), []
    for _ in range(queries):
        for place, id in enumerate(question["ids"]):
            page.answer(question["name"], id, place % 10)
        began, computed = time.perf_counter(), page.cpu()
        question = page.question(question["name"])
        page.get(f"image/{question['ids'][0]}")
        took.append((time.perf_counter() - began, page.cpu() - computed))
    page.run.kill()
    return took


def told(what: str, took: Sequence[tuple[float, float]]) -> str:
    clock, cpu = ([1_000 * seconds for seconds in column] for column in zip(*took, strict=True))
    late = sorted(clock)[int(0.95 * (len(clock) - 1))]
    by_clock = f"median {statistics.median(clock):.1f} ms, 95 % within {late:.1f} ms"
    return f"{what}: {by_clock}; CPU {statistics.mean(cpu):.1f} ms, the mean of {len(took)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--queries", type=int, default=8)
    chosen = parser.parse_args()
    print(told(f"answer to next image, {chosen.queued:,} queued", between_images(chosen.queued, chosen.answers)))
    print(told("last answer to next query, head-only student", between_queries(chosen.queries)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
