"""What every diagnostic code means: the one table that documentation and SARIF are made from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from engine.ruleset.diagnostics import Severity, severity_of

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "R101": "A file cannot be read.",
        "R102": "A file is larger than 1 MB, or the folder holds too many files.",
        "R103": "A file is not UTF-8 text.",
        "R104": "A file is not YAML.",
        "R105": "An anchor or alias. Rule files spell everything out, so that a reader sees what is meant.",
        "R106": "Values are nested too deeply.",
        "R107": "A file holds more than one YAML document.",
        "R108": "A key is given twice; the second would silently win.",
        "R109": "YAML that rule files do without: tags, keys that are not text, half characters.",
        "R110": "A link leads out of the rules folder.",
        "R201": "The `kind` of a document is missing or unknown.",
        "R202": "A field that must be there is missing.",
        "R203": "A field is unknown.",
        "R204": "A value does not have the form its field needs.",
        "R301": "A condition cannot be read as CEL.",
        "R302": "A condition names something that is not declared.",
        "R303": "An operation is given values of a type it does not take.",
        "R304": "A condition must be true or false and is something else.",
        "R305": "CEL that the compiled engine does not run.",
        "R306": "A text is compared with a value it can never have.",
        "R307": "Segments use each other in a circle.",
        "R308": "A segment is about the customer and may not ask about the action.",
        "R309": "A condition is computed action by action: right, but slower than for all actions at once.",
        "R401": "A name that another file should declare is not declared.",
        "R402": "A name is declared twice.",
        "R403": "A text holds a placeholder that nobody fills.",
        "R404": "A text is missing in one of the languages.",
        "R501": "A kind of document of which there must be one is missing or there twice.",
        "R502": "A reason code has no words.",
        "R503": "An action has no treatment, so no channel can show it.",
        "R504": "Two treatments of an action are for the same place.",
        "R505": "A purpose has no consent rule.",
        "R506": "No action of the catalogue is in the scope of a rule.",
        "R507": "The profiling purpose is not declared.",
        "R508": "The churn bands do not begin at 0.0 and ascend.",
        "R509": "A field does not fit the effect of a rule or the kind of a policy, or one is missing.",
        "R510": "A contact policy does not say how long, or until what, it counts what decisions reserve.",
        "R601": "A condition can be true for no customer and no action in scope, so the rule never holds.",
        "R602": "A condition can be false for no customer and no action in scope, so it decides nothing.",
        "R603": "Two rules leave an action to nobody: whoever one lets pass, the other removes.",
        "R604": "No customer can ever get an action: all rules taken together leave no case.",
        "R605": "An action is removed on every channel that has a treatment for it.",
        "R606": "A treatment is for a channel on which rules always remove its action.",
        "R607": "The validity of a rule and that of every action in its scope have no instant in common.",
        "R608": "A reason has words and nobody gives it.",
        "R609": "A contact policy can never be the one that limits.",
        "R610": "A rule or an action is not in force at the instant asked about.",
        "R611": "The priority of an action cannot reach the threshold of doing nothing.",
        "R612": "A constant, variable or segment is declared and not used.",
        "R613": "There is too much to analyse in full; what was left out may hide a mistake of this group.",
        "R701": "A cell of a decision table cannot be read.",
        "R702": "A CSV file is not CSV, or its header does not fit its table.",
        "R703": "The parts of a decision table do not fit each other.",
        "R704": "Two rows of a UNIQUE table cover the same case.",
        "R705": "A case is covered by no row of a decision table.",
        "R706": "A row of a decision table can never be the one that counts.",
        "R707": "A decision table is too interwoven to be analysed.",
        "R708": "A CSV file is named by no decision table.",
        "R709": "Two decision tables decide the value of one action.",
        "R710": "The values of a decision table have no currency, or another one than the catalogue.",
        "R801": "A signal of the vocabulary has no pattern, so it never stands.",
        "R802": "A condition on an attribute of an event does not fit the attribute's type.",
        "R803": "The pattern of a signal names more events than can be evaluated safely.",
        "R901": "An effect takes a value that an event need not have, or that does not fit.",
        "R902": "A streaming feature is computed from an event or attribute that no event pack declares.",
    }
)
_GRAVITY: Final = {
    Severity.ERROR: "refuses the rule set",
    Severity.WARNING: "does not refuse it; something has no effect or leaves a case out",
    Severity.NOTE: "good to know",
}
_GROUPS: Final = {
    "R1": "Files and YAML",
    "R2": "Structure of documents",
    "R3": "Conditions",
    "R4": "Names and texts",
    "R5": "The set as a whole",
    "R6": "Analysis: what is right and yet cannot work",
    "R7": "Decision tables",
    "R8": "Signals",
    "R9": "Events",
}


def documentation() -> str:
    """The page docs/rules/diagnostics.md. A test holds the file equal to this."""
    lines = [
        "# What `arbiter rules check` can tell",
        "",
        "Made from `engine/ruleset/codes.py` by `python -m engine.ruleset.codes`; do not edit.",
        "",
        *(f"- **{severity.value}**: {words}" for severity, words in _GRAVITY.items()),
    ]
    for prefix, title in _GROUPS.items():
        lines += ["", f"## {title}", "", "| code | severity | meaning |", "|---|---|---|"]
        found = sorted(code for code in MEANINGS if code.startswith(prefix))
        lines += [f"| {code} | {severity_of(code).value} | {MEANINGS[code]} |" for code in found]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(documentation())
