"""Concepts of a model and drafts of the words of its reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from model_registry.manifest import Concept, ModelInput
from training.concepts import TARGET
from training.errors import PlanProblem, PlanRefused
from training.own.plan import TrainingPlan

_LONGEST_CODE: Final = 92
"""A reason code has 100 signs at most, its ending included."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a score is the probability of, in the words of a reason."""

    en: str
    fr: str


def concepts_of(
    plan: TrainingPlan, inputs: tuple[ModelInput, ...], column_of: Mapping[str, str]
) -> tuple[Concept, ...]:
    """Concepts as the plan groups columns; every other input is one of its own. Raises PlanRefused."""
    feature_of = {column: feature for feature, column in column_of.items()}
    features = [i.name for i in inputs if i.source == "feature"]
    grouped = {
        name: [feature_of.get(column, column) for column in columns]
        for name, columns in plan.concepts.items()
    }
    problems = []
    taken: dict[str, str] = {}
    for concept, members in grouped.items():
        for place, member in enumerate(members):
            path = ("concepts", concept, place)
            if member not in features:
                problems.append(
                    PlanProblem(path, f"`{plan.concepts[concept][place]}` is no input of the model")
                )
            elif member in taken:
                problems.append(PlanProblem(path, f"`{member}` is in `{taken[member]}` already"))
            taken.setdefault(member, concept)
    problems += [
        PlanProblem(
            ("concepts", name), f"`{name}` is an input that stands alone", "name the concept otherwise"
        )
        for name in grouped
        if name in features and name not in taken
    ]
    if problems:
        raise PlanRefused(tuple(problems))
    alone = {name: [name] for name in features if name not in taken}
    told = tuple(_told(plan, concept, tuple(members)) for concept, members in {**grouped, **alone}.items())
    asked = tuple(i.name for i in inputs if i.source != "feature")
    silent = Concept(name=TARGET, inputs=asked, reason_raises="", reason_lowers="")
    return (*told, silent) if asked else told


def _told(plan: TrainingPlan, concept: str, members: tuple[str, ...]) -> Concept:
    code = re.sub(r"[^A-Z0-9]", "_", f"{plan.metadata.name}_{concept}".upper())[:_LONGEST_CODE]
    return Concept(
        name=concept, inputs=members, reason_raises=f"{code}_RAISES", reason_lowers=f"{code}_LOWERS"
    )


_AGENT: Final = {
    "en": {
        "raises": "{label} raises {outcome}: {{value}} (typical: {{typical}}).",
        "lowers": "{label} lowers {outcome}: {{value}} (typical: {{typical}}).",
    },
    "fr": {
        "raises": "« {label} » augmente {outcome}\u202f: {{value}} (valeur typique\u202f: {{typical}}).",
        "lowers": "« {label} » réduit {outcome}\u202f: {{value}} (valeur typique\u202f: {{typical}}).",
    },
}
_CUSTOMER: Final = {
    "en": "We looked at {label}: {{value}}.",
    "fr": "Nous avons tenu compte de «\u202f{label}\u202f»\u202f: {{value}}.",
}


def reasons_yaml(plan: TrainingPlan, concepts: tuple[Concept, ...], outcome: Outcome) -> str:
    """A reason catalogue with a draft for every code, to be edited and put into the rules' own."""
    lines = [
        f"# Drafts for the reasons of model {plan.metadata.name}: edit the words, and put the file into the",
        "# rules folder. {value} is the customer's, {typical} that of the customers learnt from.",
        "apiVersion: arbiter/v1",
        "kind: ReasonCatalogue",
        "metadata:",
        f"  name: {plan.metadata.name}-reasons",
        f"  owner: {_quoted(plan.metadata.owner)}",
        f"  description: {_quoted(f'Drafts of the reasons of model {plan.metadata.name}')}",
        "reasons:",
    ]
    for concept in concepts:
        for way, code in (("raises", concept.reason_raises), ("lowers", concept.reason_lowers)):
            if code:
                lines += _entry(plan, concept, way, code, outcome)
    return "\n".join(lines) + "\n"


def _entry(plan: TrainingPlan, concept: Concept, way: str, code: str, outcome: Outcome) -> list[str]:
    label = concept.name.replace("_", " ")
    agent = {
        language: _AGENT[language][way].format(
            label=label[:1].upper() + label[1:], outcome=getattr(outcome, language)
        )
        for language in plan.languages
    }
    customer = {language: _CUSTOMER[language].format(label=label) for language in plan.languages}
    return [f"  - code: {code}", f"    agent: {_flow(agent)}", f"    customer: {_flow(customer)}", ""]


def _flow(texts: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{language}: {_quoted(text)}" for language, text in texts.items()) + "}"


def _quoted(text: str) -> str:
    """A double-quoted scalar of YAML, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False)
