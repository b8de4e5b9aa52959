"""Why a child ended without a result, in words for the person who wrote the script."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from rater.rating.frame import Failed
from rater.sandbox.settings import SandboxSettings
from rater.sandbox.wire import MAX_REASON, Ending, script_file

__all__ = ["MODULE", "by_chance", "ended", "failure"]

MODULE = "pyscripts"

_FRAME = re.compile(r'^  File "(.*)", line (\d{1,9}) in ', re.MULTILINE)
_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)


def ended(names: Sequence[str], ending: Ending, settings: SandboxSettings) -> Failed:
    """`names` are those of the scripts in order. The line is that which faulthandler wrote, 0 if it could not."""
    script = names[ending.parting.script] if 0 <= ending.parting.script < len(names) else ""
    return failure(script, _line(script, ending), _reason(ending, settings))


def failure(script: str, line: int, reason: str) -> Failed:
    """A failure whose reason is one line of bounded length that no terminal takes for a command."""
    text = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for char in " ".join(reason[: 4 * MAX_REASON].split())
    )
    return Failed(MODULE, script, line, text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 3]}...")


def by_chance(ending: Ending, settings: SandboxSettings) -> bool:
    """It may be that the machine is at fault: too little time, or ended by force from outside."""
    return (
        not ending.parting.overflow
        and not ending.parting.mute
        and (ending.parting.late or _out_of_cpu(ending, settings) or ending.parting.status == -signal.SIGKILL)
    )


def _out_of_cpu(ending: Ending, settings: SandboxSettings) -> bool:
    """The kernel's limit is more exact than what it tells: a stack that was written for no other reason says it too."""
    return ending.parting.cpu >= settings.cpu_seconds or (
        not (ending.parting.late or ending.parting.mute) and ending.trace.startswith(b"Stack ")
    )


def _line(script: str, ending: Ending) -> int:
    """Of the deepest frame inside the script: faulthandler writes the most recent call first."""
    file = _as_dumped(script_file(script))
    for found in _FRAME.finditer(_text(ending.trace) + "\n" + _text(ending.printed)):
        if found[1] == file:
            return int(found[2])
    return 0


def _as_dumped(name: str) -> str:
    """A file name as faulthandler writes it: printable ASCII, the rest escaped."""
    return "".join(
        char
        if " " <= char <= "~"
        else f"\\x{ord(char):02x}"
        if ord(char) <= 0xFF
        else f"\\u{ord(char):04x}"
        if ord(char) <= 0xFFFF
        else f"\\U{ord(char):08x}"
        for char in name
    )


def _text(said: bytes) -> str:
    return said.decode("ascii", "replace")


def _reason(ending: Ending, settings: SandboxSettings) -> str:
    if ending.parting.overflow:
        return f"gives back more than {settings.result_mib} MiB (scripts.result_mib)"
    if _out_of_cpu(ending, settings):
        return f"takes more than {settings.cpu_seconds} s of processor time (scripts.cpu_seconds)"
    if ending.parting.late:
        return (
            f"takes longer than {settings.wall_seconds:g} s (scripts.wall_seconds), "
            f"of which {ending.parting.cpu:.1f} s of processor time"
        )
    if found := _FATAL.search(_text(ending.trace)) or _FATAL.search(_text(ending.printed)):
        return f"crashes Python: {found[1]}"
    if ending.parting.mute:
        return "closes the descriptors of its process and goes on"
    if ending.parting.status < 0:
        return _signal(-ending.parting.status)
    return f"ends the process with status {ending.parting.status} before it gives back anything"


def _signal(number: int) -> str:
    if number == signal.SIGKILL:
        return "ended by force (SIGKILL): the machine may be out of memory"
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    return f"crashes the process ({name})"
