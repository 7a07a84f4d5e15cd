"""What the commands of `arbiter models` share: how versions are named, and how their errors end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.cli.console import EXIT_ERRORS, fail
from model_registry import PublishedModel, Root, open_version, resolve
from model_registry.aliases import CHAMPION, read_aliases
from model_registry.errors import RegistryError
from model_registry.storage import storage_of


@contextmanager
def registry_errors() -> Iterator[None]:
    """Ends the command where the registry, or a version in it, is not as it must be."""
    try:
        yield
    except RegistryError as error:
        fail(str(error), EXIT_ERRORS)


def version_of(registry: Root, named: str) -> PublishedModel:
    """The version named `churn/3`, `churn/challenger`, or `churn`: the champion, else the newest.

    Raises RegistryError.
    """
    name, _, wanted = named.partition("/")
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 10:
        return open_version(registry, name, int(wanted))
    if wanted:
        return open_version(registry, name, resolve(registry, name, wanted))
    champion = read_aliases(registry, name).aliases.get(CHAMPION)
    newest = max(storage_of(registry).versions(name), default=1)
    return open_version(registry, name, champion or newest)
