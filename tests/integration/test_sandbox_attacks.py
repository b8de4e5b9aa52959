"""Scripts that mean harm, on the real process: each ends as stated, and the same sandbox rates the next frame."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rater.sandbox import Sandbox, SandboxSettings
from tests.integration.sandboxes import assert_works, done, failed, point

CLOSED = "scripts compute only"
CPU = "takes more than 1 s of processor time"
MEMORY = "takes more than 64 MiB of memory"
PRINTS = "prints more than 16 KiB"
SECRET = "s3cr3t-of-the-worker"

LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
REFUSED = "if result != -1 or ctypes.get_errno() != 1: raise SystemError('let through')\nraise OSError(1, 'refused')\n"


class Attack(NamedTuple):
    name: str
    text: str
    reason: str
    line: int | None = None  # None: any


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    os.environ["RATER_TEST_SECRET"] = SECRET
    settings = SandboxSettings(cpu_seconds=1, wall_seconds=60, memory_mib=64, output_kib=16, result_mib=1)
    with Sandbox(settings) as sandbox:
        yield sandbox
    del os.environ["RATER_TEST_SECRET"]


ATTACKS = [
    # files
    Attack("reads a file", "x = 1\nopen('/etc/passwd').read()", CLOSED, 2),
    Attack("writes a file", "open('/tmp/leak', 'w').write('x')", CLOSED, 1),
    Attack("writes into its directory", "open('leak', 'w').write('x')", CLOSED, 1),
    Attack("lists a directory", "import os\nos.listdir('/')", CLOSED, 2),
    Attack("asks whether a file exists", "import os\nos.stat('/etc/passwd')", CLOSED, 2),
    Attack("removes a file", "import os\nos.unlink('/etc/passwd')", CLOSED, 2),
    Attack("reads the worker's environment", "import os\nopen(f'/proc/{os.getppid()}/environ').read()", CLOSED, 2),
    Attack("reads its own maps", "open('/proc/self/maps').read()", CLOSED, 1),
    Attack("makes a temporary file", "import tempfile\ntempfile.TemporaryFile()", "No usable temporary directory", 2),
    Attack("imports what is not there", "x = 1\nimport numpy", "module 'numpy' is not there for scripts", 2),
    Attack("imports the service", "import rater.store", "module 'rater.store' is not there for scripts", 1),
    # network
    Attack("opens a socket", "import socket\nsocket.socket()", CLOSED, 2),
    Attack("connects", "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)", CLOSED, 2),
    Attack("fetches", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1/')", "URLError", 2),
    Attack("listens", "import asyncio\nasyncio.run(asyncio.sleep(0))", CLOSED, 2),
    # processes
    Attack("forks", "import os\nos.fork()", CLOSED, 2),
    Attack("is a fork bomb", "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError: pass", CPU),
    Attack("starts threads", "import threading\nthreading.Thread(target=print).start()", "can't start new thread", 2),
    Attack("starts a program", "import subprocess\nsubprocess.run(['id'])", CLOSED, 2),
    Attack("runs a shell", "import os\nif os.system('id'): raise OSError(1, 'refused')", CLOSED, 2),
    Attack("becomes a program", "import os\nos.execv('/bin/sh', ['sh'])", CLOSED, 2),
    Attack(
        "starts workers",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        CLOSED,
        2,
    ),
    Attack("signals its parent", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", CLOSED, 2),
    Attack("signals everybody", "import os, signal\nos.kill(-1, signal.SIGKILL)", CLOSED, 2),
    Attack("signals its group", "import os, signal\nos.killpg(0, signal.SIGKILL)", CLOSED, 2),
    Attack("becomes root", "import os\nos.setresuid(0, 0, 0)", CLOSED, 2),
    Attack("leaves its root", "import os\nos.chroot('..')", CLOSED, 2),
    Attack("leaves its session", "import os\nos.setsid()", CLOSED, 2),
    Attack("traces its parent", f"{LIBC}result = libc.ptrace(16, __import__('os').getppid(), 0, 0)\n{REFUSED}", CLOSED),
    Attack("mounts", f"{LIBC}result = libc.mount(b'x', b'/', b'proc', 0, 0)\n{REFUSED}", CLOSED),
    Attack(
        "maps code",
        f"{LIBC}libc.mmap.restype = ctypes.c_long\nresult = libc.mmap(0, 4096, 7, 34, -1, 0)\n{REFUSED}",
        CLOSED,
    ),
    Attack("calls by x32", f"{LIBC}result = libc.syscall(0x40000000 + 39)\n{REFUSED}", CLOSED),
    # limits
    Attack(
        "lifts its limits",
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
        "not allowed to raise",
        2,
    ),
    Attack("loops", "x = 1\nwhile True:\n    x += 1", CPU),
    Attack("loops in a power", "x = 10 ** 10 ** 8", CPU, 1),
    Attack("loops in a regular expression", "import re\nre.match('(a+)+$', 'a' * 100 + 'b')", CPU, 2),
    Attack("loops and catches all", "while True:\n    try:\n        1 / 0\n    except BaseException: pass", CPU),
    Attack("ignores the signal", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)", CLOSED, 2),
    Attack("sets a timer", "import signal\nsignal.setitimer(signal.ITIMER_REAL, 1)", CLOSED, 2),
    Attack(
        "silences faulthandler",
        "import faulthandler, signal\nfaulthandler.disable()\n"
        "faulthandler.unregister(signal.SIGXCPU)\nwhile True: pass",
        CPU,
        0,
    ),
    Attack("takes memory by a list", "x = [0]\nwhile True:\n    x += x", MEMORY, 3),
    Attack("takes memory by bytes", "x = bytearray(2**40)", MEMORY, 1),
    Attack("takes memory by a power", "x = 1 << (1 << 40)", MEMORY, 1),
    Attack("takes memory by text", "x = 'x'\nwhile True:\n    x = x + x", MEMORY, 3),
    Attack(
        "takes memory and catches all",
        "x = []\nwhile True:\n    try:\n        x.append(bytes(2**20))\n    except BaseException: pass",
        CPU,
    ),
    Attack("recurses", "def f():\n    f()\nf()", "RecursionError", 2),
    Attack("recurses without limit", "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    f()\nf()", ""),
    Attack("prints without end", "while True:\n    print('x' * 1000)", PRINTS, 2),
    Attack("prints a gigabyte at once", "print('x' * 2**24)", PRINTS, 1),
    Attack("prints errors without end", "import sys\nwhile True:\n    sys.stderr.write('x\\n')", PRINTS, 3),
    Attack("writes to its output", "import os\nwhile True:\n    os.write(1, b'x' * 4096)", PRINTS, 3),
    Attack(
        "writes to its output and catches",
        "import os\nwhile True:\n    try: os.write(1, b'x' * 9999)\n    except OSError: pass",
        CPU,
    ),
    # ends
    Attack("ends", "import os\nos._exit(0)", "ends the process with status 0"),
    Attack("ends with a status", "import os\nos._exit(7)", "ends the process with status 7"),
    Attack("exits", "x = 1\nimport sys; sys.exit(3)", "ends the process (SystemExit: 3)", 2),
    Attack("quits", "raise SystemExit", "ends the process (SystemExit)", 1),
    Attack("interrupts", "raise KeyboardInterrupt('no')", "KeyboardInterrupt: no", 1),
    Attack("aborts", "x = 1\nimport os; os.abort()", "crashes Python", 2),
    Attack("crashes", "import ctypes\nctypes.string_at(0)", "crashes Python: Segmentation fault", 2),
    Attack(
        "raises something odd", "class E(Exception):\n    def __str__(self): raise self\nraise E", "E: (its text", 3
    ),
    Attack("loops in its error", "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E", CPU),
    Attack("does not compile", "x = 1\nfor", "does not compile: invalid syntax", 2),
    Attack("nests too deeply", f"x = {'-' * 200_000}1", "does not compile"),
    Attack("asks", "input()", "RuntimeError", 1),
    # the process around it
    Attack("closes its descriptors", "import os\nos.closerange(0, 100)", "ends the process with status 1"),
    Attack(
        "closes its descriptors and goes on",
        "import os\nos.closerange(0, 100)\nwhile True: pass",
        "closes the descriptors",
    ),
    Attack("writes nonsense as its result", "import os\nos.write(3, b'\\x04\\0\\0\\0abcd')", "gives back nonsense"),
    Attack("announces a huge result", "import os\nos.write(3, b'\\xff\\xff\\xff\\xff')", "gives back more than 1 MiB"),
    Attack(
        "writes a result without end",
        "import os\nwhile True: os.write(3, b'\\xff\\xff\\x0f\\0' * 999)",
        "gives back nonsense",
    ),
    Attack(
        "forges a price that is none",
        "import os, msgspec\nmine = msgspec.msgpack.encode(['done', [['m', [[-1, 'u', 'NaN', '1', [{}, {}]]]]]])\n"
        "os.write(3, len(mine).to_bytes(4, 'little') + mine)",
        "gives back nonsense: the number NaN",
    ),
    Attack(
        "forges a point that is not its own",
        "import os, msgspec\nmine = msgspec.msgpack.encode(['done', [['m', [[99, None, None, None, None]]]]])\n"
        "os.write(3, len(mine).to_bytes(4, 'little') + mine)",
        "gives back nonsense: point 99",
    ),
    Attack(
        "forges labels beyond all records",
        "import os, msgspec\nrows = [[0, None, None, None, [{'x': 'x' * 2**16}, {}]]]\n"
        "mine = msgspec.msgpack.encode(['done', [['m', rows]]])\n"
        "os.write(3, len(mine).to_bytes(4, 'little') + mine)\nwhile True: pass",
        "gives back nonsense: metric 'm', point 1: its labels have 65",
    ),
    Attack(
        "forges a point with labels beyond all records",
        "import os, msgspec\nrows = [[-1, 'u', '1', '1', [{}, {'x': 'x' * 2**16}]]]\n"
        "mine = msgspec.msgpack.encode(['done', [['m', rows]]])\n"
        "os.write(3, len(mine).to_bytes(4, 'little') + mine)\nwhile True: pass",
        "gives back nonsense: metric 'm', point 1: its labels have 65",
    ),
    Attack(
        "forges a script that is none",
        "import os, msgspec\nmine = msgspec.msgpack.encode(['fault', 99, 1, 'x'])\n"
        "os.write(3, len(mine).to_bytes(4, 'little') + mine)",
        "x",
        1,
    ),
    Attack(
        "forges what is nested deeply",
        "import os\nmine = b'\\x93\\xa4done\\x90' + b'\\x91' * 500_000 + b'\\xc0'\n"
        "os.write(3, len(mine).to_bytes(4, 'little') + mine)",
        "gives back nonsense",
    ),
    Attack(
        "forges a label that is nested deeply",
        "import os\nmine = b'\\x92\\xa4done\\x91\\x92\\xa1m\\x91\\x95\\xff\\xa1u\\xa11\\xa11\\x92'\n"
        "mine += b'\\x81\\xa1x' * 200_000\nos.write(3, len(mine).to_bytes(4, 'little') + mine)",
        "gives back nonsense",
    ),
    Attack("speaks to the terminal", "raise ValueError('a\\n\\x1b[2Jb')", "a \N{REPLACEMENT CHARACTER}[2Jb", 1),
    Attack("says much", "raise ValueError('x' * 10**6)", "xxx...", 1),
    Attack("pretends to have crashed", "import os\nos.write(4, b'Fatal Python error: boo')\nwhile True: pass", "boo"),
    Attack(
        "breaks what is around it",
        "import gc, mmap\nfor found in gc.get_objects():\n    if type(found) is mmap.mmap: "
        "found[:4] = b'\\xff' * 4\n1 / 0",
        "ZeroDivisionError",
        4,
    ),
    Attack(
        "empties all that it finds",
        "import sys\nfor name, module in list(sys.modules.items()):\n"
        "    if name.startswith('rater'): vars(module).clear()",
        "ends the process with status 1",
    ),
    Attack("takes builtins away", "import builtins\nvars(builtins).clear()", ""),
    Attack("replaces Decimal", "import decimal\ndecimal.Decimal = None\ndata['usage']['x'] = 7", "must be a list", 0),
    Attack(
        "replaces what is checked with",
        "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 4\ndata = None",
        "",
    ),
    # what it gives back
    Attack("gives back nothing", "data = None", "data is None: it must be a dict", 0),
    Attack("deletes data", "del data", "KeyError", 0),
    Attack("gives back a number as usage", "data['usage'] = 7", "data['usage'] is of type int", 0),
    Attack("gives back a text as points", "data['usage']['instance'] = 'x'", "metric 'instance' is of type str", 0),
    Attack(
        "gives back None as a point", "data['usage']['instance'].append(None)", "metric 'instance', point 3: is None"
    ),
    Attack("adds a key", "data['usage']['volume'][0]['x'] = 1", "metric 'volume', point 1: it has the key 'x'"),
    Attack("adds a key to the data", "data['scope'] = 1", "data has the key 'scope'"),
    Attack("adds a key to rating", "data['usage']['volume'][0]['rating']['x'] = 1", "'rating' has the key 'x'"),
    Attack("takes vol away", "del data['usage']['volume'][0]['vol']", "it lacks the key 'vol'"),
    Attack("gives a text as a price", "data['usage']['volume'][0]['rating']['price'] = 'x'", "price is 'x'"),
    Attack("gives NaN as a price", "data['usage']['volume'][0]['rating']['price'] = float('nan')", "price is NaN"),
    Attack("gives infinity", "data['usage']['volume'][0]['vol']['qty'] = float('inf')", "qty is Infinity"),
    Attack(
        "gives a number beyond all", "data['usage']['volume'][0]['vol']['qty'] = '1e999999999'", "qty has more than"
    ),
    Attack("gives too many digits", "data['usage']['volume'][0]['vol']['qty'] = '1' * 3000", "qty has more than"),
    Attack(
        "gives a label that is a list", "data['usage']['volume'][0]['metadata']['x'] = []", "metadata['x'] is of type"
    ),
    Attack(
        "gives a label that is NaN", "data['usage']['volume'][0]['metadata']['x'] = float('nan')", "metadata['x'] is"
    ),
    Attack("gives a label of 65 bits", "data['usage']['volume'][0]['groupby']['x'] = 2**64", "beyond 64 bits"),
    Attack("gives a label without a text", "data['usage']['volume'][0]['groupby'][1] = 'x'", "name must be text"),
    Attack("gives half a character", "data['usage']['volume'][0]['groupby']['x'] = '\\ud800'", "half of a surrogate"),
    Attack("names a metric nothing", "data['usage'][''] = []", "a metric's name has 0 characters"),
    Attack("names a metric at length", "data['usage']['x' * 256] = []", "a metric's name has 256 characters"),
    Attack(
        "nests labels without end",
        "x = {}\nfor _ in range(100_000): x = {'x': x}\ndata['usage']['volume'][0]['metadata'] = x",
        "metadata['x'] is of type dict",
    ),
    Attack(
        "nests a label in itself",
        "x = {}\nx['x'] = x\ndata['usage']['volume'][0]['metadata'] = x",
        "metadata['x'] is of type dict",
    ),
    Attack(
        "gives a label beyond all records",
        "data['usage']['volume'][0]['metadata']['x'] = 'x' * 2**21",
        "metric 'volume', point 1: its labels have 2097",
        0,
    ),
    Attack(
        "gives many labels beyond all records",
        "data['usage']['instance'][1]['groupby'] = {f'label {n}': n for n in range(10_000)}",
        "metric 'instance', point 2: its labels have ",
        0,
    ),
    Attack(
        "adds a point with labels beyond all records",
        "data['usage']['x'] = [{'vol': {'unit': 'x', 'qty': 1}, 'groupby': {}, 'metadata': {'x': 'x' * 2**16}}]",
        "metric 'x', point 1: its labels have 65",
        0,
    ),
    Attack(
        "gives back too much",
        "data['usage']['volume'][0]['metadata']['x'] = 'x' * 60_000\ndata['usage']['volume'] *= 20",
        "1 MiB are taken",
    ),
    Attack("gives back too many points", "data['usage']['volume'] *= 20_000", "1 MiB are taken"),
    Attack("moves the frame", "data['period']['begin'] = data['period']['end']", "data['period']['begin'] was changed"),
    Attack(
        "gives a period that is none", "data['period'] = {'begin': 1, 'end': 2}", "data['period']['begin'] was changed"
    ),
    Attack(
        "gives an object that loops",
        "class X:\n    def __str__(self):\n        while True: pass\n"
        "data['usage']['volume'][0]['rating']['price'] = X()",
        CPU,
        3,
    ),
    Attack(
        "gives an object that raises",
        "class X:\n    def __str__(self): raise ZeroDivisionError\ndata['usage']['volume'][0]['rating']['price'] = X()",
        "ZeroDivisionError",
        2,
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack_fails_its_own_frame_alone(sandbox: Sandbox, attack: Attack) -> None:
    result = failed(sandbox, attack.text)

    assert attack.reason in result.reason
    assert (result.module, len(result.reason) <= 500) == ("pyscripts", True)
    assert attack.line in (None, result.line)
    assert_works(sandbox)


def test_no_process_is_left_by_all_of_them(sandbox: Sandbox) -> None:
    assert_works(sandbox)

    deadline = time.monotonic() + 10
    while len(children(sandbox.process_id())) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(children(sandbox.process_id())) <= 1  # it waits for the next frame


def children(process: int) -> list[str]:
    """Linux alone tells of them."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return path.read_text().split() if path.exists() else []


