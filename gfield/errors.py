"""What a user can mend, as exceptions of one printable line. Loads nothing."""

from __future__ import annotations

_LETTERS = 1000


def printable(text: str) -> str:
    """A text as one line to be read: escapes for all that does not print, and its middle left out where it is long.

    Names and values in it come from strangers, and terminals do as they are told.
    """
    if len(text) > _LETTERS:
        text = f"{text[: _LETTERS // 2]} [...] {text[-_LETTERS // 2 :]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(ValueError):
    """Something that the user can mend; the message says what was seen and what was wanted, for printing as it is."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(UserError):
    """Something in an input file is wrong; the message is one line: file, value seen, value wanted."""
