"""A run that reads tasks from a terminal prompts for them."""

from __future__ import annotations

import pytest

from tests.integration.cluster import Cluster
from tests.integration.terminal import Terminal

SAID = "reading tasks from this terminal, one per line; press Ctrl-D to end"


@pytest.mark.parametrize("word", ["run", "ventilate"])
def test_terminal_stdin_prompts_for_tasks(cluster: Cluster, word: str) -> None:
    if word == "run":
        typed = Terminal(cluster, "run", "echo got {}")
    else:
        typed = Terminal(cluster, "ventilate")
        cluster.start("sink")
        cluster.start("work", "echo got {}")
    typed.wait_for_text(SAID)
    typed.press("one\n")
    typed.press("\x04")
    assert typed.wait() == 0
    assert ("got one" in typed.screen_text) is (word == "run")


@pytest.mark.parametrize(
    "words", [("run", "-q", "true"), ("run", "true", ":::", "a"), ("run", "-a", "/dev/null", "true")]
)
def test_no_prompt_with_given_tasks_or_quiet(cluster: Cluster, words: tuple[str, ...]) -> None:
    typed = Terminal(cluster, *words)
    typed.press("\x04")
    assert typed.wait() == 0
    assert SAID not in typed.screen_text