def test_a_script_that_waits_is_ended_with_its_line() -> None:
    with Sandbox(SandboxSettings(wall_seconds=2)) as sandbox:
        result = failed(sandbox, "import time\ntime.sleep(1000)")

        assert result.line == 2
        assert "takes longer than 2 s" in result.reason
        assert_works(sandbox)


def test_the_environment_is_empty(sandbox: Sandbox) -> None:
    result = done(sandbox, "import os\nprint(dict(os.environ))")

    assert result.printed == "{'TZ': 'UTC0'}\n"


def test_the_secrets_of_the_worker_are_nowhere_in_memory(sandbox: Sandbox) -> None:
    """The process is started anew, not forked from the worker."""
    search = (
        "import gc\n"
        "half, other = 's3cr3t-of-', 'the-worker'\n"
        "for found in gc.get_objects():\n"
        "    for value in (found.values() if type(found) is dict else found if type(found) in (list, tuple) else ()):\n"
        "        if type(value) is str and half + other in value and value is not half: raise SystemError('found')\n"
    )
    assert done(sandbox, search)


def test_descriptors_are_its_own_four(sandbox: Sandbox) -> None:
    text = (
        "import os\nfor n in range(1000):\n    try: os.lseek(n, 0, 1)\n"
        "    except OSError as e: found = e.errno\n    else: found = 0\n    if found != 9: print(n, found)\n"
    )

    assert done(sandbox, text).printed.split("\n") == ["1 0", "2 0", "3 29", "4 29", ""]


