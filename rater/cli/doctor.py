"""`rater doctor`: one line for each thing that has to be right, with what to do where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import Session, hint, session
from rater.cli.work import run
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.api.settings import ApiSettings
    from rater.config import Config

__all__ = ["doctor"]


@click.command()
@click.pass_context
def doctor(context: click.Context) -> int:
    """Check settings, Kafka, topics, rules, metrics, scripts and store, and say how frames are rated again and audited.

    Exit status 1 if something is red.

    \b
    Example:
      rater doctor
    """
    config = _config(session(context))
    if config is None:
        return exits.FAILED
    checks: list[tuple[str, Callable[[Config], str]]] = [
        ("metrics", _metrics),
        ("kafka", _kafka),
        ("rules", _rules),
        ("scripts", _scripts),
        ("store", _store),
        ("rework", _rework),
        ("audit", _audit),
    ]
    if config.settings.api is not None:
        checks.insert(1, ("api", _api))
    sound = [_line(name, partial(check, config)) for name, check in checks]
    return exits.OK if all(sound) else exits.FAILED


def _config(found: Session) -> Config | None:
    def read() -> str:
        return f"{found.config.path or 'no file, defaults'}"

    return found.config if _line("settings", read) else None


def _line(name: str, check: Callable[[], str]) -> bool:
    try:
        text, sound = check(), True
    except RaterError as fault:
        text, sound = f"{fault}{hint(fault)}".replace("\n", f"\n{'':17}"), False
    click.echo(click.style("ok  " if sound else "RED ", fg="green" if sound else "red") + f" {name:<10}  {text}")
    return sound


class _UnsoundError(RaterError):
    """Something works, and is not as it must be."""


def _metrics(config: Config) -> str:
    if not len(config.catalog):
        raise _UnsoundError("no metric is declared, so all usage would be rejected: set metrics_conf or metrics")
    return f"{len(config.catalog)} declared"


def _api(config: Config) -> str:
    from rater.api.credentials import check_exposure
    from rater.api.tls import open_certificates

    settings = config.settings.api
    assert settings is not None, "without the section there is nothing to check"
    run(_recognised(settings))
    open_certificates(settings)
    return check_exposure(settings)


async def _recognised(settings: ApiSettings) -> None:
    """Asks Keystone, or the provider, if one tells who somebody is. Raises what they, and files, are not well with."""
    from rater.api.access import open_access

    access = open_access(settings)
    try:
        await access.check()
    finally:
        await access.close()


def _kafka(config: Config) -> str:
    from rater.kafka import Topic, partitions_of

    kafka = config.settings.kafka
    found = run(partitions_of(kafka))
    missing = [kafka.topic(topic) for topic in Topic if topic not in found]
    if missing:
        raise _UnsoundError(f"{kafka.bootstrap} answers; missing {', '.join(missing)}: run `rater topics create`")
    if found[Topic.USAGE] != kafka.partitions:
        raise _UnsoundError(
            f"topic {kafka.topic(Topic.USAGE)} has {found[Topic.USAGE]} partitions, kafka.partitions says "
            f"{kafka.partitions}: set it to what the topic has"
        )
    return f"{kafka.bootstrap} answers, all topics are there"


def _rules(config: Config) -> str:
    from rater.rating import Chain
    from rater.stream.rules_log import read_rules

    book = run(read_rules(config.settings.kafka))
    services = sorted(service.name for service in book.services.values())
    unknown = [name for name in services if config.catalog.get(name) is None]
    if not services and not book.scripts_in_order():
        raise _UnsoundError("there are no rules, so every price is 0: run `rater rules apply FILE`")
    if unknown:
        raise _UnsoundError(f"rules for metrics that nobody declared: {', '.join(unknown)}: see metrics_conf")
    order = Chain(book).order
    if not order:
        raise _UnsoundError("every rating module is off, so every price is 0: see `rater rules modules`")
    faults = _module_faults(order)
    if faults:
        raise _UnsoundError("\n".join(faults))
    return f"version {book.version}, modules {', '.join(order)}; prices for {', '.join(services) or 'what scripts say'}"


def _module_faults(order: Iterable[str]) -> list[str]:
    """Modules of third parties that the rules switch on and that cannot work here."""
    from rater.modules import list_modules
    from rater.rating import BUILT_IN

    installed = {module.name: module.fault for module in list_modules()}
    wanted = [name for name in order if name not in BUILT_IN]
    faults = [installed.get(name, f"rating module {name!r} is on and not installed here") for name in wanted]
    return [fault for fault in faults if fault]


def _scripts(config: Config) -> str:
    """Whether rating scripts can run here; said of every installation, since a script may come at any time."""
    from rater.model.rules import Script
    from rater.sandbox import Sandbox

    with Sandbox(config.settings.scripts) as sandbox:
        faults = sandbox.check([Script("", "doctor", "pass")])
        if faults:
            raise _UnsoundError(f"rating scripts cannot run here: {faults[0].reason}")
        return f"can run, held by {', '.join(sandbox.layers())}"


def _store(config: Config) -> str:
    from rater.reports import RemoteView, open_view

    with open_view(config.settings.store) as view:
        scopes = view.scopes()
        where = "answers by way of the process that has it open" if isinstance(view, RemoteView) else "answers"
        return f"{config.settings.store.dsn} {where}, {len(scopes)} scopes"


def _rework(config: Config) -> str:
    """From what frames can be rated again, and what happens by itself."""
    settings = config.settings
    if not settings.sink.usage:
        return "usage is not stored (sink.usage: false): no frame can be rated again, and late usage stays out"
    late = "is rated by itself" if settings.rework.late_usage else "waits for `rater rerate` (rework.late_usage: false)"
    source = "" if settings.collect is not None else "; `rater reprocess` has no source (section collect is not set)"
    return f"frames can be rated again from stored usage; late usage {late}{source}"


def _audit(config: Config) -> str:
    """Whether anybody looks."""
    interval = config.settings.audit.interval
    if not interval:
        return "the sink makes none (audit.interval: 0): see `rater audit`"
    return f"every {interval} s in the sink's process; of everything: `rater audit`"
