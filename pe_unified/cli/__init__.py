"""The command line: one module per command, loaded when it is called."""

import importlib
import os
import signal
import sys
from typing import NoReturn

from pe_unified.version import __version__

#: Module and first line of help, by the words that call it.
COMMANDS = {
    "doctor": ("pe_unified.cli.doctor", "show what is installed, what is wrong and how to fix it"),
    "demo": ("pe_unified.cli.demo", "the whole workflow on synthetic studies"),
    "exam-demo": ("pe_unified.cli.exam_demo", "the exam systems on synthetic exams"),
    "phantom": ("pe_unified.phantom.command", "generate synthetic studies in public layouts"),
    "convert fumpe": ("pe_unified.converters.raw.fumpe", "convert FUMPE to a COCO data set"),
    "convert rsna": ("pe_unified.converters.raw.rsna", "convert RSNA-STR PE"),
    "convert cadpe": ("pe_unified.converters.raw.cadpe", "convert CAD-PE"),
    "convert read": ("pe_unified.converters.raw.read", "convert READ"),
    "convert nnunet": ("pe_unified.converters.raw.nnunet", "convert a raw data set of nnU-Net v2"),
    "convert folder": ("pe_unified.converters.raw.folder", "convert studies of your own"),
    "to-nnunet": ("pe_unified.converters.to_nnunet", "export a converted set to nnU-Net v2"),
    "verify": ("pe_unified.converters.verify", "check a converted set"),
    "audit": (
        "pe_unified.cli.audit",
        "find leaks and doubtful labels; a page with pictures",
    ),
    "merge": ("pe_unified.converters.merge", "merge converted sets into one"),
    "browse": ("pe_unified.cli.browse", "show what a config's pipeline gives the network"),
    "config": ("pe_unified.cli.config", "list the available configs, or print one in full"),
    "train": ("pe_unified.cli.train", "train a config"),
    "steps": ("pe_unified.cli.train_steps", "train a recipe of steps and compare its arms"),
    "extract": ("pe_unified.cli.extract", "store the features that an exam model reads"),
    "test": ("pe_unified.cli.test", "evaluate a checkpoint: AUC, Dice, IoU, mAP"),
    "evaluate": ("pe_unified.cli.evaluate", "score masks or marks of any system: FROC, Dice, ASSD"),
    "explain": ("pe_unified.cli.explain", "show what a model's answers are based on, as heat maps"),
    "marks": ("pe_unified.cli.marks", "mark emboli in the volumes of a converted set"),
    "publish": ("pe_unified.cli.publish", "fix all thresholds and write a model for use"),
    "finetune": (
        "pe_unified.cli.finetune",
        "continue training a published model on your own data",
    ),
    "card": ("pe_unified.cli.card", "print the card of a model"),
    "reporting": ("pe_unified.cli.reporting", "fill in CLAIM 2024 and TRIPOD+AI where possible"),
    "ensemble": ("pe_unified.cli.ensemble", "join several models; thresholds are fixed anew"),
    "export": ("pe_unified.cli.export", "export a model to ONNX Runtime or OpenVINO"),
    "infer": ("pe_unified.cli.infer", "analyse a CT study and write a report"),
    "batch": ("pe_unified.cli.infer_batch", "analyse a folder of studies; one report for each"),
    "review export": ("pe_unified.cli.review_export", "export readers' decisions: SEG, SR, a set"),
    "suggest": ("pe_unified.cli.suggest", "rank unread studies by what they would teach a model"),
    "errors": ("pe_unified.cli.errors", "show the errors of a model on a split, as a page"),
    "pacs": ("pe_unified.cli.pacs", "receive, analyse and return studies, as a service"),
    "baseline": ("pe_unified.cli.threshold_baseline", "measure a plain HU threshold"),
    "serve": ("pe_unified.cli.serve", "read studies in a browser and save decisions"),
    "benchmark": ("pe_unified.cli.benchmark", "measure speed compared with a reference"),
}


def run(module: str) -> NoReturn:
    """Load a command and run it.

    Until it is loaded, Ctrl-C ends the process at once: there is nothing to report yet.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = importlib.import_module(module)
    signal.signal(signal.SIGINT, usual)
    sys.exit(command.main())


def main() -> NoReturn:
    """``pe-unified COMMAND ...``."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    words = sys.argv[1:]
    if words[:1] == ["--version"]:
        sys.exit(print(f"pe_unified {__version__}"))
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            sys.argv = [f"pe-unified {name}", *words[count:]]
            run(COMMANDS[name][0])
    asked = {"-h", "--help"}
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    if set(words) - asked and (words[0] not in groups or set(words[1:]) - asked):
        import difflib

        typed = " ".join(words[: 2 if words[0] in groups else 1])
        near = difflib.get_close_matches(typed, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"pe-unified: there is no command '{typed}'{hint}\n", file=sys.stderr)
        print(_usage(), file=sys.stderr)
        sys.exit(2)
    print(_usage())
    sys.exit(0)


def _complete() -> None:
    """Answer a completion request of a shell; only the typed command is loaded."""
    import argparse

    import argcomplete

    typed = os.environ["COMP_LINE"].split()[1:]
    whole = argparse.ArgumentParser("pe-unified")
    kinds = whole.add_subparsers()
    groups: dict[str, argparse._SubParsersAction] = {}
    for name, (module, what) in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group and group not in groups:
            groups[group] = kinds.add_parser(group).add_subparsers()
        is_meant = typed[: len(name.split())] == name.split()
        parents = [importlib.import_module(module).make_parser()] if is_meant else []
        holder = groups[group] if group else kinds
        holder.add_parser(last, help=what, parents=parents, add_help=False)
    argcomplete.autocomplete(whole)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pe-unified COMMAND ...   (details: pe-unified COMMAND --help)",
            "",
            "Pulmonary embolism in CT: classification, segmentation and detection on one backbone.",
            "Research software, not a medical device.",
            "",
            *lines,
        ]
    )
