"""Errors that a user can mend: what is wrong, where, and how to put it right."""

from godelta.redaction import redact


class GodeltaError(Exception):
    """An error with a message meant for a person; passwords are struck out of it.

    Parameters
    ----------
    what
        What is wrong, in one sentence.
    where
        The file, line, key or command concerned.
    mend
        What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what = redact(what)
        self.where = None if where is None else redact(where)
        self.mend = None if mend is None else redact(mend)
        super().__init__(self.what, self.where, self.mend)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.mend}" if self.mend else text


class InputError(GodeltaError):
    """The user's input (a campaign file, an option, a template) cannot be used."""

    exit_code = 2


class MissingExtraError(InputError):
    """An optional part of godelta is not installed."""

    def __init__(self, part: str, extra: str) -> None:
        super().__init__(
            f"{part} needs an optional package that is not installed",
            mend=f'install it with: pip install "godelta[{extra}]"',
        )
