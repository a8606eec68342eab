"""Do the tests notice wrong code? Each fault of ``mutants.toml`` is put in, one at a time.

Every entry replaces one piece of text in one file by another that behaves otherwise, in a copy of
the tree, and runs the test files named with it. A fault that they let pass has survived.

Usage: make mutants, or .venv/bin/python tests/mutate.py [WORD ...] for the entries whose file or
description holds one of the words.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import psutil
from processes import started
from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
#: Of the faults, the share that the tests must notice.
GOAL = 0.95
#: For the test files of one fault, seconds; a single test has half of it.
_LIMIT = 900


@dataclass(frozen=True)
class Mutant:
    """One fault: ``old`` stands in ``file`` once, and becomes ``new``."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def load_mutants(path: Path = ROOT / "tests" / "mutants.toml") -> list[Mutant]:
    """The faults, in the order of the file."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


@contextmanager
def applied(mutant: Mutant, tree: Path) -> Iterator[None]:
    """The fault in a tree, for as long as the context lasts.

    Raises:
        ValueError: the text to replace is not there, or more than once.
    """
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8")
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(f"{mutant.file}: the text of '{mutant.what}' is there {count} times")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """Of the test files of one fault: pytest's exit status, or why there is none, and what fell."""

    status: int | str
    failed: str = ""


def run_tests(tree: Path, tests: Sequence[str]) -> Outcome:
    """Run these files up to the first test that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE"]
    command += ["--timeout", str(_LIMIT // 2), *tests]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with started(command, cwd=tree, env=environment, **pipes) as process:
        try:
            told, _ = process.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            for descendant in psutil.Process(process.pid).children(recursive=True):
                descendant.kill()
            return Outcome(f"its tests took more than {_LIMIT} s")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", told, re.MULTILINE)
    return Outcome(process.returncode, failed[1] if failed else "")


def copy_tree(target: Path) -> None:
    """The files that git knows of, as they stand in the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name, follow_symlinks=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only the entries that hold one")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree at work")
    args = parser.parse_args()
    mutants = [
        mutant
        for mutant in load_mutants()
        if not args.words or any(word in f"{mutant.file} {mutant.what}" for word in args.words)
    ]
    if not mutants:
        parser.error(f"no entry holds one of: {', '.join(args.words)}")
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(args.jobs):
            tree = Path(scratch, f"tree{number}", "pe_unified")
            copy_tree(tree)
            if (ROOT.parent / "shared").is_dir():  # real masks, which some tests read
                (tree.parent / "shared").symlink_to(ROOT.parent / "shared")
            trees.put(tree)

        def borrowed(mutant: Mutant | None, tests: Sequence[str]) -> Outcome:
            tree = trees.get()
            try:
                if mutant is None:
                    return run_tests(tree, tests)
                with applied(mutant, tree):
                    return run_tests(tree, tests)
            except ValueError as error:
                return Outcome(str(error))
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(args.jobs) as pool:
            sound = sorted({test for mutant in mutants for test in mutant.tests})
            outcomes = pool.map(lambda test: borrowed(None, [test]), sound)
            outcomes = track(outcomes, "without faults", len(sound), console=console)
            broken = [test for test, outcome in zip(sound, outcomes) if outcome.status]
            if broken:
                console.print(f"these fail without any fault: {', '.join(broken)}")
                return 2
            outcomes = pool.map(lambda each: borrowed(each, each.tests), mutants)
            outcomes = track(outcomes, "with faults", len(mutants), console=console)
            noticed = unusable = 0
            for mutant, outcome in zip(mutants, outcomes):
                status = outcome.status
                line = f"{mutant.file}: {mutant.what}"
                if status == 1:
                    noticed += 1
                    line = f"noticed: {line}: by {outcome.failed}"
                elif status == 0:
                    line = f"survived: {line}"
                else:
                    unusable += 1
                    why = status if isinstance(status, str) else f"pytest ended with {status}"
                    line = f"unusable: {line}: {why}"
                console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print(f"{noticed} of {len(mutants)} faults noticed; the goal is {GOAL:.0%}")
    return 0 if not unusable and noticed >= GOAL * len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