LEAKS = {
    "builtins": ("import builtins\nbuiltins.leak = 1", "import builtins\nfound = hasattr(builtins, 'leak')"),
    "a module": ("import json\njson.loads = None", "import json\nfound = json.loads is None"),
    "sys.modules": ("import sys\nsys.modules['leak'] = sys", "import sys\nfound = 'leak' in sys.modules"),
    "the decimal context": (
        "import decimal\ndecimal.getcontext().prec = 3",
        "import decimal\nfound = decimal.getcontext().prec == 3",
    ),
    "the environment": ("import os\nos.environ['LEAK'] = '1'", "import os\nfound = 'LEAK' in os.environ"),
    "globals": ("leak = 1", "found = 'leak' in globals()"),
    "the scripts' own process": (
        "import sys\nsys._getframe(1).f_globals['leak'] = 1",
        "import sys\nfound = 'leak' in sys._getframe(1).f_globals",
    ),
    "shared memory": (
        "import gc, mmap\nfor m in [o for o in gc.get_objects() if type(o) is mmap.mmap]: m[100:104] = b'LEAK'\n"
        "import sys\nf = sys._getframe(1)\nwhile f:\n    s = f.f_locals.get('self')\n"
        "    if hasattr(s, '_progress'): s._progress[100:104] = b'LEAK'\n    f = f.f_back",
        "import sys\nf = sys._getframe(1)\nfound = False\nwhile f:\n    s = f.f_locals.get('self')\n"
        "    if hasattr(s, '_progress'): found = s._progress[100:104] == b'LEAK'\n    f = f.f_back",
    ),
}


