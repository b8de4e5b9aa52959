"""The API of Aetos as a process, run with the Python of its own venv: `aetos_api.py CONFIG`.

waitress serves it on a free port, which is printed.
"""

import sys

import waitress
from aetos.app import build_wsgi_app

_server = waitress.create_server(build_wsgi_app(["--config-file", sys.argv[1]]), host="127.0.0.1", port=0, threads=4)
print(f"listening on {_server.effective_port}", flush=True)
_server.run()
