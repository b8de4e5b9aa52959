"""An API server of Kubernetes with its etcd, on free ports of this machine. No controller runs, and no pod.

What the API server itself does is real: defaults, validation, admission by Pod Security, roles, storage. What other
parts of Kubernetes do is done here for Jobs alone, because helm waits for those of hooks: they succeed at once.
"""

from __future__ import annotations

import base64
import json
import secrets
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.deploy.chart import Said, call, program

_PATIENCE = 180.0  # seconds for a start; 10 on a machine that has nothing else to do


class ApiServer:
    """`with ApiServer(directory) as server`; `server.kubectl(…)` and `server.helm(…)` act as its administrator."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()
        self._jobs = threading.Thread(target=self._finish_jobs)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        self._jobs.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._jobs.join()
        self._stop()

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> Said:
        """`kubectl …`."""
        return call(program("kubectl"), f"--kubeconfig={self._config}", *arguments, stdin=stdin)

    def helm(self, *arguments: str | Path) -> Said:
        """`helm …`."""
        return call(program("helm"), *arguments, "--kubeconfig", self._config)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get … -o json` says."""
        said = self.kubectl("get", *arguments, "-o", "json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    @property
    def _config(self) -> Path:
        return self._directory / "kubeconfig"

    def _start(self) -> None:
        etcd, peer, port = _free_ports(3)
        token = secrets.token_urlsafe(24)
        self._write_keys(token)
        self._run(
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={self._directory / 'certificates'}",
            f"--token-auth-file={self._directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._directory / 'accounts.key'}",
            f"--service-account-key-file={self._directory / 'accounts.pub'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",  # nobody makes the accounts `default` that it wants
            # Debian's etcd is 3.4, which has not what these two use.
            "--feature-gates=ListFromCacheSnapshot=false",
            "--etcd-compaction-interval=0",
        )
        self._until_ready(port, token)

    def _write_keys(self, token: str) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for name, content in (("accounts.key", private), ("accounts.pub", public)):
            (self._directory / name).write_bytes(content)
        (self._directory / "tokens.csv").write_text(f'{token},admin,1,"system:masters"\n')

    def _run(self, name: str, *arguments: str) -> None:
        with (self._directory / f"{name}.log").open("wb") as log:
            command = [program(name), *arguments]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))

    def _until_ready(self, port: int, token: str) -> None:
        certificate = self._directory / "certificates" / "apiserver.crt"
        deadline = time.monotonic() + _PATIENCE
        while True:
            for process, name in zip(self._processes, ("etcd", "kube-apiserver"), strict=True):
                if process.poll() is not None:
                    log = (self._directory / f"{name}.log").read_text(errors="replace")
                    raise AssertionError(f"{name} ended with {process.returncode}: {log[-3000:]}")
            if certificate.exists():
                self._config.write_text(yaml.safe_dump(_kubeconfig(port, certificate.read_bytes(), token)))
                if self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s").out == "ok":
                    return
            assert time.monotonic() < deadline, f"the API server was not ready within {_PATIENCE:.0f} s"
            time.sleep(0.3)

    def _finish_jobs(self) -> None:
        """In place of the controller of Jobs and of the kubelet."""
        while not self._ended.wait(0.2):
            said = self.kubectl("get", "jobs", "--all-namespaces", "-o", "json")
            for job in json.loads(said.out)["items"] if said.code == 0 else []:
                if not job.get("status", {}).get("succeeded"):
                    self._finish(job["metadata"])

    def _finish(self, job: dict[str, str]) -> None:
        """A Job that is gone by now is none of our business."""
        now = job["creationTimestamp"]
        said = {"status": "True", "lastProbeTime": now, "lastTransitionTime": now}
        conditions = [{"type": name, **said} for name in ("SuccessCriteriaMet", "Complete")]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
        patch = ["patch", "job", job["name"], f"--namespace={job['namespace']}", "--subresource=status", "--type=merge"]
        self.kubectl(*patch, f"--patch={json.dumps({'status': status})}")

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _kubeconfig(port: int, certificate: bytes, token: str) -> dict[str, object]:
    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": base64.b64encode(certificate).decode(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }


def _free_ports(count: int) -> list[int]:
    """Different ones, since all are held until the last is found."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