@pytest.mark.parametrize("where", LEAKS)
def test_nothing_leaks_into_the_next_frame(sandbox: Sandbox, where: str) -> None:
    leave, look = LEAKS[where]

    done(sandbox, leave)
    result = done(sandbox, f"{look}\nprint(found)")

    assert result.printed == "False\n"


SCAN = """
import ctypes
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
libc.memmem.restype = ctypes.c_void_p
libc.memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
libc.lseek.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int]
marker = ctypes.create_string_buffer(16)
for at, char in enumerate("NBSLFS.PG.PUIFST"):  # moved by one: else it would find its own text
    marker[at] = bytes([ord(char) - 1])
middle, heap = id(object()) & ~4095, libc.sbrk(0) & ~4095
mine, pages, found = ctypes.addressof(marker) & ~4095, 0, 0
for begin in (*range(middle - (48 << 20), middle + (48 << 20), 4096), *range(heap - (32 << 20), heap, 4096)):
    libc.lseek(1, 0, 0)
    if begin == mine or libc.write(1, begin, 1) != 1:
        continue
    pages += 1
    found += bool(libc.memmem(begin, 4096, marker, 16))
libc.lseek(1, 0, 0)
print(f"{pages > 1000} {found}")
"""
LEAVE = """
mark = "-".join(["MARKER", "OF", "OTHERS"]) + " "
print(mark * 100)
data["usage"]["instance"][0]["metadata"]["x"] = mark * 1000
"""


