"""`schemas/asyncapi.yaml`: the topics for programs that write to them or read from them, as AsyncAPI 3.0.

What it says of partitions, retention and sizes is what `rater topics create` creates with the default settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

import msgspec
import yaml

from rater.contracts.examples import PREFIX, Example, examples
from rater.contracts.texts import DESCRIPTION, HEADER_TEXTS, TOPICS, Role
from rater.kafka import KafkaSettings, Topic, new_topics
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, RatedRecord
from rater.model.events import EVENT_TYPES
from rater.model.rated import Alert
from rater.model.requests import RequestRecord
from rater.model.rules import RuleEvent
from rater.model.usage import UsageRecord
from rater.model.version import FORMAT_VERSION
from rater.tracing.header import TRACEPARENT

__all__ = ["document", "text"]

_Node: TypeAlias = dict[str, Any]

_KINDS: dict[Topic, tuple[type, ...]] = {
    Topic.USAGE: get_args(UsageRecord),
    Topic.RULES: (RuleEvent,),
    Topic.REQUESTS: get_args(RequestRecord),
    Topic.RATED: get_args(RatedRecord),
    Topic.ALERTS: (Alert,),
}
_BINDING = "0.5.0"
_LISTS = {"cleanup.policy"}
_PROTOCOLS = {
    "kafka": ("kafka", "`kafka.security_protocol: PLAINTEXT`.", ()),
    "kafka-sasl": ("kafka-secure", "`SASL_SSL`, with `kafka.sasl_mechanism`.", ("scramSha512", "scramSha256", "plain")),
    "kafka-mtls": ("kafka-secure", "`SSL`, with a client's certificate.", ("clientCertificate",)),
}


class _Message(NamedTuple):
    """A kind of record in a topic."""

    topic: Topic
    name: str
    kind: type | None
    examples: Sequence[Example]


def text() -> str:
    """The document as it stands in `schemas/`."""
    head = "# Written by `make schemas`. What each record holds is said in the JSON Schemas beside it.\n"
    return head + yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def document() -> _Node:
    """The whole document as plain values."""
    messages = list(_messages())
    return {
        "asyncapi": "3.0.0",
        "id": "urn:rater:topics",
        "info": {
            "title": "rater's topics",
            "version": str(FORMAT_VERSION),
            "description": DESCRIPTION,
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {name: _server(*said) for name, said in _PROTOCOLS.items()},
        "channels": {topic.value: _channel(topic, messages) for topic in Topic},
        "operations": {
            f"{role.verb}{topic.value.title()}": _operation(topic, role, messages)
            for topic, said in TOPICS.items()
            for role in said.roles
        },
        "components": {
            "messages": {message.name: _message(message) for message in messages},
            "schemas": {"plainHeaders": _plain_headers(), "eventHeaders": _event_headers()},
            "securitySchemes": {
                "plain": {"type": "plain", "description": "SASL PLAIN, over TLS only."},
                "scramSha256": {"type": "scramSha256"},
                "scramSha512": {"type": "scramSha512", "description": "The default of `kafka.sasl_mechanism`."},
                "clientCertificate": {"type": "X509"},
            },
        },
    }


def _server(protocol: str, description: str, schemes: Sequence[str]) -> _Node:
    server: _Node = {
        "host": "{bootstrap}",
        "protocol": protocol,
        "description": description,
        "variables": {
            "bootstrap": {
                "default": KafkaSettings().bootstrap,
                "description": "`kafka.bootstrap`: one broker or several, with commas between them.",
            }
        },
    }
    if schemes:
        server["security"] = [{"$ref": f"#/components/securitySchemes/{scheme}"} for scheme in schemes]
    return server


def _channel(topic: Topic, messages: Sequence[_Message]) -> _Node:
    said = TOPICS[topic]
    (created,) = [new for new in new_topics(KafkaSettings()) if new.name == KafkaSettings().topic(topic)]
    return {
        "address": f"{{prefix}}{topic.value}",
        "title": topic.value,
        "description": f"{said.description}\n\nKey: {said.key}",
        "parameters": {
            "prefix": {
                "default": PREFIX,
                "description": "`kafka.prefix` of the installation.",
            }
        },
        "messages": {
            message.name: {"$ref": f"#/components/messages/{message.name}"}
            for message in messages
            if message.topic is topic
        },
        "bindings": {
            "kafka": {
                "partitions": created.num_partitions,
                "replicas": created.replication_factor,
                "topicConfiguration": {name: _value(name, value) for name, value in created.topic_configs.items()},
                "bindingVersion": _BINDING,
            }
        },
    }


def _value(name: str, value: str) -> Any:
    """Of a topic's configuration, in the type that the binding wants."""
    if name in _LISTS:
        return value.split(",")
    try:
        return int(value)
    except ValueError:
        return value


