"""Plants defects against each promise in a copy of the tree, and shows which suite finds which: `make mutants`.

Each must be found by the simulator and by one other suite. Exit 1 if one is not, or if the sound tree does not pass.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "promises"
SEEDS = 150  # of the simulator, until one of them finds it
SOUND_SEEDS = 20  # that the sound tree must pass here; `make sim` runs 300
SECONDS = 900  # for one suite and one defect


class Edit(NamedTuple):
    """`old` is replaced by `new`; it must be there exactly once."""

    path: str
    old: str
    new: str


class Defect(NamedTuple):
    """What is wrong, where, and which other suite finds it."""

    name: str
    edits: tuple[Edit, ...]
    suite: str
    tests: tuple[str, ...]


DEFECTS = (
    Defect(
        "a plan that comes late is told to nobody",
        (Edit("rater/engine/apply.py", "for left in union([*scope.evicted, *reopened]):", "for left in reopened:"),),
        "unit",
        ("tests/unit/engine/test_late_plans.py",),
    ),
    Defect(
        "fence off: commits under whatever membership is current",
        (
            Edit(
                "rater/stream/register.py",
                "            pin.generation,\n            pin.member_id,\n",
                "            int(coordinator.generation),\n            str(coordinator.member_id),\n",
            ),
        ),
        "integration",
        ("tests/integration/test_register.py",),
    ),
    Defect(
        "published before it is committed",
        (
            Edit(
                "rater/stream/keeper.py",
                "            await self._commit(Committed(offset, encode_pointer(pointer)))\n",
                "            await self._log.publish(self.partition, self._state.outbox[:items])\n"
                "            await self._commit(Committed(offset, encode_pointer(pointer)))\n",
            ),
        ),
        "unit",
        ("tests/unit/stream/test_keeper.py",),
    ),
    Defect(
        "outbox not in the snapshot",
        (Edit("rater/stream/snapshots.py", "state.outbox[:items]", "state.outbox[:0]"),),
        "unit",
        ("tests/unit/stream/test_keeper.py",),
    ),
    Defect(
        "union of coverage wrong at a touching edge",
        (
            Edit(
                "rater/model/interval.py",
                "if merged and part.begin <= merged[-1].end:",
                "if merged and part.begin < merged[-1].end:",
            ),
        ),
        "property",
        ("tests/property/test_model_interval.py",),
    ),
    Defect(
        "grace by the wall clock only",
        (Edit("rater/engine/decide.py", "quiet_since + settings.settle\n", "0 * quiet_since\n"),),
        "unit",
        ("tests/unit/engine/test_closing.py",),
    ),
    Defect(
        "a late revision adds instead of replacing",
        (
            Edit(
                "rater/engine/coverage.py",
                "    if (one.begin, one.end) == (other.begin, other.end):\n        return True\n"
                "    return _reaches_into(one, other) and _reaches_into(other, one)\n",
                "    if (one.begin, one.end) == (other.begin, other.end):\n        return False\n"
                "    return _reaches_into(one, other) and _reaches_into(other, one)\n",
            ),
            Edit(
                "rater/engine/take.py",
                "if s is target or (s.begin, s.end) != span or s.rank > target.rank]",
                "if s is target or not s.complete or s.parts]",
            ),
        ),
        "unit",
        ("tests/unit/engine/test_collections.py",),
    ),
    Defect(
        "the sink commits before it inserts",
        (
            Edit(
                "rater/stream/sink_reader.py",
                "        written = await self._insist(",
                "        if work.offsets:\n            await consumer.commit(work.offsets)\n"
                "        written = await self._insist(",
            ),
        ),
        "unit",
        ("tests/unit/stream/test_sink_reader.py",),
    ),
    Defect(
        "token not deterministic",
        (
            Edit("rater/store/writer.py", "from collections import C", "import uuid\nfrom collections import C"),
            Edit("rater/store/writer.py", '{named}/{month}"', '{named}/{month}/{uuid.uuid4()}"'),
        ),
        "unit",
        ("tests/unit/stream/test_sink_reader.py",),
    ),
    Defect(
        "the row of `frames` before its lines",
        (
            Edit(
                "rater/store/writer.py",
                "        for month, lines in sorted(self._lines.items()):\n            if len(lines):\n"
                "                yield LINES, month, lines.block()\n"
                "        for month, frames in sorted(self._frames.items()):\n"
                "            yield FRAMES, month, FRAMES.block(zip(*frames, strict=True))\n",
                "        for month, frames in sorted(self._frames.items()):\n"
                "            yield FRAMES, month, FRAMES.block(zip(*frames, strict=True))\n"
                "        for month, lines in sorted(self._lines.items()):\n            if len(lines):\n"
                "                yield LINES, month, lines.block()\n",
            ),
        ),
        "unit",
        ("tests/unit/store/test_blocks.py",),
    ),
    Defect(
        "a line that vanishes is not repeated with zero",
        (Edit("rater/engine/closing.py", "[*rating.lines, *rating.vanished])", "[*rating.lines])"),),
        "unit",
        ("tests/unit/engine/test_revisions.py",),
    ),
    Defect(
        "a gap is resolved without coverage",
        (Edit("rater/engine/closing.py", "resolved = [gap for gap in frame.gaps if gap.gap_id not in still]",
              "resolved = list(frame.gaps)"),),
        "unit",
        ("tests/unit/engine/test_revisions.py",),
    ),
    Defect(
        "revision reused after a restart",
        (
            Edit(
                "rater/stream/keeper.py",
                "        retry_unpriced(state)\n",
                "        retry_unpriced(state)\n        for scope in state.scopes.values():\n"
                "            for frame in scope.frames.values():\n"
                "                frame.revision = max(0, frame.revision - 1) if frame.is_closed else -1\n",
            ),
        ),
        "unit",
        ("tests/unit/stream/test_keeper.py",),
    ),
    Defect(
        "a repeated batch counts twice",
        (
            Edit(
                "rater/engine/take.py",
                "    if not add_number(producer.seen, part.sequence):\n",
                "    if not add_number(producer.seen, part.sequence) and part.covers:\n",
            ),
        ),
        "unit",
        ("tests/unit/engine/test_collections.py",),
    ),
    Defect(
        "the sink forgets that parts of a revision are missing",
        (
            Edit(
                "rater/store/assembly.py",
                "        return min(needed, default=self.next_offset)\n",
                "        return self.next_offset\n",
            ),
        ),
        "unit",
        ("tests/unit/store/test_assembly.py",),
    ),
)  # fmt: skip


class Found(NamedTuple):
    """What became of one defect in one suite."""

    found: bool
    seconds: float
    how: str


def main() -> int:
    """0 if every defect is found twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only defects whose names hold one of these words")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the simulator, at most")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    chosen = parser.parse_args()
    simulator = ["-m", "tests.sim", "--until-found", f"--processes={chosen.processes}", "--seeds"]
    defects = [d for d in DEFECTS if not chosen.names or any(word in d.name for word in chosen.names)]
    _copy()
    others = sorted({test for defect in defects for test in defect.tests})
    for what, arguments in (("simulator", [*simulator, str(SOUND_SEEDS)]), ("other suites", ["-m", "pytest", *others])):
        sound = _run(arguments)
        print(f"the sound tree, {what}: {'FAILS' if sound.found else 'passes'} ({sound.seconds:.0f} s)", flush=True)
        if sound.found:
            print(sound.how)
            return 1
    missed = 0
    print(f"\n{'defect':58} {'simulator':>14} other suite")
    for defect in defects:
        with _Planted(defect):
            by_simulator = _run([*simulator, str(chosen.seeds)])
            by_other = _run(["-m", "pytest", "-x", *defect.tests])
        missed += not (by_simulator.found and by_other.found)
        cells = [("found" if one.found else "NOT FOUND") + f" {one.seconds:3.0f} s" for one in (by_simulator, by_other)]
        print(f"{defect.name:58} {cells[0]:>14} {cells[1]} {defect.suite}: {', '.join(defect.tests)}", flush=True)
        print(f"{'':4}{by_simulator.how}", flush=True)
    print(f"\n{len(defects)} defects, {len(defects) - missed} found by both the simulator and another suite")
    return 1 if missed else 0


