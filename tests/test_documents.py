"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "methods/examples/pseudo_labels.py"


def test_contributing_shows_the_example_as_it_is() -> None:
    shown = re.search(r"```python\n(.*?)```", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == EXAMPLE.read_text()


def test_readme_is_short_and_its_commands_are_single_lines() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for name in ("run", "test"):
        block = re.search(rf"<!-- command: {name} -->\n```\n([^\n]+)\n```", text)
        assert block is not None
        assert block[1].startswith("pip install -e ")


def test_links_between_documents_lead_somewhere() -> None:
    for document in REPOSITORY.glob("*.md"):
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)", document.read_text()):
            assert (REPOSITORY / target).exists(), f"{document.name}: {target}"
