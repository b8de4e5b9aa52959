"""Section `collect.kubernetes_fetcher` of rater.yaml: scopes are namespaces of Kubernetes."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

__all__ = ["KubernetesFetcherSettings"]

_Key: TypeAlias = Annotated[
    str, Meta(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=317)
]
"""Of a label or an annotation."""
_Selector: TypeAlias = Annotated[str, Meta(pattern=r"^[^\r\n]*$", max_length=4000)]


class KubernetesFetcherSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scopes are the names of namespaces, or the values of a label or annotation that several may share.

    Inside a pod nothing has to be set: the API server and the service account are those of the pod.
    """

    url: Annotated[str, Meta(pattern=r"^(https?://[^\s@/{}?#]+[^\s@{}?#]*)?$", max_length=2000)] = ""
    """Of the API server; default: that of the pod."""
    token_file: str = ""
    """A service account's token, read again each time; default: that of the pod, if `url` is not set."""
    ca_file: str = ""
    """Who has signed the API server's certificate; default: the pod's, if `url` is not set."""
    insecure: bool = False
    """True: whoever answers is believed to be the server; its certificate is not checked."""
    scope_label: _Key | None = None
    """The label whose value is the scope of a namespace; default: its name."""
    scope_annotation: _Key | None = None
    """In place of `scope_label`: an annotation."""
    label_selector: _Selector = ""
    """Which namespaces are asked for, as `kubectl get --selector` takes it."""
    field_selector: _Selector = ""
    """Which namespaces are asked for, as `kubectl get --field-selector` takes it."""
    page_size: Annotated[int, Meta(ge=1, le=10_000)] = 500
    """Namespaces asked for at once."""
    timeout: Annotated[float, Meta(ge=0.1, le=3600)] = 60.0
    """Seconds for one request."""
    max_answer_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    """Of all pages together."""

    def __post_init__(self) -> None:
        if self.scope_label and self.scope_annotation:
            raise ValueError("scope_label and scope_annotation exclude each other: give one of them")
        if self.ca_file and self.insecure:
            raise ValueError("ca_file and insecure exclude each other: give one of them")
