"""The one error of the laptop Kafka.

RaterError
└── LaptopKafkaError    Kafka cannot be installed, started or stopped here
"""

from __future__ import annotations

from rater.model.errors import RaterError


class LaptopKafkaError(RaterError):
    """The laptop Kafka cannot be installed or started; the text says why and what to do."""
