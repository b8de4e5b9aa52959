"""Apache Kafka for a laptop: installs it once from Maven artifacts and runs one broker, without Docker.

The tests, the demo and `make kafka` (`python -m deploy.local.kafka`) use the same code.
"""

from deploy.local.kafka.broker import DEFAULT_HEAP_MB, LaptopKafka
from deploy.local.kafka.errors import LaptopKafkaError
from deploy.local.kafka.install import VERSION, install, project_root

__all__ = ["DEFAULT_HEAP_MB", "VERSION", "LaptopKafka", "LaptopKafkaError", "install", "project_root"]
