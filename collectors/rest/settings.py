"""Sections `collect.rest` and `collect.rest_fetcher` of rater.yaml: any JSON or CSV endpoint, by configuration alone.

Expressions are JMESPath on the answer, or `header:NAME` for a header of it. Secrets stand in files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from collectors.rest.template import body_faults, url_faults

__all__ = [
    "HEADER",
    "RestAuth",
    "RestBasic",
    "RestBearer",
    "RestConnection",
    "RestFetcherSettings",
    "RestHeader",
    "RestKeystone",
    "RestOAuth2",
    "RestPaging",
    "RestProof",
    "RestSettings",
    "expression_faults",
]

HEADER = "header:"
"""How an expression begins that names a header of the answer."""
_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-auth-token", "x-api-key")

Url: TypeAlias = Annotated[str, Meta(pattern=r"^https?://[^\s@/]+[^\s@]*$", max_length=2000)]
Template: TypeAlias = Annotated[str, Meta(pattern=r"^(https?://[^\s@/]+[^\s@]*)?$", max_length=4000)]
Given: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000)]
Expression: TypeAlias = Annotated[str, Meta(max_length=2000)]
TimeFormat: TypeAlias = Literal["rfc3339", "utc", "seconds", "milliseconds"]


def expression_faults(key: str, text: str, *, header: bool = False) -> list[str]:
    """What is wrong with an expression, in words. `header`: whether it may name a header of the answer."""
    import jmespath  # here, so that settings without expressions do not pay for it: 0.03 s of every command

    if text.startswith(HEADER):
        return [] if header and text != HEADER else [f"{key} is {text!r}: a header cannot stand here"]
    try:
        jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as fault:
        return [f"{key} is {text!r}, no JMESPath: {' '.join(str(fault).split())[:200]}"]
    return []


def _refuse(faults: Iterable[str]) -> None:
    """Raises ValueError with all of them."""
    if text := "; ".join(faults):
        raise ValueError(text)


class RestBasic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """User name and password."""

    username: Annotated[str, Meta(pattern="^[^:]+$", max_length=255)]
    password_file: Given


class RestBearer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that somebody else renews: the file is read again when the token is refused."""

    token_file: Given


class RestHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A header with a secret in it, such as `X-API-Key`."""

    name: Annotated[str, Meta(pattern=_HEADER_NAME, max_length=255)]
    value_file: Given


class RestOAuth2(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OAuth2 client credentials (RFC 6749, 4.4)."""

    url: Url
    """The token endpoint."""
    client_id: Given
    secret_file: Given
    scope: str = ""
    in_body: bool = False
    """True: id and secret go as fields of the form and not as basic authorization."""
    parameters: dict[str, str] = {}
    """More fields of the form, such as `audience`. Nothing secret here."""

    def __post_init__(self) -> None:
        _refuse(f"url {fault}" for fault in url_faults(self.url, ()))


class RestKeystone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OpenStack's Keystone, version 3: a password or an application credential."""

    url: Url
    """Up to and with `/v3`."""
    username: str = ""
    password_file: str = ""
    user_domain: Given = "Default"
    project: str = ""
    """The name of the project that the token is for."""
    project_domain: Given = "Default"
    system: bool = False
    """In place of `project`: the token is for the whole system, as a reader of all of it needs one."""
    application_credential_id: str = ""
    secret_file: str = ""
    """The secret of the application credential."""

    def __post_init__(self) -> None:
        _refuse(f"url {fault}" for fault in url_faults(self.url, ()))
        by_password = bool(self.username and self.password_file and (self.project or self.system))
        by_credential = bool(self.application_credential_id and self.secret_file)
        others = (self.username, self.password_file, self.project, self.system)
        if not (by_password or by_credential) or (by_credential and any(others)):
            raise ValueError(
                "give username, password_file and project, or application_credential_id and secret_file, and not both"
            )
        if self.project and self.system:
            raise ValueError("project and system exclude each other: a token is for one of them")


class RestAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How we prove who we are: one of these, or none."""

    basic: RestBasic | None = None
    bearer: RestBearer | None = None
    header: RestHeader | None = None
    oauth2: RestOAuth2 | None = None
    keystone: RestKeystone | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")


class RestPaging(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the next page is asked for."""

    kind: Literal["none", "link", "token", "offset"] = "none"
    """link: header `Link` with `rel="next"`; token: `next` goes into `parameter`; offset: until a page is empty."""
    next: Expression = ""
    parameter: str = ""
    offset: Given = "offset"
    limit: Given = "limit"
    size: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Items asked for at once with kind offset."""
    max_pages: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """More pages than that are no answer."""

    def __post_init__(self) -> None:
        faults = []
        if self.kind == "token" and not (self.next and self.parameter):
            faults.append("kind token needs next (where the token stands) and parameter (where it goes)")
        if self.kind != "token" and (self.next or self.parameter):
            faults.append(f"next and parameter belong to kind token, not {self.kind}")
        if self.next:
            faults += expression_faults("next", self.next, header=True)
        _refuse(faults)


class RestProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What proves that the answer is complete. All that is given has to hold; nothing given: coverage is weak."""

    begin: Expression = ""
    """With `end`: the range that the answer itself says it covers, half-open."""
    end: Expression = ""
    count: Expression = ""
    """How many items there are over all pages."""
    watermark: Expression = ""
    """Until when the source has everything."""

    def __post_init__(self) -> None:
        faults = []
        if bool(self.begin) != bool(self.end):
            faults.append("begin and end go together: give both or none")
        for key in self.__struct_fields__:
            if text := getattr(self, key):
                faults += expression_faults(key, text, header=True)
        _refuse(faults)

    @property
    def is_none(self) -> bool:
        """Whether nothing proves anything."""
        return not (self.begin or self.count or self.watermark)


class RestConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What source and fetcher have in common: where to ask, as whom, and what counts as an answer."""

    url: Template = ""
    """With places for {scope}, {metric}, {begin}, {end}; see `docs/rest.md`. No credentials in it."""
    method: Literal["GET", "POST"] = "GET"
    body: Any = None
    """The JSON body of a POST, with the same places."""
    headers: dict[str, str] = {}
    """Sent with each request. They are shown with the settings: nothing secret here."""
    auth: RestAuth = RestAuth()
    ca_file: str = ""
    insecure: bool = False
    """True: whoever answers is believed to be the server; its certificate is not checked."""
    timeout: Annotated[float, Meta(ge=0.1, le=3600)] = 60.0
    """Seconds for one request."""
    max_answer_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    """Of all pages of one answer together, after decompression."""
    format: Literal["json", "csv"] = "json"
    content_type: str = ""
    """Taken beside those of the format, for a server that names another one."""
    delimiter: Annotated[str, Meta(pattern=r'^[^"\r\n]$', max_length=1)] = ","
    """Between the cells of a CSV row."""
    paging: RestPaging = RestPaging()

    def __post_init__(self) -> None:
        _refuse(self._faults())

    def _faults(self) -> list[str]:
        known = self._places()
        faults = [f"url {fault}" for fault in url_faults(self.url, known)]
        faults += [f"body: {fault}" for fault in body_faults(self.body, known)]
        if self.body is not None and self.method != "POST":
            faults.append("body belongs to method POST")
        if self.ca_file and self.insecure:
            faults.append("ca_file and insecure exclude each other: give one of them")
        for name, value in self.headers.items():
            if not re.fullmatch(_HEADER_NAME, name) or not value.isprintable():
                faults.append(f"headers: {name!r} is no header, or has a value that cannot be written in one line")
            if name.lower() in _SECRET_HEADERS:
                faults.append(f"headers: {name} belongs to auth, which takes it from a file")
        return faults

    def _places(self) -> tuple[str, ...]:
        return ("scope", "metric", "begin", "end")


class RestSettings(RestConnection, frozen=True, forbid_unknown_fields=True):
    """Section `collect.rest`."""

    items: Expression = "@"
    """The list of items in an answer; a CSV answer is the list of its rows, by column."""
    only: Expression = ""
    """Of an item: whether it is taken (true) or belongs to another metric; `proof.count` counts both."""
    quantity: Expression = ""
    """Of an item: how much."""
    time: Expression = ""
    """Of an item: when; default: the whole period."""
    until: Expression = ""
    """Of an item: the end of a stretch that begins with `time`."""
    time_format: TimeFormat = "rfc3339"
    """Of all times in answers; utc is RFC 3339 without an offset."""
    labels: dict[str, Expression] = {}
    """Of an item: the value of a label of metrics.yml; default: its member of that name."""
    proof: RestProof = RestProof()
    retention: Annotated[int, Meta(ge=0, le=100 * 366 * 86400)] = 0
    """Seconds that the source keeps usage; 0: not known."""

    def _faults(self) -> list[str]:
        faults = super()._faults()
        if self.url and not self.quantity:
            faults.append("quantity is missing: say where in an item it stands")
        if self.until and not self.time:
            faults.append("until needs time, the begin of that stretch")
        for key in ("items", "only", "quantity", "time", "until"):
            if (text := getattr(self, key)) not in ("", "@"):
                faults += expression_faults(key, text)
        for label, text in self.labels.items():
            faults += expression_faults(f"labels.{label}", text)
        return faults


class RestFetcherSettings(RestConnection, frozen=True, forbid_unknown_fields=True):
    """Section `collect.rest_fetcher`: {begin} is the begin of the period before this one, {end} is now."""

    scopes: Expression = "@"
    """The list of scope ids in an answer."""

    def _faults(self) -> list[str]:
        faults = super()._faults()
        return faults + (expression_faults("scopes", self.scopes) if self.scopes != "@" else [])

    def _places(self) -> tuple[str, ...]:
        return ("begin", "end")
