"""`kdal <stage> [overrides]`: the first word picks the stage, Hydra reads the rest.

What needs no configuration is answered from the standard library alone; torch is imported only when work starts.
"""

import gc
import importlib
import os
import re
import signal
import sys

from kdal_cli.cli.conf import conf_folder
from kdal_cli.cli.outcome import guarded
from kdal_cli.cli.screen import settle
from kdal_cli.errors import UserError, nearest
from kdal_cli.signals import heard, listen, over

STAGES = {
    "train-teacher": "train the big model that the student will learn from",
    "distill": "train a student against a teacher, on all labels",
    "al-loop": "buy labels in rounds: query, label, retrain, measure",
    "evaluate": "measure a checkpoint or a finished run on a split of the data",
    "compress": "make a finished student smaller or cheaper, taught by what it was before",
    "pretrain": "learn what images look like, from the images alone",
}

READERS = {
    "report": "compare runs, seed by seed, with a verdict and a page",
    "runs": "list runs, filtered and sorted",
    "label": "label what a run waits for, on a page of this machine",
    "predict": "say what images show, with a finished student or an exported file",
    "export": "write a finished student as ONNX, int8, a timm folder or torch.export, each file measured",
    "watch": "compare new images with those that a student was trained on",
    "store": "list what earlier runs keep for later ones, and clear it",
}

READERS_IN = {"label": "label", "predict": "predicting", "export": "exporting", "watch": "watching", "store": "storing"}
"""The modules of readers that are not in `listing`."""

HELP = """\
kdal: knowledge distillation with active learning. How good a small model can you ship, for how many labels?

usage: kdal <stage> [key=value ...] [-m] [--cfg job] [--help]

stages
{stages}

and with runs
{readers}

examples
  kdal al-loop sampler=margin budget=100                          100 labels a round, on embedded images
  kdal al-loop -m sampler=random,entropy,margin budget=50,100     six runs
  kdal distill data=cifar10 teacher=resnet56 student=resnet20 compare=true
  kdal evaluate checkpoint=outputs/al-loop/<run>
  kdal al-loop resume=outputs/al-loop/<run>                       go on where a run, or a sweep, was stopped
  kdal al-loop experiment=two_by_two                              with and without a teacher, with and without a sampler
  kdal report outputs/multirun/al-loop/<sweep>                    what a sweep says
  kdal runs sampler=margin --sort test_accuracy
  kdal predict outputs/al-loop/<run> photos/
  kdal compress outputs/al-loop/<run> compress=prune compress.ratio=0.5
  kdal export outputs/al-loop/<run> format=[onnx,int8]

  kdal <stage> --help    its groups, options and defaults
  kdal completion bash   a script for your shell: eval "$(kdal completion bash)"
  kdal --version

An error is one line on stderr; --debug shows the traceback as well.
Exit codes: 0 done, 2 wrong input, 3 the machine failed, 4 run folder in use, 5 waiting for labels from people,
130 or 143 stopped, 1 a fault of kdal.
"""

COMPLETION = """\
_kdal() {
    local choice
    COMPREPLY=()
    while IFS= read -r choice; do
        COMPREPLY+=("$choice")
    done < <(kdal completion query "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _kdal kdal
"""
"""Choices are read as lines, never as shell words, which `compgen -W` would expand."""

PLAIN = re.compile(r"[\w./=@+~,:-]*")
"""A choice that means itself to a shell; others, such as a file called `$(...)`, are not offered."""

SPINS = "10000"
"""How often a thread of OpenMP looks for work before it sleeps: 30 times less than usual. Threads that spin keep the
cores from others: two runs at once on two cores were 46 times as slow as one alone, and are 5 times with this."""


def main() -> None:
    """The console script. What it needs to hear a signal is all that is imported before it listens."""
    listen()
    settle()
    if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):  # noqa: PTH109
        del sys.path[0]  # `python -m` and `-c` would import what lies in this folder; PYTHONPATH is asked for
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
    gc.disable()  # what is imported and composed stays: looking through it again and again is a tenth of a short run
    os.umask(os.umask(0o077) | 0o002)  # whatever is made here, by whichever library, not everybody writes it
    words = sys.argv[1:]
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    code = guarded(lambda: (together if "RANK" in os.environ else answer)(words), debug)
    over(code)
    sys.exit(code)


def together(words: list[str]) -> None:
    """The same where torchrun has started several processes: number 0 answers, the others help it."""
    from kdal_cli.devices import launched, pulse

    mine = launched.launch()
    if mine is not None and mine.rank:
        launched.serve(mine)
    pulse.hang_on(signal.SIGTERM)
    try:
        answer(words)
    finally:
        launched.over()


def answer(words: list[str]) -> None:
    """Do what the words of a command line ask for."""
    first = words[0] if words else "--help"
    if first in ("--help", "-h", "help"):
        stages, readers = (
            "\n".join(f"  {name:<15}{what}" for name, what in words.items()) for words in (STAGES, READERS)
        )
        sys.stdout.write(HELP.format(stages=stages, readers=readers))
    elif "--version" in words and first in ("--version", *STAGES):
        from importlib.metadata import version

        sys.stdout.write(f"kdal {version('kdal')}\n")
    elif first == "completion":
        complete(words[1:])
    elif first in READERS:
        read = importlib.import_module(f"kdal_cli.cli.{READERS_IN.get(first, 'listing')}")
        gc.enable()
        with heard():
            getattr(read, first)(words[1:])
    elif first in STAGES and words[1:] in (["--help"], ["-h"]):
        from kdal_cli.cli.help import stage_help

        sys.stdout.write(stage_help(conf_folder(), first))
    elif first in STAGES:
        from kdal_cli.cli import hydra_app

        with heard():
            hydra_app.start(first, words[1:])
    else:
        raise UserError(f"no stage {first!r}", cure=nearest(first, [*STAGES, *READERS]))


def complete(words: list[str]) -> None:
    """Print the script for a shell, or the choices for a line that is being typed."""
    match words:
        case ["bash" | "zsh" as shell]:
            sys.stdout.write("autoload -U +X bashcompinit && bashcompinit\n" * (shell == "zsh") + COMPLETION)
        case ["query", line]:
            typed = line.split()[1:] + [""] * line.endswith(" ")
            choices = [*STAGES, *READERS]
            if typed and typed[0] in STAGES and len(typed) > 1:
                from kdal_cli.cli.composer import continuations

                choices = continuations(typed[0], " ".join(typed[1:]))
            offered = [
                choice
                for choice in choices
                if choice.startswith(typed[-1] if typed else "") and PLAIN.fullmatch(choice)
            ]
            sys.stdout.write("".join(f"{choice}\n" for choice in offered))
        case _:
            raise UserError("kdal completion needs the name of a shell", cure='eval "$(kdal completion bash)" (or zsh)')
