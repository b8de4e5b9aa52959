"""What scripts can do, on the real process: CloudKitty's contract, where points came from, and what outlives what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from rater.rating.frame import Failed, RatingFrame, RatingPoint, ScriptDone, ScriptJob
from rater.sandbox import BackgroundSandbox, Sandbox, SandboxSettings, check_scripts
from rater.sandbox import background as background_module
from tests.integration.sandboxes import BEGIN, GOOD, assert_works, done, failed, job, point, script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(cpu_seconds=30, wall_seconds=60)) as sandbox:
        yield sandbox


def test_a_script_gets_what_cloudkitty_gives(sandbox: Sandbox) -> None:
    result = done(sandbox, "print(data)", points=(point(1, "volume"), point(0)))

    labels = "'metadata': {'flavor': 'm1.tiny', 'vcpus': 2, 'ratio': 0.5, 'public': True, 'image': None}}]"
    utc = "tzinfo=datetime.timezone.utc)"
    assert result.printed == (
        f"{{'period': {{'begin': datetime.datetime(2026, 1, 1, 0, 0, {utc}, "
        f"'end': datetime.datetime(2026, 1, 1, 1, 0, {utc}}}, 'usage': {{"
        "'instance': [{'vol': {'unit': 'GiB', 'qty': Decimal('1.5')}, 'rating': {'price': Decimal('0.25')}, "
        f"'groupby': {{'project_id': 'p', 'resource_id': 'i-0'}}, {labels}, "
        "'volume': [{'vol': {'unit': 'GiB', 'qty': Decimal('1.5')}, 'rating': {'price': Decimal('0.25')}, "
        f"'groupby': {{'project_id': 'p', 'resource_id': 'i-1'}}, {labels}}}}}\n"
    )


def test_what_a_script_leaves_alone_comes_back_as_it_was(sandbox: Sandbox) -> None:
    points = (point(1, "volume"), point(0, unit=""), point(2))

    result = done(sandbox, "", points=points)

    assert result == ScriptDone([point(0, unit="undefined"), point(2), point(1, "volume")])


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ("0.1", "0.1"),
        ("3 * 0.1", "0.30000000000000004"),
        ("'1.50'", "1.50"),
        ("7", "7"),
        ("Decimal('1E-28')", "1E-28"),
        ("-1", "-1"),
        ("1e3", "1000.0"),
        ("' 12 '", "12"),
    ],
)
def test_prices_are_read_by_their_text(sandbox: Sandbox, value: str, price: str) -> None:
    text = f"from decimal import Decimal\ndata['usage']['instance'][0]['rating']['price'] = {value}"

    assert str(done(sandbox, text).points[0].price) == price


@pytest.mark.parametrize("change", ["del p['rating']", "del p['rating']['price']", "p['rating'] = {}"])
def test_a_missing_price_is_zero(sandbox: Sandbox, change: str) -> None:
    result = done(sandbox, f"p = data['usage']['instance'][0]\n{change}")

    assert [point.price for point in result.points] == [Decimal(0), Decimal("0.25"), Decimal("0.25")]


def test_everything_of_a_point_can_be_changed(sandbox: Sandbox) -> None:
    text = (
        "p = data['usage']['instance'][0]\n"
        "p['vol'] = {'qty': 2, 'unit': ''}\np['rating']['price'] *= 3\n"
        "p['groupby'] = [('a', 'b')]\np['metadata']['vcpus'] = True\n"
    )

    changed = done(sandbox, text).points[0]

    labels = {"flavor": "m1.tiny", "vcpus": True, "ratio": 0.5, "public": True, "image": None}
    assert changed == point(
        0, unit="undefined", qty=Decimal(2), price=Decimal("0.75"), groupby={"a": "b"}, metadata=labels
    )
    assert changed.metadata["vcpus"] is True


@pytest.mark.parametrize(("value", "kind"), [("1", int), ("1.0", float), ("True", bool)])
def test_equal_labels_of_other_types_are_other_labels(sandbox: Sandbox, value: str, kind: type) -> None:
    """They match other rules."""
    result = done(sandbox, f"data['usage']['instance'][0]['metadata']['public'] = {value}")

    assert type(result.points[0].metadata["public"]) is kind


def test_labels_keep_their_types_by_subclasses(sandbox: Sandbox) -> None:
    text = (
        "import enum\nclass Size(enum.IntEnum):\n    BIG = 3\nclass Name(str): pass\nclass Half(float): pass\n"
        "data['usage']['instance'][0]['metadata'] = {Name('a'): Name('b'), 'c': Size.BIG, 'd': Half(0.5)}"
    )

    assert done(sandbox, text).points[0].metadata == {"a": "b", "c": 3, "d": 0.5}


def test_dropped_points_are_gone(sandbox: Sandbox) -> None:
    result = done(sandbox, "del data['usage']['volume']\ndel data['usage']['instance'][0]")

    assert result.points == [point(2)]


def test_added_points_have_no_origin(sandbox: Sandbox) -> None:
    text = (
        "data['usage']['discount'] = [{'vol': {'unit': 'x', 'qty': 1}, 'rating': {'price': -5},"
        " 'groupby': {'a': 'b'}, 'metadata': {}}]\n"
        "instances = data['usage']['instance']\ninstances.append(instances[0])"
    )

    result = done(sandbox, text)

    assert [(p.metric, p.price, p.origin) for p in result.points] == [
        ("discount", Decimal(-5), -1),
        ("instance", Decimal("0.25"), 0),
        ("instance", Decimal("0.25"), 2),
        ("instance", Decimal("0.25"), -1),
        ("volume", Decimal("0.25"), 1),
    ]


def test_origins_follow_points_that_move(sandbox: Sandbox) -> None:
    text = "usage = data['usage']\nusage['instance'].reverse()\nusage['other'] = usage.pop('volume')"

    assert [(p.metric, p.origin) for p in done(sandbox, text).points] == [
        ("instance", 2),
        ("instance", 0),
        ("other", 1),
    ]


def test_a_point_built_anew_is_the_one_with_its_labels(sandbox: Sandbox) -> None:
    text = (
        "import copy\ndata = copy.deepcopy(data)\n"
        "for p in data['usage']['instance']: p['groupby'] = dict(reversed(p['groupby'].items()))\n"
        "data['usage']['volume'][0]['metadata']['flavor'] = 'other'"
    )

    assert [p.origin for p in done(sandbox, text).points] == [0, 2, -1]


def test_twins_built_anew_keep_their_order(sandbox: Sandbox) -> None:
    twins = tuple(point(0, origin=number, qty=Decimal(number)) for number in range(3))

    result = done(sandbox, "import copy\ndata = copy.deepcopy(data)", points=twins)

    assert result.points == list(twins)


def test_origins_are_those_of_the_frame_not_of_the_job(sandbox: Sandbox) -> None:
    """An earlier module may have dropped or added points."""
    result = done(sandbox, GOOD, points=(point(7), point(8, origin=-1), point(5)))

    assert [p.origin for p in result.points] == [7, -1, 5]


CHANGE = (
    "usage = data['usage']\nusage['instance'][0]['rating']['price'] = 7\n"
    "usage['instance'][1]['metadata'] = {'a': 'b'}\n"
    "usage['volume'].append({'vol': {'unit': 'x', 'qty': 1}, 'groupby': {}, 'metadata': {}})\n"
)


def assert_is_of(result: object, points: tuple[RatingPoint, ...]) -> None:
    """The result of CHANGE holds the origins and the very objects of these points: instance, volume, instance."""
    assert isinstance(result, ScriptDone)
    first, second, volume, added = result.points
    assert [p.origin for p in result.points] == [points[0].origin, points[2].origin, points[1].origin, -1]
    assert (first.price, second.metadata, added.unit) == (Decimal(7), {"a": "b"}, "x")
    for mine, other in ((first, points[0]), (volume, points[1])):
        assert mine.qty is other.qty
        assert mine.groupby is other.groupby
        assert mine.metadata is other.metadata
    assert second.groupby == points[2].groupby
    assert (second.price, volume.price) == (points[2].price, points[1].price)


def twin_frames() -> list[tuple[RatingPoint, ...]]:
    """Equal to a script; points that were put aside before them moved the origins."""
    return [
        (point(0, origin=first), point(1, "volume", origin=second), point(2, origin=third))
        for first, second, third in ((3, 4, 7), (0, 1, 2), (1, -1, 0))
    ]


def test_equal_frames_keep_their_own_origins(sandbox: Sandbox) -> None:
    for points in twin_frames():
        assert_is_of(sandbox.run(job(CHANGE, points=points)), points)


def test_scripts_work_on_each_others_results(sandbox: Sandbox) -> None:
    texts = (
        "data['usage']['instance'][0]['rating']['price'] = '0.5'\ndel data['usage']['volume']",
        "p = data['usage']['instance'][0]\nassert type(p['rating']['price']).__name__ == 'Decimal'\n"
        "p['rating']['price'] *= 2\ndata['usage']['a'] = ()\ndata['usage']['instance'].append({**p, 'metadata': {}})",
        "assert list(data['usage']) == ['a', 'instance'], data\n"
        "data['usage']['instance'][2]['rating']['price'] += 7\nprint('last')",
    )

    result = done(sandbox, *texts)

    assert [(p.price, p.origin) for p in result.points] == [
        (Decimal("1.0"), 0),
        (Decimal("0.25"), 2),
        (Decimal("8.0"), -1),
    ]
    assert result.printed == "last\n"


def test_the_second_script_is_named_when_it_fails(sandbox: Sandbox) -> None:
    result = failed(sandbox, "x = 1", "x = 1\ny = x / 0")

    assert result == Failed("pyscripts", "bad2", 2, "ZeroDivisionError: division by zero")


def test_a_failure_names_the_deepest_line_of_the_script(sandbox: Sandbox) -> None:
    result = failed(sandbox, "import json\ndef f():\n    return json.loads('{')\n\nf()")

    assert (result.line, result.reason.split(":")[0]) == (3, "JSONDecodeError")


def test_no_script_and_no_point_are_fine(sandbox: Sandbox) -> None:
    empty = ScriptJob((script("assert data['usage'] == {}"),), RatingFrame(None, BEGIN, BEGIN + 3600, ()))

    assert sandbox.run(empty) == ScriptDone([])
    assert sandbox.run(ScriptJob((), job("").frame)) == ScriptDone([point(0), point(2), point(1, "volume")])


@pytest.mark.parametrize(
    "text",
    [
        "import math, cmath, fractions, statistics, random, hashlib, base64, copy, operator, string",
        "import re\nassert re.sub('(?i)É', 'e', 'é') == 'e'",
        "import json\nassert json.loads('[1.5]') == [1.5]",
        "import datetime as d\n"
        "assert d.datetime.strptime('2026-01-02', '%Y-%m-%d').strftime('%A %x') == 'Friday 01/02/26'",
        "import zoneinfo, datetime as d\n"
        "assert data['period']['begin'].astimezone(zoneinfo.ZoneInfo('Europe/Berlin')).hour == 1",
        "import calendar\nassert calendar.monthrange(2026, 2)[1] == 28",
        "import time\ntime.sleep(0.001)\nassert time.tzname[0] == 'UTC' and time.localtime(0).tm_hour == 0",
        "import random\nassert random.random() != random.SystemRandom().random()",
        "from collections import defaultdict, Counter, namedtuple, OrderedDict",
        "import dataclasses\n@dataclasses.dataclass\nclass Rate:\n    a: int\nassert Rate(1).a == 1",
        "from decimal import *\ngetcontext().prec = 50\nassert str(Decimal(1) / 7)[:4] == '0.14'",
        "import xml.etree.ElementTree as e\nassert e.fromstring('<a b=\"1\"/>').get('b') == '1'",
        "from xml.dom import minidom\nassert minidom.parseString('<a/>')",
        "import sqlite3\nassert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)",
        "import csv, io\nassert next(csv.reader(io.StringIO('a,b'))) == ['a', 'b']",
        "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    assert 'line 3' in traceback.format_exc()",
        "import warnings\nwarnings.warn('careful')",
        "import logging\nlogging.getLogger('x').error('hm')",
        "import typing, enum, abc, types, contextlib, bisect, heapq, uuid\nassert uuid.uuid4()",
        "import asyncio, concurrent.futures, email.message, http.client, urllib.request, pathlib, multiprocessing",
        "import threading\nwith threading.Lock(): pass",
        "assert 'äöü'.encode('cp1252').decode('latin-1') and 'ä.com'.encode('idna')",
        "import importlib\nassert importlib.import_module('graphlib')",
        "json = __import__('json')\nassert json",
        "exec('x = 1')\nassert eval('x + 1') == 2",
        "assert sorted({'a', 'b', 'c', 'd'}) and [*map(str, range(3))]",
        "def f(n):\n    return n if n == 0 else f(n - 1)\nassert f(900) == 0",
        "try:\n    import numpy\nexcept ImportError:\n    pass",
        "import gc\ngc.collect()",
        "from __future__ import annotations\nx: Missing = 1",
        "global_ = 1\ndef f():\n    return global_\nassert f() == 1",
    ],
)  # fmt: skip
def test_a_script_may_use_the_standard_library(sandbox: Sandbox, text: str) -> None:
    assert len(done(sandbox, text).points) == 3


def test_hashes_are_the_same_in_every_process(sandbox: Sandbox) -> None:
    with Sandbox() as other:
        assert done(sandbox, "print(hash('x'))").printed == done(other, "print(hash('x'))").printed


def test_what_scripts_print_comes_with_the_result(sandbox: Sandbox) -> None:
    result = done(sandbox, "import sys\nprint('wörld\\ud800')\nprint('x', file=sys.stderr)\nsys.stdout.write('end')")

    assert result.printed == "wörld\\ud800\nx\nend"


def test_a_script_with_an_odd_name_is_named_with_its_line(sandbox: Sandbox) -> None:
    name = 'Preis "ä€𝄞", line 7 in x\n'
    crash = "x = 1\nimport ctypes\nctypes.string_at(0)"

    for text, line in ((crash, 3), ("\n\n1 / 0", 3)):
        result = sandbox.run(job(text, names=[name]))
        assert isinstance(result, Failed)
        assert (result.script, result.line) == (name, line)


def test_extra_modules_are_those_of_the_settings() -> None:
    text = "import yaml\nassert yaml.safe_load('a: 1') == {'a': 1}"

    with Sandbox(SandboxSettings(modules=["yaml"])) as sandbox:
        assert done(sandbox, text)
    with Sandbox(SandboxSettings(modules=["not_there"])) as sandbox:
        assert "'yaml' is not there" in failed(sandbox, text).reason


def test_memory_counts_beside_the_frame() -> None:
    """A large frame does not take what its scripts may."""
    points = tuple(point(number, metadata={"text": f"{number}" * 200}) for number in range(20_000))

    with Sandbox(SandboxSettings(memory_mib=16)) as sandbox:
        result = done(sandbox, GOOD, points=points)
        assert "16 MiB" in failed(sandbox, "x = bytes(2**25)").reason

    assert len(result.points) == len(points)


def test_a_frame_beyond_all_is_refused(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rater.sandbox.runner.MAX_JOB", 100)

    assert failed(sandbox, GOOD).reason.startswith("the frame has ")


def test_half_a_character_in_a_label_is_refused(sandbox: Sandbox) -> None:
    bad = point(0, metadata={"x": "\ud800"})

    assert "surrogate" in failed(sandbox, GOOD, points=(bad,)).reason
    assert [fault.reason for fault in sandbox.check([script("'\ud800'")])] == [
        failed(sandbox, GOOD, points=(bad,)).reason
    ]


def test_scripts_are_checked_inside() -> None:
    good, bad, mad = script("x = 1", "good"), script("x = 1\nfor", "bad"), script("-" * 300_000 + "1", "mad")

    found = check_scripts([good, bad, mad])

    assert [(fault.script, fault.line) for fault in found] == [("bad", 2), ("mad", 0)]


def test_layers_say_what_holds(sandbox: Sandbox) -> None:
    assert "seccomp" in sandbox.layers() or sys.platform != "linux"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_died_is_started_anew(sandbox: Sandbox, number: int) -> None:
    assert_works(sandbox)
    os.kill(sandbox.process_id(), number)

    assert_works(sandbox)


def test_a_process_that_dies_again_and_again_fails_the_frame(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Sandbox() as broken:
        result = failed(broken, GOOD)

    assert result.reason == "the process that runs scripts ended by itself"


def test_a_process_that_hangs_is_killed_with_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rater.sandbox.process._MORE_SECONDS", 1.0)
    with Sandbox(SandboxSettings(wall_seconds=0.5)) as sandbox:
        done(sandbox, "")
        os.kill(sandbox.process_id(), signal.SIGSTOP)
        assert_works(sandbox)


def test_closing_ends_a_job_that_runs() -> None:
    sandbox = Sandbox(SandboxSettings(cpu_seconds=60, wall_seconds=60))
    results: list[object] = []
    done(sandbox, "")
    thread = threading.Thread(target=lambda: results.append(sandbox.run(job("while True: pass"))))
    thread.start()
    time.sleep(0.2)
    process = sandbox.process_id()

    sandbox.close()
    thread.join(20)

    assert results == [Failed("pyscripts", "", 0, "the sandbox is closed")]
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_the_process_ends_with_the_one_that_started_it() -> None:
    program = (
        "import sys, time\nfrom rater.sandbox import Sandbox\nfrom tests.integration.sandboxes import job\n"
        "sandbox = Sandbox()\nsandbox.run(job(''))\nprint(sandbox.process_id(), flush=True)\n"
        "sandbox.run(job('while True: pass'))"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    zygote = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    worker.stdout.close()

    deadline = time.monotonic() + 20
    while Path(f"/proc/{zygote}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{zygote}").exists()


def test_where_nothing_contains_no_script_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: a machine whose system calls nobody listed."""
    monkeypatch.setattr("rater.sandbox.process._INSIDE", UNKNOWN_MACHINE)

    with Sandbox() as sandbox:
        result = failed(sandbox, GOOD)
    with Sandbox(SandboxSettings(containment="best_effort")) as sandbox:
        assert_works(sandbox)
        layers = sandbox.layers()

    assert result.reason.startswith("this system cannot contain scripts: system calls of pdp11 are not known")
    assert "scripts.containment" in result.reason
    assert "seccomp" not in layers


