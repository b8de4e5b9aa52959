"""compose.yaml: that what it mounts is accepted by what reads it, and that it leaves nothing open.

Its form is checked in test_files.py; no container is started here.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner

from deploy.local.kafka import VERSION as KAFKA
from rater.cli.app import cli
from tests.deploy.chart import ROOT, call, program

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "/rater/rater:" in service["image"]}
HERE = ROOT / "deploy" / "compose"
SECRETS = HERE / "secrets.sh"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Secrets, made up as the documentation says, beside the settings, as a container sees them."""
    done = call("sh", SECRETS, tmp_path / "secrets")
    assert done.code == 0, done.err
    for name in ("rater.yaml", "metrics.yml"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def config_check(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rater", "--config", str(directory / "rater.yaml"), "config", "check"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_rater_accepts_its_settings(made: Path) -> None:
    done = config_check(made)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "no faults" in done.stdout


def test_a_planted_fault_in_its_settings_is_told(made: Path) -> None:
    settings = made / "rater.yaml"
    settings.write_text(settings.read_text().replace("bootstrap:", "bootstraps:"))

    done = config_check(made)

    assert done.returncode == 1
    assert "bootstraps" in done.stdout + done.stderr


def test_secrets_are_made_up_each_time_and_not_shown(made: Path, tmp_path: Path) -> None:
    done = call("sh", SECRETS, tmp_path / "others")

    assert done.code == 0
    for name in ("clickhouse-password", "grafana-clickhouse-password", "grafana-password", "api-token"):
        one, other = ((directory / name).read_text() for directory in (made / "secrets", tmp_path / "others"))
        assert re.fullmatch(r"[0-9a-f]{48}", one)
        assert one != other
        assert other not in done.out + done.err
    assert (made / "secrets").stat().st_mode & 0o777 == 0o700


def test_secrets_that_are_there_stay(made: Path) -> None:
    before = (made / "secrets" / "api-token").read_text()

    done = call("sh", SECRETS, made / "secrets")

    assert done.code == 1
    assert "is there already" in done.err
    assert (made / "secrets" / "api-token").read_text() == before


def test_users_of_clickhouse_have_the_passwords_of_the_files(made: Path) -> None:
    users = ET.parse(made / "secrets" / "clickhouse-users.xml").getroot().find("users")
    assert users is not None

    assert {user.tag for user in users} == {"default", "rater", "grafana"}
    assert users.find("default[@remove='remove']") is not None
    for user, name in (("rater", "clickhouse-password"), ("grafana", "grafana-clickhouse-password")):
        password = (made / "secrets" / name).read_bytes()
        assert users.findtext(f"{user}/password_sha256_hex") == hashlib.sha256(password).hexdigest()
    assert users.findtext("grafana/profile") == "reader"
    assert users.findtext("grafana/grants/query") == "GRANT SELECT ON rater.*"


def test_the_token_of_the_api_is_that_of_the_file(made: Path) -> None:
    (entry,) = yaml.safe_load((made / "secrets" / "tokens.yaml").read_text())["tokens"]

    assert entry["sha256"] == hashlib.sha256((made / "secrets" / "api-token").read_bytes()).hexdigest()


def test_every_secret_is_a_file_that_the_script_makes(made: Path) -> None:
    for secret in COMPOSE["secrets"].values():
        assert list(secret) == ["file"]
        assert (made / "secrets" / Path(secret["file"]).name).is_file()
        assert Path(secret["file"]).parent == Path("deploy/compose/secrets")
    assert "/deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_files_that_the_settings_name_are_mounted_where_they_look() -> None:
    settings = yaml.safe_load((HERE / "rater.yaml").read_text())
    named = {settings["store"]["password_file"], settings["api"]["token_file"], settings["metrics_conf"]}

    for service in OURS.values():
        mounted = {mount["target"] for mount in [*service["secrets"], *service["configs"]]}
        assert {f"/etc/rater/{path}" for path in named} <= mounted
        assert service["environment"]["RATER_CONFIG"] in mounted


def test_no_variable_is_a_secret() -> None:
    named = [name for service in SERVICES.values() for name in service.get("environment", {})]

    assert [name for name in named if re.search("PASS|TOKEN|SECRET", name) and not name.endswith("__FILE")] == []


def test_files_that_are_mounted_exist() -> None:
    used = {config["source"] for service in SERVICES.values() for config in service.get("configs", [])}

    assert used == COMPOSE["configs"].keys()
    assert [name for name, config in COMPOSE["configs"].items() if not (ROOT / config["file"]).is_file()] == []
    assert (ROOT / "deploy/helm/rater/files/dashboards").is_dir()


@pytest.mark.parametrize("service", SERVICES)
def test_only_this_machine_reaches_a_service(service: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", []))
    assert "network_mode" not in SERVICES[service]
    assert "privileged" not in SERVICES[service]


@pytest.mark.parametrize("service", OURS)
def test_a_role_can_do_nothing_but_its_work(service: str) -> None:
    assert OURS[service]["read_only"] is True
    assert OURS[service]["cap_drop"] == ["ALL"]
    assert OURS[service]["security_opt"] == ["no-new-privileges:true"]
    assert OURS[service]["tmpfs"] == ["/tmp"]


def test_every_role_is_there_and_starts_after_topics_and_tables() -> None:
    assert {" ".join(service["command"]) for service in OURS.values()} == {
        "topics create", "migrate", "worker", "sink", "api", "collect run",
    }  # fmt: skip
    for name in ("worker", "sink", "api"):
        assert OURS[name]["depends_on"].keys() == {"topics", "migrate"}


def test_who_is_waited_for_says_when_it_is_ready() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert "restart" not in SERVICES[name]


def test_versions_are_pinned_and_those_of_the_tests() -> None:
    foreign = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (engine,) = re.findall(r"^chdb-core==(\d+\.\d+)\.", (ROOT / "requirements.lock").read_text(), re.MULTILINE)

    assert [
        image for image in foreign.values() if not re.search(r":v?\d+\.\d+\.\d+\S*@sha256:[0-9a-f]{64}$", image)
    ] == []
    assert {service["image"] for service in OURS.values()} == {f"ghcr.io/rater/rater:{version}"}
    assert f"kafka:{KAFKA}@" in foreign["kafka"]
    assert f"clickhouse-server:{engine}." in foreign["clickhouse"]


def test_prometheus_accepts_its_settings_and_looks_at_every_role(tmp_path: Path) -> None:
    settings = yaml.safe_load((HERE / "prometheus.yml").read_text())
    targets = {config["job_name"]: config["static_configs"][0]["targets"] for config in settings["scrape_configs"]}
    port = yaml.safe_load((HERE / "rater.yaml").read_text())["observe"]["listen"].split(":")[1]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({**settings, "rule_files": []}))

    said = call(program("promtool"), "check", "config", tmp_path / "prometheus.yml")

    assert said.code == 0, said.out + said.err
    roles = {f"rater-{name}": [f"{name}:{port}"] for name in ("worker", "sink", "api", "collect")}
    assert targets == {**roles, "prometheus": ["127.0.0.1:9090"]}


def test_grafana_reads_from_services_that_are_there_by_secrets_that_are_mounted() -> None:
    sources = yaml.safe_load((HERE / "grafana/datasources/rater.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((HERE / "grafana/dashboards/rater.yaml").read_text())["providers"]
    by_name = {source["name"]: source for source in sources}

    assert by_name["Prometheus"]["url"] == "http://prometheus:9090"
    assert by_name["ClickHouse"]["jsonData"]["host"] == "clickhouse"
    assert by_name["ClickHouse"]["type"] in SERVICES["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"]
    secret = by_name["ClickHouse"]["secureJsonData"]["password"]
    assert secret.removeprefix("$__file{/run/secrets/").removesuffix("}") in SERVICES["grafana"]["secrets"]
    assert any(f":{provider['options']['path']}:ro" in volume for volume in SERVICES["grafana"]["volumes"])


PAGE = (ROOT / "docs" / "compose.md").read_text()
COMMANDS = re.findall(r"^docker compose (.+)$", PAGE, re.MULTILINE)


def test_the_page_makes_the_secrets_by_the_script() -> None:
    assert re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) == ["sh deploy/compose/secrets.sh\n"]
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith(("exec", "run"))])
def test_a_command_of_the_page_is_for_a_service_that_is_there_and_one_of_rater(command: str) -> None:
    words = shlex.split(command)
    place = next(index for index, word in enumerate(words) if word in SERVICES)
    arguments = words[place + 1 :] if words[0] == "run" else words[place + 2 :]

    assert words[0] == "run" or words[place + 1] == "rater"
    names = list(itertools.takewhile(lambda word: re.fullmatch("[a-z]+", word), arguments))
    assert names
    done = CliRunner().invoke(cli, [*names, "--help"])
    assert done.exit_code == 0, done.output
    assert [word for word in arguments if word.startswith("--") and word not in done.output] == []
    mounted = [word.split(":")[0] for word in words if ":" in word and word.startswith("$PWD/")]
    assert [path for path in mounted if not (ROOT / path.removeprefix("$PWD/")).exists()] == []


def test_rules_to_begin_with_have_a_price_for_what_is_metered() -> None:
    metered = yaml.safe_load((HERE / "metrics.yml").read_text())["metrics"].values()
    priced = yaml.safe_load((HERE / "rules.yaml").read_text())["hashmap"]["services"]

    assert {metric["alt_name"] for metric in metered} <= {service["name"] for service in priced}
    done = CliRunner().invoke(cli, ["rules", "check", str(HERE / "rules.yaml")])
    assert done.exit_code == 0, done.output
