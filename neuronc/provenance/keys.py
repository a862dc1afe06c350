"""Ed25519 keys in PEM files: PKCS #8 for the private one, SubjectPublicKeyInfo for the public one."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from neuronc.checkpoint.paths import open_file, writing
from neuronc.errors import InputError, ToolchainError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import SSlibKey

PASSPHRASE_VARIABLE = "NEURONC_SIGN_PASSPHRASE"
_MAX_KEY_BYTES = 100_000
_KEY_HINT = "make one with neuronc sign --new-key FILE, or openssl genpkey -algorithm ed25519"

Result = TypeVar("Result")


def require_library() -> None:
    """Raise `ToolchainError` where the libraries that sign are not installed."""
    try:
        import cryptography
        import securesystemslib.signer  # noqa: F401

        _ = cryptography.__version__
    except ImportError as error:
        message = f"signatures need a library that is not installed: {error.name}"
        raise ToolchainError(message, hint="pip install 'neuronc[sign]'") from error


def new_key(path: Path, *, passphrase: bytes | None = None) -> tuple[Path, str]:
    """Make a key pair: ``path`` (readable by its owner only) and ``path.pub``.

    Args:
        path: The private key's file.
        passphrase: Encrypts it.

    Returns:
        The public key's file, and the key's id.

    Raises:
        UsageError: one of the files exists, or cannot be written.
        ToolchainError: the library is not installed.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )
    from securesystemslib.signer import SSlibKey

    public = path.with_name(f"{path.name}.pub")
    for place in (path, public):
        if os.path.lexists(place):
            raise _exists(place)
    key = Ed25519PrivateKey.generate()
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    told = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _create(path, private_pem, mode=0o600)
    _create(public, told, mode=0o644)
    return public, str(SSlibKey.from_crypto(key.public_key()).keyid)


def read_private_key(path: Path, *, passphrase: bytes | None = None) -> "Ed25519PrivateKey":
    """The private key in the PEM file ``path``.

    Raises:
        InputError: it is no ed25519 key, or the passphrase is missing or another.
        ToolchainError: the library is not installed.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read(path)
    if passphrase is not None and b"ENCRYPTED" not in pem:
        passphrase = None  # one that is set for other keys does no harm
    try:
        key = _loaded(path, "private", lambda: load_pem_private_key(pem, passphrase))
    except TypeError as error:  # it is encrypted, and there is no passphrase
        message = f"key {path} is encrypted, and no passphrase is given"
        hint = f"set {PASSPHRASE_VARIABLE}, or pass --passphrase-file FILE"
        raise InputError(message, hint=hint) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong_kind(path, "private", key)
    return key


def read_public_key(path: Path) -> "SSlibKey":
    """The public key in the PEM file ``path``.

    Raises:
        InputError: it is no ed25519 public key.
        ToolchainError: the library is not installed.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    pem = _read(path)
    if b"PRIVATE KEY" in pem:
        message = f"{path} is a private key; expected a public one"
        raise InputError(message, hint=f"pass {path}.pub, and keep the private key to yourself")
    key = _loaded(path, "public", lambda: load_pem_public_key(pem))
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong_kind(path, "public", key)
    return SSlibKey.from_crypto(key)


def read_passphrase(file: Path | None) -> bytes | None:
    """The first line of ``file``, or the environment's; None where there is neither.

    Raises:
        InputError: the file cannot be read, or its first line is empty.
    """
    if file is None:
        told = os.environ.get(PASSPHRASE_VARIABLE)
        return told.encode("utf-8", "surrogateescape") if told else None
    lines = _read(file).splitlines()
    if not lines or not lines[0]:
        message = f"passphrase file {file} begins with an empty line"
        raise InputError(message, hint="put the passphrase on its first line")
    return lines[0]


def is_open_to_others(path: Path) -> bool:
    """Whether others than its owner may read ``path``."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _read(path: Path) -> bytes:
    with open_file(path) as file:
        found = file.read(_MAX_KEY_BYTES + 1)
    if len(found) > _MAX_KEY_BYTES:
        message = f"{path} has more than {_MAX_KEY_BYTES} bytes; expected a key in PEM form"
        raise InputError(message, hint=_KEY_HINT)
    return found


def _loaded(path: Path, kind: str, load: Callable[[], Result]) -> Result:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load()
    except (ValueError, UnsupportedAlgorithm) as error:
        message = f"{path} is no {kind} key that can be read: {str(error).splitlines()[0][:200]}"
        hint = f"check the passphrase, or {_KEY_HINT}" if kind == "private" else _KEY_HINT
        raise InputError(message, hint=hint) from error


def _wrong_kind(path: Path, kind: str, key: Any) -> InputError:
    message = f"{path} holds a {type(key).__name__}; expected an ed25519 {kind} key"
    return InputError(message, hint=_KEY_HINT)


def _create(path: Path, data: bytes, *, mode: int) -> None:
    """Write a new file that appears whole, and never in place of another one."""
    with writing(path, needed_bytes=len(data)):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).chmod(mode)
            try:
                os.link(name, path)  # unlike a rename it replaces nothing
            except FileExistsError as error:
                raise _exists(path) from error
        finally:
            with suppress(OSError):
                Path(name).unlink()


def _exists(path: Path) -> UsageError:
    message = f"{path} exists already, and a key is never overwritten"
    return UsageError(message, hint="choose another file for --new-key")
