"""Refuse phrases that have to be read twice, in docstrings, string literals and comments.

A docstring opens with a verb or with the field's noun; a message says "does not" or "not a". Prints FILE:LINE: the
phrase, the reason and the text around it; the exit code is 1 when anything was found.

    python tools/check_prose.py [PATH ...]      # default: src/vidiff_cli
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEFAULT = ROOT / "src" / "vidiff_cli"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

OPENING = re.compile(r"(?:What|Which|How|Whether|Where|Why|Who|Whose|Of|With what|None where)\b")
NEGATION = re.compile(r"\b(?:is|are|was|were) no (?!longer\b|more\b|more than\b|less than\b)", re.IGNORECASE)
RIDDLES = [
    (re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), reason)
    for pattern, reason in (
        (r"(?-i:[Ii]s|are|was|were) (?-i:none)", 'say "does not exist" or "not a"'),  # but "is None"
        (r"none of what|nothing of what|of which there is none|nothing that is", "say it without the inversion"),
        (r"in the making", 'say "partially generated" or "unfinished"'),
        (r"too much to (?:make|read|hold|draw)", "name the number and the limit"),
        (r"nobody listens|in silence|without a word", 'say "quietly" or name the stream that is closed'),
        (r"what (?:vidiff )?stands on|stand on here", 'say "dependencies"'),
        (r"what goes without saying", 'say "implied attributes"'),
        (r"all that is to know|what is to be known|that is to be known", 'say "description" or "all properties"'),
        (r"goes on and on|as it stands there|as it is said|as is said", "say it plainly"),
        (r"there is nothing (?:to|that)", 'say "does not" or "not any"'),
        (r"is more than (?:\w+ )?can say|says nothing of|what is said", "say it plainly"),
        (r"to be of use|of no use|is of use", 'say "used by" or "unusable"'),
        (r"puts? up with|sees to it", 'say "tolerates" or "ensures"'),
    )
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A refused phrase: its place, and what to write instead."""

    path: Path
    line: int
    phrase: str
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.phrase!r}: {self.reason} | {self.text}"


def refused(text: str, *, message: bool) -> Iterator[tuple[int, str, str]]:
    """Yield (offset, phrase, reason) for a text; only a `message` (a string literal) is asked about "is no"."""
    if message:
        for found in NEGATION.finditer(text):
            yield found.start(), found[0].strip(), 'say "does not", "is not a" or "without"'
    for pattern, reason in RIDDLES:
        for found in pattern.finditer(text):
            yield found.start(), found[0], reason


def docstrings(tree: ast.AST) -> dict[int, str]:
    """Map the id of each docstring's node to the kind of what it documents."""
    found: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[id(value)] = type(node).__name__
    return found


def literals(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Yield every string literal once, an f-string whole, with {} in the place of its fields."""
    parts = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }  # the pieces of f-strings; strings inside their fields are literals of their own
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node, node.value


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def check(path: Path) -> list[Finding]:
    """Return the refused phrases of one Python file, in the order of its lines."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    documented = docstrings(tree)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    findings: list[Finding] = []

    def report(line: int, phrase: str, reason: str, text: str) -> None:
        short = " ".join(text.split())
        findings.append(Finding(path=shown, line=line, phrase=phrase, reason=reason, text=short[:100]))

    for node, text in literals(tree):
        docstring = id(node) in documented
        if docstring and (found := OPENING.match(text.lstrip())):
            report(node.lineno, found[0], "a docstring opens with a verb or the field's noun", text)
        for offset, phrase, reason in refused(text, message=not docstring):
            lines = text.count("\n", 0, offset) if docstring else 0
            report(node.lineno + lines, phrase, reason, text[max(0, offset - 40) :])
    for line, text in comments(source):
        for _, phrase, reason in refused(text, message=False):
            report(line, phrase, reason, text)
    return sorted(findings, key=lambda finding: finding.line)


def main(arguments: list[str]) -> int:
    """Check the files and folders named, or the package; return the exit code."""
    paths = [Path(argument).resolve() for argument in arguments] or [DEFAULT]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    findings = [finding for file in files for finding in check(file)]
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} refused phrases in {len({f.path for f in findings})} files", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
