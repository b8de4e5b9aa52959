"""The API of Gnocchi as a process, run with the Python of its own venv: `gnocchi_api.py CONFIG CLOCK`.

waitress serves it on a free port, which is printed. Gnocchi dates revisions of resources with the time of the request:
where the file CLOCK exists, that time (seconds since the epoch) is what it reads there. So a past window can be loaded.

Where a file `stumble` stands beside CLOCK, the next question about histories stumbles over the one after it, as one of
thousands asked side by side does by chance: it takes the file away, and reads the list of mapped classes so slowly that
the other adds one meanwhile.
"""

import datetime
import sys
import time
import weakref
from pathlib import Path

import waitress

_config, _clock = sys.argv[1:]
sys.argv = ["gnocchi-api", "--config-file", _config]  # which it reads by itself

from gnocchi import utils  # noqa: E402  - after sys.argv, which is why this file exists
from gnocchi.cli import api  # noqa: E402
from gnocchi.indexer import sqlalchemy as indexer  # noqa: E402

_real_utcnow = utils.utcnow


def _utcnow() -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(float(Path(_clock).read_text()), _real_utcnow().tzinfo)
    except FileNotFoundError:
        return _real_utcnow()


utils.utcnow = _utcnow

_stumble = Path(_clock).with_name("stumble")


class _Classes(weakref.WeakKeyDictionary):
    """What SQLAlchemy keeps them in, read slowly on demand."""

    def __iter__(self):
        known = super().__iter__()
        if _stumble.exists():
            first, size, give_up_at = next(known), len(self), time.monotonic() + 30
            _stumble.unlink()
            yield first
            while len(self) == size and time.monotonic() < give_up_at:
                time.sleep(0.01)
        yield from known


indexer.mapper_reg._managers = _Classes(indexer.mapper_reg._managers)
_server = waitress.create_server(api.wsgi(), host="127.0.0.1", port=0, threads=8)
print(f"listening on {_server.effective_port}", flush=True)
_server.run()