UNKNOWN_MACHINE = (
    "import sys; sys.path[:] = sys.argv[2:]; import platform, runpy; platform.machine = lambda: 'pdp11'; "
    "runpy.run_module('rater.sandbox.inside.zygote', run_name='__main__')"
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def background(clock: Clock) -> Iterator[BackgroundSandbox]:
    with BackgroundSandbox(SandboxSettings(processes=2, cpu_seconds=1, wall_seconds=60), clock=clock) as background:
        yield background


def test_in_the_background_a_job_is_asked_for_twice(background: BackgroundSandbox) -> None:
    jobs = [job(GOOD, points=(point(number),)) for number in range(20)]

    first = [background.run(one) for one in jobs]
    assert background.wait(60)
    second = [background.run(job(GOOD, points=(point(number),))) for number in range(20)]

    assert first == [None] * 20
    assert second == [ScriptDone([point(number, price=Decimal("1.25"))]) for number in range(20)]


def test_in_the_background_equal_frames_keep_their_own_origins(background: BackgroundSandbox) -> None:
    # given a frame with more points than the next ones, of which some were put aside
    frames = twin_frames()
    assert background.run(job(CHANGE, points=frames[0])) is None
    assert background.wait(60)

    # when others with an equal message ask, in turn, also of another scope
    for points in (*frames, *frames):
        one = job(CHANGE, points=points)
        other_scope = ScriptJob(one.scripts, msgspec.structs.replace(one.frame, scope_id="b"))

        # then the result was there at once, and is of their own points
        assert_is_of(background.run(one), points)
        assert_is_of(background.run(other_scope), points)


def test_in_the_background_each_part_of_a_job_counts(background: BackgroundSandbox) -> None:
    other_period = ScriptJob(job(GOOD).scripts, RatingFrame("a", BEGIN, BEGIN + 60, job(GOOD).frame.points))
    jobs = [
        job(GOOD), job(GOOD + "\n"), job(GOOD, ""), job(GOOD, names=["x"]), other_period,
        job(GOOD, points=(point(0), point(1))), job(GOOD, points=(point(0), point(1, qty=Decimal("1.50")))),
        job(GOOD, points=(point(0), point(1, price=Decimal(1)))),
    ]  # fmt: skip

    for one in jobs:
        assert background.run(one) is None


def test_in_the_background_a_failure_is_kept(background: BackgroundSandbox, clock: Clock) -> None:
    background.run(job("1 / 0"))
    assert background.wait(60)
    clock.now += 100

    result = background.run(job("1 / 0"))

    assert isinstance(result, Failed)
    assert result.line == 1


def test_in_the_background_a_frame_that_took_too_long_is_tried_three_times(
    background: BackgroundSandbox, clock: Clock
) -> None:
    endless = job("while True: pass")

    def ask() -> bool:
        """Whether it failed; else it is tried."""
        answer = background.run(endless)
        assert answer is None or isinstance(answer, Failed)
        assert background.wait(60)
        by_chance.append(answer is not None and answer.by_chance)
        return answer is not None

    by_chance: list[bool] = []
    asked = [ask(), ask()]
    for _ in range(4):
        clock.now += background_module.RETRY_SECONDS
        asked += [ask(), ask()]

    # then it says with each failure whether there will be another try
    assert asked == [False, True, False, True, False, True, True, True, True, True]
    assert by_chance == [False, True, False, True, False, False, False, False, False, False]


def test_in_the_background_a_broken_sandbox_fails_its_frame_and_the_next_one_is_rated(
    background: BackgroundSandbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a sandbox with a defect of its own
    def broken(*_: object) -> NoReturn:
        raise KeyError("defect")

    with monkeypatch.context() as patch:
        patch.setattr(Sandbox, "attempt", broken)
        assert background.run(job(GOOD)) is None
        assert background.waiting in (0, 1)
        assert background.wait(60)
    # then its frame fails, and what comes after it does not wait for ever
    failed = background.run(job(GOOD))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.by_chance) == ("the sandbox broke: KeyError('defect')", True)
    clock.now += background_module.RETRY_SECONDS
    assert background.run(job(GOOD)) is None
    assert background.wait(60)
    assert isinstance(background.run(job(GOOD)), ScriptDone)
    assert background.waiting == 0


def test_in_the_background_what_nobody_asks_for_is_forgotten(background: BackgroundSandbox, clock: Clock) -> None:
    background.run(job(GOOD))
    assert background.wait(60)
    assert background.run(job(GOOD)) is not None
    clock.now += background_module.KEEP_SECONDS

    assert background.run(job(GOOD)) is None


def test_in_the_background_room_is_bounded(
    background: BackgroundSandbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_module, "MAX_JOBS", 2)
    one, two, three, four = (job(GOOD, points=(point(number),)) for number in range(4))

    def ask(asked: ScriptJob) -> bool:
        answer = background.run(asked)
        assert background.wait(60)
        return answer is not None

    assert [ask(one), ask(two), ask(three)] == [False, False, False]
    assert ask(three) is False  # there was no room: nobody had fetched the others
    assert [ask(one), ask(three), ask(three)] == [True, False, True]  # what was fetched makes room
    assert [ask(two), ask(one), ask(one)] == [True, False, True]
    clock.now += background_module.UNFETCHED_SECONDS
    assert [ask(four), ask(four)] == [False, True]


def test_in_the_background_a_large_frame_is_taken_alone(
    background: BackgroundSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_module, "MAX_POINTS", 2)

    background.run(job(GOOD))
    assert background.wait(60)

    assert background.run(job(GOOD)) is not None


def test_in_the_background_half_a_character_is_refused_at_once(background: BackgroundSandbox) -> None:
    assert isinstance(background.run(job("'\ud800'")), Failed)


def test_in_the_background_closing_ends_what_runs() -> None:
    with BackgroundSandbox(SandboxSettings(cpu_seconds=60, wall_seconds=60)) as background:
        background.run(job("while True: pass"))
        time.sleep(0.3)

    assert background.run(job(GOOD)) is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rater-scripts")]
