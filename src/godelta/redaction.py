"""Passwords stay out of messages, logs and documents.

Any MongoDB URI loses its user and password; a password that this process has met is also struck out where it
stands alone.
"""

import re
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
SHORTEST = 8  # characters of a password that is struck out alone; shorter ones stand in innocent words

# A password may hold an @ that should have been written %40: up to the last one. Not the example of our
# own messages.
_URI = re.compile(r"(mongodb(?:\+srv)?://)(?!user:password@)[^\s\"'<>]*@", re.IGNORECASE)
_OPTION = re.compile(
    r"((?:tlsCertificateKeyFilePassword|sslPEMPassphrase|proxyPassword)=|AWS_SESSION_TOKEN:)[^&\s\"',]+",
    re.IGNORECASE,
)
_known: set[str] = set()


def redact(text: str) -> str:
    """The text without passwords."""
    text = _OPTION.sub(rf"\g<1>{HIDDEN}", _URI.sub(rf"\g<1>{HIDDEN}@", text))
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def redact_all(value: Any) -> Any:
    """A value with every text in it redacted; keys of mappings stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_all(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(inner) for inner in value]
    return value


def is_secret(value: str) -> bool:
    """Whether a value, as of an environment variable, is a URI with a password, or a password met before."""
    return bool(_URI.search(value) or _OPTION.search(value)) or value.strip() in _known


def show_without_passwords() -> None:
    """Have Python redact the tracebacks of errors that nobody caught, in every thread."""
    if sys.excepthook is sys.__excepthook__:  # else somebody has plans of their own, as pytest has
        sys.excepthook = _show
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _show_of_thread


def _show_of_thread(raised: threading.ExceptHookArgs) -> None:
    if raised.exc_type is not SystemExit:
        _show(raised.exc_type, raised.exc_value, raised.exc_traceback)


def _show(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, /) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def remember_password(password: str) -> None:
    """Strike this password out from now on, as it is and as a URI spells it."""
    plain = unquote(password)
    spellings = {
        password,
        plain,
        unquote_plus(password),
        quote(plain),
        quote(plain, safe=""),
        quote_plus(plain),
    }
    _known.update(spelling for spelling in spellings if len(spelling) >= SHORTEST)


def remember_uri(uri: str) -> None:
    """Strike the passwords of this URI out from now on, also where it is not well formed."""
    for option in _OPTION.finditer(uri):
        remember_password(option.group().removeprefix(option.group(1)))
    if (password := password_of(uri)) is not None:
        remember_password(password)


def password_of(uri: str) -> str | None:
    """The password in a URI, as it is spelled there; None where it has none."""
    rest = uri.partition("://")[2]
    return rest.rpartition("@")[0].partition(":")[2] or None
