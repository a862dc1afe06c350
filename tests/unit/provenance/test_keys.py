"""Key files: private to their owner, never overwritten, and refused where they are something else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from neuronc.errors import InputError, UsageError
from neuronc.provenance.keys import (
    PASSPHRASE_VARIABLE,
    is_open_to_others,
    new_key,
    read_passphrase,
    read_private_key,
    read_public_key,
)


def test_a_new_key_is_private_and_its_halves_fit(tmp_path: Path) -> None:
    public, key_id = new_key(tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert not is_open_to_others(tmp_path / "k")
    assert read_public_key(public).keyid == key_id
    assert {path.name for path in tmp_path.iterdir()} == {"k", "k.pub"}
    (tmp_path / "k").chmod(0o644)
    assert is_open_to_others(tmp_path / "k")


@pytest.mark.parametrize("there", ["k", "k.pub"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(UsageError, match="never overwritten"):
        new_key(tmp_path / "k")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_file_that_comes_up_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k").write_text("precious")
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    with pytest.raises(UsageError, match="never overwritten"):
        new_key(tmp_path / "k")
    assert (tmp_path / "k").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_no_folder_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        new_key(tmp_path / "missing" / "k")


def test_a_passphrase_encrypts_and_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path / "k", passphrase=b"secret")
    assert b"ENCRYPTED" in (tmp_path / "k").read_bytes()
    read_private_key(tmp_path / "k", passphrase=b"secret")
    with pytest.raises(InputError, match="no passphrase is given") as caught:
        read_private_key(tmp_path / "k")
    assert PASSPHRASE_VARIABLE in caught.value.hint
    with pytest.raises(InputError, match="no private key that can be read"):
        read_private_key(tmp_path / "k", passphrase=b"other")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "secret")
    assert read_passphrase(None) == b"secret"
    (tmp_path / "file").write_text("of the file\nmore\n")
    assert read_passphrase(tmp_path / "file") == b"of the file"
    (tmp_path / "file").write_text("\n")
    with pytest.raises(InputError, match="empty line"):
        read_passphrase(tmp_path / "file")


def test_a_passphrase_that_is_set_does_no_harm_to_other_keys(tmp_path: Path) -> None:
    new_key(tmp_path / "k")
    read_private_key(tmp_path / "k", passphrase=b"of another key")


def test_keys_of_openssl_are_read(tmp_path: Path) -> None:
    for argv in (
        ["genpkey", "-algorithm", "ed25519", "-out", "k"],
        ["pkey", "-in", "k", "-pubout", "-out", "k.pub"],
    ):
        subprocess.run(["openssl", *argv], cwd=tmp_path, check=True, capture_output=True)
    read_private_key(tmp_path / "k")
    read_public_key(tmp_path / "k.pub")


def test_other_files_are_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "k")
    with pytest.raises(InputError, match="is a private key; expected a public one"):
        read_public_key(tmp_path / "k")
    with pytest.raises(InputError, match="no private key that can be read"):
        read_private_key(tmp_path / "k.pub")
    for text in (b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        (tmp_path / "file").write_bytes(text)
        with pytest.raises(InputError):
            read_public_key(tmp_path / "file")
        with pytest.raises(InputError):
            read_private_key(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"x" * 200_000)
    with pytest.raises(InputError, match="more than 100000 bytes"):
        read_public_key(tmp_path / "file")
    with pytest.raises(InputError, match="cannot read"):
        read_public_key(tmp_path)


def test_keys_of_another_kind_are_named(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "rsa").write_bytes(pem)
    told = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "rsa.pub").write_bytes(told)
    with pytest.raises(InputError, match=r"RSA.*expected an ed25519 private key"):
        read_private_key(tmp_path / "rsa")
    with pytest.raises(InputError, match=r"RSA.*expected an ed25519 public key"):
        read_public_key(tmp_path / "rsa.pub")


def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['securesystemslib'] = None\n"
        "from neuronc.cli.app import main; sys.exit(main(['sign', '--new-key', 'k']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert "pip install 'neuronc[sign]'" in done.stderr
    assert not (tmp_path / "k").exists()
