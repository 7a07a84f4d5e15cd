"""Files of authors and operators, and tokens: each is right, or ends in an error of its kind, in words."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from conditions import LANGUAGE
from mutating import Mutator
from small_ruleset import SCHEMA, base_texts
from surfaces import Finding, refuse_inside
from tokens_at_work import AUDIENCE, ISSUER, Issuer, key_set

from engine.errors import SetupInvalid, Unauthenticated
from engine.ruleset.build import check
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid
from engine.ruleset.sources import RuleSources
from engine.security.certificates import peer_of
from engine.security.roles import parse_roles
from engine.security.tokens import TokenCheck, parse_keys
from feature_store.errors import SchemaError
from feature_store.schema import parse_schema
from model_registry.errors import RegistryError
from model_registry.versions import parse_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
_YAML = (
    ": ", "\n", "  ", "- ", "{", "}", "[", "]", "'", '"', "|", ">", "#", "&a", "*a", "!t",
    "!!python/object:os.system", "\t", "null", "true", "1.5", "1e999", "features.",
    "has(", "?:", "==", "---\n", "<<: *a", "? ", "%YAML 1.1\n",
)  # fmt: skip
_CEL = (
    "features.tenure", "scores.churn", "context.page", " && ", " || ", "!", "has(", ")", "(", "[", "]",
    ".exists(x, ", "x", " ? ", " : ", "==", "<", "1", "1.0", "-", "/ 0", "%", "'", "matches('", "(a+)+$",
    "timestamp(", "duration(", "9223372036854775807", ".size()", "{", "}", "u", "b'", "null", " in ", "\n",
)  # fmt: skip
_TOML = (
    "[[",
    "]]",
    "[",
    "]",
    "=",
    '"',
    "'''",
    "\n",
    "#",
    "true",
    "1",
    "1e9",
    "{",
    "}",
    ",",
    ".",
    "inf",
    "nan",
)
_JSON = (
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "null",
    "true",
    "1",
    "-1",
    "1e999",
    "NaN",
    "\\u0000",
    "\\ud800",
    "[[[[",
)


class Files:
    """Texts of one kind, given to what reads them; `errors` are those it may raise."""

    def __init__(
        self,
        name: str,
        seeds: Sequence[str],
        pieces: Sequence[str],
        read: Callable[[str], object],
        errors: tuple[type[Exception], ...],
    ) -> None:
        self.name = name
        self._seeds = tuple(seeds)
        self._pieces = pieces
        self._read = read
        self._errors = errors

    def run(self, mutator: Mutator) -> str:
        """One changed text."""
        try:
            self._read(self._made(mutator))
        except self._errors as error:
            if not str(error):
                raise Finding("an error without words") from error
            if isinstance(error, Unauthenticated):
                refuse_inside(str(error))
            return f"refused {type(error).__name__}"
        return "taken"

    def _made(self, mutator: Mutator) -> str:
        """A changed text; of JSON as often a changed document; now and then a tower of brackets."""
        chance = mutator.random.random()
        if chance < 0.002:
            return (
                mutator.random.choice(("", "a = ", '{"keys":', "when: "))
                + mutator.random.choice("[{(!-") * 20_000
            )
        if chance < 0.5 and self._pieces is _JSON and self._seeds[0].startswith("{"):
            return mutator.document(mutator.random.choice(self._seeds))
        return mutator.text(self._seeds, self._pieces)

    def check(self) -> None:
        """The good texts are still good."""
        for seed in self._seeds:
            self._read(seed)


class Rules:
    """Rule files of which one is changed: diagnostics with places, never an exception."""

    name = "rule files"

    def __init__(self) -> None:
        self._texts = base_texts()

    def run(self, mutator: Mutator) -> str:
        """One changed file."""
        file = mutator.random.choice(sorted(self._texts))
        text = mutator.text([self._texts[file]], _YAML)
        try:
            problems = check(RuleSources.from_mapping(self._texts | {file: text}), SCHEMA)
        except RuleSetInvalid as invalid:
            problems = list(invalid.diagnostics)
        _judge(problems)
        return "diagnosed" if problems else "taken"

    def check(self) -> None:
        """The base is still right."""
        if check(RuleSources.from_mapping(self._texts), SCHEMA):
            raise Finding("a good rule set has problems")


def _judge(problems: Sequence[Diagnostic]) -> None:
    for problem in problems:
        if not problem.message or problem.line < 1 or problem.column < 1 or not problem.render():
            raise Finding(f"a diagnostic without words or place: {problem!r}")
        refuse_inside(problem.message)


def _condition(text: str) -> None:
    node, problems = LANGUAGE.check(text)
    if (node is None) != bool(problems):
        raise Finding(f"neither right nor wrong: {text!r}")
    if problems:
        raise ValueError("; ".join(str(problem) for problem in problems))


def surfaces() -> list[Files | Rules]:
    """Every kind of file."""
    issuer, short = Issuer(), Issuer("EdDSA", kid="k2")
    tokens = TokenCheck(
        parse_keys(key_set(issuer, short), ["ES256", "EdDSA"], source="k"), ISSUER, AUDIENCE, 30
    )
    roles = (
        'everyone = ["decide"]\n[[grants]]\nsubject = "shop"\nroles = ["outcome", "events"]\n'
        '[[grants]]\nclaim = ["realm", "roles"]\nvalue = "x"\nroles = ["admin"]\n'
        '[[grants]]\ncertificate = "uri:spiffe://c/s"\nroles = ["consent"]\n'
    )
    manifests = [
        path.read_text() for path in sorted((REPOSITORY / "model_registry").glob("*/*/manifest.json"))
    ]
    schema = (REPOSITORY / "feature_store" / "demo" / "telco.toml").read_text()
    good = [
        issuer.token(exp=4e9),
        short.token(exp=4e9, scope="a b", groups=["x"]),
        issuer.token(exp=4e9, aud=["a", AUDIENCE]),
    ]
    place = Path(tempfile.gettempdir()) / "manifest.json"
    return [
        Files("tokens", good, (*"._-=AZaz09", "eyJ", "bm9uZQ"), tokens.verified, (Unauthenticated,)),
        Files(
            "token claims",
            [json.dumps({"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": 4e9, "scope": "a b"})],
            _JSON,
            lambda text: _signed(tokens, issuer, text),
            (Unauthenticated,),
        ),
        Files("roles files", [roles], _TOML, lambda t: parse_roles(t, source="roles"), (SetupInvalid,)),
        Files(
            "key files",
            [key_set(issuer, short), key_set(Issuer("RS256"))],
            _JSON,
            lambda text: parse_keys(text, ["RS256", "ES256", "EdDSA"], source="keys"),
            (SetupInvalid,),
        ),
        Files("feature schemas", [schema], _TOML, lambda t: parse_schema(t, source="s"), (SchemaError,)),
        Files(
            "manifests",
            manifests,
            _JSON,
            lambda text: parse_manifest(text.encode("utf-8", "surrogatepass"), place=place),
            (RegistryError,),
        ),
        Files(
            "conditions",
            ["features.tenure > 3 && scores.churn >= 0.5", "context.page == '/a' || has(features.contract)"],
            _CEL,
            _condition,
            (ValueError,),
        ),
        Files(
            "client certificates", [_certificate()], _JSON, lambda t: peer_of(t.encode()), (Unauthenticated,)
        ),
        Rules(),
    ]


def _certificate() -> str:
    import trustme

    return trustme.CA().issue_cert("shop.internal").cert_chain_pems[0].bytes().decode()


def _signed(tokens: TokenCheck, issuer: Issuer, payload: str) -> None:
    """A token that the issuer signed whatever is in it, as a broken issuer might."""
    import jwt

    encoder = jwt.PyJWS()
    content = payload.encode("utf-8", "surrogatepass")
    tokens.verified(encoder.encode(content, issuer.private, "ES256", headers={"kid": issuer.kid}))
