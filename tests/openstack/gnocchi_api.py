"""The API of Gnocchi as a process, run with the Python of its own venv: `gnocchi_api.py CONFIG CLOCK`.

waitress serves it on a free port, which is printed. Gnocchi dates revisions of resources with the time of the request:
where the file CLOCK exists, that time (seconds since the epoch) is what it reads there. So a past window can be loaded.
"""

import datetime
import sys
from pathlib import Path

import waitress

_config, _clock = sys.argv[1:]
sys.argv = ["gnocchi-api", "--config-file", _config]  # which it reads by itself

from gnocchi import utils  # noqa: E402  - after sys.argv, which is why this file exists
from gnocchi.cli import api  # noqa: E402

_real_utcnow = utils.utcnow


def _utcnow() -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(float(Path(_clock).read_text()), _real_utcnow().tzinfo)
    except FileNotFoundError:
        return _real_utcnow()


utils.utcnow = _utcnow
_server = waitress.create_server(api.wsgi(), host="127.0.0.1", port=0, threads=8)
print(f"listening on {_server.effective_port}", flush=True)
_server.run()