def _copy() -> None:
    """What git knows and what is new, without what is built."""
    shutil.rmtree(WORK, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (WORK / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, WORK / name)


class _Planted:
    """The defect, as long as the block lasts. Fails loudly if the code it is planted into has changed."""

    def __init__(self, defect: Defect) -> None:
        self._defect = defect
        self._sound: dict[Path, str] = {}

    def __enter__(self) -> None:
        for edit in self._defect.edits:
            path = WORK / edit.path
            text = path.read_text()
            self._sound.setdefault(path, text)
            if text.count(edit.old) != 1:
                raise SystemExit(
                    f"{self._defect.name}: {edit.path} has {text.count(edit.old)} places that read\n{edit.old}\n"
                    "One is needed: bring scripts/promises.py up to date"
                )
            path.write_text(text.replace(edit.old, edit.new))

    def __exit__(self, *_: object) -> None:
        for path, text in self._sound.items():
            path.write_text(text)


def _run(arguments: list[str]) -> Found:
    """Whether the suite fails. What cannot even be imported is not found, but broken."""
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(WORK), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=WORK, env=environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(arguments)} did not end within {SECONDS} s") from None
    output = done.stdout + done.stderr
    if done.returncode not in (0, 1) or "ImportError" in output or "SyntaxError" in output:
        raise SystemExit(f"{' '.join(arguments)} broke:\n{output[-3000:]}")
    said = [line for line in output.splitlines() if line.startswith(("seed ", "FAILED", "violation"))]
    return Found(done.returncode == 1, time.monotonic() - began, said[0][:200] if said else output[-1500:])


if __name__ == "__main__":
    sys.exit(main())
