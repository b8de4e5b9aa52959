"""CloudKitty's own scope fetcher, run with the Python of its own venv: `cloudkitty_fetch.py CLOUDKITTY.CONF`.

Prints the ids of the scopes.
"""

import json
import sys

from cloudkitty.fetcher.keystone import KeystoneFetcher
from oslo_config import cfg

cfg.CONF(["--config-file", sys.argv[1]], project="cloudkitty")
print(json.dumps(KeystoneFetcher().get_tenants()))
