"""The keys that the vault encrypts with: those in the configuration, else one in a file beside the database.

A key is a Fernet key (https://cryptography.io/en/latest/fernet/): 32 bytes in URL-safe base64.
"""

import os
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from pydantic import SecretStr

from schemas import ProviderDown

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

HOW_TO_MAKE_ONE = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


def listed(text: str) -> list[str]:
    """The keys in a text, comma-separated. Raises ValueError, which never repeats them."""
    keys = [key.strip() for key in text.split(",")]
    if not all(map(_KEY.fullmatch, keys)):
        raise ValueError(f"must be Fernet keys, comma-separated, newest first; make one with: {HOW_TO_MAKE_ONE}")
    return keys


class KeyRing:
    """Encrypts with the newest key, decrypts with any.

    Without a `given` one, the key in `file`, which is made when something is first encrypted: a ring that is never
    used leaves nothing behind. Without a file either nothing can be encrypted.
    """

    def __init__(self, given: SecretStr | None, file: Path | None) -> None:
        self._given = given
        self._file = file
        self._known: list[Fernet] = []

    async def encrypt(self, data: bytes, at: int) -> str:
        """The data as a Fernet token made at that second of the epoch. Raises ProviderDown if there can be no key."""
        from cryptography.fernet import MultiFernet

        return MultiFernet(await self._keys(make=True)).encrypt_at_time(data, at).decode()

    async def decrypt(self, token: str) -> bytes | None:
        """What was encrypted; None if it was with a key that is not here, or if it was changed."""
        if (data := _decrypted(await self._keys(make=False), token)) is not None or self._given is not None:
            return data
        # Another process may have made a new key since, for one that was lost here.
        found = await self._read(make=False)
        if (data := _decrypted(found, token)) is not None:
            self._known = [*found, *self._known]
        return data

    async def _keys(self, *, make: bool) -> "list[Fernet]":
        self._known = self._known or await self._read(make=make)
        return self._known

    async def _read(self, *, make: bool) -> "list[Fernet]":
        # Imported here: only accounts that were connected in a browser need it.
        from cryptography.fernet import Fernet

        if self._given is not None:
            keys = listed(self._given.get_secret_value())
        else:
            keys = await anyio.to_thread.run_sync(partial(_in_file, self._file, make=make))
        return [Fernet(key) for key in keys]


def _decrypted(keys: "list[Fernet]", token: str) -> bytes | None:
    from cryptography.fernet import InvalidToken, MultiFernet

    try:
        return MultiFernet(keys).decrypt(token.encode()) if keys else None
    except InvalidToken:
        return None


def _in_file(file: Path | None, *, make: bool) -> list[str]:
    """The keys in that file, made if need be; none if there is no such file."""
    if file is None:
        if make:
            what = "A sign-in is kept encrypted, and there is no key to encrypt it with. Set `storage.encryption_key`"
            raise ProviderDown(f"{what}, the same for every gateway on this database; make one with: {HOW_TO_MAKE_ONE}")
        return []
    try:
        if make and not file.exists():
            _make(file)
        return listed(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return []
    except OSError as error:
        what = f"The file {file.name} beside the gateway's database, with the key to what it keeps secret, cannot be "
        raise ProviderDown(f"{what}used: {error.strerror}. Mend that, or set `storage.encryption_key`.") from None
    except ValueError:  # the error would quote what is in the file
        what = f"The file {file.name} beside the gateway's database should hold the key to what it keeps secret, "
        raise ProviderDown(f"{what}and holds something else. Restore it, or set `storage.encryption_key`.") from None


def _make(file: Path) -> None:
    """Put a new key into that file, which no other process ever sees empty and of which the first one stays."""
    from cryptography.fernet import Fernet

    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # For this user alone (0600) from the beginning: so does mkstemp.
    descriptor, draft = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(Fernet.generate_key() + b"\n")
            written.flush()
            os.fsync(descriptor)
        os.link(draft, file)
    except FileExistsError:
        pass  # another process was faster; its key holds
    finally:
        os.unlink(draft)
