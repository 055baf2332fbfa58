"""Code and docs use standard terms, and no sentence begins with a relative clause as its subject."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection
from pathlib import Path

from tests.support.processes import ROOT

OLD_WORDS = set(
    """
    accord anew audience bench bye callee callslot ceiling crew cutter deed departure desk errand everybody
    glance habit herald hoard house inlet intake keeper lettered makings marking nobody nursery onlooker
    patience plate pulse quarters rehearsal roster somebody speech spout unsaid wing
    """.split()
)
"""Names of section 9 of the redesign that have a standard term now, and pronouns that hide which process is meant."""
OLD_NAMES = set(
    """
    accord admission arena asked audience began bench bite bye callee called caller ceilings chosen closing commanded
    complaints crew curtain cutter departure desk differs doing ears errands fetch fillings forming given glance hearing
    held hoard inlet intake judged keep kept kernel kinds lanes lettered life look lot makings marking note nursery
    overtime paper parts past places plate pulse quarantine quarters read recheck recipe roster safe shelf speech spout
    stock surroundings ties transit tries unanswered underway unsaid urge verdict voice wants warm watch welcome wrongs
    """.split()
)
"""Old names of classes and modules: ordinary words, but no name for a concept of this program."""
KEPT = {
    "": ("--desk", "--patience", "scripts/bench"),  # old spellings that are still accepted; a script
    "pipeline/lab": ("patience",),  # the option of its programs
    "docs/lab.md": ("patience",),
    "pipeline/config/settings.py": ("desk",),
}
"""What else stays, by the beginning of the path."""
CODE = sorted((ROOT / "pipeline").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted(path for path in (ROOT / "scripts").rglob("*") if path.is_file() and path.suffix != ".pyc")
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SENTENCE_END = re.compile(r"(?<=[.:;!?])\s+|\n\s*\n|\n\s*[-*] |\|")
COMMENT_CLAUSE = re.compile(r"# (?:[Ww]ho|[Ww]hat|[Ww]hose)\b(?![^#\n]*\?)")
CLASS = re.compile(r"^ *class (\w+)", re.MULTILINE)
DEFINED = re.compile(r"^ *(?:def|class) (\w+)", re.MULTILINE)


def old_words(text: str, path: str) -> set[str]:
    for prefix, kept in KEPT.items():
        for spelling in kept if path.startswith(prefix) else ():
            text = text.replace(spelling, "")
    words = {match[0].lower() for match in re.finditer(r"[A-Z]?[a-z]+|[A-Z]+", text)}
    return (words | {word.removesuffix("s") for word in words}) & OLD_WORDS


def clauses(text: str) -> list[str]:
    """Sentences of a text that begin with Who, What or Whose and are no question."""
    prose = re.sub(r"^#.*$", "", FENCE.sub("", text), flags=re.MULTILINE)
    sentences = [sentence.strip(" *_\n") for sentence in SENTENCE_END.split(prose)]
    return [one for one in sentences if re.match(r"(Who|What|Whose)\b", one) and not one.endswith("?")]


def docstrings(text: str) -> list[str]:
    """All strings of a module that are statements of their own: docstrings, also of fields and constants."""
    nodes = ast.walk(ast.parse(text))
    values = [node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    return [value.value for value in values if isinstance(value.value, str)]


def found_in(paths: list[Path], search: Callable[[str, str], Collection[str]]) -> dict[str, Collection[str]]:
    """Return what the search finds in each file, by its name; `search` gets the name and the text."""
    found = {name: search(name, (ROOT / name).read_text()) for name in (str(path.relative_to(ROOT)) for path in paths)}
    return {name: words for name, words in found.items() if words}


def test_text_uses_no_old_word() -> None:
    assert found_in([*CODE, *PAGES, *SCRIPTS], lambda name, text: old_words(f"{name}\n{text}", name)) == {}


def test_test_name_uses_no_old_word() -> None:
    assert found_in(TESTS, lambda name, text: old_words("\n".join([name, *DEFINED.findall(text)]), name)) == {}


def test_sentence_begins_with_its_subject() -> None:
    assert found_in(PAGES, lambda _, text: clauses(text)) == {}
    assert found_in(CODE, lambda _, text: [clause for one in docstrings(text) for clause in clauses(one)]) == {}
    assert found_in(CODE, lambda _, text: COMMENT_CLAUSE.findall(text)) == {}


def test_class_and_module_have_standard_names() -> None:
    names = {path.stem for path in CODE} | {name for path in CODE for name in CLASS.findall(path.read_text())}
    assert {name for name in names if name.strip("_").lower() in OLD_NAMES} == set()


def test_scan_finds_old_words_and_clauses() -> None:
    assert old_words("a _NurseryPool of crews; unsaid_lines --desk", "pipeline/x.py") == {"nursery", "crew", "unsaid"}
    assert clauses("It ends. Who waits is told.\n\nWhat is lost goes out again.\n") != []
    assert len(clauses("Who waits is told. What is lost, goes out again.")) == 2
    assert clauses("What is a task? It says what it is.\n# What you need\n```\nWhat now.\n```\n") == []