def _operation(topic: Topic, role: Role, messages: Sequence[_Message]) -> _Node:
    operation: _Node = {
        "action": role.verb,
        "channel": {"$ref": f"#/channels/{topic.value}"},
        "summary": role.summary,
        "messages": [
            {"$ref": f"#/channels/{topic.value}/messages/{message.name}"}
            for message in messages
            if message.topic is topic and (not role.only or message.name in role.only)
        ],
    }
    if role.verb == "receive":
        group = {"type": "string", "description": f"Any but those that begin with `{PREFIX}`: these are rater's own."}
        operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": _BINDING}}
    return operation


def _messages() -> list[_Message]:
    shown = examples()
    found = []
    for topic, kinds in _KINDS.items():
        for kind in kinds:
            mine = [e for e in shown if e.topic is topic and _tag(e) == _tag_of(kind)]
            # the same struct stands in two topics: a message belongs to one
            name = kind.__name__ if topic is not Topic.RATED or kind.__name__ != "PostedLines" else "RatedPostedLines"
            found.append(_Message(topic, name, kind, mine))
    found.append(_Message(Topic.REJECTED, "Rejected", None, [e for e in shown if e.topic is Topic.REJECTED]))
    return found


def _tag(example: Example) -> str:
    return str(msgspec.json.decode(example.value)["type"])


def _tag_of(kind: type) -> str:
    return str(msgspec.inspect.type_info(kind).tag)  # type: ignore[attr-defined]  # of a struct, which each of them is


def _message(message: _Message) -> _Node:
    said = TOPICS[message.topic]
    if message.kind is None:
        payload: _Node = {"description": "The refused record's own value, byte for byte: it may be anything."}
        headers = "./rejected-headers.json"
        content = "application/octet-stream"
        summary = "A record that could not be taken, with the reason and where it came from in its headers."
    else:
        payload = {"$ref": f"./{message.topic.value}.json#/$defs/{message.kind.__name__}"}
        headers = f"#/components/schemas/{'eventHeaders' if said.events else 'plainHeaders'}"
        content = JSON
        summary = " ".join((message.kind.__doc__ or "").split("\n\n")[0].split())
    return {
        "name": message.name,
        "title": message.name,
        "summary": summary,
        "contentType": content,
        "headers": {"$ref": headers},
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": said.key}, "bindingVersion": _BINDING}},
        "examples": [_shown(example) for example in message.examples],
    }


def _shown(example: Example) -> _Node:
    file = f"./examples/{example.topic.value}/{example.name}.json"
    if example.topic is Topic.REJECTED:
        return {"name": example.name, "headers": {"$ref": file}, "payload": example.value.decode()}
    return {"name": example.name, "headers": dict(example.headers), "payload": {"$ref": file}}


def _plain_headers() -> _Node:
    return {
        "type": "object",
        "description": HEADER_TEXTS["plain"],
        "properties": {
            TRACEPARENT: {"type": "string", "description": HEADER_TEXTS[TRACEPARENT]},
            CONTENT_TYPE: {
                "type": "string",
                "enum": [JSON, MSGPACK],
                "default": JSON,
                "description": HEADER_TEXTS["form"],
            },
        },
    }


def _event_headers() -> _Node:
    names = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", TRACEPARENT)
    values: dict[str, _Node] = {name: {"type": "string", "description": HEADER_TEXTS[name]} for name in names}
    values["ce_specversion"]["const"] = "1.0"
    values["ce_id"]["pattern"] = "^[0-9a-f]{32}$"
    values["ce_type"]["examples"] = list(EVENT_TYPES)
    return {
        "type": "object",
        "description": HEADER_TEXTS["event"],
        "required": [CONTENT_TYPE, "ce_specversion", "ce_id", "ce_source", "ce_type"],
        "properties": {CONTENT_TYPE: {"type": "string", "const": JSON}, **values},
    }


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such, and no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Whatever stands twice is written twice."""
        return True


def _text_node(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text_node)
