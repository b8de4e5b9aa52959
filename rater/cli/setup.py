"""`rater topics` and `rater migrate`: what has to be there before the services run."""

from __future__ import annotations

import time

import click

from rater.cli.app import session
from rater.cli.output import Column, out_option, remark, rows
from rater.cli.work import run

__all__ = ["migrate", "topics"]


@click.group()
def topics() -> None:
    """Create and list the Kafka topics.

    \b
    Examples:
      rater topics create
      rater topics list --out json
    """


@topics.command("create")
@click.pass_context
def topics_create(context: click.Context) -> None:
    """Create the topics that are not there yet; those that are stay as they are.

    \b
    Example:
      RATER_KAFKA__PARTITIONS=16 rater topics create
    """
    from rater.kafka import create_topics

    kafka = session(context).config.settings.kafka
    created = run(create_topics(kafka))
    for name in created:
        click.echo(f"created {name}")
    if not created:
        remark("all topics exist already")


@topics.command("list")
@out_option
@click.pass_context
def topics_list(context: click.Context, out: str) -> None:
    """List the topics with their number of partitions. Exit status 1 if one is missing.

    \b
    Example:
      rater topics list
    """
    from rater.kafka import Topic, TopicsError, partitions_of

    kafka = session(context).config.settings.kafka
    found = run(partitions_of(kafka))
    columns = [Column("topic", "Topic"), Column("partitions", "Partitions", right=True)]
    rows(out, columns, [(kafka.topic(topic), found.get(topic, 0)) for topic in Topic])
    missing = [kafka.topic(topic) for topic in Topic if topic not in found]
    if missing:
        raise TopicsError(f"{', '.join(missing)} missing: run `rater topics create`")


@click.command()
@click.pass_context
def migrate(context: click.Context) -> None:
    """Create the tables in ClickHouse, or bring them to this version of rater.

    Waits while another process does so. Removes the months that `store.retention` no longer keeps, as sinks do.

    \b
    Example:
      rater migrate
    """
    from rater.store import Store, StoreError, enforce_retention
    from rater.store import migrate as apply_migrations

    with Store(session(context).config.settings.store) as store:
        applied = apply_migrations(store)
        for migration in applied:
            click.echo(f"applied {migration.number:04}_{migration.name}")
        if not applied:
            remark(f"the tables in {store.target} are up to date")
        try:
            for removed in enforce_retention(store, int(time.time())):
                click.echo(f"beyond retention: removed {removed}")
        except StoreError as fault:  # the tables are as they should be, and sinks try again
            remark(f"months beyond retention were not removed: {fault}")
