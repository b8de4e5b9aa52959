"""A Kafka that lets nobody do anything but what docs/deploy.md says: the page's own list becomes the broker's rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, client_options

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
ADMIN = "admin"
RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
OPERATIONS = {"All": 2, "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8}
PATTERNS = {"literal": 3, "prefix": 4}
ALLOW = 3


class Rule(NamedTuple):
    """One operation that a user may do. Names as Strimzi writes them."""

    user: str
    resource: str
    name: str
    pattern: str
    operation: str


def users() -> dict[str, list[Rule]]:
    """Rules by user, of all KafkaUsers on the page."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found = [one for block in blocks for one in yaml.safe_load_all(block) if one and one.get("kind") == "KafkaUser"]
    return {one["metadata"]["name"]: list(_rules(one)) for one in found}


def _rules(user: dict[str, Any]) -> Iterator[Rule]:
    for acl in user["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        for operation in acl["operations"]:
            name, pattern = resource.get("name", "kafka-cluster"), resource.get("patternType", "literal")
            yield Rule(user["metadata"]["name"], resource["type"], name, pattern, operation)


def password(user: str) -> str:
    """Of a user, for this run only."""
    return f"{user}-of-this-run"


def guarded(directory: Path, names: list[str]) -> LaptopKafka:
    """A broker, not started, that knows these users, and lets them do nothing yet."""
    known = " ".join(f'user_{name}="{password(name)}"' for name in [ADMIN, *names])
    login = f'username="{ADMIN}" password="{password(ADMIN)}" {known};'
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    return LaptopKafka(
        directory,
        settings={
            "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": f"{module} {login}",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN};User:ANONYMOUS",  # the controller's listener, which only the broker uses
        },
    )


def as_user(user: str, directory: Path) -> dict[str, str]:
    """What section `kafka` of rater.yaml says for that user."""
    (directory / f"{user}-password").write_text(password(user))
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "username": user,
        "password_file": str(directory / f"{user}-password"),
    }


async def allow(kafka: KafkaSettings, rules: list[Rule]) -> None:
    """Makes the rules the broker's; `kafka` is the administrator's."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    await admin.start()
    try:
        for rule in rules:
            request = CreateAclsRequest(
                RESOURCES[rule.resource],
                rule.name,
                PATTERNS[rule.pattern],
                f"User:{rule.user}",
                "*",
                OPERATIONS[rule.operation],
                ALLOW,
            )
            answer = await admin._send_to_controller(request)  # its public interface has no access rules
            assert all(code == 0 for code, *_ in answer.creation_responses), answer
    finally:
        await admin.close()


def denied(kafka: LaptopKafka) -> list[str]:
    """What the broker has refused."""
    said = kafka.log_file.read_text(errors="replace").splitlines()
    return sorted({line.split("Principal = ", 1)[1] for line in said if " is Denied " in line})


__all__ = ["ADMIN", "Rule", "allow", "as_user", "denied", "guarded", "password", "users"]
