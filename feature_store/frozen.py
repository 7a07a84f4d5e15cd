"""How values are made of which a decision needs hundreds."""

from __future__ import annotations

import msgspec


class Frozen(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A frozen value: made in a sixth of a frozen dataclass's time, its JSON without what is the default.

    Such values hold no references back, so the garbage collector need not look at them. Why they are not
    dataclasses: docs/adr/0038-hot-values-are-structs.md. `msgspec.structs.replace` copies one with changes.
    """
