"""The deployment files are valid, say the same of one another, and set what there is to set."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from arbiter_at_work import REPOSITORY
from ruamel.yaml import YAML

from engine.settings import Settings, load_settings

FOLDER = REPOSITORY / "docs" / "deployment"
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))
FILES = [path for path in sorted(FOLDER.rglob("*")) if path.is_file() and path.parent.name != "secrets"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
UID = 10001
_BESIDE = Path(sys.executable).parent
_SETTING = re.compile(r"\bARBITER_[A-Z_]+\b")


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file."""
    return list(YAML(typ="safe").load_all(path.read_text(encoding="utf-8")))


def resource(kind: str, name: str = "arbiter") -> dict[str, Any]:
    """One resource of the manifests."""
    found = [
        document
        for path in MANIFESTS
        for document in documents(path)
        if (document["kind"], document.get("metadata", {}).get("name")) == (kind, name)
    ]
    assert len(found) == 1
    return found[0]


def pod() -> dict[str, Any]:
    """What a pod is made of."""
    spec: dict[str, Any] = resource("StatefulSet")["spec"]["template"]["spec"]
    return spec


def compose() -> dict[str, Any]:
    """The services of the compose file."""
    (document,) = documents(FOLDER / "compose.yaml")
    services: dict[str, Any] = document["services"]
    return services


def image_environment() -> dict[str, str]:
    """Settings in the image."""
    return dict(re.findall(r"(ARBITER_[A-Z_]+)=(\S+)", DOCKERFILE))


def environment_of(way: str) -> dict[str, str]:
    """What a container is started with, by one way of deployment."""
    added = {
        "image": {},
        "kubernetes": resource("ConfigMap")["data"],
        "compose": compose()["arbiter"]["environment"] | {"ARBITER_STORE_USER": "server"},
    }
    return image_environment() | added[way]


def checked(command: str, *arguments: str) -> None:
    """Runs a checker that came with the development tools."""
    ran = subprocess.run([str(_BESIDE / command), *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_dockerfile_has_nothing_to_criticise() -> None:
    """By hadolint, which knows Dockerfiles and their shells."""
    checked("hadolint", "--failure-threshold", "style", str(FOLDER / "Dockerfile"))


def test_compose_file_is_valid() -> None:
    """By the schema of the compose specification."""
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(FOLDER / "compose.yaml"))


@pytest.mark.parametrize(
    "path", [p for p in MANIFESTS if p.name != "kustomization.yaml"], ids=lambda p: p.name
)
def test_manifests_are_valid(path: Path) -> None:
    """By the schemas of Kubernetes itself, without a field it does not know."""
    for document in documents(path):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_manifest_is_applied() -> None:
    """The list names all of them."""
    (listed,) = documents(FOLDER / "kubernetes" / "kustomization.yaml")

    assert set(listed["resources"]) == {path.name for path in MANIFESTS} - {"kustomization.yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_setting_that_a_file_names_exists(path: Path) -> None:
    """A server does not start with an unknown one."""
    named = set(_SETTING.findall(path.read_text(encoding="utf-8")))

    assert named <= {f"ARBITER_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("way", ["image", "kubernetes", "compose"])
def test_server_takes_its_settings(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Each value fits, it listens for others, and its state is where the volume is."""
    for name, value in environment_of(way).items():
        monkeypatch.setenv(name, value)

    settings = load_settings({})

    assert settings.host == "0.0.0.0"
    assert str(settings.data_dir) == "/var/lib/arbiter"
    if way != "image":
        assert settings.metrics_address == ("0.0.0.0", 9464)
        assert settings.web_address == ("0.0.0.0", 8080)


def test_ports_are_the_same_everywhere() -> None:
    """Of the image, the pods, the services, the network and Prometheus."""
    settings = load_settings({})
    exposed = {int(port) for port in re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[0].split()}
    (container,) = pod()["containers"]
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    rules = resource("NetworkPolicy")["spec"]["ingress"]
    (scraped,) = documents(FOLDER / "prometheus" / "prometheus.yaml")

    assert named == {"grpc": settings.port, "http": 8080, "metrics": 9464}
    assert exposed == set(named.values())
    assert {port["port"] for rule in rules for port in rule["ports"]} == exposed
    assert {container[probe]["grpc"]["port"] for probe in container if probe.endswith("Probe")} == {
        settings.port
    }
    assert scraped["scrape_configs"][0]["dns_sd_configs"][0]["port"] == named["metrics"]
    assert {
        p["targetPort"] for n in ("arbiter", "arbiter-web") for p in resource("Service", n)["spec"]["ports"]
    } <= set(named)


def test_container_may_do_little() -> None:
    """The image's own user, a root that cannot be written, no privilege, no token of the cluster."""
    (container,) = pod()["containers"]

    assert f"USER {UID}:{UID}" in DOCKERFILE
    assert f"--uid {UID}" in DOCKERFILE
    assert {pod()["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {UID}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["automountServiceAccountToken"] is False
    assert compose()["arbiter"]["read_only"] is True


def test_volumes_belong_to_the_user_of_the_container() -> None:
    """A volume takes its owner from the image's folder; without one it would be root's."""
    made = DOCKERFILE.partition("install --directory")[2].partition("\n")[0]
    mounted = [volume.partition(":")[2] for volume in compose()["arbiter"]["volumes"]]

    assert mounted == ["/var/lib/arbiter", "/var/lib/checkpoints"]
    assert all(path in made for path in mounted)


def test_services_of_the_cluster_do_not_become_settings() -> None:
    """Kubernetes would set ARBITER_PORT for a service named arbiter."""
    assert pod()["enableServiceLinks"] is False


def test_pod_has_time_to_drain() -> None:
    """Before it is told, while it drains, and for the logs."""
    settings = load_settings({})
    (container,) = pod()["containers"]

    needed_s = container["lifecycle"]["preStop"]["sleep"]["seconds"] + settings.drain_seconds
    assert pod()["terminationGracePeriodSeconds"] >= needed_s + 10


def test_image_copies_what_there_is() -> None:
    """All packages that the distribution has, the demo's rules, and no secret or data."""
    copied = {words.split()[0] for words in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)}
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")} - {"tests"}
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()

    assert packages | {"rules"} <= copied
    assert all((REPOSITORY / name).exists() for name in copied - {"pyproject.toml", "README.md"})
    assert {line[1:] for line in ignored if line.startswith("!")} == {
        name
        for words in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for name in words.split()[:-1]
    }


def test_final_stage_has_no_compiler() -> None:
    """What builds stays in the stage that builds."""
    final = DOCKERFILE.rpartition("\nFROM ")[2]

    assert "apt-get" not in final
    assert "pip" not in final


def test_redis_has_the_users_that_the_page_tells_of() -> None:
    """The same rights, and nobody without a password."""
    page = (REPOSITORY / "docs" / "redis.md").read_text(encoding="utf-8")
    lines = (FOLDER / "redis" / "users.acl").read_text(encoding="utf-8").splitlines()

    assert lines == ["user default off", *re.findall(r"^user .*$", page, re.MULTILINE)]
    assert all(">PASSWORD" in line for line in lines[1:])
