"""Plants faults in rater/rating, one at a time, and counts how many the tests notice: `make mutants-rating`.

mutmut does the work, in a venv of its own (requirements-mutation.lock) and on a copy of the project in
`.cache/mutation`. Exit status 1 if fewer than 90 % are noticed. Those that are not are listed with their change;
docs/mutants.md says of the known ones why.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache" / "mutation"
VENV = HOME / "venv"
WORK = HOME / "work"
LOCK = ROOT / "requirements-mutation.lock"
COPIED = (
    "rater",
    "tests",
    "schemas",
    "collectors",
    "deploy",
    "docs",
    "examples",
    "benchmarks",
    "pyproject.toml",
    "README.md",
)
GOAL = 90.0  # percent
NOTICED = ("killed", "timeout", "segfault")


def main() -> int:
    """0 if enough are noticed; arguments are handed on to `mutmut run` (names of mutants, --max-children N).

    With names the results of the last run are kept, and only these mutants are tried again.
    """
    _install()
    if all(argument.startswith("-") or argument.isdigit() for argument in sys.argv[1:]):
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, WORK / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, WORK / name)
    subprocess.run([VENV / "bin" / "mutmut", "run", *sys.argv[1:]], cwd=WORK, check=False)
    return _report()


def _install() -> None:
    stamp = HOME / "made-from.json"
    wanted = json.dumps([sys.version.split()[0], str(VENV), hashlib.sha256(LOCK.read_bytes()).hexdigest()])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], check=True)
    uv = Path(sys.executable).with_name("uv")
    python = VENV / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python, "-r", LOCK], check=True
    )
    with (ROOT / "pyproject.toml").open("rb") as text:
        version = tomllib.load(text)["project"]["version"]
    # what `importlib.metadata` says of the project; its code is that of the copy, with faults
    [packages] = (VENV / "lib").glob("python*/site-packages")
    metadata = packages / f"rater-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: rater\nVersion: {version}\n")
    stamp.write_text(wanted)


def _report() -> int:
    listed = subprocess.run(
        [VENV / "bin" / "mutmut", "results", "--all", "true"], cwd=WORK, check=True, capture_output=True, text=True
    )
    states: dict[str, list[str]] = {}
    for line in listed.stdout.splitlines():
        name, _, state = line.strip().partition(": ")
        if state:
            states.setdefault(state, []).append(name)
    total = sum(map(len, states.values()))
    unnoticed = [name for state, names in states.items() if state not in NOTICED for name in names]
    for name in unnoticed if "not checked" not in states else ():
        shown = subprocess.run(
            [VENV / "bin" / "mutmut", "show", name], cwd=WORK, check=True, capture_output=True, text=True
        )
        change = [text for text in shown.stdout.splitlines() if text[:1] in "+-" and text[:3] not in ("---", "+++")]
        print("\n".join([name, *(f"    {text}" for text in change)]))
    noticed = 100 * (total - len(unnoticed)) / total if total else 0.0
    print(f"mutants: {total}, " + ", ".join(f"{len(names)} {state}" for state, names in sorted(states.items())))
    print(f"noticed: {noticed:.1f} % (goal: {GOAL:.0f} %)")
    return 0 if noticed >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
