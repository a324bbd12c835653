"""Text of others as it is shown: names come from files, and may hold what a terminal, a page or a spreadsheet obeys."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "'")  # begin a cell that a spreadsheet computes, or whose beginning it hides


def printable(text: str) -> str:
    """``text`` with control characters, escape sequences and changes of direction made visible; ends of lines are kept."""
    return "\n".join(line if line.isprintable() else _spelled(line) for line in text.split("\n"))


def one_line(text: str) -> str:
    """:func:`printable`, with ends of lines made visible, too: a name adds no line of its own."""
    return printable(text).replace("\n", "\\n")


def in_markdown(text: str) -> str:
    """One line of Markdown without tags, links, pictures and ends of cells; emphasis and code stay as they are."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return line.replace("|", "\\|").replace("](", "]\\(")


def in_csv(text: str) -> str:
    """Cell of a table that a spreadsheet shows as text: what it would take for a formula gets an apostrophe in front."""
    line = one_line(text)
    return f"'{line}" if line.startswith(FORMULA) else line


def _spelled(line: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in line)
