"""Runs inside CloudKitty's own venv: oslo.policy with CloudKitty's policies answers who may do what.

Takes JSON from standard input: a list of [content of a policy file, [[action, who asks, what about], …]]; gives, for
each file, the list of its answers, and whether `context_is_admin` holds for each. Imports nothing of rater.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from cloudkitty.common import policies
from oslo_config import cfg
from oslo_policy import opts, policy


def answers(content: str, asked: list[Any]) -> list[list[bool]]:
    """What oslo.policy says with that file."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "policy.yaml"
        file.write_text(content)
        conf = cfg.ConfigOpts()
        conf(["--config-dir", directory], project="x")
        opts._register(conf)
        conf.set_override("policy_file", str(file), "oslo_policy")
        enforcer = policy.Enforcer(conf)
        enforcer.register_defaults(policies.list_rules())
        enforcer.suppress_default_change_warnings = enforcer.suppress_deprecation_warnings = True
        found = []
        for action, who, about in asked:
            about_admin = {"user_id": who["user_id"], "project_id": who["project_id"]}
            may = enforcer.enforce(action, about, dict(who))
            found.append([bool(may), bool(enforcer.enforce("context_is_admin", about_admin, dict(who)))])
        return found


json.dump([answers(content, asked) for content, asked in json.load(sys.stdin)], sys.stdout)
