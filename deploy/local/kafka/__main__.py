"""`python -m deploy.local.kafka`: runs Kafka in the foreground until Ctrl-C, for `make kafka`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from pathlib import Path

from deploy.local.kafka import VERSION, LaptopKafka, LaptopKafkaError, project_root

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.5


def main() -> int:
    """0 after Ctrl-C, SIGTERM or a closed terminal; 1 when Kafka cannot run, with the reason on stderr; 2 for usage."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    kafka = LaptopKafka(options.data_dir, options.port or None)
    try:
        kafka.start()
        _say(f"Apache Kafka {VERSION} serves on {kafka.bootstrap}")
        _say(f"data {kafka.data_dir}")
        _say(f"log  {kafka.log_file}")
        _say("Ctrl-C stops it; the data stays")
        while kafka.running:
            time.sleep(_POLL_SECONDS)
        return _fail(kafka.why_it_ended())
    except KeyboardInterrupt:
        for number in _STOP_SIGNALS:  # a second Ctrl-C must not interrupt the stop, which is bounded anyway
            signal.signal(number, signal.SIG_IGN)
        kafka.stop()
        _say("Kafka stopped")
        return 0
    except LaptopKafkaError as error:
        return _fail(str(error))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.kafka", description="Runs Apache Kafka on 127.0.0.1 until Ctrl-C."
    )
    default = project_root() / "var" / "kafka"
    parser.add_argument("--data-dir", type=Path, default=default, help="default: %(default)s")
    parser.add_argument("--port", type=_port, default=9092, help="default: %(default)s; 0 takes a free one")
    return parser.parse_args()


def _port(text: str) -> int:
    highest = 65535
    if not text.isdecimal() or int(text) > highest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to {highest}")
    return int(text)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()  # `make kafka` may be piped


def _fail(reason: str) -> int:
    sys.stderr.write(f"error: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