def test_nothing_of_another_frame_is_left_in_memory(sandbox: Sandbox) -> None:
    """A process has all the memory of the one it was forked from: what passed through there must be gone."""
    marked = point(0, metadata={"x": "MARKER-OF-OTHERS " * 100, "y": "MARKER-OF-OTHERS"})
    for _ in range(3):
        done(sandbox, LEAVE, points=(marked,))
        failed(sandbox, LEAVE + "raise ValueError(mark * 20)", points=(marked,))
        failed(sandbox, LEAVE + "import os; os.write(4, mark.encode() * 100)\nwhile True: pass", points=(marked,))
        printed = done(sandbox, SCAN).printed

        assert printed.split("\n")[0] == "True 0"
        assert done(sandbox, SCAN, points=(marked,)).printed.split("\n")[0] != "True 0"  # it finds its own


def test_a_script_is_ended_once_its_result_was_read(sandbox: Sandbox) -> None:
    forge = (
        "import os, msgspec\nprint(os.getpid())\nmine = msgspec.msgpack.encode(['done', []])\n"
        "os.write(3, len(mine).to_bytes(4, 'little') + mine)\nwhile True: pass"
    )
    result = done(sandbox, forge)

    assert result.points == []
    assert_works(sandbox)  # the zygote reaped it before it took the next job
    with pytest.raises(ProcessLookupError):
        os.kill(int(result.printed), 0)
