"""The API below /v3 made from the settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rater.api.access import Access
from rater.api.faults import RefusalError
from rater.api.v3.catalogue import OPERATIONS
from rater.api.v3.operations import Backend
from rater.api.v3.rule_source import KafkaRules
from rater.api.v3.service import V3Service
from rater.api.v3.settings import V3Settings
from rater.api_backend import ApiBackend
from rater.config import Config
from rater.modules import list_modules
from rater.reports import StoreError

__all__ = ["reading", "v3_service"]

log = logging.getLogger(__name__)


def v3_service(config: Config, settings: V3Settings, behind: ApiBackend, access: Access) -> V3Service:
    """What answers requests of whom `access` recognises."""
    backend = Backend(
        view=behind.view,
        read=reading(behind.threads),
        book=behind.books.book,
        policy=access.policy,
        period=config.settings.engine.period,
        rules=KafkaRules(config.settings.kafka, behind.books, frozenset(module.name for module in list_modules())),
    )
    return V3Service(backend, OPERATIONS, access, settings.max_in_flight)


def reading(threads: ThreadPoolExecutor) -> Callable[[Callable[[], Any]], Any]:
    """What runs questions to the store in these threads; the store's faults become refusals."""

    async def read(ask: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, ask)
        except StoreError as fault:
            log.warning("the store cannot be read: %s", fault)
            raise RefusalError(503, "the store cannot be read now: ask again", retry_after=2) from fault

    return read
