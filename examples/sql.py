"""Asks an embedded store something in SQL: `python examples/sql.py DIRECTORY "SELECT …"`.

The directory is the one of `store.dsn: chdb://DIRECTORY`; no rater may have it open meanwhile.
"""

import sys

from chdb.session import Session

if len(sys.argv) != 3:
    sys.exit(__doc__)
session = Session(sys.argv[1])
session.query("USE rater")
print(session.query(sys.argv[2], "PrettyCompact"), end="")
