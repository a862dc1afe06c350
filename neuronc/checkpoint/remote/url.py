"""What is a URL, and how it is named where others can read it: without secrets.

Nothing here opens anything; the standard library is enough.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from neuronc.errors import InputError

HTTP = ("http", "https")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[^/]*)?://")
_USER_INFO = re.compile(r"(?<=://)[^\s/'\"@]*@")
_QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\")]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Url:
    """A folder behind a URL.

    Attributes:
        scheme: What is before ``://``, in small letters.
        place: Host (or bucket), with user and password where the URL has them.
        path: What comes after, without slashes around it.
        query: What comes after ``?``; appended to every file's URL.
    """

    scheme: str
    place: str
    path: str
    query: str = ""

    @property
    def user_info(self) -> str:
        """Everything before ``@`` that may be a secret; a revision of the Hub is none."""
        before = self.place.rpartition("@")[0]
        return before if self.scheme in HTTP or ":" in before else ""

    @property
    def shown(self) -> str:
        """The URL without user, password and query: for messages, reports and manifests."""
        place = self.place.removeprefix(f"{self.user_info}@") if self.user_info else self.place
        return f"{self.scheme}://{place}/{self.path}".rstrip("/")

    def child(self, name: str) -> "Url":
        """The URL of file ``name`` in the folder."""
        path = f"{self.path}/{name}".lstrip("/")
        return Url(scheme=self.scheme, place=self.place, path=path, query=self.query)

    @property
    def full(self) -> str:
        """The URL with its secrets: for the library that opens it, and for nobody else."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.place}/{self.path}{query}"

    def scrub(self, text: str) -> str:
        """``text`` of a library's error, without what would give secrets of this URL away."""
        for secret in (self.user_info, self.query):
            text = text.replace(secret, "...") if secret else text
        return _QUERY.sub(r"\1", _USER_INFO.sub("", text))


def is_url(source: str) -> bool:
    """Whether ``source`` is written as a URL."""
    return _SCHEME.match(source) is not None


def without_secrets(source: str) -> str:
    """``source`` without user, password and query if it is a URL; as it is if it is none."""
    return _split(source).shown if is_url(source) else source


def parse_url(source: str) -> Url:
    """The parts of the URL ``source``.

    Raises:
        InputError: it names no folder, chains file systems, or has parts that its kind has not.
    """
    url = _split(source)
    problem = ""
    if "::" in source:
        problem = "chains file systems; expected one, whose files can be read by ranges"
    elif not url.place and url.scheme != "memory":
        problem = "names no host or bucket"
    elif re.search(r"[\x00-\x20\x7f]", source):
        problem = "holds blanks or control characters"
    elif url.scheme not in HTTP and (url.query or url.user_info):
        problem = "holds a password or a query, which only http and https have"
    elif url.scheme in HTTP and "#" in source:
        problem = "holds a '#' part; expected a folder"
    if problem:
        hint = "for example s3://bucket/folder, hf://org/name or https://host/folder"
        message = f"URL {url.shown} {problem}"
        if url.scheme not in HTTP and url.user_info:
            hint = "give credentials as the library takes them, as in AWS_PROFILE"
        raise InputError(message, hint=hint)
    return url


def local_form(source: str) -> str:
    """The path of a ``file://`` URL; any other ``source`` as it is.

    Raises:
        InputError: the URL names a file of another machine.
    """
    if not source.lower().startswith("file://"):
        return source
    host, slash, path = source[len("file://") :].partition("/")
    if host not in ("", "localhost") or not path:
        message = f"URL {without_secrets(source)} names no path of this machine"
        raise InputError(message, hint="write file:///absolute/path, or just the path")
    return str(Path(slash + unquote(path)))


def _split(source: str) -> Url:
    scheme, _, rest = source.partition("://")
    rest, _, query = rest.partition("#")[0].partition("?")
    place, _, path = rest.partition("/")
    return Url(scheme=scheme.lower(), place=place, path=path.strip("/"), query=query)
