"""The API of Keystone as a process, run with the Python of its own venv: `keystone_api.py CONFIG`.

waitress serves it on a free port, which is printed.
"""

import os
import sys

import waitress

os.environ["OS_KEYSTONE_CONFIG_FILES"] = sys.argv[1]
sys.argv = ["keystone"]  # which it reads by itself

from keystone.wsgi.api import application  # noqa: E402  - after what it reads when it is imported

_server = waitress.create_server(application, host="127.0.0.1", port=0, threads=4)
print(f"listening on {_server.effective_port}", flush=True)
_server.run()
