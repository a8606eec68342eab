"""Gather all that an installation needs in one folder, for a machine without a network.

OUT gets wheels of the package and of all its dependencies, for this Python and this kind of
machine, requirements.txt with the digest of each, and install.sh:

  sh OUT/install.sh /opt/pe_unified     makes an environment there; asks no index

Usage: make wheelhouse, or python tools/wheelhouse.py [OUT] [--extras pacs]
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

from pe_unified.files import write_text

ROOT = Path(__file__).resolve().parents[1]
INSTALL = """#!/bin/sh
# Installs pe_unified into a new environment from the wheels beside this file, without a network.
# Usage: sh install.sh FOLDER [PYTHON]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: sh install.sh FOLDER [PYTHON]}
python=${2:-python%(version)s}
"$python" -m venv "$folder"
# Digests are checked, other sources of this machine are not asked (--isolated alone still reads the
# global pip.conf). --no-deps: requirements.txt is whole, and has one OpenCV instead of two.
export PIP_CONFIG_FILE=/dev/null
"$folder/bin/pip" --isolated install --quiet --disable-pip-version-check --no-index --no-deps \\
    --no-cache-dir --find-links "$here" --require-hashes -r "$here/requirements.txt"
"$folder/bin/pe-unified" doctor
"""


def gather(out: Path, extras: list[str]) -> None:
    """Fill the folder.

    Raises:
        subprocess.CalledProcessError: an index does not answer, or has no such package.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.whl"):  # of other versions; pip finds the current ones in its cache
        old.unlink()
    beside = Path(sys.executable)
    pip = [str(beside), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out)]
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder) / "locked.txt"
        # uv leaves the second OpenCV out, as pyproject.toml says.
        words = [str(beside.with_name("uv")), "pip", "compile", "--quiet", "--generate-hashes"]
        words += [f"--extra={extra}" for extra in extras]
        words += ["--python", str(beside), "-o", str(locked), "pyproject.toml"]
        subprocess.run(words, cwd=ROOT, check=True)
        subprocess.run([*pip, "--require-hashes", "-r", str(locked)], check=True)
        # Build a copy, so that files left by setuptools stay out of the tree.
        source = Path(folder) / "source"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes((ROOT / name).read_bytes())
        subprocess.run([*pip, str(source)], check=True)
    write_text(out / "requirements.txt", requirements(out))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    write_text(out / "install.sh", INSTALL % {"version": version})


def requirements(out: Path) -> str:
    """A line per wheel of the folder, with its digest."""
    lines = []
    for path in sorted(out.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(path.name)
        digest = hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("deploy/wheelhouse"))
    parser.add_argument("--extras", default="pacs")
    args = parser.parse_args()
    gather(args.out, args.extras.split(","))
    wheels = list(args.out.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 1e9
    print(f"{args.out}: {len(wheels)} wheels, {size:.1f} GB; sh {args.out}/install.sh FOLDER")


if __name__ == "__main__":
    main()
